"""One turn through its agent: exactly one result, whatever the agent does."""

from __future__ import annotations

import asyncio
import logging
import sys

import pytest

from schemas.codes import Code
from schemas.entries import ControlNote
from schemas.errors import RetryableError, TerminalError
from schemas.parts import TextPart
from schemas.turn import TurnInput
from tests.support.stage import Stage, Told, settle
from workers.agent import AgentTurn, Reply
from workers.context import Context
from workers.executor import Executor
from workers.job import TurnLost
from workers.result import Result


async def _silent(turn: AgentTurn, ctx: Context) -> None:
    await asyncio.get_running_loop().create_future()


async def test_an_agent_that_ends_at_once_sends_no_frame_and_sets_no_timer_of_its_own() -> None:
    async def echo(turn: AgentTurn, ctx: Context) -> str:
        return turn.text

    stage = Stage(echo)
    result = await stage.play()
    assert stage.frames == []
    assert (result.outcome, result.text, result.finish, result.seq) == ("completed", "hi", "stop", 0)
    assert [(item.id, item.role, item.parts) for item in result.messages] == [
        ("t1~1", "assistant", (TextPart(text="hi"),))
    ]
    assert result.history == result.messages
    assert stage.executor.running == set()
    stage.time.advance(1)
    assert (stage.frames, stage.time.armed) == ([], 0)


async def test_a_turn_that_takes_a_while_is_announced_within_milliseconds() -> None:
    stage = Stage(_silent)
    running = stage.start()
    await settle()
    assert stage.frames == []
    stage.time.advance(0.010)
    assert stage.types == ["started"]
    running.abandon()
    await settle()


async def test_done_is_called_after_start_has_returned() -> None:
    async def echo(turn: AgentTurn, ctx: Context) -> str:
        return turn.text

    stage = Stage(echo)
    stage.start()
    assert stage.results == []
    await settle()
    assert len(stage.results) == 1


@pytest.mark.parametrize("by", ["user", "interrupt", "rollback", "delete"])
async def test_a_cancel_keeps_what_was_shown_marked_partial(by: str) -> None:
    async def chat(turn: AgentTurn, ctx: Context) -> None:
        await ctx.model()

    model = Told(["Once ", "upon ", "…"])
    stage = Stage(chat, model)
    running = stage.start()
    await settle()
    assert running.text == "Once upon "
    running.stop(by)  # type: ignore[arg-type]
    await settle()
    (result,) = stage.results
    assert (result.outcome, result.by, result.text) == ("cancelled", by, "Once upon ")
    assert [(item.text, item.partial) for item in result.history] == [("Once upon ", True)]
    assert model.closed == 1
    assert stage.types == ["started", "delta", "delta"]
    assert (stage.shown, result.seq) == ("Once upon ", 3)
    assert stage.executor.running == set()


async def test_a_cancel_before_the_task_has_begun_ends_the_turn_without_the_agent() -> None:
    ran = []

    async def agent(turn: AgentTurn, ctx: Context) -> str:
        ran.append(turn)
        return "no"

    stage = Stage(agent)
    stage.start().stop("user")
    assert stage.results == []
    await settle()
    stage.time.advance(0)
    assert [result.outcome for result in stage.results] == ["cancelled"]
    assert (ran, stage.results[0].text, stage.results[0].history) == ([], "", ())
    assert stage.executor.running == set()


async def test_a_second_stop_changes_nothing() -> None:
    stage = Stage(_silent)
    running = stage.start()
    await settle()
    running.stop("user")
    running.stop("delete")
    await settle()
    running.stop("delete")
    running.abandon()
    stage.time.advance(5)
    assert [(result.outcome, result.by) for result in stage.results] == [("cancelled", "user")]


