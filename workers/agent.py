"""The author's words: agent, spec, turn, reply. Knows nothing of the engine, the journal's driver, Kafka or MongoDB."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, overload

from pydantic import JsonValue

from schemas.codes import Code
from schemas.errors import Refusal
from schemas.frames import Finish, Usage
from schemas.history import HistoryItem, ToolCall, said
from schemas.ids import legal
from schemas.parts import Part
from schemas.turn import TurnInput

if TYPE_CHECKING:
    from workers.apart import Given
    from workers.context import Context

# `text` stands twice in a terminal frame (whole, and split into messages), and a frame has at most 512 KiB.
MAX_REPLY_BYTES = 245_760


class RegistrationError(Exception):
    """An agent cannot be registered; the text is a sentence for its author."""


class SessionInfo(NamedTuple):
    """Whose conversation it is, and which agent at which version answers."""

    tenant: str
    session: str
    user: str
    agent: str
    agent_version: str


class AgentTurn(NamedTuple):
    """What the user brought. `attempt` counts from 1; a higher one replays what is durable."""

    id: str
    text: str
    parts: tuple[Part, ...] = ()
    metadata: Mapping[str, JsonValue] = MappingProxyType({})
    options: Mapping[str, JsonValue] = MappingProxyType({})
    tools: tuple[str, ...] | None = None
    attempt: int = 1


class Reply(NamedTuple):
    """The answer. `text` None: what was shown through `ctx`; `data`: structured output (JSON)."""

    text: str | None = None
    data: JsonValue = None
    finish: Finish = "stop"


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """What a model said, whole. `calls`: the tools that it asks for; `model`: who answered, a fallback perhaps."""

    text: str
    finish: Finish = "stop"
    calls: tuple[ToolCall, ...] = ()
    usage: tuple[Usage, ...] = ()
    model: str = ""


class Decision(NamedTuple):
    """What somebody decided on what the agent asked. `by`: the user, or `deadline` where nobody did in time. What came
    with it: `arguments` to be used instead, an `answer`, a `note`."""

    allowed: bool
    by: str
    arguments: dict[str, JsonValue] | None = None
    answer: JsonValue = None
    note: str | None = None


def user(text: str) -> HistoryItem:
    """A message for `ctx.model`, as a user would say it."""
    return said("", turn="", role="user", text=text, at_ms=0)


def assistant(text: str) -> HistoryItem:
    """A message for `ctx.model`, as an assistant would say it."""
    return said("", turn="", role="assistant", text=text, at_ms=0)


class Agent(Protocol):
    """One method. It works only through `ctx`: what goes through it is durable, there is no other state.

    Returns the answer: a Reply, its text, or None for what was shown. Raises RetryableError or TerminalError to end
    the turn with a code; any other exception ends it `failed` with `agent_error`.
    """

    async def run(self, turn: AgentTurn, ctx: Context) -> Reply | str | None: ...


Build = Callable[["AgentSpec", SessionInfo], Coroutine[Any, Any, Agent]]
Run = Callable[[AgentTurn, "Context"], Coroutine[Any, Any, Reply | str | None]]
Work = Callable[[AgentTurn, "Given"], Reply | str | None]


@dataclass(frozen=True, slots=True)
class AgentSpec:
    """A registered agent: its name and version, how it is built for a session, and its limits.

    `session_idle_s` None: the setting. `on_expired`: what a turn that meets an expired session gets. `on_poison`:
    whether a session's later turns go on when one is given up as poison, or wait until its dead letter is dealt with.
    `options`, `tools`: names that a turn may bring. `max_reply_bytes`: JSON text of the answer and its data, in bytes.
    `model`: whom a model call asks that names none, None: the setting; `fallbacks`: whom it asks, in order, when that
    one is given up; `uses_model` False: its turns begin while no model takes calls. `profile`: its turns know the
    user's profile (`ctx.profile`). `work`: the function of an agent that runs in a process of its own.
    Raises RegistrationError.
    """

    name: str
    version: str
    build: Build
    description: str = ""
    session_idle_s: int | None = None
    on_expired: Literal["fresh", "fail"] = "fresh"
    on_poison: Literal["skip", "wait"] = "skip"
    options: frozenset[str] = frozenset()
    tools: frozenset[str] = frozenset()
    max_reply_bytes: int = MAX_REPLY_BYTES
    max_steps: int = 256
    model: str | None = None
    fallbacks: tuple[str, ...] = ()
    uses_model: bool = True
    profile: bool = False
    work: Work | None = None

    def __post_init__(self) -> None:
        for what, text in (("name", self.name), ("version", self.version)):
            if not legal(text):
                raise RegistrationError(f"{what} {text!r}: give 1-128 characters out of A-Z a-z 0-9 . _ : -")
        if self.session_idle_s is not None and self.session_idle_s < 1:
            raise RegistrationError(f"agent {self.name}: session_idle_s is {self.session_idle_s}, give 1 or more")
        if not 1 <= self.max_reply_bytes <= MAX_REPLY_BYTES:
            raise RegistrationError(f"agent {self.name}: max_reply_bytes must be 1 to {MAX_REPLY_BYTES}")
        named: object = self.fallbacks
        if not isinstance(named, tuple) or not all(isinstance(name, str) and name for name in named):
            raise RegistrationError(f"agent {self.name}: fallbacks is {named!r}, want a tuple of models' names")
        check_signature(self.build, ("spec", "session"), f"agent {self.name}: build")

    def check(self, turn: TurnInput) -> None:
        """Refuse what this agent does not allow. Raises Refusal(bad_request); nothing is ignored silently."""
        if turn.options:
            self._check("options", set(turn.options) - self.options, self.options)
        if turn.tools:
            self._check("tools", set(turn.tools) - self.tools, self.tools)

    def _check(self, what: str, strange: set[str], known: frozenset[str]) -> None:
        if strange:
            allowed = ", ".join(sorted(known)) or "none"
            first = min(strange)[:64]
            raise Refusal(Code.BAD_REQUEST, f"{what}: agent {self.name} does not allow {first!r}; it allows: {allowed}")


def check_signature(function: Any, names: tuple[str, ...], what: str) -> None:
    """Raises RegistrationError unless `function` is asynchronous and can be called with these many arguments."""
    wanted = f"async def …({', '.join(names)})"
    if not callable(function):
        raise RegistrationError(f"{what} is {type(function).__name__}, want `{wanted}`")
    target = function if inspect.isroutine(function) else type(function).__call__
    if not inspect.iscoroutinefunction(inspect.unwrap(target)):
        raise RegistrationError(f"{what} is not asynchronous, want `{wanted}`")
    try:
        inspect.signature(function).bind(*names)
    except (TypeError, ValueError) as error:
        raise RegistrationError(f"{what} cannot be called with ({', '.join(names)}): {error}") from None


class _FunctionAgent:
    """A function as an agent."""

    __slots__ = ("_run",)

    def __init__(self, run: Run) -> None:
        self._run = run

    async def run(self, turn: AgentTurn, ctx: Context) -> Reply | str | None:
        return await self._run(turn, ctx)


@overload
def agent(*, name: str, version: str, process: Literal[True], **limits: Any) -> Callable[[Work], AgentSpec]: ...
@overload
def agent(*, name: str, version: str, process: Literal[False] = False, **limits: Any) -> Callable[[Run], AgentSpec]: ...
def agent(*, name: str, version: str, process: bool = False, **limits: Any) -> Callable[[Any], AgentSpec]:
    """Make a spec of `async def run(turn, ctx)`; `limits` are the spec's other fields. Registers nothing.

    `process`: of a plain `def run(turn, given)` at a module's top level. It runs in a process of its own and may
    compute, block and crash there; see `workers.apart.Given` for what it has.
    """

    def wrap(run: Any) -> AgentSpec:
        what = f"agent {name}: {getattr(run, '__name__', 'run')}"
        built = _apart(run, what) if process else _function(run, what)

        async def build(spec: AgentSpec, session: SessionInfo) -> Agent:
            return built

        return AgentSpec(name=name, version=version, build=build, work=run if process else None, **limits)

    return wrap


def _function(run: Run, what: str) -> Agent:
    check_signature(run, ("turn", "ctx"), what)
    return _FunctionAgent(run)


def _apart(work: Any, what: str) -> Agent:
    from workers.apart import Apart  # it knows this module

    if not inspect.isfunction(work) or inspect.iscoroutinefunction(work) or "<locals>" in work.__qualname__:
        raise RegistrationError(f"{what}: process=True wants a plain `def …(turn, given)` of a module's top level")
    try:
        inspect.signature(work).bind("turn", "given")
    except TypeError as error:
        raise RegistrationError(f"{what} cannot be called with (turn, given): {error}") from None
    return Apart(work)
