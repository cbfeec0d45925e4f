"""Moments as people write and read them on the command line. Knows no command."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from fleet.exits import CommandError, Exit

_UNITS_S = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def moment_ms(text: str, *, now_ms: int) -> int:
    """`2h` (ago; s, m, h or d) or ISO 8601 (UTC where it names no zone). Raises CommandError(USAGE)."""
    if ago := re.fullmatch(r"(\d{1,6})([smhd])", text):
        return now_ms - int(ago[1]) * _UNITS_S[ago[2]] * 1_000
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        said = f"{text!r} is no moment: use 30m, 2h, 3d (ago) or 2026-01-31T12:00"
        raise CommandError(Exit.USAGE, said) from None
    return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1_000)


def moment(at_ms: int) -> str:
    """In UTC, to the second."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(sep=" ", timespec="seconds")
