"""What is known of one turn: how it ended, where it stands, and nothing of a life that was closed."""

from __future__ import annotations

import pytest

from journal.loader import load
from journal.memory import MemoryStore
from journal.port import Row
from journal.turns import TurnView, living_since, terminal_of, turn_view
from journal.wiping import wipe
from schemas.entries import Entry, Park, Release, Step, Suspend
from tests.support.entries import PLACE, USER, Session

S = "t/s"


class Kept(Session):
    """A session whose entries go into a store."""

    def __init__(self) -> None:
        super().__init__(S)
        self.store = MemoryStore()

    def add(self, entry: Entry) -> Row:
        row = super().add(entry)
        self.store.log.apply([row])
        return row

    async def ended(self, turn: str) -> tuple[int, str | None, str | None] | None:
        found = await terminal_of(self.store.journal, S, turn)
        return None if found is None else found[:3]

    async def view(self, turn: str) -> TurnView | None:
        since = living_since((await load(self.store, S)).state)
        return await turn_view(self.store.journal, S, turn, since=since)

    def begun(self) -> str:
        turn = self.add(self.claim()).turn
        assert turn is not None
        return turn

    def park(self, turn: str) -> None:
        given = self.given()
        self.add(Park(at_ms=self.at(), turn=turn, user=USER, position=PLACE, digest="d", deadline_ms=9, input=given))


@pytest.fixture
async def session() -> Kept:
    return Kept()


def frame(turn: str) -> str:
    return f'{{"type":"completed","turn":"{turn}"}}'


async def test_an_unknown_turn_is_nothing(session: Kept) -> None:
    session.begun()

    assert await session.ended("nobody") is None
    assert await session.view("nobody") is None


async def test_a_turn_runs_and_is_over(session: Kept) -> None:
    turn = session.begun()
    assert await session.ended(turn) is None
    view = await session.view(turn)
    assert view is not None
    assert (view.state, view.attempt, view.user, view.version) == ("running", 1, USER, 1)
    assert view.input == session.given()
    assert view.deadline_ms == view.began_ms + 1_000

    step = Step(at_ms=5, turn=turn, attempt=1, step=0, kind="model", name="m", digest="d")
    session.add(step)
    session.add(session.claim())
    row = session.add(session.finish("failed"))
    session.begun()

    assert await session.ended(turn) == (row.v, "failed", frame(turn))
    view = await session.view(turn)
    assert view is not None
    assert (view.state, view.attempt, view.frame, view.steps) == ("failed", 2, frame(turn), (step,))


async def test_a_turn_suspends_and_goes_on(session: Kept) -> None:
    turn = session.begun()
    suspend = Suspend(at_ms=5, turn=turn, attempt=1, call="c", deadline_ms=9)
    session.add(suspend)
    view = await session.view(turn)
    assert view is not None
    assert (view.state, view.suspended) == ("suspended", suspend)

    session.add(session.claim())
    view = await session.view(turn)
    assert view is not None
    assert (view.state, view.suspended) == ("running", None)


async def test_a_parked_turn_waits_runs_or_is_settled(session: Kept) -> None:
    first = session.begun()
    session.park("p1")
    session.park("p2")
    view = await session.view("p1")
    assert view is not None
    assert (view.state, view.attempt, view.input) == ("queued", 0, session.given())

    session.add(session.finish(claim=session.claim_parked()))
    view = await session.view("p1")
    assert view is not None
    assert (view.state, view.attempt) == ("running", 1)
    row = session.add(session.settle("p2", known=True))
    assert await session.ended("p2") == (row.v, "cancelled", frame("p2"))
    view = await session.view("p2")
    assert view is not None
    assert (view.state, view.frame) == ("cancelled", frame("p2"))
    assert await session.ended(first) == (4, "completed", frame(first))


async def test_a_turn_that_was_settled_ahead_has_a_frame_and_no_input(session: Kept) -> None:
    session.begun()
    session.add(session.settle("x"))

    assert await session.ended("x") == (2, "cancelled", frame("x"))
    view = await session.view("x")
    assert view is not None
    assert (view.state, view.input, view.attempt) == ("cancelled", None, 0)


async def test_a_turn_that_steers_ends_with_the_one_it_joined(session: Kept) -> None:
    turn = session.begun()
    session.add(session.control("steer", "st", given=session.given()))
    view = await session.view("st")
    assert view is not None
    assert (view.state, view.input) == ("running", session.given())
    assert await session.ended("st") is None

    row = session.add(session.finish("failed"))
    assert await session.ended("st") == (row.v, "completed", frame("st"))
    assert await session.ended(turn) == (row.v, "failed", frame(turn))
    view = await session.view("st")
    assert view is not None
    assert (view.state, view.into, view.frame) == ("completed", turn, frame("st"))


async def test_a_turn_that_a_merged_finish_introduced_is_found(session: Kept) -> None:
    session.begun()
    claim = session._claimed("next", 5, given=session.given())
    session.add(session.finish(claim=claim))
    view = await session.view("next")
    assert view is not None
    assert (view.state, view.input) == ("running", session.given())

    row = session.add(session.finish())
    assert await session.ended("next") == (row.v, "completed", frame("next"))


async def test_a_close_ends_turns_and_forgets_them(session: Kept) -> None:
    over = session.begun()
    session.add(session.finish())
    running = session.begun()
    close = session.add(session.close())
    assert await session.ended(running) == (close.v, "cancelled", frame(running))
    assert await session.view(over) is None
    assert await session.view(running) is None

    session.state = await wipe(session.store, S, session.state)
    assert await session.ended(running) == (close.v, "cancelled", frame(running))
    assert await session.ended(over) == (close.v, None, None)  # known, over, and how is forgotten

    new = session.begun()
    view = await session.view(new)
    assert view is not None
    assert view.state == "running"
    assert await session.view(over) is None


async def test_a_turn_settled_before_any_life_is_seen(session: Kept) -> None:
    session.add(session.settle("x"))

    view = await session.view("x")
    assert view is not None
    assert view.state == "cancelled"


async def test_long_turns_are_read_in_pages(session: Kept) -> None:
    turn = session.begun()
    for n in range(150):
        session.add(Step(at_ms=5, turn=turn, attempt=1, step=n, kind="tool", name="m", digest="d"))
    session.add(Release(at_ms=5, turn=turn, attempt=1))
    row = session.add(session.finish())

    view = await session.view(turn)
    assert view is not None
    assert len(view.steps) == 150
    assert await session.ended(turn) == (row.v, "completed", frame(turn))
