"""What a delete removes at once, and what the sweep removes after retention: never a row of a session that lives."""

from __future__ import annotations

from dataclasses import replace

import pytest

from journal.gate import Call
from journal.loader import load
from journal.memory import MemoryStore
from journal.port import Listed, Row, Saving, StoreUnavailable
from journal.snapshotting import NOTHING_SAVED, snapshot_write
from journal.sweeping import BATCH_ROWS, bury, bury_first, too_old
from journal.wiping import wipe
from schemas.entries import Entry
from tests.support.entries import Session

S, KEEP_S = "t/s", 14_000
LATER_MS = 1_000 * 15_500  # more than the retention and its grace after everything below


class Kept(Session):
    """A session in a store, listed as a worker lists it."""

    def __init__(self) -> None:
        super().__init__(S)
        self.calls: list[str] = []
        self.store = MemoryStore(self._gate)
        self.down = ""

    async def _gate(self, call: Call) -> None:
        self.calls.append(call.operation)
        if call.operation == self.down and call.phase == "before":
            raise StoreUnavailable("planted")

    def add(self, entry: Entry) -> Row:
        row = super().add(entry)
        self.store.log.apply([row])
        return row

    def talk(self, turns: int) -> None:
        for _ in range(turns):
            self.add(self.claim())
            self.add(self.finish())

    async def save(self) -> None:
        await self.store.snapshots.save([Saving(S, *snapshot_write(self.state, NOTHING_SAVED))])

    async def list_it(self) -> Listed:
        closed = self.state.closed
        listed = Listed(
            s=S,
            tenant="t",
            session="s",
            user="u",
            agent="echo",
            agent_version="1",
            turns=self.state.turns,
            version=self.state.version,
            created_ms=1,
            last_ms=self.state.last_ms,
            expires_ms=self.state.last_ms + 100,
            closed_ms=closed.at_ms if closed is not None and self.state.opened is None else None,
        )
        await self.store.directory.put([listed])
        return listed

    async def end(self) -> None:
        self.add(self.close())
        self.state = await wipe(self.store, S, self.state)
        await self.list_it()

    async def sweep(self, now_ms: int = LATER_MS) -> int:
        return await bury(self.store, now_ms, KEEP_S, 10)

    def versions(self) -> list[int]:
        return sorted(v for _, v in self.store.log.rows)


@pytest.fixture
async def session() -> Kept:
    return Kept()


def content(session: Kept) -> str:
    rows = [f"{row.body}{row.frames}" for row in session.store.log.rows.values() if row.kind != "close"]
    parts = session.store.snapshots
    return repr((rows, parts.__dict__))


async def test_a_delete_removes_contents_and_keeps_keys(session: Kept) -> None:
    session._text = "secret" * 1_000
    session.talk(4)
    await session.save()
    assert "secret" in content(session)

    await session.end()

    assert "secret" not in content(session)
    assert session.versions() == list(range(1, 10))
    loaded = await load(session.store, S)
    assert loaded.state == session.state
    assert loaded.state.wiped
    assert await wipe(session.store, S, session.state) == session.state


async def test_an_older_worker_cannot_bring_the_snapshot_back(session: Kept) -> None:
    session._text = "secret" * 1_000
    session.talk(4)
    old = snapshot_write(session.state, NOTHING_SAVED)
    await session.end()

    await session.store.snapshots.save([Saving(S, *old)])

    assert "secret" not in content(session)


async def test_a_delete_that_was_cut_off_is_finished_after_the_session_was_opened_again(session: Kept) -> None:
    session._text = "secret" * 1_000
    session.talk(4)
    await session.save()
    session.add(session.close())
    session._text = "open"
    session.talk(1)
    loaded = (await load(session.store, S)).state
    assert not loaded.wiped

    assert (await wipe(session.store, S, loaded)).wiped

    assert "secret" not in content(session)
    assert (await load(session.store, S)).state.history == session.state.history


async def test_nothing_to_wipe_without_a_close(session: Kept) -> None:
    session.talk(1)
    session.calls.clear()

    assert await wipe(session.store, S, session.state) == session.state
    assert session.calls == []


async def test_after_retention_a_closed_session_is_gone_whole(session: Kept) -> None:
    session.talk(3)
    await session.save()
    await session.end()

    assert await session.sweep(KEEP_S * 1_000) == 0  # too early
    assert await session.sweep() == 1

    assert session.versions() == []
    assert (await load(session.store, S)).state.version == 0
    assert await session.store.snapshots.load(S) is None
    assert await session.sweep() == 0


