"""A request that follows one turn or one session: its outbox and its place at the router. Knows nothing of HTTP."""

from __future__ import annotations

import asyncio
from types import TracebackType

from gateway.event import Event
from gateway.gateway import Gateway
from gateway.identity import Principal
from gateway.outbox import Outbox
from gateway.reader import Reader


class Listening:
    """Use as a context: at its end nothing is followed any more. A reader that is too slow gets the end early."""

    def __init__(self, gateway: Gateway, who: Principal) -> None:
        self._gateway = gateway
        self.outbox = Outbox(gateway.settings.gateway_socket_bytes, lambda: None)
        self.reader = Reader(who.tenant, who.user, self.outbox.put)
        self._draining: asyncio.Task[None] | None = None

    async def next(self, timeout_s: float | None = None) -> tuple[str, Event | None] | None:
        """The next frame's JSON and its event; None: there will be no more. Raises TimeoutError."""
        async with asyncio.timeout(timeout_s):
            return await self.outbox.take()

    async def outcome(self, timeout_s: float) -> Event | None:
        """The terminal frame, or the `refused` of this very record; None: not within `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                while (taken := await self.outbox.take()) is not None:
                    event = taken[1]
                    if event is not None and (event.terminal or event.type == "refused"):
                        return event
        except TimeoutError:
            pass
        return None

    def __enter__(self) -> Listening:
        self._draining = asyncio.create_task(self._drain(), name="stream drain")
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if self._draining is not None:
            self._draining.cancel()
        self.outbox.close()
        self._gateway.router.leave_all(self.reader)

    async def _drain(self) -> None:
        await self._gateway.draining.wait()
        self.outbox.close()
