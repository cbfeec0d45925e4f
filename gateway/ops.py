"""Control ops: published to `agent.control`, answered by the session's owner with an `ack`. Knows no socket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from broker.port import Outgoing
from gateway.event import Event
from gateway.publishing import Publishing
from gateway.router import Router
from schemas.codec import control_headers, encode_control
from schemas.control import Control

CONTROL = "agent.control"


class Ops:
    """Publishes and waits."""

    def __init__(self, publishing: Publishing, router: Router) -> None:
        self._publishing = publishing
        self._router = router

    async def perform(
        self, session: str, control: Control, *, wait_s: float, at_once: Callable[[Event], None] | None = None
    ) -> Event | None:
        """Publish the op; its ack, or None when none came within `wait_s` (it may still be carried out).

        `at_once` is called with the ack before any later frame is delivered. Raises PublishRefusal. The same op id may
        be sent again: it is carried out once.
        """
        answered: asyncio.Future[Event] = asyncio.get_running_loop().create_future()

        def on_ack(event: Event) -> None:
            if not answered.done():
                answered.set_result(event)
                if at_once is not None:
                    at_once(event)

        self._router.expect_ack(control.op, on_ack)
        try:
            await self._send(session, control)
            if wait_s <= 0:
                return answered.result() if answered.done() else None
            async with asyncio.timeout(wait_s):
                return await answered
        except TimeoutError:
            return None
        finally:
            self._router.forget_ack(control.op)

    async def _send(self, session: str, control: Control) -> None:
        address, now = self._publishing.address, self._publishing.clock_ms()
        headers = control_headers(control.op, source=address.source, now_ms=now, reply_to=address.reply_to)
        outgoing = Outgoing(CONTROL, session.encode(), encode_control(control), headers=headers)
        await self._publishing.send(outgoing, what="control", turn=getattr(control, "turn", None))
