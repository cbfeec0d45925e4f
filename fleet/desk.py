"""Where a person decides while frames go on coming: one question at a time. Knows no frames and no terminal."""

from __future__ import annotations

import asyncio

from fleet.asking import DENY, Asked, Read, Say, decide
from fleet.conversation import Conversation


class Desk:
    """`read`: how a line is got from the person; None: nobody is there, and everything is denied."""

    def __init__(self, conversation: Conversation, read: Read | None, say: Say) -> None:
        self._conversation = conversation
        self._read = read
        self._say = say
        self._asking: asyncio.Task[None] | None = None

    async def put(self, asked: Asked) -> None:
        """Ask, in place of what was asked before."""
        await self.clear()
        self._asking = asyncio.create_task(self._ask(asked), name="decision")

    async def clear(self) -> None:
        """Ask no longer: it is decided, or nobody looks on."""
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.cancel()
            await asyncio.wait({asking})
            if not asking.cancelled():
                asking.result()

    async def _ask(self, asked: Asked) -> None:
        if self._read is None:
            self._say("a decision is asked for and nobody is at a terminal: denied")
        decision = DENY if self._read is None else await decide(asked, self._read, self._say)
        await self._conversation.decide(asked, decision)
