"""A server started for tests: its port, its log, its end by pid. Knows nothing of what runs in it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGKILL, SIGTERM, Signals

from tests.support.ports import is_open


class ServerDied(Exception):
    """A server ended before its port opened; the text has the last lines of its log."""


@dataclass
class Server:
    """One process that listens on `port` of 127.0.0.1. `start` after `kill` runs the same command on the same data."""

    command: Sequence[str]
    port: int
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"127.0.0.1:{self.port}"

    def start(self, timeout_s: float = 120.0) -> None:
        """Start and wait until the port accepts connections."""
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                self.command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, env={**os.environ, **self.environment}
            )
        deadline = time.monotonic() + timeout_s
        while not is_open(self.port):
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise ServerDied(f"{self.command[0]} on port {self.port}: {self.tail()}")
            time.sleep(0.05)

    def kill(self) -> None:
        """kill -9 and wait until it is gone."""
        self._end(SIGKILL)

    def stop(self) -> None:
        """Ask it to end; kill it when it does not within 10 s."""
        self._end(SIGTERM)

    def signal(self, number: Signals) -> None:
        """Send a signal (SIGSTOP, SIGCONT)."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def tail(self) -> str:
        """The last lines of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def _end(self, number: Signals) -> None:
        if self.process is None:
            return
        self.signal(number)
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(timeout=10)
        self.process = None
