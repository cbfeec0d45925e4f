"""Names that tools of the platform have: no other tool may be called so where they are offered. Knows no tool.

Refused when an agent is registered or the operator's file is read; a tool that a server lists later is left out, and
its list says why. Nobody's tool is shadowed without a word.
"""

from __future__ import annotations

from collections.abc import Iterable

from workers.agent import PROFILE_TOOLS, RegistrationError

ONE = frozenset({"write_todos", "task", "ls", "read", "write", "edit", "grep"})
PROFILE = PROFILE_TOOLS
TEAM = frozenset({"hand_over", "delegate"})
RESERVED = ONE | PROFILE | TEAM


def check_free(names: Iterable[str], reserved: frozenset[str], whose: str) -> None:
    """Raises RegistrationError for the first name that is taken."""
    taken = sorted(reserved.intersection(names))
    if taken:
        raise RegistrationError(f"{whose}: the platform has a tool {taken[0]!r} of its own; give yours another name")
