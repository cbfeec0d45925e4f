"""Functions and agents in processes of their own: whatever they do there fails their own call, typed, nothing else."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.codes import Code
from schemas.errors import RetryableError, TerminalError
from schemas.turn import TurnInput
from tests.support import deeds
from tests.support.memory_fleet import MemoryFleet
from tests.support.stage import INFO, Stage, past
from workers.agent import AgentTurn, RegistrationError, agent
from workers.children import Children
from workers.context import Context
from workers.result import Result

MEMORY = 1_000_000_000


@pytest.fixture
async def told() -> list[str]:
    return []


@pytest.fixture
async def children(told: list[str]) -> AsyncIterator[Children]:
    made = Children(2, MEMORY, tell=told.append)
    yield made
    await made.close()


async def test_a_call_is_answered_by_a_process_that_is_kept_for_the_next_one(
    children: Children, told: list[str]
) -> None:
    first = await children.call("it", deeds.whoami, ())
    assert first != os.getpid()
    assert await children.call("it", deeds.add, (1, 2, 3)) == 6
    assert await children.call("it", deeds.nothing, ()) is None
    assert await children.call("it", deeds.prints, ()) == "said"
    assert await children.call("it", deeds.whoami, ()) == first
    assert told == ["done"] * 5


BAD: list[tuple[Callable[..., Any], tuple[Any, ...], Code, str, str]] = [
    (deeds.raises, (), Code.AGENT_ERROR, "it: ValueError: bad", "raised"),
    (deeds.raises_typed, (), Code.QUOTA, "it: used up", "raised"),
    (deeds.exits, (), Code.AGENT_ERROR, "it: SystemExit: 3", "raised"),
    (deeds.interrupts, (), Code.AGENT_ERROR, "it: KeyboardInterrupt", "raised"),
    (deeds.exits_at_once, (), Code.AGENT_ERROR, "it: its process ended with exit code 9", "crashed"),
    (deeds.crashes, (), Code.AGENT_ERROR, "it: its process ended by SIGSEGV", "crashed"),
    (deeds.is_killed, (), Code.AGENT_ERROR, "it: its process ended by SIGKILL", "crashed"),
    (deeds.forks_and_crashes, (), Code.AGENT_ERROR, "it: its process ended with exit code 7", "crashed"),
    (deeds.eats_memory, (2_147_483_648,), Code.AGENT_ERROR, "it: MemoryError", "raised"),
    (deeds.is_no_json, (), Code.AGENT_ERROR, "it: TypeError: Object of type set is not JSON", "raised"),
    (deeds.says_nan, (), Code.AGENT_ERROR, "it: ValueError: Out of range float", "raised"),
    (deeds.says_much, (10_000_000,), Code.TOO_LARGE, "it: its result has 10000029 bytes of JSON, at most 4", "raised"),
    (deeds.is_asynchronous, (), Code.AGENT_ERROR, "it: give a plain function, not an asynchronous one", ""),
    (lambda: 1, (), Code.AGENT_ERROR, "cannot be imported; give a function of a module's top level", ""),
]


@pytest.mark.parametrize(("deed", "arguments", "code", "text", "outcome"), BAD, ids=[row[0].__name__ for row in BAD])
async def test_whatever_a_call_does_is_a_typed_error_of_that_call_alone(
    children: Children, told: list[str], deed: Callable[..., Any], arguments: tuple[Any, ...], code: Code, text: str,
    outcome: str,
) -> None:  # fmt: skip
    before = await children.call("it", deeds.whoami, ())
    beside = asyncio.create_task(children.call("it", deeds.add, (40, 2)))
    with pytest.raises(TerminalError) as caught:
        await children.call("it", deed, arguments)
    assert caught.value.code is code
    assert text in str(caught.value)
    assert "secret" not in str(caught.value)
    assert await beside == 42
    assert await children.call("it", deeds.add, (1, 1)) == 2
    assert sorted(told) == sorted(["done"] * 3 + [outcome] * bool(outcome))
    if outcome:
        assert not alive(before) or await children.call("it", deeds.whoami, ()) == before


async def test_what_passes_stays_an_error_that_passes(children: Children) -> None:
    with pytest.raises(RetryableError) as caught:
        await children.call("it", deeds.raises_for_now, ())
    assert (caught.value.code, caught.value.after_s) == (Code.MODEL_RATE_LIMITED, 3.0)


async def test_a_fork_that_comes_back_answers_nothing(children: Children) -> None:
    assert await children.call("it", deeds.forks, ()) == "the call"
    assert [await children.call("it", deeds.add, (n, 0)) for n in range(5)] == list(range(5))


async def test_a_process_that_a_call_left_behind_ends_with_its_own(children: Children) -> None:
    left = await children.call("it", deeds.leaves_a_process, ())
    assert isinstance(left, int)
    await gone(left)


async def test_a_process_in_which_a_thread_goes_on_takes_no_other_call(children: Children) -> None:
    first = await children.call("it", deeds.leaves_a_thread, ())
    assert isinstance(first, int)
    assert await children.call("it", deeds.whoami, ()) != first
    await gone(first)


async def test_a_call_that_is_cancelled_is_killed_with_all_it_started(
    children: Children, told: list[str], tmp_path: Path
) -> None:
    note = tmp_path / "note"
    call = asyncio.create_task(children.call("it", deeds.hangs, (str(note),)))
    pids = await noted(note)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    for pid in pids:
        await gone(pid)
    assert told == ["cancelled"]
    assert await children.call("it", deeds.add, (1, 1)) == 2


async def test_calls_beyond_the_limit_wait_their_turn(children: Children) -> None:
    pids = await asyncio.gather(*(children.call("it", deeds.whoami, ()) for _ in range(20)))
    assert len(set(map(str, pids))) <= 2


async def test_an_idle_process_that_died_harms_nobody(children: Children) -> None:
    first = await children.call("it", deeds.whoami, ())
    assert isinstance(first, int)
    os.kill(first, 9)
    await gone(first)
    assert await children.call("it", deeds.whoami, ()) != first


async def test_a_step_that_is_computed_elsewhere_is_durable_and_replayed() -> None:
    async def adding(turn: AgentTurn, ctx: Context) -> str:
        return f"{await ctx.compute('add', deeds.add, 1, 2)}"

    stage = Stage(adding)
    try:
        running = stage.start()
        await until(lambda: running.over)
        assert (stage.results[0].text, [step.result for step in stage.link.steps]) == ("3", [3])
        again = Stage(adding, attempt=2, steps=stage.link.steps)
        assert (await again.play()).text == "3"
        assert (again.link.steps, again.executor.services.children._idle) == ([], [])
    finally:
        await stage.executor.services.children.close()


async def test_a_turn_that_hangs_elsewhere_ends_at_its_deadline_and_its_process_with_it(tmp_path: Path) -> None:
    note = tmp_path / "note"

    async def hanging(turn: AgentTurn, ctx: Context) -> None:
        await ctx.compute("hang", deeds.hangs, str(note))

    stage = Stage(hanging, deadline_s=30)
    stage.start()
    pids = await noted(note)
    stage.time.advance(1)
    stage.time.advance(31)
    for pid in pids:
        await gone(pid)
    await until(lambda: stage.results)
    assert [result.code for result in stage.results] == [Code.DEADLINE_EXCEEDED]
    await stage.executor.services.children.close()


async def test_an_agent_in_a_process_of_its_own_has_its_turn_and_what_was_said(children: Children) -> None:
    built = await deeds.apart.build(deeds.apart, INFO)

    async def said(text: str) -> Result:
        stage = Stage(built, given=TurnInput(text=text), history=past("a", "b"), children=children)
        stage.start()
        await until(lambda: stage.results)
        return stage.results[0]

    for text, answer in (("hi", "apart: hi 0 None"), ("history", "user: a, assistant: b")):
        told = await said(text)
        assert (told.outcome, told.text) == ("completed", answer)
    told = await said("data")
    assert (told.text, told.data, told.finish) == ("with data", {"session": "s1", "left": True}, "length")
    for text, sentence in (
        ("number", "step 'run': the agent returned int, want Reply, str or None"),
        ("nothing", "the agent returned nothing: no text, no data, and showed none"),
        ("exits", "step 'run': SystemExit: 3"),
    ):
        told = await said(text)
        assert (told.outcome, told.code, told.message) == ("failed", Code.AGENT_ERROR, sentence)


async def test_a_worker_goes_on_whatever_its_agents_do_in_their_processes() -> None:
    bad = ["exits_at_once", "crashes", "is_killed", "forks_and_crashes", "exits", "interrupts", "number", "nothing"]
    async with MemoryFleet(deeds.apart, default="apart") as fleet:
        worker = await fleet.worker()
        for number, deed in enumerate(bad):
            fleet.turn(f"s{number}", deed, turn="t1")
            fleet.turn(f"s{number}", "fine", turn="t2")
            fleet.turn(f"e{number}", "beside", turn="t1", agent="echo")
        await fleet.until(lambda: len(fleet.terminals()) == 3 * len(bad), timeout_s=60)
        assert not worker.stopping.is_set()
        ends = {
            name: [(frame["type"], frame.get("code")) for frame in all_] for name, all_ in fleet.terminals().items()
        }
        for number in range(len(bad)):
            assert ends[f"s{number}~t1"] == [("failed", "agent_error")]
            assert ends[f"s{number}~t2"] == ends[f"e{number}~t1"] == [("completed", None)]
        await worker.system.executor.services.children.close()


def test_what_cannot_run_in_a_process_of_its_own_is_refused_at_registration() -> None:
    def local(turn: AgentTurn, given: Any) -> str:
        return ""

    with pytest.raises(RegistrationError, match=r"process=True wants a plain `def …\(turn, given\)` of a module's top"):
        agent(name="a", version="1", process=True)(local)
    with pytest.raises(RegistrationError, match=r"process=True wants a plain"):
        agent(name="a", version="1", process=True)(deeds.is_asynchronous)  # type: ignore[arg-type]
    with pytest.raises(RegistrationError, match=r"cannot be called with \(turn, given\)"):
        agent(name="a", version="1", process=True)(deeds.raises)  # type: ignore[arg-type]


async def noted(note: Path) -> list[int]:
    await until(note.exists)
    return [int(word) for word in note.read_text().split()]


def alive(pid: object) -> bool:
    """Neither gone nor a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def gone(pid: int) -> None:
    await until(lambda: not alive(pid))


async def until(what: Callable[[], object], within_s: float = 20.0) -> None:
    end_s = time.monotonic() + within_s
    while not what():
        assert time.monotonic() < end_s, "not in time"
        await asyncio.sleep(0.01)
