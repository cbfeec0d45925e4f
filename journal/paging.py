"""Opaque tokens for the next page of a list. Knows nothing of what is listed."""

from __future__ import annotations

import base64
import binascii


def token_of(last_ms: int, s: str) -> str:
    """The token that stands for the place after (`last_ms`, `s`)."""
    return base64.urlsafe_b64encode(f"{last_ms}:{s}".encode()).decode().rstrip("=")


def where_of(token: str) -> tuple[int, str]:
    """(`last_ms`, `s`) of a token. ValueError where it is none of ours."""
    try:
        text = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)).decode()
        last_ms, found, s = text.partition(":")
        moment_ms = int(last_ms)
    except (binascii.Error, UnicodeError, ValueError):
        raise ValueError("`after` is not a token of this list: use `next` of the page before") from None
    if not found or not 0 <= moment_ms < 1 << 62:
        raise ValueError("`after` is not a token of this list: use `next` of the page before")
    return moment_ms, s
