"""What the pins of MCP tools promise, real mongod and twin alike."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from journal.port import Pin, Store

PIN = Pin("files", "read/it", "d1", "d1", "text 1", 1)


async def test_the_first_sight_of_a_tool_holds(store: Store) -> None:
    assert await store.pins.of(["files"]) == []
    assert await store.pins.first(PIN) == PIN
    assert await store.pins.first(replace(PIN, accepted="d2", offered="d2", text="text 2", at_ms=2)) == PIN
    assert await store.pins.of(["files", "other"]) == [PIN]
    assert await store.pins.of(["other"]) == []
    assert await store.pins.of([]) == []


async def test_of_many_that_see_a_tool_first_one_holds(store: Store) -> None:
    seen = [replace(PIN, accepted=None, offered=f"d{n}", text=f"text {n}") for n in range(8)]
    held = await asyncio.gather(*(store.pins.first(pin) for pin in seen))
    assert len(set(held)) == 1
    assert await store.pins.of(["files"]) == [held[0]]


async def test_what_is_offered_changes_and_what_is_accepted_stays(store: Store) -> None:
    changed = replace(PIN, accepted="never", offered="d2", text="text 2", at_ms=2)
    await store.pins.offer(changed)
    assert await store.pins.of(["files"]) == []  # there was none to change

    await store.pins.first(PIN)
    await store.pins.offer(changed)
    assert await store.pins.of(["files"]) == [replace(changed, accepted="d1")]


async def test_only_what_is_offered_now_is_accepted(store: Store) -> None:
    assert not await store.pins.accept("files", "read/it", "d1")
    await store.pins.first(replace(PIN, accepted=None))
    assert not await store.pins.accept("files", "read/it", "d2")
    assert (await store.pins.of(["files"]))[0].accepted is None

    assert await store.pins.accept("files", "read/it", "d1")
    assert await store.pins.accept("files", "read/it", "d1")
    assert await store.pins.of(["files"]) == [PIN]


async def test_an_acceptance_is_taken_back_and_a_first_sight_does_not_bring_it_again(store: Store) -> None:
    await store.pins.first(PIN)
    assert await store.pins.accept("files", "read/it", None)
    assert await store.pins.first(PIN) == replace(PIN, accepted=None)
    assert not await store.pins.accept("files", "nothing", None)


async def test_pins_are_listed_in_order(store: Store) -> None:
    for server, tool in (("b", "x"), ("a", "y"), ("b", "a"), ("a", "b")):
        await store.pins.first(replace(PIN, server=server, tool=tool))
    found = await store.pins.of(["b", "a"])
    assert [(pin.server, pin.tool) for pin in found] == [("a", "b"), ("a", "y"), ("b", "a"), ("b", "x")]
