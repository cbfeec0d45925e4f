"""Runs one agent's turn through the real executor: time that moves when told, frames as they were sent, a list for a
journal, a model that says what it is told. No loop time, no network."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from pydantic import JsonValue

from journal.port import Profiles
from journal.state import OpenTurn
from schemas.control import ApproveControl
from schemas.entries import Intent, Position, Step, Suspend
from schemas.frames import Usage
from schemas.history import HistoryItem, said
from schemas.settings import ModelSettings
from schemas.turn import TurnInput
from workers.agent import Agent, AgentTurn, Reply, SessionInfo
from workers.children import Children
from workers.context import Context
from workers.emitter import Emitter, FrameIds
from workers.executor import Executor, RunningTurn
from workers.job import Job, TurnLost
from workers.models.port import ModelChunk, ModelDone, ModelPiece, ModelRequest
from workers.models.retry import ModelCaller
from workers.result import Result
from workers.services import Services

NOON_MS = 1_800_000_000_000
INFO = SessionInfo("default", "s1", "ann", "test", "1")
Run = Callable[[AgentTurn, Context], Awaitable[Reply | str | None]]


class Timer:
    """What `call_later` gave."""

    def __init__(self, due_s: float, call: Callable[[], None]) -> None:
        self.due_s = due_s
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Time:
    """A wall clock and its timers; it stands still until `advance`."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.timers: list[Timer] = []

    def clock_ms(self) -> int:
        return NOON_MS + round(self.now_s * 1000)

    def clock_ns(self) -> int:
        return round(self.now_s * 1e9)

    def call_later(self, seconds: float, call: Callable[[], None]) -> Timer:
        timer = Timer(self.now_s + seconds, call)
        self.timers.append(timer)
        return timer

    @property
    def armed(self) -> int:
        return sum(not timer.cancelled for timer in self.timers)

    def advance(self, seconds: float) -> None:
        """Move on, and call what is due in its order."""
        end_s = self.now_s + seconds
        while True:
            self.timers = [timer for timer in self.timers if not timer.cancelled]
            due = min((t for t in self.timers if t.due_s <= end_s + 1e-9), key=lambda t: t.due_s, default=None)
            if due is None:
                break
            self.timers.remove(due)
            self.now_s = max(self.now_s, due.due_s)
            due.call()
        self.now_s = end_s


class Told:
    """A model that says what it is told, one script a call: texts, ModelChunk, ModelDone, an exception, "…" (hang), a
    function to be called meanwhile.

    A script without ModelDone ends with one.
    """

    def __init__(self, *scripts: Sequence[Any]) -> None:
        self.scripts = list(scripts)
        self.requests: list[ModelRequest] = []
        self.closed = 0

    def stream(self, request: ModelRequest) -> AbstractAsyncContextManager[AsyncIterator[ModelPiece]]:
        self.requests.append(request)
        return self._stream(self.scripts[min(len(self.requests), len(self.scripts)) - 1])

    async def close(self) -> None: ...

    @asynccontextmanager
    async def _stream(self, script: Sequence[Any]) -> AsyncIterator[AsyncIterator[ModelPiece]]:
        try:
            yield self._pieces(script)
        finally:
            self.closed += 1

    async def _pieces(self, script: Sequence[Any]) -> AsyncIterator[ModelPiece]:
        for piece in script:
            if piece == "…":
                await asyncio.get_running_loop().create_future()
            if isinstance(piece, BaseException):
                raise piece
            if callable(piece):
                piece()
                continue
            yield ModelChunk(text=piece) if isinstance(piece, str) else piece
        if not (script and isinstance(script[-1], ModelDone)):
            yield ModelDone(usage=Usage(model="told", input_tokens=3, output_tokens=2))


@dataclass
class Notebook:
    """A TurnLink over a list. `asks`: what calls ask while they run, as it may be answered; `writes`: a decision on it
    is being written; `lost`: the next append raises TurnLost; `gate`: appends wait for it; `joining`: until it
    is done, something that the user says is about to join."""

    entries: list[Step | Intent | Suspend] = field(default_factory=list)
    lost: bool = False
    gate: asyncio.Future[None] | None = None
    boundaries: int = 0
    joining: asyncio.Future[None] | None = None
    sealed: bool = False
    asks: dict[str, Callable[[ApproveControl], bool]] | None = None
    writes: bool = False

    def ask(self, call: str, fits: Callable[[ApproveControl], bool]) -> bool:
        if self.asks is not None:
            self.asks[call] = fits
        return self.asks is not None

    def withdraw(self, call: str) -> bool:
        return not self.writes and (self.asks is None or self.asks.pop(call, None) is not None)

    def seal(self) -> bool:
        self.sealed = self.joining is None
        return self.sealed

    async def landed(self) -> None:
        assert self.joining is not None
        await self.joining
        self.joining = None

    async def append(self, entry: Step | Intent | Suspend) -> None:
        if self.gate is not None:
            await asyncio.shield(self.gate)
        if self.lost:
            raise TurnLost
        self.entries.append(entry)
        if isinstance(entry, Suspend):
            raise TurnLost

    @property
    def steps(self) -> list[Step]:
        return [entry for entry in self.entries if isinstance(entry, Step)]

    @property
    def intents(self) -> list[Intent]:
        return [entry for entry in self.entries if isinstance(entry, Intent)]

    def at_boundary(self) -> None:
        self.boundaries += 1


