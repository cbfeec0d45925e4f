"""Ids: what is legal, how they are minted and derived, and how sessions are keyed in the store."""

from __future__ import annotations

import hashlib
import re
import uuid
from typing import Annotated

from pydantic import StringConstraints

_ID = r"^[A-Za-z0-9_.:\-]{1,128}$"
_LEGAL = re.compile(r"[A-Za-z0-9_.:\-]{1,128}\Z")

SessionId = Annotated[str, StringConstraints(pattern=_ID)]
TurnId = Annotated[str, StringConstraints(pattern=_ID)]
TenantId = Annotated[str, StringConstraints(pattern=_ID)]
OpId = Annotated[str, StringConstraints(pattern=_ID)]
AgentName = Annotated[str, StringConstraints(pattern=_ID)]
# Who a turn belongs to, as an identity provider names them: any printable text without control characters.
UserId = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f\x7f]+$")]


def legal(text: str) -> bool:
    """Whether `text` may be a session or turn id: 1-128 characters out of `A-Z a-z 0-9 . _ : -`."""
    return _LEGAL.match(text) is not None


def mint() -> str:
    """A new id: 32 hex digits, random."""
    return uuid.uuid4().hex


def session_key(tenant: str, session: str) -> str:
    """The store's name of a session, `<tenant>/<session>`; `/` is legal in neither."""
    return f"{tenant}/{session}"


def split_key(key: str) -> tuple[str, str]:
    """(tenant, session) of a store key."""
    tenant, _, session = key.partition("/")
    return tenant, session


def from_event_id(ce_id: str) -> str:
    """The turn id of a CloudEvents id: itself where it is legal, else `ce-` and its SHA-256 in hex."""
    return ce_id if legal(ce_id) else "ce-" + hashlib.sha256(ce_id.encode("utf-8", "surrogatepass")).hexdigest()


def from_position(partition: int, offset: int, timestamp_ms: int) -> str:
    """The turn id of a record that names none. A producer's own retry is then a second turn."""
    return f"at-{partition}-{offset}-{timestamp_ms}"


def letter_id(topic: str, partition: int, offset: int, timestamp_ms: int) -> str:
    """The id of the dead letter of the record there. Its time tells it from one of a topic that was created anew."""
    place = f"{topic}/{partition}@{offset}"
    return f"{place}-{timestamp_ms}" if timestamp_ms > 0 else place


def from_letter(letter: str, turn: str) -> str:
    """The turn id under which the dead letter of a turn that is over runs again: always the same one."""
    return "redrive-" + hashlib.sha256(f"{letter}\0{turn}".encode()).hexdigest()[:40]


def message_id(turn: str, n: int) -> str:
    """The id of a turn's n-th message, stable over attempts."""
    return f"{turn}~{n}"
