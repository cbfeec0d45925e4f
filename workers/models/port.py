"""What a worker asks of a model, and what it may get back. Knows no provider, no network and no retry."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol

from pydantic import JsonValue

from schemas.codes import Code
from schemas.errors import RetryableError, TerminalError
from schemas.frames import Finish, Usage
from schemas.history import HistoryItem, ToolCall
from schemas.settings import ModelSettings

Limit = Literal["connect", "first_token", "idle", "total"]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits of one call in seconds: to connect, to the first piece, between two pieces, in all."""

    connect_s: float = 5.0
    first_token_s: float = 60.0
    idle_s: float = 30.0
    total_s: float = 300.0

    @classmethod
    def of(cls, settings: ModelSettings) -> Timeouts:
        """As the settings say."""
        return cls(
            connect_s=settings.model_connect_timeout_s,
            first_token_s=settings.model_first_token_timeout_s,
            idle_s=settings.model_idle_timeout_s,
            total_s=settings.model_total_timeout_s,
        )


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool that the model may ask for; `parameters` is a JSON Schema of an object."""

    name: str
    description: str = ""
    parameters: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """What the answer must be: JSON that fits `schema`. A provider that can be told so is; the messages say it too."""

    name: str
    schema: Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """One call: what was said, in order, and for whom.

    `model`, `timeouts` None: the adapter's own. `system` goes before the messages. `volatile` is among
    the messages when an adapter gets the request.
    `fallbacks`: models to ask in order when this one is given up; they are the caller's affair, an adapter's never.
    `session` and `turn` go along as headers `x-fleet-session` and `x-fleet-turn`, never as a user of the provider.
    """

    session: str
    turn: str
    messages: Sequence[HistoryItem]
    system: str = ""
    model: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    tools: tuple[ToolSpec, ...] = ()
    volatile: tuple[HistoryItem, ...] = ()
    fallbacks: tuple[str, ...] = ()
    timeouts: Timeouts | None = None
    output: OutputSpec | None = None


@dataclass(frozen=True, slots=True)
class ModelChunk:
    """Some of the answer: deltas of one interval, joined. One of the two is not empty; no half surrogate."""

    text: str = ""
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class ModelDone:
    """The end, once, as the last piece. `usage` None: the provider told none. `calls`: with the provider's call ids,
    which stay here.

    `model`: who answered, by the name that it was asked by.
    """

    finish: Finish = "stop"
    usage: Usage | None = None
    calls: tuple[ToolCall, ...] = ()
    model: str = ""


ModelPiece = ModelChunk | ModelDone


class Model(Protocol):
    """A provider. Both adapters pass one contract suite."""

    def stream(self, request: ModelRequest) -> AbstractAsyncContextManager[AsyncIterator[ModelPiece]]:
        """Ask, once. The pieces are ModelChunk and, last, one ModelDone; a stream that ends without it raises.

        Raises ModelRateLimited, ModelUnavailable (both pass) or ModelRefused (does not), on entering or between pieces.
        Leaving the block, by cancellation too, ends the provider's work at once. Must not retry and must not
        hold the first piece back; later ones are joined for the coalescing interval.
        """
        ...

    async def close(self) -> None:
        """Give up what is open. Safe to call twice."""
        ...


class ModelRateLimited(RetryableError):
    """The provider takes no more for now (429). `after_s`: when it wants to be asked again."""

    def __init__(self, text: str, *, after_s: float | None = None) -> None:
        super().__init__(text, code=Code.MODEL_RATE_LIMITED, after_s=after_s)


class ModelUnavailable(RetryableError):
    """5xx, no connection, a connection cut midway or a time-out: passes. `usage`: what the provider told of the tokens
    before that."""

    usage: Usage | None = None

    def __init__(self, text: str, *, after_s: float | None = None) -> None:
        super().__init__(text, code=Code.MODEL_ERROR, after_s=after_s)


class ModelTimedOut(ModelUnavailable):
    """A limit of one call passed. `limit`: which of the four, as the settings name them."""

    _TEXTS: ClassVar[dict[Limit, str]] = {
        "connect": "no connection to the model within {:g} s",
        "first_token": "the model said nothing within {:g} s",
        "idle": "the model said nothing more for {:g} s",
        "total": "the model did not end within {:g} s",
    }

    def __init__(self, limit: Limit, after_s: float) -> None:
        super().__init__(f"{self._TEXTS[limit].format(after_s)} (time-out: {limit})")
        self.limit = limit


class ModelRefused(TerminalError):
    """The provider will not answer this request however often it is asked (other 4xx). `status`: HTTP, 0 if unknown."""

    def __init__(self, text: str, *, status: int = 0) -> None:
        super().__init__(Code.MODEL_ERROR, text)
        self.status = status


class ModelMisconfigured(Exception):
    """The settings make no request; the text says which and why. Raised when an adapter is made, never later."""
