"""Warm sessions: what is kept, what goes, and what is counted."""

from __future__ import annotations

from workers.pool import SessionPool


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def pool_of(max_bytes: int = 100, idle_s: float = 10, clock: Clock | None = None) -> SessionPool[str]:
    return SessionPool(max_bytes, idle_s, clock_s=clock or Clock())


def test_the_least_recently_used_leaves_first_when_bytes_are_short() -> None:
    pool = pool_of()
    pool.put("t/a", "A", 40)
    pool.put("t/b", "B", 40)
    assert pool.get("t/a") == "A"
    pool.put("t/c", "C", 40)
    assert list(pool) == ["t/a", "t/c"]
    assert pool.stats.evictions["bytes"] == 1


def test_a_busy_session_is_never_evicted_and_the_pool_says_that_it_is_over_budget() -> None:
    pool = pool_of()
    pool.put("t/a", "A", 80)
    assert pool.pin("t/a")
    pool.put("t/b", "B", 80)
    assert list(pool) == ["t/a"]
    pool.put("t/a", "A2", 300)
    assert pool.over_budget
    pool.unpin("t/a")
    assert len(pool) == 0
    assert not pool.over_budget


def test_an_idle_session_is_gone_when_it_is_asked_for() -> None:
    clock = Clock()
    pool = pool_of(clock=clock)
    pool.put("t/a", "A", 1)
    clock.now_s = 9.9
    assert pool.get("t/a") == "A"
    clock.now_s = 20.0
    assert pool.get("t/a") is None
    assert pool.stats.evictions["idle"] == 1
    assert (pool.stats.hits, pool.stats.misses) == (1, 1)


def test_sessions_of_a_lost_partition_are_dropped_even_if_they_are_busy() -> None:
    pool = pool_of()
    for name in "abc":
        pool.put(f"t/{name}", name, 1)
    pool.pin("t/a")
    assert pool.drop_where(lambda key: key != "t/c") == 2
    assert list(pool) == ["t/c"]
    pool.unpin("t/a")
    assert list(pool) == ["t/c"]


def test_who_leaves_is_told_with_the_reason() -> None:
    told: list[tuple[str, str, str]] = []
    pool: SessionPool[str] = SessionPool(
        10, 10, clock_s=Clock(), on_evict=lambda key, value, reason: told.append((key, value, reason))
    )
    pool.put("t/a", "A", 6)
    pool.put("t/a", "A2", 6)
    pool.put("t/b", "B", 6)
    pool.drop("t/b")
    assert told == [("t/a", "A", "replaced"), ("t/a", "A2", "bytes"), ("t/b", "B", "dropped")]
