"""The chat page in a real browser: what agents show, and what a person decides on it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.browser.conftest import Pages
from tests.support.asks_meanwhile import orders
from workers.agent import AgentTurn, Reply, agent
from workers.context import Context
from workers.tools.tool import ToolOutput

HOSTILE = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"


async def test_an_answer_streams(pages: Pages) -> None:
    go = asyncio.Event()

    @agent(name="slow", version="1")
    async def slow(turn: AgentTurn, ctx: Context) -> str:
        ctx.emit("first ")
        await go.wait()
        ctx.emit("second")
        return "first second"

    async with pages(slow) as page:
        await page.open("streams")
        await page.say("hi")
        await page.see("article.assistant.running > p", "first")
        go.set()
        await page.see("article.assistant:not(.running) > p", "first second")


async def test_a_plan_changes_and_a_call_is_one_line(pages: Pages) -> None:
    go = asyncio.Event()

    @agent(name="plans", version="1")
    async def plans(turn: AgentTurn, ctx: Context) -> str:
        ctx.state("plan", [{"text": "look", "status": "in_progress"}, {"text": "book", "status": "pending"}])
        await go.wait()
        await ctx.tool("look", lambda: "three trains", {}, call="c1")
        ctx.state("plan", [{"text": "look", "status": "done"}])
        return "there are three"

    async with pages(plans) as page:
        await page.open("plans")
        await page.say("hi")
        await page.see(".plan li:nth-child(2)", "book")
        assert "in progress" in await page.script("return document.querySelector('.plan li').textContent")
        go.set()
        await page.gone(".plan li:nth-child(2)")
        await page.see(".plan li.done", "✓ look")
        await page.see(".work > li.call.done", "look done")
        await page.click(".work details summary")
        await page.see(".work details pre", "three trains")
        await page.see("article.assistant:not(.running) > p", "there are three")


def pays(decided: list[Any]) -> Any:
    @agent(name="pays", version="1")
    async def pays(turn: AgentTurn, ctx: Context) -> str:
        decision = await ctx.approval("may I?", name="pay", arguments={"eur": 5}, expires_s=60)
        decided.append(decision)
        return f"paid {json.dumps(decision.arguments)}"

    return pays


async def test_an_approval_is_allowed_with_other_arguments(pages: Pages) -> None:
    decided: list[Any] = []
    async with pages(pays(decided)) as page:
        await page.open("pays")
        await page.say("pay")
        await page.see(".asked", "may I?")
        await page.see(".asked small", "Open until")
        assert json.loads(await page.script("return document.querySelector('.asked textarea').value")) == {"eur": 5}
        await page.type(".asked textarea", "[")
        await page.click(".asked .allow")
        await page.see(".asked [role=alert]", "Not sent")
        await page.type(".asked textarea", '{"eur": 3}')
        await page.click(".asked .allow")
        await page.see("article.assistant:not(.running) > p", 'paid {"eur": 3}')
        await page.see(".decided", "allowed by anonymous")
        await page.gone(".asked")
    assert [decision.allowed for decision in decided] == [True]


async def test_a_hostile_text_is_shown_and_runs_nothing(pages: Pages) -> None:
    answers: list[Any] = []

    @agent(name="hostile", version="1")
    async def hostile(turn: AgentTurn, ctx: Context) -> str:
        await ctx.tool("look", lambda: ToolOutput.said(HOSTILE), {}, call="c1")
        ctx.state("plan", [{"text": HOSTILE, "status": HOSTILE}])
        ctx.state("notice", HOSTILE)
        decision = await ctx.approval(HOSTILE, schema={"type": "string", "title": HOSTILE}, expires_s=60)
        answers.append(decision.answer)
        return HOSTILE

    async with pages(hostile) as page:
        await page.open("hostile")
        await page.say(HOSTILE)
        await page.see(".asked p", HOSTILE)
        await page.see(".plan li", HOSTILE)
        await page.see(".work .notice", HOSTILE)
        await page.click(".work .call summary")
        await page.see(".work .call pre", HOSTILE)
        await page.type(".asked textarea", HOSTILE)
        await page.click(".asked .allow")
        await page.see("article.assistant:not(.running) > p", HOSTILE)
        assert await page.script("return document.querySelectorAll('main img, main script').length") == 0
        assert await page.script("return document.title") == "Turnfleet chat"
    assert answers == [HOSTILE]


async def test_an_open_approval_outlives_the_connection_and_the_page(pages: Pages) -> None:
    decided: list[Any] = []
    async with pages(pays(decided)) as page:
        await page.open("again")
        await page.say("pay")
        await page.see(".asked", "may I?")
        await page.type(".asked textarea", '{"eur": 1}')
        await page.script("socket.close()")
        await page.until(lambda: page.driver.execute_script("return generation > 1 && socket.readyState === 1"))
        await page.see("#state", "connected as")
        assert await page.script("return document.querySelector('.asked textarea').value") == '{"eur": 1}', "kept"
        await asyncio.to_thread(page.driver.refresh)
        await page.see(".asked", "May pay be called?")
        await page.click(".asked .deny")
        await page.see("article.assistant:not(.running) > p", "paid null")
        await page.see(".decided", "denied by anonymous")
    assert [decision.allowed for decision in decided] == [False]


async def test_a_sub_agents_frames_stand_under_its_call_and_are_no_answer(pages: Pages) -> None:
    go = asyncio.Event()

    @agent(name="delegates", version="1")
    async def delegates(turn: AgentTurn, ctx: Context) -> str:
        async def helper(task: str) -> str:
            line = ctx.branch("helper", call="c1")
            line.emit("inner words")
            line.state("progress:c2", {"tool": "search", "done": 1, "total": 2, "message": "half way"})
            await go.wait()
            return str(await line.tool("search", lambda: "found", {}, call="c2"))

        return f"outer {await ctx.tool('helper', helper, {'task': 'x'}, call='c1')}"

    async with pages(delegates) as page:
        await page.open("delegates")
        await page.say("hi")
        await page.see(".call .work .call .how", "running · 1 of 2 · half way")
        assert await page.script("return document.querySelector('.call > code').textContent") == "helper"
        assert await page.script("return document.querySelector('article.assistant > p').textContent") == ""
        assert await page.script("return document.querySelector('.call .thought pre').textContent") == "inner words"
        go.set()
        await page.see(".call .work .call.done", "search done")
        await page.see("article.assistant:not(.running) > p", "outer found")
        await page.see(".work > .call.done > .how", "done")


async def test_a_question_with_a_schema_is_answered_in_json(pages: Pages) -> None:
    @agent(name="wonders", version="1")
    async def wonders(turn: AgentTurn, ctx: Context) -> str:
        schema: Any = {"type": "object", "properties": {"colour": {"type": "string"}, "n": {"default": 2}}}
        decision = await ctx.approval("which?", schema=schema, expires_s=60)
        return json.dumps(decision.answer)

    async with pages(wonders) as page:
        await page.open("wonders")
        await page.say("hi")
        await page.see(".asked", "A question")
        begun = json.loads(await page.script("return document.querySelector('.asked textarea').value"))
        assert begun == {"colour": None, "n": 2}
        await page.type(".asked textarea", '{"colour": "red"}')
        await page.click(".asked .allow")
        await page.see("article.assistant:not(.running) > p", '{"colour": "red"}')


async def test_what_is_decided_elsewhere_closes_it(pages: Pages) -> None:
    decided: list[Any] = []
    async with pages(pays(decided)) as page:
        await page.open("watched")
        await page.say("pay")
        await page.see(".asked", "may I?")
        asked = page.fleet.frames("watched", "approval_requested")[-1]
        place = {"op": "o1", "turn": asked["turn"], "call": asked["call"], "user": "anonymous"}
        page.fleet.control("watched", kind="approve", decision="deny", **place)
        await page.see(".decided", "denied by anonymous")
        await page.gone(".asked")
        await page.see("article.assistant:not(.running) > p", "paid null")


async def test_a_plan_of_plain_texts_is_one(pages: Pages) -> None:
    @agent(name="plain", version="1")
    async def plain(turn: AgentTurn, ctx: Context) -> str:
        ctx.state("plan", ["look", {"text": "book"}, 3, None])
        return "done"

    async with pages(plain) as page:
        await page.open("plain")
        await page.say("hi")
        await page.see("article.assistant:not(.running) > p", "done")
        await page.see(".plan li:nth-child(1)", "look")
        await page.see(".plan li:nth-child(2)", "book")
        await page.see(".plan li:nth-child(3)", "3")


async def test_an_address_that_names_no_session_begins_one(pages: Pages) -> None:
    async with pages(pays([])) as page:
        await page.open("%E0%A4%A")
        assert (await page.script("return location.hash")).startswith("#chat-")


async def test_arguments_hide_nothing_from_whoever_decides(pages: Pages) -> None:
    hidden = "a\u202eb\U000e0041c\u3164d\u00a0e😀f\ng"

    @agent(name="hides", version="1")
    async def hides(turn: AgentTurn, ctx: Context) -> str:
        await ctx.approval("may I?", name="pay", arguments={"to": hidden}, expires_s=60)
        return "done"

    async with pages(hides) as page:
        await page.open("hides")
        await page.say("hi")
        await page.see(".asked", "may I?")
        shown = await page.script("return document.querySelector('.asked textarea').value")
        assert "".join(shown.split()) == (r'{"to":"a\u202eb\udb40\udc41c\u3164d\u00a0e' + "😀" + r'f\ng"}')
        assert json.loads(shown) == {"to": hidden}


async def test_a_cancel_outlives_the_connection(pages: Pages) -> None:
    @agent(name="endless", version="1")
    async def endless(turn: AgentTurn, ctx: Context) -> str:
        ctx.emit("begun")
        await asyncio.Event().wait()
        return "never"

    async with pages(endless) as page:
        await page.open("endless")
        await page.say("hi")
        await page.see("article.assistant.running > p", "begun")
        await page.script("socket.close(); document.getElementById('cancel').click()")
        await page.see("article.assistant:not(.running) .note", "cancelled")


async def test_an_answer_that_is_data_alone_is_shown(pages: Pages) -> None:
    @agent(name="counts", version="1")
    async def counts(turn: AgentTurn, ctx: Context) -> Reply:
        return Reply(data={"n": 3})

    async with pages(counts) as page:
        await page.open("counts")
        await page.say("hi")
        await page.click("article.assistant details summary")
        await page.see("article.assistant details pre", '"n": 3')


async def test_a_tool_asks_while_it_is_called(pages: Pages) -> None:
    async with pages(orders) as page:
        await page.open("meanwhile")
        await page.say("go")
        await page.see(".asked p", "Which size?")
        await page.type(".asked textarea", '{"size": 7}')
        await page.click(".asked .allow")
        await page.see(".asked [role=alert]", "It was not taken.")
        await page.script("socket.close()")
        await page.until(lambda: page.driver.execute_script("return generation > 1 && socket.readyState === 1"))
        await page.type(".asked textarea", '{"size": "S", "note": null}')
        await page.click(".asked .allow")
        await page.see(".decided", "A question allowed by anonymous")
        await page.see("article.assistant:not(.running) > p", "True {'size': 'S'}")
        await page.say("brief")
        await page.see(".asked p", "Which size?")
        await page.see("article:last-child .decided", "A question denied by deadline")
        await page.gone(".asked")


async def test_a_question_of_an_attempt_that_died_is_closed(pages: Pages) -> None:
    async with pages(orders) as page:
        await page.open("dies")
        await page.say("go")
        await page.see(".asked p", "Which size?")
        worker, _ = page.fleet.workers[0]
        for partition in worker.system.partitions.values():
            for actor in list(partition.actors.values()):
                actor.lost(release=False)
        await worker.drain()
        page.fleet.workers.clear()
        await page.fleet.worker()
        await page.see(".decided", "A question no longer open")
        await page.see("article.assistant:not(.running) > p", "unknown")
