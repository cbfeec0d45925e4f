"""Opens a connection to a server as its configuration says, and closes it. Decides nothing about when."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

from mcp.client.streamable_http import streamable_http_client

from workers.mcp.config import ServerConfig
from workers.mcp.environment import environment
from workers.mcp.http import client
from workers.mcp.process import ServerProcess
from workers.mcp.stdio import MessagesIn, MessagesOut
from workers.mcp.undertaker import Undertaker
from workers.mcp.wire import Wire
from workers.tools.exchange import Answer, Question

_LAST_WORDS_S = 0.2  # what it said on standard error may come after its output ended


class Ears(NamedTuple):
    """What a connection tells while it is open: an elicitation, changed tools, its end."""

    ask: Callable[[Question], Awaitable[Answer]]
    changed: Callable[[], None]
    lost: Callable[[str], None]


Opener = Callable[[Ears], AbstractAsyncContextManager[Wire]]


def opener(name: str, config: ServerConfig, environ: Mapping[str, str], undertaker: Undertaker) -> Opener:
    """How server `name` is opened."""

    def opened(ears: Ears) -> AbstractAsyncContextManager[Wire]:
        if config.transport == "http":
            return _over_http(config, environ, ears)
        return _over_stdio(name, config, environ, undertaker, ears)

    return opened


@asynccontextmanager
async def _over_http(config: ServerConfig, environ: Mapping[str, str], ears: Ears) -> AsyncIterator[Wire]:
    headers = {name: environ[variable] for name, variable in config.headers.items() if variable in environ}
    async with (
        client(headers, open_timeout_s=config.open_timeout_s, most=config.line_bytes) as http,
        streamable_http_client(str(config.url), http_client=http, max_sse_event_size=config.line_bytes) as (
            read,
            write,
        ),
        Wire(read, write, ask=ears.ask, changed=ears.changed) as wire,
    ):
        await wire.negotiate(config.era)
        yield wire


@asynccontextmanager
async def _over_stdio(
    name: str, config: ServerConfig, environ: Mapping[str, str], undertaker: Undertaker, ears: Ears
) -> AsyncIterator[Wire]:
    home = Path(tempfile.mkdtemp(prefix="turnfleet-mcp-"))
    try:
        env = environment(config, home, environ)
        command = (str(config.command), *config.args)
        process = await ServerProcess.start(command, env=env, cwd=config.cwd or home, undertaker=undertaker)
        out = None
        try:
            out = MessagesOut(process, name=name, line_bytes=config.line_bytes, lost=ears.lost)
            async with Wire(out, MessagesIn(process), ask=ears.ask, changed=ears.changed) as wire:
                try:
                    await wire.negotiate(config.era)
                except Exception as error:
                    await process.within(_LAST_WORDS_S)
                    said = process.errors
                    raise RuntimeError(f"{error}{f'; it said: {said}' if said else ''}") from error
                yield wire
        finally:
            await process.end(now=out is None or out.over)
    finally:
        await asyncio.to_thread(shutil.rmtree, home, ignore_errors=True)
