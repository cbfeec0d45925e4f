"""The assistant's side of one turn while it grows, and what its user has seen of it. Knows no model and no journal.

What the user saw is kept equal to the answer: text that they hold already (an attempt that is replayed) is not sent
again, text that they hold and that is no part of the answer any more is withdrawn with a `reset`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol

import orjson
from pydantic import JsonValue

from schemas.codes import Code
from schemas.errors import TerminalError
from schemas.history import HistoryItem, ToolCall
from schemas.ids import message_id
from schemas.parts import DataPart, Part, TextPart


def clean(text: str) -> str:
    """`text` without lone surrogates, which no encoder takes."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def parts_of(result: JsonValue) -> tuple[Part, ...]:
    """A tool's result as a message holds it."""
    return (TextPart(text=result),) if isinstance(result, str) else (DataPart(data=result),)


def json_bytes(text: str) -> int:
    """Bytes of `text` inside a frame."""
    return len(orjson.dumps(text)) - 2


def fitting(text: str, max_bytes: int) -> str:
    """`text` as it can be encoded. Raises TerminalError(too_large) where it has more than `max_bytes` of JSON."""
    text = clean(text)
    if len(text) * 6 > max_bytes and (bytes_ := json_bytes(text)) > max_bytes:
        raise _too_large(bytes_, max_bytes)
    return text


def _too_large(bytes_: int, max_bytes: int) -> TerminalError:
    text = f"the answer has {bytes_} bytes of JSON, at most {max_bytes} are delivered"
    return TerminalError(Code.TOO_LARGE, text)


@dataclass(slots=True)
class _Message:
    id: str
    texts: list[str] = field(default_factory=list)
    calls: tuple[ToolCall, ...] = ()
    by_model: bool = False
    reasoned: bool = False


@dataclass(slots=True)
class _ToolAnswer:
    """`parts` None: it has not come."""

    id: str
    call: str
    parts: tuple[Part, ...] | None = None


class Screen(Protocol):
    """Where the user sees it grow: the emitter."""

    def delta(self, message: str, text: str, kind: Literal["delta", "reasoning"] = "delta") -> None: ...

    def reset(self, reason: str, step: int, text: str) -> None: ...


