"""Journal entries: the records of a session's log, one class a kind. Knows nothing of stores or folding.

An entry's body is stored as JSON text (so that `$` and dots in a user's keys mean nothing to the store) without the
fields that hold their default; its kind, the turn it introduces, its op and its frames lie beside the body.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

import orjson
from orjson import Fragment
from pydantic import Field, JsonValue, TypeAdapter

from schemas.base import Frozen, without_defaults
from schemas.codes import Code
from schemas.frames import CancelledBy, Usage
from schemas.history import HistoryItem, as_json
from schemas.parts import Part
from schemas.receipt import Receipt
from schemas.turn import IfBusy, TurnInput


class Position(NamedTuple):
    """Where a turn's record lies; `stream` is the topic's bare name. In JSON an array, in this order."""

    stream: str
    partition: int
    offset: int
    timestamp_ms: int


class _Entry(Frozen):
    at_ms: int

    @property
    def introduces(self) -> str | None:
        """The turn that this entry makes known: at most one entry of a session introduces a turn."""
        return None

    @property
    def op_id(self) -> str | None:
        """The control op that this entry carries out."""
        return None


class Open(_Entry):
    """The first entry of a session, and the first after CLOSE; inside its first CLAIM unless it is created ahead."""

    k: Literal["open"] = "open"
    user: str
    agent: str
    agent_version: str
    if_busy: IfBusy = "enqueue"
    op: str | None = None

    @property
    def op_id(self) -> str | None:
        return self.op


class Claim(_Entry):
    """A turn starts or is taken over: `input` only where this entry introduces the turn."""

    k: Literal["claim"] = "claim"
    turn: str
    attempt: int
    tries: int
    worker: str
    user: str
    position: Position
    digest: str
    deadline_ms: int
    reply_to: str | None = None
    traceparent: str | None = None
    input: TurnInput | None = None
    opens: Open | None = None

    @property
    def introduces(self) -> str | None:
        return self.turn if self.input is not None else None


class StepError(Frozen):
    """What a step raised, kept so that a later attempt raises it again. `retryable`: a RetryableError."""

    code: Code
    text: str
    retryable: bool = False
    after_s: float | None = None


class Step(_Entry):
    """A durable result. `step` counts from 0 within the turn, or within its branch `run`; `digest` is over the
    arguments. `call`: of a tool; `content`, `is_error`: of one that answers in parts; `paused`: it has not answered, a
    later step of the same call does; `error`: of one that raised, or of a tool of which nobody knows what
    became (`outcome_unknown`). A branch's `text` is no part of the turn's. `took`: microseconds since the attempt's
    last STEP, whichever line's: model, tools, write, agent (see `Hops`)."""

    k: Literal["step"] = "step"
    turn: str
    attempt: int
    step: int
    kind: str
    name: str
    digest: str
    result: JsonValue = None
    text: str = ""
    usage: tuple[Usage, ...] = ()
    steers: tuple[str, ...] = ()
    call: str | None = None
    error: StepError | None = None
    run: str = ""
    took: tuple[int, ...] = ()
    content: tuple[Part, ...] | None = None
    is_error: bool = False
    paused: bool = False


class Intent(_Entry):
    """Written before the call of a tool that has side effects: step `step` is about to call `name`, with arguments of
    this digest. `key`: the idempotency key, the same in every attempt. The STEP of the same number is its outcome."""

    k: Literal["intent"] = "intent"
    turn: str
    attempt: int
    step: int
    name: str
    digest: str
    call: str
    key: str
    steers: tuple[str, ...] = ()
    run: str = ""


class Suspend(_Entry):
    """A decision is awaited on `call`; slot and offset are released. Step `step` asks for it, with arguments of this
    digest. `deadline_ms`: then it is denied; `text`: what was said since the last step; `took`: as a STEP's.
    `aside`: the turn stands aside, later ones may begin before it goes on. `frames`: the one `approval_requested`."""

    k: Literal["suspend"] = "suspend"
    turn: str
    attempt: int
    call: str
    deadline_ms: int
    step: int = 0
    name: str = ""
    digest: str = ""
    text: str = ""
    steers: tuple[str, ...] = ()
    run: str = ""
    took: tuple[int, ...] = ()
    aside: bool = False
    frames: Annotated[tuple[str, ...], Field(exclude=True)] = ()


class ControlNote(_Entry):
    """A cancel, steer or decision, written down by the owner when it arrives. Introduces only a turn that steers: then
    `op` is its id behind a `~`, and it has `input`, `digest` and `position`. `value`: the text of a steer without one;
    of a decision (`approve`, `deny`) on `call`, what came with it. `by`: who decided, `deadline` where nobody did.
    `release` ends the quarantine of `letter`; `first`: the turn that it is redriven as, which runs before all others.
    """

    k: Literal["control"] = "control"
    op: str
    kind: Literal["cancel", "steer", "approve", "deny", "release"]
    turn: str
    tenant: str
    user: str
    call: str | None = None
    by: str | None = None
    letter: str | None = None
    first: str | None = None
    input: TurnInput | None = None
    value: JsonValue = None
    digest: str = ""
    position: Position | None = None
    reply_to: str | None = None

    @property
    def introduces(self) -> str | None:
        return self.turn if self.input is not None else None

    @property
    def op_id(self) -> str | None:
        return self.op if self.input is None else None


class Park(_Entry):
    """A turn that waits behind a suspended one; its offset is released."""

    k: Literal["park"] = "park"
    turn: str
    user: str
    position: Position
    digest: str
    deadline_ms: int
    reply_to: str | None = None
    traceparent: str | None = None
    input: TurnInput

    @property
    def introduces(self) -> str | None:
        return self.turn


