"""A hostile MCP server over stdio, by hand: says what it is told to, in the older era. Standard library only.

Run as `hostile_server.py MODE…`; a mode is a way to misbehave, from the start or when its tool is called.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

OBJECT = {"type": "object"}
BOMB = "^(a+)+$"
GOOD = {"name": "good", "description": "Works", "inputSchema": OBJECT}
TOOLS: list[Any] = [
    GOOD,
    *({"name": name, "inputSchema": OBJECT} for name in (
        "flood", "endless", "big", "garbage", "die", "never", "slow", "progress", "environment", "strange", "error",
        "structured", "deaf", "pid", "grandchild", "unknown_kind", "half", "ask", "late_ask",
        "count",
    )),
]  # fmt: skip
BAD_LIST: list[Any] = [
    GOOD,
    {"name": "twin", "description": "one", "inputSchema": OBJECT},
    {"name": "twin", "description": "two", "inputSchema": OBJECT},
    {"name": "odd näme/with spaces", "inputSchema": OBJECT},
    {"name": "", "inputSchema": OBJECT},
    {"name": 7, "inputSchema": OBJECT},
    "no object",
    {"name": "no_schema"},
    {"name": "schema_is_text", "inputSchema": "object"},
    {"name": "bad_type", "inputSchema": {"type": "object", "properties": {"a": {"type": "nonsense"}}}},
    {"name": "bad_pattern", "inputSchema": {"type": "object", "properties": {"a": {"pattern": "("}}}},
    {"name": "bad_ref", "inputSchema": {"type": "object", "properties": {"a": {"$ref": "#/$defs/none"}}}},
    {"name": "deep", "inputSchema": {"type": "object", "properties": {"a": None}}},
    {"name": "huge", "description": "x" * 20_000, "inputSchema": OBJECT},
    {"name": "bomb", "inputSchema": {"type": "object", "properties": {"a": {"type": "string", "pattern": BOMB}}},
     "outputSchema": {"type": "object", "properties": {"a": {"type": "string", "pattern": BOMB}}, "required": ["a"]}},
]  # fmt: skip


def say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def answer(id: Any, result: dict[str, Any]) -> None:
    say({"jsonrpc": "2.0", "id": id, "result": result})


def text(id: Any, said: str, **more: Any) -> None:
    answer(id, {"content": [{"type": "text", "text": said}], **more})


def deep(levels: int) -> dict[str, Any]:
    made: dict[str, Any] = {"type": "object"}
    for _ in range(levels):
        made = {"type": "object", "properties": {"a": made}}
    return made


def tools(modes: set[str]) -> list[Any]:
    if "changing" in modes:
        place = Path(os.environ["PLACE"])
        return [{**GOOD, "description": place.read_text()}]
    if "bad-list" in modes:
        BAD_LIST[12]["inputSchema"] = deep(100)
        return BAD_LIST
    return TOOLS


def flood(id: Any, given: dict[str, Any]) -> None:
    while True:
        say({"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "x" * 100}})


def endless(id: Any, given: dict[str, Any]) -> None:
    while True:
        sys.stdout.write("x" * 65_536)


def garbage(id: Any, given: dict[str, Any]) -> None:
    for n in range(given.get("lines", 10)):
        sys.stdout.write(f"starting up {n} …\n{{}}\n[]\n")
    text(id, "after the garbage")


def half(id: Any, given: dict[str, Any]) -> None:
    sys.stdout.write('{"jsonrpc":"2.0","id":')
    sys.stdout.flush()
    os._exit(9)


def slow(id: Any, given: dict[str, Any]) -> None:
    time.sleep(given.get("s", 1.0))
    text(id, "slow")


def progress(id: Any, given: dict[str, Any]) -> None:
    for n in range(3):
        params = {"progressToken": given["token"], "progress": n, "total": 3, "message": f"step {n}"}
        say({"jsonrpc": "2.0", "method": "notifications/progress", "params": params})
        time.sleep(0.12)
    text(id, "done")


def unknown_kind(id: Any, given: dict[str, Any]) -> None:
    parts = [{"type": "hologram", "x": 1}, 7, {"type": "image"}, {"type": "text", "text": "\ud800 ok"}, None]
    answer(id, {"content": parts})


def error(id: Any, given: dict[str, Any]) -> None:
    say({"jsonrpc": "2.0", "id": id, "error": {"code": -32602, "message": "no such thing"}})


def grandchild(id: Any, given: dict[str, Any]) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"], stdin=subprocess.DEVNULL)
    text(id, str(child.pid))


def count(id: Any, given: dict[str, Any]) -> None:
    COUNT.append(1)
    text(id, str(len(COUNT)))


def ask(id: Any, given: dict[str, Any]) -> None:
    params = {"mode": "form", "message": "Sure?", "requestedSchema": {"type": "object", "properties": {}}}
    say({"jsonrpc": "2.0", "id": f"ask-{id}", "method": "elicitation/create", "params": params})
    ASKED[f"ask-{id}"] = id


def late_ask(id: Any, given: dict[str, Any]) -> None:
    """Asks once its call is cancelled."""
    LATE.append(id)


CALLS: dict[str, Callable[[Any, dict[str, Any]], object]] = {
    "flood": flood,
    "endless": endless,
    "big": lambda number, given: text(number, "x" * given.get("bytes", 50_000_000)),
    "garbage": garbage,
    "die": lambda number, given: os._exit(9),
    "half": half,
    "never": lambda number, given: None,
    "slow": slow,
    "deaf": lambda number, given: time.sleep(3_600),
    "progress": progress,
    "environment": lambda number, given: text(number, json.dumps(dict(os.environ))),
    "strange": lambda number, given: answer(number, {"content": "no list", "structuredContent": 7, "isError": "yes"}),
    "unknown_kind": unknown_kind,
    "error": error,
    "structured": lambda number, given: text(number, "{}", structuredContent={"a": "a" * 40 + "!"}),
    "bomb": lambda number, given: answer(number, {"content": [], "structuredContent": {"a": "a" * 40 + "!"}}),
    "pid": lambda number, given: text(number, str(os.getpid())),
    "grandchild": grandchild,
    "count": count,
    "ask": ask,
    "late_ask": late_ask,
}


def call(id: Any, params: dict[str, Any]) -> None:
    name, given = params["name"], {**(params.get("arguments") or {}), **(params.get("_meta") or {})}
    given["token"] = given.pop("progressToken", None)
    if name in CALLS:
        CALLS[name](id, given)
    else:
        text(id, f"{name} works")


ASKED: dict[str, Any] = {}
LATE: list[Any] = []
COUNT: list[int] = []


def main(modes: set[str]) -> None:
    if "ignores-eof" in modes:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if "mute" in modes:
        time.sleep(3_600)
    if "dies" in modes:
        sys.exit("cannot work like this")
    for line in sys.stdin:
        message = json.loads(line)
        number, method, params = message.get("id"), message.get("method"), message.get("params") or {}
        if number in ASKED:
            text(ASKED.pop(number), json.dumps(message.get("result") or message.get("error")))
        elif method == "initialize":
            info = {"name": "hostile", "version": "1"}
            capabilities = {"tools": {"listChanged": True}}
            answer(number, {"protocolVersion": "2025-11-25", "capabilities": capabilities, "serverInfo": info})
        elif method == "tools/list":
            answer(number, {"tools": tools(modes)})
        elif method == "tools/call":
            call(number, params)
            if LATE and LATE[0] != number:
                ask(LATE.pop(), {})
        elif method == "notifications/cancelled" and "PLACE" in os.environ:
            with Path(os.environ["PLACE"]).open("a") as file:
                file.write(f"cancelled {params.get('requestId')}\n")
        elif number is not None and method != "ping":
            say({"jsonrpc": "2.0", "id": number, "error": {"code": -32601, "message": "Method not found"}})
    while "ignores-eof" in modes:
        time.sleep(1)


if __name__ == "__main__":
    main(set(sys.argv[1:]))
