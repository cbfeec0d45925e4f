"""What waits for one connection: bounded, joined, in order."""

from __future__ import annotations

import asyncio
import json

from gateway.outbox import Outbox
from tests.unit.gateway.frames import completed, delta, started


def outbox(max_bytes: int = 1_000_000) -> tuple[Outbox, list[str]]:
    over: list[str] = []
    return Outbox(max_bytes, lambda: over.append("over")), over


async def taken(box: Outbox) -> list[dict[str, object]]:
    frames = []
    while len(box):
        item = await box.take()
        assert item is not None
        frames.append(json.loads(item[0]))
    return frames


async def test_frames_leave_verbatim_and_in_order() -> None:
    box, _ = outbox()
    for event in (started(), delta(1, "a"), completed(2, "a")):
        box.put(event)

    assert [(await box.take() or ("",))[0] for _ in range(3)] == [
        started().raw, delta(1, "a").raw, completed(2, "a").raw,
    ]  # fmt: skip


async def test_deltas_of_a_message_that_wait_are_joined_and_have_the_last_seq() -> None:
    box, _ = outbox()
    for seq, text in enumerate("héllo", 1):
        box.put(delta(seq, text))

    frames = await taken(box)
    assert [(frame["text"], frame["seq"]) for frame in frames] == [("héllo", 5)]
    assert box.joined == 4
    assert box.bytes == 0


async def test_deltas_are_not_joined_over_another_frame_message_attempt_or_turn() -> None:
    box, _ = outbox()
    events = [
        delta(1, "a"), started(2), delta(3, "b"), delta(4, "c", message="t~2"), delta(0, "d", attempt=2, message="t~2"),
        delta(1, "e", turn="u"), delta(2, "f", run="r1"),
    ]  # fmt: skip
    for event in events:
        box.put(event)

    assert len(await taken(box)) == len(events)


async def test_deltas_of_two_turns_are_joined_each_for_itself() -> None:
    box, _ = outbox()
    for seq in range(3):
        box.put(delta(seq, "a", turn="t"))
        box.put(delta(seq, "b", turn="u"))

    assert [frame["text"] for frame in await taken(box)] == ["aaa", "bbb"]


async def test_a_delta_that_is_on_its_way_is_not_joined_any_more() -> None:
    box, _ = outbox()
    box.put(delta(1, "a"))
    first = await box.take()
    box.put(delta(2, "b"))

    assert first is not None
    assert [frame["text"] for frame in await taken(box)] == ["b"]


async def test_over_the_limit_the_queue_is_dropped_and_somebody_is_told_once() -> None:
    box, over = outbox(10_000)
    for seq in range(100):
        box.put(started(seq))

    assert over == ["over"]
    assert box.overflowed
    assert box.bytes == 0
    assert await box.take() is None


async def test_a_slow_reader_of_deltas_holds_little_more_than_their_text() -> None:
    box, over = outbox(200_000)
    for seq in range(10_000):
        box.put(delta(seq, "0123456789"))

    assert over == []
    assert "".join(str(frame["text"]) for frame in await taken(box)) == "0123456789" * 10_000


async def test_a_taker_waits_and_wakes() -> None:
    box, _ = outbox()
    taking = asyncio.create_task(box.take())
    await asyncio.sleep(0)
    box.put(delta(1, "a"))
    item = await taking
    closing = asyncio.create_task(box.take())
    await asyncio.sleep(0)
    box.close()

    assert item is not None
    assert await closing is None


async def test_what_is_larger_than_the_queue_gets_there_all_the_same() -> None:
    box, over = outbox(1_048_576)
    largest = "x" * 500_000 + "😀"  # as Python holds it: four bytes for each character
    box.say(json.dumps({"type": "recovered", "text": largest}, ensure_ascii=False))
    box.put(completed(2, largest))

    assert over == []
    assert [frame["text"] for frame in await taken(box)] == [largest, largest]
    assert box.bytes == 0


async def test_many_that_are_large_do_not() -> None:
    box, over = outbox(1_048_576)
    for seq in range(8):
        box.put(completed(seq, "x" * 500_000, turn=f"t{seq}"))

    assert over == ["over"]
