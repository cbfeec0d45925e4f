"""Gathers the evidence from a cluster, spills it by record key, has it judged. Writes nothing to the cluster.

The order of reading makes that what runs meanwhile is no false alarm: what was committed before everything else was
read must show in all that is read later, and the journal, which is first in the order of effects, is read last.
"""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Callable, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson

from broker.port import Scan
from fleet.chaos.evidence import CONTROL, LETTERS, REPLIES, TURNS, Marks
from fleet.chaos.finding import Verdict
from fleet.chaos.judges import Judges
from fleet.chaos.part import ROW, SAVED, record_item
from fleet.chaos.spill import PARTS, Spill
from fleet.topics import WORKERS
from journal.port import Survey
from schemas.base import without_defaults


@dataclass(frozen=True, slots=True)
class Sources:
    """What is read. `say` hears how far it is; `tries`: as the workers have it set."""

    scan: Scan
    survey: Survey
    say: Callable[[str], None] = lambda _: None
    tries: int = 3


async def inspect(sources: Sources, *, settled: bool = False, parts: int = PARTS) -> Verdict:
    """The verdict on everything. `settled`: the load is over. Raises BrokerUnavailable, StoreUnavailable."""
    with tempfile.TemporaryDirectory(prefix="turnfleet-check-") as folder:
        spill = Spill(Path(folder), parts=parts)
        with Judges() as judges:
            with _seldom():
                marks = await _gather(sources, spill, judges, settled=settled)
                spill.flush()
            sources.say(f"judging {spill.written / 2**20:,.0f} MiB of evidence")
            return await judges.verdict(spill, marks)


@contextmanager
def _seldom() -> Iterator[None]:
    """Garbage is looked for seldom: what is read is plain. It is looked for, though: the clients leave cycles behind,
    which held two gigabytes after a million turns."""
    before = gc.get_threshold()
    gc.set_threshold(50_000, 20, 20)
    try:
        yield
    finally:
        gc.set_threshold(*before)


async def _gather(sources: Sources, spill: Spill, judges: Judges, *, settled: bool) -> Marks:
    """1. Commits. 2. Turns and commands. 3. Replies. 4. Dead letters. 5. Snapshots. 6. The journal."""
    scan = sources.scan
    turns, control = await scan.extent(TURNS, WORKERS), await scan.extent(CONTROL, WORKERS)
    committed = {(TURNS, partition): offset for partition, offset in turns.committed.items()}
    committed |= {(CONTROL, partition): offset for partition, offset in control.committed.items()}
    for topic in (TURNS, CONTROL):
        await _topic(sources, spill, topic)
    await _replies(sources, spill)
    whole = not any((await scan.extent(REPLIES)).first.values())  # after the reading: what is there now was there then
    await _topic(sources, spill, LETTERS)
    await _snapshots(sources, spill)
    judges.prepare(spill)
    await _journal(sources, spill)
    return Marks(len(turns.first), committed, replies_whole=whole, settled=settled, tries=sources.tries)


async def _topic(sources: Sources, spill: Spill, topic: str) -> None:
    sources.say(f"reading {topic}")
    async with aclosing(sources.scan.read(topic)) as found:  # type: ignore[type-var]
        async for records in found:
            for record in records:
                item, size = record_item(topic, record)
                spill.add(record.key or b"", tuple(item), size)


async def _replies(sources: Sources, spill: Spill) -> None:
    sources.say(f"reading {REPLIES}")
    async with aclosing(sources.scan.read(REPLIES)) as found:  # type: ignore[type-var]
        async for records in found:
            for record in records:
                value = record.value or b""
                spill.add(record.key or b"", (REPLIES, record.partition, record.offset, value), len(value))


async def _snapshots(sources: Sources, spill: Spill) -> None:
    async for page in sources.survey.snapshots():
        for s, snapshot in page:
            tail = orjson.dumps([orjson.loads(without_defaults(item)) for item in snapshot.items])
            items = snapshot.sealed + len(snapshot.items)
            spill.add(_key(s), (SAVED, s, snapshot.version, snapshot.turns, items, tail), len(tail))


async def _journal(sources: Sources, spill: Spill) -> None:
    sources.say("reading the journal")
    async for page in sources.survey.rows():
        for row in page:
            s, v, kind, nonce, at_ms, *rest = row
            spill.add(_key(s), (ROW, s, int(v), kind, nonce, int(at_ms), *rest), row.size)  # MongoDB has its own ints


def _key(s: str) -> bytes:
    """The record key of a session's store name."""
    return s.partition("/")[2].encode()
