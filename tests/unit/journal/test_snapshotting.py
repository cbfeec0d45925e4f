"""Snapshots: when one is due, what it writes, and that a long session pays what a short one pays."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from journal.fold import FoldError
from journal.snapshotting import FACTOR, LEAST_BYTES, NOTHING_SAVED, Saved, saved_by, snapshot_due, snapshot_write
from tests.support.entries import Session


def talk(session: Session, turns: int) -> None:
    for _ in range(turns):
        session.add(session.claim())
        session.add(session.finish())


def test_it_is_due_at_rest_and_when_the_entries_have_outgrown_the_last_one() -> None:
    session = Session()
    talk(session, 1)

    assert not snapshot_due(session.state, NOTHING_SAVED, LEAST_BYTES - 1)
    assert snapshot_due(session.state, NOTHING_SAVED, LEAST_BYTES)
    assert not snapshot_due(session.state, Saved(version=1, bytes=20_000), FACTOR * 20_000 - 1)
    assert snapshot_due(session.state, Saved(version=1, bytes=20_000), FACTOR * 20_000)
    assert not snapshot_due(session.state, Saved(version=2), LEAST_BYTES)  # nothing new
    session.add(session.claim())
    assert not snapshot_due(session.state, NOTHING_SAVED, 10 * LEAST_BYTES)
    with pytest.raises(FoldError):
        snapshot_write(session.state, NOTHING_SAVED)


def test_only_new_chunks_are_written_and_a_new_life_starts_its_own() -> None:
    session = Session(long=True)
    talk(session, 8)
    first, chunks = snapshot_write(session.state, NOTHING_SAVED)
    assert [chunk.index for chunk in chunks] == [0, 1, 2, 3, 4]
    talk(session, 2)
    second, chunks = snapshot_write(session.state, saved_by(first))
    assert [chunk.index for chunk in chunks] == [5]
    assert len(second.items) < 3

    session.add(session.close())
    talk(session, 4)
    _, chunks = snapshot_write(session.state._replace(wiped=True), saved_by(second))
    assert [(chunk.base, chunk.index) for chunk in chunks] == [(session.state.base, n) for n in (0, 1)]


class Cost(NamedTuple):
    """Bytes written up to a turn."""

    entries: int
    snapshots: int


def pay(turns: int) -> list[Cost]:
    """A session of so many turns, kept as a worker keeps it; a frame repeats the answer twice, as real ones do."""
    session, saved, tail, entries, snapshots = Session(), NOTHING_SAVED, 0, 0, 0
    session._text = "an answer of some length, " * 20
    costs = [Cost(0, 0)]
    for _ in range(turns):
        written = session.add(session.claim()).size
        frame = f'{{"text":"{session._text}","messages":[{{"text":"{session._text}"}}]}}'
        written += session.add(session.finish().model_copy(update={"frames": (frame,)})).size
        entries += written
        tail += written
        if snapshot_due(session.state, saved, tail):
            snapshot, chunks = snapshot_write(session.state, saved)
            snapshots += sum(len(one.model_dump_json(exclude_defaults=True)) for one in (snapshot, *chunks))
            saved, tail = saved_by(snapshot), 0
        costs.append(Cost(entries, snapshots))
        session.rows.clear()
    return costs


def test_a_long_session_pays_per_turn_what_a_short_one_pays() -> None:
    costs = pay(2_000)

    def entries(start: int, end: int) -> float:
        return (costs[end].entries - costs[start].entries) / (end - start)

    def all_bytes(start: int, end: int) -> float:
        """Snapshots included, spread over the turns that they serve."""
        return entries(start, end) + (costs[end].snapshots - costs[start].snapshots) / (end - start)

    early, middle, late = all_bytes(100, 250), all_bytes(250, 500), all_bytes(1_000, 2_000)
    print(f"bytes a turn: {entries(10, 20):.0f} + snapshots = {early:.0f}, {middle:.0f}, {late:.0f}")
    assert entries(490, 510) <= 1.1 * entries(10, 20)
    assert entries(1_980, 2_000) <= 1.1 * entries(10, 20)
    assert max(middle, late) <= 1.1 * early
    assert all(cost.snapshots <= cost.entries for cost in costs)
    assert costs[-1].snapshots > 0
