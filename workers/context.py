"""What an agent works through: its turn, the history, the model, steps, text. Hands out nothing else of the engine.

A step is durable before its call returns. On a later attempt the agent runs again from its start: steps that the
journal holds are answered from there, in order, without a call; one that differs from what the agent asks for now
ends the turn, for its code changed and two histories must not be mixed.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from pydantic import JsonValue

from schemas.codes import Code
from schemas.entries import Step
from schemas.errors import TerminalError
from schemas.frames import StateChanged, StepDone, ToolCalled, ToolResult, Usage
from schemas.history import HistoryItem
from schemas.parts import DataPart, Part, TextPart
from schemas.profile import Profile
from workers.agent import AgentTurn, SessionInfo
from workers.answer import Answer
from workers.canonical import digest_of, plain
from workers.job import Job, TurnLost
from workers.ledger import Ledger
from workers.services import Services

T = TypeVar("T")


class Context:
    """One turn's view of the world. Every method raises TurnLost once the turn is over or lost, TerminalError where
    the turn cannot go on, RetryableError when a provider kept failing."""

    __slots__ = ("_job", "_ledger", "_services", "answer", "turn")

    def __init__(self, job: Job, services: Services) -> None:
        turn = job.turn
        self._job = job
        self._services = services
        self.answer = Answer(turn.turn, job.emitter, job.max_reply_bytes)
