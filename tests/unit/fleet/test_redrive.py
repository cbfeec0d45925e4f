"""Dead letters out again through whole workers on the in-memory twins: in order, with effects once, whatever fails."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from broker.memory import MemoryPublisher, MemoryScan, Verdict
from broker.port import Outgoing, PublishError, PublishUnknown
from fleet.letter import CONTROL, TURNS, Letter, read_letter
from fleet.redrive import Office, Redriven, discard, find, outgoing, redrive
from journal.gate import Call
from journal.port import LetterMark, StoreUnavailable
from schemas.codes import Code
from schemas.dead_letter import DeadLetter
from schemas.ids import from_letter
from schemas.turn import Turn
from tests.support.memory_fleet import MemoryFleet
from tests.support.poison import claimed
from tests.support.records import PlainRecord
from workers.agent import AgentTurn, agent
from workers.context import Context

LETTERS = "agent.dead-letters"
NOW_MS = 1_900_000_000_000


@asynccontextmanager
async def office(fleet: MemoryFleet, timeout_s: float = 8.0) -> AsyncIterator[Office]:
    publisher = MemoryPublisher(fleet.cluster, (TURNS, CONTROL), timeout_s=timeout_s)
    await publisher.start()
    yield Office(MemoryScan(fleet.cluster), publisher, fleet.store, fleet.clock_ms)
    await publisher.stop()


async def every(place: Office) -> list[Letter]:
    return (await find(place, lambda _: True, values=True)).letters


class Ran:
    """An agent that writes down what it was given."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def spec(self) -> Any:
        @agent(name="ran", version="1")
        async def ran(turn: AgentTurn, ctx: Context) -> str:
            self.texts.append(turn.text)
            return turn.text

        return ran


async def poisoned(fleet: MemoryFleet, **fields: Any) -> None:
    """One turn that its journal says was tried once too often."""
    value = json.dumps({"turn": "t1", "text": "boom", **fields}).encode()
    fleet.raw(TURNS, b"s1", value, headers=(("ce_id", b"t1"), ("x-mine", b"\xff")))
    await claimed(fleet.store, fleet.records(TURNS)[-1], agent="ran")
    await fleet.worker()
    await fleet.until(lambda: fleet.records(LETTERS))
    await fleet.until(fleet.committed_everything)


async def test_a_poisonous_turn_runs_again_under_a_new_id_that_is_always_the_same() -> None:
    ran = Ran()
    async with MemoryFleet(ran.spec(), default="ran", worker_tries=1) as fleet, office(fleet) as place:
        await poisoned(fleet)
        letters = await every(place)
        (done,) = await redrive(place, letters)
        new = from_letter(letters[0].id, "t1")
        assert done == Redriven(letters[0].id, "redriven", new, published=True)
        await fleet.until(lambda: f"s1~{new}" in fleet.terminals())
        record = fleet.records(TURNS)[-1]
        assert json.loads(record.value) == {"turn": new, "text": "boom"}
        assert record.headers == (("ce_id", new.encode()), ("x-mine", b"\xff"))
        assert record.key == b"s1"
        assert ran.texts == ["boom"]


async def test_a_second_redrive_publishes_nothing() -> None:
    ran = Ran()
    async with MemoryFleet(ran.spec(), default="ran", worker_tries=1) as fleet, office(fleet) as place:
        await poisoned(fleet)
        (first,) = await redrive(place, await every(place))
        (second,) = await redrive(place, await every(place))
        assert (second.state, second.turn, second.published) == ("redriven", first.turn, False)
        assert len(fleet.records(TURNS)) == 2


