"""Whose each session is, from the journal alone, and that nobody else gets in or hears of it (P16). Knows no worker.

A life of a session lasts from its OPEN to its CLOSE and is of the user who opened it. Whoever is not that user must be
answered as if there were no session: judged at the moment of each entry, dead letter, ack and frame. A session without
a life still knows ids: it may tell whoever asks that one was used, and how that ended, but nothing that was said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from journal.port import Row
from schemas.dead_letter import FAULTS
from schemas.entries import Claim, Close, ControlNote, Entry, Finish, Open, Park, Settle
from tests.simulation.strangers import EARS, STOLEN, STRANGER

EPOCH = 1_000_000
"""Offsets of a topic that was made anew begin at a multiple of it."""
MISSING = {
    "cancel": {"held"},
    "steer": {"unknown"},
    "delete": {"unknown"},
    "watch": {"unknown"},
    "approve": {"refused", "unknown"},
    "release": {"unknown"},
}
"""What an op on a session that there is not is answered with."""


class Told(NamedTuple):
    """A record of a turn: where it lies, when it came, whose it is and what it says."""

    place: tuple[str, int, int]
    event: int
    user: str
    text: str


@dataclass(slots=True)
class Life:
    """Of a session: whose, and between which events."""

    user: str
    since: int
    until: int | None = None


class Lives:
    """`event()`: the number of the present event; `fail`: told of a promise that broke. `records`: of each turn, in
    order; `refused`: codes of the dead letters by place; `began`: the offset by which the journal knows a turn;
    `kept_out`: how many answers to strangers were judged; `ever`: turns of which the broker ever took a record."""

    def __init__(self, event: Callable[[], int], fail: Callable[[str], None]) -> None:
        self._event = event
        self._fail = fail
        self._lives: dict[str, list[Life]] = {}
        self._ops: dict[tuple[str, str, bool], tuple[set[str], Life | None]] = {}
        self._users: dict[tuple[str, str], str] = {}
        self.records: dict[tuple[str, str], list[Told]] = {}
        self.refused: dict[tuple[str, int, int], str] = {}
        self.began: dict[tuple[str, str], int] = {}
        self.kept_out = 0
        self.ever: set[tuple[str, str]] = set()
        self._epoch = 0

    # ---- what happens

    def sent(self, session: str, body: dict[str, Any], place: tuple[str, int, int]) -> None:
        """The broker took a record of a turn or an op."""
        if "op" in body:
            op = (body["op"], session, body["user"] == STRANGER and body["kind"] != "release")
            kinds, _ = self._ops.setdefault(op, (set(), self._now(session)))
            kinds.add(body["kind"])
        else:
            told = Told(place, self._event(), body["user"], body["text"])
            self.records.setdefault((session, body["turn"]), []).append(told)
            self.ever.add((session, body["turn"]))

    def written(self, session: str, row: Row, entry: Entry) -> None:
        """The store took an entry."""
        for part in (entry, getattr(entry, "claim", None), getattr(entry, "opens", None)):
            if isinstance(part, Open):
                self._lives.setdefault(session, []).append(Life(part.user, self._event()))
            self._introduced(session, part)
        life = self._now(session)
        if life is not None:
            self._alone(session, row, entry, life)
        if isinstance(entry, Close) and life is not None:
            life.until = self._event()

    def letter(self, session: str, place: tuple[str, int, int], code: str, turn: str, user: str) -> None:
        """A record was refused, or a turn that ran failed."""
        if code in FAULTS:
            return
        self.refused[place] = code
        told = next((told for told in self.records.get((session, turn), ()) if told.place == place), None)
        if code != "not_found" or told is None:
            return
        self.kept_out += 1
        if not self._others(session, user, told.event):
            self._fail(f"{session}/{turn} of {user} was refused, and the session was nobody else's")

    def acked(self, ack: dict[str, Any], session: str, *, stranger: bool) -> None:
        """An op was answered."""
        kinds, life = self._ops[ack["op"], session, stranger]
        user = STRANGER if stranger else session
        if life is not None and life.until is None and life.user != user:
            self.kept_out += 1
            if not any(ack["state"] in MISSING[kind] for kind in kinds):
                self._fail(f"{session}: {ack['op']} of {user} is answered {ack['state']}: it is {life.user}'s session")

    def frame(self, session: str, frame: dict[str, Any], reply_to: str | None) -> None:
        """A frame of a turn, or a `refused`, was published."""
        if reply_to != EARS:
            return
        turn, kind = frame["turn"], frame["type"]
        user = self._users.get((session, turn))
        if kind == "refused":
            if frame["code"] not in {"not_found", "conflict"}:
                self._fail(f"{session}/{turn}: the stranger is refused as {frame['code']}")
        elif user != STRANGER and (frame.get("text") or kind not in {"cancelled", "failed"} or self._kept(session)):
            self._fail(f"{session}/{turn}: {kind} of {user} is shown to a stranger")

    # ---- what is asked at the end

    def accepted(self, session: str, turn: str) -> Told | None:
        """The record that a turn is run for; None: all were refused."""
        began = self.began.get((session, turn))
        for told in self.records.get((session, turn), ()):
            if told.place not in self.refused or told.place[2] % EPOCH == began:
                return told
        return None

    def forget_unbegun(self) -> None:
        """The records are gone; whoever sent them sends them again."""
        self._epoch += 1
        for turn in [turn for turn in self.records if turn not in self.began]:
            del self.records[turn]

    def shared(self, session: str) -> bool:
        """Whether it was ever anybody else's than its first user's."""
        return any(life.user != session for life in self._lives.get(session, ()))

    def borrowed(self, session: str, op: str) -> bool:
        """Whether it may be the op of a stranger whose session it was: what a session that is closed knows of an id
        may be of that one."""
        return (op, session, True) in self._ops and self.shared(session)

    def conflicts(self, forgotten: Callable[[str, str], bool]) -> Iterator[str]:
        """P5: other content under a known id is refused, and nothing else is. `forgotten`: of turns whose content the
        session does not remember, any copy counts as one."""
        for (session, turn), records in self.records.items():
            taken = self.accepted(session, turn)
            for told in records:
                code = self.refused.get(told.place)
                same = taken is not None and (told.user, told.text) == (taken.user, taken.text)
                if code not in {None, "conflict", "not_found"}:
                    yield f"{session}/{turn} of {told.user} at {told.place[2]} was refused: {code}"
                before = any(other.event < told.event and other.user != told.user for other in records)
                if code == "conflict" and same and not before and not forgotten(session, turn):  # or another's waited
                    yield f"{session}/{turn}: a copy at {told.place[2]} was refused as other content"
                gone = told.place[2] // EPOCH < self._epoch  # nobody has to have read it
                if code is None and not same and not gone and not forgotten(session, turn):
                    yield f"{session}/{turn}: {told.text!r} of {told.user} at {told.place[2]} was not refused"

    # ---- inside

    def _introduced(self, session: str, part: object) -> None:
        """Whose turn it is that is known now, and by which record."""
        if isinstance(part, Claim | Settle | Park) or (isinstance(part, ControlNote) and part.input is not None):
            offset = part.offset if isinstance(part, Settle) else part.position.offset if part.position else -1
            self._users.setdefault((session, part.turn), part.user)
            self.began.setdefault((session, part.turn), offset)

    def _alone(self, session: str, row: Row, entry: Entry, life: Life) -> None:
        """Nothing of anybody else stands in a life, by name or by content."""
        claim = entry.claim if isinstance(entry, Finish) else entry
        if isinstance(claim, Claim | ControlNote | Settle | Park) and claim.user != life.user:
            self._fail(f"{session} v{row.v}: {row.kind} of {claim.user} in a session of {life.user}")
        if life.user != STRANGER and any(STOLEN in said for said in (row.body or "", *row.frames)):
            self._fail(f"{session} v{row.v}: {row.kind} says what a stranger said")

    def _kept(self, session: str) -> bool:
        """Whether it is the session of somebody who is no stranger."""
        life = self._now(session)
        return life is not None and life.user != STRANGER

    def _now(self, session: str) -> Life | None:
        lives = self._lives.get(session)
        return lives[-1] if lives and lives[-1].until is None else None

    def _others(self, session: str, user: str, since: int) -> bool:
        """Whether it was somebody else's at any moment from then on."""
        lives = (life for life in self._lives.get(session, ()) if life.until is None or life.until >= since)
        return any(life.user != user for life in lives)
