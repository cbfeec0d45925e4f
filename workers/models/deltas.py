"""Reads the events of a chat completion and joins their deltas. Knows OpenAI's format; no network, no time."""

from __future__ import annotations

import json
from typing import Any

import orjson

from schemas.frames import Finish, Usage
from schemas.history import ToolCall
from workers.models.failures import Failure, failure_in_stream
from workers.models.port import ModelChunk, ModelDone

_FINISH: dict[str, Finish] = {
    "length": "length",
    "max_tokens": "length",
    "content_filter": "content_filter",
}


class Deltas:
    """One answer while it comes in. `finished`: the model said that it is done; `ended`: nothing follows at all;
    `pieces`: how many pieces of tool calls have come, which nobody is shown before the end.
    """

    __slots__ = ("_calls", "_finish", "_half", "_model", "_odd", "_reasoning", "_text", "_usage", "ended", "pieces")

    def __init__(self, model: str) -> None:
        self.ended = False
        self.pieces = 0
        self._model = model
        self._text: list[str] = []
        self._reasoning: list[str] = []
        self._calls: dict[int, _Call] = {}
        self._finish: str | None = None
        self._usage: dict[str, Any] | None = None
        self._odd = False
        self._half = ""

    @property
    def finished(self) -> bool:
        return self.ended or self._finish is not None

    def add(self, events: list[bytes]) -> None:
        """Take the data of some events. Raises the typed error that the provider reports, or ModelUnavailable."""
        for event in events:
            if event == b"[DONE]":
                self.ended = True
                continue
            whole = self._parsed(event)
            if (plain := _plain(whole)) is not None:
                self._text.append(plain)
            else:
                self._add(whole)

    def take(self) -> ModelChunk | None:
        """What has come since the last time, joined; None if that is nothing."""
        if not self._text and not self._reasoning:
            return None
        try:
            text, reasoning = "".join(self._text), "".join(self._reasoning)
        except TypeError:
            raise Failure("the provider sent content that is no text").typed() from None
        self._text.clear()
        self._reasoning.clear()
        if self._odd:
            text, reasoning = self._mended(text), _mended(reasoning)
        return ModelChunk(text, reasoning) if text or reasoning else None

    def last(self) -> ModelChunk | None:
        """As `take`, at the end: nothing waits for its other half any more."""
        chunk = self.take()
        if not self._half:
            return chunk
        self._half = ""
        return ModelChunk((chunk.text if chunk else "") + "\ufffd", chunk.reasoning if chunk else "")

    def done(self) -> ModelDone:
        """How the answer ended."""
        calls = tuple(call.whole(index) for index, call in sorted(self._calls.items()))
        return ModelDone(_FINISH.get(self._finish or "", "stop"), self.told, calls, self._model)

    def _add(self, whole: dict[str, Any]) -> None:
        """Everything but a plain piece of text: the first and last events, reasoning, calls, usage, errors."""
        if whole.get("error"):
            raise failure_in_stream(whole["error"]).typed()
        usage = whole.get("usage")
        if isinstance(usage, dict):
            self._usage = usage
        choices = whole.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict) and choice.get("index", 0) in (0, None):
                self._choice(choice)

    def _choice(self, choice: dict[str, Any]) -> None:
        delta = choice.get("delta") or choice.get("message")
        if isinstance(delta, dict):
            self._text.extend(said for key in ("content", "refusal") if (said := delta.get(key)))
            if reasoning := delta.get("reasoning_content") or delta.get("reasoning"):
                self._reasoning.append(reasoning)
            calls = delta.get("tool_calls")
            for place, call in enumerate(calls if isinstance(calls, list) else ()):
                if isinstance(call, dict):
                    self.pieces += 1
                    self._calls.setdefault(_whole_number(call.get("index"), place), _Call()).grow(call)
        finish = choice.get("finish_reason")
        if isinstance(finish, str) and finish:
            self._finish = finish

    def _parsed(self, event: bytes) -> dict[str, Any]:
        try:
            whole = orjson.loads(event)
        except ValueError:
            self._odd = True
            whole = _object(event)
        if not isinstance(whole, dict):
            raise Failure("the provider sent an event that is no JSON object").typed()
        return whole

    def _mended(self, text: str) -> str:
        """`text` with the halves of surrogate pairs joined; a last half waits for its other one."""
        text, self._half = self._half + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            text, self._half = text[:-1], text[-1]
        return _mended(text)

    @property
    def told(self) -> Usage | None:
        """What the provider has told of the tokens so far."""
        usage = self._usage
        if usage is None:
            return None
        inner, outer = usage.get("prompt_tokens_details"), usage.get("completion_tokens_details")
        cached = inner.get("cached_tokens") if isinstance(inner, dict) else None
        reasoning = outer.get("reasoning_tokens") if isinstance(outer, dict) else None
        return Usage(
            model=self._model,
            input_tokens=_whole_number(usage.get("prompt_tokens"), 0),
            output_tokens=_whole_number(usage.get("completion_tokens"), 0),
            cached_input_tokens=cached if isinstance(cached, int) else None,
            reasoning_tokens=reasoning if isinstance(reasoning, int) else None,
        )


def _plain(whole: dict[str, Any]) -> str | None:
    """The text of an event that brings nothing else, which nearly all of them are."""
    try:
        (choice,) = whole["choices"]
        delta = choice["delta"]
        content = delta["content"]
        if len(delta) > 1 or choice["index"] or choice.get("finish_reason") or whole.get("usage") or "error" in whole:
            return None
    except (LookupError, TypeError, ValueError, AttributeError):
        return None
    return content if isinstance(content, str) else None


class _Call:
    """A tool call while it comes in."""

    __slots__ = ("arguments", "call", "name")

    def __init__(self) -> None:
        self.call = ""
        self.name = ""
        self.arguments: list[str] = []

    def grow(self, delta: dict[str, Any]) -> None:
        if isinstance(delta.get("id"), str) and delta["id"]:
            self.call = delta["id"]
        function = delta.get("function")
        if isinstance(function, dict):
            self.name += function.get("name") or ""
            self.arguments.append(function.get("arguments") or "")

    def whole(self, index: int) -> ToolCall:
        """The call; one that came without an id is named by its place."""
        text = _mended("".join(self.arguments))
        try:
            arguments = orjson.loads(text or "{}")
        except ValueError:
            arguments = None
        call = self.call or f"call-{index}"
        if isinstance(arguments, dict):
            return ToolCall(call=call, name=self.name, arguments=arguments)
        return ToolCall(call=call, name=self.name, arguments_text=text)


def _object(event: bytes) -> Any:
    """JSON as careless servers write it: half surrogates, bytes that are no UTF-8, NaN."""
    try:
        return json.loads(event.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        raise Failure("the provider sent an event that is no JSON").typed() from None


def _mended(text: str) -> str:
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _whole_number(value: object, default: int) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else default
