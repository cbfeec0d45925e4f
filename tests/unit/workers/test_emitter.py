"""Frames of one attempt: numbered, deltas joined, nothing after the end."""

from __future__ import annotations

import json
from typing import Any

from schemas.frames import StateChanged, StepDone
from tests.support.stage import NOON_MS, Time
from workers.emitter import MAX_DELTA_CHARS, Emitter, FrameIds


class Wire:
    def __init__(self, delta_ms: int = 50) -> None:
        self.time = Time()
        self.frames: list[dict[str, Any]] = []
        self.emitter = Emitter(
            FrameIds("default", "s1", "t1", 1, "chat", "1", "w1", 7),
            lambda raw: self.frames.append(json.loads(raw)),
            clock_ms=self.time.clock_ms,
            call_later=self.time.call_later,
            delta_ms=delta_ms,
        )

    @property
    def texts(self) -> list[str]:
        return [frame["text"] for frame in self.frames if frame["type"] in {"delta", "reasoning"}]


def test_the_first_delta_goes_out_at_once_after_started() -> None:
    wire = Wire()
    wire.emitter.delta("t1~1", "He")
    assert wire.frames == [
        {
            "tenant": "default",
            "session": "s1",
            "turn": "t1",
            "attempt": 1,
            "seq": 0,
            "at_ms": NOON_MS,
            "type": "started",
            "agent": "chat",
            "agent_version": "1",
            "worker": "w1",
            "journal_version": 7,
        },
        {
            "tenant": "default",
            "session": "s1",
            "turn": "t1",
            "attempt": 1,
            "seq": 1,
            "at_ms": NOON_MS,
            "type": "delta",
            "message": "t1~1",
            "text": "He",
        },
    ]


def test_deltas_are_joined_to_one_frame_per_interval() -> None:
    wire = Wire()
    for n in range(200):
        wire.emitter.delta("t1~1", f"{n} ")
        wire.time.advance(0.005)
    wire.emitter.flush()
    assert "".join(wire.texts) == "".join(f"{n} " for n in range(200))
    assert 20 <= len(wire.texts) <= 22
    assert [frame["seq"] for frame in wire.frames] == list(range(len(wire.frames)))


def test_a_delta_after_a_pause_does_not_wait() -> None:
    wire = Wire()
    wire.emitter.delta("t1~1", "a")
    wire.time.advance(0.2)
    wire.emitter.delta("t1~1", "b")
    assert wire.texts == ["a", "b"]


def test_a_delta_waits_at_most_one_interval_even_if_the_wall_clock_goes_back() -> None:
    wire = Wire()
    wire.emitter.delta("t1~1", "a")
    wire.time.now_s -= 3600
    wire.emitter.delta("t1~1", "b")
    wire.time.advance(0.05)
    assert wire.texts == ["a", "b"]


def test_text_of_another_message_or_kind_is_not_joined() -> None:
    wire = Wire()
    wire.emitter.delta("t1~1", "think", "reasoning")
    wire.emitter.delta("t1~1", "a")
    wire.emitter.delta("t1~2", "b")
    wire.emitter.flush()
    assert [(f["type"], f["message"], f["text"]) for f in wire.frames[1:]] == [
        ("reasoning", "t1~1", "think"),
        ("delta", "t1~1", "a"),
        ("delta", "t1~2", "b"),
    ]


def test_other_frames_go_out_after_the_text_that_waits() -> None:
    wire = Wire()
    wire.emitter.delta("t1~1", "a")
    wire.emitter.delta("t1~1", "b")
    wire.emitter.send(StepDone, step=0, kind="model", name="model")
    assert [frame["type"] for frame in wire.frames] == ["started", "delta", "delta", "step"]
    assert wire.time.armed == 0


def test_a_turn_that_sends_nothing_has_a_terminal_frame_with_seq_0() -> None:
    wire = Wire()
    assert wire.emitter.next_seq() == 0
    assert wire.frames == []


def test_started_is_said_once() -> None:
    wire = Wire()
    wire.emitter.announce()
    wire.emitter.announce()
    wire.emitter.send(StateChanged, name="plan", value=[1])
    assert [frame["type"] for frame in wire.frames] == ["started", "state"]
    assert wire.emitter.next_seq() == 2


def test_a_reset_drops_the_text_that_waits() -> None:
    wire = Wire()
    wire.emitter.delta("t1~1", "a")
    wire.emitter.delta("t1~1", "b")
    wire.emitter.reset("retry", -1, "")
    wire.time.advance(1)
    assert wire.texts == ["a"]
    assert wire.frames[-1] | {"at_ms": 0} == {
        "tenant": "default",
        "session": "s1",
        "turn": "t1",
        "attempt": 1,
        "seq": 2,
        "at_ms": 0,
        "type": "reset",
        "reason": "retry",
        "step": -1,
        "text": "",
    }


def test_the_terminal_number_comes_after_the_text_that_waited() -> None:
    wire = Wire()
    wire.emitter.delta("t1~1", "a")
    wire.emitter.delta("t1~1", "b")
    assert wire.emitter.next_seq() == 3
    assert wire.texts == ["a", "b"]


def test_nothing_is_sent_after_close() -> None:
    wire = Wire()
    wire.emitter.delta("t1~1", "a")
    wire.emitter.delta("t1~1", "b")
    wire.emitter.close()
    wire.emitter.delta("t1~1", "c")
    wire.emitter.send(StepDone, step=0, kind="model", name="model")
    wire.emitter.announce()
    wire.time.advance(1)
    assert wire.texts == ["a"]
    assert wire.time.armed == 0


def test_a_huge_delta_is_split_so_that_no_frame_passes_its_limit() -> None:
    wire = Wire()
    wire.emitter.delta("t1~1", "\x01" * (MAX_DELTA_CHARS * 2 + 1))
    assert [len(text) for text in wire.texts] == [MAX_DELTA_CHARS, MAX_DELTA_CHARS, 1]
    assert max(len(json.dumps(frame)) for frame in wire.frames) < 524_288
