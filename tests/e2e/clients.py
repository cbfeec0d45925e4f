"""Outside clients: a plain WebSocket, plain HTTP, a plain Kafka producer and consumer. None of our code."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from websockets.asyncio.client import ClientConnection, connect

TERMINAL = {"completed", "failed", "cancelled"}
Frame = dict[str, Any]


@contextlib.asynccontextmanager
async def socket(address: str, user: str = "anonymous") -> AsyncIterator[ClientConnection]:
    """A WebSocket past its hello."""
    url = f"{address.replace('http', 'ws', 1)}/v1/ws?user={user}"
    async with connect(url, subprotocols=["turnfleet.v1"], proxy=None) as connection:  # type: ignore[list-item]
        hello = json.loads(await connection.recv())
        assert hello["type"] == "hello"
        yield connection


async def say(connection: ClientConnection, session: str, text: str, **more: Any) -> list[Frame]:
    """One turn over the WebSocket: every frame up to its end."""
    await connection.send(json.dumps({"type": "turn", "session": session, "text": text, **more}))
    frames: list[Frame] = []
    async with asyncio.timeout(30):
        while not frames or frames[-1]["type"] not in TERMINAL | {"error"}:
            frames.append(json.loads(await connection.recv()))
    return frames


def http(address: str, user: str = "anonymous") -> httpx.AsyncClient:
    """A client with the development identity."""
    return httpx.AsyncClient(base_url=address, headers={"X-Fleet-User": user}, timeout=40, trust_env=False)


async def history(client: httpx.AsyncClient, session: str) -> list[tuple[str, str]]:
    """(role, text) of every message of a session."""
    items: list[Frame] = []
    after: str | None = ""
    while after is not None:
        answer = await client.get(f"/v1/sessions/{session}/history", params={"after": after} if after else {})
        answer.raise_for_status()
        page = answer.json()
        items += page["items"]
        after = page.get("next")
    return [(item["role"], "".join(part.get("text", "") for part in item["parts"])) for item in items]


class Kafka:
    """Produces turns and collects every frame of `agent.replies` that comes after its start."""

    def __init__(self, bootstrap: str, prefix: str = "") -> None:
        self._prefix = prefix
        self._producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True)
        self._consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
        self.frames: dict[tuple[str, str], list[Frame]] = defaultdict(list)
        self.ends: dict[str, list[Frame]] = defaultdict(list)
        self._seen: set[tuple[str, str, int, int, str]] = set()
        self._changed = asyncio.Event()
        self._ending = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Kafka:
        async with contextlib.AsyncExitStack() as ending:
            await self._start(ending)
            self._ending = ending.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._ending.aclose()

    async def _start(self, ending: contextlib.AsyncExitStack) -> None:
        """What was begun is ended, also where a later step fails."""
        ending.push_async_callback(self._producer.stop)
        await self._producer.start()
        ending.push_async_callback(self._consumer.stop)
        await self._consumer.start()
        topic = self._prefix + "agent.replies"
        partitions = await self._producer.partitions_for(topic)
        assigned = [TopicPartition(topic, number) for number in partitions]
        self._consumer.assign(assigned)
        await self._consumer.seek_to_end(*assigned)
        for one in assigned:
            await self._consumer.position(one)
        reader = asyncio.create_task(self._read())
        ending.push_async_callback(_cancelled, reader)

    async def publish(self, session: str, value: Any, headers: Sequence[tuple[str, bytes]] = ()) -> Any:
        """One record; JSON unless it is bytes. Waits for the ack."""
        raw = value if isinstance(value, bytes) else json.dumps(value).encode()
        return await self._producer.send_and_wait(
            self._prefix + "agent.turns", raw, key=session.encode(), headers=list(headers)
        )

    async def end_of(self, session: str, turn: str, *, timeout_s: float = 30.0) -> Frame:
        """The terminal frame of a turn."""
        async with asyncio.timeout(timeout_s):
            while True:
                found = [frame for frame in self.frames[session, turn] if frame["type"] in TERMINAL]
                if found:
                    return found[0]
                self._changed.clear()
                await self._changed.wait()

    async def until(self, count: int, *, timeout_s: float) -> None:
        """Until so many different terminal frames have come."""
        async with asyncio.timeout(timeout_s):
            while sum(map(len, self.ends.values())) < count:
                self._changed.clear()
                await self._changed.wait()

    async def _read(self) -> None:
        while True:
            for records in (await self._consumer.getmany(timeout_ms=500)).values():
                for record in records:
                    self._take(json.loads(record.value))
            self._changed.set()

    def _take(self, frame: Frame) -> None:
        """A frame may come twice; it counts once."""
        if "turn" not in frame or "attempt" not in frame:
            return
        place = (frame["session"], frame["turn"], frame["attempt"], frame["seq"], frame["type"])
        if place in self._seen:
            return
        self._seen.add(place)
        self.frames[frame["session"], frame["turn"]].append(frame)
        if frame["type"] in TERMINAL:
            self.ends[frame["session"]].append(frame)


async def _cancelled(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
