"""What an agent works through: its turn, the history, the model, steps, text. Hands out nothing else of the engine.

A step is durable before its call returns. On a later attempt the agent runs again from its start: steps that the
journal holds are answered from there, in order, without a call; one that differs from what the agent asks for now
ends the turn, for its code changed and two histories must not be mixed.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypedDict, TypeVar, Unpack

from pydantic import JsonValue

from journal.state import steer_item, user_item
from schemas.codes import Code
from schemas.errors import TerminalError
from schemas.frames import StateChanged
from schemas.history import HistoryItem, ToolCall
from schemas.profile import Pinned
from workers.agent import Decision, ModelAnswer, SessionInfo
from workers.agent import assistant as as_assistant
from workers.agent import user as as_user
from workers.approval import Approval, Asked
from workers.canonical import MAX_KEPT_BYTES, plain
from workers.ledger.allowance import Spent
from workers.model_step import ModelStep
from workers.models.port import ModelRequest, ToolSpec
from workers.output import NotFitting, Output, Wanted
from workers.services import Services
from workers.steps import Steps
from workers.tool_step import ToolStep
from workers.tools.exchange import Answer, Question
from workers.tools.profile import profile_tools
from workers.tools.tool import Tool, ToolOutput
from workers.tools.toolbox import Toolbox
from workers.work_step import work_step

APPROVAL_S = 86_400.0
_BRANCH = re.compile(r"[A-Za-z0-9._:-]{1,64}")
M = TypeVar("M", bound=Callable[..., Coroutine[Any, Any, Any]])


class ModelParams(TypedDict, total=False):
    """What a model call may say beside its messages; what is left out is the model's own.

    `model` and `fallbacks` (whom to ask, in order, when that one is given up): left out, as the agent's spec says.
    `volatile`: messages that go last and may differ in a later attempt (what the clock says, a limit that is near).
    """

    system: str
    model: str | None
    temperature: float | None
    max_tokens: int | None
    tools: tuple[ToolSpec, ...]
    volatile: tuple[HistoryItem, ...]
    fallbacks: tuple[str, ...]


def _as_step(method: M) -> M:
    """What runs inside the method is a step in progress."""

    @functools.wraps(method)
    async def run(self: Context, *args: Any, **named: Any) -> Any:
        return await self._progress.whole.do(method(self, *args, **named))

    return run  # type: ignore[return-value]


class Context:
    """One turn's view of the world, from its main line of work or from a branch.

    Every method raises TerminalError where the turn cannot go on and RetryableError when a provider kept failing; let
    them pass unless you have another answer. TurnLost and CancelledError end the turn: never catch them.
    """

    __slots__ = ("_progress", "_services")

    def __init__(self, progress: Steps, services: Services) -> None:
        self._progress = progress
        self._services = services

    @property
    def info(self) -> SessionInfo:
        """Whose session this is."""
        return self._progress.whole.job.info

    @property
    def history(self) -> Sequence[HistoryItem]:
        """What was said before this turn, oldest first."""
        return self._progress.whole.history

    @property
    def message(self) -> HistoryItem:
        """This turn's input as a message, to go after the history."""
        progress = self._progress.whole
        if progress.message is None:
            progress.message = user_item(progress.job.turn)
        return progress.message

    @property
    def profile(self) -> Pinned | None:
        """The user's profile as it was when the turn began, in every attempt; None where there is none, and where the
        agent's spec does not say `profile`."""
        return self._progress.whole.job.profile

    @property
    def profile_tools(self) -> tuple[Tool, ...]:
        """`read_profile`, `remember` and `forget` for this turn's user; none where the spec does not say `profile`."""
        job, profiles = self._progress.whole.job, self._services.profiles
        if profiles is None or not job.wants_profile:
            return ()
        return profile_tools(profiles, self.info, job.turn.turn, self._services.clock_ms)

    @property
    def instructions(self) -> str:
        """Those of the registration, for `system`."""
        return self._progress.whole.job.instructions

    @property
    def tools(self) -> Toolbox:
        """Those of the registration that the session's user may use and that this turn allows."""
        job = self._progress.whole.job
        return Toolbox(job.tools, job.info, only=job.turn.input.tools)

    async def offered(self) -> Toolbox:
        """All that this turn may use: the registration's tools, those of the profile, and those of the operator's
        servers as they are now. Which are there may differ in a later attempt."""
        job, source = self._progress.whole.job, self._services.tools
        served = await source.tools(job.info) if source is not None else ()
        return Toolbox((*job.tools, *self.profile_tools, *served), job.info, only=job.turn.input.tools)

    @property
    def spent(self) -> Spent:
        """What this turn has spent so far on models, and what is left of its budgets."""
        return self._progress.whole.purse(self._services).spent

    @property
    def deadline(self) -> int:
        """When the turn must be over, in epoch milliseconds."""
        return self._progress.whole.job.turn.deadline_ms

    @property
    def remaining_s(self) -> float:
        """Seconds until then, never below 0."""
        return max(self.deadline - self._progress.whole.clock_ms(), 0) / 1000

    @property
    def replaying(self) -> bool:
        """The next step of this line was begun in an earlier attempt: decide nothing by the clock, or by anything else
        that may have changed since."""
        return self._progress.replaying

    @property
    def text(self) -> str:
        """The answer so far: what was shown; in a branch, what was shown there."""
        return self._progress.answer.text

    @property
    def kept(self) -> Mapping[str, JsonValue]:
        """What the session keeps by name, of earlier turns and of this one."""
        whole = self._progress.whole
        if not whole.kept:
            return whole.job.kept
        now = {**whole.job.kept, **whole.kept}
        return {name: value for name, value in now.items() if value is not None}

    def keep(self, name: str, value: JsonValue) -> None:
        """Have the session keep `value` under `name` (None: no more) for its later turns: durable with the end of this
        one, taken back by a rollback, gone with the session; at most 1 MiB of JSON in all, else TerminalError
        (too_large). A later attempt does it again: let `value` follow from steps and input alone.
        """
        self._progress.whole.keep_value(name, plain(value, f"kept {name!r}", MAX_KEPT_BYTES))

    def emit(self, text: str) -> None:
        """Show text as part of the answer, provisionally: it is durable with the next step or the end of the turn."""
        self._progress.whole.check_open()
        self._progress.answer.say(text)

    def state(self, name: str, value: JsonValue) -> None:
        """Show a named value (a plan, say); it replaces the earlier one whole. Provisional as well."""
        self._progress.whole.check_open()
        self._progress.emitter.send(StateChanged, name=name, value=plain(value, f"state {name!r}"))

    def steers(self) -> tuple[HistoryItem, ...]:
        """What the user said since this turn began and you have not heard, each once: put it before the model with the
        next step. Who never asks is run again at the end, with it as the input.
        """
        self._progress.whole.check_open()
        return tuple(steer_item(note, self._progress.whole.job.turn.turn) for note in self._progress.hear())

    def branch(self, name: str, *, call: str | None = None, quiet: bool = False) -> Context:
        """A line of work beside this one, that of a sub-agent say: its steps are numbered on their own, so that
        branches run side by side and are replayed whatever their timing. `name`: 1-64 characters out of
        A-Z a-z 0-9 . _ : -, given once here in a turn; the same work must get the same name in every attempt.

        What it shows is no part of the answer, its frames carry `run` (and `call`, the tool call that it serves, as
        `parent_call`). `quiet`: for one tool call; its frames are those of this line, and it shows no text. The result
        of a call that this line's message asked for joins this line's messages.
        """
        if not _BRANCH.fullmatch(name):
            raise TerminalError(
                Code.AGENT_ERROR, f"branch {name[:80]!r}: give 1-64 characters out of A-Z a-z 0-9 . _ : -"
            )
        whole = self._progress.whole
        return Context(whole.branch(self._progress, name, call=call, quiet=quiet), self._services)

    def takes_tools(self, model: str | None = None) -> bool:
        """Whether the model knows what to do with tools; None: the one that a call asks which names none. To one that
        does not, `tools` in a call are lost without a word: say so, and answer without."""
        return self._services.models.takes_tools(model or self._progress.whole.job.model)

    async def model(
        self,
        messages: str | Sequence[HistoryItem] | None = None,
        *,
        show: bool = True,
        output: Wanted | None = None,
        **params: Unpack[ModelParams],
    ) -> ModelAnswer:
        """Ask the model; a step. `messages` None: the history and this turn's input; a text: one message of a user.

        `show`: what it says is part of the answer and streams to the user; one such call at a time.
        `output`: a JSON Schema or a pydantic model; the answer's `data` is a value that fits, its text is not shown.
        One that does not fit is asked for once more, in a step of its own; then TerminalError(model_error).
        """
        whole = self._progress.whole
        request = ModelRequest(
            session=self.info.session, turn=whole.job.turn.turn, messages=self._messages(messages), **params
        )
        if output is not None:
            return await self._value(request, Output(output))
        return await self._said(request, show=show)

    async def _said(self, request: ModelRequest, *, show: bool) -> ModelAnswer:
        return await self._progress.whole.do(ModelStep(self._progress, self._services, request, show=show).run())

    async def _value(self, request: ModelRequest, output: Output) -> ModelAnswer:
        """Calls of tools come before the value."""
        system = f"{request.system}\n\n{output.instruction}" if request.system else output.instruction
        request = replace(request, system=system, output=output.spec)
        answer = await self._said(request, show=False)
        if answer.calls:
            return answer
        try:
            return replace(answer, data=output.read(answer.text))
        except NotFitting as fault:
            said = as_user(f"That does not fit: {fault}\nAnswer again, with the JSON alone.")
        messages = (*request.messages, as_assistant(answer.text or "[nothing]"), said)
        again = await self._said(replace(request, messages=messages), show=False)
        try:
            value = output.read(again.text)
        except NotFitting as fault:
            raise TerminalError(Code.MODEL_ERROR, f"the model's output does not fit, twice: {fault}") from None
        return replace(again, usage=(*answer.usage, *again.usage), data=value)

    @_as_step
    async def step(self, name: str, function: Callable[..., Any], *args: JsonValue) -> Any:
        """Do `function(*args)` once: what it returns (JSON) is durable, and answered from the journal ever after.

        It may be asynchronous. What it raises is kept as well, so that an agent that goes on from it meets it again in
        every attempt: the typed errors as they are, any other as TerminalError(agent_error).
        """
        return await work_step(self._progress, name, args, lambda: _call(function, *args))

    @_as_step
    async def compute(self, name: str, function: Callable[..., Any], *args: JsonValue) -> Any:
        """As `step`, in a process of its own: for what computes for long, blocks or may crash. `function` is a plain
        one of a module's top level; it sees its arguments and nothing of this context, and is killed when its turn is
        cancelled or out of time.

        Raises TerminalError(agent_error) for whatever becomes of it (it raises, exits, crashes, runs out of memory),
        but the typed errors as they are.
        """
        children = self._services.children
        return await work_step(self._progress, name, args, lambda: children.call(f"step {name!r}", function, args))

    @_as_step
    async def tool(
        self,
        name: str,
        function: Callable[..., Any],
        arguments: Mapping[str, JsonValue] | None,
        *,
        call: str | None = None,
        side_effects: bool = True,
    ) -> Any:
        """Call a tool as `function(**arguments)`; a step that its user sees. `call`: the model's id of the call, if it
        asked for it. `arguments` None: the model's were no JSON object. That, and what the tool raises, ends the turn
        with `tool_error` unless it is typed or you catch it.

        A tool changes something out there unless you say otherwise: that it is about to be called is durable before it
        is, what it raises is kept like what it returns, and no later attempt calls it again. Where an attempt ended in
        the middle of the call this raises OutcomeUnknown (`outcome_unknown`), once and on every replay. A function with
        a parameter `idempotency_key` gets one, and is called again instead, with the same key: it promises to do the
        work of one key once. `side_effects=False`: it only reads; it is called again, and costs one entry less.

        What it returns is JSON, or a ToolOutput, which comes back as one.
        """
        given = _object(name, arguments)
        return await ToolStep(self._progress, name, function, given, call=call, side_effects=side_effects).run()

    async def delegate(
        self,
        name: str,
        function: Callable[..., Any],
        arguments: Mapping[str, JsonValue] | None,
        *,
        call: str | None = None,
    ) -> Any:
        """As `tool`, of one that works through a context itself, a sub-agent say: `function(branch, **arguments)` gets
        a branch of its own, `<name>.<step>`. It has no side effects but what it does there, is run again until its
        result is durable, and may ask for a decision meanwhile.
        """
        given = _object(name, arguments)
        step = ToolStep(self._progress, name, function, given, call=call, side_effects=False)
        return await step.around(lambda line: Context(line, self._services))

    async def answer_call(self, call: ToolCall, output: ToolOutput) -> ToolOutput:
        """Answer what a model asked for without calling a tool: an unknown one, or arguments that are no object. A
        step that its user sees."""
        step = ToolStep(
            self._progress, call.name, lambda **_: output, call.arguments or {}, call=call.call, side_effects=False
        )
        step.arguments_text = call.arguments_text
        answered = await self._progress.whole.do(step.run())
        assert isinstance(answered, ToolOutput)
        return answered

    async def approval(
        self,
        message: str,
        *,
        name: str | None = None,
        arguments: Mapping[str, JsonValue] | None = None,
        schema: Mapping[str, JsonValue] | None = None,
        call: str | None = None,
        expires_s: float = APPROVAL_S,
    ) -> Decision:
        """Ask the user for a decision; a step. `name`, `arguments`: of the tool call that it is about, with the model's
        id as `call`; without a name it is a question, and `schema` says what an answer must look like.

        The turn is suspended: this attempt ends here as soon as no other step is in progress, costs nothing while it
        waits, and its deadline stands still. Another attempt, on whichever worker, gets the decision. Nobody decides
        within `expires_s`: it is denied by `deadline`.
        """
        given = dict(arguments) if arguments is not None else None
        asked = Asked(message, name, given, dict(schema) if schema is not None else None)
        return await Approval(self._progress, asked, call=call, expires_s=expires_s).run()

    def _messages(self, given: str | Sequence[HistoryItem] | None) -> Sequence[HistoryItem]:
        if given is None:
            return (*self.history, self.message)
        return (as_user(given),) if isinstance(given, str) else tuple(given)


