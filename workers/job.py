"""What the executor takes and gives: a job, its link to the journal, its result. Plain values; no engine in here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pydantic import JsonValue

from journal.state import OpenTurn
from schemas.codes import Code
from schemas.entries import Outcome, Step
from schemas.frames import CancelledBy, Finish, Usage
from schemas.history import HistoryItem
from schemas.profile import Profile
from workers.agent import MAX_REPLY_BYTES, Agent, SessionInfo
from workers.emitter import Emitter


class TurnLost(BaseException):
    """The session belongs to somebody else now: the turn is abandoned, nothing of it is published or written.

    Not an Exception, so that an agent's `except Exception` does not take it for an error of its own.
    """


class TurnLink(Protocol):
    """The running turn's line to its session's journal.

    An implementation must not undo or repeat an append because its waiter was cancelled: the entry may be durable.
    """

    async def append_step(self, step: Step) -> None:
        """Returns once the step is durable. Raises TurnLost when the session was lost."""


@dataclass(slots=True)
class Job:
    """One turn to run. `history` is what the session held before this turn; `profile` comes with a later issue."""

    info: SessionInfo
    turn: OpenTurn
    history: Sequence[HistoryItem]
    agent: Agent
    emitter: Emitter
    link: TurnLink
    profile: Profile | None = None
    max_reply_bytes: int = MAX_REPLY_BYTES
    max_steps: int = 256


@dataclass(slots=True)
class Result:
    """How a turn ended: everything that FINISH and the terminal frame need. `seq`: the terminal frame's number.

    `text`: the answer, or what was shown of it; `messages`: the same split, for the frame; `history`: what joins the
    conversation after the user's message (of a turn that was cancelled or failed: marked partial, no call without a
    result). `code`, `message`: of a failed one. `by`: of a cancelled one. Times in microseconds.
    """

    outcome: Outcome
    text: str = ""
    messages: tuple[HistoryItem, ...] = ()
    history: tuple[HistoryItem, ...] = ()
    usage: tuple[Usage, ...] = ()
    finish: Finish = "stop"
    data: JsonValue = None
    by: CancelledBy | None = None
    code: Code | None = None
    message: str = ""
    model_us: int = 0
    agent_us: int = 0
    model_calls: int = 0
    retries: int = 0
    seq: int = 0
