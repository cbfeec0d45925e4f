"""Turns that this gateway sent and nobody has begun: what it sees of the queue's age. Knows no transport and no policy.

Only the first waiting turn of a session counts, from the moment at which nothing of its session was before it any more:
one that waits behind a long turn of its own session says nothing about the fleet. And one that was overtaken says
nothing either: a turn that came later, to a session with nothing else to do, has begun, so the queue is not the cause
(its session may be at work for another gateway).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from gateway.event import Event, SessionKey, TurnKey

_MAX_TURNS = 50_000


class _Sent:
    """A turn that is not over. `since_s`: when it became the first of its session; `fresh`: it was so at once."""

    __slots__ = ("begun", "fresh", "key", "partition", "since_s", "until_s")

    def __init__(self, key: TurnKey, partition: int, since_s: float, until_s: float, fresh: bool) -> None:
        self.key = key
        self.partition = partition
        self.since_s = since_s
        self.until_s = until_s
        self.fresh = fresh
        self.begun = False


class Waiting:
    """Ages by partition of `agent.turns`. Bounded: a turn is forgotten at its end, after its deadline, or as the oldest
    of too many. `clock_s`: a monotonic clock in seconds. Every call is O(1), amortised.
    """

    def __init__(self, *, clock_s: Callable[[], float], max_turns: int = _MAX_TURNS) -> None:
        self._clock_s = clock_s
        self._max_turns = max_turns
        self._turns: OrderedDict[TurnKey, _Sent] = OrderedDict()
        self._sessions: dict[SessionKey, OrderedDict[str, _Sent]] = {}
        self._heads: dict[int, OrderedDict[SessionKey, _Sent]] = {}

    def __len__(self) -> int:
        return len(self._turns)

    def __contains__(self, key: TurnKey) -> bool:
        return key in self._turns

    def entered(self, key: TurnKey, partition: int, lives_s: float) -> bool:
        """The turn goes to the broker now and has `lives_s` to its deadline. False: it was here already."""
        if key in self._turns:
            return False
        now_s = self._clock_s()
        self._trim(now_s)
        of_session = self._sessions.setdefault(key[:2], OrderedDict())
        sent = _Sent(key, partition, now_s, now_s + lives_s, fresh=not of_session)
        self._turns[key] = of_session[key[2]] = sent
        self._promote(key[:2], now_s)
        return True

    def heard(self, event: Event) -> None:
        """A frame from the replies."""
        sent = self._turns.get(event.key)
        if sent is None:
            return
        if event.attempt > 0 and not sent.begun:
            sent.begun = True
            self._behead(sent)
            if sent.fresh:
                self._overtake(sent)
        if event.terminal or event.type == "refused":
            self.left(event.key)

    def left(self, key: TurnKey) -> None:
        """The turn is over, or did not get in."""
        sent = self._turns.pop(key, None)
        if sent is None:
            return
        of_session = self._sessions[key[:2]]
        del of_session[key[2]]
        self._behead(sent)
        if of_session:
            self._promote(key[:2], self._clock_s())
        else:
            del self._sessions[key[:2]]

    def age_s(self, partition: int) -> float:
        """How long the oldest turn that counts has waited in this partition; 0: none does."""
        now_s = self._clock_s()
        heads = self._heads.get(partition)
        while heads:
            oldest = next(iter(heads.values()))
            if oldest.until_s > now_s:
                return now_s - oldest.since_s
            self.left(oldest.key)
        return 0.0

    def oldest_s(self) -> float:
        """The age of the oldest, of all partitions."""
        return max(map(self.age_s, list(self._heads)), default=0.0)

    def _promote(self, session: SessionKey, now_s: float) -> None:
        """The session's first turn counts from now on, if it waits and does not count yet."""
        first = next(iter(self._sessions[session].values()))
        heads = self._heads.setdefault(first.partition, OrderedDict())
        if not first.begun and session not in heads:
            first.since_s = now_s
            heads[session] = first

    def _behead(self, sent: _Sent) -> None:
        heads = self._heads.get(sent.partition)
        if heads is not None and heads.get(sent.key[:2]) is sent:
            del heads[sent.key[:2]]

    def _overtake(self, sent: _Sent) -> None:
        """What came before one that has begun does not wait for the fleet."""
        heads = self._heads[sent.partition]
        while heads and next(iter(heads.values())).since_s < sent.since_s:
            heads.popitem(last=False)

    def _trim(self, now_s: float) -> None:
        while self._turns:
            oldest = next(iter(self._turns.values()))
            if oldest.until_s > now_s and len(self._turns) < self._max_turns:
                return
            self.left(oldest.key)
