"""Processes that a run starts: until ready, what they cost, stopped by their own id. Knows nothing of what they do."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from loadtest.waiting import until


class PartFailed(Exception):
    """A part did not start or ended; the text names it, with the last lines of its log."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process has used so far."""

    cpu_s: float
    rss_bytes: int
    written_bytes: int


def free_port() -> int:
    """A TCP port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Child:
    """A process of ours with its log. It dies with us, also when we are killed (Linux)."""

    def __init__(self, name: str, command: Sequence[str], *, env: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as out:
            self._popen = subprocess.Popen(
                [*_dies_with_us(), *command],
                env={**os.environ, **env},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._process = psutil.Process(self._popen.pid)

    @property
    def pid(self) -> int:
        return self._popen.pid

    def cost(self) -> Cost:
        """CPU time of all threads, resident memory, bytes given to write calls. Raises PartFailed if it is gone."""
        try:
            with self._process.oneshot():
                times, memory = self._process.cpu_times(), self._process.memory_info()
                written = self._process.io_counters().write_chars if hasattr(self._process, "io_counters") else 0
        except psutil.Error as gone:
            raise self.failure("ended during the run") from gone
        return Cost(times.user + times.system, memory.rss, written)

    async def ready_line(self, pattern: str = r"^ready (\S+)", timeout_s: float = 20.0) -> str:
        """Wait for a line of output in which `pattern` is found, and return its first group."""
        async with self._waiting(timeout_s):
            while True:
                found = re.search(pattern, self.log.read_text("utf-8", "replace"), re.MULTILINE)
                if found:
                    return found.group(1)
                self._check()
                await asyncio.sleep(0.02)

    async def ready_port(self, port: int, timeout_s: float = 20.0) -> None:
        """Wait until something listens on this port of 127.0.0.1."""
        async with self._waiting(timeout_s):
            while True:
                self._check()
                with suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    return
                await asyncio.sleep(0.02)

    async def ready_url(self, url: str, timeout_s: float = 30.0) -> None:
        """Wait until this address answers 200."""
        async with self._waiting(timeout_s), httpx.AsyncClient(timeout=2.0) as client:
            while True:
                self._check()
                with suppress(httpx.HTTPError):
                    if (await client.get(url)).status_code == 200:
                        return
                await asyncio.sleep(0.05)

    async def wait(self, timeout_s: float) -> int:
        """Wait for the end of a process that ends by itself; its exit code. Raises PartFailed after `timeout_s`."""
        if not await until(self._ended, timeout_s=timeout_s):
            raise self.failure(f"did not end within {timeout_s:g} s")
        return self._popen.wait()

    async def stop(self, timeout_s: float = 15.0) -> int:
        """SIGTERM, after `timeout_s` SIGKILL; returns the exit code (negative: the signal)."""
        if not self._ended():
            self._popen.send_signal(signal.SIGTERM)
        if not await until(self._ended, timeout_s=timeout_s):
            self._popen.kill()
        return self._popen.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal: SIGKILL to lose it, SIGSTOP and SIGCONT to freeze it for a while."""
        self._popen.send_signal(number)

    def failure(self, what: str) -> PartFailed:
        """An error that says what happened to this part, with the end of its log."""
        tail = "\n  ".join(self.log.read_text("utf-8", "replace").splitlines()[-15:])
        return PartFailed(f"{self.name} {what}; the end of its log:\n  {tail}")

    @property
    def ended(self) -> bool:
        """Whether the process is gone."""
        return self._popen.poll() is not None

    def _ended(self) -> bool:
        return self.ended

    def _check(self) -> None:
        if self._ended():
            raise self.failure(f"ended with exit code {self._popen.returncode}")

    def _waiting(self, timeout_s: float) -> _Waiting:
        return _Waiting(self, timeout_s)


class _Waiting:
    """`asyncio.timeout` that names the part."""

    def __init__(self, child: Child, timeout_s: float) -> None:
        self._child = child
        self._timeout = asyncio.timeout(timeout_s)
        self._timeout_s = timeout_s

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            await self._timeout.__aexit__(kind, error, trace)  # type: ignore[arg-type]
        except TimeoutError as late:
            raise self._child.failure(f"was not ready within {self._timeout_s:g} s") from late


def _dies_with_us() -> list[str]:
    """Where util-linux is, the kernel ends a child when we are gone, also after kill -9."""
    found = shutil.which("setpriv")
    return [found, "--pdeathsig", "KILL"] if found else []
