"""What the budgets port promises, real mongod and twin alike."""

from __future__ import annotations

import asyncio
import random

from journal.port import SLOT_MS, Cap, Store
from schemas.receipt import Spending

NOW_MS = 1_800_000_000_000
UNTIL_MS = NOW_MS + 60_000
KEY = "user/t/$we.ird/20834"


async def reserve(store: Store, tokens: int, nanos: int = 0, *, cap: Cap, key: str = KEY, now_ms: int = NOW_MS) -> bool:
    return await store.budgets.reserve(key, Spending(tokens, nanos), cap, now_ms=now_ms, until_ms=now_ms + 60_000)


async def test_what_fits_is_reserved_and_what_does_not_is_refused(store: Store) -> None:
    cap = Cap(tokens=100)
    assert not await reserve(store, 101, cap=cap)
    assert await reserve(store, 60, cap=cap)
    assert not await reserve(store, 41, cap=cap)
    assert await reserve(store, 40, cap=cap)
    assert await reserve(store, 100, cap=cap, key="user/t/other/20834")
    assert not await reserve(store, 1, cap=cap)


async def test_either_limit_refuses(store: Store) -> None:
    cap = Cap(tokens=100, nanos=5_000_000_000_000)
    assert await reserve(store, 10, 4_000_000_000_000, cap=cap)
    assert not await reserve(store, 10, 1_000_000_000_001, cap=cap)
    assert await reserve(store, 90, 0, cap=cap)
    assert not await reserve(store, 1, 0, cap=cap)
    assert await reserve(store, 0, 1_000_000_000_000, cap=cap)


async def test_what_a_call_did_cost_counts_in_place_of_what_was_reserved(store: Store) -> None:
    cap = Cap(tokens=100)
    assert await reserve(store, 90, cap=cap)
    await store.budgets.settle(KEY, Spending(90, 0), Spending(30, 7), until_ms=UNTIL_MS)
    assert await store.budgets.spent(KEY) == Spending(30, 7)
    assert not await reserve(store, 71, cap=cap)
    assert await reserve(store, 70, cap=cap)
    assert await store.budgets.spent("nobody") == Spending()


async def test_what_a_dead_worker_reserved_is_free_again_and_what_it_spent_is_not(store: Store) -> None:
    cap = Cap(tokens=100)
    assert await reserve(store, 30, cap=cap)
    await store.budgets.settle(KEY, Spending(30, 0), Spending(30, 0), until_ms=UNTIL_MS)
    assert await reserve(store, 70, cap=cap)
    assert not await reserve(store, 1, cap=cap, now_ms=UNTIL_MS)  # it holds until then at least
    later_ms = UNTIL_MS + SLOT_MS
    assert not await reserve(store, 71, cap=cap, now_ms=later_ms)
    assert await reserve(store, 70, cap=cap, now_ms=later_ms)
    await store.budgets.settle(KEY, Spending(70, 0), Spending(20, 0), until_ms=UNTIL_MS)  # late, not dead
    assert await store.budgets.spent(KEY) == Spending(50, 0)


async def test_a_thousand_at_once_never_exceed_the_budget(store: Store) -> None:
    """From nothing, so that the first of them race to make the key; some settle while others ask."""
    chances = random.Random(7)
    cap = Cap(tokens=5_000, nanos=400_000)
    out = most = Spending()
    granted = 0

    async def call() -> None:
        nonlocal out, most, granted
        amount = Spending(chances.randint(1, 50), chances.randint(0, 4_000))
        if not await store.budgets.reserve(KEY, amount, cap, now_ms=NOW_MS, until_ms=UNTIL_MS):
            return
        granted += 1
        out = out.plus(amount)
        most = max(most, out)
        assert cap.allows(out), out
        await asyncio.sleep(0)
        spent = Spending(amount.tokens // 2, amount.nanos // 2)
        out = out.plus(Spending(spent.tokens - amount.tokens, spent.nanos - amount.nanos))
        await store.budgets.settle(KEY, amount, spent, until_ms=UNTIL_MS)

    await asyncio.gather(*(call() for _ in range(1_000)))
    spent = await store.budgets.spent(KEY)
    assert spent == out
    assert cap.allows(spent)
    assert granted > 100
    assert spent.tokens > 1_000
