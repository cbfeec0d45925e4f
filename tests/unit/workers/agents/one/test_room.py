"""Room within one run: old results become notes, rarely, and the same in every attempt."""

from __future__ import annotations

from collections.abc import Sequence

from fleet.testing import Lab, asks, says
from fleet.testing.script import Answer
from schemas.history import HistoryItem
from workers.agents.one.agent import spec
from workers.agents.one.loop import Bounds
from workers.models.port import ModelRequest
from workers.prompt import tokens
from workers.tools.tool import tool

BYTES = 8_000


@tool(read_only=True)
async def page(number: int) -> str:
    """A page."""
    return f"page {number} " + "x" * BYTES


def model(request: ModelRequest) -> Answer:
    """Reads page after page."""
    asked = sum(len(item.calls) for item in request.messages)
    return asks("page", number=asked) if asked < 60 else says("Read.")


def lab(bounds: Bounds) -> Lab:
    return Lab(spec(tools=[page], bounds=bounds), model=model, deadline_s=36_000)


def share(requests: Sequence[ModelRequest]) -> float:
    """Tokens that a request has in common with the one before, from its start, of all."""
    same = total = 0
    for before, now in zip(requests, requests[1:], strict=False):
        total += tokens.of_items(now.messages)
        for one, other in zip(before.messages, now.messages, strict=False):
            if one != other:
                break
            same += tokens.of_item(other)
    return same / total


def paired(items: Sequence[HistoryItem]) -> bool:
    return [call.call for item in items for call in item.calls] == [item.call for item in items if item.role == "tool"]


def test_a_long_run_stays_within_its_room_and_its_prefix_holds() -> None:
    with lab(Bounds(steps=100, tokens=10_000_000)) as one:
        turn = one.turn("read on")
        assert (turn.text, len(turn.requests), len(turn.tools)) == ("Read.", 61, 60)
        assert max(tokens.of_items(request.messages) for request in turn.requests) < 72_000
        assert all(paired(request.messages) for request in turn.requests)
        assert share(turn.requests) >= 0.9
        assert all(len(item.text) > BYTES for item in one.history if item.role == "tool")

        note = next(item for item in turn.requests[-1].messages if item.role == "tool")
        assert f"history under call {note.call}" in note.text
        assert "page 0 xxx" in note.text


def test_another_attempt_asks_the_same() -> None:
    with Lab(
        spec(tools=[page], bounds=Bounds(results=5_000)),
        model=lambda request: model(request) if sum(len(it.calls) for it in request.messages) < 6 else says("Read."),
    ) as one:
        one.crash_everywhere("read on")
        assert one.last is not None and one.last.text == "Read."
        assert any("is left out to make room" in item.text for item in one.last.requests[-1].messages)
