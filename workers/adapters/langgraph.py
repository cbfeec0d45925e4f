"""A LangGraph graph as an agent of ours: each node is a step, an interrupt is an approval, its thread is the session.

The graph is the author's, unchanged: a copy of it runs with nodes that are answered from the journal where it holds
them. What a node does is one step: it is done whole or again. What is between the nodes (reducers, the graph's own
bookkeeping) runs again in every attempt; which way it goes is part of the node's step.
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
import json
import random
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import replace
from itertools import count
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.constants import START
from langgraph.errors import GraphInterrupt, ParentCommand
from langgraph.graph import StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel._read import PregelNode
from langgraph.types import Command, Interrupt, RetryPolicy
from pydantic import JsonValue

from workers.adapters.ending import Ending
from workers.adapters.langgraph_checks import check
from workers.adapters.langgraph_model import IN_NODE, InNode, fleet_chat_model, to_message
from workers.adapters.langgraph_saver import JournalSaver, serde_of
from workers.adapters.langgraph_shown import Shown, texts_of
from workers.agent import AgentSpec, AgentTurn, Reply, SessionInfo
from workers.context import Context, step_unkept

__all__ = ["fleet_chat_model", "langgraph_agent"]

KEPT = "langgraph"
_SEND = "__pregel_send"
_ASKED = "asked"  # where nobody knows which task interrupts
_BRANCH = re.compile(r"[A-Za-z0-9._:-]{1,40}")
Graph = CompiledStateGraph[Any, Any, Any, Any]


def langgraph_agent(  # noqa: PLR0913 (what an author may say, by name)
    graph: Graph | StateGraph[Any, Any, Any, Any],
    *,
    name: str,
    version: str,
    to_input: Callable[[AgentTurn, Context], Any] | None = None,
    answer: Callable[[Mapping[str, Any]], Reply | str] | None = None,
    context: Callable[[Context], Any] | None = None,
    recursion_limit: int = 25,
    **limits: Any,
) -> AgentSpec:
    """Make a spec of a LangGraph graph; `limits` are the spec's other fields. Registers nothing.

    `to_input`: makes a turn's input to the graph, None: its message joins `messages`. `answer`: makes the turn's answer
    out of the graph's last state, None: what the assistant said in `messages`. `context`: makes the run's context.
    `recursion_limit`: of steps in one run.
    Raises RegistrationError for what cannot be made durable, and logs what is less than that.
    """
    compiled: Graph = graph.compile() if isinstance(graph, StateGraph) else graph
    check(compiled, name, plain=to_input is None or answer is None)
    runs = _Runs(_copy(compiled), to_input, answer, context, recursion_limit)

    async def build(spec: AgentSpec, session: SessionInfo) -> _Runs:
        return runs

    return AgentSpec(name=name, version=version, build=build, **limits)


class _Runs:
    """One thread a session, one run a turn."""

    def __init__(
        self,
        graph: Graph,
        to_input: Callable[[AgentTurn, Context], Any] | None,
        answer: Callable[[Mapping[str, Any]], Reply | str] | None,
        context: Callable[[Context], Any] | None,
        recursion_limit: int,
    ) -> None:
        self._graph = graph
        self._serde = serde_of(graph)
        self._to_input = to_input
        self._answer = answer
        self._context = context
        self._limit = recursion_limit

    async def run(self, turn: AgentTurn, ctx: Context) -> Reply | str:
        saver = JournalSaver(ctx.info.session, self._serde, ctx.kept.get(KEPT))
        thread = _Thread(ctx, turn.id, saver)
        token = _THREAD.set(thread)
        work = asyncio.get_running_loop().create_task(self._run(turn, thread), name=f"run {ctx.info.session}~{turn.id}")
        _THREAD.reset(token)
        state = await thread.ending.result_of(work)
        ctx.keep(KEPT, saver.kept())
        return self._answer(state) if self._answer is not None else "".join(texts_of(state, thread.known))

    async def _run(self, turn: AgentTurn, thread: _Thread) -> Mapping[str, Any]:
        ctx, saver = thread.ctx, thread.saver
        graph = copy.copy(self._graph)
        graph.checkpointer = saver
        config: RunnableConfig = {
            "configurable": saver.config["configurable"],
            "callbacks": [thread.shown],
            "recursion_limit": self._limit,
        }
        context = self._context(ctx) if self._context is not None else None
        given: Any = self._to_input(turn, ctx) if self._to_input is not None else _input(ctx, saver)
        while True:
            state = await graph.ainvoke(given, config, context=context, durability="sync")
            asked: Sequence[Interrupt] = state.pop("__interrupt__", ())
            if not asked:
                return saver.state()
            given = Command(resume={it.id: await thread.decided(it) for it in thread.in_order(asked)})


class _Thread:
    """A turn of one thread: what its nodes work through. `known`: ids of the messages that were there before it."""

    def __init__(self, ctx: Context, turn: str, saver: JournalSaver) -> None:
        self.ctx = ctx
        self.saver = saver
        self.ending = Ending()
        self.known = frozenset(_ids(saver.state().get("messages"))) | {item.id for item in ctx.history}
        self.shown = Shown(ctx, self.ending, self.known)
        self._turn = turn
        self._lines: dict[str, tuple[Context, Context]] = {}
        self._askers: dict[str, str] = {}  # an interrupt's id -> the task's name; the id is drawn anew in every attempt

    def line(self, name: str) -> tuple[Context, Context]:
        """A node's branch, and the one of its model calls: begun even where the node is answered from the journal, so
        that nobody misses them."""
        if name not in self._lines:
            line = self.ctx.branch(name, quiet=True)
            self._lines[name] = line, line.branch("model")
        return self._lines[name]

    def interrupted(self, name: str, asked: Sequence[Interrupt]) -> None:
        """Task `name` waits for these."""
        self._askers.update((it.id, name) for it in asked)

    def in_order(self, asked: Sequence[Interrupt]) -> list[Interrupt]:
        """The same in every attempt: tasks that run at once interrupt in the order of chance."""
        return sorted(asked, key=lambda it: self._askers.get(it.id, _ASKED))

    async def decided(self, asked: Interrupt) -> Any:
        """The answer, asked for in the task's own branch."""
        line, _ = self.line(self._askers.get(asked.id, _ASKED))
        return await self.ending.do(_decided(line, asked))

    def names(self, name: str) -> Iterator[str]:
        """Ids for the messages of a task, the same in every attempt: the graph's own would be drawn anew."""
        return (f"{self._turn}.{name}.{number}" for number in count())


