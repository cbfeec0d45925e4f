"""One call that a model asked for: may it, must its user be asked, how long, how much. Knows no model and no loop.

Whatever becomes of a call is told to the model as its result: only what ends the turn itself is raised. Order of
effects: (1) its user may use the tool, (2) its user allowed the call, (3) the call is durable as one step.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from pydantic import JsonValue
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from schemas.errors import OutcomeUnknown, RetryableError, TerminalError
from schemas.history import HistoryItem, ToolCall
from schemas.parts import PARTS, TextPart
from workers.builder import describe
from workers.canonical import canonical
from workers.context import Context
from workers.side_by_side import side_by_side
from workers.tools.exchange import EXCHANGE, QUESTION_BYTES, QUESTIONS, Answer, Exchange, InputNeeded, Resumed
from workers.tools.meanwhile import Meanwhile
from workers.tools.tool import KEY, BadArguments, Paused, Tool, ToolOutput
from workers.tools.toolbox import Toolbox

_log = logging.getLogger("fleet.worker")
_no = ToolOutput.refused
_TRIES = 3  # of a tool that may be called again


async def call_all(ctx: Context, toolbox: Toolbox, calls: Sequence[ToolCall]) -> list[HistoryItem]:
    """Carry out what one answer asks for, side by side: the results as messages, in the order of the calls. Raises what
    ends the turn."""
    made = await side_by_side([call_tool(ctx, toolbox, call) for call in calls])
    return [result_item(call, output) for call, output in zip(calls, made, strict=True)]


async def call_tool(ctx: Context, toolbox: Toolbox, call: ToolCall) -> ToolOutput:
    """Carry out `call` in a branch of its own, so that calls run side by side. Raises what ends the turn."""
    line = ctx.branch(call.call, quiet=True)
    tool = toolbox.get(call.name)
    if tool is None:
        return await line.answer_call(call, _no(f"there is no tool {call.name[:64]!r}; there are: {toolbox.names}"))
    if call.arguments is None:
        return await line.answer_call(call, _no(f"the arguments of {tool.name} are no JSON object: give one"))
    return await carry_out(line, tool, call, call.arguments)


async def carry_out(line: Context, tool: Tool, call: ToolCall, given: dict[str, JsonValue]) -> ToolOutput:
    """Ask whoever must be asked, then call `tool`."""
    note = ""
    if tool.policy.approval:
        decision = await line.approval(
            f"Allow {tool.name}?",
            name=tool.name,
            arguments=given,
            call=call.call,
            expires_s=tool.policy.approval_s,
        )
        if not decision.allowed:
            return await line.answer_call(call, _no(_denied(tool.name, decision.by, decision.note)))
        if decision.arguments is not None and _differ(decision.arguments, given):
            given, note = decision.arguments, f"(called with {_json(decision.arguments)} by decision of {decision.by})"
    if _keyed(tool) and KEY in given:
        return await line.answer_call(call, _no(f"{KEY} is not yours to give: leave it out"))
    resumed: Resumed | None = None
    for number in range(QUESTIONS + 1):
        try:
            made = await line.tool(
                tool.name,
                _function(line, tool, call, note, resumed),
                given,
                call=call.call,
                side_effects=not tool.policy.read_only,
            )
        except OutcomeUnknown as unknown:
            return _no(str(unknown))
        if isinstance(made, ToolOutput):
            return made
        assert isinstance(made, Paused)
        resumed = await _asked(line, tool, made, f"{call.call}.{number}")
    return await line.answer_call(call, _no(f"{tool.name} asked more than {QUESTIONS} questions: it was given up"))


def result_item(call: ToolCall, output: ToolOutput) -> HistoryItem:
    """A result as the model reads it."""
    parts = output.parts or (TextPart(text="[nothing]"),)
    return HistoryItem(id="", turn="", role="tool", parts=parts, at_ms=0, call=call.call)


async def _asked(line: Context, tool: Tool, paused: Paused, call: str) -> Resumed:
    """Put what the tool asks before its user; another attempt goes on with what it is told."""
    held: Any = paused.data
    decision = await line.approval(held["message"], schema=held["schema"], call=call, expires_s=tool.policy.approval_s)
    return Resumed(held["state"], Answer(decision.allowed, decision.answer))


def _function(line: Context, tool: Tool, call: ToolCall, note: str, resumed: Resumed | None) -> Any:
    """What the step calls: never raises, answers within the policy's limits."""

    def progress(done: float, total: float | None, message: str | None) -> None:
        line.state(f"progress:{call.call}", {"tool": tool.name, "done": done, "total": total, "message": message})

    async def answer(given: Mapping[str, JsonValue], key: str | None) -> ToolOutput | Paused:
        meanwhile = Meanwhile(line, call.call, tool.policy.timeout_s)
        token = EXCHANGE.set(Exchange(progress=progress, ask=meanwhile.ask, resumed=resumed))
        try:
            return _noted(await _within(tool, given, key), note)
        finally:
            EXCHANGE.reset(token)
            meanwhile.end()

    if _keyed(tool):

        async def keyed(*, idempotency_key: str, **given: JsonValue) -> ToolOutput | Paused:
            return await answer(given, idempotency_key)

        return keyed

    async def plain(**given: JsonValue) -> ToolOutput | Paused:
        return await answer(given, None)

    return plain