async def test_an_agent_that_swallows_its_cancellation_is_cancelled_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def stubborn(turn: AgentTurn, ctx: Context) -> str:
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            pass
        return "I go on"

    stage = Stage(stubborn)
    running = stage.start()
    await settle()
    running.stop("user")
    await settle()
    assert [(result.outcome, result.text) for result in stage.results] == [("cancelled", "")]
    assert "swallowed its cancellation" in caplog.text


async def test_an_agent_that_does_not_stop_at_all_is_left_behind_within_the_bound(
    caplog: pytest.LogCaptureFixture,
) -> None:
    let_go = asyncio.Event()
    after: list[BaseException] = []

    async def immortal(turn: AgentTurn, ctx: Context) -> None:
        for _ in range(9):  # as good as immortal, and yet no test run hangs on it
            try:
                await let_go.wait()
                break
            except asyncio.CancelledError:
                continue
        try:
            ctx.emit("too late")
        except TurnLost as error:
            after.append(error)

    stage = Stage(immortal)
    running = stage.start()
    await settle()
    running.stop("user")
    await settle()
    assert stage.results == []
    stage.time.advance(1.0)
    assert [result.outcome for result in stage.results] == ["cancelled"]
    assert stage.executor.strays == 1
    assert "does not stop" in caplog.text
    let_go.set()
    await settle()
    assert (stage.executor.strays, stage.executor.running) == (0, set())
    assert len(after) == 1
    assert stage.frames == []
    assert len(stage.results) == 1


async def test_a_deadline_ends_the_turn_and_closes_the_model() -> None:
    async def chat(turn: AgentTurn, ctx: Context) -> None:
        assert ctx.remaining_s == 2.0
        await ctx.model()

    model = Told(["A", "…"])
    stage = Stage(chat, model, deadline_s=2)
    stage.start()
    await settle()
    stage.time.advance(1.9)
    await settle()
    assert stage.results == []
    stage.time.advance(0.2)
    await settle()
    (result,) = stage.results
    assert (result.outcome, result.code, result.text) == ("failed", Code.DEADLINE_EXCEEDED, "A")
    assert [item.partial for item in result.history] == [True]
    assert model.closed == 1


async def test_a_deadline_that_has_passed_costs_no_call() -> None:
    model = Told(["A"])

    async def chat(turn: AgentTurn, ctx: Context) -> None:
        await ctx.model()

    stage = Stage(chat, model, deadline_s=0)
    stage.start()
    await settle()
    assert stage.results == []
    stage.time.advance(0)
    assert [(result.outcome, result.code) for result in stage.results] == [("failed", Code.DEADLINE_EXCEEDED)]
    assert model.requests == []
    assert stage.executor.running == set()


async def test_a_long_deadline_is_watched_although_the_wall_clock_jumps() -> None:
    stage = Stage(_silent, deadline_s=3600)
    stage.start()
    await settle()
    stage.time.advance(0.02)
    for timer in stage.time.timers:
        timer.due_s += 3600
    stage.time.now_s += 3600
    stage.time.advance(30)
    await settle()
    assert [result.code for result in stage.results] == [Code.DEADLINE_EXCEEDED]


async def test_an_abandoned_turn_has_no_result_and_no_frame() -> None:
    async def chat(turn: AgentTurn, ctx: Context) -> None:
        await ctx.model()

    model = Told(["A", "B", "…"])
    stage = Stage(chat, model)
    running = stage.start()
    await settle()
    before = list(stage.frames)
    running.abandon()
    running.abandon()
    running.stop("user")
    await settle()
    stage.time.advance(100)
    assert (stage.results, stage.frames, model.closed) == ([], before, 1)
    assert (stage.executor.running, stage.time.armed) == (set(), 0)


async def test_a_turn_abandoned_before_it_began_leaves_nothing() -> None:
    stage = Stage(_silent)
    stage.start().abandon()
    await settle()
    stage.time.advance(100)
    assert (stage.results, stage.frames, stage.executor.running) == ([], [], set())


