"""The fixture that runs a test against both stores: the twin in memory and a real mongod. Knows nothing of the test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from journal.memory import MemoryStore
from journal.mongo import MongoStore
from journal.port import Store
from tests.support.mongod import Mongo


@pytest.fixture(params=["memory", "mongod"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """A started store with a database of its own."""
    if request.param == "memory":
        yield MemoryStore()
        return
    running: Mongo = request.getfixturevalue("mongo")
    real = MongoStore(running.settings())
    await real.start()
    try:
        yield real
    finally:
        await real.stop()
