"""Lines of a server: whole whatever the chunks, thrown away where they are too long, in linear time."""

from __future__ import annotations

import asyncio

import pytest

from workers.mcp.lines import Lines, TooLong


class Chunks(asyncio.StreamReader):
    """A stream that comes in just these pieces."""

    def __init__(self, *chunks: bytes) -> None:
        super().__init__()
        self._chunks = list(chunks)

    async def read(self, n: int = -1) -> bytes:
        return self._chunks.pop(0) if self._chunks else b""


async def read(*chunks: bytes, line_bytes: int = 100) -> list[bytes | TooLong]:
    lines = Lines(Chunks(*chunks), line_bytes)
    found: list[bytes | TooLong] = []
    while (line := await lines.next()) is not None:
        found.append(line)
    return found


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
async def test_lines_are_whole_whatever_the_chunks(size: int) -> None:
    text = b"one\ntwo\n\nthree\nnot whole"
    assert await read(*(text[at : at + size] for at in range(0, len(text), size))) == [b"one", b"two", b"", b"three"]


async def test_a_line_that_is_too_long_is_thrown_away_and_the_next_is_whole() -> None:
    found = await read(b"a\n" + b"x" * 90, b"y" * 90, b"z\nb\nc", b"d\n")
    assert found == [b"a", TooLong(b"x" * 90 + b"y" * 90, ended=True), b"b", b"cd"]


async def test_one_within_a_chunk_is_as_well() -> None:
    long = b"x" * 300
    assert await read(long + b"\nb\n") == [TooLong(long[:256], ended=True), b"b"]


async def test_one_without_an_end_is_the_end() -> None:
    assert await read(b"x" * 101) == [TooLong(b"x" * 101, ended=False)]
    stream = Chunks(*[b"x" * 1_000] * 10_000)
    assert await Lines(stream, 1_000).next() == TooLong(b"x" * 256, ended=False)
    assert len(stream._chunks) > 9_900  # it was not read to its end


async def test_others_run_while_much_is_read() -> None:
    stream = asyncio.StreamReader()
    lines = Lines(stream, 10_000_000)
    rounds = 0

    async def other() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    stream.feed_data(b"x" * 1_000_000 + b"\n")
    assert len(await lines.next() or b"") == 1_000_000
    task.cancel()
    assert rounds >= 10
