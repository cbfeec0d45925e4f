"""Several agents behind one name: a router picks a specialist, specialists hand over and delegate. Knows no engine.

Who is at work is kept in the session: the next turn goes to the same specialist. One that is handed the conversation
sees all of it; one that is delegated to sees its task alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pydantic import JsonValue

from schemas.history import HistoryItem, ToolCall
from workers.agent import Agent, AgentSpec, AgentTurn, RegistrationError, Reply, SessionInfo
from workers.agent import user as as_user
from workers.agents.one.loop import Bounds, Loop, because
from workers.context import Context
from workers.models.port import ToolSpec
from workers.prompt.compile import Prompt
from workers.prompt.turn import noted, prompted
from workers.side_by_side import side_by_side
from workers.tools import reserved
from workers.tools.calling import call_tool
from workers.tools.tool import NAME, Tool, ToolOutput
from workers.tools.toolbox import Toolbox

HAND_OVER, DELEGATE = "hand_over", "delegate"
_KEPT = "team"
_MOST_HANDOVERS = 4
_ROUTE = "You only decide who answers; you answer nothing yourself. Say the one name, and nothing else:\n{team}"
_SPECIALIST = (
    "{instructions}\n\nYou are {name}, one of a team:\n{team}\n\nWhere another one should answer the user, call "
    f"{HAND_OVER}; where you need another one's work for your own answer, call {DELEGATE}."
)


@dataclass(frozen=True, slots=True)
class Specialist:
    """One of a team. `about`: what it is for, for the router and the others; `tools`: its own; `served`: the names of
    those of the operator's servers that it may use. Raises RegistrationError."""

    name: str
    about: str
    instructions: str
    tools: tuple[Tool, ...] = ()
    served: frozenset[str] = frozenset()
    model: str | None = None
    bounds: Bounds = field(default_factory=Bounds)

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise RegistrationError(f"specialist {self.name[:80]!r}: give 1-64 characters out of A-Z a-z 0-9 _ -")
        names = [*(tool.name for tool in self.tools), *self.served]
        reserved.check_free(names, reserved.TEAM, f"specialist {self.name}")
        if twice := {name for name in names if names.count(name) > 1}:
            raise RegistrationError(f"specialist {self.name}: two tools are called {min(twice)!r}; rename one")


class Team:
    """One instance serves every session. The first specialist answers where the router names none. Raises
    RegistrationError."""

    def __init__(self, specialists: Sequence[Specialist], *, router_model: str | None = None) -> None:
        if not specialists:
            raise RegistrationError("a team has at least one specialist")
        self._team = {specialist.name: specialist for specialist in specialists}
        if len(self._team) < len(specialists):
            raise RegistrationError("two specialists of a team have the same name")
        self._router_model = router_model
        self.roster = "\n".join(f"- {one.name}: {one.about}" for one in specialists)

    async def run(self, turn: AgentTurn, ctx: Context) -> Reply:
        """Routed once in a session; from then on whoever has the conversation answers, and may hand it over."""
        name = await self._first(ctx)
        served = await ctx.offered() if any(one.served for one in self._team.values()) else ()
        prompt: Prompt | None = None
        messages: Sequence[HistoryItem] = ()
        for left in range(_MOST_HANDOVERS, -1, -1):
            specialist = self._team[name]
            desk = Desk(self, specialist, ctx, Tools(tuple(served), turn.tools), may_hand_over=left > 0)
            system = _SPECIALIST.format(instructions=specialist.instructions, name=name, team=self.roster)
            loop = Loop(ctx, desk, system=system, bounds=specialist.bounds, model=specialist.model)
            if prompt is None:
                prompt = await prompted(ctx, system, tools=desk.specs())
                messages = prompt.messages
            ran = await loop.run(messages)
            if loop.first is not None and messages is prompt.messages:
                noted(ctx, prompt, loop.first)
            if desk.handed_to is None:
                break
            name, messages = desk.handed_to, ran.messages
        ctx.keep(_KEPT, name)
        if not ran.text:
            ctx.emit(f"I could not answer: this turn came to {because(ran.why, specialist.bounds) or 'no answer'}.")
        return Reply(finish=ran.finish)

    async def _first(self, ctx: Context) -> str:
        kept = ctx.kept.get(_KEPT)
        if isinstance(kept, str) and kept in self._team:
            return kept
        if len(self._team) == 1:
            return next(iter(self._team))
        answer = await ctx.model(
            (ctx.message,), system=_ROUTE.format(team=self.roster), show=False, model=self._router_model
        )
        said = answer.text.lower()
        return next((name for name in self._team if name.lower() in said), next(iter(self._team)))

    def others(self, name: str) -> list[str]:
        """Everybody else."""
        return [other for other in self._team if other != name]

    def member(self, name: JsonValue) -> Specialist | None:
        return self._team.get(name) if isinstance(name, str) else None


class Tools(NamedTuple):
    """What a turn has for its specialists: the tools of the operator's servers, and the names that the turn allows."""

    served: tuple[Tool, ...]
    only: Sequence[str] | None

    def of(self, specialist: Specialist, ctx: Context) -> Toolbox:
        """Those of one of them."""
        served = (tool for tool in self.served if tool.name in specialist.served)
        return Toolbox((*specialist.tools, *served), ctx.info, only=self.only)


