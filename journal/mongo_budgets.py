"""What users and tenants have spent, in MongoDB, and what is reserved of it. Knows no price and no turn.

Document: {_id: key, tokens, nanos: spent, held: {<slot>: {t, n}}, gone: Date}. A reservation lies in the slot of the
moment until which it holds; slots that are past count no more, so what a dead worker reserved is free again. One
conditional update checks and reserves: of any number at once, those that fit are in.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from pymongo import ReadPreference, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern

from journal.mongo_errors import Answered
from journal.port import SLOT_MS, Cap, slot_of
from schemas.receipt import Spending

Document = dict[str, Any]
COLLECTION = "budgets"
_KEPT_MS = 3 * 86_400_000


class MongoBudgets:
    """The budgets port."""

    def __init__(self, database: AsyncDatabase[Document], *, wait_ms: int) -> None:
        self._budgets: AsyncCollection[Document] = database[COLLECTION].with_options(
            read_concern=ReadConcern("majority"),
            read_preference=ReadPreference.PRIMARY,
            write_concern=WriteConcern(w="majority", j=True, wtimeout=wait_ms),
        )

    async def start(self) -> None:
        """Create the index that drops what is over for days."""
        with Answered("create indexes"):
            await self._budgets.create_index("gone", expireAfterSeconds=0)

    async def reserve(self, key: str, amount: Spending, cap: Cap, *, now_ms: int, until_ms: int) -> bool:
        if not cap.allows(amount):
            return False
        with Answered("reserve"):
            if await self._add(key, amount, cap, now_ms, until_ms):
                return True
            try:
                await self._budgets.insert_one(
                    {
                        "_id": key,
                        "tokens": 0,
                        "nanos": 0,
                        "held": {str(slot_of(until_ms)): {"t": amount.tokens, "n": amount.nanos}},
                        "gone": _gone(until_ms),
                    }
                )
            except DuplicateKeyError:  # it is there: full, or somebody else's was the first
                return await self._add(key, amount, cap, now_ms, until_ms)
            return True

    async def _add(self, key: str, amount: Spending, cap: Cap, now_ms: int, until_ms: int) -> bool:
        slot = slot_of(until_ms)
        fits = [
            {"$lte": [{"$add": [f"${field}", _live(letter, now_ms), new]}, limit]}
            for field, letter, new, limit in (
                ("tokens", "t", amount.tokens, cap.tokens),
                ("nanos", "n", amount.nanos, cap.nanos),
            )
            if limit is not None
        ]
        change = {
            "$inc": {f"held.{slot}.t": amount.tokens, f"held.{slot}.n": amount.nanos},
            "$max": {"gone": _gone(until_ms)},
        }
        found = await self._budgets.find_one_and_update(
            {"_id": key, "$expr": {"$and": fits}}, change, projection={"_id": True}
        )
        return found is not None

    async def settle(self, key: str, reserved: Spending, spent: Spending, *, until_ms: int) -> None:
        slot = slot_of(until_ms)
        change = {
            "tokens": spent.tokens,
            "nanos": spent.nanos,
            f"held.{slot}.t": -reserved.tokens,
            f"held.{slot}.n": -reserved.nanos,
        }
        with Answered("settle"):
            await self._budgets.update_one({"_id": key}, {"$inc": change})

    async def spent(self, key: str) -> Spending:
        with Answered("budget"):
            found = await self._budgets.find_one({"_id": key}, {"tokens": True, "nanos": True})
        return Spending() if found is None else Spending(found["tokens"], found["nanos"])


def _gone(until_ms: int) -> datetime:
    """When a key may be dropped that is reserved from until then."""
    return datetime.fromtimestamp((until_ms + _KEPT_MS) / 1_000, UTC)


def _live(letter: str, now_ms: int) -> Document:
    """The sum of what is reserved in slots that are not past."""
    slots = {"$objectToArray": "$held"}
    ahead = {"$filter": {"input": slots, "cond": {"$gt": [{"$toLong": "$$this.k"}, now_ms // SLOT_MS]}}}
    return {"$sum": {"$map": {"input": ahead, "in": f"$$this.v.{letter}"}}}
