"""What the journal says of a session and its turns. Reads only; knows nothing of who asks, nor of connections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gateway.event import Event, parse_event
from journal.folding import fold_rows
from journal.loader import load
from journal.port import Store, StoreUnavailable
from journal.state import EMPTY, OpenTurn, State
from journal.turns import TurnView, living_since, turn_view
from schemas.codes import Code
from schemas.entries import Step
from schemas.errors import Refusal
from schemas.ids import session_key

_SHORT_ROWS = 8


@dataclass(frozen=True, slots=True)
class TurnFacts:
    """A turn as the journal has it. `state`: as contract.md names them; `step` and `text`: the last durable ones.

    `terminal`: its verbatim last frame, once it is over; `asked`: the verbatim `approval_requested`, while a decision
    is awaited.
    """

    turn: str
    state: str = "unseen"
    attempt: int = 0
    step: int = -1
    text: str = ""
    terminal: Event | None = None
    asked: Event | None = None


class Lookup:
    """Reads of the store; each raises Refusal (`unavailable`) when it does not answer."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def state(self, tenant: str, session: str, *, perhaps_new: bool = False) -> State:
        """The session as it is now. `perhaps_new`: of a new or short one by one read instead of two, one after the
        other; of any other by three."""
        s = session_key(tenant, session)
        try:
            if perhaps_new:
                rows = await self._store.journal.read(s, 0, _SHORT_ROWS)
                if len(rows) < _SHORT_ROWS:
                    return fold_rows(EMPTY, rows)
            return (await load(self._store, s)).state
        except StoreUnavailable as error:
            raise unreachable() from error

    async def view(self, tenant: str, session: str, state: State, turn: str) -> TurnView | None:
        """Everything about one turn of a session whose state was just read; None: not in the journal (yet)."""
        try:
            s = session_key(tenant, session)
            return await turn_view(self._store.journal, s, turn, since=living_since(state))
        except StoreUnavailable as error:
            raise unreachable() from error

    async def facts(self, tenant: str, session: str, state: State, turn: str) -> TurnFacts:
        """Where one turn of that session stands."""
        if state.opened is None:
            return TurnFacts(turn)
        now = state.unended(turn)
        if now is not None:
            return _open_facts(now)
        return facts_of(turn, await self.view(tenant, session, state, turn))

    async def ended_after(self, tenant: str, session: str, state: State, version: int) -> list[Event]:
        """The terminal frames of the turns that ended above `version` in this life, oldest first."""
        ended = [item for item in state.over if item.version > max(version, state.base)]
        facts = [await self.facts(tenant, session, state, item.turn) for item in ended]
        return [fact.terminal for fact in facts if fact.terminal is not None]


def facts_of(turn: str, view: TurnView | None) -> TurnFacts:
    """What a view says of where the turn stands."""
    if view is None:
        return TurnFacts(turn)
    step, said = _durable(view.steps)
    terminal = parse_event(view.frame) if view.frame is not None else None
    text = terminal.text if terminal is not None else said
    return TurnFacts(turn, view.state, view.attempt, step, text, terminal)


def unreachable() -> Refusal:
    """The store does not answer."""
    return Refusal(Code.UNAVAILABLE, "the database does not answer now: try again")


def _open_facts(now: OpenTurn) -> TurnFacts:
    awaits = now.awaits
    step, text = _durable(now.steps)
    return TurnFacts(
        turn=now.turn,
        state="running" if awaits is None else "suspended",
        attempt=now.attempt,
        step=step,
        text=text if awaits is None or awaits.run else text + awaits.text,
        asked=parse_event(awaits.frames[0]) if awaits is not None and awaits.frames else None,
    )


def _durable(steps: Sequence[Step]) -> tuple[int, str]:
    """The last durable step and the answer up to there; what is done and said in a branch counts for neither."""
    own = [step for step in steps if not step.run]
    return (own[-1].step if own else -1), "".join(step.text for step in own)
