"""Branches: lines of work side by side, each replayed from its own steps, whatever their timing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest

from fleet.testing import Lab, says
from schemas.codes import Code
from schemas.entries import Intent, Step
from schemas.errors import TerminalError
from schemas.history import ToolCall
from schemas.parts import TextPart
from tests.support.stage import Stage, Told
from workers.agent import AgentTurn, agent
from workers.context import Context
from workers.job import TurnLost
from workers.model_step import call_id
from workers.models.port import ModelDone
from workers.side_by_side import side_by_side
from workers.tools.tool import ToolOutput

MINTED = [call_id("t1", "", 0, n) for n in range(3)]


class Errands:
    """An agent with three branches of two steps each, one of them nested, that wait for as long as chance says."""

    def __init__(self, seed: int = 0) -> None:
        self.chance = random.Random(seed)
        self.done: list[str] = []

    async def run(self, turn: AgentTurn, ctx: Context) -> str:
        first = await ctx.step("first", self._work, "first")
        results = await asyncio.gather(*(self._branch(ctx.branch(name), name) for name in ("a", "b", "c")))
        last = await ctx.step("last", self._work, "last")
        return " ".join([first, *results, last])

    async def _branch(self, ctx: Context, name: str) -> str:
        for _ in range(self.chance.randrange(5)):
            await asyncio.sleep(0)
        one = await ctx.step("one", self._work, f"{name}1")
        two = await ctx.branch("inner").tool("two", self._work, {"name": f"{name}2"})
        return f"{one}{two}"

    async def _work(self, name: str) -> str:
        for _ in range(self.chance.randrange(5)):
            await asyncio.sleep(0)
        self.done.append(name)
        return name


class Until:
    """Lets so many entries become durable; then the worker is gone. `kept` False: the last one is not there."""

    def __init__(self, stage: Stage, entries: int) -> None:
        self.left = entries
        self._append = stage.link.append
        stage.link.append = self.append  # type: ignore[method-assign]

    async def append(self, entry: Any) -> None:
        if self.left == 0:
            raise TurnLost
        self.left -= 1
        await self._append(entry)


async def _crashed(seed: int, entries: int) -> tuple[Errands, Sequence[Step], Sequence[Intent]]:
    agent = Errands(seed)
    stage = Stage(agent)
    Until(stage, entries)
    stage.start()
    for _ in range(300):
        await asyncio.sleep(0)
    assert stage.results == []
    steps = stage.link.steps
    over = {(step.run, step.step) for step in steps}
    return agent, steps, [intent for intent in stage.link.intents if (intent.run, intent.step) not in over]


@pytest.mark.parametrize("entries", range(11))
async def test_a_turn_that_crashed_anywhere_ends_the_same_and_repeats_nothing_that_was_durable(entries: int) -> None:
    before, steps, intents = await _crashed(entries, entries)
    after = Errands(entries + 100)
    again = Stage(after, attempt=2, steps=steps, intents=intents)
    again.start()
    for _ in range(300):
        await asyncio.sleep(0)
    (result,) = again.results
    unknown = [f"{intent.run[0]}2" for intent in intents]
    if unknown:
        assert result.code is Code.OUTCOME_UNKNOWN
    else:
        assert result.text == "first a1a2 b1b2 c1c2 last"
        assert {step.result for step in steps}.isdisjoint(after.done)
    assert before.done.count("first") + after.done.count("first") <= 2


async def test_frames_of_a_branch_name_it_and_its_text_is_no_part_of_the_answer() -> None:
    async def agent(turn: AgentTurn, ctx: Context) -> str:
        helper = ctx.branch("helper", call="c1")
        helper.emit("thinking")
        said = await helper.branch("deeper").model("go on")
        assert helper.text == "thinking"
        ctx.emit("Done: ")
        return f"Done: {said.text}"

    stage = Stage(agent, Told(["so it is"]))
    result = await stage.play()

    assert result.text == "Done: so it is"
    assert stage.shown == "thinkingso it isDone: so it is"
    named = [
        (frame["type"], frame.get("run"), frame.get("parent_run"), frame.get("parent_call")) for frame in stage.frames
    ]
    assert named[1:] == [
        ("delta", "helper", None, "c1"),
        ("delta", "helper/deeper", "helper", None),
        ("step", "helper/deeper", "helper", None),
        ("delta", None, None, None),
        ("delta", None, None, None),
    ]
    assert [frame["message"] for frame in stage.frames if frame["type"] == "delta"] == [
        "t1~helper.1",
        "t1~helper/deeper.1",
        "t1~1",
        "t1~1",
    ]
    assert [frame["seq"] for frame in stage.frames] == list(range(len(stage.frames)))
    assert [item.text for item in result.history] == ["Done: so it is"]


async def test_results_of_calls_made_in_branches_lie_behind_the_message_in_the_order_of_the_calls() -> None:
    calls = tuple(ToolCall(call=f"c{n}", name="wait", arguments={"turns": 3 - n}) for n in range(3))

    async def wait(turns: int) -> ToolOutput:
        for _ in range(turns * 3):
            await asyncio.sleep(0)
        return ToolOutput((TextPart(text=f"waited {turns}"),), is_error=turns == 1)

    async def agent(turn: AgentTurn, ctx: Context) -> str:
        answer = await ctx.model()
        made = await asyncio.gather(
            *(ctx.branch(c.call, quiet=True).tool(c.name, wait, c.arguments, call=c.call) for c in answer.calls)
        )
        assert [output.is_error for output in made] == [False, False, True]
        return "done"

    stage = Stage(agent, Told([ModelDone(calls=calls, finish="stop")]))
    result = await stage.play()

    assert [(item.id, item.role, item.call, item.text) for item in result.history] == [
        ("t1~1", "assistant", None, ""),
        ("t1~2", "tool", MINTED[0], "waited 3"),
        ("t1~3", "tool", MINTED[1], "waited 2"),
        ("t1~4", "tool", MINTED[2], "waited 1"),
        ("t1~5", "assistant", None, "done"),
    ]
    shown = [frame for frame in stage.frames if frame["type"].startswith("tool")]
    assert {frame.get("run") for frame in shown} == {None}
    assert [frame["call"] for frame in shown if frame["type"] == "tool_result"] == MINTED[::-1]
    assert {frame.get("run") for frame in stage.frames if frame["type"] == "step"} == {None, *MINTED}

    again = Stage(agent, Told([]), attempt=2, steps=stage.link.steps)
    assert (await again.play()).history == result.history


async def test_what_a_session_keeps_is_seen_at_once_bounded_and_durable_with_the_end() -> None:
    async def agent(turn: AgentTurn, ctx: Context) -> str:
        assert ctx.kept == {"old": 1, "plan": ["a"]}
        ctx.keep("old", None)
        ctx.keep("plan", ["b"])
        assert ctx.branch("x").kept == {"plan": ["b"]}
        with pytest.raises(TerminalError, match="at most 1048576"):
            ctx.keep("big", "x" * 1_048_576)
        return "done"

    stage = Stage(agent)
    stage.job.kept = {"old": 1, "plan": ["a"]}

    assert (await stage.play()).kept == {"old": None, "plan": ["b"]}


async def test_a_name_is_given_once_and_a_branch_that_was_forgotten_is_told() -> None:
    async def twice(turn: AgentTurn, ctx: Context) -> str:
        ctx.branch("a")
        ctx.branch("a")
        return "never"

    async def one(turn: AgentTurn, ctx: Context) -> str:
        return str(await ctx.branch("a").step("s", lambda: 1))

    async def none(turn: AgentTurn, ctx: Context) -> str:
        return "1"

    result = await Stage(twice).play()
    assert (result.code, result.message) == (
        Code.AGENT_ERROR,
        "branch 'a' was begun already in this turn; give each a name of its own",
    )
    with_step = Stage(one)
    await with_step.play()
    result = await Stage(none, attempt=2, steps=with_step.link.steps).play()
    assert result.message == (
        "step a/0: the journal holds step 's', the agent ended without it; its code changed under the turn"
    )
    result = await Stage(lambda turn, ctx: ctx.branch("a b").step("s", lambda: 1)).play()
    assert result.message == "branch 'a b': give 1-64 characters out of A-Z a-z 0-9 . _ : -"


async def test_a_sub_agent_behind_a_call_may_use_the_context_and_is_run_again_until_its_result_is_durable() -> None:
    runs: list[int] = []

    async def agent(turn: AgentTurn, ctx: Context) -> str:
        async def work(helper: Context, task: str) -> str:
            runs.append(turn.attempt)
            return f"{task}: {await helper.step('think', lambda: 42)}"

        return str(await ctx.delegate("task", work, {"task": "sum"}, call="c1"))

    stage = Stage(agent)
    result = await stage.play()
    assert result.text == "sum: 42"
    assert [(step.run, step.kind, step.name) for step in stage.link.steps] == [
        ("task.0", "step", "think"),
        ("", "tool", "task"),
    ]
    assert [frame["type"] for frame in stage.frames][:3] == ["started", "tool_call", "step"]

    half = Stage(agent, attempt=2, steps=stage.link.steps[:1])
    assert (await half.play()).text == "sum: 42"
    whole = Stage(agent, attempt=3, steps=stage.link.steps)
    assert (await whole.play()).text == "sum: 42"
    assert runs == [1, 2]


async def test_a_turn_cut_short_keeps_the_results_of_calls_made_in_branches() -> None:
    calls = (ToolCall(call="c1", name="add", arguments={}),)

    async def agent(turn: AgentTurn, ctx: Context) -> str:
        if turn.attempt > 1:
            raise ValueError
        (call,) = (await ctx.model()).calls
        await ctx.branch(call.call, quiet=True).tool("add", lambda: "added", {}, call=call.call)
        return "done"

    stage = Stage(agent, Told(["Adding.", ModelDone(calls=calls)]))
    await stage.play()
    result = await Stage(agent, attempt=2, steps=stage.link.steps).play()

    assert (result.outcome, result.text) == ("failed", "Adding.")
    assert [(item.role, item.text, item.call) for item in result.history] == [
        ("assistant", "Adding.", None),
        ("tool", "added", MINTED[0]),
    ]


def test_what_a_helper_spent_counts_also_where_its_result_is_replayed() -> None:
    async def asks_helper(turn: AgentTurn, ctx: Context) -> str:
        async def help_(line: Context) -> str:
            return (await line.model("go on")).text

        return str(await ctx.delegate("help", help_, {}))

    build = agent(name="asks_helper", version="1")(asks_helper)
    lab = Lab(build, model=[says("so it is", usage=(40, 2))])
    points = lab.crash_everywhere("?")

    assert lab.last is not None
    assert lab.last.tokens == 42
    assert {point.outcome.tokens for point in points} == {42}


def test_a_decision_is_asked_for_also_where_a_step_beside_it_raises() -> None:
    async def fails() -> None:
        await asyncio.sleep(1)
        raise ZeroDivisionError

    @agent(name="both", version="1")
    async def both(turn: AgentTurn, ctx: Context) -> str:
        async def asks() -> str:
            return str((await ctx.branch("a").approval("?")).allowed)

        async def works() -> str:
            try:
                await ctx.branch("b").step("fails", fails)
            except TerminalError:
                return "failed"
            return "never"

        return " ".join(await side_by_side([works(), asks()]))

    with Lab(both) as lab:
        turn = lab.turn("go")
        assert turn.asks is not None, turn.message
        assert turn.waited_s < 5
        assert lab.decide().text == "failed True"


def test_one_of_two_that_wait_for_a_decision_is_not_forgotten_when_the_other_gives_up() -> None:
    @agent(name="two", version="1")
    async def two(turn: AgentTurn, ctx: Context) -> str:
        async def impatient() -> str:
            try:
                async with asyncio.timeout(0.5):
                    await ctx.branch("b").approval("now?")
            except TimeoutError:
                return "gave up"
            return "never"

        async def patient() -> str:
            return str((await ctx.branch("a").approval("?")).allowed)

        works = [ctx.branch("c").step("slow", asyncio.sleep, 2), patient(), impatient()]
        return " ".join(map(str, await side_by_side(works)))

    with Lab(two) as lab:
        turn = lab.turn("go")
        assert turn.asks is not None, turn.message
        assert (turn.asks.message, turn.waited_s < 5) == ("?", True)


async def test_results_of_tools_without_side_effects_count_as_well() -> None:
    async def agent_(turn: AgentTurn, ctx: Context) -> str:
        for number in range(5):
            await ctx.branch(f"b{number}", quiet=True).tool("large", lambda: "x" * 4_000_000, {}, side_effects=False)
        return "never"

    result = await Stage(agent_).play()

    assert (result.code, "with it the turn's steps hold" in result.message) == (Code.TOO_LARGE, True)
