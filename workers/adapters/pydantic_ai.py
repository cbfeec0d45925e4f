"""An agent of pydantic-ai as an agent of ours: its model calls and its tool calls are steps.

The agent is the author's, unchanged: for each run it is given the fleet's model and a capability that has its tools
called through the turn's context. What is no such call (validators, output functions, hooks) runs again in every
attempt. Its history is the session's.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from pydantic import JsonValue
from pydantic_ai import Agent, RunContext
from pydantic_ai.capabilities import AbstractCapability, ReinjectSystemPrompt, UseThreadExecutor
from pydantic_ai.exceptions import (
    ApprovalRequired,
    CallDeferred,
    ModelRetry,
    ToolFailedError,
    ToolRetryError,
    UnexpectedModelBehavior,
)
from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    RetryFeedbackPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)
from pydantic_ai.models import CompletedStreamedResponse, Model, ModelRequestParameters, StreamedResponse
from pydantic_ai.settings import ModelSettings
from pydantic_ai.tools import ToolDefinition
from pydantic_core import to_jsonable_python

from schemas.codes import Code
from schemas.errors import TerminalError
from schemas.frames import Finish
from workers.adapters.ending import Ending
from workers.adapters.pydantic_ai_checks import check
from workers.adapters.pydantic_ai_messages import call_of, replies_of, to_messages, to_response
from workers.agent import AgentSpec, AgentTurn, Reply, SessionInfo
from workers.context import Context, ModelParams
from workers.models.library_messages import messages_of
from workers.models.port import ModelRequest, ToolSpec
from workers.tools.calling import carry_out
from workers.tools.tool import Tool, ToolOutput, ToolPolicy

_UNNAMED = ToolPolicy()
_THREADS = 16  # plain functions of one agent that run at a time
_RETRY = "fleet_retry"


def pydantic_ai_agent(
    agent: Agent[Any, Any],
    *,
    version: str,
    name: str | None = None,
    policies: Mapping[str, ToolPolicy] | None = None,
    deps: Callable[[Context], Any] | None = None,
    **limits: Any,
) -> AgentSpec:
    """Make a spec of an agent of pydantic-ai; `limits` are the spec's other fields. Registers nothing.

    `name`: None: the agent's. `policies`: of its tools, by name; a tool without one has side effects. `deps`: makes
    what its tools get as `ctx.deps`, once an attempt.
    Raises RegistrationError for what cannot be made durable, and logs what is less than that.
    """
    named = policies or {}
    called = name or agent.name or "pydantic-ai"
    limits.setdefault("tools", check(agent, named, called))
    if isinstance(agent.model, str):
        limits.setdefault("model", agent.model)
    runs = _Runs(agent, named, deps)

    async def build(spec: AgentSpec, session: SessionInfo) -> _Runs:
        return runs

    return AgentSpec(name=called, version=version, build=build, **limits)


class _Runs:
    """One run of the agent a turn."""

    def __init__(
        self, agent: Agent[Any, Any], policies: Mapping[str, ToolPolicy], deps: Callable[[Context], Any] | None
    ) -> None:
        self._agent = agent
        self._policies = policies
        self._deps = deps
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="pydantic-ai")  # starts them when it must

    async def run(self, turn: AgentTurn, ctx: Context) -> Reply:
        line = _Line(ctx, turn.tools, self._policies)
        name = f"run {ctx.info.session}~{turn.id}"
        run = asyncio.get_running_loop().create_task(self._run(line), name=name)
        return line.reply(await line.ending.result_of(run))

    async def _run(self, line: _Line) -> Any:
        ctx = line.ctx
        result = await self._agent.run(
            _prompt(ctx),
            message_history=_messages(ctx, ctx.history),
            model=FleetModel(line),
            deps=self._deps(ctx) if self._deps is not None else None,
            capabilities=[_Durable(line), ReinjectSystemPrompt(), UseThreadExecutor(self._threads, id=None)],
            infer_name=False,
        )
        await line.ending.do(line.answer(result.new_messages()))
        return result.output


def _messages(ctx: Context, items: Sequence[Any]) -> list[ModelMessage]:
    return messages_of(ModelRequest(ctx.info.session, "", tuple(items)), addresses=True)


def _prompt(ctx: Context) -> Any:
    """The turn's input as the library's user says it."""
    parts = [part for message in _messages(ctx, [ctx.message]) for part in message.parts]
    return next((part.content for part in parts if isinstance(part, UserPromptPart)), "")


class _Line:
    """A turn that runs: its context, what the model said last, and which calls have their answer in the journal."""

    def __init__(self, ctx: Context, only: Sequence[str] | None, policies: Mapping[str, ToolPolicy]) -> None:
        self.ctx = ctx
        self.only = only  # what the turn brought of tools' names
        self.policies = policies
        self.ending = Ending()
        self._said = ""
        self._finish: Finish = "stop"
        self._asked: dict[str, ToolCallPart] = {}

    def admits(self, tool: str) -> bool:
        """Whether the turn's user may use it, and the turn allows it."""
        return self.policies.get(tool, _UNNAMED).admits(self.ctx.info) and (self.only is None or tool in self.only)

    async def ask(
        self, messages: list[ModelMessage], settings: ModelSettings, parameters: ModelRequestParameters
    ) -> ModelResponse:
        await self.answer(messages)
        systems, items = to_messages(messages)
        systems += [part.content for part in parameters.instruction_parts or ()]
        system = "\n\n".join(systems)
        if any(part.dynamic for part in parameters.instruction_parts or ()):
            system = str(await self.ctx.step("instructions", lambda: system))
        params: ModelParams = {
            "system": system,
            "temperature": settings.get("temperature"),
            "max_tokens": settings.get("max_tokens"),
            "tools": tuple(_spec(it) for it in (*parameters.function_tools, *parameters.output_tools)),
        }
        answer = await self.ctx.model(items, **params)
        self._said, self._finish = answer.text, answer.finish
        response = to_response(answer)
        self._asked = {part.tool_call_id: part for part in response.parts if isinstance(part, ToolCallPart)}
        return response

    async def answer(self, messages: Sequence[ModelMessage]) -> None:
        """What the library answered to calls by itself (arguments that do not fit, an output) joins the history."""
        if not self._asked or not messages:
            return
        replies = replies_of(messages[-1])
        for call, part in list(self._asked.items()):
            if call in replies:
                await self.ctx.branch(call, quiet=True).answer_call(call_of(part), replies[call])
        self._asked = {}

    async def call(self, tool: ToolDefinition, call: ToolCallPart, run: Callable[[dict[str, Any]], Any]) -> Any:
        """One call, in a branch of its own: the calls of one message run side by side."""
        part = self._asked.pop(call.tool_call_id, call)
        ours, branch = call_of(part), self.ctx.branch(call.tool_call_id, quiet=True)
        policy = self.policies.get(tool.name, _UNNAMED)
        policy = replace(policy, approval=policy.approval or bool((tool.metadata or {}).get(_APPROVAL)))
        made = await carry_out(branch, _as_ours(tool, policy, run), ours, ours.arguments or {})
        if isinstance(made.data, dict) and isinstance(retry := made.data.get(_RETRY), str):
            raise ModelRetry(retry)
        return _result(made)

    def reply(self, output: Any) -> Reply:
        """What the run came to: text that the model said was shown already."""
        if output is None or output == self._said:
            return Reply(finish=self._finish)
        if isinstance(output, str):
            self.ctx.emit(output)
            return Reply(finish=self._finish)
        data = to_jsonable_python(output)
        if not self._said:
            self.ctx.emit(json.dumps(data))
        return Reply(data=data, finish=self._finish)