@pytest.mark.parametrize("lost", ["mark", "marks"])
async def test_a_crash_between_publish_and_mark_has_no_second_effect(lost: str) -> None:
    """`mark`: the last one is not written; `marks`: somebody even restored the marks from before."""
    ran = Ran()
    async with MemoryFleet(ran.spec(), default="ran", worker_tries=1) as fleet, office(fleet) as place:
        await poisoned(fleet)
        letters = await every(place)

        async def gate(call: Call) -> None:
            if call.operation == "letters.complete":
                raise StoreUnavailable("the test ends the command here")

        marks: Any = fleet.store.letters
        marks.gate = gate
        with pytest.raises(StoreUnavailable):
            await redrive(place, letters)
        await fleet.until(lambda: ran.texts == ["boom"])
        found = (await fleet.store.letters.of([letters[0].id]))[letters[0].id]
        assert found.state == "redriving"

        async def let_through(_: Call) -> None: ...

        marks.gate = let_through
        if lost == "marks":
            marks._marks.clear()
        (again,) = await redrive(place, letters)
        assert (again.state, again.published) == ("redriven", True)
        await fleet.until(lambda: len(fleet.frames("s1", "completed")) == 2)  # its frame again
        await fleet.until(fleet.committed_everything)
        assert ran.texts == ["boom"]
        assert len({frame["turn"] for frame in fleet.frames("s1", "completed")}) == 1


async def test_a_refused_record_keeps_its_bytes_and_its_own_id_and_runs_once() -> None:
    ran = Ran()
    async with MemoryFleet(default="echo") as fleet, office(fleet) as place:
        value = b'{ "text": "late", "agent": "ran" }'
        fleet.raw(TURNS, b"s1", value, headers=(("x", b"1"),), timestamp_ms=fleet.clock_ms())
        await fleet.worker()
        await fleet.until(lambda: fleet.records(LETTERS))
        (record,) = fleet.records(TURNS)
        own = f"at-{record.partition}-{record.offset}-{record.timestamp}"
        await fleet.workers.pop()[0].drain()
        fleet.agents = (ran.spec(),)
        await fleet.worker()  # a new version of the fleet, which knows the agent
        letters = await every(place)
        (done,) = await redrive(place, letters)
        assert done.turn == own
        await fleet.until(lambda: f"s1~{own}" in fleet.terminals())
        again = fleet.records(TURNS)[-1]
        assert (again.key, again.value, again.headers) == (b"s1", value, (("x", b"1"), ("ce_id", own.encode())))
        await place.publisher.send(outgoing(letters[0], letters[0].decoded(), done.turn, fleet.clock_ms()))
        await fleet.until(lambda: len(fleet.frames("s1", "completed")) == 2)
        assert ran.texts == ["late"]


async def test_letters_of_a_session_go_out_in_their_original_order() -> None:
    async with MemoryFleet() as fleet, office(fleet) as place:
        await fleet.worker()
        for n in range(12):
            fleet.turn("s1", f"{n}", turn=f"t{n}", agent="missing")
            fleet.turn("s2", f"{n}", turn=f"t{n}", agent="missing")
        await fleet.until(lambda: len(fleet.records(LETTERS)) == 24)
        letters = await every(place)
        await redrive(place, letters[::-1])
        for session in (b"s1", b"s2"):
            turns = [json.loads(record.value)["text"] for record in fleet.records(TURNS) if record.key == session]
            assert turns == [f"{n}" for n in range(12)] * 2


async def test_nothing_overtakes_a_record_that_does_not_go_out() -> None:
    async with MemoryFleet() as fleet, office(fleet, timeout_s=0.05) as place:
        await fleet.worker()
        for n in range(3):
            fleet.turn("s1", turn=f"t{n}", agent="missing")
        await fleet.until(lambda: len(fleet.records(LETTERS)) == 3)
        letters = await every(place)
        fleet.cluster.judge = lambda out: Verdict.DROP if out.topic == TURNS else Verdict.TAKE
        with pytest.raises((PublishError, PublishUnknown)):
            await redrive(place, letters)
        assert len(fleet.records(TURNS)) == 3
        marks = await fleet.store.letters.of([letter.id for letter in letters])
        assert [mark.state for mark in marks.values()] == ["redriving"]


async def test_two_operators_at_once_redrive_the_same_turn() -> None:
    ran = Ran()
    async with MemoryFleet(ran.spec(), default="ran", worker_tries=1) as fleet, office(fleet) as place:
        await poisoned(fleet)
        letters = await every(place)
        new = from_letter(letters[0].id, "t1")
        await fleet.store.letters.put(LetterMark(letters[0].id, "redriving", new, 1))  # the other one, just begun
        (done,) = await redrive(place, letters)
        assert done.turn == new
        await fleet.until(lambda: ran.texts == ["boom"])


