"""Becomes a server's command, as a process that dies with its worker, even when that is killed with -9.

Run as `launcher.py WORKER COMMAND…`. Standard library only; knows nothing of what it becomes. `fleet.child` does the
same for the parts of `fleet up`; workers know nothing of that layer.
"""

from __future__ import annotations

import os
import sys

PR_SET_PDEATHSIG, SIGKILL = 1, 9


def main(arguments: list[str]) -> None:
    """Never returns."""
    worker, *command = arguments
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0)
    if os.getppid() != int(worker):
        os._exit(0)
    try:
        os.execvp(command[0], command)  # noqa: S606 - becoming it is the point
    except OSError as error:
        sys.exit(f"cannot run {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
