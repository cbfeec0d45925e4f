"""Dead letters out again, in order, and once. Knows the ports of broker and journal, no command.

Order of effects for each letter: (1) its mark, which holds the turn id that it goes out under, is durable; (2) the
record is published and acknowledged, unless it is discarded, then what ends the quarantine of its session; (3) the mark
says so. A crash in between leaves a mark that names the id: the next redrive publishes the same turn again, and a known
turn id never runs twice.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from broker.port import Outgoing, Publisher, Scan
from fleet.letter import CONTROL, DEAD_LETTERS, TURNS, Letter, Wanted, deduplicated, read_letter, without_value
from journal.port import COMPLETED, LetterMark, Store
from journal.turns import terminal_of
from schemas.codec import TurnRecord, control_headers, encode_control
from schemas.codes import Code
from schemas.control import ReleaseControl
from schemas.dead_letter import FAULTS
from schemas.ids import from_letter, from_position, session_key

_NEVER_AGAIN = frozenset({Code.POISON, Code.CONFLICT})
"""Under its own id such a turn can only get its outcome again, or the same refusal."""


class Office(NamedTuple):
    """What works on letters."""

    scan: Scan
    publisher: Publisher
    store: Store
    clock_ms: Callable[[], int]


class Found(NamedTuple):
    """What lies on the topic. `foreign`: records that are no letters of ours."""

    letters: list[Letter]
    marks: dict[str, LetterMark]
    foreign: int

    def is_open(self, letter: Letter) -> bool:
        """Nobody has redriven or discarded it to the end."""
        mark = self.marks.get(letter.id)
        return mark is None or mark.state in COMPLETED


class Redriven(NamedTuple):
    """What became of a letter. `published`: by this call."""

    letter: str
    state: str
    turn: str | None
    published: bool = False


class Choice(NamedTuple):
    """Which letters a command works on: these ids, or (`ids` None) every one that is open and wanted."""

    ids: tuple[str, ...] | None
    wanted: Wanted

    def means(self, letter: Letter) -> bool:
        return letter.id in self.ids if self.ids is not None else self.wanted.matches(letter)


Act = Callable[[Office, Sequence[Letter]], Awaitable[list[Redriven]]]


async def find(office: Office, wanted: Callable[[Letter], bool], *, values: bool) -> Found:
    """The letters that are wanted, each once, in the order of their records; `values`: with the original bytes."""
    letters: list[Letter] = []
    foreign = 0
    async for records in office.scan.read(DEAD_LETTERS):
        for record in records:
            letter = read_letter(record)
            if letter is None:
                foreign += 1
            elif wanted(letter):
                letters.append(letter if values else without_value(letter))
    letters = deduplicated(letters)
    marks = await office.store.letters.of([letter.id for letter in letters])
    return Found(letters, marks, foreign)


async def redrive(office: Office, letters: Sequence[Letter]) -> list[Redriven]:
    """Publish the records again, in their original order. Raises PublishError or PublishUnknown at the first that does
    not go out: nothing later overtakes it, and doing it all again is safe."""
    return [await _redrive(office, letter) for letter in deduplicated(letters)]


async def discard(office: Office, letters: Sequence[Letter]) -> list[Redriven]:
    """Mark as done without publishing the records; what was redriven before stays so. Raises PublishError or
    PublishUnknown, as `redrive`."""
    return [await _discard(office, letter) for letter in deduplicated(letters)]


async def carry_out(office: Office, choice: Choice, act: Act) -> tuple[list[Redriven], list[str]]:
    """`redrive` or `discard` the letters that are meant: what became of them, and the ids that there are none of."""
    found = await find(office, choice.means, values=True)
    letters = found.letters if choice.ids is not None else [one for one in found.letters if found.is_open(one)]
    known = {letter.id for letter in letters}
    return await act(office, letters), [one for one in choice.ids or () if one not in known]


async def _redrive(office: Office, letter: Letter) -> Redriven:
    if letter.head.topic not in (TURNS, CONTROL):
        return Redriven(letter.id, "unsupported", None)
    decoded, marks = letter.decoded(), office.store.letters
    mark = (await marks.of([letter.id])).get(letter.id)
    if mark is None:
        turn = await _turn_of(office.store, letter, decoded)
        mark = await marks.put(LetterMark(letter.id, "redriving", turn, office.clock_ms()))  # (1)
    if mark.state != "redriving":
        return Redriven(letter.id, mark.state, mark.turn)
    await office.publisher.send(outgoing(letter, decoded, mark.turn, office.clock_ms()))  # (2)
    await _release(office, letter, decoded, mark.turn)
    await marks.complete(letter.id)  # (3)
    return Redriven(letter.id, "redriven", mark.turn, published=True)


async def _discard(office: Office, letter: Letter) -> Redriven:
    marks = office.store.letters
    mark = await marks.put(LetterMark(letter.id, "discarding", None, office.clock_ms()))  # (1)
    if mark.state != "discarding":
        return Redriven(letter.id, mark.state, mark.turn)
    await _release(office, letter, letter.decoded(), None)  # (2)
    await marks.complete(letter.id)  # (3)
    return Redriven(letter.id, "discarded", None)


async def _release(office: Office, letter: Letter, decoded: TurnRecord | None, turn: str | None) -> None:
    """Tell the session's owner that the letter is dealt with, for the session may be in quarantine: said again, it is
    the same op."""
    if letter.head.code is not Code.POISON or decoded is None:
        return
    done = "discarded" if turn is None else "redriven"
    op = "release-" + hashlib.sha256(f"{letter.id}\0{done}".encode()).hexdigest()[:40]
    control = ReleaseControl(op=op, tenant=decoded.turn.tenant, user=decoded.turn.user, letter=letter.id, turn=turn)
    headers = control_headers(op, source="fleet", now_ms=office.clock_ms())
    await office.publisher.send(Outgoing(CONTROL, decoded.session.encode(), encode_control(control), headers=headers))


async def _turn_of(store: Store, letter: Letter, decoded: TurnRecord | None) -> str | None:
    """Its own id, unless the journal has that turn as failed, or it can never run under it."""
    if decoded is None:
        return None
    if letter.head.code not in _NEVER_AGAIN:
        ended = await terminal_of(store.journal, session_key(decoded.turn.tenant, decoded.session), decoded.id)
        if ended is None or ended.outcome != "failed":
            return decoded.id
    return from_letter(letter.id, decoded.id)


def outgoing(letter: Letter, decoded: TurnRecord | None, turn: str | None, now_ms: int) -> Outgoing:
    """The original record. Changed is only what has to be: a new turn id, a deadline that has passed, and an id that
    came from the record's place is written down, for the place is another one now."""
    original, headers = letter.original, list(letter.original.headers)
    value, changes = original.value, dict[str, Any]()
    if decoded is not None and turn not in {None, decoded.id}:
        changes["turn"] = turn
        if letter.head.code in FAULTS:
            changes["history"] = None  # its first CLAIM brought it into the session
        headers = [(name, (turn or "").encode() if name == "ce_id" else raw) for name, raw in headers]
    if decoded is not None and decoded.turn.deadline_ms is not None and decoded.turn.deadline_ms <= now_ms:
        changes["deadline_ms"] = None
    if changes:
        value = _changed(value or b"", changes, enveloped=_enveloped(headers))
    derived = from_position(original.partition, original.offset, original.timestamp)
    named = letter.head.topic != TURNS or any(name == "ce_id" for name, _ in headers)
    if not named and (decoded is None or decoded.id == derived):
        headers.append(("ce_id", (turn or derived).encode()))
    return Outgoing(letter.head.topic, original.key, value, headers=headers)


def _enveloped(headers: Sequence[tuple[str, bytes]]) -> bool:
    return any(name == "content-type" and raw.startswith(b"application/cloudevents+json") for name, raw in headers)


def _changed(value: bytes, changes: dict[str, Any], *, enveloped: bool) -> bytes:
    """The JSON with these fields set, None: without them."""
    whole = json.loads(value)
    fields = whole["data"] if enveloped else whole
    for name, new in changes.items():
        if new is None:
            fields.pop(name, None)
        else:
            fields[name] = new
    return json.dumps(whole, ensure_ascii=False).encode()
