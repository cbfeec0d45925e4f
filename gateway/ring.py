"""The recent frames of recent turns, bounded by turns and bytes. Knows nothing of who reads, nor of the journal."""

from __future__ import annotations

from collections import OrderedDict

from gateway.event import Event, SessionKey, TurnKey
from gateway.turn_log import TurnLog


class Ring:
    """Logs by turn, the least recently touched first to go. One turn may take a sixteenth of all bytes."""

    def __init__(self, *, max_turns: int, max_bytes: int) -> None:
        self._max_turns = max_turns
        self._max_bytes = max_bytes
        self._turn_bytes = max(max_bytes // 16, 1)
        self._logs: OrderedDict[TurnKey, TurnLog] = OrderedDict()
        self._sessions: dict[SessionKey, dict[str, TurnLog]] = {}
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._logs)

    def get(self, key: TurnKey) -> TurnLog | None:
        return self._logs.get(key)

    def of_session(self, key: SessionKey) -> list[TurnLog]:
        """The session's turns that are here, oldest first."""
        return list(self._sessions.get(key, {}).values())

    def begin(self, key: TurnKey, user: str) -> TurnLog:
        """The log of a turn that `user` publishes through this gateway now."""
        log = self._log(key)
        log.user = user
        self._bound()
        return log

    def add(self, event: Event) -> bool:
        """Keep a frame. False: repeated, of an older attempt, or after the end."""
        log = self._log(event.key)
        before = log.size
        fresh = log.add(event)
        if fresh and log.size > self._turn_bytes:
            log.shrink(self._turn_bytes * 3 // 4)
        self.bytes += log.size - before
        self._bound()
        return fresh

    def drop_session(self, key: SessionKey) -> None:
        """Forget a session's turns: it was deleted, or belongs to somebody else now."""
        for log in self.of_session(key):
            self._drop(log.key)

    def _log(self, key: TurnKey) -> TurnLog:
        log = self._logs.get(key)
        if log is None:
            log = self._logs[key] = TurnLog(key)
            self._sessions.setdefault(key[:2], {})[key[2]] = log
            self.bytes += log.size
        else:
            self._logs.move_to_end(key)
        return log

    def _bound(self) -> None:
        while len(self._logs) > self._max_turns or (self.bytes > self._max_bytes and len(self._logs) > 1):
            self._drop(next(iter(self._logs)))

    def _drop(self, key: TurnKey) -> None:
        log = self._logs.pop(key)
        self.bytes -= log.size
        turns = self._sessions[key[:2]]
        del turns[key[2]]
        if not turns:
            del self._sessions[key[:2]]
