"""What follows a CLOSE: contents go, from the journal and from the snapshots. Appends nothing, frees no key."""

from __future__ import annotations

from journal.folding import snapshot_of
from journal.port import Saving, Store
from journal.state import State


async def wipe(store: Store, s: str, state: State) -> State:
    """Unset what lies below the last CLOSE of `state`; the state, wiped. Idempotent; a delete is marked only after it.

    1. The rows' content, in ascending order. 2. Where the session is still closed: its snapshot, replaced by one of
    the closed state, which holds no content and which an older one (of a worker that does not know yet) cannot
    replace; the chunks go with it. A session that was opened again loses a snapshot of before the CLOSE.
    Raises StoreUnavailable.
    """
    if state.closed is None:
        return state
    close = state.closed.version
    await store.journal.unset(s, close)
    state = state._replace(wiped=True)
    if state.opened is None:
        await store.snapshots.save([Saving(s, snapshot_of(state))])
        return state
    stored = await store.snapshots.load(s)
    if stored is not None and stored.version < close:
        await store.snapshots.forget(s)
    return state
