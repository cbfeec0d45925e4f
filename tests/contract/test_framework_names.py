"""The names of other frameworks that the adapters stand on, public or not: which of them a new version has moved."""

from __future__ import annotations

import copy
import inspect
from collections import deque
from functools import cached_property
from importlib.metadata import version
from typing import Any

import agents
import pytest
from agents.models.fake_id import FAKE_RESPONSES_ID
from agents.models.interface import Model
from agents.tool import FunctionTool, invoke_function_tool
from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableConfig
from langchain_core.tracers._streaming import _StreamingCallbackHandler
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.pregel._read import PregelNode
from langgraph.pregel._retry import _should_retry_on
from langgraph.types import Command, Interrupt, RetryPolicy, interrupt
from pydantic_ai import Agent, ModelRetry
from pydantic_ai.capabilities import AbstractCapability
from pydantic_ai.exceptions import ToolRetryError, UnexpectedModelBehavior
from pydantic_ai.messages import ToolReturnPart
from pydantic_ai.models.test import TestModel


def parameters(function: Any) -> set[str]:
    return set(inspect.signature(function).parameters)


@pytest.mark.parametrize(
    ("package", "known"),
    [("openai-agents", "0.24."), ("langgraph", "1.2."), ("langchain-core", "1."), ("pydantic-ai-slim", "2.68.")],
)
def test_these_are_the_versions_that_were_tried(package: str, known: str) -> None:
    assert version(package).startswith(known), "try the adapters with it, then write the version here"


def test_a_model_of_the_agents_sdk_is_asked_by_these_names() -> None:
    asked = {"system_instructions", "input", "model_settings", "tools", "output_schema", "handoffs", "tracing"}
    assert asked <= parameters(Model.get_response)
    assert Model.__abstractmethods__ == {"get_response", "stream_response"}
    assert {"input", "context", "max_turns", "run_config"} <= parameters(agents.Runner.run)
    assert agents.RunConfig(tracing_disabled=True).tracing_disabled
    assert isinstance(FAKE_RESPONSES_ID, str)


async def test_a_copied_tool_of_the_agents_sdk_leaves_the_authors_as_it_was() -> None:
    @agents.function_tool(needs_approval=True, timeout=5)
    async def wait() -> str:
        """Waits."""
        return "waited"

    copied = copy.copy(wait)
    made = copied.on_invoke_tool
    copied.needs_approval, copied.timeout_seconds, copied.is_enabled = False, None, False
    assert (wait.needs_approval, wait.timeout_seconds, wait.is_enabled) == (True, 5, True)
    assert callable(made)
    assert {"function_tool", "context", "arguments"} == parameters(invoke_function_tool)
    assert not wait._is_agent_tool


def test_an_agent_as_a_tool_of_the_agents_sdk_can_be_told() -> None:
    inner = agents.Agent[Any](name="inner")
    tool = inner.as_tool("ask_inner", "Asks.")
    assert isinstance(tool, FunctionTool)
    assert tool._is_agent_tool
    assert tool._agent_instance is inner


def graph(node: Any, **more: Any) -> Any:
    made = StateGraph(MessagesState)
    made.add_node("one", node, **more)
    made.add_edge(START, "one")
    return made.compile()


async def test_a_node_of_langgraph_says_where_it_is_and_writes_into_a_deque() -> None:
    seen: dict[str, Any] = {}

    def node(state: MessagesState, config: RunnableConfig) -> dict[str, Any]:
        seen.update(config["metadata"], send=config["configurable"]["__pregel_send"])
        return {}

    await graph(node).ainvoke({"messages": []})
    assert (seen["langgraph_step"], seen["langgraph_node"]) == (1, "one")
    assert tuple(seen["langgraph_path"]) == ("__pregel_pull", "one")
    assert seen["langgraph_checkpoint_ns"].startswith("one:")
    assert isinstance(seen["send"].__self__, deque)


def test_a_node_of_langgraph_runs_what_its_property_holds() -> None:
    compiled = graph(lambda state: {}, retry_policy=RetryPolicy())
    node = compiled.nodes["one"]
    assert isinstance(inspect.getattr_static(PregelNode, "node"), cached_property)
    assert {"subgraphs", "error_handler_node", "retry_policy", "writers"} <= vars(node).keys()
    assert node.copy({"retry_policy": None}).retry_policy is None
    assert node.retry_policy is not None
    assert (compiled.checkpointer, compiled.store) == (None, None)
    assert not (compiled.interrupt_before_nodes or compiled.interrupt_after_nodes)
    assert "messages" in compiled.channels
    assert compiled._serde_allowlist is None


async def test_an_interrupt_of_langgraph_is_answered_by_the_id_of_its_namespace() -> None:
    spaces: list[str] = []

    def node(state: MessagesState, config: RunnableConfig) -> dict[str, Any]:
        spaces.append(config["configurable"]["checkpoint_ns"])
        return {"messages": [interrupt("sure?")]}

    compiled = graph(node)
    compiled.checkpointer = InMemorySaver()
    config: Any = {"configurable": {"thread_id": "t"}}
    state = await compiled.ainvoke({"messages": []}, config, durability="sync")
    (asked,) = state["__interrupt__"]
    assert (asked.value, asked.id) == ("sure?", Interrupt.from_ns("sure?", spaces[0]).id)
    state = await compiled.ainvoke(Command(resume={asked.id: "yes"}), config)
    assert [message.text for message in state["messages"]] == ["yes"]


def test_what_langgraph_and_langchain_hide_is_where_it_was() -> None:
    assert _should_retry_on(RetryPolicy(retry_on=ValueError), ValueError())
    assert Command(update={"a": 1})._update_as_tuples() == [("a", 1)]
    assert {"tap_output_aiter", "tap_output_iter"} <= vars(_StreamingCallbackHandler).keys()
    assert "_StreamingCallbackHandler" in inspect.getsource(BaseChatModel._should_stream)


async def test_a_capability_of_pydantic_ai_is_asked_by_these_names() -> None:
    assert {"ctx", "call", "tool_def", "args", "handler"} <= parameters(AbstractCapability.wrap_tool_execute)
    assert {"ctx", "tool_defs"} <= parameters(AbstractCapability.prepare_tools)
    assert {"message_history", "model", "deps", "capabilities", "infer_name"} <= parameters(Agent.run)
    agent = Agent()
    known = vars(agent).keys()
    assert {"_cap_native_tools", "_system_prompt_functions", "_output_validators"} <= known
    assert all(getattr(tool, "optional", False) for tool in agent._cap_native_tools)


async def test_a_tool_of_pydantic_ai_that_wants_another_try_raises_what_it_says() -> None:
    seen: list[BaseException] = []

    class Watching(AbstractCapability[Any]):
        async def wrap_tool_execute(self, ctx: Any, *, call: Any, tool_def: Any, args: Any, handler: Any) -> Any:
            try:
                return await handler(args)
            except Exception as error:
                seen.append(error)
                raise

    agent = Agent(TestModel(), capabilities=[Watching()], retries=1)

    @agent.tool_plain
    def again() -> str:
        """Wants another try."""
        raise ModelRetry("once more")

    with pytest.raises(UnexpectedModelBehavior):
        await agent.run("go")
    error, last = seen
    assert isinstance(last.__cause__, ModelRetry)
    assert isinstance(error, ToolRetryError)
    assert isinstance(error.tool_retry, ToolReturnPart)
    assert error.tool_retry.model_response_str(wrap_if_error=False) == "once more"
