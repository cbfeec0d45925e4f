"""The last lines of a log file, as people read them: structured lines become sentences. Knows no parts."""

from __future__ import annotations

import json
from pathlib import Path

READ_BYTES = 65_536
WIDTH = 240
# The loader's complaint about a symbol version that the embedded broker does not need: true, and no cause of anything.
NOISE = ("weak version `GLIBC",)


def readable_tail(log: Path, *, lines: int = 12) -> list[str]:
    """At most `lines` last lines that say something."""
    try:
        with log.open("rb") as handle:
            handle.seek(max(0, log.stat().st_size - READ_BYTES))
            text = handle.read().decode("utf-8", "replace")
    except OSError:
        return []
    said = [line for line in text.splitlines() if line.strip() and not any(noise in line for noise in NOISE)]
    return [readable(line) for line in said[-lines:]]


def readable(line: str) -> str:
    """One line without its structure: what mongod and our own services write as JSON objects."""
    try:
        record = json.loads(line)
    except ValueError:
        return line[:WIDTH]
    if not isinstance(record, dict):
        return line[:WIDTH]
    message = record.get("msg") or record.get("event") or record.get("message")
    if not message:
        return line[:WIDTH]
    detail = record.get("attr") or {name: value for name, value in record.items() if name not in _KNOWN}
    return f"{message} {_short(detail)}".strip()[:WIDTH]


_KNOWN = frozenset({"msg", "event", "message", "t", "ts", "time", "timestamp", "at_ms", "level", "s", "c", "id", "ctx"})


def _short(detail: object) -> str:
    if not isinstance(detail, dict):
        return ""
    return " ".join(f"{name}={value}" for name, value in detail.items() if not isinstance(value, dict | list))