async def test_a_sweep_that_was_cut_off_is_finished_by_the_next(session: Kept) -> None:
    session.talk(3)
    await session.end()
    for down in ("snapshots.forget", "drop", "directory.remove"):
        session.down = down
        with pytest.raises(StoreUnavailable):
            await session.sweep()
        assert (await load(session.store, S)).state.version in (0, 7)
    session.down = ""

    assert await session.sweep() == 1
    assert session.versions() == []
    assert await session.sweep() == 0


async def test_a_session_that_was_opened_again_keeps_its_last_close_and_what_follows(session: Kept) -> None:
    session.talk(3)
    await session.end()  # listed as closed, and the directory never hears of what follows
    session.now_ms = LATER_MS
    session.talk(2)

    assert await session.sweep(LATER_MS + 100) == 1

    assert session.versions() == [7, 8, 9, 10, 11]
    loaded = (await load(session.store, S)).state
    assert loaded.history == session.state.history
    assert (loaded.version, loaded.turns) == (11, 2)
    assert await session.sweep(LATER_MS + 100) == 0  # the directory knows now
    page, _ = await session.store.directory.of_user("t", "u", limit=5, after=None)
    assert [(one.version, one.turns, one.closed_ms) for one in page] == [(11, 2, None)]


async def test_a_session_that_was_closed_again_waits_for_its_last_close(session: Kept) -> None:
    session.talk(1)
    await session.end()
    listed = await session.list_it()
    session.now_ms = LATER_MS
    session.talk(1)
    session.add(session.close())
    session.state = await wipe(session.store, S, session.state)

    assert await session.sweep(LATER_MS + 100) == 1
    assert session.versions() == [1, 2, 3, 4, 5, 6]  # nothing is old enough below the CLOSE that counts
    assert await session.sweep(LATER_MS + 100) == 0
    assert await session.sweep(2 * LATER_MS) == 1
    assert session.versions() == []
    await session.store.directory.put([replace(listed, version=99)])
    assert await session.sweep(2 * LATER_MS) == 1  # listed, and there is nothing: the listing goes
    assert await session.sweep(2 * LATER_MS) == 0


async def test_what_came_after_a_close_is_kept_until_it_is_old_too(session: Kept) -> None:
    session.talk(1)
    await session.end()
    session.now_ms = LATER_MS
    session.add(session.control("cancel", "t-later"))

    assert await session.sweep(LATER_MS + 100) == 1
    assert session.versions() == [3, 4]
    assert [item.turn for item in (await load(session.store, S)).state.ahead] == ["t-later"]
    assert await session.sweep(2 * LATER_MS) == 1
    assert session.versions() == []


async def test_a_late_sweep_takes_nothing_of_a_session_that_lives_again_from_version_1(session: Kept) -> None:
    session.talk(3)
    await session.end()
    late = session.state
    await session.sweep()
    again = Session(S)
    again.now_ms = LATER_MS + 10_000
    again.add(again.claim())
    session.store.log.apply(again.rows)

    await bury_first(session.store, S, late)  # whoever folded before the burial

    assert session.versions() == [1]
    assert (await load(session.store, S)).state == again.state


async def test_whoever_meets_an_old_close_buries_it_before_appending(session: Kept) -> None:
    session.talk(1)
    await session.end()
    old_ms = session.state.last_ms + KEEP_S * 1_000
    assert not too_old(session.state, old_ms - 1, KEEP_S)
    assert too_old(session.state, old_ms, KEEP_S)

    await bury_first(session.store, S, session.state)

    state = (await load(session.store, S)).state
    assert state.version == 0
    assert not too_old(state, old_ms, KEEP_S)
    session.add(session.claim())
    assert not too_old(session.state, 2 * old_ms, KEEP_S)


async def test_rows_go_in_batches(session: Kept) -> None:
    session.talk(1)
    for _ in range(BATCH_ROWS):
        session.add(session.settle(session.new("t")))
    await session.end()
    session.calls.clear()

    assert await session.sweep() == 1

    assert session.versions() == []
    assert session.calls.count("drop") == 2 * 3  # before and after: 1,000 rows, the rest, the CLOSE
