"""What a person is asked before an agent goes on: y or N, other arguments, an answer. Reads lines; knows no socket."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

Read = Callable[[str, str], Awaitable[str]]
"""A line that is typed after a prompt, begun with a default. Raises KeyboardInterrupt, EOFError."""
Say = Callable[[str], None]
Decision = dict[str, Any]
DENY: Decision = {"decision": "deny"}
_BLANK = "\u115f\u1160\u3164\uffa0"  # letters that look like nothing


@dataclass(frozen=True, slots=True)
class Asked:
    """A decision that a suspended turn waits for; `frame`: its `approval_requested`."""

    frame: Mapping[str, Any]

    @property
    def call(self) -> str:
        """The call that it is about."""
        return str(self.frame["call"])


async def decide(asked: Asked, read: Read, say: Say) -> Decision:
    """What the person decides, as the frame `approve` has it. Ctrl-C, Ctrl-D and a bare Enter deny."""
    question = asked.frame["kind"] == "question"
    say(("question: " if question else "approval: ") + seen(asked.frame.get("message") or ""))
    try:
        return await (_answer if question else _allow)(asked.frame, read, say)
    except (KeyboardInterrupt, EOFError):
        return DENY


async def _allow(frame: Mapping[str, Any], read: Read, say: Say) -> Decision:
    given = arguments = frame.get("arguments") or {}
    while True:
        say(f"{seen(str(frame.get('name')))} {spelled(arguments)}")
        said = (await read(f"allow, until {_moment(frame)}? y, N, e edits: ", "")).strip().lower()
        if said == "e":
            arguments = await _edited(arguments, read, say)
        elif said in {"y", "yes"}:
            edited = spelled(arguments) != spelled(given)  # 1 is not true
            return {"decision": "allow", "arguments": arguments} if edited else {"decision": "allow"}
        else:
            return DENY


async def _edited(arguments: dict[str, Any], read: Read, say: Say) -> dict[str, Any]:
    line = spelled(arguments)
    while True:
        line = await read("arguments: ", line)
        try:
            edited = _read(line)
        except ValueError as error:
            say(f"that is no JSON: {error}")
            continue
        if isinstance(edited, dict):
            return edited
        say("the arguments are a JSON object")


async def _answer(frame: Mapping[str, Any], read: Read, say: Say) -> Decision:
    schema = frame.get("schema") or {}
    as_json = bool(schema) and schema.get("type") != "string"
    if schema:
        say(f"an answer must look like {spelled(schema)}")
    line = ""
    while True:
        line = await read(f"answer, until {_moment(frame)}{' (JSON)' if as_json else ''}, nothing denies: ", line)
        if not line.strip():
            return DENY
        try:
            return {"decision": "allow", "answer": _read(line) if as_json else line}
        except ValueError as error:
            say(f"that is no JSON: {error}")


def _read(line: str) -> Any:
    """JSON that every reader takes: Python's own takes NaN as well, and what overflows. Raises ValueError."""
    value = json.loads(line)
    json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    return value


def spelled(value: object) -> str:
    """JSON on one line; what could hide or turn around what stands beside it is escaped."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(char if char.isprintable() and char not in _BLANK else json.dumps(char)[1:-1] for char in text)


def seen(text: str) -> str:
    """The same for words: lines stay lines, everything else that nobody sees is left out."""
    return "".join(char for char in text if char.isprintable() or char in "\n\t")


def _moment(frame: Mapping[str, Any]) -> str:
    at = datetime.fromtimestamp(frame["expires_ms"] / 1000).astimezone()
    return f"{at:%Y-%m-%d %H:%M:%S}"
