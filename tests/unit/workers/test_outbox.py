"""What a worker publishes, and when."""

from __future__ import annotations

from collections.abc import Callable

from broker.port import Acked, Outgoing, Position
from schemas.receipt import Receipt
from workers.outbox import Outbox


class Kept:
    """A publisher that keeps what it is given."""

    def __init__(self) -> None:
        self.out: list[Outgoing] = []
        self.acks: list[Acked | None] = []

    def partition_count(self, topic: str) -> int:
        return 4

    async def start(self) -> None: ...
    def publish(self, outgoing: Outgoing, acked: Acked | None = None) -> None:
        self.out.append(outgoing)
        self.acks.append(acked)

    async def send(self, outgoing: Outgoing) -> Position:
        raise NotImplementedError

    async def flush(self) -> None: ...
    async def stop(self) -> None: ...


def receipt(turn: str) -> Receipt:
    return Receipt("default", "s", turn, "u", "echo", "completed", 1, 5)


def outbox() -> tuple[Outbox, Kept, list[Callable[[], None]]]:
    kept, timers = Kept(), list[Callable[[], None]]()
    return Outbox(kept, call_later=lambda _seconds, call: timers.append(call)), kept, timers


def test_receipts_are_published_with_their_neighbours_in_order_and_once() -> None:
    box, kept, timers = outbox()
    box.receipt(receipt("t1"))
    box.receipt(receipt("t2"))
    assert (kept.out, len(timers)) == ([], 1)
    timers.pop()()
    assert [b'"turn":"t1"' in kept.out[0].value, b'"turn":"t2"' in kept.out[1].value] == [True, True]  # type: ignore[operator]
    box.flush()
    assert len(kept.out) == 2
    box.receipt(receipt("t3"))
    assert len(timers) == 1


def test_a_frame_to_many_places_is_acknowledged_after_the_last_one() -> None:
    box, kept, _ = outbox()
    heard: list[Exception | None] = []
    box.frame("default/s", b"{}", frozenset((None, "1:g1", "2:g2")), heard.append)
    assert {one.partition for one in kept.out} >= {1, 2}
    assert [one.headers for one in kept.out if one.partition == 1 and one.headers] == [(("reply_to", b"1:g1"),)]
    for acked in kept.acks[:2]:
        assert acked is not None
        acked(None)
    assert heard == []
    assert kept.acks[2] is not None
    kept.acks[2](None)
    assert heard == [None]
