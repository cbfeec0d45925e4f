"""The agents of the simulation: they answer what their journal must hold, and say when they run. Know no engine."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Literal, Protocol

from pydantic import JsonValue

from schemas.errors import RetryableError, TerminalError
from workers.agent import Agent, AgentSpec, AgentTurn, Reply, SessionInfo
from workers.context import Context
from workers.models.port import ModelRequest, ModelUnavailable
from workers.models.scripted import Script
from workers.side_by_side import side_by_side

REDRIVEN = "redrive-"
KILLS, RAISES = "kills its process", "raises"


class Watch(Protocol):
    """Who counts what runs."""

    def ran(self, turn: str) -> None: ...

    def worked(self, turn: str) -> None: ...

    def called(self, turn: str, tool: str, key: str) -> None: ...

    def saw(self, turn: str, what: str) -> None: ...


class Steps:
    """Up to four steps whose results are never the same twice; the answer is made of them alone. Of those that kill
    or raise every other one has been mended when it is redriven.

    `watch` is told of attempts and steps that begin; `kill()`: the process ends here.
    """

    def __init__(self, chances: random.Random, watch: Watch, kill: Callable[[], None]) -> None:
        self._chances = chances
        self._watch = watch
        self._kill = kill
        self._made = 0

    async def run(self, turn: AgentTurn, ctx: Context) -> Reply:
        self._watch.ran(turn.id)
        mended = turn.id.startswith(REDRIVEN) and number_of(turn.id) % 2 == 0
        if turn.text == KILLS and not mended:
            self._kill()
            await asyncio.Event().wait()
        if turn.text == RAISES and not mended:
            raise RuntimeError("as the turn asks")
        said: list[str] = []
        heard: list[JsonValue] = []
        for number in range(2 if turn.text in {KILLS, RAISES} else int(turn.text.split()[-1])):
            if number_of(turn.id) % 2:  # every other turn listens while it runs, the others are run again
                heard += [item.text for item in ctx.steers()]
            result = await ctx.step(f"s{number}", self._work, turn.id, number, heard)
            ctx.emit(f"[{result}]")
            said.append(f"[{result}]")
        return Reply("".join(said))

    async def _work(self, turn: str, number: int, _heard: list[JsonValue]) -> str:
        self._watch.worked(turn)
        self._made += 1
        made = self._made
        await asyncio.sleep(self._chances.choice((0, 0.01, 0.1, 0.4)))
        return f"{turn}.{number}.{made}"


class _Works:
    """Does the work of a step: what comes of it is never the same twice. `watch` is told of it when it begins."""

    _pauses: tuple[float, ...]

    def __init__(self, chances: random.Random, watch: Watch) -> None:
        self._chances = chances
        self._watch = watch
        self._made = 0

    async def _work(self, turn: str) -> str:
        self._watch.worked(turn)
        self._made += 1
        made = self._made
        await asyncio.sleep(self._chances.choice(self._pauses))
        return f"{turn}.{made}"


class Pays(_Works):
    """Three steps: it reads, pays (not idempotent) and books (idempotent); both may fail. What it is told it says.

    `watch` is told of attempts, steps and calls that begin.
    """

    _pauses = (0, 0.01, 0.05, 0.1)

    async def run(self, turn: AgentTurn, ctx: Context) -> Reply:
        self._watch.ran(turn.id)
        said = [f"[{await ctx.step('read', self._work, turn.id)}]"]
        ctx.emit(said[0])
        for name, tool in (("pay", self._pay), ("book", self._book)):
            try:  # whoever steers has it run again, with another text: that is another call
                result = await ctx.tool(f"{name} {turn.text}", tool, {"turn": turn.id, "text": turn.text})
            except TerminalError as error:
                result = error.code.value
            said.append(f"[{result}]")
            ctx.emit(said[-1])
        return Reply("".join(said))

    async def _pay(self, turn: str, text: str) -> str:
        self._watch.called(turn, f"pay {text}", "")
        if self._chances.random() < 0.05:
            raise RuntimeError("by chance")
        return await self._work(turn)

    async def _book(self, turn: str, text: str, idempotency_key: str) -> str:
        self._watch.called(turn, f"book {text}", idempotency_key)
        return await self._work(turn)


class Asks(_Works):
    """A step, a decision that its user makes (or nobody, in time), another step. Every third turn asks nothing.

    `watch` is told of attempts and steps that begin.
    """

    _pauses = (0, 0.01, 0.05, 0.2)

    async def run(self, turn: AgentTurn, ctx: Context) -> Reply:
        self._watch.ran(turn.id)
        said = [f"[{await ctx.step('before', self._work, turn.id)}]"]
        ctx.emit(said[0])
        if asks(turn.id):
            expires_s = (0.4, 2.0, 6.0)[number_of(turn.id) // 3 % 3]
            decision = await ctx.approval("go on?", name="go", arguments={"turn": turn.id}, expires_s=expires_s)
            said.append(f"[{decision._asdict()}]")
            ctx.emit(said[-1])
        said.append(f"[{await ctx.step('after', self._work, turn.id)}]")
        ctx.emit(said[-1])
        return Reply("".join(said))


class Yields(Asks):
    """The same; later turns are answered while one waits. Every attempt must see what the first one saw."""

    async def run(self, turn: AgentTurn, ctx: Context) -> Reply:
        if ctx.kept.get("last") != turn.id:  # else it is run again, with what its user said meanwhile
            self._watch.saw(turn.id, f"{[item.id for item in ctx.history]}, kept {dict(ctx.kept)}")
        ctx.keep("last", turn.id)
        return await super().run(turn, ctx)


class Forks(_Works):
    """A step, then three branches at once of up to two steps, one of them in a branch of its own; it writes
    down the session's turns in what the session keeps. The answer is made of all results, by branch."""

    _pauses = (0, 0.01, 0.05, 0.2)

    async def run(self, turn: AgentTurn, ctx: Context) -> Reply:
        self._watch.ran(turn.id)
        said = [f"[{await ctx.step('first', self._work, turn.id)}]"]
        ctx.emit(said[0])
        for texts in await side_by_side([self._branch(ctx.branch(name), turn.id) for name in ("a", "b", "c")]):
            said += texts
        turns = ctx.kept.get("turns")
        kept = list(turns) if isinstance(turns, list) else []
        ctx.keep("turns", kept if turn.id in kept else [*kept, turn.id])  # run again, it has kept it already
        return Reply("".join(said))

    async def _branch(self, ctx: Context, turn: str) -> list[str]:
        one = await ctx.step("one", self._work, turn)
        if ctx.info.session.endswith("1"):
            return [f"[{one}]"]
        two = await ctx.branch("inner", quiet=True).step("two", self._work, turn)
        return [f"[{one}]", f"[{two}]"]


