"""The whole store on MongoDB: connects, refuses what cannot hold sessions, composes the parts. No document in here."""

from __future__ import annotations

import asyncio
from typing import Any

from pymongo import AsyncMongoClient, ReadPreference, WriteConcern
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import (
    ConfigurationError,
    DuplicateKeyError,
    InvalidURI,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
)
from pymongo.read_concern import ReadConcern

from journal.mongo_budgets import MongoBudgets
from journal.mongo_directory import MongoDirectory
from journal.mongo_errors import Answered, passing
from journal.mongo_fetch import MongoFetch
from journal.mongo_journal import COLLECTION, MongoJournal
from journal.mongo_letters import MongoLetterMarks
from journal.mongo_payloads import MongoPayloads
from journal.mongo_pins import MongoPins
from journal.mongo_profiles import MongoProfiles
from journal.mongo_snapshots import MongoSnapshots
from journal.mongo_survey import MongoSurvey
from journal.mongo_timers import MongoTimers
from journal.port import (
    Budgets,
    Directory,
    Found,
    Journal,
    LetterMarks,
    Payloads,
    Pins,
    Profiles,
    Snapshots,
    StoreMismatch,
    StoreUnavailable,
    Survey,
    Timers,
    Wanted,
)
from schemas.settings import MongoSettings

Document = dict[str, Any]
Client = AsyncMongoClient[Document]
_START_S = 5.5  # start() answers within 10 s of the process: this for finding a primary, the rest for saying why not
_PROBE_S = 1.5
_PING_MS = 2_000
_REPLICA_SET = (
    "turnfleet needs a replica set (one member is enough): start mongod with `--replSet rs0`, run "
    "`rs.initiate()` once, then start again"
)


class MongoStore:
    """Everything of the store port at one replica set. Build it inside a running event loop; `start()` connects."""

    def __init__(self, settings: MongoSettings) -> None:
        self._settings = settings
        self._timeout_ms = int(settings.mongo_timeout_s * 1000)
        self._client = _client_of(settings.mongo_uri, self._timeout_ms)
        # Kept, for the driver forgets an address whose server is no member of the named replica set.
        self._seeds = sorted(self._client.topology_description.server_descriptions())
        database = self._client[settings.mongo_database]
        self._payloads = MongoPayloads(database, rows=COLLECTION, wait_ms=self._timeout_ms)
        self._journal = MongoJournal(database, self._payloads, wait_ms=self._timeout_ms)
        self._directory = MongoDirectory(database, wait_ms=self._timeout_ms)
        self._timers = MongoTimers(database, wait_ms=self._timeout_ms)
        self._fetch = MongoFetch(database, self._payloads)
        self.journal: Journal = self._journal
        self.payloads: Payloads = self._payloads
        self.snapshots: Snapshots = MongoSnapshots(database, wait_ms=self._timeout_ms)
        self.directory: Directory = self._directory
        self.timers: Timers = self._timers
        self.letters: LetterMarks = MongoLetterMarks(database, wait_ms=self._timeout_ms)
        self.profiles: Profiles = MongoProfiles(database, wait_ms=self._timeout_ms)
        self.pins: Pins = MongoPins(database, wait_ms=self._timeout_ms)
        self._budgets = MongoBudgets(database, wait_ms=self._timeout_ms)
        self.budgets: Budgets = self._budgets
        self.survey: Survey = MongoSurvey(database, self._payloads)
        self._meta: AsyncCollection[Document] = database["meta"].with_options(
            read_concern=ReadConcern("majority"),
            read_preference=ReadPreference.PRIMARY,
            write_concern=WriteConcern(w="majority", j=True, wtimeout=self._timeout_ms),
        )

    async def start(self) -> None:
        try:
            async with asyncio.timeout(_START_S):
                await self._check()
                await self._journal.start()
                await self._directory.start()
                await self._timers.start()
                await self._budgets.start()
        except (TimeoutError, StoreUnavailable, ServerSelectionTimeoutError) as error:
            raise await self._why_not() from error
        except OperationFailure as error:
            if passing(error):
                raise StoreUnavailable(f"MongoDB is not ready: {str(error)[:300]}") from error
            raise StoreMismatch(
                f"MongoDB refused: {_said(error)}. Check user, password and roles in FLEET_MONGO_URI"
            ) from error

    async def ping(self) -> bool:
        try:
            async with asyncio.timeout(_PING_MS / 1000):
                quick = self._meta.with_options(write_concern=WriteConcern(w="majority", j=True, wtimeout=_PING_MS))
                await quick.update_one({"_id": "ping"}, {"$currentDate": {"at": True}}, upsert=True)
        except DuplicateKeyError:
            return True  # two first pings at the same moment: the write got through
        except (TimeoutError, PyMongoError):
            return False
        return True

    async def fetch(self, wanted: Wanted) -> Found:
        return await self._fetch(wanted)

    async def recorded(self, name: str, value: str) -> str:
        with Answered("record"):
            try:
                await self._meta.update_one(
                    {"_id": f"recorded/{name}"}, {"$setOnInsert": {"value": value}}, upsert=True
                )
            except DuplicateKeyError:
                pass  # somebody recorded it at the same moment: theirs is the first
            stored = await self._meta.find_one({"_id": f"recorded/{name}"})
        if stored is None:
            raise StoreUnavailable(f"record {name}: written, but no majority has it yet")
        return str(stored["value"])

    async def record(self, name: str, value: str) -> None:
        """See the port. Of two at the same moment either stays."""
        with Answered("record"):
            await self._meta.update_one({"_id": f"recorded/{name}"}, {"$set": {"value": value}}, upsert=True)

    async def stop(self) -> None:
        await self._client.close()

    async def _check(self) -> None:
        hello = await self._client.admin.command("hello")
        if "setName" not in hello and hello.get("msg") != "isdbgrid":
            raise StoreMismatch(f"The mongod at {self._where()} is a standalone: {_REPLICA_SET}")

    async def _why_not(self) -> StoreMismatch | StoreUnavailable:
        """What each address of the URI says of itself: a named replica set hides members that are none."""
        seeds = self._seeds[:5]
        wanted = self._client.topology_description.replica_set_name
        answers = await asyncio.gather(*(_hello(host, port) for host, port in seeds))
        for (host, port), hello in zip(seeds, answers, strict=True):
            reason = None if hello is None else _mismatch(hello, wanted)
            if reason is not None:
                return StoreMismatch(f"The mongod at {host}:{port} {reason}")
        if any(hello is not None for hello in answers):
            return StoreUnavailable(
                f"The replica set at {self._where()} has no primary that answers: look at rs.status() there"
            )
        return StoreUnavailable(
            f"No MongoDB answers at {self._where()}: start it there, or correct FLEET_MONGO_URI (`fleet up` starts one)"
        )

    def _where(self) -> str:
        return ", ".join(f"{host}:{port}" for host, port in self._seeds) or "the given address"


