"""What goes wrong in one run, and how often: every chance is drawn from the seed. Knows no product, counts by kind."""

from __future__ import annotations

import random
from collections import Counter

# Chance of each fault per operation, while the weather is bad.
STORE = {"lost": 0.01, "ambiguous": 0.015, "late": 0.01, "doubled": 0.015, "partial": 0.01}
READ_FAILS, PUBLISH_LOST, PUBLISH_DOUBLED, PROVE_FAILS, COMMIT_LOST = 0.01, 0.01, 0.015, 0.03, 0.05
KILL_AFTER_APPEND, KILL_AFTER_PUBLISH = 0.004, 0.003


class Weather:
    """`fair`: nothing goes wrong any more. `slow`: factor on the delays of the store."""

    def __init__(self, seed: int) -> None:
        self._chances = random.Random(f"weather {seed}")
        self.fair = False
        self.slow = 1.0
        self.store_down = False
        self.counts: Counter[str] = Counter()

    def happens(self, kind: str, chance: float) -> bool:
        """Whether a fault of this kind happens now."""
        if self.fair or self._chances.random() >= chance:
            return False
        self.counts[kind] += 1
        return True

    def delay_s(self) -> float:
        """One way over the network: mostly a few milliseconds, now and then a lot."""
        drawn = self._chances.random()
        if self.fair:
            return 0.001 + 0.002 * drawn
        return 0.001 + 0.004 * drawn if drawn < 0.93 else self._chances.uniform(0.02, 0.6)

    def store_delay_s(self) -> float:
        """The same for the store."""
        return self.delay_s() * self.slow

    def timeout_s(self) -> float:
        """How long a call waits that gets no answer."""
        return self._chances.uniform(0.3, 3.0)

    def insert_fault(self) -> str | None:
        """What becomes of an insert."""
        if self.store_down:
            return "lost"
        drawn = self._chances.random()
        if self.fair:
            return None
        for kind, chance in STORE.items():
            drawn -= chance
            if drawn < 0:
                self.counts[f"insert {kind}"] += 1
                return kind
        return None

    def clear_up(self) -> None:
        """From now on all is well."""
        self.fair, self.slow, self.store_down = True, 1.0, False