class Answer:
    """The messages of one turn, numbered from 1 in the order in which they began (0 is the user's). The results of a
    message's calls have their places right behind it, in the order of the calls, whichever comes first.

    `step`: the last durable one, -1 before the first. `run`: of a branch. Raises TerminalError(too_large) beyond
    `max_bytes` of JSON text.
    """

    __slots__ = (
        "_ahead",
        "_broken",
        "_bytes",
        "_count",
        "_emitter",
        "_first",
        "_items",
        "_max_bytes",
        "_open",
        "_run",
        "_taken",
        "_turn",
        "step",
    )

    def __init__(self, turn: str, emitter: Screen, max_bytes: int, *, run: str = "") -> None:
        self.step = -1
        self._turn = turn
        self._run = run
        self._emitter = emitter
        self._max_bytes = max_bytes
        self._items: list[_Message | _ToolAnswer | HistoryItem] = []
        self._first = 0
        self._count = 0
        self._bytes = 0
        self._ahead = ""
        self._taken = 0
        self._open: _Message | None = None
        self._broken = False

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(["".join(item.texts) for item in self._items if isinstance(item, _Message)])

    def resume(self, text: str, step: int) -> None:
        """A later attempt begins: the user is told that the answer so far is `text`, up to durable step `step`."""
        self._ahead = text
        self._emitter.reset("attempt", step, text)

    def say(self, text: str) -> None:
        """Text of the agent's own."""
        self._mend()
        if self._open is not None:
            self._add(self._open, text)
            return
        last = self._items[-1] if self._items else None
        own = isinstance(last, _Message) and not last.by_model
        self._add(last if isinstance(last, _Message) and own else self._begin(by_model=False), text)

    def open(self) -> None:
        """A model begins a message: one at a time, for what is shown is one text."""
        self._mend()
        if self._open is not None:
            raise TerminalError(Code.AGENT_ERROR, "two model calls are shown at once; give one of them show=False")
        self._open = self._begin(by_model=True)

    def grow(self, text: str) -> None:
        """More text of the open message."""
        if self._open is not None:
            self._add(self._open, text)

    def reason(self, text: str) -> None:
        """Reasoning of the open message: shown, never part of the answer."""
        if self._open is not None and text:
            self._open.reasoned = True
            self._emitter.delta(self._open.id, clean(text), "reasoning")

    def void(self) -> None:
        """The model starts the open message over: what was shown of it is withdrawn."""
        message = self._open
        if message is not None and (message.texts or message.reasoned):
            self._bytes -= sum(map(json_bytes, message.texts))
            message.texts.clear()
            message.reasoned = False
            self._emitter.reset("retry", self.step, self.text)

    def close(self, calls: tuple[ToolCall, ...] = ()) -> str:
        """The open message is whole, and asks for `calls`: its text."""
        message, self._open = self._open, None
        if message is None:
            return ""
        self._ask(message, calls)
        return "".join(message.texts)

    def break_off(self) -> str:
        """The open message will not become whole. It stays as it is if the turn ends here, and is withdrawn if the
        agent goes on. Its text so far."""
        self._broken = self._open is not None
        return "".join(self._open.texts) if self._open is not None else ""

    def tool_answer(self, call: str, parts: tuple[Part, ...]) -> bool:
        """The result of a call; whether a message asked for it, and it had none: any other is not kept."""
        for item in self._items:
            if isinstance(item, _ToolAnswer) and item.call == call and item.parts is None:
                item.parts = parts
                return True
        return False

    def heard(self, item: HistoryItem) -> None:
        """What the user said meanwhile has its place here."""
        self._items.append(item)

    def take(self) -> str:
        """The text since this was last asked, without a message that is still open: the next step makes it durable."""
        whole = self.text
        if self._open is not None:
            whole = whole[: len(whole) - sum(map(len, self._open.texts))]
        new = whole[self._taken :]
        self._taken = len(whole)
        return new

    def durable(self, step: int) -> None:
        """Step `step` is durable."""
        self.step = max(self.step, step)

    def in_step(self) -> None:
        """What the user holds of an earlier attempt and the agent did not say this time is withdrawn."""
        if self._ahead:
            self._ahead = ""
            self._emitter.reset("changed", self.step, self.text)

    def holds(self, text: str) -> bool:
        """Whether `text` is what the user holds of an earlier attempt beyond what was said again. Then it counts as
        said from now on: the caller puts it."""
        if self._ahead != text:
            return False
        self._ahead = ""
        return True

    def put(self, text: str, calls: tuple[ToolCall, ...] = (), *, by_model: bool = False) -> None:
        """Text that the user holds already."""
        if not (text or calls):
            return
        last = self._items[-1] if self._items else None
        joins = isinstance(last, _Message) and not last.by_model and not by_model
        message = last if isinstance(last, _Message) and joins else self._begin(by_model=by_model)
        message.texts.append(text)
        self._ask(message, calls)

    def keep(self) -> str:
        """The turn is cut short: everything that was shown stays, also what an earlier attempt showed durably."""
        if self._ahead:
            ahead, self._ahead = self._ahead, ""
            self._begin(by_model=False).texts.append(ahead)
        return self.text

    def finish(self, text: str | None) -> str:
        """The whole answer: `text`, or what was shown where it is None."""
        self._mend()
        self.in_step()
        if text and not self._first and not self.text:
            self._begin(by_model=False).texts.append(self._fitting(text))  # its frame is the terminal one
        else:
            self._become(text)
        return self.text

    def pause(self, text: str | None) -> None:
        """The agent has said `text` (None: what it has shown) and is run again: what it says then comes after this."""
        self._mend()
        self._become(text)
        self._first = len(self._items)

    def _become(self, text: str | None) -> None:
        shown = "".join(["".join(item.texts) for item in self._items[self._first :] if isinstance(item, _Message)])
        if text is None or text == shown:
            return
        text = self._fitting(text)
        if text.startswith(shown):
            self.say(text[len(shown) :])
        else:
            self._replace(text)

    def items(self, at_ms: int, *, partial: bool) -> tuple[HistoryItem, ...]:
        """The messages as they are stored: no call without its result, nothing empty."""
        answered = {item.call for item in self._items if isinstance(item, _ToolAnswer) and item.parts is not None}
        made = (self._item(item, answered, at_ms, partial=partial) for item in self._items)
        return tuple(item for item in made if item is not None)

    def _item(
        self, item: _Message | _ToolAnswer | HistoryItem, answered: set[str], at_ms: int, *, partial: bool
    ) -> HistoryItem | None:
        if isinstance(item, HistoryItem):
            return item
        if isinstance(item, _ToolAnswer):
            if item.parts is None:
                return None
            return HistoryItem(
                id=item.id, turn=self._turn, role="tool", parts=item.parts, at_ms=at_ms, call=item.call, partial=partial
            )
        text = "".join(item.texts)
        calls = tuple(call for call in item.calls if call.call in answered) if item.calls else ()
        if not text and not calls:
            return None
        parts = (TextPart(text=text),) if text else ()
        return HistoryItem(
            id=item.id, turn=self._turn, role="assistant", parts=parts, at_ms=at_ms, calls=calls, partial=partial
        )

    def _mend(self) -> None:
        if self._broken:
            self._broken = False
            self.void()
            self.close()

    def _ask(self, message: _Message, calls: tuple[ToolCall, ...]) -> None:
        message.calls = calls
        place = self._items.index(message) + 1 if calls else 0
        self._items[place:place] = [_ToolAnswer(self._next_id(), call.call) for call in calls]

    def _next_id(self) -> str:
        self._count += 1
        return message_id(self._turn, self._count) if not self._run else f"{self._turn}~{self._run}.{self._count}"

    def _begin(self, *, by_model: bool) -> _Message:
        message = _Message(self._next_id(), by_model=by_model)
        self._items.append(message)
        return message

    def _add(self, message: _Message, text: str) -> None:
        if not text:
            return
        text = clean(text)
        bytes_ = json_bytes(text)
        if self._bytes + bytes_ > self._max_bytes:
            raise _too_large(self._bytes + bytes_, self._max_bytes)
        self._bytes += bytes_
        message.texts.append(text)
        self._show(message.id, text)

    def _show(self, message: str, text: str) -> None:
        ahead = self._ahead
        if not ahead:
            self._emitter.delta(message, text)
        elif ahead.startswith(text):
            self._ahead = ahead[len(text) :]
        elif text.startswith(ahead):
            self._ahead = ""
            self._emitter.delta(message, text[len(ahead) :])
        else:
            self._ahead = ""
            self._emitter.reset("changed", self.step, self.text)

    def _replace(self, text: str) -> None:
        for item in self._items[self._first :]:
            if isinstance(item, _Message):
                item.texts.clear()
        self._begin(by_model=False).texts.append(text)
        self._emitter.reset("replaced", self.step, self.text)

    def _fitting(self, text: str) -> str:
        return fitting(text, self._max_bytes)
