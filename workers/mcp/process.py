"""One server's process: started, spoken to over pipes, ended with all that it started. Knows no protocol.

It leads a process group of its own; both die with the worker, the group by the undertaker. Spawn from the main thread:
the kernel's signal comes when the thread that spawned it ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from asyncio.streams import FlowControlMixin
from collections.abc import Mapping, Sequence
from pathlib import Path

from workers.mcp.undertaker import Undertaker

LAUNCHER = str(Path(__file__).with_name("launcher.py"))
_GRACE_S = 1.0  # after its input is closed, and again after SIGTERM
_TAIL_BYTES = 2_048
_CHUNK = 65_536


class ServerProcess:
    """`output`: what it prints, `errors`: the end of what it says on standard error, for whoever asks why it ended."""

    def __init__(self, process: subprocess.Popen[bytes], undertaker: Undertaker) -> None:
        self._process = process
        self._undertaker = undertaker
        undertaker.watch(process.pid)
        self._loop = asyncio.get_running_loop()
        self._gone: asyncio.Future[None] = self._loop.create_future()
        self._transports: list[asyncio.BaseTransport] = []
        self._tail = bytearray()
        self._watched = os.pidfd_open(process.pid)
        self._loop.add_reader(self._watched, self._ended)
        self.output = asyncio.StreamReader(_CHUNK, loop=self._loop)
        self.input: asyncio.StreamWriter

    @classmethod
    async def start(
        cls, command: Sequence[str], *, env: Mapping[str, str], cwd: Path, undertaker: Undertaker
    ) -> ServerProcess:
        """Raises OSError where it cannot be started; a command that is not there ends at once, and `errors` says so."""
        process = subprocess.Popen(  # noqa: ASYNC220 - it returns when the process is there, about 1 ms
            [sys.executable, "-I", "-S", LAUNCHER, str(os.getpid()), *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(env),
            cwd=cwd,
            start_new_session=True,
        )
        made = cls(process, undertaker)
        try:
            await made._connect()
        except BaseException:
            made.kill()
            raise
        return made

    async def _connect(self) -> None:
        loop, process = self._loop, self._process
        reading, _ = await loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(self.output, loop=loop), process.stdout
        )
        listening, _ = await loop.connect_read_pipe(lambda: _Tail(self._tail), process.stderr)
        writing, protocol = await loop.connect_write_pipe(lambda: FlowControlMixin(loop), process.stdin)
        self._transports += [reading, listening, writing]
        self.input = asyncio.StreamWriter(writing, protocol, None, loop)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def errors(self) -> str:
        """The last line that it said on standard error."""
        return self._tail.decode(errors="replace").strip().rpartition("\n")[2][-300:]

    async def gone(self) -> None:
        """Once it has ended."""
        await asyncio.shield(self._gone)

    async def end(self, *, now: bool = False) -> None:
        """As the protocol wants it: its input is closed, then SIGTERM, then SIGKILL; the group goes in any case."""
        try:
            if not now and not self._gone.done():
                self.input.close()
                if not await self.within(_GRACE_S):
                    self._signal(signal.SIGTERM)
                    await self.within(_GRACE_S)
        finally:
            self.kill()
        await self.gone()

    def kill(self) -> None:
        """It, and what it started, now."""
        if not self._gone.done():
            self._signal(signal.SIGKILL)
        for transport in self._transports:
            transport.close()

    async def within(self, seconds: float) -> bool:
        """Whether it ends in this time."""
        done, _ = await asyncio.wait((self._gone,), timeout=seconds)
        return bool(done)

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _ended(self) -> None:
        """It is dead but not reaped: its number is still its own, so the group that it led is as well."""
        self._loop.remove_reader(self._watched)
        os.close(self._watched)
        self._signal(signal.SIGKILL)
        self._process.poll()
        self._undertaker.forget(self._process.pid)
        if not self._gone.done():
            self._gone.set_result(None)


class _Tail(asyncio.Protocol):
    """Keeps the end of what comes."""

    def __init__(self, tail: bytearray) -> None:
        self._tail = tail

    def data_received(self, data: bytes) -> None:
        self._tail += data[-_TAIL_BYTES:]
        del self._tail[:-_TAIL_BYTES]
