"""The routes of a user's profile from outside: a real server, a plain client, twins behind it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from journal.port import StoreUnavailable
from schemas.profile import Profile
from tests.support.gateway_house import House, Served, house, served

__all__ = ["house", "served"]

TEA = {"summary": "likes tea", "facts": {"city": "Bonn", "pets": {"cat": 1, "dog": 2}}}


async def test_a_profile_is_read_replaced_patched_and_emptied(served: Served) -> None:
    async with served.http() as http:
        none = await http.get("/v1/profile")
        put = await http.put("/v1/profile", json=TEA)
        patch = await http.patch("/v1/profile", json={"facts": {"city": None, "pets": {"dog": None, "fish": [None]}}})
        read = await http.get("/v1/profile")
        gone = await http.delete("/v1/profile")
        blank = await http.get("/v1/profile")

    assert none.json() == {"version": 0, "summary": "", "facts": {}, "updated_ms": 0}
    assert (put.status_code, put.json()["version"], put.headers["etag"]) == (200, 1, '"1"')
    assert patch.json()["facts"] == {"pets": {"cat": 1, "fish": [None]}}
    assert (read.json(), read.headers["etag"]) == (patch.json(), '"2"')
    assert read.json()["summary"] == "likes tea"
    assert (gone.status_code, gone.content) == (204, b"")
    assert {**blank.json(), "updated_ms": 0} == {"version": 3, "summary": "", "facts": {}, "updated_ms": 0}


async def test_what_changes_nothing_makes_no_version(served: Served) -> None:
    async with served.http() as http:
        versions = [
            (await http.patch("/v1/profile", json={})).json()["version"],
            (await http.put("/v1/profile", json=TEA)).json()["version"],
            (await http.put("/v1/profile", json=TEA)).json()["version"],
            (await http.patch("/v1/profile", json={"facts": {"city": "Bonn"}})).json()["version"],
        ]

    assert versions == [0, 1, 1, 1]


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_an_older_version_is_a_conflict_and_changes_nothing(served: Served, method: str) -> None:
    new: Any = None if method == "DELETE" else {"summary": "new"}
    async with served.http() as http:
        for text in ("one", "two"):
            await http.put("/v1/profile", json={"summary": text})
        stale = [await http.request(method, "/v1/profile", json=new, headers={"If-Match": tag}) for tag in ("1", '"9"')]
        if new is not None:
            stale.append(await http.request(method, "/v1/profile", json={**new, "version": 1}))
        held = (await http.get("/v1/profile")).json()
        right = await http.request(method, "/v1/profile", json=new, headers={"If-Match": 'W/"2"'})

    assert {(answer.status_code, answer.json()["code"]) for answer in stale} == {(409, "conflict")}
    assert (held["summary"], held["version"]) == ("two", 2)
    assert right.status_code in {200, 204}


async def test_of_changes_at_once_none_is_lost(served: Served) -> None:
    async with served.http() as http:
        await asyncio.gather(*(http.patch("/v1/profile", json={"facts": {f"f{n}": n}}) for n in range(8)))
        held = (await http.get("/v1/profile")).json()

    assert held["facts"] == {f"f{n}": n for n in range(8)}
    assert held["version"] == 8


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"summary": "x" * 4_097}, 413, "too_large"),
        ({"facts": {"x": "y" * 70_000}}, 413, "too_large"),
        ({"facts": {"x": "y" * 900_000}}, 413, "too_large"),
        ({"summary": 1}, 400, "bad_request"),
        ({"facts": [1]}, 400, "bad_request"),
        ({"version": -1}, 400, "bad_request"),
        ({"version": True}, 400, "bad_request"),
        ({"version": 1.5}, 400, "bad_request"),
        ([1], 400, "bad_request"),
        ({"facts": {"x": 2**70}}, 400, "bad_request"),
        ({"facts": {"x": list(range(6_000))}}, 400, "bad_request"),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_bad_bodies_are_typed_and_change_nothing(
    served: Served, method: str, body: Any, status: int, code: str
) -> None:
    async with served.http() as http:
        await http.put("/v1/profile", json=TEA)
        answer = await http.request(method, "/v1/profile", json=body)
        held = (await http.get("/v1/profile")).json()

    if body == {"version": -1} and method == "PATCH":
        status, code = 409, "conflict"
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert (held["version"], held["summary"]) == (1, "likes tea")


@pytest.mark.parametrize(
    "raw",
    [b"{", b'{"facts":{"x":NaN}}', b'{"summary":"\\ud800"}', b'{"facts":{"x":' + b"[" * 900 + b"]" * 900 + b"}}"],
    ids=["no JSON", "NaN", "half a surrogate", "deep"],
)
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
async def test_what_is_no_json_of_ours_is_a_bad_request(served: Served, method: str, raw: bytes) -> None:
    async with served.http() as http:
        answer = await http.request(method, "/v1/profile", content=raw)
        tag = await http.request(method, "/v1/profile", content=b"{}", headers={"If-Match": "abc"})
        both = await http.request(method, "/v1/profile", content=b'{"version":1}', headers={"If-Match": "2"})

    assert {(it.status_code, it.json()["code"]) for it in (answer, tag, both)} == {(400, "bad_request")}


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
async def test_nobody_reads_or_changes_another_users_profile(house: House, served: Served, method: str) -> None:
    await house.store.profiles.replace(Profile(tenant="other", user="ann", version=1, summary="of another tenant"))
    async with served.http("ann") as ann, served.http("bob") as bob, served.http("eve") as eve:
        await ann.put("/v1/profile", json=TEA)
        told: Any = {**TEA, "tenant": "other", "user": "ann", "summary": "x"}
        body = None if method in {"GET", "DELETE"} else told
        answer = await bob.request(method, "/v1/profile?user=ann&tenant=other", json=body)
        nobody = await eve.request(method, "/v1/profile", json=body)
        held = (await ann.get("/v1/profile")).json()

    assert (answer.status_code, answer.content[:20]) == (nobody.status_code, nobody.content[:20])
    assert "likes tea" not in answer.text
    assert (held["version"], held["summary"]) == (1, "likes tea")
    other = await house.store.profiles.load("other", "ann")
    assert other is not None
    assert (other.version, other.summary) == (1, "of another tenant")


async def test_a_page_of_another_site_changes_no_profile(served: Served) -> None:
    async with served.http() as http:
        for method in ("PUT", "PATCH", "DELETE"):
            answer = await http.request(method, "/v1/profile", content=b"{}", headers={"Origin": "http://evil.example"})
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


async def test_a_store_that_does_not_answer_is_unavailable(
    house: House, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(*_: object) -> None:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(house.store.profiles, "load", silent)
    async with served.http() as http:
        for method in ("GET", "PUT", "PATCH", "DELETE"):
            answer = await http.request(method, "/v1/profile")
            assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")


async def test_openapi_knows_the_routes(served: Served) -> None:
    async with served.http() as http:
        paths = json.loads((await http.get("/openapi.json")).text)["paths"]

    assert set(paths["/v1/profile"]) == {"get", "put", "patch", "delete"}
    assert "facts" in json.dumps(paths["/v1/profile"]["put"]["requestBody"])
