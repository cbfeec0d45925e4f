"""The fleet's model for the nodes of a LangGraph graph: what it is asked there is a step of its own. Knows no graph."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.utils.function_calling import convert_to_openai_tool

from schemas.codes import Code
from schemas.errors import TerminalError
from schemas.history import HistoryItem, Role, ToolCall
from schemas.parts import DataPart, FilePart, Part, TextPart
from workers.adapters.ending import Ending
from workers.agent import ModelAnswer
from workers.context import Context, ModelParams
from workers.models.port import ToolSpec


@dataclass(frozen=True, slots=True)
class InNode:
    """Where a node's model calls go: a branch of its own. `names`: ids for what is said there."""

    line: Context
    ending: Ending
    loop: asyncio.AbstractEventLoop
    names: Iterator[str]


IN_NODE: ContextVar[InNode] = ContextVar("fleet_langgraph_node")


class FleetChatModel(BaseChatModel):
    """Asks the fleet's model; works inside a node of a graph that runs as an agent of the fleet."""

    model: str | None = None
    system: str = ""
    temperature: float | None = None
    max_tokens: int | None = None

    @property
    def _llm_type(self) -> str:
        return "turnfleet"

    def bind_tools(
        self, tools: Sequence[dict[str, Any] | type | Callable[..., Any] | Any], **more: Any
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """With these tools; it chooses by itself."""
        return self.bind(tools=[convert_to_openai_tool(tool) for tool in tools])

    async def _agenerate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **given: Any
    ) -> ChatResult:
        return await self._ask(_in_node(), messages, given.get("tools", ()))

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **given: Any
    ) -> ChatResult:
        """Of a plain `def` node, which runs in a thread."""
        place = _in_node()
        return asyncio.run_coroutine_threadsafe(self._ask(place, messages, given.get("tools", ())), place.loop).result()

    async def _ask(self, place: InNode, messages: list[BaseMessage], tools: Sequence[dict[str, Any]]) -> ChatResult:
        said = "\n\n".join(message.text for message in messages if isinstance(message, SystemMessage))
        params: ModelParams = {
            "system": "\n\n".join(text for text in (self.system, said) if text),
            "model": self.model,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
            "tools": tuple(_spec(tool["function"]) for tool in tools),
        }
        items = [to_item(message) for message in messages if not isinstance(message, SystemMessage)]
        try:
            answer = await place.line.model(items, **params)
        except Exception:
            raise  # the node may have another answer to what failed
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError):
                raise
            await place.ending.end(error)
        return ChatResult(generations=[ChatGeneration(message=_message(answer, next(place.names)))])


def fleet_chat_model(
    *, model: str | None = None, system: str = "", temperature: float | None = None, max_tokens: int | None = None
) -> FleetChatModel:
    """A chat model for the nodes of a graph, with the fleet's retries and limits; `model`: None: as the spec says."""
    return FleetChatModel(model=model, system=system, temperature=temperature, max_tokens=max_tokens)


def _in_node() -> InNode:
    place = IN_NODE.get(None)
    if place is None:
        raise TerminalError(Code.AGENT_ERROR, "the fleet's chat model is asked inside a node of a graph, nowhere else")
    return place


def _spec(function: dict[str, Any]) -> ToolSpec:
    return ToolSpec(function["name"], function.get("description", ""), function.get("parameters", {}))


def to_message(item: HistoryItem) -> BaseMessage:
    """A message of ours for a graph."""
    if item.role == "tool":
        return ToolMessage(content=item.text or _said(item.parts), tool_call_id=item.call or "", id=item.id)
    if item.role == "user":
        return HumanMessage(content=_content(item.parts), id=item.id)
    calls = [{"name": call.name, "args": call.arguments or {}, "id": call.call} for call in item.calls]
    return AIMessage(content=item.text, tool_calls=calls, id=item.id)


def to_item(message: BaseMessage) -> HistoryItem:
    """A message of a graph for the fleet's model."""
    role: Role = "user"
    calls: tuple[ToolCall, ...] = ()
    call: str | None = None
    if isinstance(message, ToolMessage):
        role, call = "tool", message.tool_call_id
    elif isinstance(message, AIMessage):
        role = "assistant"
        calls = tuple(ToolCall(call=it["id"] or "", name=it["name"], arguments=it["args"]) for it in message.tool_calls)
        calls += tuple(
            ToolCall(call=it["id"] or "", name=it["name"] or "", arguments_text=it["args"] or "")
            for it in message.invalid_tool_calls
        )
    return HistoryItem(id="", turn="", role=role, parts=_parts(message.content), at_ms=0, calls=calls, call=call)


def _message(answer: ModelAnswer, name: str) -> AIMessage:
    given = sum(used.input_tokens for used in answer.usage)
    said = sum(used.output_tokens for used in answer.usage)
    whole = [call for call in answer.calls if call.arguments is not None]
    return AIMessage(
        content=answer.text,
        id=name,
        tool_calls=[{"name": call.name, "args": call.arguments or {}, "id": call.call} for call in whole],
        invalid_tool_calls=[
            {
                "name": call.name,
                "args": call.arguments_text,
                "id": call.call,
                "error": None,
                "type": "invalid_tool_call",
            }
            for call in answer.calls
            if call.arguments is None
        ],
        usage_metadata=UsageMetadata(input_tokens=given, output_tokens=said, total_tokens=given + said),
    )


def _parts(content: Any) -> tuple[Part, ...]:
    if isinstance(content, str):
        return (TextPart(text=content),) if content else ()
    return tuple(part for block in content if (part := _part(block)) is not None)


def _part(block: Any) -> Part | None:
    if isinstance(block, str):
        return TextPart(text=block)
    if block.get("type") == "text":
        return TextPart(text=block["text"])
    if block.get("type") == "image_url":
        address = block["image_url"]["url"] if isinstance(block["image_url"], dict) else block["image_url"]
        if address.startswith("data:") and ";base64," in address:
            head, data = address.split(";base64,", 1)
            return FilePart(media_type=head.removeprefix("data:"), data=data)
        return FilePart(media_type="image/*", url=address)
    return None  # what a provider put there for itself


def _content(parts: Sequence[Part]) -> str | list[str | dict[str, Any]]:
    if not any(isinstance(part, FilePart) and part.file is None for part in parts):
        return _said(parts)
    return [_file(part) if isinstance(part, FilePart) else {"type": "text", "text": _said([part])} for part in parts]


def _file(part: FilePart) -> dict[str, Any]:
    if part.file is not None or not part.media_type.startswith("image/"):
        return {"type": "text", "text": _said([part])}
    return {"type": "image_url", "image_url": {"url": part.url or f"data:{part.media_type};base64,{part.data}"}}


def _said(parts: Sequence[Part]) -> str:
    return "".join(
        part.text
        if isinstance(part, TextPart)
        else json.dumps(part.data)
        if isinstance(part, DataPart)
        else f"[file {part.name or part.media_type}]"
        for part in parts
    )