async def test_a_lost_session_ends_the_turn_silently_whatever_the_agent_catches() -> None:
    async def greedy(turn: AgentTurn, ctx: Context) -> str:
        try:
            await ctx.step("one", lambda: 1)
        except BaseException:  # noqa: BLE001 - what an agent must not do
            return "caught"
        return "never"

    stage = Stage(greedy)
    stage.link.lost = True
    stage.start()
    await settle()
    assert (stage.results, stage.frames, stage.executor.running) == ([], [], set())


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ValueError("bad\nsecret second line"), Code.AGENT_ERROR, "ValueError: bad"),
        (ValueError(), Code.AGENT_ERROR, "ValueError"),
        (TerminalError(Code.QUOTA, "used up"), Code.QUOTA, "used up"),
        (RetryableError("busy", code=Code.MODEL_RATE_LIMITED), Code.MODEL_RATE_LIMITED, "busy"),
        (SystemExit(3), Code.AGENT_ERROR, "SystemExit: 3"),
        (KeyboardInterrupt(), Code.AGENT_ERROR, "KeyboardInterrupt"),
        (asyncio.CancelledError(), Code.AGENT_ERROR, "CancelledError"),
        (RecursionError("deep"), Code.AGENT_ERROR, "RecursionError: deep"),
        (MemoryError(), Code.AGENT_ERROR, "MemoryError"),
    ],
)
async def test_what_an_agent_raises_is_a_typed_outcome(error: BaseException, code: Code, message: str) -> None:
    async def agent(turn: AgentTurn, ctx: Context) -> str:
        ctx.emit("so far")
        raise error

    stage = Stage(agent)
    result = await stage.play()
    assert (result.outcome, result.code, result.message) == ("failed", code, message)
    assert (result.text, [item.partial for item in result.history]) == ("so far", [True])


async def test_sys_exit_in_an_agent_does_not_end_the_worker(caplog: pytest.LogCaptureFixture) -> None:
    async def agent(turn: AgentTurn, ctx: Context) -> str:
        sys.exit("bye")

    result = await Stage(agent).play()
    assert (result.code, result.message) == (Code.AGENT_ERROR, "SystemExit: bye")
    assert "the agent raised SystemExit" in caplog.text
    assert "sys.exit" in caplog.text  # the stack is in the log, not in the message


@pytest.mark.parametrize("nothing", [None, "", Reply(), Reply(text="")])
async def test_an_agent_that_answers_nothing_fails(nothing: Reply | str | None) -> None:
    async def agent(turn: AgentTurn, ctx: Context) -> Reply | str | None:
        return nothing

    result = await Stage(agent).play()
    assert (result.outcome, result.code) == ("failed", Code.AGENT_ERROR)
    assert result.message.startswith("the agent returned nothing")


async def test_data_alone_is_an_answer() -> None:
    async def agent(turn: AgentTurn, ctx: Context) -> Reply:
        return Reply(data={"n": (1, 2)})  # type: ignore[dict-item]

    result = await Stage(agent).play()
    assert (result.outcome, result.text, result.data, result.history) == ("completed", "", {"n": [1, 2]}, ())


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (7, "the agent returned int, want Reply, str or None"),
        ({"text": "x"}, "the agent returned dict, want Reply, str or None"),
        (Reply("x", data=float("nan")), "data is not JSON"),
        (Reply("x", data=object()), "data is not JSON"),  # type: ignore[arg-type]
    ],
)
async def test_what_is_no_reply_is_refused(reply: object, message: str) -> None:
    async def agent(turn: AgentTurn, ctx: Context) -> object:
        return reply

    result = await Stage(agent).play()  # type: ignore[arg-type]
    assert (result.outcome, result.code) == ("failed", Code.AGENT_ERROR)
    assert result.message.startswith(message)


