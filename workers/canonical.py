"""JSON as steps keep it: one form for one value, so that a replay compares and answers equal. Knows no step."""

from __future__ import annotations

import hashlib
import json

import orjson
from pydantic import JsonValue

from schemas.codes import Code
from schemas.errors import Refusal, TerminalError
from schemas.limits import Limits, check_json

MAX_VALUE_BYTES = 262_144  # what travels in a frame: a state's value, data of an answer
MAX_RESULT_BYTES = 4_194_304  # a step's result
MAX_TURN_BYTES = 12_582_912  # all that the steps of one turn hold: its FINISH may repeat it
MAX_KEPT_BYTES = 1_048_576  # all that a session keeps by name
_LIMITS = Limits(depth=64, nodes=100_000)


def canonical(value: object, what: str) -> str:
    """The one JSON text of a value: keys sorted, no spaces. Raises TerminalError(agent_error) where it is no JSON."""
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise TerminalError(Code.AGENT_ERROR, f"{what} is not JSON: {error}") from None
    return text


def plain(value: object, what: str, max_bytes: int = MAX_VALUE_BYTES) -> JsonValue:
    """`value` as it comes back from the journal. Raises TerminalError: `agent_error` where it is no JSON or nested too
    deeply, `too_large` beyond `max_bytes`.
    """
    if value is None or value is True or value is False:
        return value
    text = canonical(value, what)
    if 4 * len(text) > max_bytes and (bytes_ := len(text.encode())) > max_bytes:
        raise TerminalError(Code.TOO_LARGE, f"{what} has {bytes_} bytes of JSON, at most {max_bytes} bytes are kept")
    result: JsonValue = json.loads(text)
    try:
        check_json(result, limits=_LIMITS, what=what)
    except Refusal as error:
        raise TerminalError(Code.AGENT_ERROR, error.text) from None
    return result


def weight(value: JsonValue) -> int:
    """Bytes of the JSON text of what is known to be JSON."""
    return len(orjson.dumps(value))


def digest_of(value: object, what: str) -> str:
    """32 hex digits over the canonical JSON."""
    return hashlib.sha256(canonical(value, what).encode()).hexdigest()[:32]
