"""An agent of the OpenAI Agents SDK as an agent of ours: its model calls and its tool calls are steps.

The agent is the author's, unchanged: a copy of it, and of each one that it may hand off to, asks the fleet's model and
calls its tools through the turn's context. What is no such call (guardrails, hooks, output functions) runs again in
every attempt. Its history is the session's.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import agents
from agents.agent_output import AgentOutputSchemaBase
from agents.models.interface import Model
from agents.tool import FunctionTool, invoke_function_tool
from agents.tool_context import ToolContext
from agents.usage import Usage
from openai.types.responses.response_usage import InputTokensDetails, OutputTokensDetails
from pydantic import JsonValue
from pydantic_core import to_jsonable_python

from schemas.codes import Code
from schemas.errors import TerminalError
from schemas.frames import Finish
from schemas.frames import Usage as Tokens
from schemas.history import HistoryItem, ToolCall
from workers.adapters.ending import Ending
from workers.adapters.openai_agents_checks import check
from workers.adapters.openai_agents_items import (
    from_tool_output,
    object_of,
    to_items,
    to_messages,
    to_output,
    to_tool_output,
)
from workers.agent import AgentSpec, AgentTurn, ModelAnswer, Reply, SessionInfo
from workers.agent import assistant as as_assistant
from workers.agent import user as as_user
from workers.context import Context, ModelParams
from workers.models.port import ToolSpec
from workers.output import NotFitting, Output
from workers.prompt.compile import Prompt
from workers.prompt.turn import noted, prompted
from workers.tools.calling import carry_out
from workers.tools.tool import Tool, ToolOutput, ToolPolicy

_UNNAMED = ToolPolicy()


def openai_agent(
    agent: agents.Agent[Any],
    *,
    version: str,
    name: str | None = None,
    policies: Mapping[str, ToolPolicy] | None = None,
    context: Callable[[Context], Any] | None = None,
    max_turns: int = 10,
    **limits: Any,
) -> AgentSpec:
    """Make a spec of an agent of the OpenAI Agents SDK; `limits` are the spec's other fields. Registers nothing.

    `name`: None: the agent's. `policies`: of its tools, by name; a tool without one has side effects. `context`: makes
    what its tools get as `context`, once a turn. `max_turns`: model calls of one run.
    Raises RegistrationError for what cannot be made durable, and logs what is less than that.
    """
    named = policies or {}
    limits.setdefault("tools", check(agent, named, name or agent.name))
    runs = _Runs(_copy(agent, named, {}), context, max_turns)

    async def build(spec: AgentSpec, session: SessionInfo) -> _Runs:
        return runs

    return AgentSpec(name=name or agent.name, version=version, build=build, **limits)


class _Runs:
    """One run of the SDK a turn."""

    def __init__(self, agent: agents.Agent[Any], context: Callable[[Context], Any] | None, max_turns: int) -> None:
        self._agent = agent
        self._context = context
        self._max_turns = max_turns

    async def run(self, turn: AgentTurn, ctx: Context) -> Reply:
        line = _Line(ctx, turn.tools)
        instructions = self._agent.instructions
        prompt = await prompted(ctx, instructions if isinstance(instructions, str) else "")
        token = _LINE.set(line)
        run = asyncio.get_running_loop().create_task(self._run(ctx, prompt), name=f"run {ctx.info.session}~{turn.id}")
        _LINE.reset(token)
        final = await line.ending.result_of(run)
        if line.first is not None:
            noted(ctx, prompt, line.first)
        return line.reply(final)

    async def _run(self, ctx: Context, prompt: Prompt) -> Any:
        result = await agents.Runner.run(
            self._agent,
            to_items(prompt.messages),
            context=self._context(ctx) if self._context is not None else None,
            max_turns=self._max_turns,
            # Tracing would send what is said to its vendor. The provider is for agents in tools: they are as they were.
            run_config=agents.RunConfig(tracing_disabled=True, model_provider=_FLEET),
        )
        return result.final_output


class _Line:
    """A turn that runs: its context, and what the model said last. `within`: the line whose tool is an agent."""

    def __init__(self, ctx: Context, only: Sequence[str] | None, within: _Line | None = None) -> None:
        self.ctx = ctx
        self.only = only  # what the turn brought of tools' names
        self.first: ModelAnswer | None = None
        self._said = ""
        self._handed: dict[str, ToolCall] = {}  # handoffs that the model asked for last
        self._finish: Finish = "stop"
        self._inner = within is not None
        self.ending: Ending = Ending() if within is None else within.ending

    async def ask(
        self, messages: list[HistoryItem], params: ModelParams, wanted: Output | None, handoffs: Collection[str]
    ) -> agents.ModelResponse:
        """`handoffs`: the names of the calls that the SDK answers by itself."""
        for item in messages:
            if item.call in self._handed:
                await self.ctx.answer_call(self._handed.pop(item.call), ToolOutput(item.parts))
        answer = await self._asked(messages, params, wanted)
        if not self._inner:
            self._handed = {call.call: call for call in answer.calls if call.name in handoffs}
        return agents.ModelResponse(to_output(answer), _usage(answer.usage), response_id=None)

    async def _asked(self, messages: list[HistoryItem], params: ModelParams, wanted: Output | None) -> ModelAnswer:
        """A value that does not fit is asked for once more; of one that fits, the JSON alone goes to the SDK."""
        answer = await self._answer(messages, params)
        if wanted is None or answer.calls:
            return answer
        try:
            return replace(answer, text=json.dumps(wanted.read(answer.text)))
        except NotFitting as fault:
            said = as_user(f"That does not fit: {fault}\nAnswer again, with the JSON alone.")
        self.ctx.emit("\n")
        again = await self._answer([*messages, as_assistant(answer.text or "[nothing]"), said], params)
        again = replace(again, usage=(*answer.usage, *again.usage))
        try:
            return again if again.calls else replace(again, text=json.dumps(wanted.read(again.text)))
        except NotFitting as fault:
            raise TerminalError(Code.MODEL_ERROR, f"the model's output does not fit, twice: {fault}") from None

    async def _answer(self, messages: list[HistoryItem], params: ModelParams) -> ModelAnswer:
        answer = await self.ctx.model(messages, **params)
        self.first = self.first or answer
        self._said, self._finish = answer.text, answer.finish
        return answer

    async def call(self, tool: FunctionTool, policy: ToolPolicy, context: ToolContext[Any], arguments: str) -> Any:
        """One call, in a branch of its own: the calls of one message run side by side."""
        given = object_of(arguments)
        text = None if given is not None else arguments
        call = ToolCall(call=context.tool_call_id, name=tool.name, arguments=given, arguments_text=text)
        branch = self.ctx.branch(call.call, quiet=True)
        if given is None:
            no = ToolOutput.refused(f"the arguments of {tool.name} are no JSON object: give one")
            return from_tool_output(await branch.answer_call(call, no))
        if callable(tool.needs_approval):
            asks = await branch.step("needs_approval", _asking(tool.needs_approval, context, given))
        else:
            asks = tool.needs_approval
        ours = replace(policy, approval=policy.approval or asks)
        inner: _Line | None = None
        if tool._is_agent_tool:  # begun also where the call is answered from the journal, so that nobody misses it
            inner = _Line(branch.branch("agent", call=call.call), None, within=self)
        made = await carry_out(branch, _as_ours(tool, ours, context, inner), call, given)
        return from_tool_output(made)

    def reply(self, final: Any) -> Reply:
        """What the run came to: text that the model said was shown already."""
        if final is None or final == self._said:
            return Reply(finish=self._finish)
        if isinstance(final, str):
            self.ctx.emit(final)
            return Reply(finish=self._finish)
        data = to_jsonable_python(final)
        if not self._said:
            self.ctx.emit(json.dumps(data))
        return Reply(data=data, finish=self._finish)


_LINE: ContextVar[_Line] = ContextVar("fleet_openai_agents_line")


class FleetModel(Model):
    """The fleet's model as one of the SDK: what it is asked is a step. `name`: None: as the spec says."""

    def __init__(self, name: str | None) -> None:
        self._name = name

    async def get_response(  # noqa: PLR0913 (the SDK's signature)
        self,
        system_instructions: str | None,
        input: str | list[Any],
        model_settings: agents.ModelSettings,
        tools: list[agents.Tool],
        output_schema: AgentOutputSchemaBase | None,
        handoffs: list[agents.Handoff[Any, Any]],
        tracing: agents.ModelTracing,
        **_: Any,
    ) -> agents.ModelResponse:
        wanted = _wanted(output_schema)
        params: ModelParams = {
            "system": "\n\n".join(filter(None, (system_instructions, wanted.instruction if wanted else ""))),
            "model": self._name,
            "temperature": model_settings.temperature,
            "max_tokens": model_settings.max_tokens,
            "tools": () if model_settings.tool_choice == "none" else _specs(tools, handoffs),
        }
        line, names = _LINE.get(), {it.tool_name for it in handoffs}
        return await line.ending.do(line.ask(to_messages(input), params, wanted, names))

    def stream_response(self, *_: Any, **__: Any) -> AsyncIterator[Any]:
        raise TerminalError(Code.AGENT_ERROR, "a run of the fleet streams by itself; use no run_streamed inside it")


