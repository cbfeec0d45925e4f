"""One call of a server's tool: what goes out, what comes back, and what becomes of it when nothing does.

A call that may have taken effect and has no answer is `outcome_unknown`, unless the operator says that the tool may be
called again: then it is retryable. What the server says against a call is the tool's result, for the model. Knows no
lease and no list.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NoReturn

from mcp.shared.exceptions import MCPError
from mcp_types import CONNECTION_CLOSED, INVALID_PARAMS
from pydantic import JsonValue

from schemas.codes import Code
from schemas.errors import RetryableError, TerminalError
from workers.mcp.config import PolicyConfig
from workers.mcp.results import output
from workers.mcp.stdio import TOO_LONG
from workers.mcp.wire import Progress, Wire, question, response
from workers.tools.exchange import EXCHANGE, Answer, Exchange, InputNeeded, Question, Resumed
from workers.tools.tool import ToolOutput

KEY_META = "turnfleet/idempotency-key"
_PROGRESS_S = 0.1  # of one call at most so often
_AGAIN_S, _AGAIN_MOST_S = 0.05, 1.0
_TOO_LONG_EVENT = "byte limit"  # how the SDK says that an event was thrown away: its code is that of a lost server
_ELICITATION = "elicitation/create"


def params_of(tool: str, arguments: Mapping[str, JsonValue], policy: PolicyConfig, key: str | None) -> dict[str, Any]:
    """What is sent."""
    given: dict[str, Any] = {"name": tool, "arguments": dict(arguments)}
    if key is not None and policy.key_argument is not None:
        given["arguments"][policy.key_argument] = key
    elif key is not None:
        given["_meta"] = {KEY_META: key}
    resumed = EXCHANGE.get().resumed
    if resumed is not None:
        given.update(_resuming(resumed))
    return given


async def ask(wire: Wire, params: dict[str, Any], policy: PolicyConfig, what: str) -> ToolOutput:
    """Raises InputNeeded, RetryableError, TerminalError."""
    exchange, pause_s = EXCHANGE.get(), _AGAIN_S
    again = policy.read_only or policy.idempotent
    try:
        while True:
            raw = await wire.call(params, progress=_progress(exchange))
            if raw.get("resultType") != "input_required":
                return output(raw, policy.max_result_bytes)
            state = raw.get("requestState")
            if raw.get("inputRequests") or not isinstance(state, str):
                raise _needed(raw, what)
            params = {**params, "requestState": state}  # it is busy: ask again
            params.pop("inputResponses", None)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _AGAIN_MOST_S)
    except MCPError as error:
        if error.code == CONNECTION_CLOSED and _TOO_LONG_EVENT not in error.message:
            no_answer(what, "its server went away", again=again)
        return _refused(error, what, resumed=exchange.resumed is not None)
    except (RuntimeError, OSError) as error:  # the SDK's, where a connection ends under a call
        no_answer(what, f"its connection broke: {error}"[:200], again=again)


def no_answer(what: str, why: str, *, again: bool) -> NoReturn:
    """It may have taken effect."""
    if again:
        raise RetryableError(f"{what}: {why}", code=Code.TOOL_ERROR)
    raise TerminalError(Code.OUTCOME_UNKNOWN, f"{what}: {why}; whether it took effect is unknown")


def _refused(error: MCPError, what: str, *, resumed: bool) -> ToolOutput:
    if error.code == TOO_LONG or _TOO_LONG_EVENT in error.message:
        return ToolOutput.refused(f"{what}: {error.message}: ask for less")
    if resumed and error.code == INVALID_PARAMS:
        text = "the server no longer knows what it asked; nothing was done: call the tool anew"
        return ToolOutput.refused(f"{what}: {text}")
    return ToolOutput.refused(f"{what}: {error.message[:2_000]} (code {error.code})")


def _progress(exchange: Exchange) -> Progress | None:
    told = exchange.progress
    if told is None:
        return None
    clock = asyncio.get_running_loop().time
    last_s = -_PROGRESS_S

    async def tell(done: float, total: float | None, message: str | None) -> None:
        nonlocal last_s
        now_s = clock()
        if now_s - last_s >= _PROGRESS_S or done == total:
            last_s = now_s
            told(done, total, message[:500] if message else message)

    return tell


def _needed(raw: Mapping[str, Any], what: str) -> Exception:
    """What the server asks before it goes on; state and keys of its requests go back with the answer."""
    requests = raw.get("inputRequests")
    asked: dict[str, Question] = {}
    for key, request in requests.items() if isinstance(requests, dict) else ():
        if not isinstance(request, dict) or request.get("method") != _ELICITATION:
            return TerminalError(Code.TOOL_ERROR, f"{what}: its server asks for what is not offered here")
        given = request.get("params")
        asked[key] = question(given if isinstance(given, dict) else {})
    if not asked:
        return TerminalError(Code.TOOL_ERROR, f"{what}: its server asks for input and does not say which")
    state: dict[str, JsonValue] = {"keys": list(asked), "state": raw.get("requestState")}
    return InputNeeded(_joined(asked), state)


def _joined(asked: Mapping[str, Question]) -> Question:
    if len(asked) == 1:
        return next(iter(asked.values()))
    properties: dict[str, JsonValue] = {key: dict(one.schema or {"type": "object"}) for key, one in asked.items()}
    return Question("\n".join(one.message for one in asked.values()), {"type": "object", "properties": properties})


def _resuming(resumed: Resumed) -> dict[str, Any]:
    held = resumed.state if isinstance(resumed.state, dict) else {}
    keys, answer = held.get("keys"), resumed.answer
    names = [str(key) for key in keys] if isinstance(keys, list) else []
    given: dict[str, Any] = {"inputResponses": {key: response(_of(answer, key, len(names))) for key in names}}
    if held.get("state") is not None:
        given["requestState"] = held["state"]
    return given


def _of(answer: Answer, key: str, count: int) -> Answer:
    if count == 1 or not isinstance(answer.content, dict):
        return answer
    return answer._replace(content=answer.content.get(key))