class Desk:
    """What one specialist acts with. `handed_to`: whom it handed the conversation to."""

    def __init__(self, team: Team, specialist: Specialist, ctx: Context, tools: Tools, *, may_hand_over: bool) -> None:
        self.handed_to: str | None = None
        self._team = team
        self._specialist = specialist
        self._ctx = ctx
        self._tools = tools
        self._toolbox = tools.of(specialist, ctx)
        self._may_hand_over = may_hand_over

    @property
    def over(self) -> bool:
        """The conversation is somebody else's now."""
        return self.handed_to is not None

    def specs(self) -> tuple[ToolSpec, ...]:
        others: list[JsonValue] = [*self._team.others(self._specialist.name)]
        own = []
        if others and self._may_hand_over:
            own.append(_spec(HAND_OVER, "Hand the conversation over: the other one answers the user.", others, "why"))
        if others:
            own.append(_spec(DELEGATE, "Have another one do a task, and use what it answers.", others, "task"))
        return (*own, *self._toolbox.by_name)

    async def act(self, calls: Sequence[ToolCall]) -> Sequence[ToolOutput]:
        return await side_by_side([self._one(call) for call in calls])

    async def _one(self, call: ToolCall) -> ToolOutput:
        if call.name not in {HAND_OVER, DELEGATE}:
            return await call_tool(self._ctx, self._toolbox, call)
        line = self._ctx.branch(call.call, quiet=True)
        given = call.arguments or {}
        other = self._team.member(given.get("to"))
        if other is None or other is self._specialist:
            names = ", ".join(self._team.others(self._specialist.name)) or "nobody"
            return await line.answer_call(call, ToolOutput.refused(f"`to` must be one of: {names}"))
        if call.name == HAND_OVER:
            return await self._hand_over(line, call, other)
        if not isinstance(task := given.get("task"), str) or not task:
            return await line.answer_call(call, ToolOutput.refused("`task` must be a text"))

        async def work(branch: Context, **_: JsonValue) -> ToolOutput:
            return await self._done_by(branch, other, task)

        made = await line.delegate(DELEGATE, work, given, call=call.call)
        assert isinstance(made, ToolOutput)
        return made

    async def _hand_over(self, line: Context, call: ToolCall, other: Specialist) -> ToolOutput:
        if not self._may_hand_over or self.handed_to is not None:
            text = "the conversation was handed over often enough in this turn: answer the user yourself"
            return await line.answer_call(call, ToolOutput.refused(text))
        self.handed_to = other.name
        self._ctx.state("specialist", other.name)
        return await line.answer_call(call, ToolOutput.said(f"{other.name} has the conversation now"))

    async def _done_by(self, branch: Context, other: Specialist, task: str) -> ToolOutput:
        helper = Helper(self._tools.of(other, branch), branch)
        ran = await Loop(branch, helper, system=other.instructions, bounds=other.bounds, model=other.model).run(
            [as_user(task)]
        )
        text = (
            ran.text or f"[{other.name} gave no answer: {because(ran.why, other.bounds) or 'its model said nothing'}]"
        )
        return ToolOutput.said(text, is_error=not ran.text)


class Helper:
    """What a specialist acts with on a task that was delegated to it: its tools, and nobody else."""

    over = False

    def __init__(self, toolbox: Toolbox, ctx: Context) -> None:
        self._toolbox = toolbox
        self._ctx = ctx

    def specs(self) -> tuple[ToolSpec, ...]:
        return self._toolbox.by_name

    async def act(self, calls: Sequence[ToolCall]) -> Sequence[ToolOutput]:
        return await side_by_side([call_tool(self._ctx, self._toolbox, call) for call in calls])


def team(specialists: Sequence[Specialist], *, name: str, version: str, **more: object) -> AgentSpec:
    """A spec of a team; `more`: `router_model`, and the spec's other fields. Raises RegistrationError."""
    router = more.pop("router_model", None)
    built = Team(specialists, router_model=router if isinstance(router, str) else None)

    async def build(spec: AgentSpec, session: SessionInfo) -> Agent:
        return built

    tools = frozenset(name for one in specialists for name in (*one.served, *(tool.name for tool in one.tools)))
    return AgentSpec(name=name, version=version, build=build, tools=tools, max_steps=512, **more)  # type: ignore[arg-type]


TEAM = (
    Specialist("generalist", "everyday questions and talk", "You answer everyday questions, briefly and truthfully."),
    Specialist("writer", "texts: drafts, rewriting, summaries", "You write and improve texts. Give the text itself."),
    Specialist("analyst", "numbers, comparisons, decisions", "You analyse step by step, and give the result first."),
)


def spec() -> AgentSpec:
    """How `team` is registered."""
    return team(TEAM, name="team", version="1", description="A router and three specialists", profile=True)


def _spec(name: str, description: str, others: list[JsonValue], text: str) -> ToolSpec:
    properties: dict[str, JsonValue] = {"to": {"type": "string", "enum": others}, text: {"type": "string"}}
    required: list[JsonValue] = ["to", text]
    return ToolSpec(name, description, {"type": "object", "properties": properties, "required": required})
