"""What an author wrote, a function or a class, as what builds an agent; what cannot be one is refused. Runs nothing."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from workers.agent import (
    Agent,
    AgentSpec,
    AgentTurn,
    Build,
    RegistrationError,
    Reply,
    Run,
    SessionInfo,
    Work,
    check_signature,
)
from workers.apart import Apart
from workers.tools.tool import Tool

if TYPE_CHECKING:
    from workers.context import Context

_WANT = "want `async def run(turn, ctx)`, or a class with `async def run(self, turn, ctx)`"


class FunctionAgent:
    """A function as an agent."""

    __slots__ = ("_run",)

    def __init__(self, run: Run) -> None:
        self._run = run

    async def run(self, turn: AgentTurn, ctx: Context) -> Reply | str | None:
        return await self._run(turn, ctx)


def build_of(authored: Any, name: str, *, process: bool) -> Build:
    """How what was written is built for a session. Raises RegistrationError."""
    what = f"agent {name}: {getattr(authored, '__name__', 'run')}"
    if process:
        return _same(_apart(authored, what))
    if inspect.isclass(authored):
        return _class(authored, what)
    if not callable(authored):
        raise RegistrationError(f"agent {name} is {type(authored).__name__}, {_WANT}")
    check_signature(authored, ("turn", "ctx"), what)
    return _same(FunctionAgent(authored))


def _same(agent: Agent) -> Build:
    """One instance for every session: it has no state."""

    async def build(spec: AgentSpec, session: SessionInfo) -> Agent:
        return agent

    return build


def _class(made: type[Any], what: str) -> Build:
    """One instance a session."""
    run = getattr(made, "run", None)
    if run is None:
        raise RegistrationError(f"{what} is a class without `run`, {_WANT}")
    check_signature(run, ("self", "turn", "ctx"), f"{what}.run")
    signature = inspect.signature(made)
    takes = "session" in signature.parameters
    try:
        signature.bind(**({"session": None} if takes else {}))
    except TypeError as error:
        raise RegistrationError(
            f"{what}(…) is made for each session with no argument, or with `session` alone: {error}"
        ) from None

    async def build(spec: AgentSpec, session: SessionInfo) -> Agent:
        agent: Agent = made(session=session) if takes else made()
        return agent

    return build


def _apart(work: Work, what: str) -> Agent:
    if not inspect.isfunction(work) or inspect.iscoroutinefunction(work) or "<locals>" in work.__qualname__:
        raise RegistrationError(f"{what}: process=True wants a plain `def …(turn, given)` of a module's top level")
    try:
        inspect.signature(work).bind("turn", "given")
    except TypeError as error:
        raise RegistrationError(f"{what} cannot be called with (turn, given): {error}") from None
    return Apart(work)


class Tools(NamedTuple):
    """`own`: what the agent calls; `names`: what a turn may bring, those of its own and others."""

    own: tuple[Tool, ...]
    names: frozenset[str]


def tools_of(given: object, name: str) -> Tools:
    """The tools of a registration: Tools, and names of others that a turn may bring. Raises RegistrationError."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise RegistrationError(f"agent {name}: tools is {given!r}, want a list of tools")
    listed: list[object] = list(given)
    own, names = [], set()
    for one in listed:
        if isinstance(one, Tool):
            own.append(one)
            names.add(one.name)
        elif isinstance(one, str) and one:
            names.add(one)
        else:
            said = getattr(one, "__name__", repr(one))[:80]
            raise RegistrationError(f"agent {name}: {said} is no tool; put `@tool` before the function")
    return Tools(tuple(own), frozenset(names))
