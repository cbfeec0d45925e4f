"""Runs one turn through its agent, whatever the agent is, to exactly one result. Knows no journal, broker or socket.

Order of effects at the end of a turn: (1) the outcome is decided, (2) text that waits is sent and the terminal frame's
number is taken, (3) emitter and context are closed, (4) `done` is called, once. An abandoned turn does only (3).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

from pydantic import JsonValue

from schemas.codes import Code
from schemas.entries import ControlNote
from schemas.errors import TerminalError
from schemas.frames import CancelledBy
from workers import outcome
from workers.agent import AgentTurn, Reply
from workers.at_work import AT_WORK
from workers.contained import from_outside
from workers.context import Context
from workers.emitter import CallLater, Handle
from workers.job import Job, TurnLink, TurnLost
from workers.profile_step import pin_profile
from workers.progress import Progress
from workers.result import Result
from workers.services import Services

_log = logging.getLogger("fleet.worker")

Done = Callable[[Result], None]
# A wall clock may step: a deadline is looked at again at least this often.
_LOOK_AGAIN_S = 30.0
_NONE: Mapping[str, JsonValue] = MappingProxyType({})


class Executor:
    """Starts turns. `call_later`: the loop's; `stop_s`: how long a stopped agent may take before its turn is ended
    without it; `fatal`: told when `done` itself raised (an error of ours that nobody else would read).
    """

    def __init__(
        self,
        services: Services,
        *,
        call_later: CallLater,
        stop_s: float = 1.0,
        announce_s: float = 0.005,
        fatal: Callable[[BaseException], None] | None = None,
    ) -> None:
        self.services = services
        self.call_later = call_later
        self.stop_s = stop_s
        self.running: set[RunningTurn] = set()
        self.strays = 0
        self._announce_s = announce_s
        self._fatal = fatal
        self._young: list[RunningTurn] = []
        self._new: list[RunningTurn] = []
        self._ticking = False

    def start(self, job: Job, done: Done) -> RunningTurn:
        """Run `job` in a task of its own; `done` is called on this loop, after `start` has returned."""
        running = RunningTurn(self, job, done)
        self.running.add(running)
        self._new.append(running)
        if not self._ticking:
            self._ticking = True
            self.call_later(self._announce_s, self._tick)
        return running

    def fail(self, error: BaseException) -> None:
        """`done` raised."""
        _log.critical("a turn's result could not be handed over", exc_info=error)
        if self._fatal is not None:
            self._fatal(error)

    def _tick(self) -> None:
        """Turns that did not end at once are announced, and get a timer for their deadline: most need neither."""
        for running in self._young:
            running.settle_in()
        self._young, self._new = self._new, []
        self._ticking = bool(self._young)
        if self._ticking:
            self.call_later(self._announce_s, self._tick)


class RunningTurn:
    """One turn that runs. After `done` was called, or `abandon`, every method does nothing."""

    __slots__ = (
        "_done",
        "_entered",
        "_executor",
        "_job",
        "_over",
        "_progress",
        "_stop",
        "_stray",
        "_task",
        "_timer",
    )

    def __init__(self, executor: Executor, job: Job, done: Done) -> None:
        self._executor = executor
        self._job = job
        self._done = done
        self._over = False
        self._entered = False
        self._stray = False
        self._stop: CancelledBy | Literal["deadline"] | None = None
        self._timer: Handle | None = None
        self._progress = Progress(job, executor.services.clock_ms, executor.services.clock_ns)
        turn = job.turn
        if turn.deadline_ms <= executor.services.clock_ms():
            self._stop = "deadline"
            self._task: asyncio.Task[None] | None = None
            executor.call_later(0, self._finish_stopped)
            return
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"turn {job.info.session}~{turn.turn}")

    @property
    def text(self) -> str:
        """The answer so far."""
        return self._progress.text

    @property
    def over(self) -> bool:
        return self._over

    def steer(self, note: ControlNote) -> None:
        """The user says something meanwhile: the agent hears of it at its next step, or when it is done."""
        self._progress.steer(note)

    @property
    def at_boundary(self) -> bool:
        """No step is in progress, and the turn is not being stopped: what a later attempt repeats is no step's work."""
        return self._stop is None and not self._progress.in_step

    def show(self, reason: str, step: int) -> None:
        """Tell whoever watches what the answer is so far, up to durable step `step`."""
        self._job.emitter.reset(reason, step, self.text)
        self._progress.dialogue.show()

    def decided(self, note: ControlNote) -> None:
        """What a call asks meanwhile is decided, durably."""
        self._progress.dialogue.decided(note)

    def withdraw(self) -> None:
        """No call is to wait for its user any more: it goes on without an answer."""
        self._progress.dialogue.withdraw()

    def stop(self, by: CancelledBy) -> None:
        """End the turn as cancelled, keep what was shown. `done` follows within `stop_s`, whatever the agent does."""
        self._stop_for(by)

    def abandon(self) -> None:
        """The session is lost: end the task; no frame, no result, no entry."""
        if not self._over:
            self._close()
            if self._task is not None and not self._task.done():
                self._task.cancel()
                self._timer = self._executor.call_later(self._executor.stop_s, self._give_up)
            if not self._entered:
                self._left()

    def settle_in(self) -> None:
        """The turn takes a while: tell its user, and watch its deadline."""
        if not self._over and self._stop is None:
            self._job.emitter.announce()
            self._watch()

    def _watch(self) -> None:
        left_ms = self._job.turn.deadline_ms - self._executor.services.clock_ms()
        if left_ms <= 0:
            self._stop_for("deadline")
        else:
            self._timer = self._executor.call_later(min(left_ms / 1000, _LOOK_AGAIN_S), self._watch)

    def _stop_for(self, why: CancelledBy | Literal["deadline"]) -> None:
        if self._over or self._stop is not None or self._task is None:
            return
        self._stop = why
        self._task.cancel()
        self._set_timer(0 if not self._entered else self._executor.stop_s, self._give_up)

    def _give_up(self) -> None:
        """The task did not end: it is left to itself, with a closed context."""
        self._timer = None
        if self._entered and self._task is not None:
            self._stray = True
            self._executor.strays += 1
            _log.warning("the agent does not stop; its turn ends without it", extra=self._names())
            self._task.cancel()
        if not self._over:
            self._finish_stopped()

    async def _run(self) -> None:
        self._entered = True
        self._progress.began_ns = self._executor.services.clock_ns()
        info = self._job.info
        AT_WORK.set((info.session, self._job.turn.turn, info.agent))
        try:
            if self._job.wants_profile:
                await pin_profile(self._progress, self._executor.services.profiles)
            turn, ctx = _turn_of(self._job), Context(self._progress, self._executor.services)
            reply = await self._job.agent.run(turn, ctx)
            if self._progress.steered or not self._job.link.seal():
                reply = await self._again(turn, ctx, reply)
        except BaseException as error:
            if isinstance(error, GeneratorExit) and from_outside(error):
                raise
            self._raised(error)  # SystemExit of an agent must not end the worker
        else:
            self._returned(reply)
        finally:
            self._left()

    async def _again(self, turn: AgentTurn, ctx: Context, reply: Reply | str | None) -> Reply | str | None:
        """Its user said more while the agent ran, and it did not hear: it is run again with that, in the same turn."""
        progress, link = self._progress, self._job.link
        while self._stop is None and not self._over:
            if not progress.steered:
                if link.seal():
                    break
                await link.landed()
                continue
            more = outcome.go_on(progress, reply, turn)
            if more is None:
                break
            reply = await self._job.agent.run(more, ctx)
        return reply

    def _returned(self, reply: object) -> None:
        if self._over or self._progress.lost:
            self._ended_late()
        elif self._stop is not None:
            _log.warning("the agent swallowed its cancellation", extra=self._names())
            self._finish_stopped()
        else:
            self._finish(outcome.completed, reply)

    def _raised(self, error: BaseException) -> None:
        if self._over or self._progress.lost or isinstance(error, TurnLost):
            self._ended_late(error)
        elif self._stop is not None:
            self._finish_stopped()
        elif isinstance(error, asyncio.CancelledError) and self._task is not None and self._task.cancelling():
            self._close()  # the loop is being closed: nobody decided anything about this turn
        else:
            self._finish(outcome.raised, error, self._names())

    def _finish_stopped(self) -> None:
        if self._stop == "deadline":
            when = "while the agent ran" if self._entered else "before the agent began"
            message = f"the deadline passed {when}"
            self._finish(outcome.failed, Code.DEADLINE_EXCEEDED, message)
        else:
            self._finish(outcome.cancelled, self._stop)

    def _finish(self, make: Callable[..., Result], *of: object) -> None:
        if self._over:
            return
        result = self._made(make, of)
        result.seq = self._job.next_seq()
        self._close()
        if not self._entered:
            self._left()
        try:
            self._done(result)
        except Exception as error:  # noqa: BLE001 - an error of ours must be read by somebody
            self._executor.fail(error)

    def _made(self, make: Callable[..., Result], of: tuple[object, ...]) -> Result:
        """Every turn ends, also by an error of ours."""
        try:
            return make(self._progress, *of)
        except TerminalError as error:
            return outcome.failed(self._progress, error.code, str(error))
        except Exception:  # noqa: BLE001 - logged, and the turn fails typed
            _log.exception("a turn's result could not be made", extra=self._names())
            return Result("failed", code=Code.INTERNAL, message="an error of ours; the worker's log has it")

    def _close(self) -> None:
        self._over = True
        self._clear_timer()
        self._job.close()
        self._progress.closed = True

    def _ended_late(self, error: BaseException | None = None) -> None:
        """The task ended after its turn did, or lost its session: nobody waits for it."""
        if not self._over:
            self._close()
        if error is not None and not isinstance(error, asyncio.CancelledError | TurnLost):
            _log.info("an agent raised after its turn was over", exc_info=error, extra=self._names())

    def _left(self) -> None:
        """The task is gone."""
        self._clear_timer()
        self._executor.running.discard(self)
        if self._stray:
            self._stray = False
            self._executor.strays -= 1

    def _set_timer(self, seconds: float, call: Callable[[], None]) -> None:
        self._clear_timer()
        self._timer = self._executor.call_later(seconds, call)

    def _clear_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _names(self) -> dict[str, object]:
        turn = self._job.turn
        return {"session": self._job.info.session, "turn": turn.turn, "attempt": turn.attempt}


def _turn_of(job: Job) -> AgentTurn:
    turn, given = job.turn, job.turn.input
    return AgentTurn(
        turn.turn, given.text, given.parts, given.metadata, given.options or _NONE, given.tools, turn.attempt
    )


__all__ = ["Done", "Executor", "Job", "Result", "RunningTurn", "TurnLink", "TurnLost"]