_THREAD: ContextVar[_Thread] = ContextVar("fleet_langgraph_thread")


class _Durable(Runnable[Any, Any]):
    """A node, with its writes and the way it goes on, as one step."""

    def __init__(self, name: str, node: PregelNode) -> None:
        self.name = name
        self._node = node
        self._whole = bool(node.subgraphs)  # a graph in it goes on from an interrupt by itself

    def invoke(self, input: Any, config: RunnableConfig | None = None, **more: Any) -> Any:
        raise NotImplementedError("a graph of the fleet runs asynchronously")

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **more: Any) -> Any:
        assert config is not None
        thread, name = _THREAD.get(), _place(config)
        line, models = thread.line(name)
        raised: list[BaseException] = []

        async def made() -> JsonValue:
            names = thread.names(name)
            token = IN_NODE.set(InNode(models, thread.ending, asyncio.get_running_loop(), names))
            try:
                return await self._made(input, config, names, thread.saver)
            except Exception as error:
                raised.append(error)
                raise
            finally:
                IN_NODE.reset(token)

        try:
            kept = await step_unkept(line, self.name or "node", made)
        except BaseException as error:
            if error in raised or isinstance(error, asyncio.CancelledError):
                raise
            await thread.ending.end(error)
        return self._go_on(kept, config, thread)

    async def _made(self, input: Any, config: RunnableConfig, names: Iterator[str], saver: JournalSaver) -> JsonValue:
        what, tries = f"what node {self.name!r} writes", 0
        deque = config["configurable"][_SEND].__self__

        def send(writes: Sequence[tuple[str, Any]]) -> None:
            _name_messages(writes, names)
            deque.extend(writes)

        config = {**config, "configurable": {**config["configurable"], _SEND: send}}
        asked: Sequence[Interrupt] = ()
        above: Command[Any] | None = None
        while True:
            deque.clear()
            try:
                await self._node.node.ainvoke(input, config)  # type: ignore[union-attr]
            except GraphInterrupt as interrupt:
                if self._whole:
                    _THREAD.get().interrupted(_place(config), interrupt.args[0])
                    raise
                asked = interrupt.args[0]
            except ParentCommand as command:
                above = command.args[0]
                _name_messages(above._update_as_tuples(), names)
            except Exception as error:
                tries += 1
                wait_s = _retry_s(self._node.retry_policy, error, tries)
                if wait_s is None:
                    raise
                await asyncio.sleep(wait_s)
                continue
            break
        writes = list(deque)
        values = [it.value for it in asked]
        return saver.dumped((writes, values, [it.response_schema for it in asked], above), what)

    def _go_on(self, kept: JsonValue, config: RunnableConfig, thread: _Thread) -> None:
        """What the step came to, as the graph hears of it: the same whether it was made or is replayed."""
        writes, values, schemas, above = thread.saver.loaded(kept)
        deque = config["configurable"][_SEND].__self__
        deque.clear()
        deque.extend((channel, value) for channel, value in writes)
        space = config["configurable"]["checkpoint_ns"]
        thread.shown.node_over(space, [value for _, value in writes])
        if values:
            pairs = zip(values, schemas, strict=True)
            asked = [Interrupt.from_ns(value, space, response_schema=schema) for value, schema in pairs]
            thread.interrupted(_place(config), asked)
            raise GraphInterrupt(asked)
        if above is not None:
            raise ParentCommand(replace(above, graph=self.name))


