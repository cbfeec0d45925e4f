"""What users and tenants have spent, and what is reserved of it, in memory: the twin of `journal.mongo_budgets`."""

from __future__ import annotations

from collections import defaultdict

from journal.gate import Call, Gate, open_gate
from journal.port import SLOT_MS, Cap, slot_of
from schemas.receipt import Spending


class MemoryBudgets:
    """The budgets port."""

    def __init__(self, gate: Gate = open_gate) -> None:
        self.gate = gate
        self._spent: dict[str, Spending] = defaultdict(Spending)
        self._held: dict[str, dict[int, Spending]] = defaultdict(dict)

    async def reserve(self, key: str, amount: Spending, cap: Cap, *, now_ms: int, until_ms: int) -> bool:
        await self.gate(Call("budgets.reserve", "before", (key, amount)))
        slots = self._held[key]
        total = self._spent[key].plus(amount)
        for slot, held in slots.items():
            if slot > now_ms // SLOT_MS:
                total = total.plus(held)
        fits = cap.allows(total)
        if fits:
            self._hold(key, amount, until_ms)
        await self.gate(Call("budgets.reserve", "after", (key, amount)))
        return fits

    async def settle(self, key: str, reserved: Spending, spent: Spending, *, until_ms: int) -> None:
        await self.gate(Call("budgets.settle", "before", (key, reserved, spent)))
        if key in self._held:
            self._spent[key] = self._spent[key].plus(spent)
            self._hold(key, Spending(-reserved.tokens, -reserved.nanos), until_ms)
        await self.gate(Call("budgets.settle", "after", (key, reserved, spent)))

    async def spent(self, key: str) -> Spending:
        await self.gate(Call("budgets.spent", "before", (key,)))
        return self._spent[key]

    def _hold(self, key: str, amount: Spending, until_ms: int) -> None:
        slots = self._held[key]
        slots[slot_of(until_ms)] = slots.get(slot_of(until_ms), Spending()).plus(amount)
