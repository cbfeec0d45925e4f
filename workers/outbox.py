"""What a worker publishes: frames, acks, receipts, dead letters. Knows topics and headers; decides nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import lru_cache

from broker.partition import partition_of
from broker.port import Acked, Outgoing, Publisher, Record
from schemas.codec import Headers, parse_reply_to, reply_to_of
from schemas.codes import MEANINGS, Code
from schemas.dead_letter import DeadLetter
from schemas.frames import Ack, Refused, encode
from schemas.ids import from_event_id, from_position, legal, split_key
from schemas.receipt import Receipt

REPLIES, USAGE, DEAD_LETTERS = "agent.replies", "agent.usage", "agent.dead-letters"
_BUNDLE_S = 0.1  # a receipt beside each reply cost the broker as much as the replies: it is paid by the batch
_log = logging.getLogger("fleet.worker")


class Countdown:
    """Calls `done` after `left` acknowledgements, with the last error, if there was one."""

    __slots__ = ("_done", "_error", "_left")

    def __init__(self, left: int, done: Acked) -> None:
        self._left = left
        self._done = done
        self._error: Exception | None = None

    def __call__(self, error: Exception | None) -> None:
        self._error = error or self._error
        noted(error)
        self._left -= 1
        if self._left == 0:
            self._done(self._error)


def noted(error: Exception | None) -> None:
    """Whatever became of a record: an error here is one that never passes."""
    if error is not None:
        _log.error("a record can never be published: %s", error)


class Outbox:
    """One per worker. Frames of a session keep their order as long as they go to one partition."""

    def __init__(self, publisher: Publisher, *, call_later: Callable[[float, Callable[[], None]], object]) -> None:
        self._publisher = publisher
        self._call_later = call_later
        self._receipts: list[Receipt] = []
        self._replies = publisher.partition_count(REPLIES)
        self.published = 0

    def frame(self, key: str, raw: bytes, to: frozenset[str | None], done: Acked | None = None) -> None:
        """Publish a frame to every place in `to`; `done(error or None)` after all acknowledgements: an error is one
        that never passes."""
        session = _record_key(key)
        if len(to) > 1 and done is not None:
            done = Countdown(len(to), done)
        for reply_to in to if len(to) == 1 else sorted(to, key=str):
            partition, headers = self._place(session, reply_to)
            self._publisher.publish(Outgoing(REPLIES, session, raw, partition, headers), done)
        self.published += len(to)

    def ack(self, key: str, ack: Ack, reply_to: str | None, done: Acked) -> None:
        """Answer a control op."""
        self.frame(key, encode(ack), frozenset((reply_to,)), done)

    def receipt(self, receipt: Receipt) -> None:
        """Book a finished turn, with its neighbours: the journal has it as well, so nobody waits for it."""
        if not self._receipts:
            self._call_later(_BUNDLE_S, self.flush)
        self._receipts.append(receipt)

    def flush(self) -> None:
        """Publish the receipts that are kept."""
        kept, self._receipts = self._receipts, []
        for receipt in kept:
            self._publisher.publish(Outgoing(USAGE, receipt.session.encode(), receipt.encode()))

    def refuse(self, record: Record, stream: str, code: Code, text: str, done: Callable[[], None], now_ms: int) -> None:
        """A dead letter with the original bytes, and a `refused` frame to whoever asked; then `done`."""
        letter = DeadLetter(
            code=code,
            reason=text,
            topic=stream,
            partition=record.partition,
            offset=record.offset,
            timestamp_ms=max(record.timestamp, 0),
        )
        answers = self._refused_frame(record, code, text, now_ms)
        acked = Countdown(1 + len(answers), lambda _: done())
        self.letter(record.key, record.value, [*letter.headers(), *record.headers], acked)
        for outgoing in answers:
            self._publisher.publish(outgoing, acked)

    def move(self, record: Record, stream: str, done: Callable[[], None]) -> None:
        """Publish a record that lies on the wrong partition to the right one: headers, time and derived id stay."""
        headers = list(_headers(record.headers))
        if not any(name == "ce_id" for name, _ in headers):
            derived = from_position(record.partition, record.offset, record.timestamp)
            headers.append(("ce_id", derived.encode()))
        right = partition_of(record.key or b"", self._publisher.partition_count(stream))
        outgoing = Outgoing(stream, record.key, record.value, right, headers, max(record.timestamp, 0))
        self._publisher.publish(outgoing, Countdown(1, lambda _: done()))

    def letter(self, key: bytes | None, value: bytes | None, headers: Headers, acked: Acked) -> None:
        """A dead letter: `headers` are its own, then the original ones."""
        partition = partition_of(key or b"", self._publisher.partition_count(DEAD_LETTERS))
        self._publisher.publish(Outgoing(DEAD_LETTERS, key, value, partition, _headers(headers)), acked)

    def _refused_frame(self, record: Record, code: Code, text: str, now_ms: int) -> list[Outgoing]:
        reply_to = reply_to_of(record.headers)
        session = (record.key or b"").decode("ascii", "replace")
        if reply_to is None and not legal(session):
            return []
        frame = Refused(
            session=session,
            turn=_turn_of(record),
            at_ms=now_ms,
            code=code,
            message=text[:1_000],
            retry=MEANINGS[code].retry,
            partition=record.partition,
            offset=record.offset,
        )
        partition, headers = self._place(session.encode(), reply_to)
        return [Outgoing(REPLIES, record.key, encode(frame), partition, headers)]

    def _place(self, session: bytes, reply_to: str | None) -> tuple[int, Headers]:
        if reply_to is not None:
            partition, headers = _gateway(reply_to)
            if partition < self._replies:
                return partition, headers
        return partition_of(session, self._replies), ()


@lru_cache(maxsize=1_024)
def _gateway(reply_to: str) -> tuple[int, Headers]:
    return parse_reply_to(reply_to)[0], (("reply_to", reply_to.encode()),)


@lru_cache(maxsize=16_384)
def _record_key(key: str) -> bytes:
    return split_key(key)[1].encode()


def _headers(headers: Headers) -> Sequence[tuple[str, bytes]]:
    return [(name, value or b"") for name, value in headers]


def _turn_of(record: Record) -> str:
    """The turn id of a record that could not be read, as far as its headers tell."""
    for name, value in record.headers:
        if name == "ce_id" and value:
            return from_event_id(value.decode("utf-8", "replace"))
    return from_position(record.partition, record.offset, record.timestamp)
