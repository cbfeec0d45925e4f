"""`fleet chat` with a pipe for a person."""

from __future__ import annotations

import asyncio
import os
import threading
import time

from fleet.chat import _from_pipe
from fleet.conversation import Conversation
from fleet.exits import Exit


def piped(ends: int) -> Exit:
    conversation = Conversation("http://127.0.0.1:1", session="s", user="u")
    with os.fdopen(ends, encoding="utf-8") as lines:
        return asyncio.run(_from_pipe(conversation, lines))


def test_a_pipe_of_blank_lines_and_no_text_ends() -> None:
    ends, begins = os.pipe()
    os.write(begins, b"\n  \n")
    os.close(begins)
    assert piped(ends) is Exit.OK


def test_who_waits_for_a_pipe_that_says_nothing_can_leave() -> None:
    ends, begins = os.pipe()
    speaks = threading.Timer(5.0, os.write, (begins, b"\n"))
    speaks.start()

    async def leave() -> None:
        conversation = Conversation("http://127.0.0.1:1", session="s", user="u")
        with os.fdopen(ends, encoding="utf-8") as lines:
            waits = asyncio.create_task(_from_pipe(conversation, lines))
            await asyncio.sleep(0.05)
            waits.cancel()
            await asyncio.wait({waits})

    began_s = time.monotonic()
    asyncio.run(leave())
    took_s = time.monotonic() - began_s
    speaks.cancel()
    os.close(begins)
    for thread in threading.enumerate():
        if thread.name == "stdin":
            thread.join()

    assert took_s < 2
