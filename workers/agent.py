"""The author's words: agent, spec, turn, reply. Knows nothing of the engine, the journal's driver, Kafka or MongoDB."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypedDict, Unpack, get_args, overload

from pydantic import JsonValue

from schemas.codes import Code
from schemas.errors import Refusal
from schemas.frames import Finish, Usage
from schemas.history import HistoryItem, ToolCall, said
from schemas.ids import legal
from schemas.parts import Part, plain_text
from schemas.turn import TurnInput
from workers.ledger.allowance import Allowance

if TYPE_CHECKING:
    from workers.apart import Given
    from workers.context import Context
    from workers.tools.tool import Tool

# `text` stands twice in a terminal frame (whole, and split into messages), and a frame has at most 512 KiB.
MAX_REPLY_BYTES = 245_760
PROFILE_TOOLS = frozenset({"read_profile", "remember", "forget"})


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
    """What a model said, whole. `calls`: the tools that it asks for; `model`: who answered, a fallback perhaps; `data`:
    the value, where an `output` was asked for; `volatile`: the call that it answers had volatile messages, in whichever
    attempt it was made."""

    text: str
    finish: Finish = "stop"
    calls: tuple[ToolCall, ...] = ()
    usage: tuple[Usage, ...] = ()
    model: str = ""
    data: Any = None
    volatile: bool = False

    @property
    def message(self) -> HistoryItem:
        """The same as a message, for the next call."""
        parts = (plain_text(self.text),) if self.text else ()
        return HistoryItem(id="", turn="", role="assistant", parts=parts, at_ms=0, calls=self.calls)


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


WarmUp = Callable[[], Coroutine[Any, Any, None]]
Build = Callable[["AgentSpec", SessionInfo], Coroutine[Any, Any, Agent]]
Run = Callable[[AgentTurn, "Context"], Coroutine[Any, Any, Reply | str | None]]
Work = Callable[[AgentTurn, "Given"], Reply | str | None]


Expired = Literal["fresh", "fail"]
Poison = Literal["skip", "wait"]
Suspended = Literal["wait", "first"]
_EXPIRED: tuple[str, ...] = get_args(Expired)
_POISON: tuple[str, ...] = get_args(Poison)
_SUSPENDED: tuple[str, ...] = get_args(Suspended)


@dataclass(frozen=True, slots=True)
class AgentSpec:
    """A registered agent: its name and version, how it is built for a session, and its limits.

    `session_idle_s` None: the setting. `on_expired`: what a turn that meets an expired session gets. `on_poison`:
    whether a session's later turns go on when one is given up as poison, or wait until its dead letter is dealt with.
    `on_suspended`: whether they wait while one is suspended, or are answered first.
    `options`, `tools`: names that a turn may bring. `max_reply_bytes`: JSON text of the answer and its data, in bytes.
    `instructions`, `own_tools`: what the agent finds as `ctx.instructions` and `ctx.tools`; `serves_tools`: it uses
    those of the operator's servers as well, so that a turn may name tools that only the agent can tell. `warm_up`: run
    once in each worker before its first turn, for what all sessions share and is dear to make.
    `model`: whom a model call asks that names none, None: the setting; `fallbacks`: whom it asks, in order, when that
    one is given up; `uses_model` False: its turns begin while no model takes calls. `profile`: its turns know the
    user's profile (`ctx.profile`). `work`: the function of an agent that runs in a process of its own. `turn_budget`,
    `session_budget`: what one may spend, None: the setting.
    Raises RegistrationError.
    """

    name: str
    version: str
    build: Build
    description: str = ""
    session_idle_s: int | None = None
    on_expired: Expired = "fresh"
    on_poison: Poison = "skip"
    on_suspended: Suspended = "wait"
    options: frozenset[str] = frozenset()
    tools: frozenset[str] = frozenset()
    max_reply_bytes: int = MAX_REPLY_BYTES
    max_steps: int = 256
    model: str | None = None
    fallbacks: tuple[str, ...] = ()
    uses_model: bool = True
    profile: bool = False
    work: Work | None = None
    instructions: str = ""
    own_tools: tuple[Tool, ...] = ()
    serves_tools: bool = False
    warm_up: WarmUp | None = None
    turn_budget: Allowance | None = None
    session_budget: Allowance | None = None

    def __post_init__(self) -> None:
        for what, text in (("name", self.name), ("version", self.version)):
            if not legal(text):
                raise RegistrationError(f"{what} {text!r}: give 1-128 characters out of A-Z a-z 0-9 . _ : -")
        if self.session_idle_s is not None and (not _whole(self.session_idle_s) or self.session_idle_s < 1):
            raise RegistrationError(f"agent {self.name}: session_idle_s is {self.session_idle_s!r}, give 1 or more")
        if not _whole(self.max_reply_bytes) or not 1 <= self.max_reply_bytes <= MAX_REPLY_BYTES:
            raise RegistrationError(f"agent {self.name}: max_reply_bytes must be 1 to {MAX_REPLY_BYTES}")
        if not _whole(self.max_steps) or self.max_steps < 1:
            raise RegistrationError(f"agent {self.name}: max_steps is {self.max_steps!r}, give 1 or more")
        self._check_fields()
        check_signature(self.build, ("spec", "session"), f"agent {self.name}: build")
        if self.warm_up is not None:
            check_signature(self.warm_up, (), f"agent {self.name}: warm_up")

    def _check_fields(self) -> None:
        named: object = self.fallbacks
        if not isinstance(named, tuple) or not all(isinstance(name, str) and name for name in named):
            raise RegistrationError(f"agent {self.name}: fallbacks is {named!r}, want a tuple of models' names")
        for field, text in (("description", self.description), ("instructions", self.instructions)):
            if not isinstance(text, str):
                raise RegistrationError(f"agent {self.name}: {field} is {type(text).__name__}, want a text")
        model: object = self.model
        if model is not None and not (isinstance(model, str) and model):
            raise RegistrationError(f"agent {self.name}: model is {model!r}, want a model's name")
        choices = (
            ("on_expired", self.on_expired, _EXPIRED),
            ("on_poison", self.on_poison, _POISON),
            ("on_suspended", self.on_suspended, _SUSPENDED),
        )
        for field, word, words in choices:
            if word not in words:
                raise RegistrationError(f"agent {self.name}: {field} is {word!r}, want one of {', '.join(words)}")
        seen: set[str] = set()
        for tool in self.own_tools:
            if tool.name in seen:
                raise RegistrationError(f"agent {self.name}: two tools are called {tool.name!r}; rename one")
            seen.add(tool.name)
        if self.profile and self.serves_tools and (taken := sorted(seen & PROFILE_TOOLS)):
            raise RegistrationError(
                f"agent {self.name}: tool {taken[0]!r} is called like one of the profile; rename it"
            )

    def check(self, turn: TurnInput) -> None:
        """Refuse what this agent does not allow. Raises Refusal(bad_request); nothing is ignored silently."""
        if turn.options:
            self._check("options", set(turn.options) - self.options, self.options)
        if turn.tools and not self.serves_tools:
            known = self.tools.union(tool.name for tool in self.own_tools)
            self._check("tools", set(turn.tools) - known, known)

    def _check(self, what: str, strange: set[str], known: frozenset[str]) -> None:
        if strange:
            allowed = ", ".join(sorted(known)) or "none"
            first = min(strange)[:64]
            raise Refusal(Code.BAD_REQUEST, f"{what}: agent {self.name} does not allow {first!r}; it allows: {allowed}")


def _whole(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool)


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


class Limits(TypedDict, total=False):
    """The fields of a spec that `agent` takes besides; what is left out is the spec's own default."""

    description: str
    session_idle_s: int | None
    on_expired: Expired
    on_poison: Poison
    on_suspended: Suspended
    options: Iterable[str]
    max_reply_bytes: int
    max_steps: int
    fallbacks: tuple[str, ...]
    warm_up: WarmUp
    uses_model: bool
    profile: bool


