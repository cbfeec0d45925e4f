"""The history checker: evidence of one session in, verdict out. Pure; knows the contract, no product code that it judges.

Legal, and no finding: turns that were sent again, frames that lie twice, refused records (their dead letters say so),
records on the wrong partition (moved), turns that are under way.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from broker.partition import partition_of
from fleet.chaos.chain import Chain, Fate
from fleet.chaos.evidence import Evidence, FrameRecord, TurnRecord
from fleet.chaos.finding import Finding, Kind, Verdict
from fleet.chaos.stream import TERMINALS, compare

TURNS = "agent.turns"


def check(evidence: Evidence, *, settled: bool = False) -> Verdict:
    """The verdict on one session. `settled`: the load is over, so a turn that has not ended is a breach as well."""
    return _Case(evidence, settled=settled).verdict()


class _Case:
    def __init__(self, evidence: Evidence, *, settled: bool) -> None:
        self._evidence = evidence
        self._settled = settled
        self._found: list[tuple[Kind, str | None, str]] = []
        self._fates: Mapping[str, Fate] = {}
        self._last_known = -1

    def verdict(self) -> Verdict:
        seen = self._evidence
        self._fates = Chain(self._report).walk(seen.rows)
        home, asked, unreadable = self._sorted()
        frames: dict[str, list[FrameRecord]] = defaultdict(list)
        for record in seen.frames:
            turn = record.frame.get("turn")
            if turn is not None and record.frame["type"] not in ("refused", "ack"):
                frames[turn].append(record)
        self._order(home)
        verdict = Verdict(sessions=1, records=len(seen.turns), entries=len(seen.rows), frames=len(seen.frames))
        verdict.letters = len(seen.letters)
        turns = self._fates.keys() | asked.keys()
        for turn in [*self._fates, *(turn for turn in {**asked, **frames} if turn not in self._fates)]:
            verdict.pending += self._turn(turn, asked.get(turn, ()), frames.get(turn, ()))
        for record in unreadable:
            self._unreadable(record)
        verdict.turns = len(turns)
        for kind, name, text in self._found:
            verdict.add(self._finding(kind, name, text))
        return verdict

    def _report(self, kind: Kind, turn: str | None, text: str) -> None:
        self._found.append((kind, turn, text))

    def _sorted(self) -> tuple[list[TurnRecord], dict[str, list[TurnRecord]], list[TurnRecord]]:
        """Records at home, all that were not refused by turn, and those that nobody can read."""
        seen = self._evidence
        letters = seen.letters
        where = partition_of(seen.session.encode(), seen.marks.partitions)
        home: list[TurnRecord] = []
        asked: dict[str, list[TurnRecord]] = defaultdict(list)
        unreadable: list[TurnRecord] = []
        for record in seen.turns:
            if letters and (TURNS, record.partition, record.offset) in letters:
                continue
            if record.turn is None:
                unreadable.append(record)
                continue
            asked[record.turn].append(record)
            if record.partition == where:
                home.append(record)
                if record.turn in self._fates:
                    self._last_known = max(self._last_known, record.offset)
        return home, asked, unreadable

    def _committed(self, record: TurnRecord) -> bool:
        return record.offset < self._evidence.marks.committed.get(record.partition, 0)

    def _order(self, home: Sequence[TurnRecord]) -> None:
        """Turns begin in the order of their first records."""
        latest, after = 0, ""
        met: set[str] = set()
        for record in home:
            turn = record.turn or ""
            if turn in met:
                continue
            met.add(turn)
            fate = self._fates.get(turn)
            if fate is None or fate.began is None or not fate.queued:
                continue
            if fate.began < latest:
                text = f"began by version {fate.began}, before {after} ({latest}), which was published earlier"
                self._report(Kind.REORDERED, turn, text)
            else:
                latest, after = fate.began, turn

    def _turn(self, turn: str, asked: Sequence[TurnRecord], frames: Sequence[FrameRecord]) -> bool:
        """One turn's outcome: in the journal, on the replies, and what commits say. True: it is under way."""
        fate = self._fates.get(turn)
        committed = any(map(self._committed, asked))
        told = any(record.frame["type"] in TERMINALS for record in frames)
        if fate is not None and fate.over:
            if committed and not told and self._evidence.marks.replies_whole:
                self._report(
                    Kind.NO_TERMINAL, turn, "it is over and its record committed, no terminal frame was published"
                )
            if len(fate.outcomes) == 1:
                whole = self._evidence.marks.replies_whole
                compare(frames, fate.outcomes[0], whole=whole, found=lambda kind, text: self._report(kind, turn, text))
            return False
        if told:
            self._report(Kind.NO_TERMINAL, turn, "a terminal frame was published, the journal holds no outcome")
        elif committed and fate is None:
            self._unknown(turn, asked)
        elif committed and fate is not None and not fate.waits:
            self._report(Kind.COMMIT_AHEAD, turn, "its record is committed, the journal holds it open")
        elif self._settled and not (fate is not None and fate.waits):
            self._report(Kind.UNFINISHED, turn, "it has not ended")
        else:
            return True
        return False

    def _unknown(self, turn: str, asked: Sequence[TurnRecord]) -> None:
        """The journal does not know it, and its record will not be read again."""
        first = next(record for record in asked if self._committed(record))
        if first.offset < self._last_known:
            self._report(Kind.LOST, turn, "its record is committed and later ones are known, the journal knows it not")
        else:
            self._report(Kind.COMMIT_AHEAD, turn, "its record is committed, the journal does not know it")

    def _unreadable(self, record: TurnRecord) -> None:
        if self._committed(record):
            place = f"{TURNS}/{record.partition}@{record.offset}"
            self._report(Kind.NO_LETTER, None, f"{place} cannot be read, is committed and has no dead letter")

    def _finding(self, kind: Kind, turn: str | None, text: str) -> Finding:
        seen = self._evidence
        events = tuple(events_of(seen, turn)) if turn is not None else ()
        return Finding(kind, seen.tenant, seen.session, turn, text, events)


def events_of(evidence: Evidence, turn: str) -> list[str]:
    """What is known of a turn, in order: records, entries, then frames."""
    told = [
        f"{TURNS}/{record.partition}@{record.offset} record"
        + (" committed" if record.offset < evidence.marks.committed.get(record.partition, 0) else "")
        for record in evidence.turns
        if record.turn == turn
    ]
    name = f'"{turn}"'
    for row in evidence.rows:
        if row.turn == turn or (row.body is not None and name in row.body):
            told.append(f"journal v{row.v} {row.kind.upper()} at {row.at_ms} nonce {row.nonce}")
    frames = [record for record in evidence.frames if record.frame.get("turn") == turn]
    for record in sorted(frames, key=lambda record: (record.frame.get("attempt", 0), record.frame.get("seq", 0))):
        frame = record.frame
        place = f"agent.replies/{record.partition}@{record.offset}"
        told.append(f"{place} {frame['type']} attempt {frame.get('attempt')} seq {frame.get('seq')}")
    return told
