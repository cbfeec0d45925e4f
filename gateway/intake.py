"""A client's turn becomes a record on `agent.turns`. Knows nothing of sockets or of what becomes of the turn."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from broker.port import Outgoing, Position
from gateway.access import Access
from gateway.event import Event, TurnKey, event_of
from gateway.identity import Principal
from gateway.overload import Overload
from gateway.publishing import Publishing, PublishRefusal
from gateway.reader import Reader
from gateway.resume import catch_up
from gateway.router import Router
from gateway.turn_request import TurnRequest
from schemas.codec import check_turn, encode_turn, turn_headers
from schemas.codes import Code
from schemas.errors import Refusal
from schemas.frames import Accepted
from schemas.ids import mint
from schemas.limits import Limits

TURNS = "agent.turns"


@dataclass(eq=False, slots=True)
class Submission:
    """A turn on its way in. `outgoing` until it is sent; `position`: where its record lies, once acknowledged.

    `lives_ms`: from now to its deadline; `again`: its connection follows the turn already.
    """

    tenant: str
    session: str
    turn: str
    user: str
    outgoing: Outgoing | None
    lives_ms: int
    position: Position | None = None
    again: bool = False
    early: list[Event] = field(default_factory=list)

    @property
    def key(self) -> TurnKey:
        return (self.tenant, self.session, self.turn)


class Intake:
    """Checks, mints, publishes. `turn_timeout_ms`: of a turn that brings none."""

    def __init__(
        self,
        publishing: Publishing,
        router: Router,
        access: Access,
        overload: Overload,
        *,
        limits: Limits,
        turn_timeout_ms: int,
    ) -> None:
        self._publishing = publishing
        self._router = router
        self._access = access
        self._overload = overload
        self._waiting = overload.waiting
        self._limits = limits
        self._turn_timeout_ms = turn_timeout_ms

    async def admit(self, who: Principal, session: str, request: TurnRequest) -> Submission:
        """The checked turn with its id, ready to be published. Raises Refusal."""
        now, turn_id = self._publishing.clock_ms(), request.turn or mint()
        lives_ms = request.timeout_ms or self._turn_timeout_ms
        turn = request.as_turn(turn=turn_id, tenant=who.tenant, user=who.user, deadline_ms=now + lives_ms)
        check_turn(turn, self._limits)
        self._overload.require_room((who.tenant, session, turn_id), self._publishing.partition(TURNS, session))
        await self._access.require_session(who, session, "send", turn=request.turn)
        value = encode_turn(turn)
        if len(value) > self._limits.record_bytes:
            raise Refusal(Code.TOO_LARGE, f"the turn: {len(value)} bytes, at most {self._limits.record_bytes}")
        address = self._publishing.address
        headers = turn_headers(turn_id, source=address.source, now_ms=now, reply_to=address.reply_to)
        outgoing = Outgoing(TURNS, session.encode(), value, headers=headers)
        return Submission(who.tenant, session, turn_id, who.user, outgoing, lives_ms)

    def begin(self, submission: Submission, reader: Reader) -> None:
        """From now on the turn's frames are for `reader`; they wait until `accepted` is out."""
        log = self._router.ring.get(submission.key)
        if log is not None and log.user not in (None, submission.user):
            raise Refusal(Code.NOT_FOUND, "there is no such session")
        log = self._router.ring.begin(submission.key, submission.user)
        log.began_s = log.began_s or time.monotonic()
        submission.again = (submission.session, submission.turn) in reader.follows
        reader.hold(submission.session, submission.turn)
        self._router.follow(reader, submission.session, submission.turn)

        def on_refused(event: Event) -> bool:
            return self._refused(submission, reader, event)

        self._router.expect_refusal(reader, submission.key, on_refused)

    async def publish(self, submission: Submission, reader: Reader, on_accepted: Callable[[Event], None]) -> None:
        """Publish, wait for the broker's ack, say `accepted`, then let the turn's frames go.

        Raises PublishRefusal: `unavailable` (certainly not in) or `publish_unknown` (only the same id may be sent).
        """
        outgoing, submission.outgoing = submission.outgoing, None
        assert outgoing is not None, "a submission is published once"
        partition = self._publishing.partition(TURNS, submission.session)
        entered = self._waiting.entered(submission.key, partition, submission.lives_ms / 1_000)  # before its frames
        try:
            submission.position = await self._publishing.send(outgoing, what="turn", turn=submission.turn)
        except PublishRefusal as refusal:
            proven = refusal.code is Code.PUBLISH_UNKNOWN and reader.holds(submission.session, submission.turn)
            if not proven:
                if entered:
                    self._waiting.left(submission.key)
                self._failed(submission, reader)
                raise
        accepted = event_of(
            Accepted.trusted(
                session=submission.session, turn=submission.turn, attempt=0, seq=0, at_ms=self._publishing.clock_ms(),
                tenant=submission.tenant,
            )
        )  # fmt: skip
        on_accepted(accepted)
        self._release(submission, reader, accepted)

    def withdraw(self, submission: Submission, reader: Reader) -> None:
        """The turn did not get in, or its connection is gone."""
        reader.drop(submission.session, submission.turn)
        self._router.leave(reader, submission.session, submission.turn)

    def _failed(self, submission: Submission, reader: Reader) -> None:
        """A turn that is sent again and fails is still followed for the first time that it was sent."""
        if submission.again:
            reader.release(submission.session, submission.turn)
        else:
            self.withdraw(submission, reader)

    def _release(self, submission: Submission, reader: Reader, accepted: Event) -> None:
        """No frame comes twice on one connection, also where it sends the same turn again. Of a turn that is over the
        end is not told from memory: the worker says it again, or refuses other content under a known id."""
        seen = reader.position(submission.session, submission.turn)
        if seen is None or seen < accepted.position:
            reader.start_at(submission.session, submission.turn, accepted.position)
        log = self._router.ring.get(submission.key)
        replay = catch_up(log) if log is not None and log.terminal is None else []
        self._router.spread(accepted)
        if not any(self._refused(submission, reader, event) for event in submission.early):
            reader.release(submission.session, submission.turn, replay)
        elif submission.again:
            reader.release(submission.session, submission.turn)
        else:
            reader.drop(submission.session, submission.turn)

    def _refused(self, submission: Submission, reader: Reader, event: Event) -> bool:
        """Whether `event` refuses this very record; then it is passed on and the turn is not followed any more."""
        if submission.position is None:
            submission.early.append(event)
            return False
        if event.place != (submission.position.partition, submission.position.offset):
            return False
        if not submission.again:
            self._router.leave(reader, submission.session, submission.turn)
        reader.answer(event)
        return True
