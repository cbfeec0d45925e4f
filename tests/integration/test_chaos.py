"""A chaos run on real processes, as it is typed: load, faults, history and report; and a process that is broken."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fleet.chaos.link import SLOW_S, THROTTLED, Link, Route
from fleet.chaos.process import Process
from loadtest.processes import Child, PartFailed
from tests.support.kafka_jvm import missing_tools

SLEEPS = [sys.executable, "-c", "import time; print('ready x', flush=True); time.sleep(60)"]
ENDS = [sys.executable, "-c", "raise SystemExit(3)"]


async def line(child: Child) -> None:
    await child.ready_line()


async def test_a_process_is_killed_and_comes_back(tmp_path: Path) -> None:
    process = Process("part", SLEEPS, env={}, log=tmp_path / "part.log", ready=line)
    await process.start()
    first = process.child.pid
    await process.kill()
    with pytest.raises(PartFailed):
        _ = process.child
    await process.revive()

    assert process.child.pid != first
    process.freeze()
    await process.end()
    assert not process.deaths


async def test_one_that_ends_by_itself_is_told_of(tmp_path: Path) -> None:
    process = Process("part", ENDS, env={}, log=tmp_path / "part.log", ready=line)
    with pytest.raises(PartFailed, match="ended with exit code 3"):
        await process.start()


@pytest.mark.timeout(240)
@pytest.mark.parametrize(
    ("kafka", "faults", "least_faults"),
    [
        pytest.param("apache", "kill,freeze,drain,gateway,poison", 3, marks=pytest.mark.kafka_jvm),
        ("embedded", "gateway,gateway-drain,model", 2),  # its groups do not survive worse, see docs/reliability.md
    ],
)
def test_a_short_run_keeps_every_promise(tmp_path: Path, kafka: str, faults: str, least_faults: int) -> None:
    if kafka == "apache" and (lacking := missing_tools()) is not None:
        pytest.skip(lacking)
    command = [sys.executable, "-m", "fleet", "chaos", "run", "--minutes", "0.7", "--seed", "5", "--rate", "15"]
    command += ["--faults", faults, "--every-s", "2.5", "--kafka", kafka]
    command += ["--least", "100", "--out", str(tmp_path / "report"), "--json"]
    bare = {name: value for name, value in os.environ.items() if not name.startswith("FLEET_")}
    done = subprocess.run(
        command, cwd=tmp_path, env={**bare, "TMPDIR": str(tmp_path)}, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-3_000:]
    report = json.loads(done.stdout)
    assert report == json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["passed"]
    assert report["load"]["outcomes"]["completed"] >= 100
    assert report["verdict"]["clean"]
    assert sum(not fault["skipped"] for fault in report["faults"]) >= least_faults
    assert (tmp_path / "report" / "report.html").read_text().count("<svg") == 3
    assert (tmp_path / "report" / "logs" / "worker-1.log").exists()
    assert list(tmp_path.glob("turnfleet-*")) == []


@pytest.fixture
async def echo() -> AsyncIterator[Link]:
    """A link to a server that sends back what it gets."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    link = Link("to the echo", "127.0.0.1", server.sockets[0].getsockname()[1])
    await link.start()
    yield link
    await link.stop()
    server.close()


async def test_a_link_lets_everything_through_and_late_when_it_is_slow(echo: Link) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", echo.port)
    writer.write(b"one")
    assert await reader.readexactly(3) == b"one"
    echo.slow()
    begun_s = time.monotonic()
    writer.write(b"two")
    assert await reader.readexactly(3) == b"two"
    assert time.monotonic() - begun_s >= 2 * SLOW_S
    writer.close()


async def test_a_throttled_link_lets_so_much_through_in_a_second_of_all_connections(echo: Link) -> None:
    pairs = [await asyncio.open_connection("127.0.0.1", echo.port) for _ in range(2)]
    echo.throttle()
    begun_s = time.monotonic()
    for _, writer in pairs:
        writer.write(b"x" * (THROTTLED // 8))
    await asyncio.gather(*(reader.readexactly(THROTTLED // 8) for reader, _ in pairs))
    assert time.monotonic() - begun_s >= 0.37  # 1/8 s each, one after the other, and 1/8 s back; alone it were 2/8 s
    echo.mend()
    begun_s = time.monotonic()
    pairs[0][1].write(b"x" * THROTTLED)
    await pairs[0][0].readexactly(THROTTLED)
    assert time.monotonic() - begun_s < 0.5
    for _, writer in pairs:
        writer.close()


async def test_the_links_of_a_route_break_together(echo: Link) -> None:
    other = Link("another", "127.0.0.1", echo.port)
    route = Route("both", [echo, other])
    route.busy = True
    route.throttle()
    assert (echo.busy, other.busy, echo.bytes_per_s, other.bytes_per_s) == (True, True, THROTTLED, THROTTLED)
    route.mend()
    route.busy = False
    assert (echo.busy, other.busy, echo.bytes_per_s, other.bytes_per_s) == (False, False, 0, 0)


async def test_a_link_that_is_cut_resets_and_refuses_until_it_is_mended(echo: Link) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", echo.port)
    writer.write(b"one")
    await reader.readexactly(3)
    echo.cut()
    with contextlib.suppress(ConnectionResetError):
        assert await reader.read() == b""
    again, other = await asyncio.open_connection("127.0.0.1", echo.port)
    with contextlib.suppress(ConnectionResetError):
        assert await again.read() == b""
    echo.mend()
    third, last = await asyncio.open_connection("127.0.0.1", echo.port)
    last.write(b"two")
    assert await third.readexactly(3) == b"two"
    for one in (writer, other, last):
        one.close()


async def test_what_is_sent_into_a_held_link_arrives_when_it_is_mended(echo: Link) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", echo.port)
    writer.write(b"one")
    await reader.readexactly(3)
    echo.hold()
    writer.write(b"two")
    late, other = await asyncio.open_connection("127.0.0.1", echo.port)
    other.write(b"new")
    for waiting in (reader, late):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(waiting.readexactly(3), 0.2)
    echo.mend()
    assert await reader.readexactly(3) == b"two"
    assert await late.readexactly(3) == b"new"
    writer.close()
    other.close()
