"""Bytes into events: every cut, every kind of line end."""

from __future__ import annotations

import pytest

from workers.models import sse
from workers.models.sse import Events, EventTooLarge

STREAM = (
    b': hello\n\ndata: {"a":"\xc3\xa4"}\n\nevent: x\nid: 7\ndata: one\ndata: two\n\nretry: 10\n\ndata:tight\n\n'
    b"data: [DONE]\n\n"
)
EVENTS = [b'{"a":"\xc3\xa4"}', b"one\ntwo", b"tight", b"[DONE]"]


def read(*pieces: bytes) -> list[bytes]:
    events = Events()
    found = [event for piece in pieces for event in events.feed(piece)]
    return found + events.end()


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_events_are_the_same_wherever_the_stream_is_cut(end: bytes) -> None:
    stream = STREAM.replace(b"\n", end)
    assert read(stream) == EVENTS
    for place in range(len(stream)):
        assert read(stream[:place], stream[place:]) == EVENTS, place
    assert read(*(stream[i : i + 1] for i in range(len(stream)))) == EVENTS


def test_a_byte_order_mark_is_left_out() -> None:
    assert read(b"\xef", b"\xbb\xbfdata: x\n\n") == [b"x"]


def test_a_last_event_counts_without_its_blank_line() -> None:
    assert read(b"data: a\n\ndata: [DONE]\n") == [b"a", b"[DONE]"]
    assert read(b"data: a\n\ndata: [DONE]") == [b"a", b"[DONE]"]


def test_a_body_that_is_no_stream_is_handed_out_at_its_end() -> None:
    assert read(b'{"error":', b' {"message": "no"}}\n') == [b'{"error": {"message": "no"}}']


def test_nothing_gives_nothing() -> None:
    assert read() == read(b"") == read(b"\n\n\r\n") == []


def test_an_event_without_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 100)
    events = Events()
    events.feed(b"data: " + b"x" * 90)
    with pytest.raises(EventTooLarge):
        events.feed(b"x" * 10)