async def test_a_reply_of_ten_megabytes_fails_and_a_reply_within_the_limit_does_not() -> None:
    async def agent(turn: AgentTurn, ctx: Context) -> str:
        return "x" * (10_000_000 if turn.text == "big" else 245_760)

    big = await Stage(agent, given=TurnInput(text="big")).play()
    assert (big.outcome, big.code, big.text) == ("failed", Code.TOO_LARGE, "")
    assert big.message == "the answer has 10000000 bytes of JSON, at most 245760 are delivered"
    fits = await Stage(agent).play()
    assert (fits.outcome, len(fits.text)) == ("completed", 245_760)


async def test_bytes_are_counted_as_they_are_in_a_frame() -> None:
    async def agent(turn: AgentTurn, ctx: Context) -> str:
        return "\x01" * 100

    assert (await Stage(agent, max_reply_bytes=600).play()).outcome == "completed"
    assert (await Stage(agent, max_reply_bytes=599).play()).code == Code.TOO_LARGE


async def test_lone_surrogates_are_replaced() -> None:
    async def agent(turn: AgentTurn, ctx: Context) -> None:
        ctx.emit("a\ud800b")
        ctx.emit("\U0001f600")

    stage = Stage(agent)
    result = await stage.play()
    assert result.text == "a\ufffdb\U0001f600"
    assert stage.shown == result.text


async def test_the_result_says_what_the_turn_cost() -> None:
    async def agent(turn: AgentTurn, ctx: Context) -> None:
        await ctx.model("one", show=False)
        stage.time.advance(2)
        await ctx.model()

    stage: Stage = Stage(agent, Told([lambda: stage.time.advance(3), "Hello"]))
    result = await stage.play()
    assert (result.model_calls, result.retries) == (2, 0)
    assert [usage.model_dump(exclude_none=True) for usage in result.usage] == [
        {"model": "told", "input_tokens": 6, "output_tokens": 4}
    ]
    assert (result.model_us, result.agent_us) == (6_000_000, 2_000_000)


async def test_a_result_that_cannot_be_handed_over_is_told_to_the_owner_of_the_process() -> None:
    told: list[BaseException] = []

    async def echo(turn: AgentTurn, ctx: Context) -> str:
        return "x"

    stage = Stage(echo)
    executor = Executor(stage.executor.services, call_later=stage.time.call_later, fatal=told.append)

    def refuse(result: Result) -> None:
        raise ValueError("full")

    executor.start(stage.job, refuse)
    await settle()
    assert [str(error) for error in told] == ["full"]


async def test_the_task_carries_the_names_of_session_and_turn() -> None:
    names: list[str] = []

    async def agent(turn: AgentTurn, ctx: Context) -> str:
        task = asyncio.current_task()
        assert task is not None
        names.append(task.get_name())
        return "x"

    await Stage(agent).play()
    assert names == ["turn s1~t1"]


