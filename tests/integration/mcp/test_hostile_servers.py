"""Servers that misbehave: each call has a typed outcome, the others go on, the loop comes round."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

import pytest

from schemas.codes import Code
from schemas.errors import RetryableError, TerminalError
from schemas.parts import TextPart, text_of
from tests.support.mcp_hosts import hosted, hostile, lag, session
from workers.mcp.lease import Away

LAG_S = 1.0  # of a machine that does other things as well; a blocked loop is blocked for far longer here


async def test_a_result_of_fifty_megabytes_is_an_error_and_the_connection_stays() -> None:
    async with hosted(it=hostile(), other=hostile(prefix="other_")) as made, lag() as worst:
        before = await made.call("pid")
        big, beside = await asyncio.gather(made.call("big"), made.call("other_good"))
        assert big.is_error
        assert "the answer has more than 4194304 bytes: ask for less" in text_of(big.parts)
        assert text_of(beside.parts) == "good works"
        assert await made.call("pid") == before
        assert made.outcomes() == ["done", "done", "error", "done"]
    assert worst[0] < LAG_S


async def test_a_result_below_the_cap_comes_whole() -> None:
    async with hosted(it=hostile()) as made, lag() as worst:
        big = await made.call("big", bytes=4_000_000)
        assert len(text_of(big.parts)) == 4_000_000
    assert worst[0] < LAG_S


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("flood", "it floods us with messages that nobody asked for"),
        ("endless", "it printed a line without an end, of far more than 4194304 bytes"),
        ("die", "it ended"),
        ("half", "it ended"),
    ],
)
async def test_a_server_that_floods_or_dies_is_made_anew_and_harms_no_other(
    name: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with hosted(it=hostile(), other=hostile(prefix="other_")) as made, lag() as worst:
        calling = asyncio.create_task(made.call(name))
        beside = await made.call("other_good")
        assert text_of(beside.parts) == "good works"
        with pytest.raises(RetryableError, match=f"{name}: its server went away"):
            await calling
        assert text_of((await made.call("good")).parts) == "good works"
        await made.until("mcp_openings", "lost")
        assert sorted(made.outcomes("mcp_openings")) == ["lost", "opened", "opened", "opened"]
    assert f"mcp it: lost: {why}" in caplog.messages
    assert worst[0] < LAG_S


async def test_whether_a_tool_took_effect_is_unknown_when_its_server_dies_under_it() -> None:
    async with hosted(it=hostile(tools={"die": {}, "never": {"timeout_s": 0.3}})) as made:
        with pytest.raises(TerminalError) as caught:
            await made.call("die")
        assert caught.value.code is Code.OUTCOME_UNKNOWN
        assert str(caught.value) == "die: its server went away; whether it took effect is unknown"
        with pytest.raises(TerminalError) as caught:
            await made.call("never")
        assert caught.value.code is Code.OUTCOME_UNKNOWN
        assert made.outcomes() == ["lost", "timeout"]


async def test_garbage_between_messages_is_passed_over_and_too_much_of_it_is_the_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with hosted(it=hostile()) as made:
        assert text_of((await made.call("garbage")).parts) == "after the garbage"
        assert sum("prints what is no message" in line for line in caplog.messages) == 1
        with pytest.raises(RetryableError, match="went away"):
            await made.call("garbage", lines=1_000)
        assert text_of((await made.call("good")).parts) == "good works"
    assert "mcp it: lost: it printed 1000 lines that are no messages" in caplog.messages


async def test_a_call_without_an_answer_is_cancelled_in_time_and_others_go_on(tmp_path: Path) -> None:
    place = tmp_path / "heard"
    server = hostile(variables={"PLACE": str(place)}, tools={"never": {"read_only": True, "timeout_s": 0.3}})
    async with hosted(it=server) as made:
        never, good = await asyncio.gather(made.call("never"), made.call("good"), return_exceptions=True)
        assert isinstance(never, RetryableError)
        assert str(never) == "never: no answer within 0.3 s"
        assert not isinstance(good, BaseException)
        await made.call("good")  # by now the server has read what came before it
        assert place.read_text().startswith("cancelled ")


async def test_a_call_that_is_cancelled_is_cancelled_at_the_server(tmp_path: Path) -> None:
    place = tmp_path / "heard"
    async with hosted(it=hostile(variables={"PLACE": str(place)})) as made:
        await made.tools()
        calling = asyncio.create_task(made.call("never"))
        await asyncio.sleep(0.2)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        await made.call("good")
        assert place.read_text().startswith("cancelled ")
        assert made.outcomes() == ["cancelled", "done"]


async def test_a_server_that_answers_nothing_any_more_is_made_anew(caplog: pytest.LogCaptureFixture) -> None:
    policies = {"deaf": {"read_only": True, "timeout_s": 0.2}, "good": {"read_only": True, "timeout_s": 0.2}}
    async with hosted(it=hostile(list_ttl_s=60, others=None, tools=policies)) as made:
        for name in ("deaf", "good", "good"):
            with pytest.raises(RetryableError):
                await made.call(name)
        await made.until("mcp_openings", "lost")
        while (await made.call("good")).is_error:
            pass
    assert "mcp it: lost: it left 3 calls in a row without an answer" in caplog.messages


@pytest.mark.parametrize("mode", ["mute", "dies"])
async def test_a_server_that_does_not_open_has_no_tools_and_holds_up_nobody_for_long(mode: str) -> None:
    async with hosted(it=hostile(mode, open_timeout_s=1.0), other=hostile(prefix="other_")) as made:
        assert {name for name in await made.tools() if not name.startswith("other_")} == set()
        assert made.host.servers["it"].why
        if mode == "dies":
            assert "cannot work like this" in made.host.servers["it"].why
        async with asyncio.timeout(1.0):
            assert "other_good" in await made.tools()
        await made.until("mcp_openings", "failed")


async def test_a_command_that_is_not_there_is_away() -> None:
    async with hosted(it=hostile(command="no-such-command-here")) as made:
        assert await made.tools() == {}
        assert "cannot run no-such-command-here: No such file or directory" in made.host.servers["it"].why


async def test_openings_that_fail_are_further_and_further_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    most: list[float] = []

    def longest(least: float, most_s: float) -> float:
        most.append(most_s)
        return 0.0

    monkeypatch.setattr("random.uniform", longest)
    async with hosted(it=hostile("dies")) as made:
        for _ in range(10):
            await made.tools()
            while any(known.fetching for known in made.host.servers["it"]._known.values()):
                await asyncio.sleep(0.01)
    assert most == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0, 60.0]


async def test_of_a_bad_list_the_good_tools_are_offered(caplog: pytest.LogCaptureFixture) -> None:
    async with hosted(it=hostile("bad-list")) as made, lag() as worst:
        assert list(await made.tools()) == ["good", "odd_n_me_with_spaces", "bomb"]
        assert text_of((await made.call("odd_n_me_with_spaces")).parts) == "odd näme/with spaces works"
        why = {left.name: left.why for left in made.host.servers["it"].left}
        bomb = await made.call("bomb")
    assert bomb.data == {"a": "a" * 40 + "!"}  # its pattern was not run: that would take years
    assert why["twin"] == "the server has two tools of this name"
    assert why["bad_type"].startswith("at properties/a/type: 'nonsense' is not valid")
    assert why["bad_pattern"] == "a broken pattern"
    assert why["bad_ref"] == "$ref '#/$defs/none' leads nowhere"
    assert {"", "?", "no_schema", "schema_is_text", "deep", "huge"} <= set(why)
    assert "mcp it: tool 'twin' is left out: the server has two tools of this name" in caplog.messages
    assert worst[0] < LAG_S


@pytest.mark.parametrize(
    ("name", "text", "is_error"),
    [
        ("strange", "(the tool answered nothing)", False),
        ("error", "error: no such thing (code -32602)", True),
        ("structured", "{}", False),
    ],
)
async def test_strange_answers_are_results(name: str, text: str, is_error: bool) -> None:
    async with hosted(it=hostile()) as made:
        answer = await made.call(name)
        assert (text_of(answer.parts), answer.is_error) == (text, is_error)


async def test_parts_of_unknown_kinds_are_noted() -> None:
    async with hosted(it=hostile()) as made:
        answer = await made.call("unknown_kind")
        assert answer.parts[0] == TextPart(text="[a part of kind 'hologram' is left out]")
        assert answer.parts[3] == TextPart(text="\ufffd ok")


async def test_a_server_finds_next_to_nothing_in_its_environment() -> None:
    environ = {"PATH": "/usr/bin:/bin", "FLEET_MODEL_KEY": "canary-1", "OPENAI_API_KEY": "canary-2", "MINE": "given"}
    async with hosted(environ=environ, it=hostile(env={"TOKEN": "MINE"}, variables={"MODE": "x"})) as made:
        seen = json.loads(text_of((await made.call("environment")).parts))
    assert "canary" not in json.dumps(seen)
    assert set(seen) - {"LC_CTYPE"} == {"PATH", "HOME", "TMPDIR", "LANG", "TOKEN", "MODE"}
    assert (seen["TOKEN"], seen["MODE"]) == ("given", "x")
    assert not Path(seen["HOME"]).exists()


async def test_who_is_not_let_in_sees_no_tool() -> None:
    tools = {"good": {"tenants": ["t"]}, "pid": {"tenants": ["other"]}, "count": {"users": ["somebody"]}}
    async with hosted(it=hostile(tools=tools, others=None)) as made:
        assert list(await made.tools()) == ["good"]
        assert list(await made.tools(session(tenant="other"))) == ["pid"]


async def test_a_backoff_is_told_as_it_is() -> None:
    async with hosted(it=hostile("dies", open_timeout_s=2)) as made:
        lease = made.host.servers["it"]._lease(session())
        with pytest.raises(Away, match="cannot work like this"):
            async with lease.use():
                pass
        lease._not_before_s += 100
        with pytest.raises(Away, match=r"it is tried again in \d+\.\d s") as caught:
            async with lease.use():
                pass
        assert caught.value.after_s is not None
        assert caught.value.code is Code.TOOL_ERROR


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "fleet.mcp")