class _Fleet(agents.ModelProvider):
    """For agents whose model the SDK looks up."""

    def get_model(self, model_name: str | None) -> Model:
        return FleetModel(model_name)


_FLEET = _Fleet()


def _copy(
    agent: agents.Agent[Any], policies: Mapping[str, ToolPolicy], done: dict[int, agents.Agent[Any]]
) -> agents.Agent[Any]:
    """`agent` with each call a step, and all that it may hand off to; `done`: those made already, by id."""
    if id(agent) in done:
        return done[id(agent)]
    copied = agent.clone(
        model=FleetModel(agent.model if isinstance(agent.model, str) else None),
        tools=[
            _tool(tool, policies.get(tool.name, _UNNAMED)) for tool in agent.tools if isinstance(tool, FunctionTool)
        ],
        handoffs=[],
        instructions=_instructions(agent.instructions),
    )
    done[id(agent)] = copied
    copied.handoffs = [_copy(other, policies, done) for other in agent.handoffs if isinstance(other, agents.Agent)]
    return copied


def _instructions(given: Any) -> Any:
    """A function's text is a step as well: it may tell the time."""
    if not callable(given):
        return given

    async def text(context: agents.RunContextWrapper[Any], agent: agents.Agent[Any]) -> str:
        async def made() -> str:
            result = given(context, agent)
            return str(await result if inspect.isawaitable(result) else result)

        line = _LINE.get()
        return str(await line.ending.do(line.ctx.step("instructions", made)))

    return text


