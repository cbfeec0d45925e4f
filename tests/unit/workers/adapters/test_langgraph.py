"""LangGraph graphs: unchanged, durable node by node, whatever dies."""

from __future__ import annotations

import asyncio
import logging
import operator
import random
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, TypedDict

import pytest
from langchain_core.callbacks import AsyncCallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, RemoveMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, RetryPolicy, Send, interrupt

from fleet.testing import Lab, allows, asks, says
from schemas.turn import TurnInput
from tests.support.stage import INFO, Stage, Told
from workers.adapters.langgraph import fleet_chat_model, langgraph_agent
from workers.agent import AgentSpec, RegistrationError

DONE: list[str] = []


@pytest.fixture(autouse=True)
def nothing_done() -> None:
    DONE.clear()


class Trip(MessagesState):
    cities: list[str]
    found: Annotated[list[str], operator.add]


def plan(state: Trip) -> dict[str, Any]:
    DONE.append("plan")
    return {"cities": ["Oslo", "Rome"], "messages": [AIMessage("Let me look. ")]}


async def look(state: dict[str, str]) -> dict[str, Any]:
    await asyncio.sleep(0.02 if state["city"] == "Oslo" else 0.01)  # the one asked for first ends last
    DONE.append(state["city"])
    return {"found": [f"rain in {state['city']}"]}


def book(state: Trip) -> dict[str, Any]:
    said = interrupt({"question": "Book Rome?", "eur": 80})
    DONE.append("book")
    return {"messages": [AIMessage(f"Booked: {said}. {'; '.join(sorted(state['found']))}")]}


def trip() -> StateGraph[Any, Any, Any, Any]:
    graph: StateGraph[Any, Any, Any, Any] = StateGraph(Trip)
    graph.add_node("plan", plan)
    graph.add_node("look", look)  # type: ignore[type-var]
    graph.add_node("book", book)
    graph.add_edge(START, "plan")
    graph.add_conditional_edges("plan", lambda state: [Send("look", {"city": it}) for it in state["cities"]], ["look"])
    graph.add_edge("look", "book")
    graph.add_edge("book", END)
    return graph


def spec(graph: Any, **more: Any) -> AgentSpec:
    return langgraph_agent(graph, name="graph", version="1", **more)


def one(node: Any, **more: Any) -> StateGraph[Any, Any, Any, Any]:
    """A graph of one node."""
    graph = StateGraph(MessagesState)
    graph.add_node("one", node, **more)
    graph.add_edge(START, "one")
    return graph


def test_nodes_are_steps_and_an_interrupt_is_an_approval() -> None:
    lab = Lab(spec(trip()))
    seen = lab.turn("a trip")
    assert seen.outcome == "suspended"
    assert seen.shown == "Let me look. "
    assert seen.asks is not None
    assert (seen.asks.message, seen.asks.arguments) == ("Book Rome?", {"question": "Book Rome?", "eur": 80})

    seen = lab.decide(answer="for two")
    assert seen.text == "Let me look. Booked: for two. rain in Oslo; rain in Rome"
    assert [step.split("/")[-1] for step in seen.steps] == ["plan", "look", "look", "book", "question", "book"]
    assert sorted(DONE) == ["Oslo", "Rome", "book", "plan"]


def test_a_crash_anywhere_changes_nothing_and_repeats_nothing() -> None:
    lab = Lab(spec(trip()))
    points = lab.crash_everywhere("a trip", decisions=[allows()])

    assert lab.last is not None
    assert lab.last.text == "Let me look. Booked: True. rain in Oslo; rain in Rome"
    assert len(points) > 12


def test_a_node_that_ended_is_not_run_again() -> None:
    lab = Lab(spec(trip()))
    lab.turn("a trip")
    DONE.clear()
    lab.decide()
    assert DONE == ["book"]


def test_the_thread_is_the_session() -> None:
    def count(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(f"{len(state['messages'])}: {state['messages'][0].text}")]}

    lab = Lab(spec(one(count)))
    assert lab.turn("hello").text == "1: hello"
    assert lab.turn("again").text == "3: hello"
    lab.crash_everywhere("more")
    assert lab.last is not None
    assert lab.last.text == "5: hello"