class FleetModel(Model):
    """The fleet's model as one of the library's: what it is asked is a step."""

    def __init__(self, line: _Line) -> None:
        super().__init__()
        self._line = line

    @property
    def model_name(self) -> str:
        return "fleet"

    @property
    def system(self) -> str:
        return "turnfleet"

    async def request(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
    ) -> ModelResponse:
        settings, parameters = self.prepare_request(model_settings, model_request_parameters)
        return await self._line.ending.do(self._line.ask(messages, settings or {}, parameters))

    @asynccontextmanager
    async def request_stream(
        self,
        messages: list[ModelMessage],
        model_settings: ModelSettings | None,
        model_request_parameters: ModelRequestParameters,
        run_context: RunContext[Any] | None = None,
    ) -> AsyncGenerator[StreamedResponse]:
        """For an agent's own handlers of events; the user was shown the text as it came."""
        response = await self.request(messages, model_settings, model_request_parameters)
        yield CompletedStreamedResponse(response, model_request_parameters=model_request_parameters, replay_events=True)


_APPROVAL = "fleet_approval"


@dataclass
class _Durable(AbstractCapability[Any]):
    """Has each tool called as a step."""

    line: _Line

    async def prepare_tools(self, ctx: RunContext[Any], tool_defs: list[ToolDefinition]) -> list[ToolDefinition]:
        """Those that this turn's user may use. One that requires approval is an ordinary one to the library."""
        line = self.line
        mine = [it for it in tool_defs if line.admits(it.name)]
        return [
            replace(it, kind="function", metadata={**(it.metadata or {}), _APPROVAL: True})
            if it.kind == "unapproved"
            else it
            for it in mine
        ]

    async def wrap_tool_execute(
        self, ctx: RunContext[Any], *, call: ToolCallPart, tool_def: ToolDefinition, args: Any, handler: Any
    ) -> Any:
        given = call_of(call).arguments

        async def run(arguments: dict[str, Any]) -> Any:
            changed = args if arguments == given else {**args, **arguments}
            return await handler(changed)

        return await self._done(tool_def, call, run)

    async def _done(self, tool: ToolDefinition, call: ToolCallPart, run: Any) -> Any:
        line = self.line
        try:
            return await line.call(tool, call, run)
        except (ModelRetry, asyncio.CancelledError):
            raise
        except BaseException as error:  # noqa: BLE001 (it is raised by the turn)
            await line.ending.end(error)


