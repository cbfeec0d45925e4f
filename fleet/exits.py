"""What an exit code of `fleet` means. docs/cli.md has the same table; programs rely on it."""

from __future__ import annotations

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of every command."""

    OK = 0
    DIFFERENT = 1  # a difference was found, a turn failed, was cancelled or refused, an object is not there
    USAGE = 2  # the command line or a setting cannot be used
    UNREACHABLE = 3  # broker, store or gateway do not answer, or no answer came in time
    NOT_STARTED = 4  # a part of `fleet up` could not start, or its data directory is in use
    INTERRUPTED = 130  # a second Ctrl-C: stopped without draining


class CommandError(Exception):
    """A command ends here: one sentence for people and the code for programs."""

    def __init__(self, code: Exit, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text