async def test_closing_the_loop_decides_nothing_about_a_turn(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    tasks: list[asyncio.Task[None]] = []

    async def agent(turn: AgentTurn, ctx: Context) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        await asyncio.get_running_loop().create_future()

    stage = Stage(agent)
    stage.start()
    await settle()
    tasks[0].cancel()
    await settle()
    assert (stage.results, stage.executor.running, caplog.text) == ([], set(), "")


class TestSteers:
    """What the user says while the agent runs."""

    def note(self, text: str, op: str = "x") -> ControlNote:
        return ControlNote(at_ms=5, op=op, kind="steer", turn="t1", tenant="default", user="ann", value=text)

    async def test_an_agent_that_never_asks_is_run_again_with_it_as_its_input(self) -> None:
        runs: list[tuple[str, list[str]]] = []

        async def run(turn: AgentTurn, ctx: Context) -> str:
            runs.append((turn.text, [item.text for item in (*ctx.history, ctx.message)]))
            if len(runs) == 1:
                stage.executor.running.copy().pop().steer(self.note("no, shorter"))
            return f"<{turn.text}>"

        stage = Stage(run)
        result = await stage.play()

        assert runs == [("hi", ["hi"]), ("no, shorter", ["hi", "<hi>", "no, shorter"])]
        assert result.text == "<hi><no, shorter>" == stage.shown
        assert [(item.role, item.text) for item in result.history] == [
            ("assistant", "<hi>"),
            ("user", "no, shorter"),
            ("assistant", "<no, shorter>"),
        ]
        assert [item.role for item in result.messages] == ["assistant", "assistant"]
        assert stage.link.sealed

    async def test_an_agent_that_asks_hears_it_once_and_its_next_step_says_so(self) -> None:
        async def run(turn: AgentTurn, ctx: Context) -> str:
            await ctx.step("one", lambda: 1)
            stage.executor.running.copy().pop().steer(self.note("and more"))
            heard = [item.text for item in ctx.steers()]
            assert ctx.steers() == ()
            await ctx.step("two", lambda: 2)
            return " ".join(heard)

        stage = Stage(run)
        result = await stage.play()

        assert result.text == "and more"
        assert [step.steers for step in stage.link.steps] == [(), ("x",)]

    async def test_a_replay_hears_it_where_it_was_heard(self) -> None:
        async def run(turn: AgentTurn, ctx: Context) -> str:
            said = []
            for number in range(3):
                said += [f"{number}:{item.text}" for item in ctx.steers()]
                await ctx.step("step", lambda n: n, [number, *said])
            return ",".join(said)

        first = Stage(run)
        first.job.turn = first.job.turn._replace(joined=(self.note("a", "x"),))
        await first.play()
        assert [step.steers for step in first.link.steps] == [("x",), (), ()]

        again = Stage(run, attempt=2, steps=first.link.steps[:2])
        again.job.turn = again.job.turn._replace(joined=(self.note("a", "x"), self.note("b", "y")))
        result = await again.play()

        assert result.text == "0:a,2:b"
        assert [step.steers for step in again.link.steps] == [("y",)]

    async def test_a_replay_of_a_second_run_goes_on_in_it(self) -> None:
        async def run(turn: AgentTurn, ctx: Context) -> str:
            await ctx.step("work", lambda text: text, turn.text)
            return f"<{turn.text}>"

        first = Stage(run)
        first.job.turn = first.job.turn._replace(joined=(self.note("a"),))
        whole = await first.play()
        assert whole.text == "<hi><a>"
        assert [step.steers for step in first.link.steps] == [(), ("x",)]

        again = Stage(run, attempt=2, steps=first.link.steps)
        again.job.turn = again.job.turn._replace(joined=(self.note("a"),))
        assert (await again.play()).text == "<hi><a>"
        assert again.shown == "<hi><a>"
        assert again.link.steps == []

    async def test_the_end_waits_for_what_is_about_to_join(self) -> None:
        async def run(turn: AgentTurn, ctx: Context) -> str:
            return turn.text

        stage = Stage(run)
        stage.link.joining = asyncio.get_running_loop().create_future()
        running = stage.start()
        await settle()
        assert stage.results == []
        running.steer(self.note("more"))
        stage.link.joining.set_result(None)
        await settle()
        assert [result.text for result in stage.results] == ["himore"]

    async def test_a_stop_ends_the_wait(self) -> None:
        async def run(turn: AgentTurn, ctx: Context) -> str:
            return turn.text

        stage = Stage(run)
        stage.link.joining = asyncio.get_running_loop().create_future()
        running = stage.start()
        await settle()
        running.stop("user")
        await settle()
        assert [result.outcome for result in stage.results] == ["cancelled"]

    async def test_a_second_run_replaces_only_its_own_text(self) -> None:
        async def run(turn: AgentTurn, ctx: Context) -> str:
            ctx.emit("draft")
            if turn.text == "hi":
                stage.executor.running.copy().pop().steer(self.note("again"))
                return "draft one"
            return "two"

        stage = Stage(run)
        result = await stage.play()

        assert result.text == "draft onetwo" == stage.shown
