"""Processes that an earlier `fleet up` on the same data directory left behind. Linux: reads /proc; knows no parts.

Every part carries a mark in its environment, and so does whatever it starts. A mark cannot be confused by a process id
that was given out again.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

MARK = "TURNFLEET_DATA"


def marked(data: Path) -> Iterator[int]:
    """Process ids of living processes that were started for `data`, ours not among them."""
    wanted = f"{MARK}={data.resolve()}".encode()
    for folder in Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        if pid != os.getpid() and wanted in _environ(folder).split(b"\0") and not _zombie(folder):
            yield pid


def signal_all(pids: list[int], number: signal.Signals) -> None:
    """Send a signal to each that is still there."""
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue


def _environ(folder: Path) -> bytes:
    try:
        return (folder / "environ").read_bytes()
    except OSError:
        return b""


def _zombie(folder: Path) -> bool:
    try:
        return (folder / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (OSError, IndexError):
        return True
