"""What goes through the context is durable and replayed; what the user saw stays equal to the answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from schemas.codes import Code
from schemas.entries import Step
from schemas.errors import RetryableError, TerminalError
from schemas.frames import Usage
from schemas.history import HistoryItem, ToolCall
from schemas.parts import TextPart
from schemas.turn import TurnInput
from tests.support.stage import NOON_MS, Stage, Told, past, settle
from workers.agent import AgentTurn, user
from workers.canonical import MAX_RESULT_BYTES
from workers.context import Context
from workers.job import TurnLost
from workers.model_step import call_id
from workers.models.port import ModelChunk, ModelDone, ModelRateLimited, ModelRefused, ModelUnavailable
from workers.progress import Progress

C1 = call_id("t1", "", 0, 0)  # what a worker calls the first call of the first model step


async def _chat(turn: AgentTurn, ctx: Context) -> None:
    await ctx.model()


async def _two(turn: AgentTurn, ctx: Context) -> None:
    await ctx.model("first")
    await ctx.model("second")


def frames_of(stage: Stage) -> list[tuple[Any, ...]]:
    """Type, and what the type has of its own, in short."""
    short: dict[str, tuple[str, ...]] = {
        "started": (),
        "delta": ("message", "text"),
        "reasoning": ("message", "text"),
        "step": ("step", "kind", "name"),
        "reset": ("reason", "step", "text"),
        "state": ("name", "value"),
        "tool_call": ("call", "name", "arguments"),
        "tool_result": ("call", "name", "content"),
    }
    return [(frame["type"], *(frame[name] for name in short[frame["type"]])) for frame in stage.frames]


async def test_a_model_call_streams_and_is_durable_before_it_returns() -> None:
    seen: list[int] = []
    stage: Stage

    async def agent(turn: AgentTurn, ctx: Context) -> None:
        answer = await ctx.model()
        seen.append(len(stage.link.steps))
        assert (answer.text, answer.finish) == ("Hello you", "stop")

    stage = Stage(agent, Told(["Hello", " you"]))
    result = await stage.play()
    assert seen == [1]
    assert frames_of(stage) == [
        ("started",),
        ("delta", "t1~1", "Hello"),
        ("delta", "t1~1", " you"),
        ("step", 0, "model", "model"),
    ]
    assert [frame["seq"] for frame in stage.frames] == [0, 1, 2, 3]
    assert result.seq == 4
    assert (result.text, [item.id for item in result.messages]) == ("Hello you", ["t1~1"])
    (step,) = stage.link.steps
    assert step == Step(
        at_ms=NOON_MS,
        turn="t1",
        attempt=1,
        step=0,
        kind="model",
        name="model",
        digest=step.digest,
        result={"finish": "stop", "chars": 9},
        text="Hello you",
        usage=(Usage(model="told", input_tokens=3, output_tokens=2),),
    )
    assert len(step.digest) == 32


async def test_no_call_begins_before_the_step_is_durable() -> None:
    model = Told(["A"], ["B"])
    stage = Stage(_two, model)
    stage.link.gate = asyncio.get_running_loop().create_future()
    stage.start()
    await settle()
    assert len(model.requests) == 1
    stage.link.gate.set_result(None)
    stage.link.gate = None
    await settle()
    assert len(model.requests) == 2
    assert stage.results[0].text == "AB"


async def test_a_boundary_is_where_a_step_is_durable_and_no_other_one_has_begun() -> None:
    doors = [asyncio.Event(), asyncio.Event()]

    async def waits(number: int) -> int:
        await doors[number].wait()
        return number

    async def fails() -> None:
        raise ZeroDivisionError

    async def both(turn: AgentTurn, ctx: Context) -> str:
        with pytest.raises(TerminalError, match="step 'fails' raised ZeroDivisionError"):
            await ctx.step("fails", fails)
        await asyncio.gather(ctx.step("a", waits, 0), ctx.tool("b", waits, {"number": 1}))
        return "done"

    stage = Stage(both)
    running = stage.start()
    assert running.at_boundary
    await settle()
    assert (running.at_boundary, stage.link.boundaries) == (False, 0)
    doors[1].set()
    await settle()
    assert (running.at_boundary, stage.link.boundaries, len(stage.link.steps)) == (False, 0, 2)
    doors[0].set()
    await settle()
    assert (stage.link.boundaries, len(stage.link.steps)) == (1, 3)


async def test_nothing_of_the_agent_runs_after_the_boundary_at_which_its_turn_was_handed_over() -> None:
    after: list[str] = []

    async def goes_on(turn: AgentTurn, ctx: Context) -> str:
        await ctx.step("one", lambda: 1)
        after.append("one")
        return "done"

    stage = Stage(goes_on)
    running = stage.start()
    stage.link.at_boundary = running.abandon  # type: ignore[method-assign]
    await settle()
    assert (after, stage.results, len(stage.link.steps)) == ([], [], 1)


async def test_the_history_and_the_input_are_the_default_messages() -> None:
    model = Told(["ok"])
    stage = Stage(_chat, model, history=past("one", "two"))
    await stage.play()
    (request,) = model.requests
    assert [(item.role, item.text) for item in request.messages] == [
        ("user", "one"),
        ("assistant", "two"),
        ("user", "hi"),
    ]
    assert (request.session, request.turn, request.system, request.model) == ("s1", "t1", "", None)


async def test_a_retry_withdraws_what_was_shown() -> None:
    model = Told(["Onc", "e", ModelUnavailable("cut")], [ModelRateLimited("429", after_s=3)], ["Twice"])
    stage = Stage(_chat, model)
    result = await stage.play()
    assert frames_of(stage) == [
        ("started",),
        ("delta", "t1~1", "Onc"),
        ("reset", "retry", -1, ""),
        ("delta", "t1~1", "Twice"),
        ("step", 0, "model", "model"),
    ]
    assert (result.text, stage.shown, result.retries, result.model_calls) == ("Twice", "Twice", 2, 1)
    assert stage.waits == [0.5, 4.0]


async def test_a_retry_keeps_the_text_of_earlier_steps() -> None:
    model = Told(["One."], ["Tw", ModelUnavailable("cut")], ["Two."])
    stage = Stage(_two, model)
    result = await stage.play()
    assert ("reset", "retry", 0, "One.") in frames_of(stage)
    assert (result.text, stage.shown) == ("One.Two.", "One.Two.")
    assert [item.text for item in result.messages] == ["One.", "Two."]


async def test_a_retry_after_reasoning_alone_withdraws_it_as_well() -> None:
    model = Told([ModelChunk(reasoning="hm"), ModelUnavailable("cut")], [ModelChunk(reasoning="hm"), "ok"])
    stage = Stage(_chat, model)
    result = await stage.play()
    assert [frame[0] for frame in frames_of(stage)] == ["started", "reasoning", "reset", "reasoning", "delta", "step"]
    assert result.text == "ok"


async def test_a_model_that_keeps_failing_fails_the_turn_with_its_code() -> None:
    model = Told([ModelRateLimited("slow down")])
    result = await Stage(_chat, model).play()
    assert (result.outcome, result.code, result.message) == ("failed", Code.MODEL_RATE_LIMITED, "slow down")
    assert (len(model.requests), result.retries) == (3, 2)


async def test_a_model_that_refuses_fails_the_turn_at_once() -> None:
    model = Told(["Par", ModelRefused("no such model", status=404)])
    stage = Stage(_chat, model)
    result = await stage.play()
    assert (result.code, result.message, len(model.requests)) == (Code.MODEL_ERROR, "no such model", 1)
    assert (result.text, [item.partial for item in result.history]) == ("Par", [True])
    assert stage.shown == "Par"


async def test_an_agent_with_another_answer_withdraws_what_the_failed_call_showed() -> None:
    async def agent(turn: AgentTurn, ctx: Context) -> None:
        try:
            await ctx.model()
        except TerminalError:
            ctx.emit("Sorry.")

    stage = Stage(agent, Told(["Par", ModelRefused("no")]))
    result = await stage.play()
    assert (result.outcome, result.text, stage.shown) == ("completed", "Sorry.", "Sorry.")
    assert [item.text for item in result.messages] == ["Sorry."]


async def test_a_hidden_call_shows_nothing_and_is_no_part_of_the_answer() -> None:
    async def agent(turn: AgentTurn, ctx: Context) -> str:
        plan = await ctx.model([user("plan")], show=False)
        return f"planned: {plan.text}"

    stage = Stage(agent, Told(["se", "cret"]))
    result = await stage.play()
    assert frames_of(stage) == [("started",), ("step", 0, "model", "model")]
    assert result.text == "planned: secret"
    assert stage.link.steps[0].result == {"finish": "stop", "text": "secret"}
    assert stage.link.steps[0].text == ""


async def test_two_shown_calls_at_once_are_refused_with_a_sentence() -> None:
    async def agent(turn: AgentTurn, ctx: Context) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.model("a"))
            group.create_task(ctx.model("b"))

    model = Told(["A", "…"])
    result = await Stage(agent, model).play()
    assert (result.code, result.message) == (
        Code.AGENT_ERROR,
        "two model calls are shown at once; give one of them show=False",
    )
    assert (model.closed, result.text) == (1, "A")


async def test_text_of_the_agent_is_durable_with_the_next_step() -> None:
    async def agent(turn: AgentTurn, ctx: Context) -> None:
        ctx.emit("Look: ")
        await ctx.model()
        ctx.emit("!")

    stage = Stage(agent, Told(["42"]))
    result = await stage.play()
    assert (stage.link.steps[0].text, stage.link.steps[0].result) == ("Look: 42", {"finish": "stop", "chars": 2})
    assert (result.text, stage.shown) == ("Look: 42!", "Look: 42!")
    assert [(item.id, item.text) for item in result.messages] == [("t1~1", "Look: "), ("t1~2", "42"), ("t1~3", "!")]


async def test_a_returned_text_that_goes_on_is_shown_to_its_end() -> None:
    async def agent(turn: AgentTurn, ctx: Context) -> str:
        answer = await ctx.model()
        return answer.text + " Amen."

    stage = Stage(agent, Told(["So be it."]))
    result = await stage.play()
    stage.job.emitter.flush()
    assert (result.text, stage.shown) == ("So be it. Amen.", "So be it. Amen.")


async def test_a_returned_text_that_differs_replaces_what_was_shown() -> None:
    async def agent(turn: AgentTurn, ctx: Context) -> str:
        answer = await ctx.model()
        return answer.text.upper()

    stage = Stage(agent, Told(["loud"]))
    result = await stage.play()
    assert frames_of(stage)[-1] == ("reset", "replaced", 0, "LOUD")
    assert (result.text, stage.shown, [item.text for item in result.messages]) == ("LOUD", "LOUD", ["LOUD"])


async def test_the_finish_of_a_model_and_its_calls_come_to_the_agent() -> None:
    call = ToolCall(call="c1", name="look", arguments={"x": 1})
    got: list[Any] = []

    async def agent(turn: AgentTurn, ctx: Context) -> None:
        got.append(await ctx.model())

    model = Told(["Looking", ModelDone("length", calls=(call,))])
    result = await Stage(agent, model).play()
    assert (got[0].finish, got[0].calls) == ("length", (call.model_copy(update={"call": C1}),))
    assert [usage.estimated for usage in got[0].usage] == [True]  # nobody told
    # nobody answered the call: it does not join the history
    assert [(item.text, item.calls) for item in result.history] == [("Looking", ())]


async def test_tool_calls_and_results_stay_paired() -> None:
    call = ToolCall(call="c1", name="look", arguments={"x": 1})

    async def agent(turn: AgentTurn, ctx: Context) -> None:
        answer = await ctx.model()
        for asked in answer.calls:
            await ctx.tool(asked.name, lambda x: {"saw": x}, asked.arguments or {}, call=asked.call)
        await ctx.model("then")

    stage = Stage(agent, Told([ModelDone(calls=(call,))], ["Done"]))
    result = await stage.play()
    assert frames_of(stage) == [
        ("started",),
        ("step", 0, "model", "model"),
        ("tool_call", C1, "look", {"x": 1}),
        ("step", 1, "tool", "look"),
        ("tool_result", C1, "look", [{"type": "data", "data": {"saw": 1}}]),
        ("delta", "t1~3", "Done"),
        ("step", 2, "model", "model"),
    ]
    assert [(item.id, item.role, item.text, item.calls, item.call) for item in result.history] == [
        ("t1~1", "assistant", "", (call.model_copy(update={"call": C1}),), None),
        ("t1~2", "tool", "", (), C1),
        ("t1~3", "assistant", "Done", (), None),
    ]


async def test_a_cancel_between_a_call_and_its_result_leaves_no_orphan() -> None:
    call = ToolCall(call="c1", name="look", arguments={})

    async def forever() -> None:
        await asyncio.get_running_loop().create_future()

    async def agent(turn: AgentTurn, ctx: Context) -> None:
        await ctx.model()
        await ctx.tool("look", forever, {}, call=C1, side_effects=False)

    stage = Stage(agent, Told(["Let me look.", ModelDone(calls=(call,))]))
    running = stage.start()
    await settle()
    running.stop("user")
    await settle()
    assert [(item.text, item.calls, item.partial) for item in stage.results[0].history] == [("Let me look.", (), True)]


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (OSError("no route"), Code.TOOL_ERROR, "tool 'look' raised OSError: no route"),
        (TerminalError(Code.QUOTA, "spent"), Code.QUOTA, "spent"),
        (RetryableError("later", code=Code.TOOL_ERROR), Code.TOOL_ERROR, "later"),
    ],
)
async def test_what_a_tool_raises_is_typed(error: Exception, code: Code, message: str) -> None:
    def look() -> None:
        raise error

    async def agent(turn: AgentTurn, ctx: Context) -> None:
        await ctx.tool("look", look, {})

    result = await Stage(agent).play()
    assert (result.code, result.message) == (code, message)


async def test_a_step_returns_what_a_replay_would_return() -> None:
    async def count(a: int, b: int) -> Any:
        return {"pair": (a, b), "x": {1: None}}

    async def agent(turn: AgentTurn, ctx: Context) -> str:
        return repr(await ctx.step("count", count, 1, 2))

    first = Stage(agent)
    live = await first.play()
    again = Stage(agent, attempt=2, steps=first.link.steps)
    replayed = await again.play()
    assert live.text == replayed.text == "{'pair': [1, 2], 'x': {'1': None}}"
    assert again.link.steps == []


@pytest.mark.parametrize("bad", [object(), float("inf"), {1, 2}, "\ud800"])
async def test_a_step_result_that_is_not_json_fails_typed(bad: object) -> None:
    async def agent(turn: AgentTurn, ctx: Context) -> str:
        await ctx.step("bad", lambda: bad)
        return "no"

    stage = Stage(agent)
    result = await stage.play()
    assert (result.code, [step.result for step in stage.link.steps]) == (Code.AGENT_ERROR, [None])
    assert result.message.startswith("step 'bad': its result is not JSON")


async def test_a_step_result_that_is_nested_or_large_beyond_reason_fails_typed() -> None:
    def deep() -> Any:
        value: Any = 1
        for _ in range(100_000):
            value = [value]
        return value

    async def agent(turn: AgentTurn, ctx: Context) -> str:
        await ctx.step("x", deep if turn.text == "deep" else lambda: "x" * MAX_RESULT_BYTES)
        return "no"

    assert (await Stage(agent, given=TurnInput(text="deep")).play()).code == Code.AGENT_ERROR
    result = await Stage(agent).play()
    assert result.code == Code.TOO_LARGE
    assert "step 'x': its result has 4194306 bytes of JSON, at most 4194304" in result.message


async def test_what_all_steps_of_a_turn_hold_is_bounded_on_every_attempt() -> None:
    made: list[int] = []

    async def agent(turn: AgentTurn, ctx: Context) -> str:
        for n in range(4):
            made.append(n)
            await ctx.step(f"x{n}", lambda: "x" * (MAX_RESULT_BYTES - 2))
        return "no"

    first = Stage(agent)
    result = await first.play()
    assert (result.code, len(first.link.steps), made) == (Code.TOO_LARGE, 4, [0, 1, 2, 3])
    assert "step 'x3': its result: with it the turn's steps hold 16777216 bytes, at most 12582912" in result.message
    again = Stage(agent, attempt=2, steps=first.link.steps)
    assert ((await again.play()).code, again.link.steps) == (Code.TOO_LARGE, [])


async def test_more_steps_than_the_agent_may_make_fail_typed() -> None:
    async def agent(turn: AgentTurn, ctx: Context) -> None:
        while True:
            await ctx.step("again", lambda: 1)

    stage = Stage(agent, max_steps=5)
    result = await stage.play()
    assert (result.code, len(stage.link.steps)) == (Code.AGENT_ERROR, 5)
    assert result.message == "more than 5 steps in one turn"


async def test_state_is_shown_whole() -> None:
    async def agent(turn: AgentTurn, ctx: Context) -> str:
        ctx.state("plan", ["a", "b"])
        return "ok"

    stage = Stage(agent)
    await stage.play()
    assert frames_of(stage) == [("started",), ("state", "plan", ["a", "b"])]


async def test_what_a_context_shows_an_agent_is_its_own_turn() -> None:
    seen: list[Any] = []

    async def agent(turn: AgentTurn, ctx: Context) -> str:
        seen.extend([ctx.info.user, ctx.deadline - NOON_MS, ctx.remaining_s, ctx.profile, list(ctx.history)])
        seen.extend([turn, ctx.message])
        return "ok"

    given = TurnInput(text="hi", metadata={"a": 1}, options={"o": 2}, tools=("t",))
    await Stage(agent, given=given).play()
    assert seen[:5] == ["ann", 60_000, 60.0, None, []]
    assert seen[5] == AgentTurn("t1", "hi", (), {"a": 1}, {"o": 2}, ("t",), 1)
    assert seen[6] == HistoryItem(id="t1~0", turn="t1", role="user", parts=(TextPart(text="hi"),), at_ms=NOON_MS)


# ---- take-over


async def steps_of(agent: Any, *scripts: Any) -> list[Step]:
    stage = Stage(agent, Told(*scripts))
    await stage.play()
    return stage.link.steps


async def test_a_take_over_answers_finished_steps_from_the_journal() -> None:
    steps = await steps_of(_two, ["One."], ["Two."])
    model = Told(["Two!"])
    stage = Stage(_two, model, attempt=2, steps=steps[:1])
    result = await stage.play()
    assert [request.messages[0].text for request in model.requests] == ["second"]
    assert frames_of(stage) == [
        ("started",),
        ("reset", "attempt", 0, "One."),
        ("delta", "t1~2", "Two!"),
        ("step", 1, "model", "model"),
    ]
    assert (result.text, stage.shown) == ("One.Two!", "One.Two!")
    assert [item.id for item in result.messages] == ["t1~1", "t1~2"]
    assert [step.step for step in stage.link.steps] == [1]
    assert result.usage == (Usage(model="told", input_tokens=6, output_tokens=4),)


async def test_a_take_over_of_a_whole_turn_calls_nothing() -> None:
    steps = await steps_of(_two, ["One."], ["Two."])
    model = Told()
    stage = Stage(_two, model, attempt=3, steps=steps)
    result = await stage.play()
    assert (model.requests, stage.link.steps) == ([], [])
    assert frames_of(stage) == [("started",), ("reset", "attempt", 1, "One.Two.")]
    assert (result.outcome, result.text) == ("completed", "One.Two.")


async def test_a_take_over_without_a_step_withdraws_everything() -> None:
    stage = Stage(_chat, Told(["Again"]), attempt=2)
    result = await stage.play()
    assert frames_of(stage)[:3] == [("started",), ("reset", "attempt", -1, ""), ("delta", "t1~1", "Again")]
    assert (result.text, stage.shown) == ("Again", "Again")


async def test_text_that_the_user_holds_is_not_sent_again() -> None:
    async def agent(turn: AgentTurn, ctx: Context) -> None:
        ctx.emit("A ")
        await ctx.model("one")
        ctx.emit(" C ")
        await ctx.model("two")

    steps = await steps_of(agent, ["B"], ["D"])
    assert [step.text for step in steps] == ["A B", " C D"]
    for count, tail in ((1, "D!"), (2, "D")):
        stage = Stage(agent, Told([tail]), attempt=2, steps=steps[:count])
        result = await stage.play()
        assert result.text == stage.shown == f"A B C {tail}"
        assert [item.text for item in result.messages] == ["A ", "B", " C ", tail]
        assert stage.types.count("reset") == 1


async def test_a_crash_after_every_step_ends_the_same() -> None:
    async def agent(turn: AgentTurn, ctx: Context) -> None:
        ctx.emit("Begin. ")
        n = await ctx.step("draw", lambda: 4)
        await ctx.model(f"say {n}")
        seen = await ctx.tool("look", lambda at: f"at {at}", {"at": n})
        await ctx.model(f"hidden {seen}", show=False)
        ctx.emit(" End.")

    whole = Stage(agent, Told(["four"], ["x"]))
    straight = await whole.play()
    assert len(whole.link.steps) == 4
    for count in range(5):
        left = [["four"], ["x"]][[0, 0, 1, 1, 2][count] :]
        stage = Stage(agent, Told(*left), attempt=2, steps=whole.link.steps[:count])
        result = await stage.play()
        stage.job.emitter.flush()
        assert (result.text, stage.shown) == (straight.text, straight.text)
        assert (result.history, result.usage) == (straight.history, straight.usage)
        assert [*whole.link.steps[:count], *stage.link.steps] == [
            step if n < count else step.model_copy(update={"attempt": 2}) for n, step in enumerate(whole.link.steps)
        ]


async def test_a_step_with_another_name_ends_the_turn_and_names_both() -> None:
    async def before(turn: AgentTurn, ctx: Context) -> None:
        await ctx.step("fetch", lambda: 1)

    async def after(turn: AgentTurn, ctx: Context) -> str:
        try:
            await ctx.step("load", lambda: 1)
        except TerminalError:
            pass
        return "as if nothing had happened"

    steps = await steps_of(before)
    result = await Stage(after, attempt=2, steps=steps).play()
    assert (result.outcome, result.code) == ("failed", Code.AGENT_ERROR)
    assert result.message == (
        "step 0: the journal holds step 'fetch', the agent now asks for step 'load'; its code changed under the turn"
    )


async def test_a_step_with_other_arguments_ends_the_turn() -> None:
    steps = await steps_of(_two, ["One."], ["Two."])

    async def changed(turn: AgentTurn, ctx: Context) -> None:
        await ctx.model("first, but different")

    stage = Stage(changed, Told(), attempt=2, steps=steps)
    result = await stage.play()
    assert result.code == Code.AGENT_ERROR
    assert result.message.startswith("step 0: model 'model' has other arguments now (")
    assert result.text == stage.shown == "One.Two."  # what was shown durably stays


async def test_an_agent_that_ends_before_its_journal_does_fails() -> None:
    steps = await steps_of(_two, ["One."], ["Two."])

    async def shorter(turn: AgentTurn, ctx: Context) -> None:
        await ctx.model("first")

    result = await Stage(shorter, Told(), attempt=2, steps=steps).play()
    assert (result.code, result.text) == (Code.AGENT_ERROR, "One.Two.")
    assert "step 1: the journal holds model 'model', the agent ended without it" in result.message


async def test_text_that_changed_under_a_replay_is_corrected() -> None:
    async def before(turn: AgentTurn, ctx: Context) -> None:
        ctx.emit("old ")
        await ctx.model("q")

    async def after(turn: AgentTurn, ctx: Context) -> None:
        ctx.emit("new ")
        await ctx.model("q")

    steps = await steps_of(before, ["answer"])
    stage = Stage(after, Told(), attempt=2, steps=steps)
    result = await stage.play()
    assert result.text == stage.shown == "new answer"


async def test_a_cancel_during_a_replay_keeps_what_was_shown_durably() -> None:
    async def agent(turn: AgentTurn, ctx: Context) -> None:
        if turn.attempt > 1:
            await asyncio.get_running_loop().create_future()
        await _two(turn, ctx)

    steps = await steps_of(agent, ["One."], ["Two."])
    stage = Stage(agent, attempt=2, steps=steps)
    running = stage.start()
    await settle()
    running.stop("user")
    await settle()
    (result,) = stage.results
    assert (result.text, [item.text for item in result.history]) == ("One.Two.", ["One.", "Two."])


async def test_a_context_is_dead_after_its_turn() -> None:
    kept: list[Context] = []

    async def agent(turn: AgentTurn, ctx: Context) -> str:
        kept.append(ctx)
        return "done"

    stage = Stage(agent)
    await stage.play()
    with pytest.raises(TurnLost, match="this turn is over here"):
        kept[0].emit("x")
    with pytest.raises(TurnLost, match="this turn is over here"):
        kept[0].state("x", 1)
    with pytest.raises(TurnLost, match="this turn is over here"):
        await kept[0].step("x", lambda: 1)
    assert (stage.frames, stage.link.steps) == ([], [])


def test_a_context_hands_out_nothing_of_the_engine() -> None:
    public = {name for name in dir(Context) if not name.startswith("_")}
    assert public == {
        "answer_call",
        "approval",
        "branch",
        "compute",
        "deadline",
        "delegate",
        "emit",
        "history",
        "info",
        "instructions",
        "keep",
        "kept",
        "message",
        "model",
        "offered",
        "profile",
        "profile_tools",
        "remaining_s",
        "replaying",
        "spent",
        "state",
        "steers",
        "step",
        "takes_tools",
        "text",
        "tool",
        "tools",
    }
    assert Progress.__slots__  # and it has no __dict__ to reach in by accident


BUSY = ModelRateLimited("429")


def models_of(stage: Stage) -> list[str | None]:
    return [request.model for request in stage.model.requests]


async def test_a_fallback_of_the_registration_answers_and_the_step_names_it() -> None:
    seen: list[str] = []

    async def agent(turn: AgentTurn, ctx: Context) -> None:
        seen.append((await ctx.model()).model)

    stage = Stage(
        agent, Told([BUSY], ["Hel", ModelUnavailable("cut")], ["Hello", ModelDone(model="b")]), model_attempts=1
    )
    stage.job.model, stage.job.fallbacks = "a", ("a", "x", "b")
    result = await stage.play()
    assert models_of(stage) == ["a", "x", "b"]
    assert (result.text, stage.shown, seen) == ("Hello", "Hello", ["b"])
    assert stage.link.steps[0].result == {"finish": "stop", "chars": 5, "model": "b", "untold": 2}


async def test_a_call_may_name_its_own_model_and_fallbacks() -> None:
    async def agent(turn: AgentTurn, ctx: Context) -> None:
        await ctx.model(model="big", fallbacks=("small",))

    stage = Stage(agent, Told([BUSY], ["ok"]), model_attempts=1)
    stage.job.model, stage.job.fallbacks = "a", ("b",)
    await stage.play()
    assert models_of(stage) == ["big", "small"]


async def test_the_digest_of_a_step_does_not_change_with_model_and_fallbacks_of_the_registration() -> None:
    plain, fallen = Stage(_chat, Told(["ok"])), Stage(_chat, Told([BUSY], ["ok"]), model_attempts=1)
    fallen.job.model, fallen.job.fallbacks = "a", ("b",)
    await plain.play()
    await fallen.play()
    assert plain.link.steps[0].digest == fallen.link.steps[0].digest


async def test_a_replay_names_the_model_that_answered_and_asks_none() -> None:
    seen: list[str] = []

    async def agent(turn: AgentTurn, ctx: Context) -> None:
        seen.append((await ctx.model()).model)

    first = Stage(agent, Told(["Hello", ModelDone(model="b")]))
    await first.play()
    again = Stage(agent, Told(["never"]), attempt=2, steps=first.link.steps)
    again.job.fallbacks = ("c",)
    assert (await again.play()).text == "Hello"
    assert (seen, models_of(again)) == (["b", "b"], [])


async def test_bad_arguments_of_a_tool_end_the_turn_typed_and_at_once() -> None:
    calls: list[object] = []

    def look(at: int) -> int:
        calls.append(at)
        return at

    for arguments in (None, {"wrong": 1}, {}):

        async def agent(turn: AgentTurn, ctx: Context, given: Any = arguments) -> None:
            await ctx.tool("look", look, given)

        result = await Stage(agent).play()
        assert (result.outcome, result.code, result.retries) == ("failed", Code.TOOL_ERROR, 0)
    assert calls == []
