"""`python -m tests.explorer`: every scope, on every core; a red one prints its trace and how to repeat it. Exit status:
0 nothing wrong, 1 something is."""

from __future__ import annotations

import argparse
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from tests.explorer.scopes import SHORT, WIDE
from tests.explorer.search import Report, events_of, explore, retold

SCOPES = {**SHORT, **WIDE}


def told(name: str, report: Report) -> str:
    """What was found in a scope, and the command that goes the same way again."""
    again = f'\n  again: python -m tests.explorer --scope "{name}" --moves "{report.moves}"' if report.verdict else ""
    return f"{name}: {report}{again}"


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.explorer", description=__doc__)
    parser.add_argument("--scope", choices=sorted(SCOPES), metavar="NAME", help="only this one")
    parser.add_argument("--moves", help="with --scope: go only this way, and tell it in words")
    parser.add_argument("--limit", type=int, default=600_000, help="states of a scope")
    asked = parser.parse_args()
    if asked.scope and asked.moves:
        report = retold(SCOPES[asked.scope], events_of(asked.moves))
        print(report)
        return 1 if report.verdict else 0
    return _many([asked.scope] if asked.scope else list(SCOPES), asked.limit)


def _many(names: list[str], limit: int) -> int:
    began_s, states, red, cut = time.monotonic(), 0, 0, 0
    with ProcessPoolExecutor(max_tasks_per_child=1) as pool:
        for name, report in zip(names, pool.map(explore, map(SCOPES.get, names), [limit] * len(names)), strict=True):
            states, red, cut = states + report.states, red + bool(report.verdict), cut + (not report.complete)
            print(told(name, report), flush=True)
    seconds = time.monotonic() - began_s
    print(f"{len(names)} scopes: {red} red, {cut - red} not to the end, {states:,} states, {seconds:.0f} s")
    return 1 if red else 0


if __name__ == "__main__":
    sys.exit(main())
