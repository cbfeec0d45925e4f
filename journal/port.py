"""The journal's ports: what gateway and workers need of the store, and nothing of any client library.

Both adapters (`journal.mongo`, `journal.memory`) pass the contract suite in `tests/contract`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import Literal, NamedTuple, Protocol

from schemas.profile import Profile
from schemas.receipt import Spending
from schemas.snapshot import Chunk, Snapshot

PAYLOAD_CHARS = 262_144  # a body with more is kept beside its row


class Row(NamedTuple):
    """One stored entry of session `s` (`<tenant>/<session>`), number `v`; `(s, v)` is the primary key.

    `kind`, `nonce`, `turn` (the turn it introduces) and `op` stay when the content is unset; `body` and `frames` are
    the content. `body` None: unset by a CLOSE. `nonce`: worker incarnation and counter, unique for every append.
    """

    s: str
    v: int
    kind: str
    nonce: str
    at_ms: int
    turn: str | None = None
    op: str | None = None
    body: str | None = None
    frames: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes of content, about."""
        size = 96 + len(self.body or "")
        for frame in self.frames:
            size += len(frame)
        return size


class Verdict(Enum):
    """What became of an insert."""

    APPLIED = "applied"
    COLLIDED = "collided"  # E11000 of the primary key: somebody wrote this version first (perhaps this very row)
    KNOWN = "known"  # E11000 of (session, turn): nothing collided, the turn is known


class StoreUnavailable(Exception):
    """No answer, or no majority: what was sent may or may not be applied. Reads may be repeated, appends re-sent."""


class StoreMismatch(Exception):
    """The store cannot be used as it is (a standalone mongod, say). The text says what to do."""


class Journal(Protocol):
    """Sessions as logs. Reads are majority reads. Every method raises StoreUnavailable.

    An implementation must not: order the inserts of one call, retry an insert by itself, update a content-bearing row
    except to unset its content, or report COLLIDED for the turn index.
    """

    async def insert(self, rows: Sequence[Row]) -> list[Verdict]:
        """Insert up to 1,000 rows unordered, `w: majority, j: true`; a verdict for each, in order.

        A body of more than PAYLOAD_CHARS is stored beside its row and before it, so that no row outgrows a document: it
        is read, unset and dropped with the row. A crash between the two leaves garbage: see `Payloads`.
        StoreUnavailable: all of them are ambiguous.
        """

    async def read(self, s: str, after: int, limit: int = 1_000) -> list[Row]:
        """Rows of `s` with `v > after`, ascending, at most `limit`."""

    async def row(self, s: str, v: int) -> Row | None:
        """One row, or None."""

    async def exists(self, s: str, v: int) -> bool:
        """Whether version `v` is there, linearizable: "no" means that nobody had written it when this was called."""

    async def introduced(self, s: str, turn: str) -> int | None:
        """The version that introduced `turn`, or None."""

    async def unset(self, s: str, below: int) -> None:
        """Unset the content of the rows with `v < below`, in ascending order: a row found unset says that all before
        it are. Idempotent; keys, kind, nonce, turn, op, at_ms stay, and the bodies that `journal.content.stays` names.
        """

    async def drop(self, s: str, below: int, *, until_ms: int, limit: int) -> int:
        """Remove at most `limit` rows with `v < below` and `at_ms <= until_ms`, the oldest first, keys and all; how
        many. Only for the sweep, after retention. `until_ms` guards a session that another sweep buried meanwhile and
        that lives again from version 1."""


class Payloads(Protocol):
    """Bodies that are kept beside their rows."""

    async def sweep(self, before_ms: int, limit: int) -> int:
        """Look at up to `limit` pieces of payloads, at others the next time, and remove those that were written before
        `before_ms` (wall clock) and belong to no row; how many. `before_ms` lies so far back that whoever wrote one has
        since inserted its row or will write it again. Raises StoreUnavailable."""


class Saving(NamedTuple):
    """A snapshot to store of session `s`, with its new chunks."""

    s: str
    snapshot: Snapshot
    chunks: Sequence[Chunk] = ()


