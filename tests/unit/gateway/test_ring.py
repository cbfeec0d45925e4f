"""The recent frames of recent turns: bounded."""

from __future__ import annotations

from gateway.ring import Ring
from tests.unit.gateway.frames import completed, delta, started


def key(turn: str) -> tuple[str, str, str]:
    return ("default", "s", turn)


def test_the_turn_that_was_touched_last_goes_last() -> None:
    ring = Ring(max_turns=2, max_bytes=10_000_000)
    ring.add(started(turn="a"))
    ring.add(started(turn="b"))
    ring.add(delta(1, "x", turn="a"))
    ring.add(started(turn="c"))

    assert ring.get(key("b")) is None
    assert [log.key[2] for log in ring.of_session(("default", "s"))] == ["a", "c"]


def test_bytes_are_bounded_whatever_comes() -> None:
    ring = Ring(max_turns=1_000, max_bytes=100_000)
    for turn in range(50):
        for seq in range(20):
            ring.add(delta(seq, "x" * 500, turn=f"t{turn}"))
            assert ring.bytes <= 101_000

    assert 0 < len(ring) < 50
    assert ring.bytes == sum(log.size for log in ring.of_session(("default", "s")))


def test_one_turn_cannot_push_out_all_others() -> None:
    ring = Ring(max_turns=1_000, max_bytes=1_600_000)
    ring.add(completed(0, "small", turn="small"))
    for seq in range(2_000):
        ring.add(delta(seq, "x" * 20, turn="big"))

    small, big = ring.get(key("small")), ring.get(key("big"))
    assert small is not None
    assert small.terminal is not None
    assert big is not None
    assert big.size <= 100_000
    assert big.text_at(big.last) == "x" * 20 * 2_000


def test_a_text_that_is_larger_than_a_turns_share_is_not_kept() -> None:
    ring = Ring(max_turns=1_000, max_bytes=160_000)
    for seq in range(2_000):
        ring.add(delta(seq, "x" * 200, turn="big"))

    big = ring.get(key("big"))
    assert ring.bytes <= 20_000
    assert big is not None
    assert big.text_at(big.last) is None


def test_a_session_can_be_forgotten() -> None:
    ring = Ring(max_turns=10, max_bytes=100_000)
    ring.add(started(turn="a"))
    ring.drop_session(("default", "s"))

    assert len(ring) == 0
    assert ring.bytes == 0
    assert ring.of_session(("default", "s")) == []
