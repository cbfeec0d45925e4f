"""The history checker: evidence of one session in, verdict out. Pure; knows the contract, no code that it judges.

Legal, and no finding: turns that were sent again, frames that lie twice, refused records (their dead letters say so),
records on the wrong partition (moved), turns that are under way.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import orjson

from broker.partition import partition_of
from fleet.chaos.chain import Chain
from fleet.chaos.evidence import TURNS, Evidence, FrameRecord, TurnRecord, events_of
from fleet.chaos.fate import Fate
from fleet.chaos.finding import Finding, Kind, Verdict
from fleet.chaos.orders import check_orders
from fleet.chaos.stream import TERMINALS, compare
from journal.port import Row
from schemas.dead_letter import FAULTS

POISON = "poison"
_NO_TURN: Sequence[TurnRecord] = ()
_NO_FRAME: Sequence[FrameRecord] = ()


def check(evidence: Evidence, verdict: Verdict) -> None:
    """Adds what there is to say of one session."""
    _Case(evidence, verdict).judge()


class _Reporter:
    """Adds breaches of one session to the verdict. An object of its own, so that case and chain are no cycle."""

    __slots__ = ("_seen", "_verdict")

    def __init__(self, evidence: Evidence, verdict: Verdict) -> None:
        self._seen = evidence
        self._verdict = verdict

    def __call__(self, kind: Kind, turn: str | None, text: str) -> None:
        seen, full = self._seen, self._verdict.full
        events = tuple(events_of(seen, turn)) if turn is not None and not full else ()
        self._verdict.add(Finding(kind, seen.tenant, seen.session, turn, text, events))


class _Case:
    def __init__(self, evidence: Evidence, verdict: Verdict) -> None:
        self._seen = evidence
        self._verdict = verdict
        self._found = _Reporter(evidence, verdict)
        self._chain = Chain(self._found, tries=evidence.marks.tries, kept=evidence.saved is not None)
        self._fates: Mapping[str, Fate] = {}
        self._where = partition_of(evidence.session.encode(), evidence.marks.partitions)
        self._last_known = -1

    def judge(self) -> None:
        seen, verdict = self._seen, self._verdict
        self._fates = self._chain.walk(seen.rows)
        asked = self._asked()
        frames: dict[str, list[FrameRecord]] = defaultdict(list)
        for record in seen.frames:
            if record.frame["type"] not in ("refused", "ack"):
                frames[record.frame["turn"]].append(record)
        self._order()
        if seen.marks.replies_whole:
            self._frame_order()
        for turn in {**self._fates, **asked, **frames}:
            self._turn(turn, asked.get(turn, _NO_TURN), frames.get(turn, _NO_FRAME))
        if seen.saved is not None:
            last = seen.rows[-1].v if seen.rows else 0
            self._chain.life.compare(seen.saved, last, self._found, settled=seen.marks.settled)
        if seen.marks.settled:
            self._left(self._chain.life.closed)
        check_orders(seen, self._fates, self._found)
        verdict.sessions += 1
        verdict.turns += len(self._fates.keys() | asked.keys())
        verdict.records += len(seen.turns)
        verdict.commands += len(seen.commands)
        verdict.entries += len(seen.rows)
        verdict.frames += len(seen.frames)

    def _left(self, closed: int) -> None:
        """Rows below the last CLOSE that still say something; what stays on purpose are CLOSEs and cancels."""
        left = [row.v for row in self._seen.rows if row.v < closed and _says_something(row)]
        if left:
            what = f"version {left[0]} and {len(left) - 1} more" if len(left) > 1 else f"version {left[0]}"
            self._found(Kind.CONTENT_LEFT, None, f"{what} still hold content, closed at {closed}")

    def _refused(self, record: TurnRecord) -> bool:
        """The letter of a turn that failed names its record too, but that one was taken."""
        letters = self._seen.letters
        return bool(letters) and letters.get((TURNS, record.partition, record.offset), POISON) not in FAULTS

    def _asked(self) -> dict[str, list[TurnRecord]]:
        """Records that were not refused, by turn."""
        asked: dict[str, list[TurnRecord]] = defaultdict(list)
        for record in self._seen.turns:
            if self._refused(record):
                continue
            asked[record.turn].append(record)
            if record.partition == self._where and record.turn in self._fates:
                self._last_known = max(self._last_known, record.offset)
        return asked

    def _order(self) -> None:
        """Turns begin in the order of their first records. One whose first record retention has taken says nothing."""
        latest, after = 0, ""
        met: set[str] = set()
        for record in self._seen.turns:
            turn = record.turn
            if record.partition != self._where or turn in met or self._refused(record):
                continue
            met.add(turn)
            fate = self._fates.get(turn)
            if fate is None or fate.began is None or fate.joined or fate.first or fate.claimed_at < record.offset:
                continue
            if fate.began < latest:
                text = f"began by version {fate.began}, before {after} ({latest}), which was published earlier"
                self._found(Kind.REORDERED, turn, text)
            else:
                latest, after = fate.began, turn

    def _frame_order(self) -> None:
        """Terminal frames of turns that ran appear on a partition in the order of ends. Who asks again later, somewhere
        else, gets it there again: a turn with frames on several partitions says nothing."""
        places: dict[str, set[int]] = defaultdict(set)
        first: dict[str, int] = {}
        for record in self._seen.frames:
            if record.frame["type"] in TERMINALS:
                places[record.frame["turn"]].add(record.partition)
                first.setdefault(record.frame["turn"], record.partition)
        latest: dict[int, tuple[int, str]] = {}
        for turn, partition in first.items():
            fate = self._fates.get(turn)
            if len(places[turn]) > 1 or fate is None or len(fate.outcomes) != 1 or not fate.outcomes[0].ran:
                continue
            version, before = fate.outcomes[0].version, latest.get(partition, (0, ""))
            if version < before[0]:
                text = f"ended by version {version}, its frame came after that of {before[1]} ({before[0]})"
                self._found(Kind.FRAMES_REORDERED, turn, text)
            else:
                latest[partition] = (version, turn)

    def _committed(self, asked: Sequence[TurnRecord]) -> list[TurnRecord]:
        """Records at their own place that will not be read again. A turn that was suspended or parked has
        its record committed with that; when it must be over is known only of what is settled."""
        seen, where = self._seen, self._where
        return [one for one in asked if one.partition == where and seen.committed(TURNS, where, one.offset)]

    def _turn(self, turn: str, asked: Sequence[TurnRecord], frames: Sequence[FrameRecord]) -> None:
        """One turn's outcome: in the journal, on the replies, and what commits say."""
        fate = self._fates.get(turn)
        committed = self._committed(asked)
        told = any(record.frame["type"] in TERMINALS for record in frames)
        if fate is not None:
            compare(
                frames,
                fate,
                whole=self._seen.marks.replies_whole,
                found=lambda kind, text: self._found(kind, turn, text),
            )
        if fate is not None and fate.over:
            self._over(turn, fate, committed, told=told)
        elif told:
            self._found(Kind.NO_TERMINAL, turn, "a terminal frame was published, the journal holds no outcome")
        elif fate is None and asked and not self._at_home(asked):
            self._found(Kind.LOST, turn, "its record lay on a wrong partition, was passed over and not moved")
        elif committed and fate is None:
            self._unknown(turn, committed[0])
        elif committed and fate is not None and not fate.released and not fate.joined:
            self._found(Kind.COMMIT_AHEAD, turn, "its record is committed, the journal holds it open")
        elif self._seen.marks.settled and not (fate is not None and fate.waits):
            self._found(Kind.UNFINISHED, turn, "it has not ended")
        else:
            self._verdict.pending += 1

    def _at_home(self, asked: Sequence[TurnRecord]) -> bool:
        """Whether one of its records lies where it belongs, or will still be moved there."""
        return any(
            record.partition == self._where or not self._seen.committed(TURNS, record.partition, record.offset)
            for record in asked
        )

    def _over(self, turn: str, fate: Fate, committed: Sequence[TurnRecord], *, told: bool) -> None:
        self._verdict.ended(fate.outcomes[0].name if fate.outcomes else "gone")
        if not committed or (fate.released and not self._seen.marks.settled):
            return
        if not told and self._seen.marks.replies_whole:
            self._found(Kind.NO_TERMINAL, turn, "it is over, its record committed, and no terminal frame was published")
        if fate.outcomes and fate.outcomes[0].frame is not None and fate.outcomes[0].name == "failed":
            self._poison(turn, fate, fate.outcomes[0].frame)

    def _poison(self, turn: str, fate: Fate, frame: str) -> None:
        place = (TURNS, self._where, fate.claimed_at)
        if orjson.loads(frame).get("code") == POISON and place not in self._seen.letters:
            self._found(Kind.NO_LETTER, turn, "it was given up as poison, is committed and has no dead letter")

    def _unknown(self, turn: str, first: TurnRecord) -> None:
        """The journal does not know it, and its record will not be read again."""
        later = "and later ones are known" if first.offset < self._last_known else "as the last one of its session"
        self._found(Kind.LOST, turn, f"its record is committed {later}, the journal does not know it")


def _says_something(row: Row) -> bool:
    return bool(row.frames) or (row.body is not None and row.kind not in ("close", "control"))
