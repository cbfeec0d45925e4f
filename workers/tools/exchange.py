"""What a tool's call and whoever makes it say to each other meanwhile. Knows no server, no model and no journal.

The caller sets EXCHANGE around `tool.call(…)`; a tool that has nothing to say never looks at it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import NamedTuple

from pydantic import JsonValue

QUESTIONS = 8  # that one call may ask its user
QUESTION_BYTES = 65_536  # of one, with the state that goes back


class Question(NamedTuple):
    """What a tool asks its user. `schema`: what an answer must look like, None: yes or no."""

    message: str
    schema: Mapping[str, JsonValue] | None = None


class Answer(NamedTuple):
    """What its user said: whether they agree, and with what (as the question's schema asks)."""

    allowed: bool
    content: JsonValue = None


class InputNeeded(Exception):
    """The call cannot go on before its user has answered. `state` is JSON, opaque, to be kept as long as the answer is
    awaited: then the same tool is called with the same arguments, and `Exchange.resumed` holds both."""

    def __init__(self, question: Question, state: JsonValue) -> None:
        super().__init__(question.message)
        self.question = question
        self.state = state


class Resumed(NamedTuple):
    """An answered InputNeeded."""

    state: JsonValue
    answer: Answer


@dataclass(frozen=True, slots=True)
class Exchange:
    """`progress(done, total, message)`: how far the call is; must not wait. `ask`: for servers that want their answer
    while the call runs; what is not answered in time, or asked after the call, is declined; None: everything is.
    `resumed`: this call goes on with that one."""

    progress: Callable[[float, float | None, str | None], None] | None = None
    ask: Callable[[Question], Awaitable[Answer]] | None = None
    resumed: Resumed | None = None


EXCHANGE: ContextVar[Exchange] = ContextVar("turnfleet_exchange", default=Exchange())  # noqa: B039 (frozen)