class Function:
    """A function as an agent."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def run(self, turn: AgentTurn, ctx: Context) -> Reply | str | None:
        return await self._run(turn, ctx)


class Stage:
    """One turn. `steps`, `intents`: what the journal holds of it already."""

    def __init__(
        self,
        agent: Agent | Run,
        model: Any = None,
        *,
        given: TurnInput | None = None,
        attempt: int = 1,
        steps: Sequence[Step] = (),
        intents: Sequence[Intent] = (),
        history: Sequence[HistoryItem] = (),
        deadline_s: float = 60.0,
        model_attempts: int = 3,
        max_reply_bytes: int = 245_760,
        max_steps: int = 256,
        children: Children | None = None,
        profiles: Profiles | None = None,
        kept: Mapping[str, JsonValue] | None = None,
        **more: Any,
    ) -> None:
        self.time = Time()
        self.frames: list[dict[str, Any]] = []
        self.waits: list[float] = []
        self.results: list[Result] = []
        self.link = Notebook()
        self.model = model if model is not None else Told(["Hello"])
        caller = ModelCaller(
            self.model,
            ModelSettings(model="told", model_attempts=model_attempts),
            clock_ms=self.time.clock_ms,
            sleep=self._sleep,
            chance=lambda: 1.0,
        )
        self.counted: list[tuple[str, str]] = []
        services = Services(
            caller,
            self.time.clock_ms,
            children or Children(),
            profiles,
            lambda metric, label: self.counted.append((metric, label)),
            clock_ns=self.time.clock_ns,
            **more,
        )
        self.executor = Executor(services, call_later=self.time.call_later)
        self.job = Job(
            info=INFO,
            turn=open_turn(given or TurnInput(text="hi"), attempt, tuple(steps), round(deadline_s * 1000))._replace(
                intents=tuple(intents)
            ),
            history=history,
            agent=agent if hasattr(agent, "run") else Function(agent),
            open_emitter=lambda: self._emitter(attempt),
            link=self.link,
            max_reply_bytes=max_reply_bytes,
            max_steps=max_steps,
            wants_profile=profiles is not None,
            kept=kept or {},
        )

    def start(self) -> RunningTurn:
        return self.executor.start(self.job, self.results.append)

    async def play(self) -> Result:
        """From start to end."""
        self.start()
        for _ in range(2_000):
            if self.results:
                break
            await asyncio.sleep(0)
        await settle()
        assert len(self.results) == 1, f"{len(self.results)} results"
        return self.results[0]

    @property
    def types(self) -> list[str]:
        return [frame["type"] for frame in self.frames]

    @property
    def shown(self) -> str:
        """What a client holds at the end of these frames."""
        text = ""
        for frame in self.frames:
            if frame["type"] == "delta":
                text += frame["text"]
            elif frame["type"] == "reset":
                text = frame["text"]
        return text

    async def _sleep(self, seconds: float) -> None:
        self.waits.append(seconds)

    def _emitter(self, attempt: int) -> Emitter:
        ids = FrameIds("default", "s1", "t1", attempt, "test", "1", "w1", 7)
        return Emitter(
            ids,
            lambda raw: self.frames.append(json.loads(raw)),
            clock_ms=self.time.clock_ms,
            call_later=self.time.call_later,
            delta_ms=50,
        )


async def settle() -> None:
    """Let every task that can go on do so."""
    for _ in range(60):
        await asyncio.sleep(0)


def open_turn(given: TurnInput, attempt: int, steps: tuple[Step, ...], deadline_ms: int) -> OpenTurn:
    return OpenTurn(
        turn="t1",
        attempt=attempt,
        tries=1,
        version=7,
        worker="w1",
        user="ann",
        digest="d",
        input=given,
        position=Position(stream="agent.turns", partition=0, offset=1, timestamp_ms=NOON_MS),
        deadline_ms=NOON_MS + deadline_ms,
        reply_to=None,
        traceparent=None,
        began_ms=NOON_MS,
        steps=steps,
    )


def past(*texts: str) -> list[HistoryItem]:
    """A history: user, assistant, user, assistant …"""
    return [
        said(
            f"p{n // 2}~{n % 2}",
            turn=f"p{n // 2}",
            role="user" if n % 2 == 0 else "assistant",
            text=text,
            at_ms=NOON_MS - 1000,
        )
        for n, text in enumerate(texts)
    ]
