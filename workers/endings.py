"""Builds the entries that end turns, with their verbatim terminal frames. Pure; decides nothing."""

from __future__ import annotations

from typing import Any

from journal.state import OpenTurn, State, steer_item
from schemas.codes import MEANINGS, Code
from schemas.entries import Claim, Close, ControlNote, Finish, Quarantine, Settle
from schemas.frames import Cancelled, CancelledBy, Completed, Failed, Terminal, completed, encode
from schemas.history import HistoryItem
from schemas.ids import split_key
from workers.canonical import MAX_KEPT_BYTES, weight
from workers.effects import Mail
from workers.ledger.booking import receipt_of, told_by_steps
from workers.ledger.prices import NO_PRICES, Prices
from workers.remains import of_turn
from workers.result import Result

_NONE: tuple[str, ...] = ()


def terminal(frame: Terminal) -> str:
    """A terminal frame as it is stored and published."""
    return encode(frame).decode()


def finish(  # noqa: PLR0913 (what one entry holds, by name)
    key: str,
    state: State,
    result: Result,
    *,
    now_ms: int,
    op: str | None,
    claim: Claim | None,
    quarantine: Quarantine | None = None,
    prices: Prices = NO_PRICES,
    turn: OpenTurn | None = None,
) -> Finish:
    """The FINISH of `turn` (None: the open one), with its frame, history and receipt. Of one that is not run again its
    durable steps say what was shown and used."""
    turn = state.open if turn is None else turn
    assert turn is not None
    rollback = result.by == "rollback"
    if result.unrun:
        result.text, result.history = of_turn(turn, now_ms)
        told_by_steps(turn, result)
    history, joined = result.history, _NONE
    frames: tuple[str, ...] = (_frame(key, turn, result, now_ms).decode(),)
    if turn.joined:
        history = _with_unheard(history, turn)
        joined = turn.steering
        frames += tuple([_into(key, steering, turn.turn, now_ms) for steering in joined])
    return Finish.trusted(
        at_ms=now_ms,
        k="finish",
        turn=turn.turn,
        attempt=turn.attempt,
        outcome=result.outcome,
        by=result.by,
        op=op,
        history=() if rollback else history,
        rollback=rollback,
        receipt=receipt_of(key, state, turn, result, now_ms=now_ms, prices=prices),
        joined=joined,
        claim=claim,
        quarantine=quarantine,
        kept=None if rollback else result.kept,
        frames=frames,
    )


def fit(turn: OpenTurn, state: State, result: Result) -> None:
    """What a turn that stood aside keeps was weighed with what the session kept when it began: with what was kept
    meanwhile it may be too much. Then the turn fails."""
    if turn.seen is None or not result.kept:
        return
    bytes_ = weight({name: value for name, value in {**state.kept, **result.kept}.items() if value is not None})
    if bytes_ > MAX_KEPT_BYTES:
        text = (
            f"with what later turns kept meanwhile the session keeps {bytes_} bytes of JSON, at most {MAX_KEPT_BYTES}"
        )
        result.outcome, result.code, result.message, result.kept = "failed", Code.TOO_LARGE, text, None


def _with_unheard(history: tuple[HistoryItem, ...], turn: OpenTurn) -> tuple[HistoryItem, ...]:
    """What the user said to a turn that ended before the agent heard of it is said all the same."""
    heard = {item.id for item in history}
    said = (steer_item(note, turn.turn) for note in turn.joined)
    return (*history, *(item for item in said if item.id not in heard))


def _into(key: str, turn: str, into: str, now_ms: int) -> str:
    """The terminal frame of a turn that joined another one: it shows after its `joined`."""
    tenant, session = split_key(key)
    return terminal(
        Completed(session=session, turn=turn, tenant=tenant, attempt=0, seq=2, at_ms=now_ms, text="", into=into)
    )


def joins(key: str, mail: Mail, *, now_ms: int) -> ControlNote:
    """The CONTROL of a turn that steers the running one."""
    record = mail.record
    return ControlNote(
        at_ms=now_ms,
        op=f"~{mail.id}",
        kind="steer",
        turn=mail.id,
        tenant=split_key(key)[0],
        user=mail.user,
        input=record.turn,
        digest=mail.digest,
        position=record.position,
        reply_to=record.reply_to,
    )


def _frame(key: str, turn: OpenTurn, result: Result, now_ms: int) -> bytes:
    tenant, session = split_key(key)
    attempt = turn.attempt + 1 if result.unrun else turn.attempt
    if result.outcome == "completed":
        return completed(
            tenant=tenant,
            session=session,
            turn=turn.turn,
            attempt=attempt,
            seq=result.seq,
            at_ms=now_ms,
            text=result.text,
            messages=result.messages,
            finish=result.finish,
            usage=result.usage,
            data=result.data,
            truncated=result.truncated,
        )
    place: dict[str, Any] = {
        "session": session,
        "turn": turn.turn,
        "attempt": attempt,
        "seq": result.seq,
        "at_ms": now_ms,
        "tenant": tenant,
    }
    if result.outcome == "cancelled":
        text = "" if result.by == "rollback" else result.text
        return encode(Cancelled(**place, by=result.by or "user", text=text, usage=result.usage))
    code = result.code or Code.INTERNAL
    return encode(
        Failed(
            **place,
            code=code,
            message=result.message,
            retry=MEANINGS[code].retry,
            text=result.text,
            usage=result.usage,
        )
    )


def settle_failed(key: str, mail: Mail, code: Code, text: str, *, now_ms: int, known: bool = False) -> Settle:
    """The SETTLE of a turn that may not run. `known`: it was parked."""
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
        known=known,
        frames=(terminal(frame),),
    )


def settle_cancelled(
    key: str, mail: Mail, by: CancelledBy, *, now_ms: int, op: str | None, known: bool = False
) -> Settle:
    """The SETTLE of a turn that was cancelled while it waited."""
    return Settle(
        at_ms=now_ms,
        turn=mail.id,
        user=mail.user,
        outcome="cancelled",
        digest=mail.digest,
        offset=mail.record.position.offset,
        op=op,
        known=known,
        frames=(_cancelled(key, mail.id, by, now_ms),),
    )


def close(key: str, state: State, *, reason: str, now_ms: int, op: str | None) -> Close:
    """The CLOSE of a session, with the terminal frames of what it ends: the open turn, those that stand aside, the
    parked ones."""
    ended, frames = [], []
    for now in state.begun:
        ended += [now.turn, *now.steering]
        frames.append(_cancelled(key, now.turn, "delete", now_ms, attempt=now.attempt, seq=2**31))
        frames += [_cancelled(key, turn, "delete", now_ms, seq=2) for turn in now.steering]
    ended += [parked.turn for parked in state.parked]
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
