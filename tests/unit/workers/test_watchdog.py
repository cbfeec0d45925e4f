"""A blocked loop is seen, told once and ended in time; a process that was only stopped is not."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from schemas.settings import KafkaSettings, WorkerSettings
from tests.support.stage import Stage
from workers.agent import AgentTurn
from workers.context import Context
from workers.watchdog import BLOCKED, Limits, Watchdog

LIMITS = Limits(warn_s=1.0, end_s=8.0, grace_s=2.0)


class Dog:
    """A watchdog whose clocks move when told; what it did, in order."""

    def __init__(self, limits: Limits = LIMITS) -> None:
        self.now_s = 100.0
        self.cpu_s = 5.0
        self.done: list[object] = []
        self.watchdog = Watchdog(
            limits,
            leave=lambda grace_s: self.done.append(("leave", grace_s)),
            count=lambda: self.done.append("count"),
            clock_s=lambda: self.now_s,
            cpu_s=lambda: self.cpu_s,
            end=self.done.append,
        )

    def run(self, seconds: float, *, beating: bool = False) -> None:
        """Look as often as its thread does."""
        for _ in range(round(seconds / LIMITS.beat_s)):
            self.now_s += LIMITS.beat_s
            if beating:
                self.watchdog.beat()
            self.watchdog.look()

    def absent(self, seconds: float, *, burning: bool = False) -> None:
        """No thread of the process runs for so long: it is stopped, or code keeps the lock (`burning`)."""
        self.now_s += seconds
        self.cpu_s += seconds if burning else 0.0
        self.watchdog.look()


def test_a_loop_that_goes_on_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    dog = Dog()
    dog.run(100, beating=True)
    assert (dog.done, caplog.text) == ([], "")


def test_a_blocked_loop_is_told_once_and_again_when_it_blocks_again(caplog: pytest.LogCaptureFixture) -> None:
    dog = Dog()
    dog.run(0.75)
    assert dog.done == []
    dog.run(4)
    assert dog.done == ["count"]
    dog.run(1, beating=True)
    assert "the loop goes on after 5.0 s" in caplog.text
    dog.run(2)
    assert dog.done == ["count", "count"]
    assert caplog.text.count("has been blocked") == 2


def test_a_loop_that_stays_blocked_leaves_the_group_and_ends_before_the_session_does(
    caplog: pytest.LogCaptureFixture,
) -> None:
    dog = Dog()
    dog.run(7.75)
    assert dog.done == ["count"]
    dog.run(0.25)
    assert dog.done == ["count", ("leave", 1.0), BLOCKED]
    assert "the loop has been blocked for 8.0 s: this worker leaves the group and ends" in caplog.text


@pytest.mark.parametrize("timeout_ms", [1_000, 6_000, 10_000, 1_800_000])
@pytest.mark.parametrize("share", [0.1, 0.8, 0.9])
def test_the_end_and_its_grace_lie_within_the_session_timeout(timeout_ms: int, share: float) -> None:
    limits = Limits.of(WorkerSettings(worker_stall_share=share), KafkaSettings(kafka_session_timeout_ms=timeout_ms))
    assert limits.end_s + limits.grace_s <= timeout_ms / 1_000 + 1e-9
    assert limits.warn_s <= limits.end_s
    assert 2 * limits.beat_s < limits.end_s


@pytest.mark.parametrize("gap_s", [5.0, 60.0, 3_600.0])
def test_a_process_that_was_stopped_is_no_blocked_loop(gap_s: float) -> None:
    dog = Dog()
    dog.run(1, beating=True)
    dog.absent(gap_s)
    dog.run(0.25)
    assert dog.done == []
    dog.run(7)
    assert dog.done == ["count"]
    dog.run(0.5)
    assert dog.done[-1] == BLOCKED, "what it does after it was woken counts"


def test_code_that_keeps_the_lock_of_the_interpreter_counts_although_nobody_could_look() -> None:
    dog = Dog()
    dog.run(1, beating=True)
    dog.absent(9.0, burning=True)
    assert dog.done[-1] == BLOCKED


@pytest.mark.parametrize("who", ["itself", "a task that it started"])
async def test_whoever_blocks_is_named_with_session_turn_agent_and_stack(
    who: str, caplog: pytest.LogCaptureFixture
) -> None:
    dog = Dog()

    def stuck() -> None:
        other = threading.Thread(target=lambda: dog.run(2))
        other.start()
        other.join()

    async def child() -> None:
        stuck()

    async def agent(turn: AgentTurn, ctx: Context) -> str:
        if who != "itself":
            await asyncio.create_task(child())
        else:
            stuck()
        return "done"

    stage = Stage(agent)
    dog.watchdog.attach()
    assert (await stage.play()).outcome == "completed"
    (record,) = [one for one in caplog.records if "blocked" in one.message]
    assert (record.levelno, record.session, record.turn, record.agent) == (logging.ERROR, "s1", "t1", "test")  # type: ignore[attr-defined]
    assert "in stuck" in record.stack  # type: ignore[attr-defined]


def test_a_log_that_nobody_reads_delays_the_end_and_does_not_prevent_it() -> None:
    dog = Dog(Limits(warn_s=1.0, end_s=8.0, grace_s=0.01))
    with full_log() as let_go:
        dog.run(8)
        assert dog.done[-1] == BLOCKED
        let_go()


@contextmanager
def full_log() -> Iterator[Callable[[], None]]:
    """A log whose reader stands still: whoever writes waits."""
    read = threading.Event()

    class Full(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            read.wait(5)

    handler = Full()
    logger = logging.getLogger("fleet.worker")
    logger.addHandler(handler)
    try:
        yield read.set
    finally:
        read.set()
        logger.removeHandler(handler)
