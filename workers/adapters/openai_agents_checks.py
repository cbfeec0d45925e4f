"""What an agent of the OpenAI Agents SDK must not have to run durably, and what of it is durable as a whole only."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping
from typing import Any

import agents
from agents.models import get_default_model_settings
from agents.tool import FunctionTool

from workers.agent import RegistrationError
from workers.tools.tool import NAME, ToolPolicy

_log = logging.getLogger("fleet.worker")
_MAPPED = frozenset({"temperature", "max_tokens", "parallel_tool_calls", "include_usage", "store"})


def check(agent: agents.Agent[Any], policies: Mapping[str, ToolPolicy], name: str) -> frozenset[str]:
    """The names of its tools. Raises RegistrationError; logs what is less than durable."""
    met = list(_all(agent, {}))
    for each in met:
        for problem in _problems(each):
            raise RegistrationError(f"agent {name}: {each.name}: {problem}")
        for remark in _remarks(each):
            _log.warning("agent %s: %s: %s", name, each.name, remark)
    known = frozenset(tool.name for each in met for tool in each.tools)
    for tool, policy in policies.items():
        if tool not in known:
            raise RegistrationError(f"agent {name}: a policy names the tool {tool!r}; there are: {sorted(known)}")
        if policy.idempotent:
            raise RegistrationError(f"agent {name}: tool {tool} takes no idempotency_key here; leave `idempotent` out")
    return known


def _all(agent: agents.Agent[Any], met: dict[int, agents.Agent[Any]]) -> Iterator[agents.Agent[Any]]:
    """The agent and all that it may hand off to, each once."""
    if id(agent) in met:
        return
    met[id(agent)] = agent
    yield agent
    for other in agent.handoffs:
        if isinstance(other, agents.Agent):
            yield from _all(other, met)


def _problems(agent: agents.Agent[Any]) -> Iterator[str]:
    if type(agent) is not agents.Agent:
        yield f"{type(agent).__name__} is not agents.Agent; what it does beside that would not be durable"
    for other in agent.handoffs:
        if not isinstance(other, agents.Agent):
            yield f"handoff() to {other.agent_name!r} hides its agent; put the agent itself into `handoffs`"
    for tool in agent.tools:
        if not isinstance(tool, FunctionTool):
            yield f"{type(tool).__name__} runs at OpenAI or on the worker's machine; give a function tool"
        elif not NAME.fullmatch(tool.name):
            yield f"tool {tool.name[:80]!r}: give 1-64 characters out of A-Z a-z 0-9 _ -"
        elif (inner := tool._agent_instance) is not None and any(_asks(it) for it in inner.tools):
            yield f"tool {tool.name} is an agent with tools that need approval; hand off to it instead"
    if agent.mcp_servers:
        yield "mcp_servers belong to whoever connected them; name the fleet's servers instead"
    if agent.prompt is not None:
        yield "a prompt that lies at OpenAI is not known here; write `instructions`"


def _asks(tool: Any) -> bool:
    return isinstance(tool, FunctionTool) and bool(tool.needs_approval)


def _remarks(agent: agents.Agent[Any]) -> Iterator[str]:
    for tool in agent.tools:
        if isinstance(tool, FunctionTool) and tool._is_agent_tool:
            yield f"tool {tool.name} is an agent: all that its tools do is one step"
    for what in ("input_guardrails", "output_guardrails", "hooks"):
        if getattr(agent, what):
            yield f"{what} are no steps: they run again in every attempt"
    if callable(agent.tool_use_behavior):
        yield "tool_use_behavior is a function and no step: it runs again in every attempt"
    if agent.model is not None and not isinstance(agent.model, str):
        yield f"its {type(agent.model).__name__} is not asked: the fleet's model is"
    if unmapped := _unmapped(agent.model_settings):
        yield f"these model settings are not passed on: {', '.join(unmapped)}"


def _unmapped(settings: agents.ModelSettings) -> list[str]:
    usual = get_default_model_settings()
    said = [field.name for field in dataclasses.fields(settings) if field.name not in _MAPPED]
    changed = [name for name in said if getattr(settings, name) not in (None, getattr(usual, name))]
    return [name for name in changed if not (name == "tool_choice" and settings.tool_choice in ("auto", "none"))]
