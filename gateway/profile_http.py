"""The HTTP routes of the user's own profile: read, replace, patch, empty. Knows nothing of sessions and agents."""

from __future__ import annotations

import re
from collections.abc import Callable

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import Field, JsonValue, RootModel

from gateway.gateway import Gateway
from gateway.lookup import unreachable
from gateway.requests import body_of, principal, takes
from journal import profiles
from journal.port import StoreUnavailable
from journal.profiles import Content
from schemas.base import Frozen
from schemas.codes import Code
from schemas.errors import Refusal
from schemas.profile import Profile, merged

_TAG = re.compile(r'(?:W/)?"?([0-9]{1,18})"?')


class ProfileRequest(Frozen):
    """The body of `PUT /v1/profile`. `version`: only if the profile is at that one."""

    summary: str = ""
    facts: dict[str, JsonValue] = Field(default_factory=dict)
    version: int | None = Field(default=None, ge=0)


class ProfilePatch(RootModel[dict[str, JsonValue]]):
    """The body of `PATCH /v1/profile`: a JSON merge patch (RFC 7396) of `summary` and `facts`; `version` as above."""


def profile_routes(gateway: Gateway) -> APIRouter:
    """The routes. Whose profile it is comes from who asks and from nothing else."""
    routes = APIRouter(tags=["profile"])
    store = gateway.store.profiles

    @routes.get("/v1/profile")
    async def get_profile(request: Request) -> Response:
        """The user's profile; version 0 where there never was one."""
        who = principal(request)
        try:
            return _answer(await profiles.read(store, who.tenant, who.user))
        except StoreUnavailable as error:
            raise unreachable() from error

    @routes.put("/v1/profile", openapi_extra=takes(ProfileRequest))
    async def put_profile(request: Request) -> Response:
        """Replace the profile. 409 `conflict` where `If-Match` or `version` is not the current one."""
        asked = await body_of(request, ProfileRequest)
        return await changed(request, asked.version, lambda _: (asked.summary, asked.facts))

    @routes.patch("/v1/profile", openapi_extra=takes(ProfilePatch))
    async def patch_profile(request: Request) -> Response:
        """Apply a JSON merge patch. 409 as for PUT."""
        patch = (await body_of(request, ProfilePatch)).root
        version = patch.pop("version", None)
        if version is not None and (isinstance(version, bool) or not isinstance(version, int)):
            raise Refusal(Code.BAD_REQUEST, "version: want a number")
        return await changed(request, version, lambda held: _patched(held, patch))

    @routes.delete("/v1/profile", status_code=204)
    async def delete_profile(request: Request) -> Response:
        """Empty the profile. 409 as for PUT. The version goes on, so that no older `If-Match` fits again."""
        await changed(request, None, lambda _: ("", {}))
        return Response(status_code=204)

    async def changed(request: Request, version: int | None, edit: Callable[[Profile], Content]) -> Response:
        who = principal(request)
        wanted = _wanted(request.headers.get("if-match"), version)
        try:
            new = await profiles.change(store, (who.tenant, who.user), edit, now_ms=gateway.clock_ms(), version=wanted)
        except StoreUnavailable as error:
            raise unreachable() from error
        return _answer(new)

    return routes


def _wanted(tag: str | None, version: int | None) -> int | None:
    """The version that must be there. Raises Refusal."""
    if tag is None or tag.strip() == "*":
        return version
    read = _TAG.fullmatch(tag.strip())
    if read is None or version not in (None, int(read[1])):
        raise Refusal(Code.BAD_REQUEST, "If-Match: want the profile's version, the same as `version` where both are")
    return int(read[1])


def _patched(held: Profile, patch: JsonValue) -> Content:
    """Raises Refusal."""
    new = merged({"summary": held.summary, "facts": held.facts}, patch)
    assert isinstance(new, dict)
    summary, facts = new.get("summary", ""), new.get("facts", {})
    if not isinstance(summary, str) or not isinstance(facts, dict):
        raise Refusal(Code.BAD_REQUEST, "summary: want a text; facts: want an object")
    return summary, facts


def _answer(profile: Profile) -> Response:
    told = profile.model_dump(mode="json", exclude={"tenant", "user"})
    headers = {"ETag": f'"{profile.version}"', "Cache-Control": "no-store"}
    return Response(orjson.dumps(told), media_type="application/json", headers=headers)