class Snapshots(Protocol):
    """Folded states and history chunks: derived, disposable."""

    async def load(self, s: str) -> Snapshot | None: ...

    async def chunks(self, s: str, base: int, count: int) -> list[Chunk]:
        """Chunks 0 … count-1 of the life `base`, in order. Fewer where some are missing: then fold from `base`."""

    async def save(self, saves: Sequence[Saving]) -> None:
        """Store the chunks of all first (each once), then the snapshots: only a higher version replaces. At most one
        of a session in a call."""

    async def forget(self, s: str) -> None:
        """Remove snapshot and chunks of `s`."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A session as the directory has it: derived, written lazily, never needed for correctness."""

    s: str
    tenant: str
    session: str
    user: str
    agent: str
    agent_version: str
    turns: int
    version: int
    created_ms: int
    last_ms: int
    expires_ms: int
    closed_ms: int | None = None


class Directory(Protocol):
    """Which sessions there are: for lists and expiry."""

    async def put(self, listed: Sequence[Listed]) -> None:
        """Insert or replace; a lower `version` never replaces a higher one."""

    async def of_user(
        self, tenant: str, user: str, *, limit: int, after: str | None
    ) -> tuple[list[Listed], str | None]:
        """The user's living sessions, latest first, and an opaque token for the next page."""

    async def due(self, now_ms: int, limit: int) -> list[Listed]:
        """Living sessions whose `expires_ms` has passed, oldest first."""

    async def closed_before(self, moment_ms: int, limit: int) -> list[Listed]:
        """Closed sessions whose `closed_ms` lies before `moment_ms`, oldest first."""

    async def versions(self) -> dict[tuple[str, str], int]:
        """How many living sessions each agent has at each version: (agent, version) → sessions."""

    async def remove(self, s: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Timer:
    """Wakes a session: key (s, turn, call). `call`: what is awaited, "" for a turn that is parked. `partition`: of
    `agent.turns`, where the session lies."""

    s: str
    turn: str
    call: str
    due_ms: int
    partition: int = 0


class Timers(Protocol):
    """What has to be looked at later: turns that are suspended or parked. Every method raises StoreUnavailable."""

    async def arm(self, timers: Sequence[Timer]) -> None:
        """Insert; an existing key stays as it is."""

    async def due(self, now_ms: int, partitions: Sequence[int], limit: int) -> list[Timer]:
        """Those of `partitions` whose time has come, the oldest first, at most `limit`."""

    async def disarm(self, timer: Timer) -> None:
        """Delete it, if it is still the one that was found due."""


LetterState = Literal["redriving", "redriven", "discarding", "discarded"]
COMPLETED: dict[str, LetterState] = {"redriving": "redriven", "discarding": "discarded"}


@dataclass(frozen=True, slots=True)
class LetterMark:
    """What an operator did with the dead letter of this id. `turn`: under which turn id its record goes out again, None
    where it names no turn. `redriving`, `discarding`: that is decided, and nobody knows whether what follows is out."""

    letter: str
    state: LetterState
    turn: str | None
    at_ms: int


class LetterMarks(Protocol):
    """At most one mark a dead letter: the first one holds."""

    async def put(self, mark: LetterMark) -> LetterMark:
        """Insert, unless the letter has a mark; the one that it has then."""

    async def complete(self, letter: str) -> None:
        """`redriving` becomes `redriven`, `discarding` `discarded`; anything else stays as it is."""

    async def of(self, letters: Sequence[str]) -> dict[str, LetterMark]:
        """The marks of these, as far as they have one."""


class Profiles(Protocol):
    """Users' profiles, by tenant and user. Every method raises StoreUnavailable."""

    async def load(self, tenant: str, user: str) -> Profile | None: ...

    async def replace(self, profile: Profile) -> bool:
        """Store it in place of the one of the version before it, of none where that is 0; False, and nothing is stored,
        where it is not that one. After StoreUnavailable either may be."""


@dataclass(frozen=True, slots=True)
class Pin:
    """A tool of an MCP server as it was accepted and as it is offered now: digests. `accepted` None: it was not, or no
    longer is; `text`: what `offered` is the digest of."""

    server: str
    tool: str
    accepted: str | None
    offered: str
    text: str
    at_ms: int


class Pins(Protocol):
    """One pin a tool, key (server, tool). Every method raises StoreUnavailable."""

    async def of(self, servers: Sequence[str]) -> list[Pin]:
        """Those of these servers, in order of (server, tool)."""

    async def first(self, pin: Pin) -> Pin:
        """Insert, unless the tool has a pin; the one that it has then."""

    async def offer(self, pin: Pin) -> None:
        """`offered`, `text` and `at_ms` of an existing pin become these; `accepted` stays as it is."""

    async def accept(self, server: str, tool: str, digest: str | None) -> bool:
        """`accepted` becomes `digest`, if that is what is offered now, or None; whether it did."""


SLOT_MS = 300_000  # reservations of five minutes expire together


def slot_of(until_ms: int) -> int:
    """Where a reservation lies that holds until then: past once `now_ms // SLOT_MS` has come to it."""
    return until_ms // SLOT_MS + 1


class Cap(NamedTuple):
    """At most so much; None: no limit. At least one is given."""

    tokens: int | None = None
    nanos: int | None = None

    def allows(self, spending: Spending) -> bool:
        """Whether this is not too much."""
        return not (
            (self.tokens is not None and spending.tokens > self.tokens)
            or (self.nanos is not None and spending.nanos > self.nanos)
        )


class Budgets(Protocol):
    """What was spent under a key, and what is reserved. Every method raises StoreUnavailable: then nobody knows whether
    it was done. An implementation must not repeat a write by itself."""

    async def reserve(self, key: str, amount: Spending, cap: Cap, *, now_ms: int, until_ms: int) -> bool:
        """Reserve `amount` where it fits under `cap` together with all that is spent and reserved, in one step: however
        many ask at the same time, what is granted never exceeds it. It expires some minutes after `until_ms`."""

    async def settle(self, key: str, reserved: Spending, spent: Spending, *, until_ms: int) -> None:
        """What was reserved until `until_ms` has cost `spent`: that counts from now on, expired or not."""

    async def spent(self, key: str) -> Spending:
        """What is settled."""


class Wanted(NamedTuple):
    """What is asked of many sessions at once. `rows`: session → version after which its rows are wanted, at most
    `limit` rows in all; `snapshots`: sessions; `chunks`: session → (base, count), for chunks 0 … count-1 of a life."""

    rows: Mapping[str, int]
    limit: int
    snapshots: Sequence[str] = ()
    chunks: Mapping[str, tuple[int, int]] = MappingProxyType({})


class Found(NamedTuple):
    """The answer to `Wanted`. `rows` in order of (s, v); sessions without a snapshot or chunks are left out of those.

    Fewer than `limit` rows: that is all. Else the sessions up to that of the last row are whole but for that one.
    """

    rows: list[Row]
    snapshots: dict[str, Snapshot]
    chunks: dict[str, list[Chunk]]


class Survey(Protocol):
    """Reads everything that is stored as it is now, a page at a time (the operator's commands). What is written
    meanwhile may be in it or not; of a session, a version is never missing before one that is there."""

    def rows(self) -> AsyncIterator[Sequence[Row]]:
        """Every row, in order of (s, v). Raises StoreUnavailable when no page came for 30 s."""

    def snapshots(self) -> AsyncIterator[Sequence[tuple[str, Snapshot]]]:
        """Every snapshot with its session, in no order. Raises StoreUnavailable when no page came for 30 s."""


class Store(Protocol):
    """Everything at one place, as the composition roots build it."""

    journal: Journal
    payloads: Payloads
    snapshots: Snapshots
    directory: Directory
    timers: Timers
    letters: LetterMarks
    profiles: Profiles
    pins: Pins
    budgets: Budgets
    survey: Survey

    async def start(self) -> None:
        """Connect, create the indexes, refuse a standalone: StoreMismatch or StoreUnavailable within 10 s."""

    async def ping(self) -> bool:
        """Whether a majority write works now (for readiness)."""

    async def fetch(self, wanted: Wanted) -> Found:
        """Majority reads of up to 200 sessions (at least one) in one round trip, not all of the same moment.

        Raises StoreUnavailable for all of them.
        """

    async def recorded(self, name: str, value: str) -> str:
        """Record `value` under `name` once for the life of this database; the value that is recorded (the first)."""

    async def record(self, name: str, value: str) -> None:
        """Record `value` under `name` in place of what is recorded there."""

    async def stop(self) -> None: ...
