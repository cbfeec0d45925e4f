"""Every error code, what a client may do about it, and its HTTP status. The text beside a code is for people."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, NamedTuple

Retry = Literal["no", "same_turn", "new_turn"]


class Code(StrEnum):
    """Stable, machine-read names of what went wrong; contract.md lists them."""

    BAD_REQUEST = "bad_request"
    UNAUTHORIZED = "unauthorized"
    NOT_FOUND = "not_found"
    CONFLICT = "conflict"
    EXISTS = "exists"
    TOO_LARGE = "too_large"
    UNSUPPORTED = "unsupported"
    BUSY = "busy"
    QUOTA = "quota"
    OVERLOADED = "overloaded"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    SESSION_EXPIRED = "session_expired"
    AGENT_UNKNOWN = "agent_unknown"
    AGENT_ERROR = "agent_error"
    MODEL_ERROR = "model_error"
    MODEL_RATE_LIMITED = "model_rate_limited"
    TOOL_ERROR = "tool_error"
    OUTCOME_UNKNOWN = "outcome_unknown"
    ATTEMPTS_EXHAUSTED = "attempts_exhausted"
    POISON = "poison"
    UNAVAILABLE = "unavailable"
    PUBLISH_UNKNOWN = "publish_unknown"
    INTERNAL = "internal"


class Meaning(NamedTuple):
    """`status`: HTTP; `retry`: what is safe; `text`: one sentence."""

    status: int
    retry: Retry
    text: str


MEANINGS: dict[Code, Meaning] = {
    Code.BAD_REQUEST: Meaning(400, "no", "The request is malformed; the message says where."),
    Code.UNAUTHORIZED: Meaning(401, "no", "Sign in again."),
    Code.NOT_FOUND: Meaning(404, "no", "There is no such object for this user."),
    Code.CONFLICT: Meaning(409, "no", "Known with other content: mint a new id; or not at this version."),
    Code.EXISTS: Meaning(409, "no", "The session exists already."),
    Code.TOO_LARGE: Meaning(413, "no", "The content is over a limit; the message names it."),
    Code.UNSUPPORTED: Meaning(400, "no", "This version does not know the type or does not support it."),
    Code.BUSY: Meaning(409, "new_turn", "A turn runs or waits and the policy says reject."),
    Code.QUOTA: Meaning(429, "new_turn", "A budget is used up."),
    Code.OVERLOADED: Meaning(503, "new_turn", "The fleet is full; wait for Retry-After."),
    Code.DEADLINE_EXCEEDED: Meaning(504, "new_turn", "The turn's deadline passed."),
    Code.SESSION_EXPIRED: Meaning(410, "no", "The session expired; open a new one."),
    Code.AGENT_UNKNOWN: Meaning(400, "no", "No agent of that name is registered; `fleet agents` lists them."),
    Code.AGENT_ERROR: Meaning(500, "new_turn", "The agent raised an error."),
    Code.MODEL_ERROR: Meaning(502, "new_turn", "The model provider failed."),
    Code.MODEL_RATE_LIMITED: Meaning(503, "new_turn", "The model provider limits the rate."),
    Code.TOOL_ERROR: Meaning(502, "new_turn", "A tool failed."),
    Code.OUTCOME_UNKNOWN: Meaning(502, "no", "Nobody can know whether the tool's effect happened."),
    Code.ATTEMPTS_EXHAUSTED: Meaning(500, "no", "The turn was tried as often as is allowed."),
    Code.POISON: Meaning(500, "no", "The turn ends every process that runs it; it is in the dead letters."),
    Code.UNAVAILABLE: Meaning(503, "same_turn", "A part of the service is out of reach; try the same turn again."),
    Code.PUBLISH_UNKNOWN: Meaning(503, "same_turn", "It may be in already; send the same turn id again."),
    Code.INTERNAL: Meaning(500, "new_turn", "An error of ours; the log has it."),
}


def problem_type(code: Code) -> str:
    """The URI of a code in problem+json: stable, not to be fetched."""
    return f"urn:turnfleet:error:{code.value}"