def test_a_new_thread_begins_with_what_the_session_holds() -> None:
    def count(state: MessagesState) -> dict[str, Any]:
        return {"messages": [AIMessage(f"{len(state['messages'])}")]}

    assert Lab(spec(one(count)), history=["hello", "hi"]).turn("again").text == "3"


def test_messages_have_the_same_ids_in_every_attempt() -> None:
    """A later node names one that the graph itself numbered."""
    graph = StateGraph(MessagesState)
    graph.add_node("say", lambda state: {"messages": [AIMessage("one"), AIMessage("two")]})
    graph.add_node("forget", lambda state: {"messages": [RemoveMessage(id=state["messages"][-1].id)]})
    graph.add_edge(START, "say")
    graph.add_edge("say", "forget")
    lab = Lab(spec(graph))
    lab.crash_everywhere("?")
    assert lab.last is not None
    assert lab.last.text == "one"


def test_two_interrupts_at_once_and_two_in_one_node() -> None:
    class Asked(MessagesState):
        said: Annotated[list[str], operator.add]

    pauses = random.Random(5)

    def ask(name: str, times: int) -> Callable[..., Any]:
        async def node(state: Asked) -> dict[str, Any]:
            await asyncio.sleep(pauses.random())  # whoever is first
            return {"said": [f"{name}{n}={interrupt(f'{name}{n}?')}" for n in range(times)]}

        return node

    graph = StateGraph(Asked)
    graph.add_node("a", ask("a", 2))
    graph.add_node("b", ask("b", 1))
    graph.add_node("end", lambda state: {"messages": [AIMessage(" ".join(sorted(state["said"])))]})
    graph.add_edge(START, "a")
    graph.add_edge(START, "b")
    graph.add_edge(["a", "b"], "end")
    lab = Lab(spec(graph))
    points = lab.crash_everywhere("?", decisions=[allows(answer="1"), allows(answer="2"), allows(answer="3")])
    assert points
    assert lab.last is not None
    assert lab.last.text == "a0=1 a1=3 b0=2"


class Streams(BaseChatModel):
    """A model of the graph's own."""

    @property
    def _llm_type(self) -> str:
        return "streams"

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        return ChatResult(generations=[ChatGeneration(message=AIMessage("Hello you."))])

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **_: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        DONE.append("asked")
        for text in ("Hello ", "you."):
            await asyncio.sleep(1)
            yield ChatGenerationChunk(message=AIMessageChunk(content=text, id="m1"))


async def greet(state: MessagesState) -> dict[str, Any]:
    return {"messages": [await Streams().ainvoke(state["messages"])]}


def test_what_a_model_in_a_node_says_streams() -> None:
    lab = Lab(spec(one(greet)))
    lab.crash_everywhere("?")
    assert lab.last is not None
    assert lab.last.text == lab.last.shown == "Hello you."
    assert [frame["text"] for frame in lab.last.frames if frame["type"] == "delta"] == ["Hello ", "you."]
    assert [frame for frame in lab.last.frames if frame["type"] == "reset"] == []


def test_the_fleets_model_in_a_node_is_a_step_of_its_own() -> None:
    model = fleet_chat_model(system="Be brief.", temperature=0.5)

    async def agent(state: MessagesState) -> dict[str, Any]:
        bound = model.bind_tools([weather])
        return {"messages": [await bound.ainvoke(state["messages"])]}

    def weather(city: str) -> str:
        """The weather."""
        return f"rain in {city}"

    def tools(state: MessagesState) -> dict[str, Any]:
        from langchain_core.messages import ToolMessage

        last = state["messages"][-1]
        assert isinstance(last, AIMessage)
        return {"messages": [ToolMessage(weather(**it["args"]), tool_call_id=it["id"]) for it in last.tool_calls]}

    graph = StateGraph(MessagesState)
    graph.add_node("agent", agent)
    graph.add_node("tools", tools)
    graph.add_edge(START, "agent")
    graph.add_conditional_edges("agent", lambda state: "tools" if state["messages"][-1].tool_calls else END)
    graph.add_edge("tools", "agent")
    lab = Lab(spec(graph), model=[asks("weather", city="Oslo"), says("It rains.", usage=(30, 4))])
    points = lab.crash_everywhere("Oslo?")

    assert lab.last is not None
    assert lab.last.text == "It rains."
    last = lab.requests[1]
    assert (last.system, last.temperature, [tool.name for tool in last.tools]) == ("Be brief.", 0.5, ["weather"])
    assert [item.role for item in last.messages] == ["user", "assistant", "tool"]
    assert last.messages[2].call == last.messages[1].calls[0].call
    for point in points:
        assert point.outcome.usage == lab.last.usage, str(point)


