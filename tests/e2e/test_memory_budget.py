"""A real worker that is sent more than it may hold at once: it pauses instead of growing, and loses nothing. On Apache
Kafka: the embedded broker answers a fetch with all that it has, whatever was asked for."""

from __future__ import annotations

import asyncio
import contextlib
import os
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from tests.e2e import clients
from tests.e2e.fleet_process import FleetUp
from tests.support.kafka_jvm import KafkaAddress, apache_kafka

__all__ = ["apache_kafka"]

BUDGET_MIB, TURNS, TEXT_BYTES = 320, 1_500, 150_000
MIB = 1_048_576
Make = Callable[..., FleetUp]


@contextlib.asynccontextmanager
async def watched(pid: int) -> AsyncIterator[list[float]]:
    """What is resident of a process, in MiB, twenty times a second."""
    seen: list[float] = []

    async def watch() -> None:
        while True:
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            seen.append(pages * os.sysconf("SC_PAGE_SIZE") / MIB)
            await asyncio.sleep(0.05)

    task = asyncio.create_task(watch())
    yield seen
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
async def test_a_worker_stays_within_its_memory_budget_and_loses_nothing(
    fresh: Make, apache_kafka: KafkaAddress
) -> None:
    prefix = f"memory-{uuid.uuid4().hex[:6]}-"
    settings = {"kafka_bootstrap": apache_kafka.address, "topic_prefix": prefix}
    up = fresh(workers=1, worker_slots="1", worker_memory_mib=str(BUDGET_MIB), **settings)
    await asyncio.to_thread(up.start)
    pid = up.pid("worker 1")
    async with clients.Kafka(apache_kafka.address, prefix) as kafka, watched(pid) as resident:
        text = "x" * TEXT_BYTES
        for begin in range(0, TURNS, 50):
            turns = [kafka.publish(f"s{n}", {"turn": f"t{n}", "text": text}) for n in range(begin, begin + 50)]
            await asyncio.gather(*turns)
        await kafka.until(TURNS, timeout_s=120)
        assert {frame["type"] for frames in kafka.ends.values() for frame in frames} == {"completed"}
    print(f"{resident[0]:.0f} MiB at rest, {max(resident):.0f} at most, {resident[-1]:.0f} at the end")
    assert max(resident) < BUDGET_MIB
    log = (up.data / "logs" / "worker-1.log").read_text()
    assert f"of {BUDGET_MIB} MiB used: no more turns are read" in log
    assert up.pid("worker 1") == pid