def _as_ours(tool: ToolDefinition, policy: ToolPolicy, run: Callable[[dict[str, Any]], Any]) -> Tool:
    """One call of the author's tool; that it wants another try is its result, too."""

    async def call(given: Mapping[str, JsonValue], *, idempotency_key: str | None) -> ToolOutput:
        try:
            made = to_jsonable_python(await run(dict(given)))
        except ToolRetryError as retry:
            why = _content(retry.tool_retry)
            return ToolOutput.refused(why)._replace(data={_RETRY: why})
        except UnexpectedModelBehavior as error:
            if not isinstance(error.__cause__, ModelRetry):
                raise
            why = error.__cause__.message  # the last try that it had: the library says so when it is raised again
            return ToolOutput.refused(why)._replace(data={_RETRY: why})
        except ToolFailedError as failed:
            return ToolOutput.refused(_content(failed.tool_failed))
        except (ApprovalRequired, CallDeferred) as deferred:
            what = f"tool {tool.name} raised {type(deferred).__name__}: declare it with requires_approval=True"
            raise TerminalError(Code.AGENT_ERROR, what) from None
        text = made if isinstance(made, str) else json.dumps(made)
        return ToolOutput.said(text)._replace(data={"result": made})

    return Tool(tool.name, tool.description or "", tool.parameters_json_schema, call, policy)


def _content(part: ToolReturnPart | RetryFeedbackPart) -> str:
    """What the author's code said to the model."""
    return part.model_response_str(wrap_if_error=False) if isinstance(part, ToolReturnPart) else str(part.content)


def _result(made: ToolOutput) -> Any:
    if isinstance(made.data, dict) and "result" in made.data:
        return made.data["result"]
    return "".join(getattr(part, "text", "") for part in made.parts)


def _spec(tool: ToolDefinition) -> ToolSpec:
    return ToolSpec(tool.name, tool.description or "", tool.parameters_json_schema)