def test_a_node_that_asks_its_model_and_then_its_user_gets_the_same_answer_again() -> None:
    async def agent(state: MessagesState) -> dict[str, Any]:
        said = await fleet_chat_model().ainvoke(state["messages"])
        return {"messages": [AIMessage(f"{said.text}: {interrupt(said.text)}")]}

    lab = Lab(spec(one(agent)), model=["Sure?"])
    lab.crash_everywhere("?", decisions=[allows(answer="yes")])
    assert lab.last is not None
    assert (lab.last.text, len(lab.requests)) == ("Sure?: yes", 1)


def test_the_fleets_model_works_in_a_plain_node_too() -> None:
    def agent(state: MessagesState) -> dict[str, Any]:
        return {"messages": [fleet_chat_model().invoke(state["messages"])]}

    seen = Lab(spec(one(agent)), model=["Hi."]).turn("?")
    assert seen.text == "Hi."


def test_a_node_is_tried_again_as_its_policy_says_within_its_step() -> None:
    def fails(state: MessagesState) -> dict[str, Any]:
        DONE.append("try")
        if len(DONE) < 3:
            raise ConnectionError("gone")
        return {"messages": [AIMessage("At last.")]}

    seen = Lab(spec(one(fails, retry_policy=RetryPolicy(max_attempts=3)))).turn("?")
    assert (seen.text, len(DONE), len(seen.steps)) == ("At last.", 3, 1)


def test_a_node_that_raises_ends_the_turn() -> None:
    def falls(state: MessagesState) -> dict[str, Any]:
        raise ValueError("it broke")

    seen = Lab(spec(one(falls))).turn("?")
    assert (seen.outcome, seen.code) == ("failed", "agent_error")
    assert "it broke" in seen.message


def test_a_node_may_say_where_to_go_on() -> None:
    graph = StateGraph(MessagesState)
    graph.add_node("first", lambda state: Command(goto="last", update={"messages": [AIMessage("a")]}))
    graph.add_node("last", lambda state: {"messages": [AIMessage("b")]})
    graph.add_edge(START, "first")
    lab = Lab(spec(graph))
    lab.crash_everywhere("?")
    assert lab.last is not None
    assert lab.last.text == "ab"


def test_a_graph_in_a_node_is_one_step_and_may_ask_and_send_up() -> None:
    def ask(state: MessagesState) -> Command[Any]:
        said = interrupt("Sure?")
        return Command(goto="last", update={"messages": [AIMessage(f"{said} ")]}, graph=Command.PARENT)

    inner = one(ask).compile()
    graph = StateGraph(MessagesState)
    graph.add_node("inner", inner, destinations=("last",))
    graph.add_node("last", lambda state: {"messages": [AIMessage("Over.")]})
    graph.add_edge(START, "inner")
    lab = Lab(spec(graph))
    points = lab.crash_everywhere("?", decisions=[allows(answer="Yes.")])
    assert points
    assert lab.last is not None
    assert lab.last.text == "Yes. Over."


class Sum(TypedDict):
    numbers: list[int]
    total: int


def test_a_graph_without_messages_says_how_it_takes_and_gives() -> None:
    graph = StateGraph(Sum)
    graph.add_node("add", lambda state: {"total": sum(state["numbers"])})
    graph.add_edge(START, "add")
    made = spec(
        graph,
        to_input=lambda turn, ctx: {"numbers": [int(it) for it in turn.text.split()]},
        answer=lambda state: f"= {state['total']}",
    )
    assert Lab(made).turn("1 2 3").text == "= 6"


