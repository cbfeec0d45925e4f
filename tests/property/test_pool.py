"""The session pool against a naive model: a list, and rules spelled out."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from workers.pool import SessionPool

KEYS = st.sampled_from([f"t/{n}" for n in range(4)])
SIZES = st.sampled_from([10, 30, 40, 40, 120])
NONE = st.just(0)
# Weights by repetition: what is rare in real life (drop) is rare here, so that there is something to evict.
OPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), KEYS, SIZES),
        st.tuples(st.just("put"), KEYS, SIZES),
        st.tuples(st.just("get"), KEYS, NONE),
        st.tuples(st.just("use"), KEYS, NONE),
        st.tuples(st.just("pin"), KEYS, NONE),
        st.tuples(st.sampled_from(["unpin", "unpin", "drop", "evict"]), KEYS, NONE),
        st.tuples(st.just("wait"), KEYS, st.sampled_from([0, 1, 1, 4])),
    ),
    min_size=10,
    max_size=60,
)


@dataclass
class _Held:
    key: str
    value: int
    bytes: int
    used_s: float
    pins: int = 0


@dataclass
class _Naive:
    """Everything by scanning a list that is kept in the order of use."""

    max_bytes: int
    idle_s: float
    now_s: float = 0.0
    held: list[_Held] = field(default_factory=list)
    left: list[tuple[str, int, str]] = field(default_factory=list)

    def find(self, key: str) -> _Held | None:
        return next((item for item in self.held if item.key == key), None)

    def touch(self, item: _Held) -> None:
        item.used_s = self.now_s
        self.held.remove(item)
        self.held.append(item)

    def trim(self) -> None:
        for item in [i for i in self.held if not i.pins and self.now_s - i.used_s >= self.idle_s]:
            self.leave(item, "idle")
        while sum(i.bytes for i in self.held) > self.max_bytes:
            resting = [i for i in self.held if not i.pins]
            if not resting:
                return
            self.leave(resting[0], "bytes")

    def leave(self, item: _Held, reason: str) -> None:
        self.held.remove(item)
        self.left.append((item.key, item.value, reason))


class _Both:
    def __init__(self) -> None:
        self.naive = _Naive(max_bytes=100, idle_s=10)
        self.left: list[tuple[str, int, str]] = []
        self.pool: SessionPool[int] = SessionPool(
            100,
            10,
            clock_s=lambda: self.naive.now_s,
            on_evict=lambda key, value, reason: self.left.append((key, value, reason)),
        )
        self.count = 0

    def put(self, key: str, bytes_: int) -> None:
        self.count += 1
        self.pool.put(key, self.count, bytes_)
        item = self.naive.find(key)
        if item is None:
            self.naive.held.append(_Held(key, self.count, bytes_, self.naive.now_s))
        else:
            self.naive.left.append((key, item.value, "replaced"))
            item.value, item.bytes = self.count, bytes_
            self.naive.touch(item)
        self.naive.trim()

    def get(self, key: str, _: int) -> None:
        for item in [i for i in self.naive.held if not i.pins and self.naive.now_s - i.used_s >= self.naive.idle_s]:
            self.naive.leave(item, "idle")
        item_ = self.naive.find(key)
        if item_ is not None:
            self.naive.touch(item_)
        hits, misses = self.pool.stats.hits, self.pool.stats.misses
        assert self.pool.get(key) == (item_.value if item_ else None)
        assert (self.pool.stats.hits - hits, self.pool.stats.misses - misses) == ((1, 0) if item_ else (0, 1))

    def pin(self, key: str, _: int) -> None:
        item = self.naive.find(key)
        assert self.pool.pin(key) is (item is not None)
        if item is not None:
            item.pins += 1

    def unpin(self, key: str, _: int) -> None:
        self.pool.unpin(key)
        item = self.naive.find(key)
        if item is not None and item.pins:
            item.pins -= 1
            if not item.pins:
                self.naive.touch(item)
                self.naive.trim()

    def use(self, key: str, _: int) -> None:
        self.pin(key, 0)
        self.unpin(key, 0)

    def drop(self, key: str, _: int) -> None:
        item = self.naive.find(key)
        assert self.pool.drop(key) == (item.value if item else None)
        if item is not None:
            self.naive.leave(item, "dropped")

    def evict(self, _: str, __: int) -> None:
        self.pool.evict()
        self.naive.trim()

    def wait(self, _: str, seconds: int) -> None:
        self.naive.now_s += seconds


@settings(max_examples=300, deadline=None)
@given(OPS)
def test_the_pool_does_what_the_naive_one_does(ops: list[tuple[str, str, int]]) -> None:
    both = _Both()
    for name, key, number in ops:
        getattr(both, name)(key, number)
        held = both.naive.held
        assert both.left == both.naive.left
        assert set(both.pool) == {item.key for item in held}
        assert len(both.pool) == len(held)
        assert both.pool.bytes == sum(item.bytes for item in held)
        assert both.pool.pinned_bytes == sum(item.bytes for item in held if item.pins)
        assert both.pool.over_budget is (both.pool.bytes > 100)
        assert sum(both.pool.stats.evictions.values()) == len(both.left)


@settings(max_examples=100, deadline=None)
@given(OPS)
def test_what_is_pinned_stays_and_what_rests_is_within_the_budget(ops: list[tuple[str, str, int]]) -> None:
    both = _Both()
    for name, key, number in ops:
        before = {item.key for item in both.naive.held if item.pins}
        getattr(both, name)(key, number)
        gone = before - set(both.pool)
        assert gone <= ({key} if name in {"drop", "unpin"} else set())
        if name in {"put", "unpin", "evict"}:
            resting = both.pool.bytes - both.pool.pinned_bytes
            assert resting <= max(100 - both.pool.pinned_bytes, 0)
