"""A model in memory that answers by script. Knows no network; its only time is the loop's clock."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from types import TracebackType

from schemas.errors import RetryableError, TerminalError
from schemas.frames import Finish, Usage
from schemas.history import ToolCall
from workers.models.port import (
    Limit,
    ModelChunk,
    ModelDone,
    ModelPiece,
    ModelRequest,
    ModelTimedOut,
    ModelUnavailable,
    Timeouts,
)


@dataclass(frozen=True, slots=True)
class Script:
    """One answer. `first_s`: before the first token, `pace_s`: between two; `tokens`: the text, as it comes; `error`:
    raised instead of an answer, or after `cut_after` tokens of it; `cut_after` alone: the stream ends there.
    """

    tokens: Sequence[str] = ("Hello", " from", " the", " script", ".")
    reasoning: Sequence[str] = ()
    first_s: float = 0.0
    pace_s: float = 0.0
    finish: Finish = "stop"
    calls: tuple[ToolCall, ...] = ()
    usage: bool = True
    cut_after: int | None = None
    error: RetryableError | TerminalError | None = None


@dataclass(slots=True)
class Call:
    """What the model saw of one call. `given`: tokens that were taken; `ended`: whole, failed or closed early."""

    request: ModelRequest
    given: int = 0
    ended: bool = False
    whole: bool = False


Answers = Callable[[ModelRequest], Script]


class ScriptedModel:
    """Answers by `answers`: a function of the request, or scripts of which each serves one call and the last one all
    others. `caches`: it counts cached tokens. `calls` and `overlaps` (two turns of one session at the same time, as
    their calls) are for tests.
    """

    def __init__(
        self, answers: Answers | Sequence[Script] = (Script(),), *, coalesce_s: float = 0.05, caches: bool = False
    ) -> None:
        self.calls: list[Call] = []
        self.overlaps: list[tuple[Call, Call]] = []
        self.coalesce_s = coalesce_s
        self.caches = caches
        self._answers = answers
        self._last: dict[str, tuple[str, ...]] = {}

    @property
    def in_flight(self) -> int:
        return sum(not call.ended for call in self.calls)

    def stream(self, request: ModelRequest) -> ScriptedAnswer:
        """As the port says."""
        return ScriptedAnswer(self, request)

    async def close(self) -> None:
        """Nothing is held."""

    def counted(self, request: ModelRequest) -> tuple[int, int | None]:
        """Tokens of a request, and how many of them a provider's cache holds. Words of what was said alone; with
        `caches`, of the whole request, and those of the prefix that it shares with the session's request before it."""
        if not self.caches:
            return sum(len(item.text.split()) for item in request.messages), None
        words = _words(request)
        before = self._last.get(request.session, ())
        self._last[request.session] = words
        same = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(words, before, strict=False))))
        return len(words), same

    def begin(self, request: ModelRequest) -> tuple[Call, Script]:
        """A call has come."""
        call = Call(request)
        for other in self.calls:
            same = other.request.session == request.session and other.request.turn != request.turn
            if same and not other.ended:
                self.overlaps.append((other, call))
        self.calls.append(call)
        if callable(self._answers):
            return call, self._answers(request)
        return call, self._answers[min(len(self.calls), len(self._answers)) - 1]


class ScriptedAnswer:
    """One call: a context manager, and the iterator of its pieces."""

    def __init__(self, model: ScriptedModel, request: ModelRequest) -> None:
        self._model = model
        self._request = request
        self._pieces: AsyncIterator[ModelPiece] | None = None
        self._call: Call | None = None

    async def __aenter__(self) -> AsyncIterator[ModelPiece]:
        self._call, script = self._model.begin(self._request)
        try:
            if script.error is not None and script.cut_after is None:
                await asyncio.sleep(script.first_s)
                raise script.error
        except BaseException:
            self._call.ended = True
            raise
        self._pieces = self._run(self._call, script)
        return self._pieces

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._call is not None:
            self._call.ended = True

    async def _run(self, call: Call, script: Script) -> AsyncIterator[ModelPiece]:
        """The first token at once, then what has come within each interval."""
        clock = asyncio.get_running_loop().time
        began_s = clock()
        limits = self._request.timeouts or Timeouts()
        end_s = began_s + limits.total_s
        tokens = [*(("", said) for said in script.reasoning), *((said, "") for said in script.tokens)]
        stop = len(tokens) if script.cut_after is None else min(script.cut_after, len(tokens))
        while call.given < stop:
            due_s = began_s + script.first_s + call.given * script.pace_s
            which, patience_s = _patience(limits, call.given)
            await _until(due_s, end_s, limits.total_s, which, patience_s)
            taken = 1
            if call.given:
                await _until(clock() + self._model.coalesce_s, end_s, limits.total_s, "total", limits.total_s)
                taken = _arrived(clock() - began_s - script.first_s, script.pace_s)
            new = tokens[call.given : min(max(call.given + 1, taken), stop)]
            call.given += len(new)
            yield ModelChunk("".join(text for text, _ in new), "".join(reasoning for _, reasoning in new))
        if script.cut_after is not None:
            raise script.error or ModelUnavailable("the script cut the stream")
        call.whole = True
        yield ModelDone(script.finish, self._usage(script), script.calls, self._name)

    @property
    def _name(self) -> str:
        return self._request.model or "scripted"

    def _usage(self, script: Script) -> Usage | None:
        if not script.usage:
            return None
        given, cached = self._model.counted(self._request)
        made = len(script.tokens) + len(script.reasoning)
        reasoned = len(script.reasoning) or None
        return Usage(
            model=self._name,
            input_tokens=given,
            output_tokens=made,
            cached_input_tokens=cached,
            reasoning_tokens=reasoned,
        )


def _words(request: ModelRequest) -> tuple[str, ...]:
    """The request as one text, in the order in which providers cache it: tools, system, messages."""
    tools = [[tool.name, tool.description, tool.parameters] for tool in request.tools]
    words = [json.dumps(tools, sort_keys=True), request.system]
    for item in request.messages:
        told = item.model_dump(mode="json", include={"parts", "calls", "call"}, exclude_none=True)
        words += [item.role, json.dumps(told, sort_keys=True)]
    return tuple(" ".join(words).split())


async def _until(moment_s: float, end_s: float, total_s: float, which: Limit, patience_s: float) -> None:
    """Wait on the loop's clock. Raises ModelTimedOut where a limit comes first: of this wait, or of the whole call."""
    clock = asyncio.get_running_loop().time
    limit_s = clock() + patience_s
    if end_s <= limit_s:
        limit_s, which, patience_s = end_s, "total", total_s
    late = moment_s > limit_s
    if (wait_s := min(moment_s, limit_s) - clock()) > 0:
        await asyncio.sleep(wait_s)
    if late:
        raise ModelTimedOut(which, patience_s)


def _patience(limits: Timeouts, given: int) -> tuple[Limit, float]:
    return ("idle", limits.idle_s) if given else ("first_token", limits.first_token_s)


def _arrived(passed_s: float, pace_s: float) -> int:
    """How many tokens have come after so many seconds; all of them if they come at once."""
    return 1 + int(passed_s / pace_s) if pace_s > 0 else 1_000_000_000
