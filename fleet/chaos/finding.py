"""What a check found: kinds of breaches with the promise that each breaks, and the verdict. Knows no evidence."""

from __future__ import annotations

from collections.abc import Callable
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
    GAP = "gap"
    DOUBLE_VERSION = "double_version"
    STRAY_ENTRY = "stray_entry"
    UNREADABLE_ENTRY = "unreadable_entry"
    REORDERED = "reordered"
    FRAMES_REORDERED = "frames_reordered"
    OVERLAP = "overlap"
    LOSER_WROTE = "loser_wrote"
    STEP_TWICE = "step_twice"
    STEP_NOT_KEPT = "step_not_kept"
    TERMINAL_DIFFERS = "terminal_differs"
    STREAM_DIFFERS = "stream_differs"
    HISTORY_DIFFERS = "history_differs"
    SNAPSHOT_DIFFERS = "snapshot_differs"
    CONTENT_LEFT = "content_left"
    ORPHAN_TOOL_CALL = "orphan_tool_call"
    STEER_LOST = "steer_lost"
    NO_ACK = "no_ack"
    CANCEL_BROKEN = "cancel_broken"
    TOO_MANY_TRIES = "too_many_tries"
    NO_LETTER = "no_letter"
    STRANGER = "stranger"


Found = Callable[[Kind, str | None, str], None]
"""Reports a breach: its kind, the turn (None: of the whole session), what was seen."""


class Meaning(NamedTuple):
    """The promise that a kind breaks, and a sentence."""

    promise: str
    text: str


MEANINGS: dict[Kind, Meaning] = {
    Kind.LOST: Meaning("P1", "the record of a turn is committed, and neither journal nor dead letters know the turn"),
    Kind.COMMIT_AHEAD: Meaning("P1", "the committed offset is ahead of the journal: the turn is still open there"),
    Kind.NO_TERMINAL: Meaning("P1", "a turn without exactly one outcome in the journal and on `agent.replies`"),
    Kind.UNFINISHED: Meaning("P1", "with `--settled`: a turn that has not ended"),
    Kind.TWO_TERMINALS: Meaning("P1", "a turn with more than one outcome"),
    Kind.DOUBLED: Meaning("P5", "a turn that was introduced twice, or ran again after its end"),
    Kind.GAP: Meaning("P2", "a version is missing in a journal, or its content is"),
    Kind.DOUBLE_VERSION: Meaning("P2", "a version or a nonce stands twice in a journal"),
    Kind.STRAY_ENTRY: Meaning("P2", "a step, an outcome or a claim where no such turn or session is open"),
    Kind.UNREADABLE_ENTRY: Meaning("P2", "an entry that says nothing that the journal's format knows"),
    Kind.REORDERED: Meaning("P3", "turns of a session began in another order than their records lie"),
    Kind.FRAMES_REORDERED: Meaning("P3", "terminal frames of a session were published in another order than its ends"),
    Kind.OVERLAP: Meaning("P3", "a turn began while another one of its session was open"),
    Kind.LOSER_WROTE: Meaning("P4", "an entry of an attempt, or by a worker, that had been taken over"),
    Kind.STEP_TWICE: Meaning("P6", "a step stands twice in a turn"),
    Kind.STEP_NOT_KEPT: Meaning("P11", "a step was told to be durable, and the journal does not hold it"),
    Kind.TERMINAL_DIFFERS: Meaning("P7", "the published terminal frame is not the stored one"),
    Kind.STREAM_DIFFERS: Meaning("P7", "the streamed text is not the answer"),
    Kind.HISTORY_DIFFERS: Meaning("P7", "the stored history does not say what the answer says"),
    Kind.SNAPSHOT_DIFFERS: Meaning("P2", "a snapshot does not hold what its journal amounts to"),
    Kind.CONTENT_LEFT: Meaning("P16", "with `--settled`: content of a session that was deleted is still stored"),
    Kind.ORPHAN_TOOL_CALL: Meaning("P8", "a tool call without a result in the history, or a result without its call"),
    Kind.STEER_LOST: Meaning("P1", "what a user said to a running turn is not in the history"),
    Kind.NO_ACK: Meaning("P8", "the record of a control op is committed, and no ack was published"),
    Kind.CANCEL_BROKEN: Meaning("P8", "the ack of a cancel says one thing, the turn's outcome another"),
    Kind.TOO_MANY_TRIES: Meaning("P12", "a turn that ends its process was tried more often than is allowed"),
    Kind.NO_LETTER: Meaning("P12", "a record that nobody can read, or a poisonous turn, has no dead letter"),
    Kind.STRANGER: Meaning("P16", "a turn of one user ran in a session of another"),
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
        return {"promise": self.promise, **self._asdict()}


_COUNTS = ("sessions", "turns", "pending", "records", "commands", "entries", "frames", "letters", "foreign", "broken")


@dataclass(slots=True)
class Verdict:
    """What was looked at and what was found. `findings` keeps the first 1,000, `broken` counts all of them.

    `pending`: turns that have not ended and that no committed offset passes: work in progress, no breach. `foreign`:
    records on the topics that are none of ours.
    """

    sessions: int = 0
    turns: int = 0
    pending: int = 0
    records: int = 0
    commands: int = 0
    entries: int = 0
    frames: int = 0
    letters: int = 0
    foreign: int = 0
    broken: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    kinds: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """Nothing broke."""
        return not self.broken

    @property
    def full(self) -> bool:
        """No more findings are kept, only counted."""
        return len(self.findings) >= KEPT

    def ended(self, outcome: str) -> None:
        """One more turn that is over."""
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1

    def add(self, finding: Finding) -> None:
        """One more breach."""
        self.broken += 1
        self.kinds[finding.kind] = self.kinds.get(finding.kind, 0) + 1
        if not self.full:
            self.findings.append(finding)

    def merge(self, other: Verdict) -> None:
        """Take over what another verdict says."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for mine, theirs in ((self.outcomes, other.outcomes), (self.kinds, other.kinds)):
            for key, count in theirs.items():
                mine[key] = mine.get(key, 0) + count
        self.findings.extend(other.findings[: KEPT - len(self.findings)])

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "clean": self.clean,
            **{name: getattr(self, name) for name in _COUNTS},
            "outcomes": dict(sorted(self.outcomes.items())),
            "kinds": dict(sorted(self.kinds.items())),
            "findings": [finding.as_json() for finding in self.findings],
        }
