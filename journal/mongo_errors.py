"""PyMongo's errors in the journal's words: no answer, or a store that cannot be used. Knows no collection."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from pymongo.errors import (
    AutoReconnect,
    ConnectionFailure,
    ExecutionTimeout,
    InvalidOperation,
    OperationFailure,
    PyMongoError,
    WriteConcernError,
)

from journal.port import StoreUnavailable

DUPLICATE_KEY = 11000
# Codes of a server that is starting, stepping down, ending or overloaded: what was asked may be asked again.
_PASSING = frozenset(
    {6, 7, 24, 43, 50, 63, 64, 89, 91, 100, 112, 133, 134, 150, 189, 234, 262, 314, 317, 358, 402, 9001}
    | {10058, 10107, 11600, 11601, 11602, 13388, 13435, 13436, 17280, 46841}
)


def passing(error: PyMongoError) -> bool:
    """Whether the same call may succeed later: nothing is wrong with the call itself."""
    if isinstance(error, WriteConcernError | ExecutionTimeout):
        return True
    if isinstance(error, OperationFailure):
        return error.code in _PASSING or error.has_error_label("RetryableWriteError")
    return isinstance(error, ConnectionFailure | AutoReconnect | InvalidOperation)


class Answered:
    """`with Answered("insert"):` turns passing errors into StoreUnavailable; others are bugs and stay what they are."""

    __slots__ = ("_what",)

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, PyMongoError) and passing(error):
            raise StoreUnavailable(f"{self._what}: {type(error).__name__}: {str(error)[:300]}") from error


def check_writes(reply: dict[str, Any], what: str) -> list[dict[str, Any]]:
    """The duplicate-key errors of a write command's reply. StoreUnavailable where its durability is not known."""
    concern = reply.get("writeConcernError")
    if concern is not None:
        raise StoreUnavailable(f"{what}: no majority: {str(concern.get('errmsg'))[:300]}")
    errors: list[dict[str, Any]] = reply.get("writeErrors", [])
    for error in errors:
        if error["code"] == DUPLICATE_KEY:
            continue
        failure = OperationFailure(str(error.get("errmsg")), error["code"], error)
        if passing(failure):
            raise StoreUnavailable(f"{what}: {str(error.get('errmsg'))[:300]}")
        raise failure
    return errors
