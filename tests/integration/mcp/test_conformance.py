"""The SDK's reference servers and one of ours, for real: over stdio all of them, over HTTP both eras."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
from collections.abc import AsyncIterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from schemas.parts import FilePart, TextPart, text_of
from tests.support.mcp_hosts import EVERYTHING, PIXEL, Hosted, Served, hosted, lag, ours, script, served
from tests.support.mcp_scene import Scene
from workers.tools.exchange import EXCHANGE, Answer, Exchange, InputNeeded, Question, Resumed

needs_npm = pytest.mark.skipif(not EVERYTHING.exists(), reason="no server-everything: run `make mcp` (needs npm)")
OURS = ("stdio", "http", "http, 2025-11-25")
EVERY = ("stdio", "http")


@pytest.fixture(params=OURS)
async def made(request: pytest.FixtureRequest) -> AsyncIterator[Hosted]:
    """A server of ours, over each transport and in each era."""
    if request.param == "stdio":
        async with hosted(it=ours()) as host:
            yield host
        return
    era = "2025-11-25" if "2025" in request.param else "2026-07-28"
    async with served() as at, hosted(it=at.config(era=era)) as host:
        yield host


@pytest.fixture(params=EVERY)
async def everything(request: pytest.FixtureRequest) -> AsyncIterator[Hosted]:
    """npm's reference server, over both transports."""
    given: dict[str, Any] = {"prefix": "", "others": {"read_only": True, "timeout_s": 20}}
    if request.param == "stdio":
        async with hosted(it={"transport": "stdio", "command": str(EVERYTHING), "args": ["stdio"], **given}) as host:
            yield host
        return
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        str(EVERYTHING), "streamableHttp", env={**os.environ, "PORT": str(port)}, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    try:
        while b"listening" not in (line := await process.stderr.readline()):
            assert line, "server-everything ended"
        async with hosted(it={"transport": "http", "url": f"http://127.0.0.1:{port}/mcp", **given}) as host:
            yield host
    finally:
        process.kill()
        await process.wait()


def free_port() -> int:
    with socket.socket() as line:
        line.bind(("127.0.0.1", 0))
        return int(line.getsockname()[1])


async def test_three_reference_servers_open_side_by_side(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    time, git = script("mcp-server-time"), script("mcp-server-git")
    async with hosted(time=time, git=git, fetch=script("mcp-server-fetch")) as made, lag() as worst:
        tools = await made.tools()
        assert {"get_current_time", "convert_time", "git_status", "git_log", "fetch"} <= set(tools)
        at, status = await asyncio.gather(
            made.call("get_current_time", timezone="Europe/Berlin"), made.call("git_status", repo_path=str(tmp_path))
        )
        assert isinstance(at.data, dict)
        assert at.data["timezone"] == "Europe/Berlin"
        assert "No commits yet" in text_of(status.parts)
        wrong = await made.call("get_current_time", timezone="Nowhere")
        assert wrong.is_error
        assert made.outcomes() == ["done", "done", "error"]
    assert worst[0] < 1.0


async def test_the_fetch_server_reads_a_page_of_this_machine() -> None:
    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "text/plain")
            self.end_headers()
            self.wfile.write(b"what the page says")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Page)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        flags = ("--allow-private-ips", "--ignore-robots-txt")
        async with hosted(it=script("mcp-server-fetch", *flags)) as made:
            page = await made.call("fetch", url=f"http://127.0.0.1:{server.server_port}/", raw=True)
            assert "what the page says" in text_of(page.parts)
    finally:
        server.shutdown()
        server.server_close()


async def test_parts_of_every_kind_come_typed(made: Hosted) -> None:
    answer = await made.call("everything")
    assert answer.parts == (
        TextPart(text="text"),
        FilePart(media_type="image/png", data=PIXEL),
        FilePart(media_type="audio/wav", data=PIXEL),
        TextPart(text="[file:///a.txt]\ninside"),
        FilePart(media_type="application/octet-stream", data=PIXEL, name="file:///b.bin"),
        FilePart(media_type="text/html", url="https://example.com/c", name="c"),
    )
    assert answer.data == {"a": [1, None]}
    assert (await made.call("add", a=1, b=2)).data == {"result": 3}
    assert (await made.call("fail")).is_error
    assert (await made.call("add", a="x")).is_error


async def test_files_beyond_the_policy_are_an_error_that_says_so() -> None:
    async with hosted(it=ours(tools={"everything": {"max_result_bytes": 64}})) as made:
        answer = await made.call("everything")
        assert answer.is_error
        assert "at most 64 are taken: ask for less" in text_of(answer.parts)


async def test_an_answer_of_six_megabytes_is_an_error_and_the_connection_stays(made: Hosted) -> None:
    before = await made.call("process")
    async with lag() as worst:
        answer = await made.call("big", bytes=6_000_000)
    assert answer.is_error
    assert "4194304" in text_of(answer.parts)
    assert await made.call("process") == before
    assert made.outcomes("mcp_openings") == ["opened"]
    assert worst[0] < 1.0


async def test_progress_is_told_to_whoever_asks(made: Hosted) -> None:
    seen: list[tuple[float, float | None, str | None]] = []
    EXCHANGE.set(Exchange(progress=lambda *told: seen.append(told)))
    assert text_of((await made.call("steps")).parts) == "all steps"
    assert seen[0] == (1.0, 3.0, "step 1")
    assert seen[-1] == (3.0, 3.0, "step 3")


async def test_a_cancellation_reaches_the_server(made: Hosted) -> None:
    await made.tools()
    calling = asyncio.create_task(made.call("wait", s=30))
    await asyncio.sleep(0.3)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    while "cancelled" not in text_of((await made.call("ended")).parts):
        await asyncio.sleep(0.05)


