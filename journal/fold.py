"""The fold: what a session's entries amount to. Pure: no I/O, no clock. Knows nothing of who appends or why."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import JsonValue

from journal.history import History
from journal.state import OpenTurn, Quarantined, Seen, State, user_item
from schemas.entries import (
    Claim,
    Close,
    ControlNote,
    Entry,
    Finish,
    Intent,
    Open,
    Park,
    Release,
    Settle,
    Step,
    Suspend,
)
from schemas.history import HistoryItem, said
from schemas.receipt import Spending, spending_of
from schemas.snapshot import AheadCancel, Closed, EndedTurn, SeenOp
from schemas.turn import TurnInput

_T = TypeVar("_T")
REMEMBERED_TURNS = 16
REMEMBERED_HELD = 80  # of a suspended turn, all that joins it or is parked behind it may end before its frames are out
REMEMBERED_OPS = 256


class FoldError(Exception):
    """The entries of a session contradict each other: the store was edited by hand, or a bug. Nothing is guessed."""


def fold(state: State, version: int, entry: Entry) -> State:
    """The state after `entry`, which is number `version`. Raises FoldError where it cannot follow `state`."""
    if version != state.version + 1:
        raise FoldError(f"version {version} after {state.version}: a gap")
    last_ms = entry.at_ms if entry.at_ms > state.last_ms else state.last_ms
    state = _FOLDS[type(entry)](state, version, entry)
    op = entry.op_id
    if op is None:
        return state if state.version == version else state._replace(version=version, last_ms=last_ms)
    seen = SeenOp(op=op, user=getattr(entry, "user", None) or None, turn=_turn_of(entry), version=version)
    return state._replace(version=version, last_ms=last_ms, ops=ring(state.ops, seen, REMEMBERED_OPS))


def _turn_of(entry: Entry) -> str | None:
    return getattr(entry, "turn", None)


def ring(items: tuple[_T, ...], item: _T, size: int) -> tuple[_T, ...]:
    return (*items[1 - size :], item) if len(items) >= size else (*items, item)


def _remember(over: Mapping[str, EndedTurn], ended: EndedTurn, limit: int | None = None) -> dict[str, EndedTurn]:
    new = dict(over)
    while len(new) >= (limit or REMEMBERED_TURNS):
        del new[next(iter(new))]
    new[ended.turn] = ended
    return new


def _open(state: State, version: int, entry: Open) -> State:
    if state.opened is not None:
        raise FoldError(f"version {version}: OPEN of a session that lives")
    return state._replace(opened=entry, base=version, history=History(), turns=0, kept={}, spent=Spending())


def _claim(state: State, version: int, entry: Claim) -> State:
    if entry.opens is not None:
        state = _open(state, version, entry.opens)
    if state.opened is None:
        raise FoldError(f"version {version}: CLAIM of {entry.turn} in a session that is not open")
    if entry.input is not None and entry.input.history and state.turns == 0 and state.open is None:
        state = state._replace(history=state.history.extended(_given(entry)))
    now = state.open
    if now is None and state.aside:
        now = state.unended(entry.turn)
    if now is not None:
        if now.turn != entry.turn:
            raise FoldError(f"version {version}: CLAIM of {entry.turn} while {now.turn} is open")
        if state.open is None and now.awaits is not None:
            raise FoldError(f"version {version}: CLAIM of {entry.turn}, which stands aside and awaits a decision")
        return state._replace(open=_taken(now, version, entry), aside=_others(state.aside, entry.turn))
    parked = state.parked_turn(entry.turn)
    brought = entry.input if entry.input is not None else parked.input if parked is not None else None
    if brought is None:
        raise FoldError(f"version {version}: CLAIM of {entry.turn} brings no input")
    if not (state.parked or state.ahead):
        began = _opened_turn(entry, version, brought)
        return _next_state(state, version, entry.at_ms, began, state.history, state.ended_turns)
    return state._replace(
        open=_opened_turn(entry, version, brought)._replace(held=parked is not None),
        turns=state.turns + 1,
        parked=_unparked(state.parked, entry.turn),
        ahead=without(state.ahead, entry.turn),
    )


def _taken(now: OpenTurn, version: int, entry: Claim) -> OpenTurn:
    suspended_ms, lost_ms = now.idle_ms(entry.at_ms)
    return now._replace(
        attempt=entry.attempt,
        tries=entry.tries,
        version=version,
        worker=entry.worker,
        reply_to=entry.reply_to or now.reply_to,
        deadline_ms=entry.deadline_ms,
        progress=False,
        suspended=None,
        claimed_ms=entry.at_ms,
        suspended_ms=suspended_ms,
        lost_ms=lost_ms,
    )


def _others(aside: tuple[OpenTurn, ...], turn: str) -> tuple[OpenTurn, ...]:
    return tuple(item for item in aside if item.turn != turn) if aside else aside


def _given(entry: Claim) -> list[HistoryItem]:
    given = entry.input.history if entry.input is not None and entry.input.history else ()
    return [
        said(item=f"{entry.turn}~h{n}", turn=entry.turn, role=item.role, text=item.text, at_ms=entry.at_ms)
        for n, item in enumerate(given)
    ]


def _opened_turn(entry: Claim, version: int, brought: TurnInput) -> OpenTurn:
    return OpenTurn(
        entry.turn,
        entry.attempt,
        entry.tries,
        version,
        entry.worker,
        entry.user,
        entry.digest,
        brought,
        entry.position,
        entry.deadline_ms,
        entry.reply_to,
        entry.traceparent,
        entry.at_ms,
    )


def without(ahead: tuple[AheadCancel, ...], turn: str) -> tuple[AheadCancel, ...]:
    return tuple(item for item in ahead if item.turn != turn) if ahead else ahead


def _unparked(parked: tuple[Park, ...], turn: str) -> tuple[Park, ...]:
    return tuple(item for item in parked if item.turn != turn) if parked else parked


def _running(state: State, version: int, turn: str, attempt: int, what: str) -> OpenTurn:
    now = state.open
    if now is None or now.turn != turn or now.attempt != attempt:
        raise FoldError(f"version {version}: {what} of {turn} attempt {attempt}, which is not open")
    return now


def _step(state: State, version: int, entry: Step) -> State:
    now = _running(state, version, entry.turn, entry.attempt, "STEP")
    done = (entry.run, entry.step)
    intents = now.intents and tuple(intent for intent in now.intents if (intent.run, intent.step) != done)
    return state._replace(open=now._replace(steps=(*now.steps, entry), intents=intents, progress=True))


def _intent(state: State, version: int, entry: Intent) -> State:
    now = _running(state, version, entry.turn, entry.attempt, "INTENT")
    return state._replace(open=now._replace(intents=(*now.intents, entry)))


def _suspend(state: State, version: int, entry: Suspend) -> State:
    now = _running(state, version, entry.turn, entry.attempt, "SUSPEND")
    asked = (*now.asked, entry)
    now = now._replace(suspended=entry, asked=asked, progress=True, held=True)
    if not entry.aside:
        return state._replace(open=now)
    return state._replace(open=None, aside=(*state.aside, _seeing(now, state)))


def _seeing(now: OpenTurn, state: State) -> OpenTurn:
    """The session goes on: what this turn began with is kept for its later attempts."""
    return now if now.seen is not None else now._replace(seen=Seen(state.history, state.kept, state.turns))


def _control(state: State, version: int, entry: ControlNote) -> State:
    now = state.open
    if entry.kind == "release":
        held = state.quarantine
        if held is None or held.letter != entry.letter:
            return state
        return state._replace(quarantine=held._replace(first=entry.first) if entry.first is not None else None)
    if now is not None and entry.kind == "steer":
        return state._replace(open=now._replace(joined=(*now.joined, entry)))
    if now is not None and now.turn == entry.turn:
        return state._replace(open=now._replace(decisions=(*now.decisions, entry)))
    if state.aside and state.unended(entry.turn) is not None:
        told = (
            item._replace(decisions=(*item.decisions, entry)) if item.turn == entry.turn else item
            for item in state.aside
        )
        return state._replace(aside=tuple(told))
    if entry.kind == "cancel":
        return state._replace(ahead=(*state.ahead, AheadCancel(turn=entry.turn, user=entry.user, op=entry.op)))
    return state


def _park(state: State, version: int, entry: Park) -> State:
    return state._replace(parked=(*state.parked, entry), ahead=without(state.ahead, entry.turn))


def _settle(state: State, version: int, entry: Settle) -> State:
    ended = EndedTurn(entry.turn, entry.outcome, version, entry.digest, entry.offset, held=entry.known)
    return state._replace(
        ended_turns=_remember(state.ended_turns, ended, REMEMBERED_HELD if entry.known else None),
        parked=_unparked(state.parked, entry.turn),
        ahead=without(state.ahead, entry.turn),
        quarantine=_quarantine_after(state, entry.turn),
    )


def _quarantine_after(state: State, turn: str) -> Quarantined | None:
    """The turn that went first is over: so is the quarantine."""
    held = state.quarantine
    return held if held is None or held.first != turn else None


def _finish(state: State, version: int, entry: Finish) -> State:
    stands = state.unended(entry.turn) if state.aside else None
    if stands is not None and stands is not state.open:
        return _finish_aside(state, version, entry, stands)
    now = _running(state, version, entry.turn, entry.attempt, "FINISH")
    said = entry.history if entry.rollback else (user_item(now), *entry.history)
    place, limit = now.position.offset, REMEMBERED_HELD if now.held or entry.joined else None
    ended = EndedTurn(entry.turn, entry.outcome, version, now.digest, place, now.held)
    over = _remember(state.ended_turns, ended, limit)
    for note in now.joined if entry.joined else ():
        if note.position is not None:
            steered = EndedTurn(note.turn, "completed", version, note.digest, note.position.offset, now.held)
            over = _remember(over, steered, limit)
    history = state.history.extended(said)
    claim = entry.claim
    if entry.receipt is not None and entry.receipt.usage:
        state = state._replace(spent=state.spent.plus(spending_of(entry.receipt)))
    if entry.kept:
        state = state._replace(kept=_keep(state.kept, entry.kept))
    if entry.quarantine is not None:
        held = Quarantined(entry.turn, entry.quarantine.letter, entry.quarantine.until_ms)
        return _next_state(state, version, entry.at_ms, None, history, over)._replace(quarantine=held)
    if state.quarantine is not None:
        state = state._replace(quarantine=_quarantine_after(state, entry.turn))
    if claim is None:
        return _next_state(state, version, entry.at_ms, None, history, over)
    if claim.opens is None and claim.input is not None and not (state.parked or state.ahead):  # as it nearly always is
        return _next_state(state, version, entry.at_ms, _opened_turn(claim, version, claim.input), history, over)
    return _claim(state._replace(open=None, history=history, ended_turns=over), version, claim)


def _finish_aside(state: State, version: int, entry: Finish, now: OpenTurn) -> State:
    """A turn that stands aside is over, whatever else is open. What is open goes on with what it began with."""
    if now.attempt != entry.attempt or entry.claim is not None or entry.quarantine is not None:
        raise FoldError(f"version {version}: FINISH of {entry.turn} attempt {entry.attempt}, which stands aside")
    opened = state.open
    alone = state._replace(open=now, aside=_others(state.aside, entry.turn))
    return _finish(alone, version, entry)._replace(open=None if opened is None else _seeing(opened, state))


def _keep(kept: Mapping[str, JsonValue], new: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
    return {name: value for name, value in {**kept, **new}.items() if value is not None}


def _next_state(
    state: State,
    version: int,
    at_ms: int,
    began: OpenTurn | None,
    history: History,
    over: Mapping[str, EndedTurn],
) -> State:
    """After a FINISH, or a CLAIM of a new turn (`began`), where nothing else changes."""
    return State(
        version,
        state.base,
        state.opened,
        began,
        history,
        state.turns if began is None else state.turns + 1,
        at_ms if at_ms > state.last_ms else state.last_ms,
        over,
        state.ops,
        state.ahead,
        state.parked,
        state.closed,
        state.wiped,
        state.quarantine,
        state.kept,
        state.spent,
        state.aside,
    )


def _release(state: State, version: int, entry: Release) -> State:
    now = _running(state, version, entry.turn, entry.attempt, "RELEASE")
    return state._replace(open=now._replace(tries=max(now.tries - 1, 0), handed=now.handed + 1))


def _close(state: State, version: int, entry: Close) -> State:
    over = state.ended_turns
    held = {parked.turn for parked in state.parked}
    for now in state.begun:
        if now.held:
            held.update((now.turn, *(note.turn for note in now.joined)))
    for turn in entry.ended:
        over = _remember(over, EndedTurn(turn, "cancelled", version, "", held=turn in held), REMEMBERED_HELD)
    return State(
        version=version,
        last_ms=state.last_ms,
        ended_turns=over,
        ops=tuple(SeenOp(op=seen.op, turn=seen.turn, version=seen.version) for seen in state.ops),  # no users
        ahead=tuple(item for item in state.ahead if item.turn not in entry.ended),
        closed=Closed(version=version, reason=entry.reason, at_ms=entry.at_ms),
        wiped=False,
    )


_FOLDS: dict[type, Callable[[State, int, Any], State]] = {
    Open: _open,
    Claim: _claim,
    Step: _step,
    Intent: _intent,
    Suspend: _suspend,
    ControlNote: _control,
    Park: _park,
    Settle: _settle,
    Finish: _finish,
    Release: _release,
    Close: _close,
}