def test_a_state_that_is_too_large_ends_the_turn_typed() -> None:
    def much(state: MessagesState) -> dict[str, Any]:
        return {"messages": [HumanMessage(random.Random(1).randbytes(1_200_000).hex())]}

    seen = Lab(spec(one(much))).turn("?")
    assert (seen.outcome, seen.code) == ("failed", "too_large")


def test_what_cannot_be_kept_ends_the_turn_typed() -> None:
    def odd(state: MessagesState) -> dict[str, Any]:
        return {"messages": [HumanMessage("hi", additional_kwargs={"odd": object()})]}

    seen = Lab(spec(one(odd))).turn("?")
    assert (seen.outcome, seen.code) == ("failed", "agent_error")
    assert "what node 'one' writes cannot be kept" in seen.message


async def test_turns_at_a_time_do_not_meet() -> None:
    async def name(state: MessagesState) -> dict[str, Any]:
        said = await fleet_chat_model().ainvoke(state["messages"])
        return {"messages": [AIMessage(f"{state['messages'][0].text}={said.text}")]}

    made = spec(one(name))
    agent = await made.build(made, INFO)
    stages = [Stage(agent, Told([f"m{n}"]), given=TurnInput(text=f"t{n}")) for n in range(20)]
    for stage in stages:
        stage.start()
    while not all(stage.results for stage in stages):
        await asyncio.sleep(0)
    assert [stage.results[0].text for stage in stages] == [f"t{n}=m{n}" for n in range(20)]


def test_a_user_who_cancels_ends_the_turn() -> None:
    async def wait(state: MessagesState) -> dict[str, Any]:
        try:
            await asyncio.sleep(3600)
        finally:
            DONE.append("ended")
        return {}

    graph = StateGraph(MessagesState)
    graph.add_node("say", lambda state: {"messages": [AIMessage("Wait. ")]})
    graph.add_node("wait", wait)
    graph.add_edge(START, "say")
    graph.add_edge(START, "wait")
    seen = Lab(spec(graph)).turn("?", cancel_after=1)
    assert (seen.outcome, seen.text, DONE) == ("cancelled", "Wait. ", ["ended"])


def test_what_cannot_be_durable_is_refused() -> None:
    with pytest.raises(RegistrationError, match="has a checkpointer"):
        spec(trip().compile(checkpointer=InMemorySaver()))
    with pytest.raises(RegistrationError, match="has a cache"):
        spec(trip().compile(cache=InMemoryCache()))
    with pytest.raises(RegistrationError, match="stops before or after"):
        spec(trip().compile(interrupt_before=["book"]))
    with pytest.raises(RegistrationError, match="no `messages`"):
        spec(StateGraph(Sum).add_node("add", lambda state: {}).add_edge(START, "add"))
    with pytest.raises(RegistrationError, match="checkpoints of its own"):
        spec(one(one(greet).compile(checkpointer=True)))


def test_what_is_one_step_only_is_said(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "fleet.worker"):
        spec(one(one(greet).compile()))
    assert "node 'one' is a graph: all that it does is one step" in caplog.text


def test_the_authors_graph_is_left_as_it_was() -> None:
    graph = trip().compile()
    nodes = dict(graph.nodes)
    Lab(spec(graph)).turn("?")
    assert (graph.nodes, graph.checkpointer) == (nodes, None)


def test_what_the_user_says_meanwhile_is_the_next_run_of_the_same_turn() -> None:
    graph = StateGraph(MessagesState)
    graph.add_node("say", lambda state: {"messages": [AIMessage(f"{len(state['messages'])} ")]})
    graph.add_node("more", lambda state: {"messages": [AIMessage(f"{state['messages'][-2].text}! ")]})
    graph.add_edge(START, "say")
    graph.add_edge("say", "more")
    seen = Lab(spec(graph)).turn("one", steer_after=(1, "two"))
    assert seen.text == "1 one! 4 two! "
