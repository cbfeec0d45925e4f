"""What the conversation of one life of a session amounts to, version by version; and a snapshot against it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from fleet.chaos.evidence import Saved
from fleet.chaos.fate import Body
from fleet.chaos.finding import Found, Kind

Said = tuple[str, str, str]
"""(id of the message, role, its text)."""


class Life:
    """From an OPEN to the CLOSE; `closed`: the version of the CLOSE before it, 0 where there is none; `kept`: whether
    there is a snapshot to compare with, else nothing is remembered."""

    def __init__(self, closed: int = 0, *, kept: bool = True) -> None:
        self.closed = closed
        self.kept = kept
        self._began: list[int] = []
        self._said: list[tuple[int, Said]] = []
        self._parked: dict[str, Body] = {}
        self._open: dict[str, Said] = {}

    def park(self, body: Body) -> None:
        """A turn waits, with its input."""
        self._parked[body["turn"]] = body["input"]

    def begin(self, v: int, claim: Body) -> None:
        """A turn's first CLAIM: a history that it brings joins now, its own message when it ends."""
        if not self.kept:
            return
        turn = claim["turn"]
        given = claim.get("input") or self._parked.pop(turn, {})
        if not self._began:
            brought = enumerate(given.get("history") or ())
            self._said.extend((v, (f"{turn}~h{n}", item["role"], item["text"])) for n, item in brought)
        self._began.append(v)
        parts = given.get("parts", ())
        self._open[turn] = (
            f"{turn}~0",
            "user",
            given.get("text", "") + "".join(part.get("text", "") for part in parts),
        )

    def end(self, v: int, turn: str, kept: Sequence[Body], *, rolled_back: bool) -> None:
        """The FINISH of a turn that had begun."""
        if not self.kept:
            return
        asked = self._open.pop(turn, None)
        if asked is not None and not rolled_back:
            self._said.append((v, asked))
        self._said.extend((v, said(item)) for item in kept)

    def compare(self, saved: Saved, last: int, found: Found, *, settled: bool) -> None:
        """A snapshot against the journal. One of before the last CLOSE is about to go; once the load is over it must be
        gone, or hold nothing."""
        if saved.version <= self.closed:
            if settled and saved.items:
                text = f"the snapshot at version {saved.version} holds {saved.items} messages, closed at {self.closed}"
                found(Kind.CONTENT_LEFT, None, text)
            return
        if saved.version > last:
            found(Kind.SNAPSHOT_DIFFERS, None, f"the snapshot is at version {saved.version}, the journal at {last}")
            return
        items = [item for v, item in self._said if v <= saved.version]
        turns = sum(v <= saved.version for v in self._began)
        if (saved.items, saved.turns) != (len(items), turns):
            text = f"it counts {saved.items} messages of {saved.turns} turns, the journal {len(items)} of {turns}"
            found(Kind.SNAPSHOT_DIFFERS, None, f"snapshot at version {saved.version}: {text}")
            return
        tail = [said(item) for item in saved.tail]
        if tail != items[len(items) - len(tail) :]:
            wrong = next(one for one, other in zip(tail, items[len(items) - len(tail) :], strict=True) if one != other)
            text = f"snapshot at version {saved.version}: message {wrong[0]} is another one in the journal"
            found(Kind.SNAPSHOT_DIFFERS, None, text)


def said(item: Body) -> Said:
    """A stored message as it is compared."""
    return item["id"], item["role"], "".join(part["text"] for part in item.get("parts", ()) if "text" in part)
