"""What must hold of dead letters after a run, from topics, store and what the commands said: a redrive keeps the order,
is one turn however often it is said, loses none, and a quarantine ends as its letter does. Knows no worker.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import orjson

from broker.memory import MemoryCluster
from fleet.letter import Letter
from fleet.redrive import Redriven
from journal.port import LetterMark
from schemas.codes import Code
from schemas.entries import Claim, Close, ControlNote, Finish, Settle
from tests.simulation.ledger import CONTROL, TURNS, Ledger, Written
from tests.simulation.operators import Done, Operators
from tests.simulation.strangers import named

_ENDS = {"redriving": "redriven", "redriven": "redriven", "discarding": "discarded", "discarded": "discarded"}


def broken(operators: Operators, cluster: MemoryCluster, ledger: Ledger, sessions: list[str]) -> Iterator[str]:
    """Every promise about dead letters that is broken."""
    letters = {letter.id: letter for letter in operators.letters()}
    marks = operators.marks
    for done in operators.done:
        yield from _said(done, marks)
        if not ledger.renewed:
            yield from _in_order(done, letters, ledger)
    for mark in marks.values():
        yield from _out(mark, letters[mark.letter], ledger)
    yield from _released(marks, letters, cluster)
    for session in sorted(sessions):
        yield from _quarantined(session, ledger.rows.get(session, []), marks)


def _said(done: Done, marks: dict[str, LetterMark]) -> Iterator[str]:
    """Whoever asks hears the same of a letter, and what was decided first holds."""
    for one in done.said:
        mark = marks.get(one.letter)
        if one.state == "unsupported":
            continue
        if mark is None or _ENDS[one.state] != mark.state or one.turn != mark.turn:
            yield f"{one.letter} was said to be {one.state} as {one.turn}, its mark says {mark}"


def _in_order(done: Done, letters: dict[str, Letter], ledger: Ledger) -> Iterator[str]:
    """What one command published of a session lies in the order of the original records."""
    out = sorted((one for one in done.said if one.published), key=lambda one: letters[one.letter].order)
    for first, second in combinations(out, 2):
        if letters[first.letter].session != letters[second.letter].session:
            continue
        before, after = (_published(one, letters[one.letter], done, ledger) for one in (first, second))
        if before and after and not min(before) < max(after):
            yield f"{second.letter} went out before {first.letter}, of {letters[first.letter].session}"


def _published(one: Redriven, letter: Letter, done: Done, ledger: Ledger) -> list[int]:
    """When records of it came, while the command ran."""
    place = _place(letter, one.turn)
    told = ledger.lives.records.get(place, ()) if place is not None else ()
    return [one.event for one in told if done.since <= one.event <= done.until]


def _out(mark: LetterMark, letter: Letter, ledger: Ledger) -> Iterator[str]:
    """What is redriven is in the log (and then it ends, as every turn), under one new id at most; what is discarded
    is not."""
    place = _place(letter, mark.turn)
    if mark.state == "redriven" and place is not None and place not in ledger.lives.ever:
        yield f"{letter.id} was redriven as {mark.turn}, which is in no log"


def _place(letter: Letter, turn: str | None) -> tuple[str, str] | None:
    decoded = letter.decoded()
    return (named(decoded.turn.tenant, decoded.session), turn) if decoded is not None and turn is not None else None


def minted(ledger: Ledger, known: set[tuple[str, str]], marks: dict[str, LetterMark]) -> Iterator[str]:
    """Nobody's turn is in the log that neither was sent nor is a redriven one: a letter is one turn."""
    turns = {mark.turn for mark in marks.values()}
    for session, turn in sorted(ledger.lives.ever):
        if (session, turn) not in known and turn not in turns:
            yield f"{session}/{turn} is in the log: nobody sent it, no letter was redriven as it"


def _released(marks: dict[str, LetterMark], letters: dict[str, Letter], cluster: MemoryCluster) -> Iterator[str]:
    """The session of a poisonous turn is told what became of its letter, and nothing else."""
    told: dict[str, set[str | None]] = {}
    for partition in range(cluster.topics[CONTROL].partitions):
        for record in cluster.log(CONTROL, partition).records:
            body = orjson.loads(record.value or b"{}")
            if body.get("kind") == "release":
                told.setdefault(body["letter"], set()).add(body.get("turn"))
    for mark in marks.values():
        letter = letters[mark.letter]
        wanted = {mark.turn} if letter.head.code is Code.POISON and letter.head.topic == TURNS else set()
        if told.get(mark.letter, set()) != wanted:
            yield f"{mark.letter} is {mark.state} as {mark.turn}, its session was told {told.get(mark.letter)}"


def _quarantined(session: str, rows: list[Written], marks: dict[str, LetterMark]) -> Iterator[str]:
    """Nothing begins in a quarantine but what its letter was redriven as, and that before all that waited."""
    held: str | None = None
    first: str | None = None
    for row, entry in rows:
        claim = entry.claim if isinstance(entry, Finish) else entry
        if isinstance(entry, Finish | Settle) and entry.turn == first:
            held = first = None
        if held is not None and isinstance(claim, Claim) and claim.turn != first:
            yield f"{session} v{row.v}: {claim.turn} begins in the quarantine of {held}, before {first}"
        if isinstance(entry, Finish) and entry.quarantine is not None:
            held, first = entry.quarantine.letter, None
        if isinstance(entry, ControlNote) and entry.kind == "release":
            first = entry.first
            held = held if first is not None else None
            if entry.by is None and ((mark := marks.get(str(entry.letter))) is None or mark.turn != first):
                yield f"{session} v{row.v}: the quarantine of {entry.letter} ends for {first}, its mark says {mark}"
        if isinstance(entry, Close):
            held = first = None
