"""Whole workers between the in-memory broker and store: what goes in, what comes out, what is marked."""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

import pytest

from journal.gate import Call
from journal.port import StoreUnavailable
from schemas.settings import SessionSettings
from tests.support.memory_fleet import MemoryFleet
from workers.agent import AgentSpec, AgentTurn, SessionInfo, agent
from workers.context import Context
from workers.partition import CONTROL, TURNS


class Door:
    """An agent that waits until the test opens it."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.inside: list[str] = []
        self.most: dict[str, int] = {}

    def spec(self) -> Any:
        @agent(name="door", version="1")
        async def door(turn: AgentTurn, ctx: Context) -> str:
            session = ctx.info.session
            self.inside.append(session)
            self.most[session] = max(self.most.get(session, 0), self.inside.count(session))
            try:
                await self.open.wait()
            finally:
                self.inside.remove(session)
            return f"through: {turn.text}"

        return door


async def test_a_turn_is_answered_logged_booked_and_marked() -> None:
    async with MemoryFleet() as fleet:
        await fleet.worker()
        fleet.turn("s1", "hello", turn="t1")
        await fleet.until(lambda: fleet.frames("s1", "completed"))
        (frame,) = fleet.frames("s1", "completed")
        assert (frame["text"], frame["turn"], frame["attempt"]) == ("hello", "t1", 1)
        await fleet.until(fleet.committed_everything)
        await fleet.until(lambda: fleet.records("agent.usage"))
        (receipt,) = [json.loads(record.value) for record in fleet.records("agent.usage")]
        assert (receipt["turn"], receipt["outcome"]) == ("t1", "completed")
    lines = [json.loads(line) for line in fleet.log.getvalue().splitlines()]
    assert [(line["event"], line["session"], line["turn"], line["attempt"]) for line in lines] == [
        ("turn started", "s1", "t1", 1),
        ("turn ended", "s1", "t1", 1),
    ]
    assert lines[0]["version"] == 1
    assert (lines[1]["version"], lines[1]["outcome"]) == (2, "completed")


async def test_what_is_said_to_a_running_turn_joins_it_and_both_end() -> None:
    door = Door()
    async with MemoryFleet(door.spec(), default="door") as fleet:
        await fleet.worker()
        fleet.turn("s1", "one", turn="t1")
        await fleet.until(lambda: door.inside == ["s1"])
        fleet.turn("s1", "two", turn="t2", if_busy="steer")
        fleet.control("s1", op="c1", kind="steer", turn="t1", text="three")
        await fleet.until(lambda: fleet.frames("s1", "ack") and fleet.frames("s1", "joined"))
        assert not fleet.frames("s1", "completed")
        door.open.set()
        await fleet.until(lambda: len(fleet.frames("s1", "completed")) == 2)
        await fleet.until(fleet.committed_everything)
        first, second = fleet.frames("s1", "completed")
        assert (first["turn"], first["text"]) == ("t1", "through: onethrough: three")
        assert (second["turn"], second["text"], second["into"]) == ("t2", "", "t1")
        assert [(frame["turn"], frame["into"]) for frame in fleet.frames("s1", "joined")] == [("t2", "t1")]
        assert [frame["state"] for frame in fleet.frames("s1", "ack")] == ["applied"]
        said = [(item.role, item.text) for item in (await fleet.state("s1")).history]
        assert said == [
            ("user", "one"),
            ("assistant", "through: one"),
            ("user", "two"),
            ("user", "three"),
            ("assistant", "through: three"),
        ]


async def test_what_joined_a_turn_goes_along_to_the_next_worker() -> None:
    door = Door()
    async with MemoryFleet(door.spec(), default="door", worker_drain_s=0.05) as fleet:
        first = await fleet.worker()
        fleet.turn("s1", "one", turn="t1")
        await fleet.until(lambda: door.inside == ["s1"])
        fleet.turn("s1", "two", turn="t2", if_busy="steer")
        await fleet.until(lambda: fleet.frames("s1", "joined"))
        await first.drain()
        door.open.set()
        await fleet.worker()
        await fleet.until(lambda: len(fleet.terminals()) == 2)
        ends = {name: frames[0] for name, frames in fleet.terminals().items()}
        assert (ends["s1~t1"]["text"], ends["s1~t1"]["attempt"]) == ("through: onethrough: two", 2)
        assert ends["s1~t2"]["into"] == "t1"


async def test_a_call_whose_end_its_worker_did_not_write_down_is_unknown_or_made_again_under_its_key() -> None:
    keys: list[str] = []
    mails: list[str] = []
    stuck = asyncio.Event()

    async def pay(idempotency_key: str) -> str:
        keys.append(idempotency_key)
        if len(keys) == 1:
            await stuck.wait()
        return "paid"

    async def send() -> str:
        mails.append("sent")
        await stuck.wait()
        return "sent"

    @agent(name="tools", version="1")
    async def tools(turn: AgentTurn, ctx: Context) -> str:
        return str(await ctx.tool("tool", pay if turn.text == "pay" else send, {}))

    async with MemoryFleet(tools, default="tools", worker_drain_s=0.05) as fleet:
        first = await fleet.worker()
        fleet.turn("s1", "pay", turn="t1")
        fleet.turn("s2", "send", turn="t2")
        await fleet.until(lambda: keys and mails)
        await first.drain()
        await fleet.worker()
        await fleet.until(lambda: len(fleet.terminals()) == 2)
        paid, sent = (fleet.terminals()[name][0] for name in ("s1~t1", "s2~t2"))
        assert (paid["type"], paid["text"], paid["attempt"]) == ("completed", "paid", 2)
        assert (sent["type"], sent["code"], sent["retry"], sent["attempt"]) == ("failed", "outcome_unknown", "no", 2)
        assert (len(keys), len(set(keys)), mails) == (2, 1, ["sent"])
        fleet.turn("s2", "pay", turn="t3")  # the session goes on
        await fleet.until(lambda: "s2~t3" in fleet.terminals())
        assert fleet.terminals()["s2~t3"][0]["text"] == "paid"


async def test_many_sessions_keep_their_order_and_one_turn_runs_at_a_time() -> None:
    door = Door()
    async with MemoryFleet(door.spec(), default="door") as fleet:
        await fleet.worker()
        for n in range(5):
            for session in range(20):
                fleet.turn(f"s{session}", f"{n}", turn=f"t{n}")
        await fleet.until(lambda: len(door.inside) == 20)
        door.open.set()
        await fleet.until(lambda: len(fleet.terminals()) == 100)
        assert set(door.most.values()) == {1}
        for session in range(20):
            order = [frame["turn"] for frame in fleet.frames(f"s{session}", "completed")]
            assert order == [f"t{n}" for n in range(5)]
            history = [item.text for item in (await fleet.state(f"s{session}")).history]
            assert history == [text for n in range(5) for text in (f"{n}", f"through: {n}")]


async def test_slots_bound_what_runs_and_the_poll_loop_goes_on() -> None:
    door = Door()
    async with MemoryFleet(door.spec(), default="door", worker_slots=3) as fleet:
        worker = await fleet.worker()
        for session in range(10):
            fleet.turn(f"s{session}")
        await fleet.until(lambda: worker.system.waiting == 7 and len(door.inside) == 3)
        fleet.turn("e1", agent="echo")
        await fleet.until(lambda: worker.system.waiting == 8)
        door.open.set()
        await fleet.until(lambda: len(fleet.terminals()) == 11)


async def test_full_mailboxes_pause_their_partition_and_nothing_is_lost() -> None:
    door = Door()
    async with MemoryFleet(door.spec(), default="door", worker_slots=1, worker_mailbox=24) as fleet:
        worker = await fleet.worker()
        for n in range(300):
            fleet.turn("s1", str(n), turn=f"t{n}")
        await fleet.until(lambda: any(p.paused for p in worker.system.partitions.values()))
        fleet.control("s1", op="c1", kind="cancel", turn="t1")  # control is never paused
        await fleet.until(lambda: fleet.frames("s1", "ack"))
        door.open.set()
        await fleet.until(lambda: len(fleet.terminals()) == 300)
        assert not any(p.paused for p in worker.system.partitions.values())
        assert [f["type"] for f in fleet.terminals()["s1~t1"]] == ["cancelled"]


BAD_TURNS: list[tuple[str, bytes | None, bytes | None, str]] = [
    ("not JSON", b"bad", b"{nope", "bad_request"),
    ("not UTF-8", b"bad", b"\xff\xfe", "bad_request"),
    ("no object", b"bad", b"[1]", "bad_request"),
    ("wrong type", b"bad", b'{"text":5}', "bad_request"),
    ("no text", b"bad", b"{}", "bad_request"),
    ("no value", b"bad", None, "bad_request"),
    ("no key", None, b'{"text":"x"}', "bad_request"),
    ("key is no id", b"a/b", b'{"text":"x"}', "bad_request"),
    ("key with control characters", b"a\x00b", b'{"text":"x"}', "bad_request"),
    ("key too long", b"k" * 129, b'{"text":"x"}', "bad_request"),
    ("turn id too long", b"bad", json.dumps({"text": "x", "turn": "t" * 129}).encode(), "bad_request"),
    ("turn id with control characters", b"bad", b'{"text":"x","turn":"a\\u0007"}', "bad_request"),
    ("text over the limit", b"bad", json.dumps({"text": "x" * 262_145}).encode(), "too_large"),
    ("lone surrogate", b"bad", b'{"text":"\\ud800"}', "bad_request"),
    (
        "deep nesting",
        b"bad",
        b'{"text":"x","metadata":' + b'{"a":' * 10_000 + b"1" + b"}" * 10_000 + b"}",
        "bad_request",
    ),
    ("NaN", b"bad", b'{"text":"x","metadata":{"a":NaN}}', "bad_request"),
    ("400-digit number", b"bad", b'{"text":"x","metadata":{"a":' + b"9" * 400 + b"}}", "bad_request"),
    (
        "metadata over the limit",
        b"bad",
        json.dumps({"text": "x", "metadata": {"a": "b" * 17_000}}).encode(),
        "too_large",
    ),
    ("unknown part type", b"bad", b'{"parts":[{"type":"hologram"}]}', "bad_request"),
    ("deadline in seconds", b"bad", b'{"text":"x","deadline_ms":1700000000}', "bad_request"),
    ("unknown agent", b"bad", b'{"text":"x","agent":"nobody"}', "agent_unknown"),
    ("option the agent does not allow", b"bad", b'{"text":"x","options":{"nope":1}}', "bad_request"),
]


@pytest.mark.parametrize(("key", "value", "code"), [row[1:] for row in BAD_TURNS], ids=[row[0] for row in BAD_TURNS])
async def test_a_bad_record_is_one_dead_letter_and_the_partition_goes_on(
    key: bytes | None, value: bytes | None, code: str
) -> None:
    async with MemoryFleet() as fleet:
        worker = await fleet.worker()
        headers = (("x-mine", b"\x00\xff"), ("ce_id", b"event-1"))
        fleet.raw(TURNS, key, value, headers=headers, partition=3)
        fleet.raw(TURNS, b"s-ok", b'{"text":"fine","turn":"ok"}')
        await fleet.until(lambda: fleet.records("agent.dead-letters") and "s-ok~ok" in fleet.terminals())
        await fleet.until(fleet.committed_everything)
        (letter,) = fleet.records("agent.dead-letters")
        found = dict(letter.headers)
        assert (letter.key, letter.value) == (key, value)
        assert found["dl_code"] == code.encode()
        assert (found["dl_topic"], found["x-mine"], found["ce_id"]) == (b"agent.turns", b"\x00\xff", b"event-1")
        assert not worker.stopping.is_set()
        assert {s for s, _ in fleet.store.log.rows} == {"default/s-ok"}


async def test_a_refused_record_answers_its_reply_to() -> None:
    async with MemoryFleet() as fleet:
        await fleet.worker()
        fleet.raw(TURNS, b"s1", b"{nope", headers=(("reply_to", b"2:gw1"), ("ce_id", b"mine")))
        await fleet.until(lambda: fleet.frames("s1", "refused"))
        (frame,) = fleet.frames("s1", "refused")
        assert (frame["code"], frame["turn"], frame["retry"], frame["offset"]) == ("bad_request", "mine", "no", 0)
        (record,) = fleet.cluster.log("agent.replies", 2).records
        assert dict(record.headers) == {"reply_to": b"2:gw1"}


async def test_unknown_fields_and_dollars_and_dots_in_keys_are_harmless() -> None:
    async with MemoryFleet() as fleet:
        await fleet.worker()
        fleet.turn("s1", "x", turn="t1", metadata={"$set": {"a.b": 1}, "": "e"}, surprise={"deep": [1]})
        await fleet.until(lambda: fleet.terminals())
        assert fleet.terminals()["s1~t1"][0]["type"] == "completed"


async def test_a_turn_for_another_users_session_is_refused_like_a_missing_one() -> None:
    async with MemoryFleet() as fleet:
        await fleet.worker()
        fleet.turn("s1", turn="t1", user="alice")
        await fleet.until(lambda: fleet.terminals())
        fleet.turn("s1", turn="t2", user="mallory")
        await fleet.until(lambda: fleet.frames("s1", "refused"))
        assert fleet.frames("s1", "refused")[0]["code"] == "not_found"
        assert (await fleet.state("s1")).turns == 1


@pytest.mark.parametrize(
    "value",
    [b"{nope", b'{"kind":"cancel"}', b'{"op":"o","kind":"levitate"}', b'{"op":"o","kind":"cancel","turn":5}', None],
)
async def test_a_malformed_control_record_is_a_dead_letter(value: bytes | None) -> None:
    async with MemoryFleet() as fleet:
        await fleet.worker()
        fleet.raw(CONTROL, b"s1", value)
        await fleet.until(lambda: fleet.records("agent.dead-letters"))
        await fleet.until(fleet.committed_everything)


async def test_a_record_on_the_wrong_partition_works_and_keeps_its_derived_id() -> None:
    async with MemoryFleet() as fleet:
        worker = await fleet.worker()
        fleet.raw(TURNS, b"s1", b'{"text":"x"}', partition=0, timestamp_ms=1_800_000_000_000)
        assert fleet.cluster.log(TURNS, 0).end == 1
        await fleet.until(lambda: fleet.terminals())
        (name,) = fleet.terminals()
        assert name == "s1~at-0-0-1800000000000"
        assert worker.system.metrics.counts["moved"][""] == 1
        await fleet.until(fleet.committed_everything)


async def test_structured_cloudevents_are_read_and_their_id_is_the_turn() -> None:
    async with MemoryFleet() as fleet:
        await fleet.worker()
        event = {"specversion": "1.0", "id": "not a legal id!", "type": "turnfleet.turn.v1", "data": {"text": "x"}}
        headers = (("content-type", b"application/cloudevents+json; charset=utf-8"),)
        fleet.raw(TURNS, b"s1", json.dumps(event).encode(), headers=headers)
        await fleet.until(lambda: fleet.terminals())
        (name,) = fleet.terminals()
        assert name.startswith("s1~ce-")


async def test_resent_turns_change_nothing() -> None:
    async with MemoryFleet() as fleet:
        await fleet.worker()
        rng = random.Random(7)
        for n in range(40):
            for _ in range(rng.randint(1, 5)):
                fleet.turn(f"s{n % 4}", str(n), turn=f"t{n}")
        await fleet.until(lambda: len(fleet.terminals()) == 40)
        await fleet.until(fleet.committed_everything)
        assert all(len(frames) == 1 for frames in fleet.terminals().values())
        for session in range(4):
            assert (await fleet.state(f"s{session}")).turns == 10


async def test_a_third_worker_joins_and_one_dies_and_every_turn_has_one_outcome_in_order() -> None:
    async with MemoryFleet(worker_slots=64) as fleet:
        await fleet.worker()
        await fleet.worker()
        for n in range(10):
            for session in range(50):
                fleet.turn(f"s{session}", str(n), turn=f"t{n}")
            await asyncio.sleep(0)
            if n == 3:
                await fleet.worker()
            if n == 6:
                _, victim = fleet.workers[0]
                victim.silence()  # neither heartbeats nor commits: a zombie that still appends and publishes
        await fleet.until(lambda: len(fleet.terminals()) == 500, timeout_s=30)
        assert all(len(frames) == 1 for frames in fleet.terminals().values())
        for session in range(50):
            history = [item.text for item in (await fleet.state(f"s{session}")).history]
            assert history == [str(n) for n in range(10) for _ in range(2)]


async def test_a_rebalance_does_not_disturb_running_turns_of_kept_partitions() -> None:
    door = Door()
    async with MemoryFleet(door.spec(), default="door") as fleet:
        first = await fleet.worker()
        for session in range(24):
            fleet.turn(f"s{session}", turn="t1")
        await fleet.until(lambda: len(door.inside) == 24)
        await fleet.worker()
        await fleet.until(lambda: len(first.system.partitions) < 12)
        door.open.set()
        await fleet.until(lambda: len(fleet.terminals()) == 24)
        kept = [f for frames in fleet.terminals().values() for f in frames if f["attempt"] == 1]
        moved = [f for frames in fleet.terminals().values() for f in frames if f["attempt"] == 2]
        assert len(kept) + len(moved) == 24
        assert len(kept) > 4
        assert first.system.metrics.counts["turns_started"][""] == 24  # none of the kept ones was run twice
        await fleet.until(fleet.committed_everything)


async def test_drain_hands_running_turns_over_without_counting_a_try() -> None:
    door = Door()
    async with MemoryFleet(door.spec(), default="door", worker_drain_s=0.05) as fleet:
        first = await fleet.worker()
        fleet.turn("s1", turn="t1")
        await fleet.until(lambda: door.inside)
        await first.drain()
        assert not fleet.terminals()
        rows = [fleet.store.log.rows["default/s1", v].kind for v in (1, 2)]
        assert rows == ["claim", "release"]
        door.open.set()
        await fleet.worker()
        await fleet.until(lambda: fleet.terminals())
        (frame,) = fleet.terminals()["s1~t1"]
        assert (frame["type"], frame["attempt"]) == ("completed", 2)
        state = await fleet.state("s1")
        assert state.turns == 1
        fleet.workers.pop(0)


async def test_cancel_stops_a_running_turn_and_keeps_nothing_of_it_twice() -> None:
    door = Door()
    async with MemoryFleet(door.spec(), default="door") as fleet:
        await fleet.worker()
        fleet.turn("s1", turn="t1")
        await fleet.until(lambda: door.inside)
        fleet.control("s1", op="c1", kind="cancel", turn="t1")
        await fleet.until(lambda: fleet.frames("s1", "ack"))
        assert fleet.frames("s1", "ack")[0]["state"] == "applied"
        assert [f["type"] for f in fleet.terminals()["s1~t1"]] == ["cancelled"]
        assert not door.inside


async def test_a_turn_that_was_ended_while_its_agent_was_built_never_runs() -> None:
    """The build comes to its end while the FINISH is on its way: its STEP would make the session unreadable."""
    built, stored, ran = asyncio.Event(), asyncio.Event(), []

    class Stepping:
        async def run(self, turn: AgentTurn, ctx: Context) -> str:
            ran.append(turn.id)
            await ctx.step("one", lambda: 1)
            return "done"

    async def build(spec: AgentSpec, session: SessionInfo) -> Stepping:
        await built.wait()
        return Stepping()

    async def gate(call: Call) -> None:
        if call.operation == "insert" and any(row.kind == "finish" for row in call.arguments[0]):
            await stored.wait()

    async with MemoryFleet(AgentSpec("stepping", "1", build), default="stepping") as fleet:
        await fleet.worker()
        fleet.turn("s1", turn="t1")
        await fleet.until(lambda: fleet.store.log.rows)
        fleet.store.log.gate = gate
        fleet.turn("s1", turn="t2", if_busy="interrupt")
        fleet.turn("s1", turn="t3")
        await fleet.until(lambda: fleet.workers[0][0].system.commit.in_flight)
        built.set()
        await asyncio.sleep(0.02)
        stored.set()
        await fleet.until(lambda: len(fleet.terminals()) == 3)
        outcomes = {name: [frame["type"] for frame in frames] for name, frames in fleet.terminals().items()}
        assert outcomes == {"s1~t1": ["cancelled"], "s1~t2": ["completed"], "s1~t3": ["completed"]}
        assert ran == ["t2", "t3"]
        assert (await fleet.state("s1")).open is None


async def test_who_begins_to_watch_a_running_turn_is_told_the_answer_so_far() -> None:
    opened = asyncio.Event()

    @agent(name="slow", version="1")
    async def slow(turn: AgentTurn, ctx: Context) -> None:
        ctx.emit("so far ")
        await opened.wait()
        ctx.emit("and on")

    async with MemoryFleet(slow, default="slow") as fleet:
        await fleet.worker()
        fleet.raw(TURNS, b"s1", b'{"text":"x","turn":"t1"}', headers=(("reply_to", b"0:gw0"),))
        await fleet.until(lambda: fleet.frames("s1", "delta"))
        fleet.raw(CONTROL, b"s1", b'{"op":"w","kind":"watch","user":"anonymous"}', headers=(("reply_to", b"3:gw3"),))
        await fleet.until(lambda: fleet.frames("s1", "reset"))
        opened.set()
        await fleet.until(lambda: fleet.terminals())
        there = [json.loads(record.value or b"") for record in fleet.cluster.log("agent.replies", 3).records]
        text = ""
        for frame in there:
            text = frame["text"] if frame["type"] == "reset" else text + frame.get("text", "")
            if frame["type"] == "completed":
                text = text.removesuffix(frame["text"])
                assert text == frame["text"] == "so far and on"
        assert "completed" in {frame["type"] for frame in there}


async def test_the_store_may_be_gone_for_a_while_and_work_resumes_by_itself() -> None:
    async with MemoryFleet() as fleet:
        worker = await fleet.worker()
        fleet.turn("s1", turn="t1")
        await fleet.until(lambda: fleet.terminals())
        down = True

        async def gate(call: Call) -> None:
            if down:
                raise StoreUnavailable("the test took the store away")

        fleet.store.log.gate = gate
        fleet.turn("s1", turn="t2")
        fleet.turn("s9", turn="t3")
        await asyncio.sleep(0.1)
        assert len(fleet.terminals()) == 1
        down = False
        await fleet.until(lambda: len(fleet.terminals()) == 3)
        assert not worker.stopping.is_set()


async def test_an_ambiguous_append_is_settled_by_its_nonce() -> None:
    async with MemoryFleet() as fleet:
        await fleet.worker()
        lost = 0

        async def gate(call: Call) -> None:
            nonlocal lost
            if call.operation == "insert" and call.phase == "after" and lost < 5:
                lost += 1
                raise StoreUnavailable("applied, but the answer is lost")

        fleet.store.log.gate = gate
        for n in range(3):
            fleet.turn("s1", str(n), turn=f"t{n}")
        await fleet.until(lambda: len(fleet.terminals()) == 3)
        assert lost == 5
        assert (await fleet.state("s1")).turns == 3


async def test_an_idle_session_is_swept_with_all_that_belongs_to_it() -> None:
    now_ms = [1_900_000_000_000]
    fleet = MemoryFleet()
    fleet.clock_ms = fleet.cluster.clock_ms = lambda: now_ms[0]
    fleet.sessions = SessionSettings(session_idle_s=60, sweep_interval_s=0.02, session_keep_keys_s=60)
    async with fleet:
        await fleet.worker()
        fleet.turn("s1", "secret", turn="t1")
        await fleet.until(lambda: fleet.terminals())
        await asyncio.sleep(1.2)  # the directory is written once a second
        now_ms[0] += 61_000
        await fleet.until(lambda: any(row.kind == "close" for row in fleet.store.log.rows.values()))
        await fleet.until(fleet.committed_everything)
        left = [row for row in fleet.store.log.rows.values() if row.s == "default/s1" and row.kind != "close"]
        assert left
        assert all(row.body is None and row.frames == () for row in left)
        fleet.turn("s1", "new", turn="t2")
        await fleet.until(lambda: "s1~t2" in fleet.terminals())
        assert [item.text for item in (await fleet.state("s1")).history] == ["new", "new"]
        fleet.control("s1", op="d1", kind="delete", user="anonymous")
        await fleet.until(lambda: [f for f in fleet.frames("s1", "ack") if f["op"] == "d1"])
        await asyncio.sleep(1.2)
        now_ms[0] += 200_000
        await fleet.until(lambda: not any(s == "default/s1" for s, _ in fleet.store.log.rows))


async def test_a_deleted_sessions_turns_may_not_run_again() -> None:
    async with MemoryFleet() as fleet:
        await fleet.worker()
        fleet.turn("s1", "secret", turn="t1")
        await fleet.until(lambda: fleet.terminals())
        fleet.control("s1", op="d1", kind="delete", user="anonymous")
        await fleet.until(lambda: fleet.frames("s1", "ack"))
        fleet.turn("s1", "secret", turn="t1")
        await fleet.until(fleet.committed_everything)
        assert (await fleet.state("s1")).opened is None
        assert len(fleet.frames("s1", "completed")) == 1