def _keyed(tool: Tool) -> bool:
    return tool.policy.idempotent and not tool.policy.read_only


async def _within(tool: Tool, given: Mapping[str, JsonValue], key: str | None) -> ToolOutput | Paused:
    policy = tool.policy
    again = policy.read_only or policy.idempotent
    try:
        async with asyncio.timeout(policy.timeout_s):
            async for attempt in AsyncRetrying(
                retry=retry_if_exception_type(RetryableError),
                stop=stop_after_attempt(_TRIES if again else 1),
                wait=wait_random_exponential(multiplier=0.2, max=2.0),
                reraise=True,
            ):
                with attempt:
                    made = await tool.call(given, idempotency_key=key)
    except TimeoutError:
        unknown = "" if again else "; whether it took effect is unknown, do not just call it again"
        return _no(f"{tool.name} did not answer within {policy.timeout_s:g} s{unknown}")
    except InputNeeded as needed:
        schema = dict(needed.question.schema) if needed.question.schema is not None else None
        asked: dict[str, JsonValue] = {"message": needed.question.message, "schema": schema, "state": needed.state}
        if (bytes_ := len(_json(asked))) > QUESTION_BYTES:
            return _no(f"{tool.name} asks with {bytes_} bytes, at most {QUESTION_BYTES} are put before a user")
        return Paused(asked)
    except BadArguments as error:
        return _no(f"{tool.name} does not take these arguments: {error}")
    except (RetryableError, TerminalError) as error:
        return _no(f"{tool.name} failed: {error}")
    except Exception as error:  # noqa: BLE001 (a tool is not ours: what it raises is told to the model, and logged)
        _log.warning("tool %s raised", tool.name, exc_info=error)
        return _no(f"{tool.name} failed: {describe(error)}")
    return _bounded(made, tool)


def _bounded(made: ToolOutput, tool: Tool) -> ToolOutput:
    """A text that is too long is cut and says so; anything else that is too large is an error."""
    most = tool.policy.max_result_bytes
    bytes_ = len(PARTS.dump_json(made.parts))
    if bytes_ <= most:
        return made if len(_json(made.data)) <= most else made._replace(data=None)
    if all(isinstance(part, TextPart) for part in made.parts):
        text = "".join(part.text for part in made.parts if isinstance(part, TextPart))
        return ToolOutput.said(f"{_cut(text, most)}\n[cut: the first {most} of {bytes_} bytes]", is_error=made.is_error)
    return _no(f"the result of {tool.name} has {bytes_} bytes, at most {most} are taken: ask for less")


def _cut(text: str, most: int) -> str:
    return text.encode()[:most].decode(errors="ignore")


def _noted(made: ToolOutput | Paused, note: str) -> ToolOutput | Paused:
    if isinstance(made, Paused):
        return made
    return made._replace(parts=(TextPart(text=note + "\n"), *made.parts)) if note else made


def _denied(name: str, by: str, note: str | None) -> str:
    who = "nobody allowed it in time" if by == "deadline" else f"{by} denied it"
    return (
        f"{name} was not called: {who}{f' ({note})' if note else ''}; do not ask for it again unless the user says so"
    )


def _json(value: JsonValue) -> str:
    return orjson.dumps(value).decode()


def _differ(one: JsonValue, other: JsonValue) -> bool:
    """As JSON: true is not 1, as it is in Python."""
    return canonical(one, "arguments") != canonical(other, "arguments")
