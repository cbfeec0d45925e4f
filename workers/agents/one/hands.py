"""What OneAgent acts with: the plan, the workspace, sub-agents, and the tools that it is allowed. Knows no model.

The plan and the workspace change in the order of the calls, whether they are carried out or answered from the journal:
so every attempt sees the same ones.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from schemas.codec import first_error
from schemas.history import ToolCall
from workers.agent import user as as_user
from workers.agents.one.loop import Bounds, Loop, Ran, because
from workers.agents.one.plan import Plan, WritePlan
from workers.agents.one.workspace import TOOLS, FileError, Workspace
from workers.context import Context
from workers.models.port import ToolSpec
from workers.side_by_side import side_by_side
from workers.tools.calling import call_tool
from workers.tools.tool import ToolOutput, untitled
from workers.tools.toolbox import Toolbox

PLAN, TASK = "write_todos", "task"
OWN = frozenset({PLAN, TASK, *TOOLS})
_HELPER = (
    "You are a helper: carry out one task for another agent, which sees nothing but your last answer. Answer with the "
    "result, complete and brief."
)


class Task(BaseModel):
    """Have a helper carry out a task on its own, with a context of its own: for work that would fill yours, or that can
    go on side by side (call this several times at once). It sees only the prompt, and you only its answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str = Field(min_length=1, max_length=100)
    prompt: str = Field(min_length=1, max_length=20_000)


class Hands:
    """`depth`: how many more levels of helpers there may be; `tasks`: how many of them this run may start; `bounds`: of
    each."""

    over = False

    def __init__(  # noqa: PLR0913 (each is one choice of the agent's)
        self,
        ctx: Context,
        toolbox: Toolbox,
        *,
        plan: Plan,
        workspace: Workspace,
        depth: int,
        tasks: int,
        bounds: Bounds,
    ) -> None:
        self._ctx = ctx
        self._toolbox = toolbox
        self._plan = plan
        self._workspace = workspace
        self._depth = depth
        self._tasks = tasks
        self._bounds = bounds
        self._started = 0
        self._specs: tuple[ToolSpec, ...] | None = None

    def specs(self) -> tuple[ToolSpec, ...]:
        """Ours first, then the allowed ones by name: an order that does not change from turn to turn."""
        if self._specs is None:
            own = own_specs()[: None if self._depth > 0 else -1]
            self._specs = (*own, *self._toolbox.by_name)
        return self._specs

    async def act(self, calls: Sequence[ToolCall]) -> Sequence[ToolOutput]:
        """All at once; what helpers wrote is taken over in the order of the calls."""
        outputs = await side_by_side([self._one(call) for call in calls])
        for call, output in zip(calls, outputs, strict=True):
            if call.name == TASK and isinstance(output.data, dict):
                self._workspace.merge(output.data.get("files"))
        return outputs

    async def _one(self, call: ToolCall) -> ToolOutput:
        if call.name == PLAN or call.name in TOOLS:
            return await self._own(call, self._change(call))
        if call.name == TASK and self._depth > 0:
            return await self._delegate(call)
        return await call_tool(self._ctx, self._toolbox, call)

    async def _own(self, call: ToolCall, output: ToolOutput) -> ToolOutput:
        return await self._ctx.branch(call.call, quiet=True).answer_call(call, output)

    def _change(self, call: ToolCall) -> ToolOutput:
        """Plan and workspace, at once: before anything is awaited."""
        if call.name == PLAN:
            return self._done(call, WritePlan, self._plan.write)
        given_type, work = TOOLS[call.name]
        return self._done(call, given_type, lambda given: work(self._workspace, given))

    def _done(self, call: ToolCall, given_type: type[BaseModel], work: Any) -> ToolOutput:
        try:
            if call.arguments is None:
                raise FileError("the arguments are no JSON object: give one")
            text = work(given_type.model_validate(call.arguments))
        except ValidationError as error:
            return ToolOutput.refused(f"{call.name} does not take these arguments: {first_error(error)}")
        except FileError as error:
            return ToolOutput.refused(f"{call.name}: {error}")
        if call.name == PLAN:
            self._ctx.state("plan", self._plan.as_json())
        return ToolOutput.said(text)

    async def _delegate(self, call: ToolCall) -> ToolOutput:
        self._started += 1
        try:
            task = Task.model_validate(call.arguments)
        except ValidationError as error:
            text = f"{TASK} does not take these arguments: {first_error(error)}"
            return await self._own(call, ToolOutput.refused(text))
        if self._started > self._tasks:
            text = f"no more helpers: {self._tasks} were started in this turn"
            return await self._own(call, ToolOutput.refused(text))
        files = self._workspace.fork()

        async def work(line: Context, **_: JsonValue) -> ToolOutput:
            return await self._help(line, task, files)

        line = self._ctx.branch(call.call, quiet=True)
        made = await line.delegate(TASK, work, call.arguments, call=call.call)
        assert isinstance(made, ToolOutput)
        return made

    async def _help(self, line: Context, task: Task, files: Workspace) -> ToolOutput:
        hands = Hands(
            line,
            self._toolbox,
            plan=Plan(),
            workspace=files,
            depth=self._depth - 1,
            tasks=self._tasks,
            bounds=self._bounds,
        )
        ran = await Loop(line, hands, system=_HELPER, bounds=self._bounds).run([as_user(task.prompt)])
        text = (
            ran.text or f"[the helper gave no answer: it was ended by {because(ran.why, self._bounds) or 'its model'}]"
        )
        return ToolOutput(ToolOutput.said(text).parts, not ran.text, _kept(ran, files))


class NoHands:
    """For a model that takes no tools: there are none."""

    over = False

    def specs(self) -> tuple[ToolSpec, ...]:
        return ()

    async def act(self, calls: Sequence[ToolCall]) -> Sequence[ToolOutput]:
        return [ToolOutput.refused("there are no tools") for _ in calls]


def _kept(ran: Ran, files: Workspace) -> dict[str, JsonValue]:
    kept: dict[str, JsonValue] = {"files": files.changes()}
    if ran.why:
        kept["ended_by"] = ran.why
    return kept


@functools.cache
def own_specs() -> tuple[ToolSpec, ...]:
    """What the model is told of ours; the helpers' last."""
    own: dict[str, type[BaseModel]] = {
        PLAN: WritePlan,
        **{name: given for name, (given, _) in TOOLS.items()},
        TASK: Task,
    }
    return tuple(ToolSpec(name, inspect.getdoc(given) or "", schema_of(given)) for name, given in own.items())


def schema_of(given: type[BaseModel]) -> Mapping[str, JsonValue]:
    """What the model is told of the arguments."""
    schema = given.model_json_schema()
    schema.pop("description", None)
    for each in schema.get("$defs", {}).values():
        untitled(each)
    return untitled(schema)