class Settle(_Entry):
    """A turn that ended without running, with its terminal frame in `frames`. `known`: it was parked before."""

    k: Literal["settle"] = "settle"
    turn: str
    user: str
    outcome: Literal["failed", "cancelled"]
    digest: str
    offset: int = -1
    op: str | None = None
    known: bool = False
    frames: Annotated[tuple[str, ...], Field(exclude=True)] = ()

    @property
    def introduces(self) -> str | None:
        return None if self.known else self.turn

    @property
    def op_id(self) -> str | None:
        return self.op


Outcome = Literal["completed", "failed", "cancelled"]


class Quarantine(Frozen):
    """No later turn of the session runs before the dead letter `letter` is redriven or discarded, or time is up."""

    letter: str
    until_ms: int


class Finish(_Entry):
    """A turn's outcome. `frames[0]` is its verbatim terminal frame, then those of the turns that had joined it.

    `history` is what joins the conversation after the user's message; `rollback`: the user's message goes too.
    `claim`: the CLAIM of the next waiting turn, in the same insert. `quarantine`: a poisonous turn begins one. `kept`:
    what the session keeps under a name from now on, None: no more.
    """

    k: Literal["finish"] = "finish"
    turn: str
    attempt: int
    outcome: Outcome
    by: CancelledBy | None = None
    op: str | None = None
    history: tuple[HistoryItem, ...] = ()
    rollback: bool = False
    receipt: Receipt | None = None
    joined: tuple[str, ...] = ()
    claim: Claim | None = None
    quarantine: Quarantine | None = None
    kept: dict[str, JsonValue] | None = None
    frames: Annotated[tuple[str, ...], Field(exclude=True)] = ()

    @property
    def introduces(self) -> str | None:
        return self.claim.introduces if self.claim is not None else None

    @property
    def op_id(self) -> str | None:
        return self.op


class Release(_Entry):
    """A hand-over: the open attempt does not count as a try."""

    k: Literal["release"] = "release"
    turn: str
    attempt: int


class Close(_Entry):
    """Deleted or expired. `ended`: turns that it ended as cancelled, `frames` their terminal frames, in order."""

    k: Literal["close"] = "close"
    reason: Literal["delete", "expire"]
    op: str | None = None
    ended: tuple[str, ...] = ()
    frames: Annotated[tuple[str, ...], Field(exclude=True)] = ()

    @property
    def op_id(self) -> str | None:
        return self.op


Entry = Annotated[
    Open | Claim | Step | Intent | Suspend | ControlNote | Park | Settle | Finish | Release | Close,
    Field(discriminator="k"),
]
ENTRY: TypeAdapter[Entry] = TypeAdapter(Entry)
KINDS: dict[str, type[_Entry]] = {
    kind.model_fields["k"].default: kind
    for kind in (Open, Claim, Step, Intent, Suspend, ControlNote, Park, Settle, Finish, Release, Close)
}


def body_of(entry: Entry) -> str:
    """The body as it is stored: JSON text without defaults and without frames."""
    if type(entry) is Finish:
        return orjson.dumps(_finish_body(entry)).decode()
    if type(entry) is Claim:
        return orjson.dumps(_claim_body(entry)).decode()
    return without_defaults(entry).decode()


def entry_of(kind: str, body: str, frames: tuple[str, ...] = ()) -> Entry:
    """The entry of a stored body. Raises ValueError where it is none of ours."""
    entry = KINDS[kind].model_validate_json(body)
    return entry.model_copy(update={"frames": frames}) if frames else entry  # type: ignore[return-value]


# The entries that every turn writes, spelled out: a fifth of what the general way costs, and the same JSON (tested).


def _claim_body(claim: Claim) -> dict[str, Any]:
    body: dict[str, Any] = {
        "at_ms": claim.at_ms,
        "turn": claim.turn,
        "attempt": claim.attempt,
        "tries": claim.tries,
        "worker": claim.worker,
        "user": claim.user,
        "position": (*claim.position,),
        "digest": claim.digest,
        "deadline_ms": claim.deadline_ms,
    }
    if claim.reply_to is not None:
        body["reply_to"] = claim.reply_to
    if claim.traceparent is not None:
        body["traceparent"] = claim.traceparent
    given = claim.input
    if given is not None:
        plain = given.plain and given.text
        body["input"] = {"text": given.text} if plain else Fragment(_INPUT.to_json(given, exclude_defaults=True))
    if claim.opens is not None:
        body["opens"] = Fragment(without_defaults(claim.opens))
    return body


def _finish_body(finish: Finish) -> dict[str, Any]:
    body: dict[str, Any] = {
        "at_ms": finish.at_ms,
        "turn": finish.turn,
        "attempt": finish.attempt,
        "outcome": finish.outcome,
    }
    if finish.by is not None:
        body["by"] = finish.by
    if finish.op is not None:
        body["op"] = finish.op
    if finish.history:
        body["history"] = [as_json(item) for item in finish.history]
    if finish.rollback:
        body["rollback"] = True
    if finish.receipt is not None:
        body["receipt"] = Fragment(finish.receipt.encode())
    if finish.joined:
        body["joined"] = finish.joined
    if finish.claim is not None:
        body["claim"] = _claim_body(finish.claim)
    if finish.quarantine is not None:
        body["quarantine"] = finish.quarantine.model_dump()
    if finish.kept:
        body["kept"] = finish.kept
    return body


_INPUT = TurnInput.__pydantic_serializer__
