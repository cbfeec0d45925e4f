"""One attempt of a turn, run by the worker's own executor, that can be killed where its entries become durable."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic_core import from_json

from schemas.control import ApproveControl
from schemas.entries import Intent, Step, Suspend
from schemas.errors import RetryableError, TerminalError
from workers.agent import Agent
from workers.emitter import Emitter, FrameIds
from workers.executor import RunningTurn
from workers.job import Job, TurnLost
from workers.result import Result

if TYPE_CHECKING:
    from fleet.testing.conversation import Conversation

DELTA_MS = 50
When = Literal["before", "after"]


class Crash(NamedTuple):
    """The worker dies before or after entry number `entry` of the turn is durable; the claims are not counted."""

    entry: int
    when: When


@dataclass(frozen=True, slots=True)
class Plan:
    """What happens to a turn while it runs: `cancel_after` so many durable steps, `steers` each after so many."""

    cancel_after: int | None = None
    steers: tuple[tuple[int, str], ...] = ()
    crash: Crash | None = None


class Attempt:
    """A TurnLink over a conversation in memory. `crashed`: its worker died."""

    def __init__(self, talk: Conversation, plan: Plan) -> None:
        self.crashed = False
        self._talk = talk
        self._plan = plan
        self._running: RunningTurn | None = None
        self._over = asyncio.get_running_loop().create_future()
        self._steered = talk.steers

    async def play(self) -> Result | None:
        """To its end. None: it is suspended, or it crashed."""
        try:
            agent = await self._talk.built()
        except (TerminalError, RetryableError) as error:
            return Result("failed", code=error.code, message=str(error)[:500])
        self._running = self._talk.executor.start(self._job(agent), self._end)
        self._moved()
        result: Result | None = await self._over
        if result is not None and self._dies("before"):
            self.crashed, result = True, None
        return result

    async def gone(self) -> None:
        """Until its task is: one that does not stop is left to itself, as a worker does."""
        executor = self._talk.executor
        while len(executor.running) > executor.strays:  # noqa: ASYNC110 (the executor tells nobody)
            await asyncio.sleep(0.01)

    async def append(self, entry: Step | Intent | Suspend) -> None:
        """TurnLink: durable once this has returned, or raised for a SUSPEND."""
        if self._over.done():
            raise TurnLost
        dies_after = self._dies("after")
        if self._dies("before"):
            self._die()
        self._talk.write(entry)
        if dies_after:
            self._die()
        if isinstance(entry, Suspend):
            self._drop()
            raise TurnLost
        self._moved()
        await asyncio.sleep(0)

    def at_boundary(self) -> None:
        """TurnLink: nobody leaves."""

    def ask(self, call: str, fits: Callable[[ApproveControl], bool]) -> bool:
        """TurnLink: nobody is there while a turn runs."""
        return False

    def withdraw(self, call: str) -> bool:
        """TurnLink: as `ask` says."""
        return True

    def seal(self) -> bool:
        """TurnLink: nothing is about to join."""
        return True

    async def landed(self) -> None:
        """TurnLink: as `seal` says."""

    def _dies(self, when: When) -> bool:
        return self._plan.crash == (self._talk.written, when)

    def _die(self) -> None:
        self.crashed = True
        self._drop()
        raise TurnLost

    def _drop(self) -> None:
        assert self._running is not None
        self._running.abandon()
        self._end(None)

    def _end(self, result: Result | None) -> None:
        if not self._over.done():
            self._over.set_result(result)

    def _moved(self) -> None:
        """One more step is durable: what the plan says of it."""
        assert self._running is not None
        steps, plan = self._talk.steps, self._plan
        for after, text in plan.steers[self._steered :]:
            if after > steps:
                break
            self._steered += 1
            self._running.steer(self._talk.steered(text))
        if plan.cancel_after is not None and steps >= plan.cancel_after:
            self._running.stop("user")

    def _job(self, agent: Agent) -> Job:
        talk, spec = self._talk, self._talk.setup.spec
        turn = talk.open_turn
        return Job(
            talk.setup.info,
            turn,
            talk.state.history,
            agent,
            self._emitter,
            self,
            wants_profile=spec.profile,
            kept=talk.state.kept,
            max_reply_bytes=spec.max_reply_bytes,
            max_steps=spec.max_steps,
            model=spec.model,
            fallbacks=spec.fallbacks,
            instructions=spec.instructions,
            tools=spec.own_tools,
        )

    def _emitter(self) -> Emitter:
        talk, info, turn = self._talk, self._talk.setup.info, self._talk.open_turn
        ids = FrameIds(
            info.tenant, info.session, turn.turn, turn.attempt, info.agent, info.agent_version, "lab", turn.version
        )
        return Emitter(
            ids,
            lambda raw: talk.frames.append(from_json(raw)),
            clock_ms=talk.clock_ms,
            call_later=talk.executor.call_later,
            delta_ms=DELTA_MS,
        )
