"""What broker and store took, in order: the only thing that the checks look at. Knows no worker.

It hears every row that is applied, every record that is appended and every offset that is committed; it hashes all of
it, so that two runs of one seed can be compared byte for byte.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from broker.memory import MemoryCluster
from broker.memory_group import GroupMember, MemoryGroup
from broker.port import Outgoing, Position
from journal.memory import MemoryJournal
from journal.port import Row, Verdict
from schemas.entries import Entry, entry_of
from tests.simulation.lives import EPOCH, Lives
from tests.simulation.strangers import EARS, named

TURNS, CONTROL, REPLIES, DEAD = "agent.turns", "agent.control", "agent.replies", "agent.dead-letters"
TERMINAL = frozenset({"completed", "failed", "cancelled"})


class Written(NamedTuple):
    """A row that was applied, and what it says."""

    row: Row
    entry: Entry


class Ledger:
    """`rows`: by session; `terminals`: distinct frames by (session, turn), in order of their first appearance; `shown`:
    turns whose first terminal frame lies on a reply partition, by (session, partition), in that order; `over`: turns
    whose end the journal took; `acks`: by op, a stranger's apart in `denied`; `lives`: whose the sessions are, and what
    was refused; `calls`: the keys under which a tool was called, by (turn, tool)."""

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._hash = hashlib.blake2b(digest_size=16)
        self.events = 0
        self.trace: deque[tuple[float, str]] = deque(maxlen=20_000)
        self.rows: dict[str, list[Written]] = {}
        self.over: dict[tuple[str, str], str] = {}
        self.terminals: dict[tuple[str, str], list[bytes]] = {}
        self.shown: dict[tuple[str, int], list[str]] = {}
        self.acks: dict[str, list[dict[str, Any]]] = {}
        self.denied: dict[str, list[dict[str, Any]]] = {}
        self._anew: dict[str, int] = {}
        self.lives = Lives(lambda: self.events, self.fail)
        self.runs: dict[str, int] = {}
        self.calls: dict[tuple[str, str], list[str]] = {}
        self.work: dict[str, int] = {}
        self.seen: dict[str, str] = {}
        self.broken: list[str] = []

    def note(self, what: str) -> None:
        """One line of the trace."""
        line = f"{self._clock_s():10.4f} {what}"
        self._hash.update(line.encode())
        self.events += 1
        self.trace.append((self._clock_s(), what))

    def called(self, turn: str, tool: str, key: str) -> None:
        """A tool is at work, out there: whatever becomes of the process that called it."""
        self.note(f"{tool} of {turn} is called {key}".rstrip())
        self.calls.setdefault((turn, tool), []).append(key)

    def fail(self, promise: str) -> None:
        """A promise is broken."""
        self.note(f"BROKEN {promise}")
        self.broken.append(promise)

    @property
    def digest(self) -> str:
        """Over every event so far."""
        return self._hash.hexdigest()

    def applied(self, row: Row) -> None:
        """The store took a row."""
        session = named(*row.s.split("/", 1))
        entry = entry_of(row.kind, row.body or "{}", row.frames)
        self.note(f"journal {session} v{row.v} {row.kind} {_says(entry)} by {row.nonce}")
        self.rows.setdefault(session, []).append(Written(row, entry))
        self.lives.written(session, row, entry)
        ended = getattr(entry, "ended", None) or (
            [getattr(entry, "turn", "")] if row.kind in {"finish", "settle"} else []
        )
        for turn, frame in zip([*ended, *getattr(entry, "joined", ())], row.frames, strict=False):
            if (session, turn) in self.over:
                self.fail(f"{session}/{turn} has two ends in the journal")
            self.over[session, turn] = frame

    def appended(self, topic: str, position: Position, outgoing: Outgoing) -> None:
        """The broker took a record."""
        place = f"{topic}/{position.partition}@{position.offset}"
        if topic == REPLIES:
            reply_to = dict(outgoing.headers).get("reply_to")
            self._reply(outgoing.value or b"", place, position.partition, reply_to.decode() if reply_to else None)
        elif topic == DEAD:
            self._dead(dict(outgoing.headers), (outgoing.key or b"").decode(), orjson.loads(outgoing.value or b"{}"))
        elif topic in {TURNS, CONTROL}:
            body = orjson.loads(outgoing.value or b"{}")
            session = named(body.get("tenant", "default"), (outgoing.key or b"").decode())
            said = f"{body.get('turn') or ''} {body.get('kind', '')}"
            self.note(f"sent {session} {said} of {body['user']} at {place}")
            self.lives.sent(session, body, (topic, position.partition, self.placed(topic, position.offset)))

    def _reply(self, raw: bytes, place: str, partition: int, reply_to: str | None) -> None:
        frame = orjson.loads(raw)
        session, kind = named(frame.get("tenant", "default"), frame["session"]), frame["type"]
        if kind == "ack":
            self._acked(frame, session, place, stranger=reply_to == EARS)
            return
        turn = frame["turn"]
        self.note(f"frame {session} {turn} {kind} a{frame['attempt']} q{frame['seq']} at {place} {len(raw)}")
        self.lives.frame(session, frame, reply_to)
        if kind not in TERMINAL:
            return
        seen = self.terminals.setdefault((session, turn), [])
        if raw not in seen:
            seen.append(raw)
            if len(seen) == 1:  # who asks again later gets it again, wherever they ask
                self.shown.setdefault((session, partition), []).append(turn)

    def _acked(self, ack: dict[str, Any], session: str, place: str, *, stranger: bool) -> None:
        self.note(f"ack {session} {ack['op']} {ack['state']} at {place}{' to a stranger' if stranger else ''}")
        (self.denied if stranger else self.acks).setdefault(ack["op"], []).append(ack)
        self.lives.acked(ack, session, stranger=stranger)

    def _dead(self, head: Mapping[str, bytes], key: str, body: dict[str, Any]) -> None:
        topic, code = head.get("dl_topic", b"").decode(), head.get("dl_code", b"").decode()
        session = named(body.get("tenant", "default"), key)
        self.note(f"dead letter {session} {body.get('turn', '')} of {body.get('user')} {code}")
        if topic:
            place = (topic, int(head["dl_partition"]), self.placed(topic, int(head["dl_offset"])))
            self.lives.letter(session, place, code, body.get("turn", ""), body["user"])

    def placed(self, topic: str, offset: int) -> int:
        """An offset, told apart from those of the topics of that name that were there before."""
        return self._anew.get(topic, 0) * EPOCH + offset

    @property
    def renewed(self) -> bool:
        """Whether a topic was ever made anew."""
        return bool(self._anew)

    def made_anew(self, topic: str) -> None:
        """The topic was deleted and created again: what nobody had begun is gone with it."""
        self.note(f"{topic} is made anew")
        self._anew[topic] = self._anew.get(topic, 0) + 1
        if topic == TURNS:
            self.lives.forget_unbegun()

    def ran(self, turn: str) -> None:
        """An attempt of a turn began to run."""
        self.runs[turn] = self.runs.get(turn, 0) + 1
        self.note(f"runs {turn}")

    def saw(self, turn: str, what: str) -> None:
        """What an attempt began with: the first one's is that of all."""
        first = self.seen.setdefault(turn, what)
        if first != what:
            self.fail(f"{turn}: an attempt saw {what}, the first one saw {first}")

    def worked(self, turn: str) -> None:
        """A step of this turn is done, whatever becomes of it."""
        self.work[turn] = self.work.get(turn, 0) + 1


