"""What a LangGraph graph must not have to run durably, and what of it is durable as a whole only."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from langgraph.checkpoint.base import BaseCheckpointSaver

from workers.agent import RegistrationError

_log = logging.getLogger("fleet.worker")


def check(graph: Any, name: str, *, plain: bool) -> None:
    """`plain`: its input or its answer are messages. Raises RegistrationError; logs what is less than durable."""
    for problem in _problems(graph, plain=plain):
        raise RegistrationError(f"agent {name}: {problem}")
    for remark in _remarks(graph):
        _log.warning("agent %s: %s", name, remark)


def _problems(graph: Any, *, plain: bool) -> Iterator[str]:
    if not hasattr(graph, "nodes") or not hasattr(graph, "checkpointer"):
        yield f"{type(graph).__name__} is no graph; give a StateGraph, compiled or not"
        return
    if graph.checkpointer is not None:
        yield "the graph has a checkpointer; compile it without one, its thread is the session"
    if graph.interrupt_before_nodes or graph.interrupt_after_nodes:
        yield "the graph stops before or after nodes; call interrupt() in a node instead"
    if graph.cache is not None:
        yield "the graph has a cache, which answers one session with what another got; compile it without one"
    for name, node in graph.nodes.items():
        for inner in node.subgraphs:
            kept = getattr(inner, "checkpointer", None)
            if kept is True or isinstance(kept, BaseCheckpointSaver):
                yield f"the graph in node {name!r} keeps checkpoints of its own; compile it without a checkpointer"
    if plain and "messages" not in graph.channels:
        yield "the graph's state has no `messages`; give `to_input` and `answer`"


def _remarks(graph: Any) -> Iterator[str]:
    for name, node in graph.nodes.items():
        if node.subgraphs:
            yield f"node {name!r} is a graph: all that it does is one step"
        if node.error_handler_node:
            yield f"what node {name!r} raises is not kept: after a crash it is tried again before its error handler"
    if graph.store is not None:
        yield "what the graph's store holds is no part of the session"
