"""A command's line to MongoDB. Composes the journal's adapter; knows no entry."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from fleet.exits import CommandError, Exit
from journal.mongo import MongoStore
from journal.port import Store, StoreMismatch, StoreUnavailable
from schemas.settings import MongoSettings


@contextlib.asynccontextmanager
async def opened(settings: MongoSettings) -> AsyncIterator[Store]:
    """The store, connected. Its errors are CommandError(UNREACHABLE) with what to do."""
    store = MongoStore(settings)
    try:
        await store.start()
        yield store
    except (StoreMismatch, StoreUnavailable) as error:
        raise CommandError(Exit.UNREACHABLE, str(error)) from None
    finally:
        await store.stop()