class WatchedCluster(MemoryCluster):
    """The twin, and a ledger that hears of every record."""

    ledger: Ledger

    def append(self, topic: str, partition: int, outgoing: Outgoing) -> Position:
        position = super().append(topic, partition, outgoing)
        self.ledger.appended(topic, position, outgoing)
        return position


class WatchedJournal(MemoryJournal):
    """The twin, and a ledger that hears of every row that it takes."""

    ledger: Ledger

    def apply(self, rows: Sequence[Row]) -> list[Verdict]:
        verdicts = super().apply(rows)
        for row, verdict in zip(rows, verdicts, strict=True):
            if verdict is Verdict.APPLIED:
                self.ledger.applied(row)
            else:
                self.ledger.note(
                    f"journal {named(*row.s.split('/', 1))} v{row.v} {row.kind} {verdict.value} by {row.nonce}"
                )
        return verdicts


class WatchedGroup(MemoryGroup):
    """The twin; `check` is asked of every record that a commit passes for the first time."""

    ledger: Ledger
    check: Callable[[str, int, int], str | None]

    def __init__(self, cluster: MemoryCluster, topics: Sequence[str]) -> None:
        super().__init__(cluster, topics)
        self._checked: dict[tuple[str, int], int] = {}

    def forget(self, topic: str) -> None:
        """The topic was deleted, and its commits with it."""
        for place in [place for place in self._checked if place[0] == topic]:
            del self._checked[place]
        for place in [place for place in self.committed if place[0] == topic]:
            del self.committed[place]

    def commit(self, member: GroupMember, generation: int, offsets: Mapping[tuple[str, int], int]) -> bool:
        taken = super().commit(member, generation, offsets)
        if taken and offsets:
            self.ledger.note(f"commit {sorted(offsets.items())}")
            for (topic, partition), offset in offsets.items():
                for passed in range(self._checked.get((topic, partition), 0), offset):
                    if (why := self.check(topic, partition, passed)) is not None:
                        self.ledger.fail(f"{topic}/{partition} is committed to {offset}, but {passed} {why}")
                self._checked[topic, partition] = max(offset, self._checked.get((topic, partition), 0))
        return taken


def _says(entry: Entry) -> str:
    parts = [
        str(getattr(entry, name)) for name in ("turn", "attempt", "tries", "step", "outcome") if hasattr(entry, name)
    ]
    claim = getattr(entry, "claim", None)
    return " ".join(parts) + (f" and claims {claim.turn}" if claim is not None else "")
