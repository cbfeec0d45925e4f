"""The pins of MCP tools in memory: same answers as MongoDB. Holds nothing on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from journal.gate import Call, Gate, open_gate
from journal.port import Pin


class MemoryPins:
    """The port of the pins."""

    def __init__(self, gate: Gate = open_gate) -> None:
        self._gate = gate
        self._pins: dict[tuple[str, str], Pin] = {}

    async def of(self, servers: Sequence[str]) -> list[Pin]:
        await self._gate(Call("pins.of", "before", (servers,)))
        return [pin for key, pin in sorted(self._pins.items()) if key[0] in servers]

    async def first(self, pin: Pin) -> Pin:
        await self._gate(Call("pins.first", "before", (pin,)))
        held = self._pins.setdefault((pin.server, pin.tool), pin)
        await self._gate(Call("pins.first", "after", (pin,)))
        return held

    async def offer(self, pin: Pin) -> None:
        await self._gate(Call("pins.offer", "before", (pin,)))
        held = self._pins.get((pin.server, pin.tool))
        if held is not None:
            self._pins[pin.server, pin.tool] = replace(pin, accepted=held.accepted)
        await self._gate(Call("pins.offer", "after", (pin,)))

    async def accept(self, server: str, tool: str, digest: str | None) -> bool:
        await self._gate(Call("pins.accept", "before", (server, tool, digest)))
        held = self._pins.get((server, tool))
        fits = held is not None and digest in {None, held.offered}
        if held is not None and fits:
            self._pins[server, tool] = replace(held, accepted=digest)
        await self._gate(Call("pins.accept", "after", (server, tool, digest)))
        return fits
