"""Starts one command as a child that dies with its supervisor, even when that is killed with -9. Standard library only.

Run as a script, `child.py SUPERVISOR SIGNAL COMMAND…`: asks the kernel for SIGNAL when the supervisor dies, makes sure
that it has not died already, and becomes COMMAND. Knows nothing of what it starts.
"""

from __future__ import annotations

import os
import sys

PR_SET_PDEATHSIG = 1


def die_with(supervisor: int, number: int) -> None:
    """Ask for signal `number` at the death of our parent; leave at once if `supervisor` is no longer it."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != supervisor:
        sys.exit("fleet: the supervisor is gone")


def main(arguments: list[str]) -> None:
    """Becomes the command; never returns."""
    supervisor, number, *command = arguments
    die_with(int(supervisor), int(number))
    try:
        os.execvp(command[0], command)  # noqa: S606 - becoming it is the point
    except OSError as error:
        sys.exit(f"fleet: cannot run {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