def _copy(graph: Graph) -> Graph:
    copied = copy.copy(graph)
    copied.nodes = {name: node if name == START else _durable(name, node) for name, node in graph.nodes.items()}
    return copied


def _durable(name: str, node: PregelNode) -> PregelNode:
    """The node, run by a step; its writers stay for what is sent up to it from a graph inside."""
    copied = node.copy({"retry_policy": None})
    vars(copied)["node"] = _Durable(name, node)
    return copied


def _name_messages(writes: Sequence[tuple[str, Any]], names: Iterator[str]) -> None:
    several = (it for _, value in writes for it in (value if isinstance(value, list) else [value]))
    for message in several:
        if isinstance(message, BaseMessage) and message.id is None:
            message.id = next(names)


def _retry_s(policies: Sequence[RetryPolicy] | None, error: Exception, tries: int) -> float | None:
    """How long to wait until the node is tried again; None: it is not."""
    from langgraph.pregel._retry import _should_retry_on

    policy = next((it for it in policies or () if _should_retry_on(it, error)), None)
    if policy is None or tries >= policy.max_attempts:
        return None
    wait_s = min(policy.max_interval, policy.initial_interval * policy.backoff_factor ** (tries - 1))
    return wait_s + (random.random() if policy.jitter else 0.0)


def _place(config: RunnableConfig) -> str:
    """A task's name within the turn: its step, its node, and which one where the node runs several times at once."""
    about = config["metadata"]
    node = str(about["langgraph_node"])
    legal = node if _BRANCH.fullmatch(node) else hashlib.sha256(node.encode()).hexdigest()[:16]
    number = f".{about['langgraph_path'][1]}" if about["langgraph_path"][0] == "__pregel_push" else ""
    return f"{about['langgraph_step']}.{legal}{number}"


def _ids(messages: Any) -> list[str]:
    return [it.id for it in messages if isinstance(it, BaseMessage) and it.id] if isinstance(messages, list) else []


def _input(ctx: Context, saver: JournalSaver) -> dict[str, Any]:
    """The turn's message; where the thread is new, after what the session holds."""
    new = saver.get_tuple(saver.config) is None
    return {"messages": [to_message(item) for item in ((*ctx.history, ctx.message) if new else (ctx.message,))]}


async def _decided(ctx: Context, asked: Interrupt[Any]) -> Any:
    """What somebody answered: a value, other arguments, or plainly yes or no."""
    value = asked.value
    named = value if isinstance(value, dict) else {"value": value}
    text = next((named[key] for key in ("message", "question", "description") if isinstance(named.get(key), str)), None)
    if text is None:
        text = value if isinstance(value, str) else json.dumps(value, default=str)
    given: dict[str, JsonValue] = json.loads(json.dumps(named, default=str))
    schema = asked.response_schema if isinstance(asked.response_schema, dict) else None
    decision = await ctx.approval(text, arguments=given, schema=schema)
    if decision.answer is not None:
        return decision.answer
    return decision.arguments if decision.arguments is not None else decision.allowed