async def test_what_was_discarded_is_not_redriven_and_the_other_way_round() -> None:
    async with MemoryFleet() as fleet, office(fleet) as place:
        await fleet.worker()
        fleet.turn("s1", turn="t1", agent="missing")
        fleet.turn("s1", turn="t2", agent="missing")
        await fleet.until(lambda: len(fleet.records(LETTERS)) == 2)
        first, second = await every(place)
        await discard(place, [first])
        await redrive(place, [second])
        assert [one.state for one in await redrive(place, [first, second])] == ["discarded", "redriven"]
        assert [one.state for one in await discard(place, [first, second])] == ["discarded", "redriven"]
        assert len(fleet.records(TURNS)) == 3


async def test_a_record_that_nobody_can_read_goes_out_as_it_is_and_is_refused_again() -> None:
    async with MemoryFleet() as fleet, office(fleet) as place:
        await fleet.worker()
        fleet.raw(TURNS, b"a/b", b"\xff{nope")
        await fleet.until(lambda: fleet.records(LETTERS))
        (done,) = await redrive(place, await every(place))
        assert (done.state, done.turn) == ("redriven", None)
        await fleet.until(lambda: len(fleet.records(LETTERS)) == 2)
        assert {record.value for record in fleet.records(LETTERS)} == {b"\xff{nope"}
        assert not fleet.store.log.rows


def letter(value: bytes, *headers: tuple[str, bytes], code: Code = Code.POISON, topic: str = TURNS) -> Letter:
    head = DeadLetter(code=code, reason="", topic=topic, partition=1, offset=2, timestamp_ms=3)
    found = read_letter(PlainRecord(value=value, headers=(*head.headers(), *headers)))
    assert found is not None
    return found


def sent(one: Letter, turn: str | None = "new") -> Outgoing:
    return outgoing(one, one.decoded(), turn, NOW_MS)


def test_a_deadline_that_has_passed_is_left_out_and_one_to_come_stays() -> None:
    value = b'{"turn":"t1","text":"x","deadline_ms":%d}'
    past, to_come = letter(value % NOW_MS), letter(value % (NOW_MS + 1))
    assert json.loads(sent(past, "t1").value or b"") == {"turn": "t1", "text": "x"}
    assert sent(to_come, "t1").value == value % (NOW_MS + 1)


def test_a_poisonous_first_turn_does_not_bring_its_history_twice() -> None:
    value = json.dumps({"turn": "t1", "text": "x", "history": [{"role": "user", "text": "before"}]}).encode()
    assert json.loads(sent(letter(value)).value or b"") == {"turn": "new", "text": "x"}
    assert "history" in json.loads(sent(letter(value, code=Code.CONFLICT)).value or b"")


def test_a_new_id_goes_into_the_data_of_a_structured_event() -> None:
    kind = ("content-type", b"application/cloudevents+json; charset=utf-8")
    event = {"specversion": "1.0", "id": "e1", "type": "turnfleet.turn.v1", "data": {"text": "x", "ü": 1}}
    out = sent(letter(json.dumps(event).encode(), kind))
    assert json.loads(out.value or b"")["data"] == {"text": "x", "ü": 1, "turn": "new"}
    assert list(out.headers) == [kind]


def test_a_control_op_goes_out_as_it_is() -> None:
    out = sent(letter(b'{"op":"o","kind":"levitate"}', ("x", b"1"), topic=CONTROL), None)
    assert (out.topic, out.value, list(out.headers)) == (CONTROL, b'{"op":"o","kind":"levitate"}', [("x", b"1")])


async def test_a_letter_from_a_topic_that_carries_no_work_is_not_redriven() -> None:
    async with MemoryFleet() as fleet, office(fleet) as place:
        (done,) = await redrive(place, [letter(b"{}", topic="agent.usage")])
        assert (done.state, done.published) == ("unsupported", False)
        assert not fleet.records("agent.usage")


def test_a_derived_id_is_legal_and_its_own_for_every_letter() -> None:
    ids = {from_letter(one, turn) for one in ("agent.turns/1@2", "agent.turns/1@3") for turn in ("a", "b")}
    assert len(ids) == 4
    assert all(Turn(turn=one, text="x").turn == one for one in ids)
