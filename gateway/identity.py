"""Who asks. Development mode: whoever names a user is that user. Knows nothing of what they may do (access.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from pydantic import TypeAdapter, ValidationError

from schemas.codes import Code
from schemas.errors import Refusal
from schemas.ids import UserId

DEVELOPMENT = (
    "development mode: no sign-in is configured; everybody is whoever the header X-Fleet-User (a browser's WebSocket: "
    "?user=) says, else `anonymous`, in tenant `default`"
)
TENANT = "default"
ANONYMOUS = "anonymous"
_USER: TypeAdapter[str] = TypeAdapter(UserId)


@dataclass(frozen=True, slots=True)
class Principal:
    """A user of a tenant."""

    tenant: str
    user: str


def identify(headers: Mapping[str, str], query: Mapping[str, str] | None = None) -> Principal:
    """Who a request comes from. `query` only where a browser cannot set headers. Raises Refusal."""
    named = headers.get("x-fleet-user")
    if named is not None:
        named = _utf8(named)
    elif query is not None:
        named = query.get("user")
    if named is None:
        return Principal(TENANT, ANONYMOUS)
    try:
        return Principal(TENANT, _USER.validate_python(named))
    except ValidationError:
        raise Refusal(
            Code.UNAUTHORIZED, "X-Fleet-User: 1-256 characters without control characters name a user"
        ) from None


def refuse_foreign_origin(headers: Mapping[str, str]) -> None:
    """A page of another site may not act for the user of this one. Raises Refusal."""
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
        raise Refusal(Code.UNAUTHORIZED, "Origin: pages of another site may not speak for this one's users")


def _utf8(header: str) -> str:
    """Header bytes come as latin-1; names are UTF-8."""
    try:
        return header.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return header
