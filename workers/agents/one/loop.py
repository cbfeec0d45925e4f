"""Reason and act: ask the model, carry out what it asks for, until it answers or a bound is reached. Knows no plan.

Every decision follows from steps, so that a later attempt takes it again; what the clock decides is decided only for a
step that no earlier attempt began.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import orjson

from schemas.codes import Code
from schemas.errors import TerminalError
from schemas.frames import Finish, Usage
from schemas.history import HistoryItem, ToolCall
from workers.agent import ModelAnswer
from workers.agent import user as as_user
from workers.agents.one.room import Room
from workers.context import Context
from workers.models.port import ToolSpec
from workers.tools.calling import result_item
from workers.tools.tool import ToolOutput

Why = Literal["", "steps", "tokens", "time", "budget", "repeats", "empty"]
_WHY: dict[Why, str] = {
    "steps": "the limit of {steps} model calls for one turn",
    "tokens": "the limit of {tokens} tokens for one turn",
    "time": "the end of the time for this turn",
    "budget": "the end of the budget",
    "repeats": "the same call over and over",
    "empty": "a model that says nothing",
}
_LAST = (
    "[This is the last step of this turn, because of {why}. Call no more tools: answer the user now with what you "
    "have, and say what is missing.]"
)
_EMPTY = "[Your last answer was empty. Answer the user, or call a tool.]"
_REPEATED = (
    "{name} was not called: you have called it with these same arguments {n} times in this turn. Use what it answered, "
    "or do something else."
)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What one run may take. `steps`: model calls; `tokens`: in and out; `repeats`: of one call with the same
    arguments; `side_by_side`: calls of one answer; `reserve_s`: left of the turn's time for the last answer; `results`:
    tokens of tools' results that are shown whole, beyond that the oldest are shown as notes."""

    steps: int = 24
    tokens: int = 400_000
    repeats: int = 3
    side_by_side: int = 16
    reserve_s: float = 15.0
    results: int = 64_000


class Acts(Protocol):
    """What a loop acts with: tools and whatever else its owner offers. `over`: what was done last ends the run."""

    @property
    def over(self) -> bool: ...

    def specs(self) -> tuple[ToolSpec, ...]:
        """What the model is told, in an order that does not change."""
        ...

    async def act(self, calls: Sequence[ToolCall]) -> Sequence[ToolOutput]:
        """Carry out what one answer asks for; the results in the order of the calls."""
        ...


@dataclass(slots=True)
class Ran:
    """How a loop ended. `why`: the bound that ended it, empty where the model was done; `messages`: all that was said
    in it, `text` the last of it."""

    text: str = ""
    finish: Finish = "stop"
    why: Why = ""
    messages: list[HistoryItem] = field(default_factory=list)


class Loop:
    """One run of the loop in `ctx`. `system`: the instructions; `model` None: as the agent is registered."""

    def __init__(
        self, ctx: Context, acts: Acts, *, system: str, bounds: Bounds | None = None, model: str | None = None
    ) -> None:
        self._ctx = ctx
        self._acts = acts
        self._system = system
        self._bounds = bounds if bounds is not None else Bounds()
        self._model = model
        self._asked = self._tokens = self._empty = 0
        self._seen: Counter[bytes] = Counter()
        self._room = Room(self._bounds.results)
        self.first: ModelAnswer | None = None  # what the first call of all was answered

    async def run(self, messages: Sequence[HistoryItem]) -> Ran:
        """From `messages` to an answer. Raises what ends the turn."""
        said = list(messages)
        while True:
            said += self._ctx.steers()
            why = self._reached()
            try:
                answer = await self._ask(said, why)
            except TerminalError as error:
                if error.code is not Code.QUOTA:
                    raise
                return Ran(finish="limit", why="budget", messages=said)
            said.append(answer.message)
            if answer.volatile and not why:
                why = "time"  # an earlier attempt decided so, and told the model
            if why:
                return Ran(answer.text, "limit", why, said)
            if answer.calls:
                said += await self._carry_out(answer.calls)
                if self._acts.over:
                    return Ran("", "stop", "", said)
            elif answer.text or answer.finish == "content_filter":
                return Ran(answer.text, answer.finish, "", said)
            elif self._empty:
                return Ran("", "limit", "empty", said)
            else:
                self._empty += 1
                said[-1] = as_user(_EMPTY)

    def _reached(self) -> Why:
        """The bound that makes the next call the last one."""
        bounds = self._bounds
        if self._asked >= bounds.steps - 1:
            return "steps"
        if self._tokens >= bounds.tokens:
            return "tokens"
        if any(count > 2 * bounds.repeats for count in self._seen.values()):
            return "repeats"
        if not self._ctx.replaying and self._ctx.remaining_s < bounds.reserve_s:
            return "time"
        return ""

    async def _ask(self, said: list[HistoryItem], why: Why) -> ModelAnswer:
        last = (as_user(_LAST.format(why=because(why, self._bounds))),) if why else ()
        self._asked += 1
        answer = await self._ctx.model(
            self._room.shown(said), system=self._system, tools=self._acts.specs(), volatile=last, model=self._model
        )
        self._tokens += sum(tokens_of(usage) for usage in answer.usage)
        self.first = self.first or answer
        return answer

    async def _carry_out(self, calls: Sequence[ToolCall]) -> list[HistoryItem]:
        due = [call for call in calls if not self._again(call)][: self._bounds.side_by_side]
        results = dict(zip((call.call for call in due), await self._acts.act(due), strict=True))
        for call in calls:
            if call.call not in results:
                line = self._ctx.branch(call.call, quiet=True)
                results[call.call] = await line.answer_call(call, ToolOutput.refused(self._refusal(call)))
        return [result_item(call, results[call.call]) for call in calls]

    def _again(self, call: ToolCall) -> bool:
        """Whether this very call was made so often that it is not made again."""
        key = _key(call)
        self._seen[key] += 1
        return self._seen[key] > self._bounds.repeats

    def _refusal(self, call: ToolCall) -> str:
        if self._seen[_key(call)] > self._bounds.repeats:
            return _REPEATED.format(name=call.name[:64], n=self._bounds.repeats)
        return f"{call.name[:64]} was not called: at most {self._bounds.side_by_side} calls are made at once"


def because(why: Why, bounds: Bounds) -> str:
    """For people and for the model: what ended a run."""
    return _WHY[why].format(steps=bounds.steps, tokens=bounds.tokens) if why else ""


def tokens_of(usage: Usage) -> int:
    """In and out."""
    return usage.input_tokens + usage.output_tokens


def _key(call: ToolCall) -> bytes:
    return orjson.dumps([call.name, call.arguments, call.arguments_text], option=orjson.OPT_SORT_KEYS)
