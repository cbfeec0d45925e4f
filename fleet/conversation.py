"""A session over the gateway's WebSocket: one turn after the other, through lost connections. Knows no terminal."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.parse import quote

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

from fleet.answer import Answer, Sight
from fleet.asking import Asked, Decision
from fleet.exits import CommandError, Exit
from schemas.ids import mint

SUBPROTOCOL = "turnfleet.v1"
# Closing codes after which the same client would only be closed again.
BREACHES = frozenset({1003, 1007, 1009, 4401})
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0
RETRIES = 8


class Conversation:
    """`address` is `http://host:port`. `note` gets a sentence when the connection is lost or back."""

    def __init__(
        self,
        address: str,
        *,
        session: str,
        user: str,
        agent: str | None = None,
        patience_s: float = 30.0,
        note: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.session = session
        self._address = address
        self._url = f"{address.replace('http', 'ws', 1)}/v1/ws?user={quote(user, safe='')}"
        self._agent = agent
        self._patience_s = patience_s
        self._note = note
        self._socket: ClientConnection | None = None
        self._answer: Answer | None = None
        self._decision: dict[str, Any] | None = None
        self._cancel: dict[str, Any] | None = None

    async def ask(self, text: str) -> AsyncIterator[Sight]:
        """Say `text`; what is to be seen as it comes. Afterwards `end` tells how the turn ended."""
        answer = self._answer = Answer(mint())
        self._decision = self._cancel = None
        turn = {"type": "turn", "session": self.session, "turn": answer.turn, "text": text, "ref": answer.turn}
        if self._agent:
            turn["agent"] = self._agent
        retries = 0
        await self._send(turn)
        await self._send_pending()
        while answer.end is None:
            frame = await self._receive()
            if frame is None:
                await self._reconnect()
                await self._send(self._attach(answer) if answer.accepted else turn)
                await self._send_pending()
            elif (decision := self._decision_of(frame)) is not None:
                for sight in await self._told(answer, decision, frame):
                    yield sight
            elif frame["type"] == "error" and frame.get("ref", frame.get("turn")) == answer.turn:
                retries += 1
                if frame.get("retry") != "same_turn" or retries > RETRIES:
                    answer.end = frame
                else:
                    await asyncio.sleep((frame.get("retry_after_ms") or 500) / 1000)
                    await self._send(turn)
            else:
                for sight in _sights(answer, frame):
                    yield sight

    @property
    def end(self) -> dict[str, Any] | None:
        """The frame that ended the last turn: completed, failed, cancelled, refused or error."""
        return None if self._answer is None or self._answer.end is None else dict(self._answer.end)

    async def cancel(self) -> None:
        """Ask for the running turn to be cancelled; its end comes out of `ask`."""
        if self._answer is not None and self._answer.end is None:
            self._cancel = {"type": "cancel", "session": self.session, "turn": self._answer.turn, "op": mint()}
            await self._send_now(self._cancel)

    async def decide(self, asked: Asked, decision: Decision) -> None:
        """Send what was decided; sent again until the gateway says what became of it."""
        if self._answer is not None and self._answer.end is None:
            op = mint()
            place = {"session": self.session, "turn": self._answer.turn, "call": asked.call}
            self._decision = {"type": "approve", **place, **decision, "op": op, "ref": op}
            await self._send_now(self._decision)

    async def _send_now(self, frame: dict[str, Any]) -> None:
        if self._socket is not None:  # else `ask` is about to connect, and sends it then
            await self._send(frame)

    async def _send_pending(self) -> None:
        """After the turn, and after every attach: an op that is sent twice has one effect."""
        for frame in (self._decision, self._cancel):
            if frame is not None:
                await self._send(frame)

    def _decision_of(self, frame: dict[str, Any]) -> dict[str, Any] | None:
        """The decision that this frame is about."""
        decision = self._decision
        return decision if decision is not None and decision["op"] in {frame.get("op"), frame.get("ref")} else None

    async def _told(self, answer: Answer, decision: dict[str, Any], frame: dict[str, Any]) -> list[Sight]:
        """What became of a decision; asked again where it was not taken and still can be."""
        if frame["type"] == "error" and frame.get("retry") == "same_turn":
            await asyncio.sleep((frame.get("retry_after_ms") or 500) / 1000)
            await self._send(decision)
            return []
        self._decision = None
        asked = answer.asked
        if frame.get("state") in {"applied", "held"} or asked is None or asked.call != decision["call"]:
            return []
        if frame["type"] == "error" or frame.get("state") == "refused":
            self._note(f"the decision was not taken: {frame.get('message') or 'refused'}")
            return [asked]
        return []  # too late: what was decided comes as a frame

    async def open(self) -> None:
        """Connect. Raises CommandError(UNREACHABLE)."""
        if self._socket is None:
            await self._reconnect(patience_s=min(3.0, self._patience_s), quiet=True)

    async def close(self) -> None:
        """Leave. The running turn goes on without us."""
        if self._socket is not None:
            await self._socket.close()
            self._socket = None

    def _attach(self, answer: Answer) -> dict[str, Any]:
        return {"type": "attach", "session": self.session, "turn": answer.turn, "after": answer.after}

    async def _send(self, frame: dict[str, Any]) -> None:
        await self.open()
        assert self._socket is not None
        with contextlib.suppress(ConnectionClosed):  # the next receive sees it and sends again
            await self._socket.send(json.dumps(frame))

    async def _receive(self) -> dict[str, Any] | None:
        """The next frame; None when the connection is lost. Raises CommandError when it makes no sense to go on."""
        assert self._socket is not None
        try:
            frame = json.loads(await self._socket.recv())
        except ConnectionClosed as closed:
            code = closed.rcvd.code if closed.rcvd is not None else 1006
            if code in BREACHES:
                raise CommandError(Exit.UNREACHABLE, f"the gateway closed the connection for good ({closed})") from None
            self._socket = None
            return None
        return frame if isinstance(frame, dict) and "type" in frame else {"type": "unknown"}

    async def _reconnect(self, *, patience_s: float | None = None, quiet: bool = False) -> None:
        pause_s = FIRST_PAUSE_S
        loop = asyncio.get_running_loop()
        give_up_s = loop.time() + (self._patience_s if patience_s is None else patience_s)
        if not quiet:
            self._note("the connection is lost, connecting again")
        while self._socket is None:
            try:
                self._socket = await connect(self._url, subprotocols=[SUBPROTOCOL], max_size=2**21, proxy=None)  # type: ignore[list-item]
            except (OSError, InvalidHandshake, InvalidMessage, TimeoutError) as error:
                if loop.time() + pause_s > give_up_s:
                    advice = "start it with `fleet up`, or set FLEET_GATEWAY_HOST and FLEET_GATEWAY_PORT"
                    text = f"no gateway answers at {self._address} ({error}): {advice}"
                    raise CommandError(Exit.UNREACHABLE, text) from None
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)


def _sights(answer: Answer, frame: dict[str, Any]) -> list[Sight]:
    if frame["type"] == "recovered":
        return answer.recovered(frame)
    if frame["type"] == "refused" and frame.get("turn") == answer.turn:
        answer.end = frame
        return []
    return answer.take(frame)
