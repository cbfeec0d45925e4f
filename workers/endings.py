"""Builds the entries that end turns, with their verbatim terminal frames. Pure; decides nothing."""

from __future__ import annotations

from typing import Any

from journal.state import OpenTurn, State
from schemas.codes import MEANINGS, Code
from schemas.entries import Claim, Close, Finish, Settle
from schemas.frames import Cancelled, CancelledBy, Completed, Failed, Terminal, encode
from schemas.ids import split_key
from schemas.receipt import Hops, Receipt
from workers.effects import Mail
from workers.result import Result


def terminal(frame: Terminal) -> str:
    """A terminal frame as it is stored and published."""
    return encode(frame).decode()


def finish(key: str, state: State, result: Result, *, now_ms: int, op: str | None, claim: Claim | None) -> Finish:
    """The FINISH of the open turn, with its frame, history and receipt."""
    assert state.open is not None
    frame = _frame(key, state.open, result, now_ms)
    return _finish(key, state, result, frame=frame, op=op, claim=claim)


def finish_unrun(key: str, state: State, result: Result, *, now_ms: int, op: str | None) -> Finish:
    """The FINISH of an open turn that runs nowhere; its frame comes after all that any attempt has shown."""
    assert state.open is not None
    after = state.open._replace(attempt=state.open.attempt + 1)
    frame = _frame(key, after, result, now_ms)
    return _finish(key, state, result, frame=frame, op=op, claim=None)


def _finish(key: str, state: State, result: Result, *, frame: Terminal, op: str | None, claim: Claim | None) -> Finish:
    turn = state.open
    assert turn is not None
    return Finish.trusted(
        at_ms=frame.at_ms,
        turn=turn.turn,
        attempt=turn.attempt,
        outcome=result.outcome,
        by=result.by,
        op=op,
        history=() if result.by == "rollback" else result.history,
        rollback=result.by == "rollback",
        receipt=_receipt(key, state, turn, result, frame.at_ms),
        claim=claim,
        frames=(terminal(frame),),
    )


def _frame(key: str, turn: OpenTurn, result: Result, now_ms: int) -> Terminal:
    tenant, session = split_key(key)
    place: dict[str, Any] = {
        "session": session,
        "turn": turn.turn,
        "attempt": turn.attempt,
        "seq": result.seq,
        "at_ms": now_ms,
        "tenant": tenant,
    }
    if result.outcome == "completed":
        return Completed.trusted(
            **place,
            text=result.text,
            messages=result.messages,
            finish=result.finish,
            usage=result.usage,
            data=result.data,
        )
    if result.outcome == "cancelled":
        return Cancelled(
            **place,
            by=result.by or "user",
            text="" if result.by == "rollback" else result.text,
            usage=result.usage,
        )
    code = result.code or Code.INTERNAL
    return Failed(
        **place,
        code=code,
        message=result.message,
        retry=MEANINGS[code].retry,
        text=result.text,
        usage=result.usage,
    )


def _receipt(key: str, state: State, turn: OpenTurn, result: Result, now_ms: int) -> Receipt:
    tenant, session = split_key(key)
    return Receipt(
        tenant=tenant,
        session=session,
        turn=turn.turn,
        user=turn.user,
        agent=state.opened.agent if state.opened else "",
        outcome=result.outcome,
        attempt=turn.attempt,
        at_ms=now_ms,
        hops=Hops(
            queue_us=max(turn.began_ms - turn.position.timestamp_ms, 0) * 1_000,
            model_us=result.model_us,
            agent_us=result.agent_us,
        ),
        usage=result.usage,
        model_calls=result.model_calls,
        retries=result.retries,
    )


def settle_failed(key: str, mail: Mail, code: Code, text: str, *, now_ms: int) -> Settle:
    """The SETTLE of a turn that may not run."""
    tenant, session = split_key(key)
    frame = Failed(
        session=session,
        turn=mail.id,
        attempt=0,
        seq=1,
        at_ms=now_ms,
        tenant=tenant,
        code=code,
        message=text,
        retry=MEANINGS[code].retry,
    )
    return Settle(
        at_ms=now_ms,
        turn=mail.id,
        user=mail.user,
        outcome="failed",
        digest=mail.digest,
        offset=mail.record.position.offset,
        frames=(terminal(frame),),
    )


def settle_cancelled(key: str, mail: Mail, by: CancelledBy, *, now_ms: int, op: str | None) -> Settle:
    """The SETTLE of a turn that was cancelled while it waited."""
    return Settle(
        at_ms=now_ms,
        turn=mail.id,
        user=mail.user,
        outcome="cancelled",
        digest=mail.digest,
        offset=mail.record.position.offset,
        op=op,
        frames=(_cancelled(key, mail.id, by, now_ms),),
    )


def close(key: str, state: State, *, reason: str, now_ms: int, op: str | None) -> Close:
    """The CLOSE of a session, with the terminal frames of what it ends: the open turn, then the parked ones."""
    ended = [state.open.turn] if state.open is not None else []
    ended += [parked.turn for parked in state.parked]
    frames = []
    if state.open is not None:
        frames.append(_cancelled(key, state.open.turn, "delete", now_ms, attempt=state.open.attempt, seq=2**31))
    frames += [_cancelled(key, parked.turn, "delete", now_ms) for parked in state.parked]
    return Close(
        at_ms=now_ms,
        reason="expire" if reason == "expire" else "delete",
        op=op,
        ended=tuple(ended),
        frames=tuple(frames),
    )


def _cancelled(key: str, turn: str, by: CancelledBy, now_ms: int, *, attempt: int = 0, seq: int = 1) -> str:
    tenant, session = split_key(key)
    return terminal(Cancelled(session=session, turn=turn, attempt=attempt, seq=seq, at_ms=now_ms, tenant=tenant, by=by))
