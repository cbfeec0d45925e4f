"""A workflow as an agent: a graph that is checked when it is registered, and the one that ships. Knows no engine."""

from __future__ import annotations

from typing import Any

from workers.agent import Agent, AgentSpec, AgentTurn, Reply, SessionInfo
from workers.agents.workflow.nodes import Ask, Choose, Each, Node, Seq, Values, unlike
from workers.context import Context

_START = frozenset({"input"})


class Workflow:
    """Carries the graph out, from the turn's text. One instance serves every session. Raises RegistrationError for a
    graph that reads what no node writes."""

    def __init__(self, graph: Node) -> None:
        unlike(graph)
        graph.check(_START)
        self._graph = graph

    async def run(self, turn: AgentTurn, ctx: Context) -> Reply:
        """What its nodes show is the answer; where they show none, the value of `answer` is."""
        values: Values = {"input": turn.text}
        await self._graph.run(ctx, values)
        answer = values.get("answer")
        return Reply(answer if isinstance(answer, str) and not ctx.text else None)


def workflow(graph: Node, *, name: str, version: str, **limits: Any) -> AgentSpec:
    """A spec of a graph; `limits` are the spec's other fields. Raises RegistrationError."""
    built = Workflow(graph)

    async def build(spec: AgentSpec, session: SessionInfo) -> Agent:
        return built

    return AgentSpec(name=name, version=version, build=build, **limits)


GRAPH: Node = Seq(
    (
        Ask(
            "kind",
            "Is this a question that one short paragraph answers, or one that needs several parts? "
            "Say only `short` or `long`.\n\n{input}",
            choices=("long", "short"),
        ),
        Choose(
            "kind",
            {
                "long": Seq(
                    (
                        Ask("parts", "List the 2 to 4 parts of a good answer, one a line:\n\n{input}", lines=True),
                        Each("pieces", "parts", Ask("piece", "{input}\n\nWrite only this part: {item}"), take="piece"),
                        Ask("answer", "{input}\n\nMake one answer of these parts:\n\n{pieces}", show=True),
                    )
                )
            },
            otherwise=Ask("answer", "{input}", show=True),
        ),
    )
)


def spec() -> AgentSpec:
    """How `workflow` is registered."""
    return workflow(
        GRAPH, name="workflow", version="1", description="Outlines an answer, writes its parts at once, joins them"
    )
