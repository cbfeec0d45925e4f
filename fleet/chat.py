"""`fleet chat`: a conversation at the terminal, or line by line from a pipe. Owns keys and what is printed."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import TextIO

from fleet import addresses
from fleet.answer import ending, printable
from fleet.conversation import Conversation
from fleet.exits import CommandError, Exit
from schemas.ids import legal, mint


def chat(data: Path | None, *, session: str | None, agent: str | None, user: str) -> Exit:
    """Until the input ends. 1: a turn of a piped conversation did not complete."""
    if session is not None and not legal(session):
        raise CommandError(Exit.USAGE, "a session id has 1 to 128 characters out of A-Z a-z 0-9 . _ : -")
    conversation = Conversation(
        addresses.gateway(data), session=session or f"chat-{mint()[:10]}", user=user, agent=agent, note=_note
    )
    person = sys.stdin.isatty()
    return asyncio.run(_at_terminal(conversation) if person else _from_pipe(conversation, sys.stdin))


async def _at_terminal(conversation: Conversation) -> Exit:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import InMemoryHistory

    await conversation.open()
    _note(f"session {conversation.session} · Ctrl-C cancels the running turn · Ctrl-D leaves")
    prompt: PromptSession[str] = PromptSession("you> ", history=InMemoryHistory())
    try:
        while True:
            try:
                text = (await prompt.prompt_async()).strip()
            except KeyboardInterrupt:
                continue
            except EOFError:
                break
            if text:
                await _turn(conversation, text)
    finally:
        await conversation.close()
    _note(f"it goes on with: fleet chat --session {conversation.session}")
    return Exit.OK


async def _from_pipe(conversation: Conversation, lines: TextIO) -> Exit:
    worst = Exit.OK
    try:
        while line := await asyncio.to_thread(lines.readline):
            if line.strip() and not await _turn(conversation, line.strip()):
                worst = Exit.DIFFERENT
    finally:
        await conversation.close()
    return worst


async def _turn(conversation: Conversation, text: str) -> bool:
    """One turn; whether it completed. Ctrl-C cancels it, a second one stops watching it."""
    show = asyncio.create_task(_show(conversation, text), name="answer")
    loop = asyncio.get_running_loop()
    cancels: set[asyncio.Task[None]] = set()

    def interrupted() -> None:
        if cancels:
            show.cancel()
        else:
            cancels.add(asyncio.create_task(conversation.cancel(), name="cancel"))

    loop.add_signal_handler(signal.SIGINT, interrupted)
    try:
        await asyncio.wait({show})
        if show.cancelled():
            await conversation.close()
            print()
            _note("the turn goes on without you")
            return False
        show.result()
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        await asyncio.gather(*cancels, return_exceptions=True)
    end = conversation.end or {"type": "none"}
    if said := ending(end):
        _note(said)
    return bool(end["type"] == "completed")


async def _show(conversation: Conversation, text: str) -> None:
    shown = False
    async for piece in conversation.ask(text):
        if piece.anew and shown:
            print("\n[the answer starts again]", flush=True)
        print(printable(piece.text), end="", flush=True)
        shown = True
    print(flush=True)


def _note(sentence: str) -> None:
    print(f"fleet: {sentence}", file=sys.stderr, flush=True)
