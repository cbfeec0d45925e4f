"""The journal went on without us: what that leaves of what is held here. No I/O."""

from __future__ import annotations

from journal.state import State
from workers.effects import Abandon, Effect
from workers.lifecycle import Lifecycle
from workers.line import Line


class Elsewhere(Lifecycle):
    """Decisions after a collision, or after a look that found more."""

    __slots__ = ()

    def _known_elsewhere(self, state: State, out: list[Effect], now_ms: int) -> None:
        """Somebody else claimed or ended turns that wait here: they wait no more. What would have ended an open one
        unrun is void, but for a cancel: that goes on as one of an open turn."""
        begun = {turn.turn for turn in state.begun}
        over = {mail.id for mail in self.mail if mail.id in state.ended_turns or self._joined(mail.id, state)}
        over.update(parked.turn for parked in state.parked)
        self.mail = Line(mail for mail in self.mail if mail.id not in begun and mail.id not in over)
        self._joins.clear()
        settles, self._settles = self._settles, Line()
        for item in settles:
            turn, op = item[0].id, item[3]
            if turn in begun:
                self._ops.extendleft((op,) if op is not None else ())
            elif turn not in state.ended_turns and self._joined(turn, state) is None:
                self._settles.append(item)
            elif op is not None:
                self._answer(op, "too_late", turn, out, now_ms)

    def _overtaken(self, state: State, out: list[Effect], now_ms: int) -> None:
        """The journal went on without us: what runs here runs on only if it is still the open attempt."""
        before = self.state.open if self.state is not None else None
        self.state = state
        self._swept = False
        now = state.open
        same = now is not None and before is not None and (now.turn, now.attempt) == (before.turn, before.attempt)
        if self.running is not None and not (same and now is not None and now.turn == self.running):
            out.append(Abandon())
            self.running, self._result, self._stopping = None, None, None
            self._steps.clear()
            self._give_slot_back(out)
        if not same:
            self._stopping = None
        if self.running is None:
            self._ops.extendleft(reversed(self._cancels))
            self._cancels.clear()
        self._known_elsewhere(state, out, now_ms)
        waiting = {mail.id for mail in self.mail} | {item[0].id for item in self._settles}
        gone = [turn for turn in self._held if turn not in waiting and turn not in self._publishing]
        places = {turn: place for place, turn in enumerate(state.ended_turns)}
        gone += [
            turn for _, left, _ in self._chains for turn in left if turn not in self._publishing and turn not in gone
        ]
        for turn in sorted(dict.fromkeys(gone), key=lambda turn: places.get(turn, -1)):
            known = self._joined(turn, state) is not None or state.parked_turn(turn) is not None
            if state.unended(turn) is None and not known:
                self._republish(turn, out)
