"""What a test sees of one turn, and how it is read out of entries and frames. Plain values; runs nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from pydantic import JsonValue
from pydantic_core import from_json

from schemas.codes import Code
from schemas.entries import Entry, Finish, Intent, Settle, Step, Suspend
from schemas.frames import Usage
from schemas.history import HistoryItem
from schemas.parts import text_of
from schemas.receipt import Receipt
from workers.models.port import ModelRequest

Frame = dict[str, Any]


class ToolUse(NamedTuple):
    """One tool call. `result`: what it returned, None while there is nothing; `error`: the code of what it raised, or
    `outcome_unknown`; `is_error`: it said itself that it could not; `run`: the branch, empty of the main line."""

    name: str
    arguments: Mapping[str, JsonValue]
    result: JsonValue = None
    error: Code | None = None
    is_error: bool = False
    call: str = ""
    run: str = ""


class Asked(NamedTuple):
    """A decision that the turn awaits. `name`, `arguments`: of the tool call that it is about; `schema`: what an answer
    to a question must look like."""

    call: str
    message: str | None
    name: str | None
    arguments: Mapping[str, JsonValue] | None
    schema: Mapping[str, JsonValue] | None
    expires_s: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """A turn as it ended, or where it waits. `text`: the answer; `shown`: what a client holds that read its frames;
    `steps`: names in the order in which they became durable, `branch/name` for those of a branch; `messages`: what the
    turn added to the history; `kept`: what the session keeps now; `requests`: what the model was asked in this turn;
    `waited_s`: virtual seconds that its attempts took; `entries`: all that the journal got of it; `receipt`: what it
    cost, once it ran to an end."""

    turn: str
    outcome: Literal["completed", "failed", "cancelled", "suspended"]
    text: str = ""
    data: JsonValue = None
    code: Code | None = None
    message: str = ""
    asks: Asked | None = None
    steps: tuple[str, ...] = ()
    tools: tuple[ToolUse, ...] = ()
    frames: tuple[Frame, ...] = ()
    usage: tuple[Usage, ...] = ()
    messages: tuple[HistoryItem, ...] = ()
    kept: Mapping[str, JsonValue] = field(default_factory=dict)
    requests: tuple[ModelRequest, ...] = ()
    entries: tuple[Entry, ...] = ()
    waited_s: float = 0.0
    attempts: int = 1
    receipt: Receipt | None = None

    @property
    def shown(self) -> str:
        """What a client holds at the end of these frames."""
        return shown(self.frames)

    @property
    def tokens(self) -> int:
        """Of all models, in and out."""
        return sum(usage.input_tokens + usage.output_tokens for usage in self.usage)

    @property
    def money(self) -> float | None:
        """What it cost by the lab's prices. None: nothing was used, or a model has no price."""
        return self.receipt.money if self.receipt is not None else None

    def states(self, name: str) -> list[JsonValue]:
        """What `ctx.state(name, …)` showed, in order."""
        return [frame["value"] for frame in self.frames if frame["type"] == "state" and frame["name"] == name]


def shown(frames: Sequence[Frame]) -> str:
    """The answer that a client holds after these frames; what is shown in a branch is no part of it."""
    text = ""
    for frame in frames:
        if frame.get("run"):
            continue
        if frame["type"] == "delta":
            text += frame["text"]
        elif frame["type"] in ("reset", "completed", "failed", "cancelled"):
            text = frame.get("text", "")
    return text


def outcome_of(turn: str, entries: Sequence[Entry], frames: Sequence[Frame], **more: Any) -> Outcome:
    """Read it. `more`: what neither says."""
    last, calls = entries[-1], calls_of(entries)
    known: dict[str, Any] = {
        "turn": turn,
        "steps": tuple(place(entry, calls) for entry in entries if isinstance(entry, Step)),
        "tools": _tools(entries, frames),
        "frames": tuple(frames),
        "entries": tuple(entries),
        **more,
    }
    if isinstance(last, Finish | Settle):
        frame = from_json(last.frames[0])
        code = frame.get("code")
        usage = tuple(Usage.model_validate(one) for one in frame.get("usage", ()))
        return Outcome(
            outcome=last.outcome,
            text=frame.get("text", ""),
            data=frame.get("data"),
            code=Code(code) if code is not None else None,
            message=frame.get("message", ""),
            usage=usage,
            receipt=last.receipt if isinstance(last, Finish) else None,
            **known,
        )
    asked = next(entry for entry in reversed(entries) if isinstance(entry, Suspend))
    usage = tuple(used for entry in entries if isinstance(entry, Step) for used in entry.usage)
    return Outcome(outcome="suspended", text=shown(frames), asks=_asked(asked), usage=usage, **known)


def place(entry: Step | Intent | Suspend, calls: frozenset[str]) -> str:
    """A step's name, behind the branch that it is in."""
    run = _branch(entry.run, calls)
    return f"{run}/{entry.name}" if run else entry.name


def calls_of(entries: Sequence[Entry]) -> frozenset[str]:
    """The ids of all calls: each has a branch of its own, which says nothing to people."""
    return frozenset(entry.call for entry in entries if isinstance(entry, Step | Intent | Suspend) and entry.call)


def _branch(run: str, calls: frozenset[str]) -> str:
    return "/".join(name for name in run.split("/") if name not in calls)


def _tools(entries: Sequence[Entry], frames: Sequence[Frame]) -> tuple[ToolUse, ...]:
    called: dict[str, Frame] = {}
    for frame in frames:
        if frame["type"] == "tool_call":
            called.setdefault(frame["call"], frame)
    ended = {entry.call: entry for entry in entries if isinstance(entry, Step) and entry.kind == "tool"}
    begun = {entry.call: entry for entry in entries if isinstance(entry, Intent)}
    calls = dict.fromkeys((*called, *begun, *(call for call in ended if call)))
    uses = (_use(call, called.get(call), ended.get(call) or begun.get(call)) for call in calls)
    return tuple(use._replace(run=_branch(use.run, calls_of(entries) | calls.keys())) for use in uses)


def _use(call: str, frame: Frame | None, entry: Step | Intent | None) -> ToolUse:
    """`frame`: its `tool_call`, where there was time to say it; `entry`: what the journal holds of it."""
    arguments = (frame or {}).get("arguments") or {}
    name = entry.name if entry is not None else (frame or {})["name"]
    run = entry.run if entry is not None else (frame or {}).get("run", "")
    if not isinstance(entry, Step):
        return ToolUse(name, arguments, call=call, run=run)
    result = entry.result
    if result is None and entry.content is not None:
        result = text_of(entry.content)
    error = entry.error.code if entry.error is not None else None
    return ToolUse(name, arguments, result, error, entry.is_error, call, run)


def _asked(entry: Suspend) -> Asked:
    frame = from_json(entry.frames[0])
    return Asked(
        entry.call,
        frame.get("message"),
        frame.get("name"),
        frame.get("arguments"),
        frame.get("schema"),
        (entry.deadline_ms - entry.at_ms) / 1000,
    )
