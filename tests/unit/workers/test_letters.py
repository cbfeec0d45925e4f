"""Dead letters of turns that ended by their own fault: what is in them, and that they are out before the record is
marked, whoever dies in between."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from broker.memory import Verdict
from schemas.codec import parse_turn
from schemas.codes import Code
from schemas.dead_letter import DeadLetter
from schemas.entries import Position
from schemas.ids import letter_id
from schemas.turn import Turn, TurnInput
from tests.support.desk import Desk, Log
from tests.support.memory_fleet import MemoryFleet
from tests.support.poison import claimed
from tests.support.records import PlainRecord
from workers.agent import AgentTurn, agent
from workers.context import Context
from workers.letters import Fault, letter_of, record_of
from workers.partition import CONTROL, TURNS

PLACE = Position("agent.turns", 3, 17, 1_800_000_000_000)
FAULT = Fault("t1", "ann", TurnInput(text="boom"), PLACE, 4, 1_900_000_000_000, Code.POISON, "why")
LETTERS = "agent.dead-letters"


def test_of_the_records_held_the_one_at_the_turns_own_place_counts() -> None:
    copy, own = PlainRecord(offset=20), PlainRecord(offset=17)
    control = PlainRecord(topic="agent.control", offset=17)
    assert record_of(FAULT, [control, copy, own], "agent.turns") is own
    assert record_of(FAULT, [control, copy], "agent.turns") is copy
    assert record_of(FAULT, [control], "agent.turns") is None


def test_a_letter_has_the_records_own_bytes_and_headers() -> None:
    record = PlainRecord(value=b'{ "text":"boom" }', headers=(("x", b"\xff"),))
    letter = letter_of(FAULT, record, tenant="default", agent="echo")
    assert (letter.value, letter.headers[-1]) == (b'{ "text":"boom" }', ("x", b"\xff"))
    head = DeadLetter.from_headers(dict(letter.headers))
    assert (head.code, head.attempts, head.id) == ("poison", 4, "agent.turns/3@17-1800000000000")
    assert head.timestamp_ms == PLACE.timestamp_ms


def test_without_a_record_the_turn_is_rebuilt_from_the_journal() -> None:
    letter = letter_of(FAULT, None, tenant="acme", agent="echo")
    turn = parse_turn(letter.value or b"")
    assert (turn.turn, turn.text, turn.user, turn.tenant, turn.agent) == ("t1", "boom", "ann", "acme", "echo")
    assert DeadLetter.from_headers(dict(letter.headers)).id == "agent.turns/3@17-1800000000000"


def test_the_fault_is_published_with_the_frame_and_counts_every_attempt() -> None:
    log = Log()
    desk = Desk(log)
    desk.turn("t1", offset=5)
    release = desk.session.release_entry(desk.now_ms)
    assert release is not None
    log.insert(release)  # handed over once: an attempt, and no try
    for _ in range(3):
        Desk(log).turn("t1", offset=5)
    last = Desk(log)
    last.turn("t1", offset=5)
    (fault,) = last.faults
    assert (fault.turn, fault.attempts, fault.position.offset) == ("t1", 4, 5)
    assert last.marked == [5]


def test_a_turn_that_began_and_ran_out_of_time_has_a_letter_whoever_ends_it() -> None:
    log = Log()
    Desk(log).turn("t1", offset=0)
    desk = Desk(log)
    desk.now_ms += 10_000_000
    desk.turn("t1", offset=0)
    assert '"code":"deadline_exceeded"' in desk.published[0][1]
    assert [fault.code for fault in desk.faults] == [Code.DEADLINE_EXCEEDED]


def poison(fleet: MemoryFleet) -> Any:
    """A turn record with headers; it is in the log."""
    value = json.dumps(Turn(turn="t1", text="boom").model_dump(mode="json", exclude_defaults=True), indent=1)
    fleet.raw(TURNS, b"s1", value.encode(), headers=(("x-mine", b"\x00\xff"), ("ce_id", b"event-1")))
    (record,) = fleet.records(TURNS)
    return record


async def test_a_poisonous_turn_gets_a_letter_with_its_record_and_its_session_goes_on() -> None:
    async with MemoryFleet(worker_tries=1) as fleet:
        record = poison(fleet)
        await claimed(fleet.store, record)
        fleet.turn("s1", turn="t2")
        await fleet.worker()
        await fleet.until(lambda: len(fleet.terminals()) == 2)
        await fleet.until(fleet.committed_everything)
        (letter,) = fleet.records(LETTERS)
        head = DeadLetter.from_headers(dict(letter.headers))
        assert (letter.key, letter.value) == (record.key, record.value)
        assert tuple(letter.headers[-2:]) == tuple(record.headers)
        assert (head.code, head.attempts, head.topic) == ("poison", 1, TURNS)
        assert (head.partition, head.offset, head.timestamp_ms) == (record.partition, record.offset, record.timestamp)
        assert fleet.terminals()["s1~t1"][0]["code"] == "poison"
        assert fleet.terminals()["s1~t2"][0]["type"] == "completed"


async def test_the_record_is_not_marked_before_its_letter_is_acknowledged() -> None:
    async with MemoryFleet(worker_tries=1) as fleet:
        await claimed(fleet.store, poison(fleet))
        fleet.cluster.judge = lambda out: Verdict.DROP if out.topic == LETTERS else Verdict.TAKE
        await fleet.worker()
        await fleet.until(lambda: fleet.terminals())
        await asyncio.sleep(0.05)
        assert not fleet.committed_everything()
        fleet.cluster.judge = lambda _: Verdict.TAKE
        await fleet.until(fleet.committed_everything)
        assert len(fleet.records(LETTERS)) == 1


async def test_who_takes_over_after_the_finish_publishes_the_letter_that_is_missing() -> None:
    async with MemoryFleet(worker_tries=1) as dead:
        first = poison(dead)
        await claimed(dead.store, first)
        await dead.worker()
        await dead.until(lambda: dead.terminals())
        await dead.until(dead.committed_everything)
    async with MemoryFleet(worker_tries=1) as fleet:  # the same journal, and nothing but the record in the broker
        fleet.store = dead.store
        record = poison(fleet)
        await fleet.worker()
        await fleet.until(lambda: fleet.terminals())
        await fleet.until(fleet.committed_everything)
        (letter,) = fleet.records(LETTERS)
        assert letter.value == record.value
        id_ = letter_id(TURNS, first.partition, first.offset, first.timestamp)  # of the record that it was claimed for
        assert DeadLetter.from_headers(dict(letter.headers)).id == id_
        assert fleet.terminals()["s1~t1"][0]["code"] == "poison"


async def test_a_poisonous_turn_met_by_a_control_op_alone_is_rebuilt_from_the_journal() -> None:
    async with MemoryFleet(worker_tries=1) as fleet:
        record = PlainRecord(value=b'{"text":"boom","turn":"t1"}', partition=3, offset=17)
        await claimed(fleet.store, record)
        fleet.raw(CONTROL, b"s1", b'{"op":"w","kind":"watch","user":"anonymous"}')
        await fleet.worker()
        await fleet.until(lambda: fleet.records(LETTERS))
        (letter,) = fleet.records(LETTERS)
        assert DeadLetter.from_headers(dict(letter.headers)).id == "agent.turns/3@17-1800000000000"
        turn = parse_turn(letter.value)
        assert (turn.turn, turn.text, turn.agent) == ("t1", "boom", "echo")


async def test_a_turn_that_raises_has_a_letter_and_one_that_never_ran_has_none() -> None:
    @agent(name="raises", version="1")
    async def raises(turn: AgentTurn, ctx: Context) -> str:
        raise RuntimeError("as asked")

    async with MemoryFleet(raises, default="raises") as fleet:
        await fleet.worker()
        fleet.turn("s1", "boom", turn="t1")
        await fleet.until(lambda: "s1~t1" in fleet.terminals())
        fleet.turn("s1", "late", turn="t2", deadline_ms=1_500_000_000_000)
        await fleet.until(lambda: "s1~t2" in fleet.terminals())
        await fleet.until(fleet.committed_everything)
        (letter,) = fleet.records(LETTERS)
        head = DeadLetter.from_headers(dict(letter.headers))
        assert (head.code, head.attempts) == ("agent_error", 1)
        assert json.loads(letter.value) == {"text": "boom", "turn": "t1"}


async def test_its_letter_goes_out_with_its_frame_before_the_mark() -> None:
    log = Log()
    desk = Desk(log, auto=False)
    desk.turn("t1", offset=5)
    desk.answer()
    desk.answer()
    desk.finish(outcome="failed", code=Code.AGENT_ERROR, message="boom")
    desk.answer()
    assert [(fault.code, fault.reason) for fault in desk.faults] == [(Code.AGENT_ERROR, "boom")]
    assert desk.marked == []
