"""Changing a user's profile: read it, edit it, replace exactly what was read. Knows no client of the store."""

from __future__ import annotations

import json
from collections.abc import Callable

from pydantic import JsonValue

from journal.port import Profiles, StoreUnavailable
from schemas.codes import Code
from schemas.errors import Refusal
from schemas.profile import Profile

Content = tuple[str, dict[str, JsonValue]]
_TRIES = 16


async def read(profiles: Profiles, tenant: str, user: str) -> Profile:
    """The user's profile; version 0 where there never was one. Raises StoreUnavailable."""
    return await profiles.load(tenant, user) or Profile(tenant=tenant, user=user, version=0)


async def change(
    profiles: Profiles,
    whose: tuple[str, str],
    edit: Callable[[Profile], Content],
    *,
    now_ms: int,
    version: int | None = None,
) -> Profile:
    """The profile after `edit` (summary and facts of the new one); what changes nothing makes no version. `version`:
    only if it is at that one, else whichever it is at. Raises Refusal (`conflict`, `too_large`, `bad_request`) and
    StoreUnavailable: then nobody knows whether it was changed.
    """
    for _ in range(_TRIES):
        held = await read(profiles, *whose)
        if version is not None and held.version != version:
            raise Refusal(
                Code.CONFLICT, f"version: the profile is at {held.version}, not {version}; read it, then try again"
            )
        summary, facts = edit(held)
        if _spelled(summary, facts) == _spelled(held.summary, held.facts):
            return held
        new = held.changed(summary, facts, now_ms)
        if await profiles.replace(new):
            return new
    raise StoreUnavailable(f"a profile was changed by others {_TRIES} times in a row")


def _spelled(*content: JsonValue) -> str:
    """As JSON, where true is not 1 as it is in Python."""
    return json.dumps(content, sort_keys=True)
