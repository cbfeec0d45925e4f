"""A profile's values are JSON's: true is not 1."""

from __future__ import annotations

import pytest
from pydantic import JsonValue

from journal import profiles
from journal.memory_parts import MemoryProfiles


@pytest.mark.parametrize(("old", "new"), [(1, True), (True, 1), (0, False), ({"on": [1]}, {"on": [True]})])
async def test_a_truth_in_place_of_a_number_is_a_change(old: JsonValue, new: JsonValue) -> None:
    store = MemoryProfiles()
    whose = ("acme", "ann")
    await profiles.change(store, whose, lambda _: ("", {"likes": old}), now_ms=1)
    changed = await profiles.change(store, whose, lambda _: ("", {"likes": new}), now_ms=2)
    assert changed.version == 2
    assert repr((await profiles.read(store, *whose)).facts) == repr({"likes": new})
