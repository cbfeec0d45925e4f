"""What a turn's end amounts to: what the agent returned or raised, as a result. Knows no task, no timer, no frame."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from types import MappingProxyType

from pydantic import JsonValue

from journal.state import steer_item, user_item
from schemas.codes import Code
from schemas.errors import RetryableError, TerminalError
from schemas.frames import CancelledBy, Finish
from schemas.history import HistoryItem, said
from schemas.ids import message_id
from workers.agent import AgentTurn, Reply
from workers.answer import fitting, json_bytes
from workers.builder import describe
from workers.canonical import canonical, plain, weight
from workers.cutting import cut_messages
from workers.failure import first_of
from workers.progress import Progress
from workers.result import Result

_log = logging.getLogger("fleet.worker")

_MESSAGE_CHARS = 500
_NONE: Mapping[str, JsonValue] = MappingProxyType({})


def go_on(progress: Progress, reply: object, turn: AgentTurn) -> AgentTurn | None:
    """The agent returned, and its user has said more meanwhile: what it is run again with, as if that were the input.
    None: the journal holds other steps first. Raises TerminalError where `reply` is no answer."""
    job = progress.job
    progress.answer.pause(_given(reply).text)
    said_before = progress.answer.items(progress.clock_ms(), partial=False)
    heard = progress.hear()
    if not heard:
        return None
    progress.round += 1
    *earlier, last = (steer_item(note, job.turn.turn) for note in heard)
    progress.history, progress.message = (*job.history, user_item(job.turn), *said_before, *earlier), last
    note = heard[-1]
    if note.input is None:
        return turn._replace(text=str(note.value), parts=(), metadata=_NONE)
    return turn._replace(text=note.input.text, parts=note.input.parts, metadata=note.input.metadata)


def _given(reply: object) -> Reply:
    given = Reply(text=reply) if isinstance(reply, str) else Reply() if reply is None else reply
    if not isinstance(given, Reply):
        raise TerminalError(Code.AGENT_ERROR, f"the agent returned {type(given).__name__}, want Reply, str or None")
    return given


def completed(progress: Progress, reply: object) -> Result:
    """The agent returned. Raises TerminalError where that is no answer, or too large a one."""
    given = _given(reply)
    if given.text and given.data is None and progress.silent:
        return _plainly(progress, given.text, given.finish)
    progress.settle()
    data = plain(given.data, "data") if given.data is not None else None
    text = progress.answer.finish(given.text)
    if not text and data is None:
        raise TerminalError(Code.AGENT_ERROR, "the agent returned nothing: no text, no data, and showed none")
    _check_size(text, data, progress.job.max_reply_bytes)
    progress.close_calls()
    items = progress.answer.items(progress.clock_ms(), partial=False)
    taken = json_bytes(text) + (weight(data) if data is not None else 0)
    shown, cut = cut_messages(_own(items), taken, progress.job.info.session)
    result = Result("completed", text, shown, items, finish=given.finish, data=data, truncated=cut)
    return _counted(progress, result)


def _plainly(progress: Progress, text: str, finish: Finish) -> Result:
    """The agent only returned a text: its one message."""
    job, turn = progress.job, progress.job.turn.turn
    text = fitting(text, job.max_reply_bytes)
    only = (said(message_id(turn, 1), turn=turn, role="assistant", text=text, at_ms=progress.clock_ms()),)
    return _counted(progress, Result("completed", text, only, only, (), finish))


def cancelled(progress: Progress, by: CancelledBy | None) -> Result:
    """Somebody ended the turn: what was shown is kept."""
    return _counted(progress, _kept(progress, Result("cancelled", by=by)))


def failed(progress: Progress, code: Code, message: str) -> Result:
    """The turn cannot go on: what was shown is kept."""
    return _counted(progress, _kept(progress, Result("failed", code=code, message=message[:_MESSAGE_CHARS])))


def raised(progress: Progress, error: BaseException, names: Mapping[str, object]) -> Result:
    """The agent raised: typed errors keep their code; of others the type and the first line are told, the stack is
    logged (with `names`)."""
    error = progress.fault or first_of(error)
    if isinstance(error, RetryableError | TerminalError):
        if error.code is Code.AGENT_ERROR and error.__cause__ is not None:  # of a step: its author wants the stack
            _log.error("a step of the agent raised", exc_info=error.__cause__, extra=dict(names))
        return failed(progress, error.code, str(error) or error.code.value)
    _log.error("the agent raised %s", type(error).__name__, exc_info=error, extra=dict(names))
    return failed(progress, Code.AGENT_ERROR, describe(error))


def _check_size(text: str, data: JsonValue, most: int) -> None:
    data_bytes = 0 if data is None else len(canonical(data, "data").encode())
    if 6 * len(text) + data_bytes > most and (bytes_ := json_bytes(text) + data_bytes) > most:
        raise TerminalError(Code.TOO_LARGE, f"the answer has {bytes_} bytes of JSON, at most {most} are delivered")


def _kept(progress: Progress, result: Result) -> Result:
    result.text = progress.keep()
    items = result.history = progress.answer.items(progress.clock_ms(), partial=True)
    result.messages = _own(items)
    return result


def _own(items: tuple[HistoryItem, ...]) -> tuple[HistoryItem, ...]:
    """Without what the user said meanwhile."""
    return tuple(item for item in items if item.role != "user") if any(i.role == "user" for i in items) else items


def _counted(progress: Progress, result: Result) -> Result:
    result.kept = progress.kept
    result.model_us, result.tools_us, result.write_us, result.agent_us = progress.took()
    if not progress.frugal:
        tally = progress.tally
        result.usage, result.model_calls = tally.usage, tally.calls
        result.retries, result.untold_calls = tally.retries, tally.untold
    return result
