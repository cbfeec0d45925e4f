"""`fleet chat` at a terminal where an agent asks: allowed, edited, denied by Ctrl-C, decided elsewhere; in a pipe."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from tests.support.asks_meanwhile import orders
from tests.support.gateway_house import House, Served
from tests.support.memory_fleet import MemoryFleet
from tests.support.terminal import Terminal, chat_at_terminal
from workers.agent import AgentTurn, agent
from workers.context import Context


@agent(name="pays", version="1")
async def pays(turn: AgentTurn, ctx: Context) -> str:
    ctx.state("plan", [{"text": "ask first", "status": "in_progress"}])
    if turn.text == "which":
        picked = await ctx.approval("which one?", schema={"type": "string"}, expires_s=60)
        return f"picked {picked.answer}"
    decision = await ctx.approval("may I?", name="pay", arguments={"eur": 5}, expires_s=60)
    if turn.text == "slow":
        ctx.emit("going on")
        await asyncio.Event().wait()
    return f"paid {json.dumps(decision.arguments)} allowed={decision.allowed} by={decision.by}"


@dataclass
class Chat:
    """Gateway and worker on this loop; the terminal is read in a thread."""

    fleet: MemoryFleet
    served: Served

    @property
    def environ(self) -> dict[str, str]:
        host, port = self.served.address.split(":")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("FLEET_")}
        return {**kept, "FLEET_GATEWAY_HOST": host, "FLEET_GATEWAY_PORT": port}


@pytest.fixture
async def chat() -> AsyncIterator[Chat]:
    async with MemoryFleet(pays, orders, default="pays") as fleet:
        await fleet.worker()
        house = House(fleet.cluster, fleet.store)
        try:
            yield Chat(fleet, await house.gateway())
        finally:
            await house.stop()


async def test_yes_allows_and_the_plan_was_shown(chat: Chat) -> None:
    def person(screen: Terminal) -> None:
        screen.until("you>")
        screen.type("pay\r")
        shown = screen.until("allow, until")
        assert "[~] ask first" in shown and "approval: may I?" in shown and 'pay {"eur": 5}' in shown
        screen.type("y\r")
        screen.until("allowed=True by=anonymous")

    with chat_at_terminal(chat.environ) as screen:
        await asyncio.to_thread(person, screen)


async def test_arguments_are_edited(chat: Chat) -> None:
    def person(screen: Terminal) -> None:
        screen.until("you>")
        screen.type("pay\r")
        screen.until("e edits:")
        screen.type("e\r")
        screen.until("arguments:")
        screen.type('\x01\x0b{"eur": 3}\r')
        screen.until("e edits:")
        screen.type("y\r")
        screen.until(r'paid {"eur": 3} allowed=True')

    with chat_at_terminal(chat.environ) as screen:
        await asyncio.to_thread(person, screen)


async def test_ctrl_c_denies_and_cancels_nothing(chat: Chat) -> None:
    def person(screen: Terminal) -> None:
        screen.until("you>")
        screen.type("pay\r")
        screen.until("e edits:")
        screen.type("\x03")
        screen.until("allowed=False by=anonymous")
        screen.until("you>")
        screen.type("which\r")
        screen.until("nothing denies:")
        screen.type("the red one\r")
        screen.until("picked the red one")

    with chat_at_terminal(chat.environ) as screen:
        await asyncio.to_thread(person, screen)


async def test_ctrl_c_still_cancels_the_turn_after_a_decision(chat: Chat) -> None:
    def person(screen: Terminal) -> None:
        screen.until("you>")
        screen.type("slow\r")
        screen.until("e edits:")
        screen.type("y\r")
        screen.until("going on")
        os.kill(screen.process.pid, signal.SIGINT)
        screen.until("cancelled by user")
        screen.until("you>")

    with chat_at_terminal(chat.environ) as screen:
        await asyncio.to_thread(person, screen)


async def test_what_is_decided_elsewhere_closes_the_question(chat: Chat) -> None:
    def begins(screen: Terminal) -> None:
        screen.until("you>")
        screen.type("pay\r")
        screen.until("e edits:")

    def ends(screen: Terminal) -> None:
        seen = screen.until("denied by anonymous")
        assert "\x1b[?2004l" in seen, "the question was left (its pasting mode too) before that was said"
        screen.until("allowed=False")
        screen.until("you>")
        screen.type("\x04")
        screen.until("goes on with")

    with chat_at_terminal(chat.environ, "--session", "elsewhere") as screen:
        await asyncio.to_thread(begins, screen)
        asked = chat.fleet.frames("elsewhere", "approval_requested")[-1]
        async with chat.served.http("anonymous") as http:
            body = {"call": asked["call"], "decision": "deny"}
            await http.post(f"/v1/sessions/elsewhere/turns/{asked['turn']}/approve", json=body)
        await asyncio.to_thread(ends, screen)
        assert await asyncio.to_thread(screen.process.wait, 10) == 0


async def test_a_pipe_denies_and_its_output_is_the_answer_alone(chat: Chat) -> None:
    command = [sys.executable, "-m", "fleet", "chat"]
    done = await asyncio.to_thread(
        subprocess.run, command, input="pay\n", env=chat.environ, capture_output=True, text=True, timeout=30
    )
    assert done.stdout == "paid null allowed=False by=anonymous\n"
    assert "nobody is at a terminal: denied" in done.stderr
    assert done.returncode == 0


async def test_a_tool_asks_while_it_is_called_and_takes_what_fits_in_time(chat: Chat) -> None:
    def person(screen: Terminal) -> None:
        screen.until("you>")
        screen.type("go\r")
        screen.until("nothing denies:")
        screen.type('{"size": 7}\r')
        screen.until("the decision was not taken: refused")
        screen.until("nothing denies:")
        screen.type('{"size": "S"}\r')
        screen.until("True {'size': 'S'}")
        screen.until("you>")
        screen.type("brief\r")
        screen.until("nothing denies:")
        screen.until("denied by deadline")
        screen.until("False None")
        screen.until("you>")

    with chat_at_terminal(chat.environ, "--agent", "orders") as screen:
        await asyncio.to_thread(person, screen)
