"""Cold sessions are read together: who shares a command, who hears of a failure, who waits for whom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest

from journal.fold import FoldError
from journal.gate import Call
from journal.loading import Loading
from journal.memory import MemoryStore
from journal.port import StoreUnavailable, Wanted
from journal.state import EMPTY
from tests.support.entries import Session


class Desk:
    """A store whose fetches wait while `held`, with what each one asked; every task that was spawned is awaited."""

    def __init__(self) -> None:
        self.store = MemoryStore(self._gate)
        self.asked: list[Wanted] = []
        self.held: asyncio.Event | None = None
        self.down = False
        self.tasks: set[asyncio.Task[None]] = set()

    async def _gate(self, call: Call) -> None:
        if call.operation != "fetch" or call.phase != "before":
            return
        self.asked.append(call.arguments[0])
        if self.held is not None:
            await self.held.wait()
        if self.down:
            raise StoreUnavailable("down")

    def loading(self, *, most: int = 100, pace_s: float = 0.0) -> Loading:
        return Loading(self.store, self.spawn, most=most, pace_s=pace_s)

    def spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self.tasks.add(asyncio.get_running_loop().create_task(work, name=name))

    def sessions(self) -> list[list[str]]:
        return [list(wanted.snapshots) for wanted in self.asked]


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = Desk()
    yield desk
    await asyncio.gather(*desk.tasks)


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_what_is_asked_for_in_one_turn_of_the_loop_is_read_by_one_command(desk: Desk) -> None:
    loading = desk.loading()

    loaded = await asyncio.gather(*(loading.load(f"t/{n}") for n in range(50)))

    assert desk.sessions() == [[f"t/{n}" for n in range(50)]]
    assert [one.state for one in loaded] == [EMPTY] * 50


async def test_two_commands_are_out_and_the_rest_goes_together_when_one_is_back(desk: Desk) -> None:
    loading, desk.held = desk.loading(), asyncio.Event()
    waiters = []
    for n in range(6):
        waiters.append(loading.load(f"t/{n}"))
        await turns()
    assert desk.sessions() == [["t/0"], ["t/1"]]

    desk.held.set()
    await asyncio.gather(*waiters)

    assert desk.sessions() == [["t/0"], ["t/1"], ["t/2", "t/3", "t/4", "t/5"]]


async def test_a_command_holds_so_many_sessions_and_no_more(desk: Desk) -> None:
    loading = desk.loading(most=4)

    await asyncio.gather(*(loading.load(f"t/{n}") for n in range(10)))

    assert [len(sessions) for sessions in desk.sessions()] == [4, 4, 2]


async def test_one_that_comes_alone_waits_for_nothing_and_those_right_after_it_for_one_another(desk: Desk) -> None:
    loading = desk.loading(pace_s=0.005)
    await loading.load("t/0")
    first = len(desk.asked)

    waiters = []
    for n in (1, 2, 3):
        waiters.append(loading.load(f"t/{n}"))
        await turns()
    await asyncio.gather(*waiters)

    assert first == 1
    assert desk.sessions() == [["t/0"], ["t/1", "t/2", "t/3"]]


async def test_the_same_session_is_read_once_but_again_for_who_asks_while_it_is_read(desk: Desk) -> None:
    loading, desk.held = desk.loading(), asyncio.Event()
    session = Session("t/s")
    early = [loading.load("t/s"), loading.load("t/s")]
    await turns()
    late = loading.load("t/s")
    await turns()
    session.add(session.claim())
    desk.store.log.apply(session.rows)
    desk.held.set()

    loaded = await asyncio.gather(*early, late)

    assert desk.sessions() == [["t/s"], ["t/s"]]
    assert loaded[2].state == session.state  # a state read after it was asked for


async def test_no_answer_fails_the_whole_batch_and_who_asks_again_is_answered(desk: Desk) -> None:
    loading, desk.down = desk.loading(), True

    said = await asyncio.gather(*(loading.load(f"t/{n}") for n in range(5)), return_exceptions=True)
    desk.down = False
    again = await asyncio.gather(*(loading.load(f"t/{n}") for n in range(5)))

    assert [type(one) for one in said] == [StoreUnavailable] * 5
    assert [one.state for one in again] == [EMPTY] * 5


async def test_a_session_that_cannot_be_folded_fails_alone(desk: Desk) -> None:
    loading, good, bad = desk.loading(), Session("t/good"), Session("t/bad")
    for session in (good, bad):
        session.add(session.claim())
        session.add(session.finish())
    desk.store.log.apply([*good.rows, *bad.rows, bad.rows[1]._replace(v=4, turn=None)])

    found = await asyncio.gather(loading.load("t/good"), loading.load("t/bad"), return_exceptions=True)

    assert not isinstance(found[0], BaseException)
    assert found[0].state == good.state
    assert isinstance(found[1], FoldError)


async def test_who_no_longer_waits_keeps_nobody_else_from_an_answer(desk: Desk) -> None:
    loading, desk.held = desk.loading(), asyncio.Event()
    gone, stays = loading.load("t/s"), loading.load("t/s")
    await turns()
    gone.cancel()
    desk.held.set()

    assert (await stays).state == EMPTY


async def test_nobody_is_left_waiting_when_a_read_is_cancelled(desk: Desk) -> None:
    loading, desk.held = desk.loading(), asyncio.Event()
    waiter = loading.load("t/s")
    await turns()
    [task] = desk.tasks
    desk.tasks.clear()
    task.cancel()
    await asyncio.wait([task])

    assert waiter.cancelled()
    desk.held = None
    assert (await loading.load("t/s")).state == EMPTY  # its slot is free again
