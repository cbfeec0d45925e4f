"""Users over HTTP: they create sessions, post turns, wait, follow event streams, come back elsewhere with the id of the
last event, cancel, read and delete, and hold every answer against contract.md. Know the public protocol alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import orjson

from tests.simulation.asgi import Exchange, Request
from tests.simulation.ledger import TERMINAL
from tests.simulation.visitors import NONE, PATIENCE_S, Line, Mind, Visitor

STATES = {"unseen", "queued", "running", "suspended", "completed", "failed", "cancelled"}
CODES = {404: {"not_found"}, 409: {"exists"}, 503: {"unavailable", "publish_unknown", "overloaded"}}
ALLOWED = {
    "create": {200, 201, 409, 503},
    "turn": {202, 503},
    "turn, waited for": {200, 202, 503},
    "turn, followed": {200, 503},
    "look": {200, 404, 503},
    "events": {200, 404, 503},
    "events after the end": {204, 503},
    "cancel": {202, 404, 503},
    "cancel, waited for": {200, 202, 404, 503},
    "delete": {204, 404, 503},
}
"""What contract.md allows somebody whose requests are well-formed and whose session it is."""


class Caller(Visitor):
    """`_there`: its session exists, for all that it was told; `_doubtful`: a request to delete it had no answer, so
    nothing is known of it any more."""

    _there = _doubtful = False

    async def live(self, clock_s: Callable[[], float]) -> None:
        """Every turn, to its end."""
        if self._chances.random() < 0.5:
            await self._create()
        for at_s, turn, text in self._asks:
            await asyncio.sleep(max(0.0, at_s - clock_s()))
            mind = self._mind(turn)
            while mind.end is None:
                await self._step(turn, text, mind)
                await asyncio.sleep(self._chances.uniform(0.0, 1.0))
            self._there = True
            await self._look_back(turn, text, mind)
        self.done = True

    async def watch(self, clock_s: Callable[[], float], until_s: float) -> None:
        """A second client of the same user, which follows the session."""
        last = ""
        while clock_s() < until_s:
            turn = last.rpartition("~")[0]
            kept = self.minds.get(turn)
            self.minds.clear()  # it says nothing of the others, so it has nothing
            if kept is not None:
                self.minds[turn] = kept
            request = Request("GET", f"/v1/sessions/{self.name}/events", stream=True, after=last)
            last = await self._follow(await self._sent_to(request), "events", last) or last
            await asyncio.sleep(self._chances.uniform(0.1, 1.0))
        self.done = True

    # ---- what it asks

    async def _step(self, turn: str, text: str, mind: Mind) -> None:
        """One request towards the end of a turn."""
        drawn = self._chances.random()
        place = f"/v1/sessions/{self.name}/turns/{turn}"
        if not mind.accepted or drawn < 0.15:
            await self._post(turn, text, mind)
        elif drawn < 0.75:
            after = f"{mind.place[0]}-{mind.place[1]}" if mind.place > NONE else ""
            if not after:
                mind.text = ""
            await self._follow(
                await self._sent_to(Request("GET", f"{place}/events", stream=True, after=after)), "events", after
            )
        elif drawn < 0.9:
            await self._look(turn, mind)
        elif self._weather.happens("cancelled over HTTP", 0.4):
            waits = self._chances.random() < 0.5
            answer = await self._answer(
                "cancel, waited for" if waits else "cancel",
                Request("POST", f"{place}/cancel", "wait_s=2" if waits else "", {"op": f"v-{turn}"}),
            )
            if answer is not None and answer[0] == 200:
                mind.cancelled |= answer[1]["state"] in {"applied", "held"}

    async def _post(self, turn: str, text: str, mind: Mind) -> None:
        how = self._chances.choice(("turn", "turn, waited for", "turn, followed", "turn, followed"))
        query = "wait_s=3" if how == "turn, waited for" else ""
        body = {"turn": turn, "text": text, "agent": self.agent}
        request = Request("POST", f"/v1/sessions/{self.name}/turns", query, body, stream=how == "turn, followed")
        mind.sent += 1
        if how == "turn, followed":
            mind.text, mind.place = "", NONE
            await self._follow(await self._sent_to(request), how, "", turn)
            return
        answer = await self._answer(how, request, turn)
        if answer is None:
            mind.sure = False
        elif answer[0] == 202:
            self._accepted(turn)
            self._expect(turn, answer[1]["turn"] == turn and answer[1]["state"] in STATES, f"202 says {answer[1]}")
        elif answer[0] == 200:
            self._accepted(turn)
            self._ends(turn, mind, answer[2])

    async def _look(self, turn: str, mind: Mind) -> None:
        answer = await self._answer("look", Request("GET", f"/v1/sessions/{self.name}/turns/{turn}"))
        if answer is None or answer[0] != 200:
            return
        shown, stored = answer[1], self._ledger.over.get((self.name, turn), "null")
        self._expect(turn, shown["state"] in STATES and shown["turn"] == turn, f"is shown as {shown}")
        over = shown["result"] is not None
        self._expect(turn, over == (shown["state"] in TERMINAL), f"is {shown['state']}, its result {shown['result']}")
        self._expect(turn, not over or shown["result"] == orjson.loads(stored), f"is {stored}, shown {shown['result']}")

    async def _create(self) -> None:
        """Until it is there."""
        first = True
        while True:
            reject = self._chances.random() < 0.5
            body = {"session": self.name, "agent": self.agent, "if_exists": "reject" if reject else "reuse"}
            answer = await self._answer("create", Request("POST", "/v1/sessions", "", body))
            if answer is not None and answer[0] != 503:
                fits = answer[0] == 201 or not (first or (answer[0] == 409) != reject)
                self._expect("", fits, f"is created: {answer[0]}, rejecting: {reject}, for the first time: {first}")
                self._there = True
                return
            first = False
            await asyncio.sleep(self._chances.uniform(0.1, 1.0))

    async def _look_back(self, turn: str, text: str, mind: Mind) -> None:
        """What is over: no more events, in the history as it was said, and gone when its session is deleted."""
        drawn, place = self._chances.random(), mind.place
        if drawn < 0.3 and place > NONE and mind.seen_end:
            request = Request(
                "GET", f"/v1/sessions/{self.name}/turns/{turn}/events", stream=True, after=f"{place[0]}-{place[1]}"
            )
            await self._answer("events after the end", request)
        elif drawn < 0.6:
            answer = await self._answer("look", Request("GET", f"/v1/sessions/{self.name}/history", "limit=1000"))
            frame = orjson.loads(mind.end or "{}")
            if answer is not None and answer[0] == 200 and frame["type"] == "completed" and not self._doubtful:
                said = [(item["role"], _text(item)) for item in answer[1]["items"] if item["turn"] == turn]
                asked = [("user", text)] if said[:1] == [("user", text)] else []
                whole = "".join(words for role, words in said if role == "assistant")
                self._expect(
                    turn, bool(asked) and whole == frame["text"], f"the history says {said}, the frame {frame}"
                )
        elif drawn < 0.75:
            await self._delete()

    async def _delete(self) -> None:
        first = True
        while True:
            answer = await self._answer("delete", Request("DELETE", f"/v1/sessions/{self.name}"), gone=not first)
            if answer is not None and answer[0] in {204, 404}:
                break
            first, self._doubtful = False, True
            await asyncio.sleep(self._chances.uniform(0.1, 1.0))
        self._there = False
        answer = await self._answer("look", Request("GET", f"/v1/sessions/{self.name}"))
        self._expect("", answer is None or answer[0] != 200 or self._doubtful, "is deleted and shown")

    # ---- what it is answered

    async def _sent_to(self, request: Request) -> Exchange:
        while not (fit := self._fronts()):
            await asyncio.sleep(0.2)
        front = self._chances.choice(fit)
        self._lines += 1
        self._ledger.note(f"{self.name} asks {request.method} {request.path} {request.after} at {front.process.name}")
        return front.ask(request, self.name)

    async def _answer(self, how: str, request: Request, turn: str = "", *, gone: bool = False) -> Any:
        """Status, JSON and bytes; None: there was no answer. `gone`: it may be deleted by now."""
        exchange = await self._sent_to(request)
        hasty = self._weather.happens("hung up", 0.08)
        raw = await exchange.whole(self._chances.uniform(0.0, 0.3) if hasty else PATIENCE_S * 2)
        if raw is None:
            return None
        self._ledger.note(f"{self.name} is answered {exchange.status} {turn}")
        body = orjson.loads(raw) if raw else None
        self._allowed(how, exchange, body, turn, gone=gone)
        return exchange.status, body, raw.decode()

    def _allowed(self, how: str, exchange: Exchange, body: Any, turn: str, *, gone: bool = False) -> None:
        status = exchange.status
        self._expect(turn, status in ALLOWED[how], f"{how} is answered {status}: {body}")
        if status == 404:
            self._expect(turn, not self._there or self._doubtful or gone, f"{how} is answered 404: it is there")
        if status >= 400:
            problem = exchange.headers.get("content-type") == "application/problem+json" and body["status"] == status
            self._expect(turn, problem and body["code"] in CODES[status], f"{how} is answered {status} with {body}")
            self._expect(turn, status != 503 or "retry-after" in exchange.headers, f"{how}: 503 without Retry-After")
            if turn:
                self._expect(turn, body.get("turn", turn) == turn, f"the problem is of another turn: {body}")
                self._failed({"turn": turn, "code": body["code"], "message": body["detail"]}, self._mind(turn))

    async def _follow(self, exchange: Exchange, how: str, after: str, turn: str = "") -> str:
        """An event stream, as long as it lasts or its user likes; the id of its last event."""
        line = Line(f"line {self._lines}", None, self._patience_in_frames())
        last, rest = "", b""
        while line.left > 0 and (chunk := await exchange.next(PATIENCE_S)) is not None:
            rest += chunk
            if exchange.status != 200:
                continue
            *events, rest = rest.split(b"\n\n")
            for event in events:
                last = self._event(line, event.decode(), after) or last
        if exchange.status not in {0, 200} and not exchange.is_cut:
            self._allowed(how, exchange, orjson.loads(rest) if rest else None, turn)
        elif turn and not self._mind(turn).accepted:
            self._mind(turn).sure = False  # it was hung up before there was an answer
        exchange.cut()
        return last

    def _event(self, line: Line, text: str, after: str) -> str:
        """One server-sent event; its id."""
        fields = dict(part.split(": ", 1) for part in text.split("\n") if not part.startswith(":"))
        if not fields:
            return ""
        raw, id_ = fields["data"], fields.get("id", "")
        frame = orjson.loads(raw)
        turn, place = frame["turn"], f"{frame['attempt']}-{frame['seq']}"
        self._expect(turn, id_ in {place, f"{turn}~{place}"}, f"{frame['type']} {place} has the id {id_}")
        known, _, position = after.rpartition("~")
        if position and known in {"", turn} and frame["type"] not in {"reset", "accepted"}:
            attempt, _, seq = position.partition("-")
            before = (int(attempt), int(seq))
            self._expect(turn, (frame["attempt"], frame["seq"]) > before, f"{place} comes again after {after}")
        if self._take(line, frame, raw) is None and frame["type"] == "accepted":
            self._shown(line, frame, raw)
        if frame["type"] in TERMINAL:
            self._mind(turn).seen_end = True
        return id_

    def _ends(self, turn: str, mind: Mind, raw: str) -> None:
        self._expect(turn, mind.end in (None, raw), f"ends as {raw} and as {mind.end}")
        self._expect(turn, orjson.loads(raw)["type"] in TERMINAL, f"is answered {raw}")
        mind.end = raw

    def _patience_in_frames(self) -> int:
        return 1_000_000 if self._weather.fair else self._chances.choice((1, 2, 3, 4, 6, 9, 1_000, 1_000))

    def _expect(self, turn: str, fits: bool, what: str) -> None:
        if not fits:
            self._fail(turn, what)


def _text(item: Any) -> str:
    return "".join(part.get("text", "") for part in item["parts"])