@pytest.fixture
async def modern() -> AsyncIterator[tuple[Served, Hosted]]:
    async with served() as at, hosted(it=at.config(era="2026-07-28")) as host:
        yield at, host


async def test_a_question_of_the_newer_era_ends_the_call_and_its_answer_goes_on(modern: tuple[Served, Hosted]) -> None:
    _, made = modern
    with pytest.raises(InputNeeded) as caught:
        await made.call("order", what="shoes")
    assert caught.value.question.message == "Which size of shoes?"
    assert caught.value.question.schema is not None
    assert caught.value.question.schema["required"] == ["size"]
    EXCHANGE.set(Exchange(resumed=Resumed(caught.value.state, Answer(allowed=True, content={"size": "XL"}))))
    assert text_of((await made.call("order", what="shoes")).parts) == "shoes in XL"
    assert made.outcomes() == ["input", "done"]


async def test_who_declines_gets_the_servers_word(modern: tuple[Served, Hosted]) -> None:
    _, made = modern
    with pytest.raises(InputNeeded) as caught:
        await made.call("order", what="shoes")
    EXCHANGE.set(Exchange(resumed=Resumed(caught.value.state, Answer(allowed=False))))
    answer = await made.call("order", what="shoes")
    assert answer.is_error
    assert "declin" in text_of(answer.parts)


async def test_a_server_that_forgot_its_question_is_an_error_that_says_what_to_do(
    modern: tuple[Served, Hosted],
) -> None:
    at, made = modern
    with pytest.raises(InputNeeded) as caught:
        await made.call("order", what="shoes")
    await at.again()
    EXCHANGE.set(Exchange(resumed=Resumed(caught.value.state, Answer(allowed=True, content={"size": "XL"}))))
    answer = await made.call("order", what="shoes")
    assert answer.is_error
    text = "order: the server no longer knows what it asked; nothing was done: call the tool anew"
    assert text_of(answer.parts) == text


@pytest.fixture
async def older() -> AsyncIterator[Hosted]:
    async with served() as at, hosted(it=at.config(era="2025-11-25")) as host:
        yield host


async def test_a_question_of_the_older_era_is_answered_while_the_call_runs(older: Hosted) -> None:
    asked: list[Question] = []

    async def answer(question: Question) -> Answer:
        asked.append(question)
        return Answer(allowed=True, content={"size": "S"})

    EXCHANGE.set(Exchange(ask=answer))
    assert text_of((await older.call("order", what="hats")).parts) == "hats in S"
    assert [question.message for question in asked] == ["Which size of hats?"]


async def test_with_nobody_to_ask_a_question_of_the_older_era_is_declined(older: Hosted) -> None:
    answer = await older.call("order", what="hats")
    assert answer.is_error
    assert "decline" in text_of(answer.parts)


async def test_a_server_that_dies_over_http_is_found_again(modern: tuple[Served, Hosted]) -> None:
    at, made = modern
    before = text_of((await made.call("process")).parts)
    await at.again()
    answers = [await asyncio.wait_for(_until_done(made, "process"), 20) for _ in range(2)]
    assert before not in answers
    assert len(set(answers)) == 1


async def _until_done(made: Hosted, name: str) -> str:
    from schemas.errors import RetryableError

    while True:
        try:
            return text_of((await made.call(name)).parts)
        except (RetryableError, KeyError):
            await asyncio.sleep(0.1)


@needs_npm
async def test_server_everything_over_both_transports(everything: Hosted) -> None:
    tools = await everything.tools()
    assert {"echo", "get-sum", "get-tiny-image", "get-structured-content"} <= set(tools)
    assert text_of((await everything.call("echo", message="hello")).parts) == "Echo: hello"
    assert "7" in text_of((await everything.call("get-sum", a=3, b=4)).parts)
    image = await everything.call("get-tiny-image")
    assert [part.media_type for part in image.parts if isinstance(part, FilePart)] == ["image/png"]
    structured = await everything.call("get-structured-content", location="New York")
    assert isinstance(structured.data, dict)
    assert everything.outcomes() == ["done"] * 4
    assert everything.host.servers["it"].left == ()


@needs_npm
async def test_server_everything_tells_how_far_it_is(everything: Hosted) -> None:
    seen: list[float] = []
    EXCHANGE.set(Exchange(progress=lambda done, total, message: seen.append(done)))
    answer = await everything.call("trigger-long-running-operation", duration=1, steps=4)
    assert not answer.is_error
    assert seen[-1] == 4.0


@needs_npm
@pytest.mark.parametrize("allowed", [True, False])
async def test_server_everything_asks_its_user_while_the_call_runs(everything: Hosted, allowed: bool) -> None:
    scene = Scene(everything, "trigger-elicitation-request")
    (asked,) = await scene.asked()
    assert asked["message"] == "Please provide inputs for the following fields:"
    scene.decide(asked["call"], allowed=allowed, answer={"name": "Ann", "integer": 42, "color": None})
    text = await scene.text()
    if allowed:
        assert "Name: Ann" in text and "Favorite Integer: 42" in text and "Favorite Color" not in text
    else:
        assert "declined" in text
    assert everything.outcomes() == ["done"]


@needs_npm
async def test_server_everything_sends_nobody_to_an_address(everything: Hosted) -> None:
    scene = Scene(everything, "trigger-url-elicitation", url="https://example.com/", errorPath=False)
    assert "decline" in await scene.text()
    assert scene.frames("approval_requested") == []
