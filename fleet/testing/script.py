"""What the model says in a test, one answer a call. Knows no agent and no journal."""

from __future__ import annotations

import re
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import JsonValue

from schemas.codes import Code
from schemas.entries import Step
from schemas.errors import RetryableError, TerminalError
from schemas.frames import Finish, Usage
from schemas.history import ToolCall
from workers.model_step import request_digest
from workers.models.port import (
    ModelDone,
    ModelPiece,
    ModelRateLimited,
    ModelRefused,
    ModelRequest,
    ModelUnavailable,
)
from workers.models.scripted import Script, ScriptedModel

Failure = int | Literal["cut", "timeout"]
_NEVER_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What one call is answered with. `usage`: tokens in and out, None: words are counted; `first_s`: seconds before
    the first token; `error`: instead of an answer, or in the middle of `text` where `cut`."""

    text: str = ""
    reasoning: str = ""
    calls: tuple[ToolCall, ...] = ()
    usage: tuple[int, int] | None = None
    finish: Finish = "stop"
    first_s: float = 0.0
    error: RetryableError | TerminalError | None = None
    cut: bool = False

    @property
    def failing(self) -> bool:
        """It is no whole answer, so the call is made again or given up."""
        return self.cut or self.error is not None or self.first_s >= _NEVER_S

    @property
    def script(self) -> Script:
        """As the scripted model takes it."""
        tokens = _tokens(self.text)
        return Script(
            tokens=tokens,
            reasoning=_tokens(self.reasoning),
            first_s=self.first_s,
            finish=self.finish,
            calls=self.calls,
            cut_after=len(tokens) if self.cut else None,
            error=self.error,
        )


Told = Answer | str
Answers = Sequence[Told] | Callable[[ModelRequest], Told]


def says(
    text: str,
    *,
    reasoning: str = "",
    usage: tuple[int, int] | None = None,
    finish: Finish = "stop",
    first_s: float = 0.0,
) -> Answer:
    """The model answers with `text`. `usage`: tokens in and out; `first_s`: after so many (virtual) seconds."""
    return Answer(text, reasoning, usage=usage, finish=finish, first_s=first_s)


def asks(tool: str, /, **arguments: JsonValue) -> Answer:
    """The model asks for one tool call."""
    return Answer(calls=(ToolCall(call="", name=tool, arguments=arguments),))


def asks_many(*calls: Answer, text: str = "", usage: tuple[int, int] | None = None) -> Answer:
    """The model asks for several calls at once, and says `text` before: `asks_many(asks("a"), asks("b", n=1))`."""
    return Answer(text, calls=tuple(call for answer in calls for call in answer.calls), usage=usage)


def asks_badly(tool: str, arguments_text: str, /) -> Answer:
    """The model asks for a tool with arguments that are no JSON object."""
    return Answer(calls=(ToolCall(call="", name=tool, arguments_text=arguments_text),))


def fails(how: Failure, text: str = "", *, after_s: float | None = None) -> Answer:
    """The call fails: an HTTP status, `cut` (the stream ends after `text`), `timeout` (nothing comes). `after_s`: when
    the provider wants to be asked again."""
    if how == "timeout":
        return Answer(text or "…", first_s=_NEVER_S)
    if how == "cut":
        return Answer(text, cut=True)
    said = text or f"HTTP {how}"
    if how == 429:
        return Answer(error=ModelRateLimited(said, after_s=after_s))
    return Answer(error=ModelUnavailable(said, after_s=after_s) if how >= 500 else ModelRefused(said, status=how))


@dataclass(slots=True)
class _Given:
    """An answer that was given. `digests`: those that the STEP of its call may have; `key`: what its call is known by
    when it is made again."""

    key: str
    digests: frozenset[str]
    answer: Answer


class Telling:
    """A model that answers by `answers`, in order. A call that an attempt repeats, because its result was not durable
    when the worker died, gets what it got before. `fault`: why the script does not fit what the agent did."""

    def __init__(self, answers: Answers, taken: int = 0) -> None:
        self.answers = answers if callable(answers) else tuple(answers)
        self.taken = taken
        self.requests: list[ModelRequest] = []
        self.fault: str | None = None
        self._given: list[_Given] = []
        self._again: dict[str, deque[Answer]] = defaultdict(deque)

    def copy(self) -> Telling:
        """The same, from here on."""
        return Telling(self.answers, self.taken)

    @property
    def left(self) -> int:
        """Answers that nobody has asked for."""
        return 0 if callable(self.answers) else max(len(self.answers) - self.taken, 0)

    def begin_attempt(self, number: int) -> None:
        """An attempt begins: of a later one, what earlier ones asked and did not live to write down is asked again."""
        self._again.clear()
        if number > 1:
            for given in self._given:
                self._again[given.key].append(given.answer)
        self._given.clear()

    def durable(self, step: Step) -> None:
        """The result of a call, or that it failed, is in the journal: nobody asks for it again."""
        if step.error is not None:
            self._given = [it for it in self._given if not (it.answer.failing and step.digest in it.digests)]
            return
        for index, given in enumerate(self._given):
            if not given.answer.failing and step.digest in given.digests:
                del self._given[index]
                self._given = [other for other in self._given if not (other.key == given.key and other.answer.failing)]
                return

    @asynccontextmanager
    async def stream(self, request: ModelRequest) -> AsyncIterator[AsyncIterator[ModelPiece]]:
        """As the port says."""
        answer = self._answer(request)
        async with ScriptedModel([answer.script]).stream(request) as pieces:
            yield _counted(pieces, request, answer.usage)

    async def close(self) -> None:
        """Nothing is held."""

    def _answer(self, request: ModelRequest) -> Answer:
        self.requests.append(request)
        key = request_digest(request, show=True)
        again = self._again.get(key)
        answer = again.popleft() if again else self._next(request)
        self._given.append(_Given(key, _digests(request), answer))
        return answer

    def _next(self, request: ModelRequest) -> Answer:
        if callable(self.answers):
            told = self.answers(request)
        elif self.taken < len(self.answers):
            told = self.answers[self.taken]
        else:
            raise TerminalError(Code.AGENT_ERROR, self._over(request))
        answer = Answer(told) if isinstance(told, str) else told
        self.taken += 1
        calls = [_named(call, f"call{self.taken}.{n}") for n, call in enumerate(answer.calls)]
        return replace(answer, calls=tuple(calls))

    def _over(self, request: ModelRequest) -> str:
        last = request.messages[-1] if request.messages else None
        about = f"; this request ends with {last.role}: {last.text[:80]!r}" if last is not None else ""
        self.fault = (
            f"the model was asked {self.taken + 1} times, and the script has {len(self.answers)} answers"  # type: ignore[arg-type]
            f"{about}. Give Lab(model=[…]) one answer more, or have the agent ask less"
        )
        return self.fault


def _named(call: ToolCall, name: str) -> ToolCall:
    return call if call.call else call.model_copy(update={"call": name})


def _digests(request: ModelRequest) -> frozenset[str]:
    """The STEP says what the agent asked for: with its model, or without where the registration names it."""
    asked = (request, replace(request, model=None))
    return frozenset(request_digest(one, show=show) for one in asked for show in (True, False))


def _tokens(text: str) -> tuple[str, ...]:
    return tuple(re.findall(r"\s*\S+\s*\Z|\s*\S+|\s+\Z", text))


async def _counted(
    pieces: AsyncIterator[ModelPiece], request: ModelRequest, usage: tuple[int, int] | None
) -> AsyncIterator[ModelPiece]:
    async for piece in pieces:
        if usage is not None and isinstance(piece, ModelDone):
            spent = Usage(model=request.model or "scripted", input_tokens=usage[0], output_tokens=usage[1])
            piece = replace(piece, usage=spent)  # noqa: PLW2901 (the last piece, with what the script says it cost)
        yield piece
