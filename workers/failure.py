"""A step's failure as the journal keeps it, and as it is raised again: the same in every attempt. Knows no step."""

from __future__ import annotations

from schemas.codes import Code
from schemas.entries import StepError
from schemas.errors import RetryableError, TerminalError
from workers.answer import clean
from workers.builder import describe

Typed = (RetryableError, TerminalError)


def kept(error: RetryableError | TerminalError) -> StepError:
    """What the journal keeps."""
    retryable = isinstance(error, RetryableError)
    after_s = error.after_s if isinstance(error, RetryableError) else None
    return StepError(code=error.code, text=clean(str(error)), retryable=retryable, after_s=after_s)


def raised(held: StepError) -> RetryableError | TerminalError:
    """What a later attempt raises."""
    if held.retryable:
        return RetryableError(held.text, code=held.code, after_s=held.after_s)
    return TerminalError(held.code, held.text)


def typed(error: Exception, code: Code, what: str) -> RetryableError | TerminalError:
    """What somebody's code raised, as an error that can be raised again: a typed one as it is, any other one told by
    its type and the first line of what it says."""
    first = first_of(error)
    if isinstance(first, Typed):
        return first
    return TerminalError(code, clean(f"{what} raised {describe(first)}"))


def first_of(error: BaseException) -> BaseException:
    """Of a group (tasks that ran side by side) the first typed error, else the first one."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    leaves = [first_of(leaf) for leaf in error.exceptions]
    return next((leaf for leaf in leaves if isinstance(leaf, Typed)), leaves[0])
