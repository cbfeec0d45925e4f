"""What compiling a prompt costs, and how much of it a cache could hold: `python -m tests.support.prompt_bench`.

Prints, for 200 turns of history, the time of one `compile_prompt` (median, 99th of 100) and of measuring what is there,
as `prompted` does before it; then the share of all requests' bytes that was in the request before, from turn 3 on.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from schemas.history import HistoryItem, ToolCall
from schemas.parts import TextPart
from schemas.profile import Pinned
from tests.support.stage import past
from workers.agent import user
from workers.models.openai_messages import body_of
from workers.models.port import ModelRequest
from workers.prompt import tokens
from workers.prompt.compile import Sources, compile_prompt

TURNS, RUNS = 200, 300
PLAIN = past(*("word " * 80 for _ in range(2 * TURNS)))


def with_tools() -> list[HistoryItem]:
    """Each turn with a call and its result."""
    items: list[HistoryItem] = []
    for n in range(TURNS):
        call = ToolCall(call=f"c{n}", name="look", arguments={"n": n, "path": "a/b/c"})
        items += past("q" * 200, "a" * 300)[:1]
        items.append(HistoryItem(id=f"t{n}~1", turn=f"t{n}", role="assistant", parts=(), at_ms=1, calls=(call,)))
        parts = (TextPart(text="r" * 800),)
        items.append(HistoryItem(id=f"t{n}~2", turn=f"t{n}", role="tool", parts=parts, at_ms=1, call=call.call))
        items += past("q" * 200, "a" * 300)[1:]
    return [item.model_copy(update={"turn": f"t{n // 4}"}) for n, item in enumerate(items)]


def of(history: list[HistoryItem], now: HistoryItem) -> Sources:
    """A prompt with everything in it."""
    profile = Pinned(version=1, summary="likes tea. " * 100, facts=1)
    return Sources("You are brief. " * 130, history, (now,), profile=profile, tail=(user("[It is noon.]"),))


def timed(work: Callable[[], object]) -> str:
    """Median and 99th of 100, in microseconds."""
    taken = []
    for _ in range(RUNS):
        began_ns = time.perf_counter_ns()
        work()
        taken.append((time.perf_counter_ns() - began_ns) / 1_000)
    return f"p50 {statistics.median(taken):.0f} us, p99 {statistics.quantiles(taken, n=100)[98]:.0f} us"


def share() -> float:
    """The share of all requests that was in the one before, from turn 3 on."""
    before, held, sent = b"", 0, 0
    for turn in range(1, TURNS + 1):
        said = PLAIN[: 2 * turn]
        prompt = compile_prompt(of(said[:-2], said[-2]))
        messages = (*prompt.messages, *prompt.tail)
        raw = body_of(ModelRequest("s", "t", messages, system=prompt.system), "m", with_usage=False)
        if turn >= 3:
            held += next((n for n, (one, two) in enumerate(zip(raw, before, strict=False)) if one != two), len(before))
            sent += len(raw)
        before = raw
    return held / sent


def main() -> None:
    """Print."""
    for name, history in (("text alone", PLAIN), ("a tool call each", with_tools())):
        sources = of(history, user("now"))
        print(f"{TURNS} turns, {name}, {len(history)} messages:")
        print(f"  compile: {timed(lambda of=sources: compile_prompt(of))}")  # type: ignore[misc]
        print(f"  measure: {timed(lambda of=history: tokens.of_items(of))}")  # type: ignore[misc]
    print(f"of all requests from turn 3 on, in the one before: {share():.1%}")


if __name__ == "__main__":
    main()
