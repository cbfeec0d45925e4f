"""A user's profile: what is stored, how it is changed, how large it may be. Knows no store."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field, JsonValue
from pydantic_core import to_json

from schemas.base import Frozen
from schemas.codes import Code
from schemas.errors import Refusal
from schemas.ids import TenantId, UserId
from schemas.limits import Limits, check_json

MAX_SUMMARY_CHARS = 4_096
MAX_FACTS_BYTES = 65_536
_LIMITS = Limits(nodes=5_000)


class Pinned(Frozen):
    """What one turn knows of its user's profile: as it was at `version`. `facts`: how many there are beside it."""

    version: int
    summary: str = ""
    facts: int = 0


class Profile(Frozen):
    """`version` rises with every change, also with the one that empties it; `summary` is what may be injected, `facts`
    are read by a tool. Version 0: there never was one."""

    tenant: TenantId
    user: UserId
    version: int = Field(ge=0)
    summary: str = Field(default="", max_length=MAX_SUMMARY_CHARS)
    facts: dict[str, JsonValue] = Field(default_factory=dict)
    updated_ms: int = 0

    @property
    def blank(self) -> bool:
        """Nothing is known of the user."""
        return not self.summary and not self.facts

    @property
    def pinned(self) -> Pinned:
        """What a turn that begins now knows of it."""
        return Pinned(version=self.version, summary=self.summary, facts=len(self.facts))

    def changed(self, summary: str, facts: dict[str, JsonValue], now_ms: int) -> Profile:
        """The next version, of this content. Raises Refusal (`too_large`, `bad_request`)."""
        if len(summary) > MAX_SUMMARY_CHARS:
            raise Refusal(Code.TOO_LARGE, f"summary: {len(summary)} characters, at most {MAX_SUMMARY_CHARS}")
        check_json(facts, limits=_LIMITS, what="facts")
        bytes_ = len(to_json(facts))
        if bytes_ > MAX_FACTS_BYTES:
            raise Refusal(Code.TOO_LARGE, f"facts: {bytes_} bytes of JSON, at most {MAX_FACTS_BYTES}")
        content = {"summary": summary, "facts": facts, "version": self.version + 1, "updated_ms": now_ms}
        return self.model_copy(update=content)


def merged(target: JsonValue, patch: JsonValue) -> JsonValue:
    """`target` with `patch` applied as RFC 7396 says: null removes a member, an object goes into an object, anything
    else replaces. Neither is changed."""
    if not isinstance(patch, Mapping):
        return patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result
