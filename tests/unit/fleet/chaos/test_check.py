"""`fleet chaos check` as it is typed, over the in-memory twins: what is read, printed and exited with."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from broker.memory import MemoryCluster, MemoryScan
from broker.memory_group import group_of
from broker.partition import partition_of
from broker.port import BrokerUnavailable, Outgoing, TopicState
from fleet.__main__ import app
from fleet.chaos import check as command
from fleet.chaos import checker, gather, judges, part
from fleet.chaos.chain import Chain
from fleet.chaos.evidence import CONTROL, LETTERS, REPLIES, TURNS, Evidence
from fleet.chaos.gather import Sources
from fleet.chaos.spill import Spill, items_of
from fleet.exits import CommandError, Exit
from journal.memory import MemoryStore
from journal.port import Row, Saving
from schemas.codes import Code
from schemas.dead_letter import DeadLetter
from schemas.snapshot import Snapshot
from tests.support.history import assistant, terminal

TOPICS = {TURNS: 12, CONTROL: 12, REPLIES: 4, LETTERS: 4}


class Place:
    """A cluster and a store with what workers would have left behind."""

    def __init__(self) -> None:
        self.cluster = MemoryCluster()
        self.store = MemoryStore()
        for name, partitions in TOPICS.items():
            self.cluster.make(TopicState(name, partitions, 1, {}))
        self.group = group_of(self.cluster, "workers", (TURNS, CONTROL))

    @contextlib.asynccontextmanager
    async def connected(self, _: Path | None) -> AsyncIterator[Sources]:
        yield Sources(MemoryScan(self.cluster), self.store.survey)

    def put(self, topic: str, session: str, value: bytes, headers: tuple[tuple[str, bytes], ...] = ()) -> int:
        """A record; its offset."""
        partition = partition_of(session.encode(), TOPICS[topic])
        outgoing = Outgoing(topic, session.encode(), value, partition, headers)
        return self.cluster.append(topic, partition, outgoing).offset

    def commit(self, topic: str, session: str, offset: int) -> None:
        self.group.committed[topic, partition_of(session.encode(), TOPICS[topic])] = offset + 1

    def turn(self, session: str, tenant: str = "default", *, ended: bool = True) -> None:
        """A turn `t` that was sent and committed, and unless told otherwise finished and published."""
        value = json.dumps({"turn": "t", "tenant": tenant, "user": "u", "text": "hi"}).encode()
        offset = self.put(TURNS, session, value)
        self.commit(TURNS, session, offset)
        claim = {"turn": "t", "attempt": 1, "user": "u", "position": [TURNS, 0, offset, 1], "input": {}, "opens": {}}
        finish = {"turn": "t", "attempt": 1, "outcome": "completed", "history": [assistant("t", "yes")]}
        frame = terminal("t", "completed", text="yes", tenant=tenant).replace('"s1"', f'"{session}"')
        s = f"{tenant}/{session}"
        rows = [Row(s, 1, "claim", "w-1", 1, "t", None, json.dumps(claim))]
        if ended:
            rows.append(Row(s, 2, "finish", "w-2", 1, None, None, json.dumps(finish), (frame,)))
            self.put(REPLIES, session, frame.encode())
        self.store.log.apply(rows)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Place:
    place = Place()
    monkeypatch.setattr(command, "connected", place.connected)
    return place


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["chaos", "check", *arguments])


def test_a_fleet_that_kept_its_word_is_told_so(place: Place) -> None:
    place.turn("a")
    place.turn("a", "other")
    place.turn("b")
    result = run("--settled")

    assert result.exit_code == Exit.OK
    assert "3 turns of 3 sessions: 3 completed; 0 under way" in result.stdout
    assert "nothing broke" in result.stdout


def test_a_breach_names_the_turn_its_events_and_the_promise(place: Place) -> None:
    place.turn("a")
    place.turn("b", ended=False)
    result = run()

    assert result.exit_code == Exit.DIFFERENT
    assert "P1 commit_ahead: default/b/t: its record is committed, the journal holds it open" in result.stdout
    partition = partition_of(b"b", 12)
    assert f"    agent.turns/{partition}@0 record committed\n    journal v1 CLAIM at 1 nonce w-1\n" in result.stdout
    assert "1 breaches: 1 commit_ahead" in result.stdout


def test_programs_get_json(place: Place) -> None:
    place.turn("a")
    place.turn("b", ended=False)
    found = json.loads(run("--json").stdout)

    assert (found["clean"], found["broken"], found["outcomes"]) == (False, 1, {"completed": 1})
    finding = found["findings"][0]
    assert (finding["promise"], finding["kind"], finding["session"], finding["turn"]) == (
        "P1",
        "commit_ahead",
        "b",
        "t",
    )
    assert len(finding["events"]) == 2


def test_a_check_of_nothing_proves_nothing(place: Place) -> None:
    result = run()

    assert result.exit_code == Exit.DIFFERENT
    assert "0 turns have ended, 1 are needed" in result.stderr
    assert run("--least", "0").exit_code == Exit.OK


def test_a_record_that_nobody_can_read_needs_a_letter(place: Place) -> None:
    place.turn("a")
    offset = place.put(TURNS, "bad", b"\xff")
    place.commit(TURNS, "bad", offset)
    control = place.put(CONTROL, "bad", b"{}")
    place.commit(CONTROL, "bad", control)
    result = run()
    assert result.exit_code == Exit.DIFFERENT
    assert "P12 no_letter: bad: agent.control" in result.stdout

    for topic in (TURNS, CONTROL):
        head = DeadLetter(
            code=Code.BAD_REQUEST, reason="no", topic=topic, partition=partition_of(b"bad", 12), offset=offset
        )
        place.put(LETTERS, "bad", b"\xff", tuple(head.headers()))
    assert run().exit_code == Exit.OK


def test_commands_acks_snapshots_and_foreign_records_are_read(place: Place) -> None:
    place.turn("a")
    op = place.put(CONTROL, "a", json.dumps({"op": "o1", "kind": "cancel", "turn": "t", "user": "u"}).encode())
    place.commit(CONTROL, "a", op)
    place.put(REPLIES, "a", b'{"type": "ack", "op": "o1", "session": "a", "state": "applied", "tenant": "default"}')
    place.put(REPLIES, "a", b"no frame")
    place.put(LETTERS, "a", b"no letter")
    snapshot = Snapshot(version=7, base=1, opened=None, turns=1, last_ms=1, chunks=0, items=())
    saving = place.store.snapshots.save([Saving("default/a", snapshot)])
    with contextlib.suppress(StopIteration):
        saving.send(None)
    found = json.loads(run("--json").stdout)

    assert found["kinds"] == {"cancel_broken": 1, "snapshot_differs": 1}
    assert found["foreign"] == 2


def test_large_evidence_is_judged_in_processes_of_their_own(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, workers: int, **_: object) -> None:
            asked.append(workers)
            super().__init__(workers)

    monkeypatch.setattr(judges, "ALONE_BYTES", 0)
    monkeypatch.setattr(judges, "ProcessPoolExecutor", Pool)
    for number in range(20):
        place.turn(f"s-{number}")

    assert run("--settled").exit_code == Exit.OK
    assert asked


def test_a_broker_that_does_not_answer_is_unreachable(place: Place) -> None:
    place.cluster.fail()
    result = run()

    assert isinstance(result.exception, CommandError | BrokerUnavailable)
    assert isinstance(result.exception, CommandError)
    assert result.exception.code == Exit.UNREACHABLE


def test_what_is_spilled_comes_back_in_order_and_its_memory_is_bounded(tmp_path: Path) -> None:
    spill = Spill(tmp_path, parts=4, most_bytes=1_000)
    for number in range(100):
        spill.add(b"k%d" % (number % 7), ("turn", number, b"x", None, ("a", (("h", b"v"),))), 1)
    assert spill.written > 0, "what waits is written when it grows too large"
    spill.flush()
    found = [list(items_of(path)) for path in spill.parts()]

    assert sorted(item[1] for part in found for item in part) == list(range(100))
    assert all([item[1] for item in part] == sorted(item[1] for item in part) for part in found)


def test_what_is_judged_leaves_nothing_behind_for_a_garbage_collector(place: Place) -> None:
    place.turn("a")
    place.turn("b", ended=False)
    sources = Sources(MemoryScan(place.cluster), place.store.survey)
    asyncio.run(gather.inspect(sources, parts=1))
    gc.collect()
    gc.disable()
    try:
        before = judged()  # what failed tests hold, for one
        asyncio.run(gather.inspect(sources, parts=1))
        left = [one for one in judged() if not any(one is other for other in before)]
    finally:
        gc.enable()

    assert left == []


def judged() -> list[object]:
    """What is made for judging and is still here."""
    return [one for one in gc.get_objects() if isinstance(one, part._Part | checker._Case | Chain | Evidence)]
