"""The end of closed sessions: after retention their keys go, in bounded batches. Appends nothing, knows no worker."""

from __future__ import annotations

from dataclasses import replace

from journal.loader import load
from journal.port import Listed, Store
from journal.state import State

BATCH_ROWS = 1_000
_GRACE = 14  # of the retention: one day of two weeks


async def bury(store: Store, now_ms: int, keep_s: int, limit: int) -> int:
    """Remove what is left of at most `limit` sessions that were closed before now - keep; how many were handled.

    A freed key reopens the fence, so three things keep this harmless:
    - Only sessions closed for longer than `keep_s` (topic retention, and the longest life of a zombie) are touched,
      and of those only rows written before that CLOSE: another sweep may have buried the session already, and it may
      live again from version 1.
    - A session that was opened again keeps its last CLOSE and all that follows: versions go on above it, and the fold
      starts there. Only the rows below that CLOSE go.
    - Whoever is about to append to a state that was closed longer ago than `keep_s` calls `bury_first` and loads
      again, so that nobody appends above a CLOSE that is being removed. The sweep waits a little longer than that
      (a fourteenth of `keep_s`), for the clocks and for those who loaded just before.
    Order: snapshot and chunks first, for a snapshot without its rows would be folded on; the CLOSE last; then the
    directory, so that a sweep that was cut off is found again. Raises StoreUnavailable.
    """
    moment_ms = now_ms - keep_s * 1000 - keep_s * 1000 // _GRACE
    sessions = await store.directory.closed_before(moment_ms, limit)
    for listed in sessions:
        await _bury(store, listed, moment_ms)
    return len(sessions)


def too_old(state: State, now_ms: int, keep_s: int) -> bool:
    """Whether this state is a closed one whose keys may be going: `bury_first`, load again, then append."""
    return state.opened is None and state.closed is not None and state.closed.at_ms <= now_ms - keep_s * 1000


async def bury_first(store: Store, s: str, state: State) -> None:
    """Finish the burial of a state that is `too_old`: no row of it stays. Raises StoreUnavailable."""
    if state.closed is not None:
        await store.snapshots.forget(s)
        await _drop(store, s, state.version + 1, state.last_ms)


async def _bury(store: Store, listed: Listed, moment_ms: int) -> None:
    s = listed.s
    state = (await load(store, s)).state
    closed = state.closed
    if closed is not None and closed.at_ms < moment_ms:
        await _drop(store, s, closed.version, moment_ms)
    if state.opened is not None or (closed is not None and state.last_ms >= moment_ms):
        await store.directory.put([_as_it_is(listed, state)])
        return
    await store.snapshots.forget(s)
    await _drop(store, s, state.version + 1, moment_ms)
    await store.directory.remove(s)


def _as_it_is(listed: Listed, state: State) -> Listed:
    """The directory lags behind: the session lives, or was closed again, or something arrived after its CLOSE."""
    idle_ms = listed.expires_ms - listed.last_ms
    return replace(
        listed,
        turns=state.turns,
        version=max(state.version, listed.version),
        last_ms=state.last_ms,
        expires_ms=state.last_ms + idle_ms,
        closed_ms=None if state.opened is not None else state.last_ms,
    )


async def _drop(store: Store, s: str, below: int, until_ms: int) -> None:
    while await store.journal.drop(s, below, until_ms=until_ms, limit=BATCH_ROWS) == BATCH_ROWS:
        pass
