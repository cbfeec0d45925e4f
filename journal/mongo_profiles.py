"""Users' profiles in MongoDB. Knows nothing of what is in one.

Document: {_id: {tenant, user}, version, at: updated_ms, body}: the content is JSON text, so that any name may be in it.
"""

from __future__ import annotations

from typing import Any

from pymongo import ReadPreference, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError
from pymongo.read_concern import ReadConcern

from journal.mongo_errors import Answered
from schemas.profile import Profile

Document = dict[str, Any]
COLLECTION = "profiles"


class MongoProfiles:
    """The profiles port: majority reads, majority writes, each guarded by the version that it replaces."""

    def __init__(self, database: AsyncDatabase[Document], *, wait_ms: int) -> None:
        self._profiles: AsyncCollection[Document] = database[COLLECTION].with_options(
            read_concern=ReadConcern("majority"),
            read_preference=ReadPreference.PRIMARY,
            write_concern=WriteConcern(w="majority", j=True, wtimeout=wait_ms),
        )

    async def load(self, tenant: str, user: str) -> Profile | None:
        with Answered("load a profile"):
            stored = await self._profiles.find_one({"_id": _key(tenant, user)})
        return Profile.model_validate_json(stored["body"]) if stored is not None else None

    async def replace(self, profile: Profile) -> bool:
        key, before = _key(profile.tenant, profile.user), profile.version - 1
        fields = {"version": profile.version, "at": profile.updated_ms, "body": profile.model_dump_json()}
        with Answered("replace a profile"):
            if before:
                done = await self._profiles.replace_one({"_id": key, "version": before}, fields)
                return done.matched_count == 1
            try:
                await self._profiles.insert_one({"_id": key, **fields})
            except DuplicateKeyError:
                return False
        return True


def _key(tenant: str, user: str) -> Document:
    return {"tenant": tenant, "user": user}
