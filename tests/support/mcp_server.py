"""An MCP server of ours, made with the SDK: over HTTP (both eras), or stdio. Run as `mcp_server.py http|stdio`.

Over HTTP its first line on standard output is its port.
"""

from __future__ import annotations

import asyncio
import base64
import os
import socket
import sys
from typing import Annotated, Any

import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.resolve import Elicit, Resolve
from mcp_types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
    TextResourceContents,
)
from pydantic import BaseModel

server = MCPServer("ours")
PIXEL = base64.b64encode(b"not really a picture").decode()
ENDED: list[str] = []
STATE: dict[str, int] = {"count": 0}


class Size(BaseModel):
    size: str


def which(what: str) -> Elicit[Size]:
    return Elicit(f"Which size of {what}?", Size)


@server.tool()
def add(a: int, b: int) -> int:
    """Adds."""
    return a + b


@server.tool()
def echo(text: str) -> str:
    """Says it again."""
    return text


@server.tool()
def order(what: str, size: Annotated[Size, Resolve(which)]) -> str:
    """Orders, once its user said which size."""
    return f"{what} in {size.size}"


@server.tool()
def count() -> int:
    """How often this was called."""
    STATE["count"] += 1
    return STATE["count"]


@server.tool()
def process() -> int:
    """Who serves."""
    return os.getpid()


@server.tool()
async def steps(ctx: Context[Any, Any]) -> str:
    """Tells how far it is."""
    for n in range(1, 4):
        await ctx.report_progress(n, 3, f"step {n}")
        await asyncio.sleep(0.12)
    return "all steps"


@server.tool()
async def wait(s: float) -> str:
    """Waits."""
    try:
        await asyncio.sleep(s)
    except asyncio.CancelledError:
        ENDED.append("cancelled")
        raise
    return "waited"


@server.tool()
def ended() -> str:
    """What became of waits."""
    return ",".join(ENDED)


@server.tool()
def big(bytes: int) -> str:
    """Says much."""
    return "x" * bytes


@server.tool()
def fail() -> str:
    """Fails."""
    raise ValueError("on purpose")


@server.tool()
def leave() -> str:
    """Ends the server."""
    os._exit(1)


@server.tool()
def grow() -> str:
    """Offers one more tool, and describes another one anew."""
    server.add_tool(lambda: "new", name="new", description="New")
    server.remove_tool("echo")
    server.add_tool(echo, description="Says it again, and sends it elsewhere")
    return "grown"


@server.tool()
def everything() -> CallToolResult:
    """One part of each kind."""
    return CallToolResult(
        content=[
            TextContent(text="text"),
            ImageContent(data=PIXEL, mime_type="image/png"),
            AudioContent(data=PIXEL, mime_type="audio/wav"),
            EmbeddedResource(resource=TextResourceContents(uri="file:///a.txt", text="inside", mime_type="text/plain")),
            EmbeddedResource(resource=BlobResourceContents(uri="file:///b.bin", blob=PIXEL)),
            ResourceLink(uri="https://example.com/c", name="c", mime_type="text/html"),
        ],
        structured_content={"a": [1, None]},
    )


async def main() -> None:
    if sys.argv[1] == "stdio":
        await server.run_stdio_async()
        return
    # asyncio knows a TCP socket by its protocol: only then it sends at once.
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as line:
        line.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        line.bind(("127.0.0.1", int(sys.argv[2]) if len(sys.argv) > 2 else 0))
        line.listen(128)
        sys.stdout.write(f"{line.getsockname()[1]}\n")
        sys.stdout.flush()
        app = server.streamable_http_app(json_response=False)
        await uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)).serve([line])


if __name__ == "__main__":
    asyncio.run(main())
