"""Large results: kept whole beside the journal's rows, shown cut, bounded and collected with their session."""

from __future__ import annotations

import json
from typing import Any

import pytest

from journal.commit import MAX_ROW
from journal.port import PAYLOAD_CHARS
from journal.rows import row_of
from journal.state import State
from schemas.history import ToolCall
from tests.support.memory_fleet import MemoryFleet
from tests.support.stage import Stage, Told
from workers.agent import AgentTurn, agent
from workers.canonical import MAX_RESULT_BYTES, MAX_TURN_BYTES
from workers.context import Context
from workers.cutting import MAX_FRAME_BYTES
from workers.endings import finish
from workers.models.port import ModelDone


def looking(results: list[Any]) -> Any:
    async def run(turn: AgentTurn, ctx: Context) -> None:
        answer = await ctx.model()
        for call, result in zip(answer.calls, results, strict=True):
            await ctx.tool("look", lambda result=result: result, {}, call=call.call, side_effects=False)

    return run


def model_of(results: list[Any], text: str = "I look.") -> Told:
    calls = tuple(ToolCall(call=f"c{n}", name="look", arguments={}) for n, _ in enumerate(results))
    return Told([text, ModelDone(calls=calls)])


@pytest.mark.parametrize("result", ["ü\u0000" * 400_000, {"rows": ["x" * 1_000] * 1_000}, "x" * 300_000, "short"])
async def test_a_result_is_shown_up_to_the_limit_of_a_frame_and_kept_whole(result: Any) -> None:
    stage = Stage(looking([result]), model_of([result]))
    ended = await stage.play()
    (shown,) = [frame for frame in stage.frames if frame["type"] == "tool_result"]
    assert len(json.dumps(shown, ensure_ascii=False).encode()) <= MAX_FRAME_BYTES
    large = len(json.dumps(result)) > 400_000
    assert shown.get("truncated") == ({"file": "/v1/sessions/s1/history"} if large else None)
    assert stage.link.steps[1].result == result
    kept = ended.history[1].parts[0].model_dump(mode="json")
    assert kept.get("text", kept.get("data")) == result


async def test_a_completed_frame_with_large_results_keeps_its_limit_and_the_history_has_them() -> None:
    results = ["x" * 200_000] * 5
    stage = Stage(looking(results), model_of(results, "I look. " * 20_000))
    ended = await stage.play()
    turn = stage.job.turn
    entry = finish("default/s1", State(open=turn), ended, now_ms=1, op=None, claim=None)
    frame = json.loads(entry.frames[0])
    assert len(entry.frames[0]) <= MAX_FRAME_BYTES
    assert (frame["truncated"], len(frame["messages"])) == ({"file": "/v1/sessions/s1/history"}, 1)
    assert [len(item.text) for item in entry.history] == [160_000, *[200_000] * 5]
    assert [item.call for item in entry.history[1:]] == [call.call for call in entry.history[0].calls]


async def test_the_largest_turn_there_can_be_fits_into_an_entry() -> None:
    count = MAX_TURN_BYTES // MAX_RESULT_BYTES
    results = ["\u0000" * ((MAX_RESULT_BYTES - 600) // 6)] * count  # six bytes of JSON a character
    stage = Stage(looking(results), model_of(results, "\u0000" * 40_000))
    ended = await stage.play()
    assert ended.outcome == "completed"
    entry = finish("default/s1", State(open=stage.job.turn), ended, now_ms=1, op=None, claim=None)
    size = row_of("default/s1", 9, entry, "n").size
    assert 12_000_000 < size < MAX_ROW


async def test_payloads_live_and_go_with_their_session() -> None:
    @agent(name="large", version="1")
    async def large(turn: AgentTurn, ctx: Context) -> str:
        whole = await ctx.step("read", lambda: "x" * 2_000_000)
        return f"{len(whole)} characters"

    async with MemoryFleet(large, default="large") as fleet:
        await fleet.worker()
        fleet.turn("s1", turn="t1")
        await fleet.until(lambda: fleet.frames("s1", "completed"))
        bodies = fleet.store.log.payloads.bodies
        assert [len(body) > PAYLOAD_CHARS for _, body in bodies.values()] == [True]
        state = await fleet.state("s1")
        assert (state.open, len(state.history)) == (None, 2)
        fleet.control("s1", op="d", kind="delete", user="anonymous")
        await fleet.until(lambda: fleet.frames("s1", "ack"))
        assert bodies == {}
