"""What functions do in processes of their own, the good and the bad. They are imported there by name."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from schemas.codes import Code
from schemas.errors import RetryableError, TerminalError
from workers.agent import AgentTurn, Reply, agent
from workers.apart import Given


def add(*numbers: int) -> int:
    return sum(numbers)


def whoami() -> int:
    return os.getpid()


def nothing() -> None:
    return


def raises() -> None:
    raise ValueError("bad\nsecret second line")


def raises_typed() -> None:
    raise TerminalError(Code.QUOTA, "used up")


def raises_for_now() -> None:
    raise RetryableError("busy", code=Code.MODEL_RATE_LIMITED, after_s=3.0)


def exits() -> None:
    sys.exit(3)


def exits_at_once() -> None:
    os._exit(9)


def crashes() -> None:
    ctypes.string_at(0)


def is_killed() -> None:
    os.kill(os.getpid(), 9)


def interrupts() -> None:
    raise KeyboardInterrupt


def eats_memory(bytes_: int) -> int:
    return len(bytearray(bytes_))


def is_no_json() -> object:
    return {1, 2}


def says_nan() -> float:
    return float("nan")


def says_much(bytes_: int) -> str:
    return "x" * bytes_


def prints() -> str:
    print("on standard output")  # would break a line that is shared with answers
    return "said"


def forks() -> str:
    """Both processes come back from here, the fork first."""
    if os.fork() == 0:
        return "the fork"
    time.sleep(0.2)
    return "the call"


def forks_and_crashes() -> None:
    """The fork keeps the line open."""
    if os.fork() == 0:
        time.sleep(3_600)
    os._exit(7)


def leaves_a_process() -> int:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"]).pid


def leaves_a_thread() -> int:
    threading.Thread(target=time.sleep, args=(3_600,), daemon=True).start()
    return os.getpid()


def hangs(note: str) -> None:
    """Tells where, then hangs, with a process of its own beside it."""
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"])
    Path(note + ".new").write_text(f"{os.getpid()} {other.pid}")
    Path(note + ".new").rename(note)
    time.sleep(3_600)


async def is_asynchronous() -> None:
    return


@agent(name="apart", version="1", process=True, uses_model=False)
def apart(turn: AgentTurn, given: Given) -> Reply | str | None:
    """A deed for each text, else what it was given."""
    if turn.text == "history":
        return ", ".join(f"{item.role}: {item.text}" for item in given.history)
    if turn.text == "data":
        return Reply("with data", {"session": given.info.session, "left": given.remaining_s > 1}, "length")
    if turn.text == "number":
        return 7  # type: ignore[return-value]
    if turn.text == "nothing":
        return None
    deed = globals().get(turn.text)
    if deed is not None:
        deed(*turn.metadata.get("with", ()))  # type: ignore[misc]
    return f"apart: {turn.text} {len(turn.parts)} {turn.tools}"
