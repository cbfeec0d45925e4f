"""How far one connection has got in each turn: nothing twice, nothing out of order. Knows nothing of transports."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from gateway.event import ORIGIN, Event, Position
from gateway.turn_log import is_first, skips

_REMEMBERED_TURNS = 512
_ACCEPTED: Position = (0, 0)
Scope = tuple[str, str | None]


class Reader:
    """One connection's positions. `sink` takes each frame that is new to it, in order, and returns at once.

    While a scope (a session, or one turn of it) is held, its frames wait: its `accepted` or `recovered` comes first.
    Of a turn whose beginning it has not seen, deltas would leave a hole: none is passed on before the text is said.
    """

    def __init__(self, tenant: str, user: str, sink: Callable[[Event], None]) -> None:
        self.tenant = tenant
        self.user = user
        self.follows: set[Scope] = set()
        self._sink = sink
        self._seen: dict[tuple[str, str], Position] = {}
        self._held: dict[Scope, list[Event]] = {}
        self._blind: set[tuple[str, str]] = set()

    def hold(self, session: str, turn: str | None) -> None:
        """From now on frames of this scope wait for `release`."""
        self._held.setdefault((session, turn), [])

    def holds(self, session: str, turn: str | None) -> bool:
        """Whether frames wait in this scope."""
        return bool(self._held.get((session, turn)))

    def start_at(self, session: str, turn: str, position: Position, *, blind: bool = False) -> None:
        """The connection has this turn up to `position`; `blind`: but nobody here knows the text so far."""
        self._seen.pop((session, turn), None)
        self._remember((session, turn), position)
        if blind:
            self._blind.add((session, turn))
        else:
            self._blind.discard((session, turn))

    def position(self, session: str, turn: str) -> Position | None:
        """How far it has got in this turn; None: it has nothing of it."""
        return self._seen.get((session, turn))

    def is_blind(self, session: str, turn: str) -> bool:
        """Whether deltas of this turn are withheld."""
        return (session, turn) in self._blind

    def release(self, session: str, turn: str | None, replay: Iterable[Event] = ()) -> None:
        """Pass on `replay`, then what waited, and hold no longer."""
        waiting = self._held.pop((session, turn), [])
        for event in replay:
            self._pass(event)
        for event in waiting:
            self.offer(event)

    def drop(self, session: str, turn: str | None) -> None:
        """Hold no longer, and forget what waited."""
        self._held.pop((session, turn), None)

    def offer(self, event: Event) -> None:
        """A frame of a turn that this connection follows."""
        if self._held:
            waiting = self._held.get((event.session, event.turn))
            if waiting is None:
                waiting = self._held.get((event.session, None))
            if waiting is not None:
                waiting.append(event)
                return
        self._pass(event)

    def answer(self, event: Event) -> None:
        """A frame that answers this connection's own record: no place in the order of the turn."""
        self._sink(event)

    def _pass(self, event: Event) -> None:
        key = (event.session, event.turn)
        seen = self._seen.get(key, ORIGIN)
        if event.position <= seen:
            return
        if _follows_on_nothing(seen, event):
            self._blind.add(key)
        if self._blind and key in self._blind:
            if event.is_delta:
                return
            if event.type == "reset" or event.terminal:
                self._blind.discard(key)
        self._remember(key, event.position)
        self._sink(event)

    def _remember(self, key: tuple[str, str], position: Position) -> None:
        if key in self._seen:
            self._seen[key] = position
            return
        if len(self._seen) >= _REMEMBERED_TURNS:
            oldest = next(iter(self._seen))
            del self._seen[oldest]
            self._blind.discard(oldest)
        self._seen[key] = position


def _follows_on_nothing(seen: Position, event: Event) -> bool:
    """Whether frames came before this one that nobody here has."""
    if seen[1] < 0 < seen[0]:  # it has what was said before that attempt's first frame
        return event.position != (seen[0], 0)
    return skips(seen, event) or (seen <= _ACCEPTED and event.position > _ACCEPTED and not is_first(event))
