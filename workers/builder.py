"""Makes an agent for a session, as its spec says. Knows nothing of turns, of running agents or of keeping them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable

from schemas.codes import Code
from schemas.errors import RetryableError, TerminalError
from workers.agent import Agent, AgentSpec, RegistrationError, SessionInfo, check_signature
from workers.contained import from_outside

_log = logging.getLogger("fleet.worker")


class Builder:
    """`limit_s`: how long one build may take, and one warm-up; `built(agent, us)`: told of each that succeeded."""

    def __init__(self, limit_s: float = 30.0, *, built: Callable[[str, int], None] | None = None) -> None:
        self.limit_s = limit_s
        self.built = built
        self._checked: set[type] = set()

    async def build(self, spec: AgentSpec, session: SessionInfo) -> Agent:
        """A new agent. Raises TerminalError(agent_error), or what the author raised of the typed errors."""
        began_ns = time.perf_counter_ns()
        agent = await self._call(spec, session)
        self._check(spec, agent)
        if self.built is not None:
            self.built(spec.name, (time.perf_counter_ns() - began_ns) // 1000)
        return agent

    async def warm_up(self, specs: Iterable[AgentSpec]) -> None:
        """Have agents that are dear to build make ready what all their sessions share, before the first turn comes. One
        that cannot is logged: its builds will say more."""
        await asyncio.gather(*(self._warm(spec) for spec in specs if spec.warm_up is not None))

    async def _warm(self, spec: AgentSpec) -> None:
        assert spec.warm_up is not None
        try:
            async with asyncio.timeout(self.limit_s):
                await spec.warm_up()
        except Exception:  # noqa: BLE001 (an author's; it is logged, and builds go on)
            _log.exception("agent %s could not be warmed up", spec.name)

    async def _call(self, spec: AgentSpec, session: SessionInfo) -> Agent:
        try:
            async with asyncio.timeout(self.limit_s):
                return await spec.build(spec, session)
        except (TerminalError, RetryableError):
            raise
        except TimeoutError:
            raise TerminalError(
                Code.AGENT_ERROR, f"agent {spec.name} could not be built within {self.limit_s:g} s"
            ) from None
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError | GeneratorExit) and from_outside(error):
                raise
            _log.exception("agent %s could not be built", spec.name, extra={"session": session.session})
            raise TerminalError(Code.AGENT_ERROR, f"agent {spec.name} could not be built: {describe(error)}") from error

    def _check(self, spec: AgentSpec, agent: object) -> None:
        if type(agent) in self._checked:
            return
        run = getattr(agent, "run", None)
        try:
            check_signature(run, ("turn", "ctx"), f"agent {spec.name}: {type(agent).__name__}.run")
        except RegistrationError as error:
            raise TerminalError(Code.AGENT_ERROR, str(error)) from None
        self._checked.add(type(agent))


def describe(error: BaseException) -> str:
    """An exception for people who did not write the code: its type and the first line of what it says."""
    first = next(iter(str(error).splitlines()), "")[:300]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
