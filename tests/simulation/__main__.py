"""`python -m tests.simulation`: seeds one after the other, on every core; a red one prints its trace and how to repeat
it. Exit status: 0 all green, 1 some red."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed

from tests.simulation.run import Outcome, run

RED_SHOWN = 5


def told(outcome: Outcome) -> str:
    """A red seed: what broke, its trace, the command that repeats it."""
    repeat = f"python -m tests.simulation --seed {outcome.seed} --turns {outcome.turns}"
    return "\n".join([f"seed {outcome.seed}: {'; '.join(outcome.broken[:3])}", *outcome.trace, f"again: {repeat}"])


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, help="only this one, with its trace")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=10_000)
    parser.add_argument("--turns", type=int, default=200)
    asked = parser.parse_args()
    if asked.seed is not None:
        outcome = run(asked.seed, asked.turns)
        print(told(outcome) if outcome.broken else f"green: {outcome.completed} of {outcome.turns} completed")
        print(f"{outcome.events} events, digest {outcome.digest}")
        return 1 if outcome.broken else 0
    return _many(range(asked.first, asked.first + asked.seeds), asked.turns)


def _many(seeds: range, turns: int) -> int:
    begun_s, red, done, completed = time.monotonic(), 0, 0, 0
    faults: Counter[str] = Counter()
    with ProcessPoolExecutor() as pool:
        for future in as_completed([pool.submit(run, seed, turns) for seed in seeds]):
            outcome = future.result()
            done, completed = done + 1, completed + outcome.completed
            faults.update(outcome.faults)
            if outcome.broken:
                red += 1
                if red <= RED_SHOWN:
                    print(told(outcome), flush=True)
            if done % 500 == 0:
                print(f"… {done} seeds, {red} red, {time.monotonic() - begun_s:.0f} s", file=sys.stderr, flush=True)
    print(
        f"{done} seeds of {turns} turns: {red} red, {completed:,} turns completed, {time.monotonic() - begun_s:.0f} s"
    )
    print(f"{sum(faults.values()):,} faults: " + ", ".join(f"{name} {count:,}" for name, count in faults.most_common()))
    return 1 if red else 0


if __name__ == "__main__":
    sys.exit(main())