async def step_unkept(ctx: Context, name: str, function: Callable[[], Awaitable[Any]]) -> Any:
    """As `Context.step`, but what it raises comes as it is and is not kept: for a framework that tells errors by their
    type, and that runs some of them again."""
    progress = ctx._progress
    return await progress.whole.do(work_step(progress, name, (), function, keeps_failure=False))


def count(ctx: Context, metric: str, label: str) -> None:
    """Add to a metric of the worker's own: for what comes with the platform, no agent's business."""
    ctx._services.count(metric, label)


async def ask_meanwhile(ctx: Context, question: Question, *, call: str, within_s: float) -> Answer:
    """Ask the turn's user while `call`, of this line, runs; what it does not come to in time is declined. For what
    comes with the platform: an agent asks by `approval`. Raises as the context's methods do."""
    line = ctx._progress
    until_ms = line.whole.clock_ms() + int(within_s * 1000)
    return await line.whole.dialogue.ask(line, question, call=call, until_ms=until_ms)


def _object(name: str, arguments: Mapping[str, JsonValue] | None) -> dict[str, JsonValue]:
    if not isinstance(arguments, Mapping):
        raise TerminalError(Code.TOOL_ERROR, f"tool {name!r}: its arguments are no JSON object")
    return dict(arguments)


async def _call(function: Callable[..., Any], *args: Any) -> Any:
    result = function(*args)
    return await result if inspect.isawaitable(result) else result
