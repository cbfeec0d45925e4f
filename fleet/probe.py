"""Asks whether something answers: a port, or an HTTP route. Small on purpose: a client library costs start-up time."""

from __future__ import annotations

import asyncio
import contextlib


async def listens(host: str, port: int, *, timeout_s: float = 1.0) -> bool:
    """Whether a connection is taken."""
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(host, port), timeout_s)
    except (OSError, TimeoutError):
        return False
    await _close(writer)
    return True


async def answers(host: str, port: int, path: str, *, timeout_s: float = 2.0) -> bool:
    """Whether `GET path` gets a 200."""
    try:
        status, _ = await get(host, port, path, timeout_s=timeout_s)
    except (OSError, TimeoutError, ValueError):
        return False
    return status == 200


async def get(host: str, port: int, path: str, *, timeout_s: float = 2.0) -> tuple[int, str]:
    """(status, body). Raises OSError, TimeoutError, or ValueError when it is no HTTP."""
    async with asyncio.timeout(timeout_s):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\n\r\n".encode())
            raw = await reader.read()
        finally:
            await _close(writer)
    head, _, body = raw.decode("utf-8", "replace").partition("\r\n\r\n")
    return int(head.split(" ")[1]) if " " in head else _no_http(head), body


def _no_http(head: str) -> int:
    raise ValueError(f"no HTTP: {head[:80]!r}")


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
