"""What the executor takes: a job, and its link to the journal. Plain values; knows nothing of how it is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

from pydantic import JsonValue

from journal.port import Cap
from journal.state import OpenTurn
from schemas.control import ApproveControl
from schemas.entries import Intent, Step, Suspend
from schemas.history import HistoryItem
from schemas.profile import Pinned
from schemas.receipt import NOTHING, Spending
from workers.agent import MAX_REPLY_BYTES, Agent, SessionInfo
from workers.emitter import Emitter

if TYPE_CHECKING:
    from workers.tools.tool import Tool

_NOTHING: Mapping[str, JsonValue] = MappingProxyType({})


class TurnLost(BaseException):
    """The session belongs to somebody else now: the turn is abandoned, nothing of it is published or written.

    Not an Exception, so that an agent's `except Exception` does not take it for an error of its own.
    """


class TurnLink(Protocol):
    """The running turn's line to its session's journal.

    An implementation must not undo or repeat an append because its waiter was cancelled: the entry may be durable.
    """

    async def append(self, entry: Step | Intent | Suspend) -> None:
        """Returns once the entry is durable. Raises TurnLost when the session was lost, and for every SUSPEND: the turn
        goes on in another attempt."""

    def at_boundary(self) -> None:
        """No step is in progress, the last one is durable. The turn may be over when this returns."""

    def ask(self, call: str, fits: Callable[[ApproveControl], bool]) -> bool:
        """From now on a decision on `call` that `fits` is written down, and then told to the running turn. False:
        nobody can be asked."""

    def withdraw(self, call: str) -> bool:
        """From now on none is. False: one is being written, and is told."""

    def seal(self) -> bool:
        """The agent is done: nothing joins the turn any more. False: something is about to; wait for `landed`."""

    async def landed(self) -> None:
        """Nothing is about to join the turn: what did was told to the running turn."""


@dataclass(slots=True)
class Job:
    """One turn to run. `history` is what the session held before this turn, `kept` what its agents kept by name;
    `wants_profile`, `model`, `fallbacks`, `instructions`, `tools`, `turn_cap`, `session_cap`: as the agent's spec says;
    `profile` is set when the turn starts; `spent`: by the session before this turn.

    The emitter is opened by whoever first has something to show: most short turns have nothing.
    """

    info: SessionInfo
    turn: OpenTurn
    history: Sequence[HistoryItem]
    agent: Agent
    open_emitter: Callable[[], Emitter]
    link: TurnLink
    wants_profile: bool = False
    profile: Pinned | None = None
    kept: Mapping[str, JsonValue] = field(default_factory=lambda: _NOTHING)
    max_reply_bytes: int = MAX_REPLY_BYTES
    max_steps: int = 256
    model: str | None = None
    fallbacks: tuple[str, ...] = ()
    instructions: str = ""
    tools: Sequence[Tool] = ()
    turn_cap: Cap | None = None
    session_cap: Cap | None = None
    spent: Spending = NOTHING
    opened: Emitter | None = None
    closed: bool = False

    @property
    def emitter(self) -> Emitter:
        """The frames of this attempt."""
        emitter = self.opened
        if emitter is None:
            emitter = self.opened = self.open_emitter()
            if self.closed:
                emitter.close()
        return emitter

    def next_seq(self) -> int:
        """The number of the terminal frame; what waits is sent."""
        return 0 if self.opened is None else self.opened.next_seq()

    def close(self) -> None:
        """Nothing is shown any more."""
        self.closed = True
        if self.opened is not None:
            self.opened.close()
