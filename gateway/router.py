"""Who follows what: takes frames from the replies, hands each to whoever is attached. Knows nothing of transports."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from gateway.event import Event, SessionKey, TurnKey
from gateway.metrics import Metrics
from gateway.reader import Reader
from gateway.ring import Ring

_Key = TypeVar("_Key")
OnAck = Callable[[Event], None]
OnRefused = Callable[[Event], bool]


class Router:
    """Delivers by (tenant, session, turn). All calls on one loop, none waits."""

    def __init__(self, ring: Ring, metrics: Metrics) -> None:
        self.ring = ring
        self._metrics = metrics
        self._turns: dict[TurnKey, list[Reader]] = {}
        self._sessions: dict[SessionKey, list[Reader]] = {}
        self._acks: dict[str, OnAck] = {}
        self._refusals: dict[TurnKey, list[tuple[Reader, OnRefused]]] = {}
        self.on_foreign_end: Callable[[Event, str], None] | None = None

    def deliver(self, event: Event) -> None:
        """A frame from the replies."""
        if event.type == "ack":
            self._acknowledge(event)
        elif event.type == "refused":
            self._refuse(event)
        else:
            self.spread(event)

    def spread(self, event: Event) -> None:
        """Keep a frame of a turn and hand it to whoever follows the turn or its session, unless it is old."""
        if not self.ring.add(event):
            self._metrics.skipped.labels("repeated").inc()
            if event.terminal:
                self._tell_again(event)
            return
        key = event.key
        followers = self._turns.get(key, ())
        for reader in followers:
            reader.offer(event)
        watchers = self._sessions.get(key[:2], ())
        for reader in watchers:
            if reader not in followers:
                reader.offer(event)
        if event.terminal:
            self._end(event, watchers[0].user if watchers else None)

    def _tell_again(self, event: Event) -> None:
        """The end of a turn was published again for whoever sent the turn again; the others have it."""
        for reader in list(self._turns.get(event.key, ())):
            reader.offer(event)
        self._forget(event)

    def _forget(self, event: Event) -> None:
        for reader in self._turns.pop(event.key, ()):
            reader.follows.discard((event.session, event.turn))
        self._refusals.pop(event.key, None)

    def _end(self, event: Event, watcher: str | None) -> None:
        self._forget(event)
        log = self.ring.get(event.key)
        if log is not None and log.began_s is not None:
            self._metrics.turn_seconds.observe(time.monotonic() - log.began_s)
        if watcher is not None and self.on_foreign_end is not None and (log is None or log.user is None):
            self.on_foreign_end(event, watcher)

    def follow(self, reader: Reader, session: str, turn: str | None) -> None:
        """From now on `reader` gets the frames of this turn, or of all turns of this session."""
        reader.follows.add((session, turn))
        if turn is None:
            _enter(self._sessions, (reader.tenant, session), reader)
        else:
            _enter(self._turns, (reader.tenant, session, turn), reader)

    def leave(self, reader: Reader, session: str, turn: str | None = None) -> None:
        """No longer."""
        reader.follows.discard((session, turn))
        if turn is None:
            _leave(self._sessions, (reader.tenant, session), reader)
        else:
            key = (reader.tenant, session, turn)
            _leave(self._turns, key, reader)
            for expected in [item for item in self._refusals.get(key, ()) if item[0] is reader]:
                _leave(self._refusals, key, expected)

    def leave_all(self, reader: Reader) -> None:
        """The connection ended."""
        for session, turn in list(reader.follows):
            self.leave(reader, session, turn)

    def evict(self, key: SessionKey, user: str | None) -> None:
        """The session belongs to `user` now (None: to nobody): whoever else follows it, stops. Rare: a scan will do."""
        followed = [readers for turn, readers in self._turns.items() if turn[:2] == key]
        for reader in {*self._sessions.get(key, ()), *(reader for readers in followed for reader in readers)}:
            if reader.user != user:
                for session, turn in [scope for scope in reader.follows if scope[0] == key[1]]:
                    self.leave(reader, session, turn)
        self.ring.drop_session(key)

    def expect_ack(self, op: str, on_ack: OnAck) -> None:
        """Call `on_ack` with the ack of this op."""
        self._acks[op] = on_ack

    def forget_ack(self, op: str) -> None:
        self._acks.pop(op, None)

    def expect_refusal(self, reader: Reader, key: TurnKey, on_refused: OnRefused) -> None:
        """Call `on_refused` with each `refused` of this turn, until `reader` leaves it.

        It says whether that answered its own record; then it is not asked again.
        """
        self._refusals.setdefault(key, []).append((reader, on_refused))

    def _acknowledge(self, event: Event) -> None:
        on_ack = self._acks.pop(event.op, None)
        if on_ack is not None:
            on_ack(event)

    def _refuse(self, event: Event) -> None:
        for expected in list(self._refusals.get(event.key, ())):
            if expected[1](event):
                _leave(self._refusals, event.key, expected)


_Value = TypeVar("_Value")


def _enter(table: dict[_Key, list[_Value]], key: _Key, value: _Value) -> None:
    values = table.setdefault(key, [])
    if value not in values:
        values.append(value)


def _leave(table: dict[_Key, list[_Value]], key: _Key, value: _Value) -> None:
    values = table.get(key)
    if values is not None and value in values:
        values.remove(value)
        if not values:
            del table[key]
