"""What an agent of pydantic-ai must not have to run durably, and what of it is durable as a whole only."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic_ai import Agent
from pydantic_ai.models import Model
from pydantic_ai.output import OutputSpec
from pydantic_ai.tools import DeferredToolRequests
from pydantic_ai.toolsets import AbstractToolset, FunctionToolset
from pydantic_ai.toolsets.external import ExternalToolset

from workers.agent import RegistrationError
from workers.tools.tool import NAME, ToolPolicy

_log = logging.getLogger("fleet.worker")
_MAPPED = frozenset({"temperature", "max_tokens"})


def check(agent: Agent[Any, Any], policies: Mapping[str, ToolPolicy], name: str) -> frozenset[str]:
    """The names of its tools that are known by now. Raises RegistrationError; logs what is less than durable."""
    if not isinstance(agent, Agent):
        raise RegistrationError(f"agent {name}: {type(agent).__name__} is no pydantic_ai.Agent")
    leaves: list[AbstractToolset[Any]] = []
    for toolset in agent.toolsets:
        toolset.apply(leaves.append)
    for problem in _problems(agent, leaves):
        raise RegistrationError(f"agent {name}: {problem}")
    for remark in _remarks(agent, leaves):
        _log.warning("agent %s: %s", name, remark)
    known = frozenset(tool for leaf in leaves if isinstance(leaf, FunctionToolset) for tool in leaf.tools)
    every = all(isinstance(leaf, FunctionToolset) for leaf in leaves)
    for tool, policy in policies.items():
        if every and tool not in known:
            raise RegistrationError(f"agent {name}: a policy names the tool {tool!r}; there are: {sorted(known)}")
        if policy.idempotent:
            raise RegistrationError(f"agent {name}: tool {tool} takes no idempotency_key here; leave `idempotent` out")
    return known


def _problems(agent: Agent[Any, Any], leaves: list[AbstractToolset[Any]]) -> Iterator[str]:
    for leaf in leaves:
        if isinstance(leaf, ExternalToolset):
            yield f"{leaf.label}: its tools are called by nobody here; give functions"
        elif isinstance(leaf, FunctionToolset):
            for tool in leaf.tools:
                if not NAME.fullmatch(tool):
                    yield f"tool {tool[:80]!r}: give 1-64 characters out of A-Z a-z 0-9 _ -"
        elif leaf.id is None:
            yield f"{leaf.label} has no `id`: name it, so that its calls are the same ones in every attempt"
    if any(not getattr(tool, "optional", False) for tool in agent._cap_native_tools):
        yield "native tools run at a provider that the fleet's models are not asked through; give functions"
    if _defers(agent.output_type):
        yield "DeferredToolRequests as an output leaves calls to nobody; `requires_approval=True` suspends the turn"


def _remarks(agent: Agent[Any, Any], leaves: list[AbstractToolset[Any]]) -> Iterator[str]:
    for leaf in leaves:
        if not isinstance(leaf, FunctionToolset):
            yield f"{leaf.label}: its list of tools is asked for in every attempt, and must not change within a turn"
    if agent._system_prompt_functions:
        yield "functions as system prompts run again in every attempt; what they say at first is kept"
    if any(map(_is_function, _each(agent.output_type))) or agent._output_validators:
        yield "output functions and validators are no steps: they run again in every attempt"
    if isinstance(agent.model, Model):
        yield f"its {type(agent.model).__name__} is not asked: the fleet's model is"
    if unmapped := sorted(set(agent.model_settings or {}) - _MAPPED if not callable(agent.model_settings) else {"…"}):
        yield f"these model settings are not passed on: {', '.join(unmapped)}"


def _each(output: OutputSpec[Any]) -> tuple[Any, ...]:
    return tuple(output) if isinstance(output, list | tuple) else (output,)


def _is_function(output: Any) -> bool:
    return callable(output) and not isinstance(output, type)


def _defers(output: OutputSpec[Any]) -> bool:
    return any(each is DeferredToolRequests for each in _each(output))
