"""Connections over time: shared or not, lazy, idle, dead; and no process is left behind, whatever ends its worker."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterable
from pathlib import Path

import psutil
import pytest

from schemas.errors import RetryableError
from schemas.parts import text_of
from tests.support.mcp_hosts import HOSTILE, hosted, hostile, ours, session
from workers.mcp.lease import Away

ROOT = Path(__file__).resolve().parents[3]


async def gone(pids: Iterable[int], within_s: float = 10.0) -> None:
    """Until none of these processes runs."""
    async with asyncio.timeout(within_s):
        while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids):
            await asyncio.sleep(0.02)


async def test_nothing_is_opened_before_it_is_asked_for_and_nothing_stays() -> None:
    async with hosted(it=hostile()) as made:
        await asyncio.sleep(0.1)
        assert made.told == []
        pid = int(text_of((await made.call("pid")).parts))
        assert made.host.open_leases == 1
    assert not psutil.pid_exists(pid)
    assert made.outcomes("mcp_openings") == ["opened", "closed"]


async def test_a_warm_server_is_open_before_its_first_turn() -> None:
    async with hosted(it=hostile(warm=True), cold=hostile(prefix="cold_")) as made:
        made.host.warm_up()
        await made.until("mcp_openings", "opened")
        assert made.host.open_leases == 1


async def test_sessions_share_a_connection_and_its_process() -> None:
    async with hosted(it=hostile()) as made:
        counts = [text_of((await made.call("count", session(name))).parts) for name in ("a", "b", "a")]
        assert counts == ["1", "2", "3"]
        assert made.host.open_leases == 1


async def test_a_server_that_keeps_state_has_a_connection_for_each_session() -> None:
    async with hosted(it=hostile(lease="session")) as made:
        counts = [text_of((await made.call("count", session(name))).parts) for name in ("a", "b", "a")]
        assert counts == ["1", "1", "2"]
        assert text_of((await made.call("count", session("a", tenant="other"))).parts) == "1"
        assert made.host.open_leases == 3


async def test_the_connection_that_rests_longest_makes_room() -> None:
    async with hosted(it=hostile(lease="session", most_leases=2)) as made:
        pids = [int(text_of((await made.call("pid", session(name))).parts)) for name in ("a", "b", "a", "c")]
        assert pids[0] == pids[2]
        await gone({pids[1]})
        assert text_of((await made.call("pid", session("a"))).parts) == str(pids[0])


async def test_where_all_connections_are_in_use_the_call_is_told_so() -> None:
    async with hosted(it=hostile(lease="session", most_leases=1)) as made:
        busy = asyncio.create_task(made.call("slow", session("a"), s=0.5))
        while not made.host.open_leases:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        tools = await made.tools(session("b"))
        with pytest.raises(Away, match="all of its 1 connections are in use"):
            await tools["good"].call({})
        assert text_of((await busy).parts) == "slow"


async def test_an_idle_connection_is_closed_and_the_next_call_opens_another() -> None:
    async with hosted(it=hostile(idle_s=0.2)) as made:
        first = int(text_of((await made.call("pid")).parts))
        await made.until("mcp_openings", "closed")
        assert not psutil.pid_exists(first)
        tools = await made.tools()  # offered as it was: nothing is opened only to ask
        assert made.host.open_leases == 0
        assert text_of((await tools["pid"].call({})).parts) != str(first)


async def test_calls_beyond_the_limit_wait() -> None:
    async with hosted(it=ours(most_calls=2)) as made:
        tools = await made.tools()
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.gather(*(tools["wait"].call({"s": 0.3}) for _ in range(4)))
        assert loop.time() - began >= 0.6


async def test_a_killed_server_is_opened_again_at_once() -> None:
    async with hosted(it=hostile()) as made:
        first = int(text_of((await made.call("pid")).parts))
        os.kill(first, signal.SIGKILL)
        await made.until("mcp_openings", "lost")
        second = int(text_of((await made.call("pid")).parts))
        assert second != first


async def test_closing_ends_the_whole_process_group_even_of_one_that_ignores_it() -> None:
    async with hosted(it=hostile("ignores-eof")) as made:
        pid = int(text_of((await made.call("pid")).parts))
        grandchild = int(text_of((await made.call("grandchild")).parts))
        assert psutil.pid_exists(grandchild)
    await gone({pid, grandchild})


async def test_what_a_dead_server_started_goes_with_it() -> None:
    async with hosted(it=hostile()) as made:
        grandchild = int(text_of((await made.call("grandchild")).parts))
        with pytest.raises(RetryableError):
            await made.call("die")
        await gone({grandchild})


WORKER = """
import asyncio
from tests.support.mcp_hosts import hosted, hostile
from schemas.parts import text_of

async def main():
    async with hosted(it=hostile("ignores-eof"), other=hostile("ignores-eof", prefix="other_")) as made:
        for name in ("pid", "other_pid", "grandchild", "other_grandchild"):
            print(text_of((await made.call(name)).parts), flush=True)
        await asyncio.sleep(3600)

asyncio.run(main())
"""


async def test_no_server_outlives_a_worker_that_is_killed() -> None:
    worker = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WORKER)], stdout=subprocess.PIPE, cwd=ROOT, text=True
    )
    assert worker.stdout is not None
    pids = [int(await asyncio.to_thread(worker.stdout.readline)) for _ in range(4)]
    assert all(HOSTILE in " ".join(psutil.Process(pid).cmdline()) for pid in pids[:2])
    worker.kill()
    worker.wait()
    worker.stdout.close()
    await gone(pids)


async def test_a_cancellation_of_the_owners_task_ends_that_connection_alone() -> None:
    """As the SDK does it when a server dies over HTTP: the body of the owner's `async with` is cancelled."""
    async with hosted(it=hostile(), other=hostile(prefix="other_")) as made:
        await made.call("good")
        owner = next(task for task in asyncio.all_tasks() if task.get_name() == "mcp it")
        owner.cancel()
        await made.until("mcp_openings", "lost")
        assert text_of((await made.call("good")).parts) == "good works"
        assert text_of((await made.call("other_good")).parts) == "good works"
