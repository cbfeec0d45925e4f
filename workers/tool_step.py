"""One tool call as a step: answered from the journal, or made and durable, never made twice by chance. Knows no model.

Order of effects for a tool with side effects: (1) the INTENT is durable, (2) the tool is called, (3) the STEP with what
came of it is durable, (4) the agent gets it. An attempt that meets (1) without (3) cannot know whether (2) happened: it
calls again under the same key where the tool takes one, and tells `outcome_unknown` where it does not.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import JsonValue

from schemas.codes import Code
from schemas.entries import Intent, Step, StepError
from schemas.errors import OutcomeUnknown, RetryableError, TerminalError
from schemas.frames import ToolCalled, ToolResult
from schemas.parts import PARTS
from workers import failure
from workers.canonical import MAX_RESULT_BYTES, digest_of, plain
from workers.cutting import cut_parts
from workers.ledger.clock import TOOLS
from workers.remains import result_parts, weighed
from workers.steps import Steps, call_of
from workers.tools.tool import KEY, Paused, ToolOutput

Made = JsonValue | ToolOutput | Paused

_KIND = "tool"


class ToolStep:
    """`call`: the model's id of the call, or None; `side_effects`: an INTENT comes first."""

    __slots__ = (
        "_call",
        "_digest",
        "_function",
        "_given",
        "_name",
        "_number",
        "_progress",
        "_side_effects",
        "_takes_key",
        "arguments_text",
    )

    def __init__(
        self,
        progress: Steps,
        name: str,
        function: Callable[..., Any],
        given: dict[str, JsonValue],
        *,
        call: str | None,
        side_effects: bool,
    ) -> None:
        self._progress = progress
        self._name = name
        self._function = function
        self._given = given
        self._takes_key = takes_key(function)
        self._side_effects = side_effects or self._takes_key
        if self._takes_key and KEY in given:
            raise TerminalError(Code.TOOL_ERROR, f"tool {name!r}: {KEY} is given by the worker, not by a caller")
        what = f"tool {name!r}: its arguments"
        plain(given, what)
        self._digest = digest_of([given, call], what)
        self._number = -1
        self._call = call or ""
        self.arguments_text: str | None = None  # of arguments that were no object

    async def run(self) -> Made:
        """What the tool returned, or what it raised: RetryableError, TerminalError. Raises TurnLost."""
        progress = self._progress
        held = self._begin()
        if held is not None:
            return self._replay(held)
        if not self._side_effects and progress.intent(self._number) is None:
            self._tell_call()
            return await self._answered(self._called({}))
        return await self._once()

    async def around(self, context: Callable[[Steps], object]) -> Made:
        """The same of a tool that works through a context, of a branch: it is no step while it does."""
        progress = self._progress
        held = self._begin()
        name = f"{self._name}.{self._number}"
        if held is not None:
            progress.whole.pass_over(progress, name)
            return self._replay(held)
        self._tell_call()
        line = progress.whole.branch(progress, name, call=self._call, quiet=False)
        self._function = functools.partial(self._function, context(line))
        try:
            made = self._fitting(_kept_form(await self._made({}), self._what))
        except failure.Typed as error:
            await progress.whole.do(self._kept(error))
            raise
        return await progress.whole.do(self._keep(made))

    async def _answered(self, call: Awaitable[Any]) -> Made:
        """What came of the call is durable, also what it raised."""
        try:
            made = self._fitting(_kept_form(await call, self._what))
        except failure.Typed as error:
            await self._kept(error)
            raise
        return await self._keep(made)

    def _fitting(self, made: Made) -> Made:
        """`made`, counted. Raises TerminalError(too_large)."""
        self._progress.whole.fitting(_weighed(made), self._what)
        return made

    def _begin(self) -> Step | None:
        progress = self._progress
        self._number, held = progress.take(_KIND, self._name, self._digest)
        self._call = self._call or call_of(progress.whole.job.turn.turn, progress.run, self._number)
        return held

    @property
    def _what(self) -> str:
        return f"tool {self._name!r}: its result"

    async def _once(self) -> Made:
        """The call of a tool with side effects."""
        intent = self._progress.intent(self._number)
        if intent is None:
            intent = await self._intend()
        elif not self._takes_key:
            unknown = OutcomeUnknown(self._name, self._call)
            await self._kept(unknown)
            raise unknown
        self._tell_call()
        return await self._answered(self._called({KEY: intent.key} if self._takes_key else {}))

    async def _intend(self) -> Intent:
        progress, turn = self._progress, self._progress.whole.job.turn
        intent = Intent(
            at_ms=progress.whole.clock_ms(),
            turn=turn.turn,
            attempt=turn.attempt,
            step=self._number,
            name=self._name,
            digest=self._digest,
            call=self._call,
            key=self._key(),
            steers=progress.heard_before(self._number),
            run=progress.run,
        )
        await progress.intend(intent)
        return intent

    def _key(self) -> str:
        """The same in every attempt of this turn, another one for every other call: 32 hex digits."""
        job, run = self._progress.whole.job, self._progress.run
        number = f"{run}/{self._number}" if run else self._number
        place = (job.info.tenant, job.info.session, job.turn.turn, job.turn.began_ms, number, self._name, self._digest)
        return hashlib.sha256("\n".join(map(str, place)).encode()).hexdigest()[:32]

    async def _called(self, more: dict[str, str]) -> Any:
        clock = self._progress.whole.clock
        clock.enter(TOOLS)
        try:
            return await self._made(more)
        finally:
            clock.leave(TOOLS)

    async def _made(self, more: dict[str, str]) -> Any:
        try:
            result = self._function(**self._given, **more)
            return await result if inspect.isawaitable(result) else result
        except (RetryableError, TerminalError):
            raise
        except Exception as error:
            text = f"tool {self._name!r} raised {type(error).__name__}: {error}"
            raise TerminalError(Code.TOOL_ERROR, text) from error

    async def _keep(self, made: Made) -> Made:
        """The call is answered, or paused, durably."""
        if isinstance(made, Paused):
            await self._pause(made)
        else:
            await self._append(made)
        return made

    async def _kept(self, error: RetryableError | TerminalError) -> None:
        """What the tool raised is durable as well: nobody calls it again to find out."""
        await self._append(None, error=failure.kept(error))

    async def _pause(self, made: Paused) -> None:
        """What came of it so far is durable; nobody is told."""
        step = self._progress.entry(
            self._number, _KIND, self._name, self._digest, result=made.data, call=self._call, paused=True
        )
        await self._progress.append(step)

    async def _append(self, made: JsonValue | ToolOutput, *, error: StepError | None = None) -> None:
        progress = self._progress
        output = made if isinstance(made, ToolOutput) else None
        step = progress.entry(
            self._number,
            _KIND,
            self._name,
            self._digest,
            result=output.data if output is not None else made,  # type: ignore[arg-type]
            call=self._call,
            error=error,
            content=output.parts if output is not None else None,
            is_error=output is not None and output.is_error,
        )
        parts = result_parts(step)
        progress.tool_answer(self._call, parts)
        await progress.append(step)
        shown, cut = cut_parts(parts, progress.whole.job.info.session)
        progress.emitter.send(
            ToolResult,
            call=self._call,
            name=self._name,
            content=shown,
            is_error=step.is_error or error is not None,
            truncated=cut,
        )

    def _replay(self, held: Step) -> Made:
        error = held.error
        if held.paused:
            self._progress.replayed(self._number)
            return Paused(held.result)
        self._progress.tool_answer(self._call, result_parts(held))
        self._progress.replayed(self._number)
        if held.content is not None:
            return ToolOutput(held.content, held.is_error, held.result)
        if error is None:
            return held.result
        if error.code is Code.OUTCOME_UNKNOWN:
            raise OutcomeUnknown(self._name, self._call)
        raise failure.raised(error)

    def _tell_call(self) -> None:
        text = self.arguments_text
        given = {"arguments": self._given} if text is None else {"arguments_text": text}
        self._progress.emitter.send(ToolCalled, call=self._call, name=self._name, **given)


def _kept_form(made: Any, what: str) -> Made:
    """What a tool returned, as it comes back from the journal. Raises TerminalError."""
    if isinstance(made, Paused):
        return Paused(plain(made.data, what, MAX_RESULT_BYTES))
    if not isinstance(made, ToolOutput):
        return plain(made, what, MAX_RESULT_BYTES)
    data = plain(made.data, what, MAX_RESULT_BYTES)
    plain(PARTS.dump_python(made.parts, mode="json"), what, MAX_RESULT_BYTES)
    return ToolOutput(tuple(made.parts), made.is_error, data)


def _weighed(made: Made) -> JsonValue:
    if isinstance(made, Paused):
        return made.data
    if not isinstance(made, ToolOutput):
        return made
    return weighed(made.parts, made.data)


def takes_key(function: Callable[..., Any]) -> bool:
    """Whether a tool is idempotent: it has a parameter `idempotency_key`, and does the same once under one key."""
    try:
        parameter = inspect.signature(function).parameters.get(KEY)
    except (TypeError, ValueError):
        return False
    return parameter is not None and parameter.kind in {parameter.KEYWORD_ONLY, parameter.POSITIONAL_OR_KEYWORD}