def asks(turn: str) -> bool:
    """Whether a turn of `Asks` asks for a decision."""
    return number_of(turn) % 3 > 0


def number_of(turn: str) -> int:
    """What an agent goes by."""
    return int(turn.removeprefix(REDRIVEN), 16) if turn.startswith(REDRIVEN) else int(turn[1:])


def spec_of(
    name: str,
    agent: Agent,
    on_poison: Literal["skip", "wait"] = "skip",
    on_suspended: Literal["wait", "first"] = "wait",
) -> AgentSpec:
    """How it is registered."""

    async def build(_spec: AgentSpec, _session: SessionInfo) -> Agent:
        await asyncio.sleep(0.001)
        return agent

    return AgentSpec(
        name=name,
        version="1",
        build=build,
        description="Results of its own",
        on_poison=on_poison,
        on_suspended=on_suspended,
    )


def answers(chances: random.Random) -> Callable[[ModelRequest], Script]:
    """What the scripted model says: the number of messages that it saw, at some pace; some calls fail and pass."""

    def answer(request: ModelRequest) -> Script:
        drawn = chances.random()
        error: RetryableError | None = ModelUnavailable("by script") if drawn < 0.08 else None
        tokens = (f"{request.turn}", " saw", f" {len(request.messages)}")
        cut = 1 if error is not None and drawn < 0.04 else None
        return Script(tokens, first_s=0.02, pace_s=chances.choice((0.0, 0.05, 0.2)), error=error, cut_after=cut)

    return answer
