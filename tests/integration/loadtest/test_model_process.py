"""The scripted model as a process, spoken to by the client library that workers use."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from loadtest.processes import Child
from loadtest.script import answer_text


@pytest.fixture
async def address(tmp_path: Path) -> AsyncIterator[str]:
    child = Child("model", [sys.executable, "-m", "loadtest", "model"], env={}, log=tmp_path / "model.log")
    try:
        yield await child.ready_line()
    finally:
        assert await child.stop() == 0


@pytest.fixture
async def client(address: str) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=address, api_key="none", max_retries=0) as found:
        yield found


async def stats(address: str) -> dict[str, Any]:
    async with httpx.AsyncClient() as web:
        found: dict[str, Any] = (await web.get(address.removesuffix("/v1") + "/stats")).json()
        return found


async def test_twenty_streams_at_once_are_whole_and_bring_their_usage(client: openai.AsyncOpenAI, address: str) -> None:
    async def ask(number: int) -> tuple[str, int]:
        text, counted = "", 0
        stream = await client.chat.completions.create(
            model="scripted",
            messages=[{"role": "user", "content": f'{{"tokens": 40, "rate": 400, "first_ms": 5, "start": {number}}}'}],
            stream=True,
            stream_options={"include_usage": True},
            extra_headers={"x-fleet-session": f"s{number}", "x-fleet-turn": "t1"},
        )
        async for chunk in stream:
            text += "".join(choice.delta.content or "" for choice in chunk.choices)
            counted = chunk.usage.completion_tokens if chunk.usage else counted
        return text, counted

    answers = await asyncio.gather(*(ask(number) for number in range(20)))
    assert answers == [(answer_text(40, number), 40) for number in range(20)]
    found = await stats(address)
    assert (found["completed"], found["tokens"], found["overlaps"]) == (20, 800, [])


async def test_a_closed_stream_is_seen_by_the_server(client: openai.AsyncOpenAI, address: str) -> None:
    stream = await client.chat.completions.create(
        model="scripted",
        messages=[{"role": "user", "content": '{"tokens": 1000, "rate": 100, "first_ms": 1}'}],
        stream=True,
    )
    async for _ in stream:
        break
    await stream.close()
    for _ in range(100):
        found = await stats(address)
        if found["closed_early"]:
            break
        await asyncio.sleep(0.02)
    (early,) = found["closed_early"]
    assert early["tokens_sent"] < 1000


async def test_errors_of_the_script_arrive_as_the_library_knows_them(client: openai.AsyncOpenAI, address: str) -> None:
    rules = {"rules": [{"times": 1, "answer": {"status": 429, "retry_after_s": 2}}, {"answer": {"status": 500}}]}
    async with httpx.AsyncClient() as web:
        await web.post(address.removesuffix("/v1") + "/script", json=rules)
    messages: Any = [{"role": "user", "content": "hi"}]
    with pytest.raises(openai.RateLimitError) as limited:
        await client.chat.completions.create(model="scripted", messages=messages)
    assert limited.value.response.headers["retry-after"] == "2"
    with pytest.raises(openai.InternalServerError):
        await client.chat.completions.create(model="scripted", messages=messages)
    assert [model.id async for model in client.models.list()] == ["scripted"]
