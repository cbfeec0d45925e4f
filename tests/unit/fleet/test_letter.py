"""A dead letter as it is read from its topic, and which ones a filter means."""

from __future__ import annotations

import base64

import pytest

from fleet.letter import Wanted, deduplicated, described, read_letter, summary
from journal.port import LetterMark
from schemas.codes import Code
from schemas.dead_letter import DeadLetter
from tests.support.records import PlainRecord


def head(offset: int = 5, code: Code = Code.POISON, topic: str = "agent.turns") -> DeadLetter:
    return DeadLetter(code=code, reason="why", topic=topic, partition=2, offset=offset, attempts=3, timestamp_ms=77)


def record(letter: DeadLetter, *original: tuple[str, bytes], **fields: object) -> PlainRecord:
    return PlainRecord(headers=(*letter.headers(), *original), topic="agent.dead-letters", **fields)  # type: ignore[arg-type]


def test_original_headers_stay_apart_from_ours_even_under_the_same_name() -> None:
    letter = read_letter(record(head(), ("dl_code", b"mine"), ("x", b"\xff"), ("dl_reason", b"too")))
    assert letter is not None
    assert letter.original.headers == (("dl_code", b"mine"), ("x", b"\xff"), ("dl_reason", b"too"))
    assert (letter.id, letter.head.code, letter.session) == ("agent.turns/2@5-77", "poison", "s1")
    assert (letter.original.partition, letter.original.offset, letter.original.timestamp) == (2, 5, 77)


@pytest.mark.parametrize("headers", [(), (("dl_code", b"poison"),), (("dl_code", b"no such code"),)])
def test_a_record_without_our_headers_is_no_letter(headers: tuple[tuple[str, bytes], ...]) -> None:
    assert read_letter(PlainRecord(headers=headers)) is None


def test_the_turn_has_the_id_that_it_had_at_its_own_place() -> None:
    letter = read_letter(record(head()))
    assert letter is not None
    decoded = letter.decoded()
    assert decoded is not None
    assert decoded.id == "at-2-5-77"
    for other in (record(head(topic="agent.control")), record(head(), value=b"{nope"), record(head(), value=None)):
        unread = read_letter(other)
        assert unread is not None
        assert unread.decoded() is None


def test_copies_are_one_letter_and_sessions_keep_their_order() -> None:
    found = [read_letter(record(head(offset), value=b"%d" % n)) for n, offset in enumerate((9, 5, 9, 7))]
    letters = deduplicated([letter for letter in found if letter is not None])
    assert [(letter.head.offset, letter.original.value) for letter in letters] == [(5, b"1"), (7, b"3"), (9, b"0")]


@pytest.mark.parametrize(
    ("wanted", "fits"),
    [
        (Wanted(), True),
        (Wanted(codes=frozenset({Code.POISON, Code.BUSY})), True),
        (Wanted(codes=frozenset({Code.BUSY})), False),
        (Wanted(session="s1"), True),
        (Wanted(session="s"), False),
        (Wanted(since_ms=1_000), True),
        (Wanted(since_ms=1_001), False),
        (Wanted(until_ms=1_001), True),
        (Wanted(until_ms=1_000), False),
    ],
)
def test_a_filter_leaves_what_it_means(wanted: Wanted, fits: bool) -> None:
    letter = read_letter(record(head(), timestamp=1_000))
    assert letter is not None
    assert wanted.matches(letter) is fits


def test_a_description_has_every_byte() -> None:
    letter = read_letter(record(head(), ("x", b"\xff"), value=b"\x00\xff"))
    assert letter is not None
    whole = described(letter, None)
    assert (whole["value"], base64.b64decode(whole["value_base64"])) == (None, b"\x00\xff")
    assert whole["headers"] == [["x", None]]
    assert base64.b64decode(whole["headers_base64"][0][1]) == b"\xff"
    assert (whole["state"], whole["turn"]) == ("open", None)


def test_a_summary_says_what_was_done() -> None:
    letter = read_letter(record(head()))
    assert letter is not None
    found = summary(letter, LetterMark(letter.id, "redriven", "t9", 1))
    assert (found["state"], found["redriven_as"], found["attempts"]) == ("redriven", "t9", 3)
