"""The typed errors of the house. Knows codes; nothing of transports."""

from __future__ import annotations

from schemas.codes import MEANINGS, Code


class Refusal(Exception):
    """Input that is not taken. `code` is read by machines, the text says what was seen and what to do."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text

    @property
    def retry(self) -> str:
        return MEANINGS[self.code].retry


class RetryableError(Exception):
    """A turn's work failed for a reason that passes. `after_s`: what the provider asked for, else None."""

    def __init__(self, text: str, *, code: Code = Code.MODEL_ERROR, after_s: float | None = None) -> None:
        super().__init__(text)
        self.code = code
        self.after_s = after_s


class TerminalError(Exception):
    """A turn's work failed and trying again will not help: the turn ends `failed` with this code."""

    def __init__(self, code: Code, text: str) -> None:
        super().__init__(text)
        self.code = code


class OutcomeUnknown(TerminalError):
    """Nobody can know whether the tool's effect happened: the attempt that called it ended before it was written down.
    The tool is not called again. `name`, `call`: which one; an agent may catch this and ask, look or tell its user."""

    def __init__(self, name: str, call: str) -> None:
        text = f"tool {name!r}, call {call}: whether it took effect is unknown; it was not called again"
        super().__init__(Code.OUTCOME_UNKNOWN, text)
        self.name = name
        self.call = call
