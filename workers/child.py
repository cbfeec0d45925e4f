"""The other end of `workers.children`: takes calls from its parent and answers them. Knows JSON and imports what a call
names; nothing else of ours.

Run as `python -m workers.child SOCKET PARENT MEMORY`. A message is its length in four bytes, then JSON. Dies with its
parent, however that ends.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import resource
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
MOST_BYTES = 4_194_304


def found(place: str) -> Any:
    """What `module:name` names. A registered agent's own function is its `work`."""
    module, _, name = place.partition(":")
    thing: Any = importlib.import_module(module)
    for part in name.split("."):
        thing = getattr(thing, part)
    return getattr(thing, "work", thing)


def main() -> None:
    """Answer call after call, until the parent is gone."""
    number, parent, memory = (int(word) for word in sys.argv[1:4])
    _die_with(parent)
    if memory:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    own = os.getpid()
    with socket.socket(fileno=number) as line, line.makefile("rwb") as messages:
        while len(head := messages.read(4)) == 4:
            call = json.loads(messages.read(int.from_bytes(head)))
            raw = _answer(call)
            if os.getpid() != own:
                os._exit(0)  # a fork that came back: the answer is its parent's to give
            messages.write(len(raw).to_bytes(4) + raw)
            messages.flush()


def _answer(call: dict[str, Any]) -> bytes:
    try:
        function: Callable[..., Any] = found(call["place"])
        raw = _dumped({"result": function(*call["arguments"]), "left": _left()})
    except BaseException as error:  # noqa: BLE001 - SystemExit too: whatever it is ends the call, not this process
        return _dumped({"error": _described(error), "left": True})
    if len(raw) > MOST_BYTES:
        text = f"its result has {len(raw)} bytes of JSON, at most {MOST_BYTES} are taken"
        return _dumped({"error": {"code": "too_large", "text": text, "typed": True}, "left": True})
    return raw


def _dumped(value: object) -> bytes:
    return json.dumps(value, allow_nan=False).encode()


def _described(error: BaseException) -> dict[str, Any]:
    """The typed errors keep their code; of others the type and the first line go to people, the stack to the log."""
    errors = sys.modules.get("schemas.errors")
    first = next(iter(str(error).splitlines()), "")[:300]
    if errors is not None and isinstance(error, errors.TerminalError | errors.RetryableError):
        retry = isinstance(error, errors.RetryableError)
        after_s = getattr(error, "after_s", None)
        return {"code": error.code.value, "text": first, "typed": True, "retry": retry, "after_s": after_s}
    name = type(error).__name__
    return {"text": f"{name}: {first}" if first else name, "stack": traceback.format_exc()[-8_000:]}


def _left() -> bool:
    """Whether the call left a thread or a process behind: then this process takes no other call."""
    if threading.active_count() > 1:
        return True
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return False
    return True


def _die_with(parent: int) -> None:
    if sys.platform == "linux":
        prctl = ctypes.CDLL(None, use_errno=True).prctl
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # what a call forked and orphaned is still seen by `_left`
    if os.getppid() != parent:
        os._exit(0)


if __name__ == "__main__":
    main()
