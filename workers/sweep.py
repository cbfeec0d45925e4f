"""Looks for sessions that are idle beyond their time, for closed ones whose keys may go, and for payloads that no entry
holds. Bounded batches.

It only proposes: an `expire` record goes to the session's owner, who decides on the journal's state.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from broker.port import Outgoing, Publisher
from journal.port import Listed, Store, StoreUnavailable
from journal.sweeping import bury
from schemas.codec import control_headers, encode_control
from schemas.control import ExpireControl
from schemas.settings import SessionSettings
from workers.partition import CONTROL

_log = logging.getLogger("fleet.sweep")
_PAYLOAD_MS = 3_600_000  # whoever wrote a payload an hour ago has inserted its row since, or never will


class Sweep:
    """One per worker; several may run at once, the second one finds nothing to do."""

    def __init__(
        self, store: Store, publisher: Publisher, settings: SessionSettings, *, clock_ms: Callable[[], int]
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._settings = settings
        self._clock_ms = clock_ms

    async def run(self, stop: asyncio.Event) -> None:
        """Sweep until `stop`."""
        while not stop.is_set():
            try:
                await self.once()
            except StoreUnavailable as error:
                _log.warning("the sweep waits for the store: %s", error)
            try:
                await asyncio.wait_for(stop.wait(), self._settings.sweep_interval_s)
            except TimeoutError:
                continue

    async def once(self) -> tuple[int, int]:
        """One sweep: (sessions proposed for expiry, closed sessions whose keys went)."""
        now_ms = self._clock_ms()
        due = await self._store.directory.due(now_ms, self._settings.sweep_batch)
        for listed in due:
            self._propose(listed, now_ms)
        buried = await bury(self._store, now_ms, self._settings.session_keep_keys_s, self._settings.sweep_batch)
        left = await self._store.payloads.sweep(now_ms - _PAYLOAD_MS, self._settings.sweep_batch)
        if left:
            _log.info("removed %d payloads that no entry holds: their writers died or lost a collision", left)
        return len(due), buried

    def _propose(self, listed: Listed, now_ms: int) -> None:
        """The op id is the same for the same version: several sweeps propose one thing."""
        op = f"expire-{listed.created_ms}-{listed.version}"
        control = ExpireControl(op=op, tenant=listed.tenant, user=listed.user)
        headers = control_headers(op, source="fleet/sweep", now_ms=now_ms)
        self._publisher.publish(Outgoing(CONTROL, listed.session.encode(), encode_control(control), None, headers))
