"""One model call as a step: answered from the journal, or asked for, shown and made durable. Knows no provider.

Order of effects: (1) the message opens, (2) its text is shown as it comes, (3) the step is durable, (4) the agent
gets the answer. What a repeated call showed before is withdrawn first.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from typing import Any

import orjson
from pydantic import JsonValue

from schemas.codes import Code
from schemas.entries import Step
from schemas.errors import RetryableError, TerminalError
from schemas.frames import Usage
from schemas.history import HistoryItem, ToolCall
from schemas.parts import TextPart
from workers import failure
from workers.agent import ModelAnswer
from workers.answer import clean
from workers.canonical import MAX_RESULT_BYTES
from workers.ledger.clock import MODEL
from workers.ledger.estimate import bytes_of, estimated
from workers.ledger.purse import Hold
from workers.models.port import ModelChunk, ModelDone, ModelRequest, ModelTimedOut, ModelUnavailable
from workers.remains import calls_of
from workers.services import Services
from workers.steps import Steps

_KIND = _NAME = "model"


class ModelStep:
    """`show`: the text is part of the answer."""

    __slots__ = (
        "_asked",
        "_chars",
        "_heard",
        "_paid",
        "_progress",
        "_request",
        "_sent",
        "_services",
        "_show",
        "_texts",
        "_untold",
    )

    def __init__(self, progress: Steps, services: Services, request: ModelRequest, *, show: bool) -> None:
        self._progress = progress
        self._services = services
        self._request = request
        self._show = show
        self._texts: list[str] = []
        self._chars = 0
        self._sent = request  # as it goes out
        self._asked: str | None = None  # the model of a try that is under way
        self._heard = 0  # bytes of its answer so far
        self._paid: list[Usage] = []
        self._untold = 0

    async def run(self) -> ModelAnswer:
        """Raises RetryableError when every try failed, TerminalError, TurnLost."""
        progress = self._progress
        digest = request_digest(self._request, show=self._show)
        number, held = progress.take(_KIND, _NAME, digest)
        if held is not None:
            return self._replay(held)
        request, hold = await self._reserved(number, digest)
        if self._show:
            try:
                progress.answer.in_step()
                progress.answer.open()
            except TerminalError:  # nobody was asked
                self._settle(hold, (), untold=False)
                raise
        progress.whole.tally.calls += 1
        try:
            done = await self._ask(request)
        except BaseException as error:
            await self._given_up(number, digest, hold, error)
            raise
        if done.usage is None:
            guess = estimated(self._sent, done.model or self._asked or "", self._heard, done.calls)
            self._untold += 1
            done = replace(done, usage=guess)
        try:
            return await self._keep(number, digest, done)
        finally:  # the tally has it now: at no moment is it in neither
            self._settle(hold, self._booked(done), untold=bool(self._untold))

    async def _reserved(self, number: int, digest: str) -> tuple[ModelRequest, Hold | None]:
        """The request as it goes out, and what is reserved for it. What a budget refuses is kept: every later attempt
        is refused at the same place."""
        request, whole = self._addressed(), self._progress.whole
        purse = whole.purse(self._services)
        if not purse.limited:
            return request, None
        request = replace(request, max_tokens=purse.capped(request))
        try:
            return request, await purse.reserve(request)
        except TerminalError as over:
            error = failure.kept(over)
            await self._progress.append(self._progress.entry(number, _KIND, _NAME, digest, result=None, error=error))
            raise

    async def _given_up(self, number: int, digest: str, hold: Hold | None, error: BaseException) -> None:
        """No answer came. A failure is kept, with what it cost: the agent may go on from it, and then meets it again in
        every attempt."""
        progress, tally, paid = self._progress, self._progress.whole.tally, tuple(self._paid)
        broken = progress.answer.break_off() if self._show else ""
        told = False
        try:
            if isinstance(error, failure.Typed):
                result = self._told(broken)
                entry = progress.entry(
                    number, _KIND, _NAME, digest, result=result, usage=paid, error=failure.kept(error)
                )
                await progress.append(entry)
                told = True
        finally:
            if not told:
                tally.add(paid)
            tally.untold += self._untold
            self._settle(hold, paid, untold=bool(self._untold))

    def _told(self, broken: str) -> dict[str, JsonValue]:
        """What a call that failed came to. `broken`: what was shown of it, to be shown again."""
        result: dict[str, JsonValue] = {"chars": 0} if self._show else {}
        if broken:
            result["broken"] = broken
        if self._untold:
            result["untold"] = self._untold
        return result

    def _settle(self, hold: Hold | None, told: tuple[Usage, ...], *, untold: bool) -> None:
        if hold is not None:
            self._progress.whole.purse(self._services).settle(hold, told, untold=untold)

    async def _ask(self, request: ModelRequest) -> ModelDone:
        whole = self._progress.whole
        self._sent = request
        whole.clock.enter(MODEL)
        try:
            deadline_ms = whole.job.turn.deadline_ms
            return await self._services.models.ask(
                request, piece=self._piece, again=self._again, asked=self._begin, deadline_ms=deadline_ms
            )
        except BaseException as error:
            self._cut(error)
            raise
        finally:
            whole.clock.leave(MODEL)

    def _addressed(self) -> ModelRequest:
        """With what its digest does not cover: where the call names no model, those of the registration; messages that
        may differ between attempts."""
        job, request = self._progress.whole.job, self._request
        if request.volatile:
            request = replace(request, messages=(*request.messages, *request.volatile), volatile=())
        model, fallbacks = request.model or job.model, request.fallbacks or job.fallbacks
        if (model, fallbacks) == (request.model, request.fallbacks):
            return request
        return replace(request, model=model, fallbacks=tuple(name for name in fallbacks if name != model))

    def _cut(self, error: BaseException) -> None:
        """A try ended without an answer: what it cost is booked, estimated as far as it was not told."""
        model, told = self._asked, error.usage if isinstance(error, ModelUnavailable) else None
        if model is not None and (told is not None or self._heard or _got_there(error)):
            self._untold += told is None
            self._paid.append(estimated(self._sent, model, self._heard, told=told))
        self._asked, self._heard = None, 0

    def _begin(self, model: str) -> None:
        self._asked, self._heard = model, 0

    def _booked(self, done: ModelDone) -> tuple[Usage, ...]:
        """Of every try."""
        return tuple(self._paid) if done.usage is None else (*self._paid, done.usage)

    def _piece(self, piece: ModelChunk) -> None:
        self._heard += bytes_of(piece.text) + bytes_of(piece.reasoning)
        if self._show:
            self._progress.answer.reason(piece.reasoning)
            self._progress.answer.grow(piece.text)
        else:
            self._texts.append(clean(piece.text))
            self._chars += len(piece.text)
            if self._chars > MAX_RESULT_BYTES:
                raise TerminalError(Code.TOO_LARGE, f"the model said more than {MAX_RESULT_BYTES} characters")

    def _again(self, error: RetryableError) -> None:
        self._progress.whole.tally.retries += 1
        self._cut(error)
        self._texts.clear()
        self._chars = 0
        if self._show:
            self._progress.answer.void()

    async def _keep(self, number: int, digest: str, done: ModelDone) -> ModelAnswer:
        progress = self._progress
        calls = self._minted(number, done.calls)
        text = progress.answer.close(calls) if self._show else "".join(self._texts)
        usage = self._booked(done)
        result: dict[str, JsonValue] = {"finish": done.finish}
        if self._show:
            result["chars"] = len(text)
        else:
            result["text"] = text
        if done.model:
            result["model"] = done.model
        if self._request.volatile:
            result["volatile"] = True
        if self._untold:
            result["untold"] = self._untold
        if calls:
            result["calls"] = [call.model_dump(mode="json", exclude_none=True) for call in calls]
        try:
            progress.whole.fitting(result, "the model's answer")
        except TerminalError:  # it is paid for all the same
            progress.whole.tally.add(usage)
            progress.whole.tally.untold += self._untold
            raise
        await progress.append(progress.entry(number, _KIND, _NAME, digest, result=result, usage=usage))
        progress.whole.tally.untold += self._untold
        return ModelAnswer(text, done.finish, calls, usage, done.model, volatile=bool(self._request.volatile))

    def _minted(self, number: int, calls: tuple[ToolCall, ...]) -> tuple[ToolCall, ...]:
        """With ids of ours, unique in the session, which every provider takes: a provider's own may come again."""
        place = (self._request.turn, self._progress.run, number)
        return tuple(call.model_copy(update={"call": call_id(*place, n)}) for n, call in enumerate(calls))

    def _replay(self, held: Step) -> ModelAnswer:
        result: dict[str, Any] = held.result if isinstance(held.result, dict) else {}
        if held.error is not None:
            if "chars" in result:
                self._progress.answer.open()
                self._progress.answer.grow(result.get("broken", ""))
                self._progress.answer.break_off()
            self._progress.replayed(held.step)
            raise failure.raised(held.error)
        calls = calls_of(held)
        text = held.text[len(held.text) - result["chars"] :] if self._show else result["text"]
        if self._show:
            self._progress.answer.open()
            self._progress.answer.grow(text)
            self._progress.answer.close(calls)
        self._progress.replayed(held.step)
        volatile = result.get("volatile", False)
        return ModelAnswer(
            text, result.get("finish", "stop"), calls, held.usage, result.get("model", ""), volatile=volatile
        )


def _got_there(error: BaseException) -> bool:
    """Whether the model may have worked, though it said nothing."""
    return isinstance(error, asyncio.CancelledError) or (isinstance(error, ModelTimedOut) and error.limit != "connect")


def request_digest(request: ModelRequest, *, show: bool) -> str:
    """32 hex digits over what the agent asked for: not over settings, fallbacks, ids, moments or the tools that are
    there, which change between attempts."""
    said = [_said(item) for item in request.messages]
    asked = [request.system, request.model, request.temperature, request.max_tokens, show, said]
    return hashlib.sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]


def call_id(*place: object) -> str:
    """The id of a call that a model asked for: by turn, branch, step and place among the calls."""
    return "c" + hashlib.sha256("\n".join(map(str, place)).encode()).hexdigest()[:20]


def _said(item: HistoryItem) -> list[Any]:
    parts = item.parts
    if len(parts) == 1 and isinstance(parts[0], TextPart) and not item.calls and item.call is None:
        return [item.role, parts[0].text]
    return [item.role, item.model_dump(mode="json", include={"parts", "calls", "call"})]
