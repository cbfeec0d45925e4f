"""`python -m workers` as a process of its own: its log as it is written, its signals by pid, restarts as a supervisor
does. Knows nothing of what it works on."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from signal import Signals
from typing import Any

Line = dict[str, Any]


class WorkerProcess:
    """One worker; after `start` again it is the next process with the same log. `ended`: (moment in ms, exit code) of
    each life that ended by itself."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        self.ended: list[tuple[int, int]] = []
        self._environment = {**os.environ, **environment}
        self._process: subprocess.Popen[bytes] | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it."""
        with self.log.open("ab") as out:
            command = [sys.executable, "-m", "workers"]
            self._process = subprocess.Popen(command, env=self._environment, stdout=out, stderr=out)

    def keep(self) -> None:
        """Start it, and again whenever it ends, as a supervisor does."""
        self.start()
        self._keeper = asyncio.create_task(self._keep(), name=f"keep {self.log.name}")

    async def _keep(self) -> None:
        while True:
            assert self._process is not None
            while (code := self._process.poll()) is None:
                await asyncio.sleep(0.01)
            self.ended.append((time.time_ns() // 1_000_000, code))
            self.start()

    def signal(self, number: Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def end(self) -> None:
        """kill -9, by its id; nobody starts it again."""
        if self._keeper is not None:
            self._keeper.cancel()
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=10)

    def lines(self, message: str = "", *, after_ms: int = 0) -> list[Line]:
        """Lines of its log (its JSON ones) whose message holds `message`."""
        found = []
        for raw in self.log.read_text(errors="replace").splitlines():
            try:
                line = json.loads(raw)
            except ValueError:
                continue
            if message in line.get("message", line.get("event", "")) and line["at_ms"] > after_ms:
                found.append(line)
        return found

    async def said(self, message: str, *, after_ms: int = 0, within_s: float = 30.0) -> Line:
        """The first such line, as soon as it is there."""
        end_s = time.monotonic() + within_s
        while not (found := self.lines(message, after_ms=after_ms)):
            assert time.monotonic() < end_s, f"not said in time: {message}\n{self.tail()}"
            await asyncio.sleep(0.02)
        return found[0]

    def tail(self) -> str:
        """The last lines of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
