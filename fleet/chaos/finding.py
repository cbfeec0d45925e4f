"""What a check found: kinds of breaches with the promise that each breaks, and the verdict. Knows no evidence."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

KEPT = 1_000


class Kind(StrEnum):
    """A way in which the fleet can break its word."""

    LOST = "lost"
    COMMIT_AHEAD = "commit_ahead"
    NO_TERMINAL = "no_terminal"
    UNFINISHED = "unfinished"
    TWO_TERMINALS = "two_terminals"
    DOUBLED = "doubled"
    REORDERED = "reordered"
    OVERLAP = "overlap"
    LOSER_WROTE = "loser_wrote"
    GAP = "gap"
    DOUBLE_VERSION = "double_version"
    STRAY_ENTRY = "stray_entry"
    STEP_ORDER = "step_order"
    TERMINAL_DIFFERS = "terminal_differs"
    STREAM_DIFFERS = "stream_differs"
    HISTORY_DIFFERS = "history_differs"
    ORPHAN_TOOL_CALL = "orphan_tool_call"
    NO_LETTER = "no_letter"


class Meaning(NamedTuple):
    """The promise that a kind breaks, and a sentence."""

    promise: str
    text: str


MEANINGS: dict[Kind, Meaning] = {
    Kind.LOST: Meaning("P1", "its record is committed, later turns of the session are known, the journal knows it not"),
    Kind.COMMIT_AHEAD: Meaning("P1", "the committed offset is ahead of the journal"),
    Kind.NO_TERMINAL: Meaning("P1", "a turn without exactly one outcome in the journal and on the replies"),
    Kind.UNFINISHED: Meaning("P1", "with --settled: a turn that has not ended"),
    Kind.TWO_TERMINALS: Meaning("P1", "a turn with more than one outcome"),
    Kind.DOUBLED: Meaning("P5", "a turn that was introduced twice, or ran again after its end"),
    Kind.REORDERED: Meaning("P3", "turns of a session began in another order than their records lie"),
    Kind.OVERLAP: Meaning("P3", "a turn began while another one of its session was open"),
    Kind.LOSER_WROTE: Meaning("P4", "an entry of an attempt that had been taken over"),
    Kind.GAP: Meaning("P2", "a version is missing in a journal"),
    Kind.DOUBLE_VERSION: Meaning("P2", "a version stands twice in a journal"),
    Kind.STRAY_ENTRY: Meaning("P2", "a step or an outcome without a turn that is open"),
    Kind.STEP_ORDER: Meaning("P6", "a step stands twice in a turn, or one is left out"),
    Kind.TERMINAL_DIFFERS: Meaning("P7", "the published terminal frame is not the stored one"),
    Kind.STREAM_DIFFERS: Meaning("P7", "the streamed text is not the answer"),
    Kind.HISTORY_DIFFERS: Meaning("P7", "the stored history does not say what the answer says"),
    Kind.ORPHAN_TOOL_CALL: Meaning("P8", "a tool call without a result in the history, or a result without its call"),
    Kind.NO_LETTER: Meaning("P12", "a record that nobody can read was passed over without a dead letter"),
}


class Finding(NamedTuple):
    """One breach. `turn` None: of the whole session. `events`: what is known of the turn, in order."""

    kind: Kind
    tenant: str
    session: str
    turn: str | None
    text: str
    events: tuple[str, ...] = ()

    @property
    def promise(self) -> str:
        """The number of the promise that broke."""
        return MEANINGS[self.kind].promise

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {**self._asdict(), "promise": self.promise}


@dataclass(slots=True)
class Verdict:
    """What was looked at and what was found. `findings` keeps the first 1,000, `broken` counts all of them.

    `pending`: turns that have not ended and that no committed offset passes: work in progress, no breach.
    """

    sessions: int = 0
    turns: int = 0
    pending: int = 0
    records: int = 0
    entries: int = 0
    frames: int = 0
    letters: int = 0
    broken: int = 0
    findings: list[Finding] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Nothing broke."""
        return not self.broken

    def add(self, finding: Finding) -> None:
        """One more breach."""
        self.broken += 1
        if len(self.findings) < KEPT:
            self.findings.append(finding)

    def merge(self, other: Verdict) -> None:
        """Take over what another verdict says."""
        for name in ("sessions", "turns", "pending", "records", "entries", "frames", "letters", "broken"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.findings.extend(other.findings[: KEPT - len(self.findings)])

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        counts = ("sessions", "turns", "pending", "records", "entries", "frames", "letters", "broken")
        found = [finding.as_json() for finding in self.findings]
        return {"clean": self.clean, **{name: getattr(self, name) for name in counts}, "findings": found}
