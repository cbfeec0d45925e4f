"""A piece of the agent's own work as a step: answered from the journal, or done and durable, also where it failed.

Order of effects: (1) the work is done, (2) the step with its result, or with what it raised, is durable, (3) the agent
gets it. A failure that the agent goes on from is the same in every attempt.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from pydantic import JsonValue

from schemas.codes import Code
from workers import failure
from workers.canonical import MAX_RESULT_BYTES, digest_of, plain
from workers.steps import Steps

_KIND = "step"


async def work_step(
    progress: Steps,
    name: str,
    args: Sequence[JsonValue],
    work: Callable[[], Awaitable[Any]],
    *,
    keeps_failure: bool = True,
) -> Any:
    """What `work` returned, as JSON. Raises what it raised, if it is typed, else TerminalError(agent_error); TurnLost.

    `keeps_failure` False: what it raises is raised as it is, and the work is done again in the next attempt.
    """
    digest = digest_of(list(args), f"step {name!r}: its arguments")
    number, held = progress.take(_KIND, name, digest)
    if held is not None:
        progress.replayed(number)
        if held.error is not None:
            raise failure.raised(held.error)
        return held.result
    what = f"step {name!r}: its result"
    try:
        result = progress.whole.fitting(plain(await work(), what, MAX_RESULT_BYTES), what)
    except Exception as error:
        if not keeps_failure:
            raise
        told = failure.typed(error, Code.AGENT_ERROR, f"step {name!r}")
        kept = progress.entry(number, _KIND, name, digest, result=None, error=failure.kept(told))
        await progress.append(kept)
        if told is error:
            raise
        raise told from error
    await progress.append(progress.entry(number, _KIND, name, digest, result=result))
    return result
