"""Log lines: one JSON object each on stderr, written in bundles. One line at a turn's start and one at its end.

The turn lines are an interface: `event` `session` `turn` `attempt` `version` and, at the end, `outcome` and times.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import Any, TextIO

import orjson

from schemas.receipt import Receipt

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_PLAIN = frozenset(vars(logging.makeLogRecord({})))


class JsonFormatter(logging.Formatter):
    """A log record as one JSON object: time, level, logger, message, and what came as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "at_ms": int(record.created * 1000),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update((k, v) for k, v in vars(record).items() if k not in _PLAIN and k != "message")
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def configure(log_format: str, level: str) -> None:
    """Send everything that is logged to stderr, as JSON or as text."""
    handler = logging.StreamHandler(sys.stderr)
    if log_format == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=LEVELS[level], handlers=[handler], force=True)
    for chatty in ("aiokafka", "httpx", "httpx2", "openai", "uvicorn"):
        logging.getLogger(chatty).setLevel(max(LEVELS[level], LEVELS["warning"]))


class TurnLog:
    """The turn lines. They cost a microsecond: a line is kept and written with its neighbours by `flush`. Where
    `enabled` is False nobody need make one."""

    def __init__(
        self, *, enabled: bool, call_later: Callable[[float, Callable[[], None]], object], stream: TextIO | None = None
    ) -> None:
        self.enabled = enabled
        self._call_later = call_later
        self._stream = stream or sys.stderr
        self._lines: list[bytes] = []

    def started(self, session: str, turn: str, *, attempt: int, version: int, worker: str) -> None:
        """A turn's attempt begins; `version`: of its CLAIM."""
        self._put("turn started", session=session, turn=turn, attempt=attempt, version=version, worker=worker)

    def ended(self, receipt: Receipt, *, version: int, finish_us: int) -> None:
        """A turn is over: its outcome and where the time went; `version`: of its FINISH, which took `finish_us`."""
        hops = receipt.hops
        self._put(
            "turn ended",
            session=receipt.session,
            tenant=receipt.tenant,
            turn=receipt.turn,
            attempt=receipt.attempt,
            version=version,
            outcome=receipt.outcome,
            queue_us=hops.queue_us,
            model_us=hops.model_us,
            agent_us=hops.agent_us,
            finish_us=finish_us,
        )

    def _put(self, event: str, **names: object) -> None:
        if self.enabled:
            if not self._lines:
                self._call_later(0.05, self.flush)
            self._lines.append(
                orjson.dumps({"at_ms": int(time.time() * 1000), "level": "info", "event": event, **names})
            )

    def flush(self) -> None:
        """Write what is kept."""
        if self._lines:
            lines, self._lines = self._lines, []
            self._stream.write(b"\n".join(lines).decode() + "\n")
            self._stream.flush()
