"""`fleet up` as a person starts it: a process, its data directory, the line it prints, its end. No code of ours runs in
the test's own process but the reading of `up.json`."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MARK = "TURNFLEET_DATA"
READY = "Turnfleet is ready: "


def bare_environment(**settings: str) -> dict[str, str]:
    """Ours without any FLEET_ variable but these (given without the prefix, in small letters)."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FLEET_")}
    return {**kept, **{f"FLEET_{name.upper()}": value for name, value in settings.items()}}


@dataclass
class FleetUp:
    """One `fleet up` on `data`. `settings`: FLEET_ variables, without the prefix, in small letters; `agents`: what it
    loads from `folder`, where it is started."""

    data: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    workers: int = 2
    agents: tuple[str, ...] = ()
    folder: Path | None = None
    process: subprocess.Popen[str] | None = None
    address: str = ""
    started_in_s: float = 0.0

    def start(self, timeout_s: float = 90.0) -> FleetUp:
        """Start it and wait for its line."""
        self.launch()
        assert self.process is not None
        assert self.process.stdout is not None
        timer = threading.Timer(timeout_s, self.process.kill)
        timer.start()
        began_s = time.monotonic()
        try:
            line = self.process.stdout.readline()
        finally:
            timer.cancel()
        self.started_in_s = time.monotonic() - began_s
        if not line.startswith(READY):
            self.process.wait(timeout=60)
            raise AssertionError(f"fleet up did not start:\n{self.said()}")
        self.address = line.removeprefix(READY).split(" ")[0].rstrip("/")
        return self

    def launch(self) -> None:
        """Start it without waiting."""
        command = [sys.executable, "-m", "fleet", "up", "--data", str(self.data), "--workers", str(self.workers)]
        command += [part for place in self.agents for part in ("--agents", place)]
        with self.said_file.open("a") as said:
            self.process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=said,
                stdin=subprocess.DEVNULL,
                text=True,
                env=self.environment,
                cwd=self.folder,
            )

    @property
    def environment(self) -> dict[str, str]:
        return bare_environment(**{"gateway_port": "0", **self.settings})

    @property
    def running(self) -> dict[str, Any]:
        """`up.json`."""
        found: dict[str, Any] = json.loads((self.data / "up.json").read_text())
        return found

    def pid(self, name: str) -> int:
        """The process id of a part now."""
        return int(next(part["pid"] for part in self.running["parts"] if part["name"] == name))

    def interrupt(self, *, timeout_s: float = 60.0) -> int:
        """Ctrl-C; the exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=timeout_s)

    def kill(self) -> None:
        """kill -9 of the supervisor alone."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(timeout=10)

    def end(self) -> None:
        """End the supervisor, whatever state it is in, and let go of it. What it left behind is for `sweep`."""
        if self.process is None:
            return
        try:
            self.process.terminate()
            self.process.wait(timeout=40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(timeout=10)
        finally:
            assert self.process.stdout is not None
            self.process.stdout.close()

    def sweep(self, timeout_s: float = 10.0) -> None:
        """kill -9 of whatever still runs for our data directory; another supervisor on it too, so `end` all first."""
        deadline_s = time.monotonic() + timeout_s
        while pids := self.alive():
            assert time.monotonic() < deadline_s, f"killed, and still there: {pids}"
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):  # it may end between our look and our signal
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.02)

    def alive(self) -> list[int]:
        """Processes that were started for our data directory, by their environment or their command line."""
        return processes_of(self.data)

    @property
    def said_file(self) -> Path:
        self.data.parent.mkdir(parents=True, exist_ok=True)
        return self.data.with_suffix(".stderr")

    def said(self) -> str:
        """What it told people."""
        return self.said_file.read_text()

    def command(self, *arguments: str, timeout_s: float = 60.0, given: str = "") -> subprocess.CompletedProcess[str]:
        """Another `fleet` command as in a second terminal."""
        return subprocess.run(
            [sys.executable, "-m", "fleet", *arguments],
            input=given,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=bare_environment(data=str(self.data)),
        )

    def extra_worker(self, log: Path) -> subprocess.Popen[bytes]:
        """One more `python -m workers` on the same stack, not kept by `fleet up`."""
        running = self.running
        addresses = {
            "kafka_bootstrap": running["kafka_bootstrap"],
            "mongo_uri": running["mongo_uri"],
            "model_url": running["model_url"],
        }
        environ = {**bare_environment(**{**self.settings, **addresses}), MARK: str(self.data.resolve())}
        with log.open("ab") as out:
            return subprocess.Popen([sys.executable, "-m", "workers"], stdout=out, stderr=out, env=environ)


def processes_of(data: Path) -> list[int]:
    """Living processes whose environment or command line names `data`, found in /proc."""
    wanted = str(data.resolve()).encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
            words = (folder / "environ").read_bytes().split(b"\0")
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        marked = MARK.encode() + b"=" + wanted in words
        if int(folder.name) != os.getpid() and state != "Z" and (marked or wanted in command):
            found.append(int(folder.name))
    return found
