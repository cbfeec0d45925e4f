"""`fleet chat`: a conversation at the terminal, or line by line from a pipe. Owns keys and what is printed."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TextIO

from fleet import addresses
from fleet.answer import Decided, Line, Piece, ending, printable
from fleet.asking import Asked, Read
from fleet.conversation import Conversation
from fleet.desk import Desk
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
    decisions: PromptSession[str] = PromptSession()  # what is typed here is no message, and not among those

    async def read(question: str, begun: str) -> str:
        # Ctrl-C is a key here; its handler for the signal would take the place of the turn's own.
        return await decisions.prompt_async(question, default=begun, handle_sigint=False)

    try:
        while True:
            try:
                text = (await prompt.prompt_async()).strip()
            except KeyboardInterrupt:
                continue
            except EOFError:
                break
            if text:
                await _turn(conversation, text, read)
    finally:
        await conversation.close()
    _note(f"it goes on with: fleet chat --session {conversation.session}")
    return Exit.OK


async def _from_pipe(conversation: Conversation, lines: TextIO) -> Exit:
    worst = Exit.OK
    pipe = _Pipe(lines)
    try:
        while line := await pipe.line():
            if line.strip() and not await _turn(conversation, line.strip()):
                worst = Exit.DIFFERENT
    finally:
        pipe.close()
        await conversation.close()
    return worst


class _Pipe:
    """Lines as they come, read in a thread that nobody waits for: a pipe may say nothing for ever, Ctrl-C ends us."""

    def __init__(self, lines: TextIO) -> None:
        self._lines = os.fdopen(os.dup(lines.fileno()), encoding=lines.encoding, errors="replace")
        self._taken: asyncio.Future[str] | None = None

    async def line(self) -> str:
        """The next one; empty: there is none."""
        loop = asyncio.get_running_loop()
        taken: asyncio.Future[str] = loop.create_future()
        self._taken = taken

        def take(line: str) -> None:
            if not taken.done():
                taken.set_result(line)
                self._taken = None

        def read() -> None:
            line = self._lines.readline()
            try:
                loop.call_soon_threadsafe(take, line)
            except RuntimeError:  # the loop has ended
                self._lines.close()

        threading.Thread(target=read, name="stdin", daemon=True).start()
        return await taken

    def close(self) -> None:
        """Unless the thread reads: it would be waited for."""
        if self._taken is None:
            self._lines.close()


async def _turn(conversation: Conversation, text: str, read: Read | None = None) -> bool:
    """One turn; whether it completed. Ctrl-C cancels it, a second one stops watching it; where a decision is asked
    for it denies."""
    show = asyncio.create_task(_show(conversation, text, read), name="answer")
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


async def _show(conversation: Conversation, text: str, read: Read | None) -> None:
    screen = _Screen()
    desk = Desk(conversation, read, screen.beside)
    try:
        async for sight in conversation.ask(text):
            match sight:
                case Piece():
                    screen.answer(sight)
                case Line():
                    screen.beside(sight.text)
                case Asked():
                    await desk.put(sight)
                case Decided():
                    await desk.clear()
                    screen.beside(sight.text)
    finally:
        await desk.clear()
    print(flush=True)


class _Screen:
    """The answer goes to the output, everything beside it to the error output: a pipe gets answers alone."""

    def __init__(self) -> None:
        self._shown = False
        self._within_line = False

    def answer(self, piece: Piece) -> None:
        if piece.anew and self._shown:
            print("\n[the answer starts again]", flush=True)
        text = printable(piece.text)
        print(text, end="", flush=True)
        self._shown = True
        self._within_line = not text.endswith("\n") if text else self._within_line

    def beside(self, text: str) -> None:
        terminal = sys.stderr.isatty()
        if self._within_line and terminal:
            print(flush=True)
            self._within_line = False
        text = printable(text)
        print(f"\x1b[2m{text}\x1b[0m" if terminal else text, file=sys.stderr, flush=True)


def _note(sentence: str) -> None:
    print(f"fleet: {sentence}", file=sys.stderr, flush=True)
