"""The HTTP client for servers with an address: headers, and no answer without an end. Knows no message.

The SDK bounds an event of a stream, not a JSON body, and a packed body can unpack to anything: packed ones are not
asked for and not taken.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping

import httpx2


class _Bounded(httpx2.AsyncByteStream):
    def __init__(self, inner: httpx2.AsyncByteStream, most: int, refused: str) -> None:
        self._inner = inner
        self._most = most
        self._refused = refused

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._refused:
            raise httpx2.StreamError(self._refused)
        seen = 0
        async for chunk in self._inner:
            seen += len(chunk)
            if seen > self._most:
                raise httpx2.StreamError(f"the answer has more than {self._most} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()


class BoundedTransport(httpx2.AsyncBaseTransport):
    """Bounds every body that is no stream of events."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, most: int) -> None:
        self._inner = inner
        self._most = most

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._inner.handle_async_request(request)
        if response.headers.get("content-encoding", "identity") != "identity":
            refused = "the answer is packed, which was not asked for"
            del response.headers["content-encoding"]
        elif response.headers.get("content-type", "").startswith("text/event-stream"):
            return response
        else:
            refused = ""
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        response.stream = _Bounded(response.stream, self._most, refused)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


def client(headers: Mapping[str, str], *, open_timeout_s: float, most: int) -> httpx2.AsyncClient:
    """Reading has no time-out of its own: every call has one."""
    return httpx2.AsyncClient(
        headers={**headers, "Accept-Encoding": "identity"},
        timeout=httpx2.Timeout(open_timeout_s, read=None),
        transport=BoundedTransport(httpx2.AsyncHTTPTransport(), most),
    )