def _client_of(uri: str, timeout_ms: int) -> Client:
    try:
        return AsyncMongoClient(
            uri,
            appname="turnfleet",
            retryWrites=False,  # what is ambiguous is settled by the nonce, not by the driver
            serverSelectionTimeoutMS=min(timeout_ms, 5_000),
            connectTimeoutMS=timeout_ms,
            socketTimeoutMS=timeout_ms + 1_000,
            waitQueueTimeoutMS=timeout_ms,
            heartbeatFrequencyMS=1_000,  # a server that comes back is noticed within a second, not ten
            maxPoolSize=32,
        )
    except (InvalidURI, ConfigurationError, ValueError) as error:
        raise StoreMismatch(
            f"FLEET_MONGO_URI cannot be read: {type(error).__name__}; see the URI's form in docs"
        ) from error


async def _hello(host: str, port: int | None) -> Document | None:
    """What a server says of itself when it is asked directly; None: no answer."""
    milliseconds = int(_PROBE_S * 1000)
    client: Client = AsyncMongoClient(
        host, port or 27017, directConnection=True, serverSelectionTimeoutMS=milliseconds, connectTimeoutMS=milliseconds
    )
    try:
        async with asyncio.timeout(_PROBE_S):
            return await client.admin.command("hello")
    except (PyMongoError, TimeoutError):
        return None
    finally:
        await client.close()


def _mismatch(hello: Document, wanted: str | None) -> str | None:
    if hello.get("isreplicaset"):
        return "runs with --replSet but the set was never initiated: run `rs.initiate()` there once, then start again"
    if "setName" not in hello:
        return None if hello.get("msg") == "isdbgrid" else f"is a standalone: {_REPLICA_SET}"
    if wanted is not None and hello["setName"] != wanted:
        return f"belongs to the replica set {hello['setName']!r}, FLEET_MONGO_URI asks for {wanted!r}: correct the URI"
    return None


def _said(error: OperationFailure) -> str:
    return str((error.details or {}).get("errmsg") or error)[:200]
