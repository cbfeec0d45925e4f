"""Cells of a table that is printed: what others wrote is text in it, neither markup nor a command to the terminal."""

from __future__ import annotations

from rich.text import Text

from fleet.asking import seen


def cells(*texts: str) -> tuple[Text, ...]:
    """One row."""
    return tuple(Text(seen(text)) for text in texts)
