"""What an agent works through: its turn, the history, the model, steps, text. Hands out nothing else of the engine.

A step is durable before its call returns. On a later attempt the agent runs again from its start: steps that the
journal holds are answered from there, in order, without a call; one that differs from what the agent asks for now
ends the turn, for its code changed and two histories must not be mixed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict, Unpack

from pydantic import JsonValue

from journal.state import steer_item, user_item
from schemas.codes import Code
from schemas.errors import RetryableError, TerminalError
from schemas.frames import StateChanged, ToolCalled, ToolResult
from schemas.history import HistoryItem
from schemas.parts import DataPart, Part, TextPart
from schemas.profile import Profile
from workers.agent import ModelAnswer, SessionInfo
from workers.agent import user as as_user
from workers.canonical import digest_of, plain
from workers.model_step import ModelStep
from workers.models.port import ModelRequest, ToolSpec
from workers.progress import Progress
from workers.services import Services


class ModelParams(TypedDict, total=False):
    """What a model call may say beside its messages; what is left out is the model's own.

    `model` and `fallbacks` (whom to ask, in order, when that one is given up): left out, as the agent's spec says.
    """

    system: str
    model: str | None
    temperature: float | None
    max_tokens: int | None
    tools: tuple[ToolSpec, ...]
    fallbacks: tuple[str, ...]


class Context:
    """One turn's view of the world.

    Every method raises TerminalError where the turn cannot go on and RetryableError when a provider kept failing; let
    them pass unless you have another answer. TurnLost and CancelledError end the turn: never catch them.
    """

    __slots__ = ("_progress", "_services")

    def __init__(self, progress: Progress, services: Services) -> None:
        self._progress = progress
        self._services = services

    @property
    def info(self) -> SessionInfo:
        """Whose session this is."""
        return self._progress.job.info

    @property
    def history(self) -> Sequence[HistoryItem]:
        """What was said before this turn, oldest first."""
        return self._progress.history

    @property
    def message(self) -> HistoryItem:
        """This turn's input as a message, to go after the history."""
        progress = self._progress
        if progress.message is None:
            progress.message = user_item(progress.job.turn)
        return progress.message

    @property
    def profile(self) -> Profile | None:
        """The user's profile, None where there is none."""
        return self._progress.job.profile

    @property
    def deadline(self) -> int:
        """When the turn must be over, in epoch milliseconds."""
        return self._progress.job.turn.deadline_ms

    @property
    def remaining_s(self) -> float:
        """Seconds until then, never below 0."""
        return max(self.deadline - self._progress.clock_ms(), 0) / 1000

    @property
    def text(self) -> str:
        """The answer so far: what was shown."""
        return self._progress.answer.text

    def emit(self, text: str) -> None:
        """Show text as part of the answer, provisionally: it is durable with the next step or the end of the turn."""
        self._progress.check_open()
        self._progress.answer.say(text)

    def state(self, name: str, value: JsonValue) -> None:
        """Show a named value (a plan, say); it replaces the earlier one whole. Provisional as well."""
        self._progress.check_open()
        self._progress.job.emitter.send(StateChanged, name=name, value=plain(value, f"state {name!r}"))

    def steers(self) -> tuple[HistoryItem, ...]:
        """What the user said since this turn began and you have not heard, each once: put it before the model with the
        next step. Who never asks is run again at the end, with it as the input.
        """
        self._progress.check_open()
        return tuple(steer_item(note, self._progress.job.turn.turn) for note in self._progress.hear())

    async def model(
        self,
        messages: str | Sequence[HistoryItem] | None = None,
        *,
        show: bool = True,
        **params: Unpack[ModelParams],
    ) -> ModelAnswer:
        """Ask the model; a step. `messages` None: the history and this turn's input; a text: one message of a user.

        `show`: what it says is part of the answer and streams to the user; one such call at a time.
        """
        info = self.info
        request = ModelRequest(
            session=info.session, turn=self._progress.job.turn.turn, messages=self._messages(messages), **params
        )
        return await ModelStep(self._progress, self._services, request, show=show).run()

    async def step(self, name: str, function: Callable[..., Any], *args: JsonValue) -> Any:
        """Do `function(*args)` once: what it returns (JSON) is durable, and answered from the journal ever after.

        It may be asynchronous. What it raises is not kept: the step is done again on the next attempt.
        """
        digest = digest_of(list(args), f"step {name!r}: its arguments")
        number, held = self._progress.take("step", name, digest)
        if held is not None:
            self._progress.replayed(number)
            return held.result
        result = plain(await _call(function, *args), f"step {name!r}: its result")
        await self._progress.append(self._progress.entry(number, "step", name, digest, result=result))
        return result

    async def tool(
        self,
        name: str,
        function: Callable[..., Any],
        arguments: Mapping[str, JsonValue] | None,
        *,
        call: str | None = None,
    ) -> Any:
        """Call a tool as `function(**arguments)`; a step that its user sees. `call`: the model's id of the call, if it
        asked for it. `arguments` None: the model's were no JSON object. That, and what the tool raises, ends the turn
        with `tool_error` unless it is typed or you catch it.
        """
        if not isinstance(arguments, Mapping):
            raise TerminalError(Code.TOOL_ERROR, f"tool {name!r}: its arguments are no JSON object")
        given = dict(arguments)
        digest = digest_of([given, call], f"tool {name!r}: its arguments")
        number, held = self._progress.take("tool", name, digest)
        call = call or f"{self._progress.job.turn.turn}.{number}"
        if held is not None:
            self._progress.answer.tool_answer(call, _parts(held.result))
            self._progress.replayed(number)
            return held.result
        emitter = self._progress.job.emitter
        emitter.send(ToolCalled, call=call, name=name, arguments=given)
        result = plain(await _tool(name, function, given), f"tool {name!r}: its result")
        self._progress.answer.tool_answer(call, _parts(result))
        await self._progress.append(self._progress.entry(number, "tool", name, digest, result=result))
        emitter.send(ToolResult, call=call, name=name, content=_parts(result))
        return result

    def _messages(self, given: str | Sequence[HistoryItem] | None) -> Sequence[HistoryItem]:
        if given is None:
            return (*self.history, self.message)
        return (as_user(given),) if isinstance(given, str) else tuple(given)


async def _call(function: Callable[..., Any], *args: Any, **named: Any) -> Any:
    result = function(*args, **named)
    return await result if inspect.isawaitable(result) else result


async def _tool(name: str, function: Callable[..., Any], arguments: dict[str, JsonValue]) -> Any:
    try:
        return await _call(function, **arguments)
    except (RetryableError, TerminalError):
        raise
    except Exception as error:
        raise TerminalError(Code.TOOL_ERROR, f"tool {name!r} raised {type(error).__name__}: {error}") from error


def _parts(result: JsonValue) -> tuple[Part, ...]:
    return (TextPart(text=result),) if isinstance(result, str) else (DataPart(data=result),)