Authored = Run | Callable[[], Agent] | Callable[[SessionInfo], Agent]
"""What an author writes: a function, or a class, made once a session with no argument or with `session`."""


@overload
def agent(
    *,
    name: str,
    version: str,
    process: Literal[True],
    model: str | None = None,
    instructions: str = "",
    tools: Iterable[Tool | str] = (),
    **limits: Unpack[Limits],
) -> Callable[[Work], AgentSpec]: ...
@overload
def agent(
    *,
    name: str,
    version: str,
    process: Literal[False] = False,
    model: str | None = None,
    instructions: str = "",
    tools: Iterable[Tool | str] = (),
    **limits: Unpack[Limits],
) -> Callable[[Authored], AgentSpec]: ...
def agent(
    *,
    name: str,
    version: str,
    process: bool = False,
    model: str | None = None,
    instructions: str = "",
    tools: Iterable[Tool | str] = (),
    **limits: Unpack[Limits],
) -> Callable[[Any], AgentSpec]:
    """Make a spec of `async def run(turn, ctx)`, or of a class with such a method, which is made once a session with no
    argument or with `session`. `model`, `instructions` and the limits: the spec's fields; `tools`: those that it calls
    (`ctx.tools`), and names of others that a turn may bring. Registers nothing. Raises RegistrationError.

    `process`: of a plain `def run(turn, given)` at a module's top level. It runs in a process of its own and may
    compute, block and crash there; see `workers.apart.Given` for what it has.
    """
    from workers.authored import build_of, tools_of  # it knows this module

    unknown = min(set(limits) - Limits.__annotations__.keys(), default=None)
    if unknown is not None:
        raise RegistrationError(
            f"agent {name} has no limit {unknown!r}; there are: {', '.join(Limits.__annotations__)}"
        )
    given = tools_of(tools, name)
    more: dict[str, Any] = dict(limits)
    if "options" in more:
        more["options"] = names_of(more["options"], f"agent {name}: options")

    def wrap(authored: Any) -> AgentSpec:
        return AgentSpec(
            name=name,
            version=version,
            build=build_of(authored, name, process=process),
            work=authored if process else None,
            model=model,
            instructions=instructions,
            own_tools=given.own,
            tools=given.names,
            **more,
        )

    return wrap


def names_of(given: object, what: str) -> frozenset[str]:
    """Raises RegistrationError unless `given` holds names."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise RegistrationError(f"{what} is {given!r}, want names")
    names: list[object] = list(given)
    if not all(isinstance(name, str) and name for name in names):
        raise RegistrationError(f"{what} is {names!r}, want names")
    return frozenset(str(name) for name in names)
