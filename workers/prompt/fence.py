"""Data in a prompt, behind a fence that nothing inside can end. Knows nothing of where the data comes from.

The fence bears a digest of what is inside, and no angle bracket is left inside: it can be neither closed nor copied.
The same data gets the same fence, so that a provider's cache holds.
"""

from __future__ import annotations

import hashlib
import re

from schemas.history import HistoryItem
from workers.agent import user as as_user

_BRACKETS = str.maketrans(dict.fromkeys("<＜﹤〈⟨", "‹") | dict.fromkeys(">＞﹥〉⟩", "›"))
# Control characters but tab and newline, what turns the direction of text, and what no reader sees: spaces of no width,
# tags and selectors, in which whole sentences can be hidden. What emoji and some scripts are joined by stays.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff"
    "\U000e0000-\U000e01ef]"
)


def fenced(name: str, note: str, text: str) -> HistoryItem:
    """A message that says `note`, then `text` between marks that are called `name`."""
    text = harmless(text)
    mark = f"{name} {hashlib.sha256(text.encode(errors='replace')).hexdigest()[:16]}"
    return as_user(f"[{note}]\n<{mark}>\n{text}\n</{mark}>")


def harmless(text: str) -> str:
    """`text` without anything that could pass for a fence, or that its reader would not see."""
    return _UNSEEN.sub("", text.translate(_BRACKETS))
