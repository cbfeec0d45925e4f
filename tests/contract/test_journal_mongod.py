"""What only a real mongod can show: indexes that are used, stores that are refused, answers that are lost, kill -9."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC
from typing import Any

import pytest
from pymongo import AsyncMongoClient
from pymongo.errors import OperationFailure

from journal.commit import GroupCommit
from journal.loader import rows_after
from journal.mongo import MongoStore
from journal.mongo_fetch import pipeline_of
from journal.mongo_journal import versions
from journal.port import Cap, Row, StoreMismatch, StoreUnavailable, Verdict, Wanted
from schemas.receipt import Spending
from schemas.settings import MongoSettings
from tests.support.mongod import Mongo, bare_mongod, initiate, replica_set
from tests.support.ports import free_port

Client = AsyncMongoClient[dict[str, Any]]


@pytest.fixture
def settings(mongo: Mongo) -> MongoSettings:
    return mongo.settings(timeout_s=3.0)


@pytest.fixture
async def store(settings: MongoSettings) -> AsyncIterator[MongoStore]:
    started = MongoStore(settings)
    await started.start()
    yield started
    await started.stop()


@pytest.fixture
async def client(mongo: Mongo) -> AsyncIterator[Client]:
    async with AsyncMongoClient[dict[str, Any]](mongo.uri) as other:
        yield other


def row(s: str, v: int, nonce: str = "n", turn: str | None = None) -> Row:
    return Row(s, v, "step", nonce, 1, turn=turn, body="{}")


async def planned(client: Client, database: str, find: dict[str, Any]) -> tuple[set[str], dict[str, Any]]:
    """Stages of the winning plan, and what it cost."""
    said = await client[database].command("explain", find, verbosity="executionStats")
    stages: set[str] = set()

    def walk(plan: Any) -> None:
        if isinstance(plan, dict):
            stages.update({plan["stage"] + ":" + plan.get("indexName", "")} if "stage" in plan else ())
            for value in plan.values():
                walk(value)
        elif isinstance(plan, list):
            for value in plan:
                walk(value)

    walk(said["queryPlanner"]["winningPlan"])
    return stages, said["executionStats"]


async def test_reads_are_served_by_indexes_and_touch_what_they_return(
    store: MongoStore, settings: MongoSettings, client: Client
) -> None:
    await store.journal.insert([row(f"t/s{n % 7}", n // 7 + 1, turn=f"t{n}") for n in range(700)])

    reads = {"find": "journal", "filter": versions("t/s3", 90), "sort": {"_id": 1}}
    stages, cost = await planned(client, settings.mongo_database, reads)
    assert stages == {"FETCH:", "IXSCAN:_id_"}
    assert (cost["nReturned"], cost["totalDocsExamined"]) == (10, 10)
    assert cost["totalKeysExamined"] <= 11

    turns = {"find": "journal", "filter": {"_id.s": "t/s3", "turn": "t3"}}
    stages, cost = await planned(client, settings.mongo_database, turns)
    assert "IXSCAN:turn" in stages
    assert cost["totalDocsExamined"] == 1


async def test_many_sessions_are_read_by_index_in_order_and_no_further_than_the_limit(
    store: MongoStore, settings: MongoSettings, client: Client
) -> None:
    await store.journal.insert([row(f"t/s{n % 200:03}", n // 200 + 1) for n in range(1_000)])

    for sessions, limit, read in ((200, 3_200, 1_000), (200, 100, 100), (1, 16, 5)):
        stages = pipeline_of(Wanted({f"t/s{n:03}": 0 for n in range(sessions)}, limit))
        find = {"find": "journal", "filter": stages[0]["$match"], "sort": stages[1]["$sort"], "limit": limit}
        found, cost = await planned(client, settings.mongo_database, {**find, "hint": {"_id": 1}})
        assert {stage.split(":")[0] for stage in found} <= {"LIMIT", "FETCH", "SORT_MERGE", "IXSCAN"}
        assert cost["nReturned"] == cost["totalDocsExamined"] == read
        explain = {"aggregate": "journal", "pipeline": stages, "hint": {"_id": 1}, "cursor": {}}
        plan = str(await client[settings.mongo_database].command("explain", explain, verbosity="queryPlanner"))
        assert "'SORT'" not in plan
        assert "COLLSCAN" not in plan


async def test_a_fetch_is_one_majority_read_and_without_an_answer_unavailable(
    store: MongoStore, settings: MongoSettings, client: Client
) -> None:
    await store.journal.insert([row("t/s", 1)])
    wanted = Wanted({"t/s": 0, "t/u": 0}, 32, ["t/s", "t/u"], {"t/s": (1, 1)})
    database = client[settings.mongo_database]
    await database.command("profile", 2)
    found = await store.fetch(wanted)
    await database.command("profile", 0)

    asked = [entry["command"] async for entry in database["system.profile"].find(sort=[("$natural", 1)])]
    [read] = [one for one in asked if "aggregate" in one or "getMore" in one]
    assert read["readConcern"]["level"] == "majority"
    assert [one.v for one in found.rows] == [1]

    await fail(client, 2, "aggregate", closeConnection=True)  # twice: the driver asks a second time by itself
    with pytest.raises(StoreUnavailable):
        await store.fetch(wanted)
    assert (await store.fetch(wanted)).rows == found.rows


async def test_lists_and_expiry_are_served_by_indexes(
    store: MongoStore, settings: MongoSettings, client: Client
) -> None:
    database = settings.mongo_database
    finds = [
        ({"live": True, "tenant": "t", "user": "u"}, {"last_ms": -1, "_id": 1}, "listed"),
        ({"live": True, "expires_ms": {"$lte": 5}}, {"expires_ms": 1}, "expires"),
        ({"closed_ms": {"$lt": 5}}, {"closed_ms": 1}, "closed"),
    ]
    for wanted, order, index in finds:
        stages, _ = await planned(client, database, {"find": "sessions", "filter": wanted, "sort": order, "limit": 5})
        assert f"IXSCAN:{index}" in stages
        assert not any(stage.startswith("SORT") for stage in stages)
    asked = {"partition": {"$in": [1, 2]}, "due": {"$lte": 5}}
    stages, _ = await planned(client, database, {"find": "timers", "filter": asked, "sort": {"due": 1}})
    assert "IXSCAN:due_by_partition" in stages


async def test_a_budget_is_kept_as_long_as_its_longest_reservation(
    store: MongoStore, settings: MongoSettings, client: Client
) -> None:
    """A turn that waited for a decision has a deadline far off: what is reserved for it is not dropped with the key."""
    now_ms, cap = int(time.time() * 1_000), Cap(tokens=100)
    for days in (0, 20, 1):
        until_ms = now_ms + days * 86_400_000
        assert await store.budgets.reserve("user/t/u/1", Spending(10), cap, now_ms=now_ms, until_ms=until_ms)
    found = await client[settings.mongo_database]["budgets"].find_one({"_id": "user/t/u/1"})
    assert found is not None
    kept_days = (found["gone"].replace(tzinfo=UTC).timestamp() - now_ms / 1_000) / 86_400
    assert 22.9 < kept_days < 23.1


async def test_content_is_text_to_the_store(store: MongoStore, settings: MongoSettings, client: Client) -> None:
    await store.journal.insert([Row("t/s", 1, "claim", "n", 1, body='{"$where":{"a.b":{"$gt":1}}}', frames=("{}",))])

    stored = await client[settings.mongo_database]["journal"].find_one({})
    assert stored == {
        "_id": {"s": "t/s", "v": 1},
        "k": "claim",
        "n": "n",
        "t": 1,
        "body": '{"$where":{"a.b":{"$gt":1}}}',
        "frames": ["{}"],
    }
    assert list(stored["_id"]) == ["s", "v"]  # the order in which keys are compared


async def test_reads_are_majority_reads_and_writes_wait_for_a_majority(
    store: MongoStore, settings: MongoSettings, client: Client
) -> None:
    """One member cannot roll anything back, so this looks at what is asked of the server."""
    database = client[settings.mongo_database]
    await database.command("profile", 2)
    await store.journal.insert([row("t/s", 1, turn="a")])
    await store.journal.read("t/s", 0)
    await store.journal.row("t/s", 1)
    await store.journal.introduced("t/s", "a")
    await store.snapshots.load("t/s")
    await store.journal.exists("t/s", 1)
    await store.journal.unset("t/s", 2)
    await database.command("profile", 0)

    asked = [entry["command"] async for entry in database["system.profile"].find(sort=[("$natural", 1)])]
    reads = [one["readConcern"]["level"] for one in asked if "find" in one and one["find"] != "system.profile"]
    assert reads[:5] == ["majority", "majority", "majority", "majority", "linearizable"]
    assert set(reads[5:]) == {"majority"}
    [insert] = [one for one in asked if "insert" in one]
    assert (insert["writeConcern"]["w"], insert["writeConcern"]["j"]) == ("majority", True)


async def refused(uri: str, kind: type[Exception], *, timeout_s: float = 2.0) -> str:
    """What start() says, and within 10 s."""
    began = time.monotonic()
    store = MongoStore(MongoSettings(mongo_uri=uri, mongo_timeout_s=timeout_s))
    try:
        with pytest.raises(kind) as caught:
            await store.start()
    finally:
        await store.stop()
    assert time.monotonic() - began < 10
    assert "\n" not in str(caught.value)
    return str(caught.value)


async def test_a_standalone_is_refused_with_what_to_do() -> None:
    with bare_mongod() as server:
        for uri in (f"mongodb://{server.address}", f"mongodb://{server.address}/?replicaSet=rs0"):
            said = await refused(uri, StoreMismatch)
            assert "standalone" in said
            assert "--replSet" in said


async def test_a_replica_set_that_was_never_initiated_or_has_another_name_is_refused() -> None:
    with bare_mongod("--replSet", "rs0") as server:
        assert "rs.initiate()" in await refused(f"mongodb://{server.address}/?replicaSet=rs0", StoreMismatch)
        initiate(server)
        said = await refused(f"mongodb://{server.address}/?replicaSet=other", StoreMismatch)
        assert "'rs0'" in said
        assert "'other'" in said


async def test_a_store_that_does_not_answer_is_said_so_within_ten_seconds() -> None:
    port = free_port()
    said = await refused(f"mongodb://127.0.0.1:{port}/?replicaSet=rs0", StoreUnavailable, timeout_s=60.0)
    assert f"127.0.0.1:{port}" in said
    assert "FLEET_MONGO_URI" in said


@pytest.mark.parametrize("uri", ["mysql://u:secret@h", "mongodb://u:secret@/x?replicaSet=rs0", "mongodb://h:99999999"])
async def test_a_uri_that_cannot_be_read_is_refused_without_repeating_it(uri: str) -> None:
    with pytest.raises(StoreMismatch, match="FLEET_MONGO_URI") as caught:
        MongoStore(MongoSettings(mongo_uri=uri))
    assert "secret" not in str(caught.value)


async def fail(client: Client, times: int, *commands: str, **how: Any) -> None:
    """The next `times` of these commands from our driver go wrong."""
    data = {"failCommands": list(commands), "appName": "turnfleet", **how}
    await client.admin.command("configureFailPoint", "failCommand", mode={"times": times}, data=data)


AMBIGUOUS = [
    {"writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}},
    {"closeConnection": True},
    {"errorCode": 10107, "errorLabels": []},
    {"errorCode": 91},
    {"errorCode": 11602},
]


@pytest.mark.parametrize("how", AMBIGUOUS, ids=lambda how: "-".join(map(str, how.values()))[:30])
async def test_what_is_not_answered_for_certain_is_unavailable(
    store: MongoStore, client: Client, how: dict[str, Any]
) -> None:
    await fail(client, 1, "insert", **how)
    with pytest.raises(StoreUnavailable):
        await store.journal.insert([row("t/s", 1)])

    assert await store.journal.insert([row("t/s", 2)]) == [Verdict.APPLIED]


@pytest.mark.parametrize("how", AMBIGUOUS, ids=lambda how: "-".join(map(str, how.values()))[:30])
async def test_a_payload_that_is_not_answered_for_certain_is_unavailable_and_its_row_is_not_written(
    store: MongoStore, client: Client, how: dict[str, Any]
) -> None:
    large = row("t/s", 1)._replace(body="x" * 300_000)
    await fail(client, 1, "update", **how)
    with pytest.raises(StoreUnavailable):
        await store.journal.insert([large])

    assert await store.journal.read("t/s", 0) == []
    assert await store.journal.insert([large]) == [Verdict.APPLIED]
    assert await store.journal.read("t/s", 0) == [large]


async def test_a_body_is_in_no_document_whole_and_garbage_of_a_lost_insert_is_swept(
    store: MongoStore, settings: MongoSettings, client: Client
) -> None:
    large = row("t/s", 1)._replace(body="x" * 3_000_000)
    database = client[settings.mongo_database]
    await fail(client, 1, "insert", errorCode=91)
    with pytest.raises(StoreUnavailable):
        await store.journal.insert([large])
    assert (await store.journal.read("t/s", 0), await database["payloads"].count_documents({})) == ([], 3)

    again = large._replace(nonce="m")
    assert await store.journal.insert([again]) == [Verdict.APPLIED]
    assert await store.payloads.sweep((time.time_ns() // 1_000_000) + 1_000, 100) == 1
    assert await store.journal.read("t/s", 0) == [again]
    stored = await database["journal"].find_one({})
    assert stored == {"_id": {"s": "t/s", "v": 1}, "k": "step", "n": "m", "t": 1, "p": 3}
    assert [len(one["c"]) async for one in database["payloads"].find({})] == [1_048_576, 1_048_576, 902_848]


async def test_an_unset_that_was_cut_off_after_a_payload_is_read_as_unset_and_goes_on(
    store: MongoStore, settings: MongoSettings, client: Client
) -> None:
    large = [row("t/s", v)._replace(body="x" * 300_000, frames=("secret",)) for v in (1, 2, 3)]
    await store.journal.insert(large)
    await fail(client, 1, "update", errorCode=91)  # what lies before the first one is to be unset: nothing does
    with pytest.raises(StoreUnavailable):
        await store.journal.unset("t/s", 3)
    await client[settings.mongo_database]["payloads"].delete_many({"_id.v": 1})
    assert [(it.body is None, it.frames) for it in await store.journal.read("t/s", 0)] == [
        (True, ("secret",)),
        (False, ("secret",)),
        (False, ("secret",)),
    ]
    await store.journal.unset("t/s", 3)
    assert [(it.body is None, it.frames) for it in await store.journal.read("t/s", 0)] == [
        (True, ()),
        (True, ()),
        (False, ("secret",)),
    ]
    stages, cost = await planned(
        client,
        settings.mongo_database,
        {"find": "payloads", "filter": {}, "projection": {"_id": 1}, "sort": {"_id": 1}, "limit": 5},
    )
    assert "FETCH:" not in stages
    assert cost["totalDocsExamined"] == 0


async def test_a_refusal_is_not_called_unavailable(store: MongoStore, client: Client) -> None:
    await fail(client, 1, "insert", errorCode=13)
    with pytest.raises(OperationFailure):
        await store.journal.insert([row("t/s", 1)])


@pytest.mark.parametrize("how", AMBIGUOUS[:3], ids=["applied, no majority", "no connection", "no primary"])
async def test_group_commit_settles_what_the_store_left_open(
    store: MongoStore, client: Client, how: dict[str, Any]
) -> None:
    await fail(client, 2, "insert", **how)
    verdicts: list[Verdict] = []
    commit = GroupCommit(store.journal)
    for n in range(20):
        commit.append(row(f"t/s{n}", 1, nonce=f"n{n}", turn="a"), verdicts.append)
    await commit.drain()
    await commit.stop()

    assert verdicts == [Verdict.APPLIED] * 20


async def test_a_store_that_takes_no_writes_says_so(store: MongoStore, client: Client) -> None:
    await fail(client, 1, "update", closeConnection=True)

    assert not await store.ping()
    async with asyncio.timeout(20):
        while not await store.ping():
            await asyncio.sleep(0.1)


class Writer:
    """Appends version after version to its session; a verdict that is no APPLIED is a defect."""

    def __init__(self, commit: GroupCommit, s: str) -> None:
        self.commit, self.s, self.v = commit, s, 0
        self.bad: list[Verdict] = []
        self.stopped = False

    def go(self, verdict: Verdict = Verdict.APPLIED) -> None:
        if verdict is not Verdict.APPLIED:
            self.bad.append(verdict)
        elif not self.stopped:
            self.v += 1
            self.commit.append(row(self.s, self.v, f"{self.s}-{self.v}", f"t{self.v}"), self.go)


@pytest.mark.timeout(120)
async def test_a_mongod_killed_while_appends_run_loses_and_doubles_nothing() -> None:
    with replica_set() as own:
        if own.server is None:
            pytest.skip("a container cannot be killed and restarted here")
        store = MongoStore(own.settings(timeout_s=3.0))
        await store.start()
        commit = GroupCommit(store.journal)
        writers = [Writer(commit, f"t/s{n}") for n in range(100)]
        for writer in writers:
            writer.go()
        progress = []
        for _ in range(2):
            await asyncio.sleep(0.7)
            progress.append(sum(writer.v for writer in writers))
            await asyncio.to_thread(own.server.kill)
            assert not await store.ping()
            await asyncio.to_thread(own.server.start)
        before = sum(writer.v for writer in writers)
        async with asyncio.timeout(40):
            while sum(writer.v for writer in writers) < before + 1_000:
                await asyncio.sleep(0.1)
        for writer in writers:
            writer.stopped = True
        await commit.drain()

        assert [writer.bad for writer in writers if writer.bad] == []
        for writer in writers:
            rows = await rows_after(store.journal, writer.s, 0)
            assert [one.v for one in rows] == list(range(1, writer.v + 1))
            assert max(Counter(one.nonce for one in rows).values()) == 1
        print(f"appended {sum(writer.v for writer in writers)}, at the kills {progress}")
        await commit.stop()
        await store.stop()
