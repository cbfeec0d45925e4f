"""`fleet chat` as a process at a pseudo-terminal: keys in, the screen out."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class Terminal:
    """`fleet chat` at a pseudo-terminal."""

    def __init__(self, process: subprocess.Popen[bytes], handle: int) -> None:
        self.process = process
        self._handle = handle
        self.screen = ""

    def type(self, keys: str) -> None:
        os.write(self._handle, keys.encode())

    def until(self, pattern: str, timeout_s: float = 20.0) -> str:
        """Read on until the screen matches; what was on it up to there. What follows is for the next call."""
        deadline_s = time.monotonic() + timeout_s
        while (found := re.search(pattern, self.screen)) is None:
            left_s = deadline_s - time.monotonic()
            assert left_s > 0, f"{pattern!r} never came: {self.screen!r}"
            if select.select([self._handle], [], [], left_s)[0]:
                try:
                    self.screen += os.read(self._handle, 65_536).decode(errors="replace")
                except OSError:
                    break
        end = found.end() if found is not None else len(self.screen)
        seen, self.screen = self.screen[:end], self.screen[end:]
        return seen


@contextmanager
def chat_at_terminal(environ: Mapping[str, str], *arguments: str) -> Iterator[Terminal]:
    """The command with this environment; killed in the end."""
    main, side = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "fleet", "chat", *arguments],
        stdin=side,
        stdout=side,
        stderr=side,
        env={**environ, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"},
        start_new_session=True,
    )
    os.close(side)
    try:
        yield Terminal(process, main)
    finally:
        process.kill()
        process.wait(timeout=10)
        os.close(main)