def _tool(tool: FunctionTool, policy: ToolPolicy) -> FunctionTool:
    async def invoke(context: ToolContext[Any], arguments: str) -> Any:
        line = _LINE.get()
        return await line.ending.do(line.call(tool, policy, context, arguments))

    async def enabled(context: agents.RunContextWrapper[Any], agent: Any) -> bool:
        line = _LINE.get()
        if not policy.admits(line.ctx.info) or (line.only is not None and tool.name not in line.only):
            return False
        given = tool.is_enabled
        result = given(context, agent) if callable(given) else given
        return bool(await result if inspect.isawaitable(result) else result)

    copied = copy.copy(tool)
    copied.on_invoke_tool = invoke
    copied.is_enabled = enabled
    # Within the step: a call that is given up from outside has no outcome.
    copied.needs_approval, copied.timeout_seconds = False, None
    return copied


def _asking(asks: Any, context: ToolContext[Any], given: dict[str, JsonValue]) -> Callable[[], Awaitable[bool]]:
    async def made() -> bool:
        return bool(await asks(context, given, context.tool_call_id))

    return made


def _as_ours(tool: FunctionTool, policy: ToolPolicy, context: ToolContext[Any], inner: _Line | None) -> Tool:
    """One call of the author's tool; what it raises is told to the model, as the tool itself says where it does.
    `inner`: where the model calls of an agent in it go."""

    async def call(given: Mapping[str, JsonValue], *, idempotency_key: str | None) -> ToolOutput:
        arguments = json.dumps(given)
        context.tool_arguments = arguments
        if inner is not None:
            _LINE.set(inner)  # of this call's task alone
        return to_tool_output(await invoke_function_tool(function_tool=tool, context=context, arguments=arguments))

    return Tool(tool.name, tool.description, tool.params_json_schema, call, policy)


def _wanted(schema: AgentOutputSchemaBase | None) -> Output | None:
    return None if schema is None or schema.is_plain_text() else Output(schema.json_schema())


def _specs(tools: list[agents.Tool], handoffs: list[agents.Handoff[Any, Any]]) -> tuple[ToolSpec, ...]:
    of_tools = [
        ToolSpec(it.name, it.description, it.params_json_schema) for it in tools if isinstance(it, FunctionTool)
    ]
    return (*of_tools, *(ToolSpec(it.tool_name, it.tool_description, it.input_json_schema) for it in handoffs))


def _usage(used: tuple[Tokens, ...]) -> Usage:
    given, said = sum(it.input_tokens for it in used), sum(it.output_tokens for it in used)
    cached = sum(it.cached_input_tokens or 0 for it in used)
    reasoned = sum(it.reasoning_tokens or 0 for it in used)
    return Usage(
        requests=1,
        input_tokens=given,
        output_tokens=said,
        total_tokens=given + said,
        input_tokens_details=InputTokensDetails(cached_tokens=cached, cache_write_tokens=0),
        output_tokens_details=OutputTokensDetails(reasoning_tokens=reasoned),
    )
