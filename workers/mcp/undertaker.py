"""Ends what servers started when their worker is killed with -9: one small process that waits for exactly that.

A server dies with its worker by itself (see `launcher`), what it started does not: `npx` and `uvx` start the real
server as a child. The process reads `+GROUP` and `-GROUP` from the worker and, when that is gone, kills the groups that
are left. Run as a script it is that process: standard library only.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys


class Undertaker:
    """Knows the process groups that live. Starts its process with the first one."""

    def __init__(self) -> None:
        self._groups: set[int] = set()
        self._process: subprocess.Popen[bytes] | None = None

    def watch(self, group: int) -> None:
        """It lives."""
        self._groups.add(group)
        if self._process is not None and self._process.poll() is None:
            self._tell(f"+{group}\n")
        else:
            self.close()
            self._process = self._started()
            self._tell("".join(f"+{each}\n" for each in self._groups))

    def forget(self, group: int) -> None:
        """It is gone, or is seen to by somebody else."""
        self._groups.discard(group)
        self._tell(f"-{group}\n")

    def close(self) -> None:
        """Ends the process, and with it what is still watched."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            self._process.wait()
            self._process = None

    def _tell(self, line: str) -> None:
        if self._process is None or self._process.stdin is None:
            return
        try:
            self._process.stdin.write(line.encode())
        except BrokenPipeError:
            pass  # somebody ended it: the next group starts another one

    def _started(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env={},
            bufsize=0,
            start_new_session=True,
        )


def main() -> None:
    """Until the worker is gone."""
    groups: set[int] = set()
    for line in sys.stdin.buffer:
        group = int(line[1:])
        (groups.add if line.startswith(b"+") else groups.discard)(group)
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


if __name__ == "__main__":
    main()
