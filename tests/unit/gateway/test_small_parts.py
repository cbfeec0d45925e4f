"""Identity, allowance, readiness, events, streams: each alone."""

from __future__ import annotations

import asyncio

import pytest

from gateway.allowance import Allowance
from gateway.event import parse_event
from gateway.identity import identify, refuse_foreign_origin
from gateway.page import policy_of
from gateway.readiness import Readiness
from gateway.sse import after_of_session, after_of_turn, event_text
from schemas.codes import Code
from schemas.errors import Refusal
from tests.unit.gateway.frames import delta


def test_a_user_is_who_the_header_says_or_the_query_or_nobody() -> None:
    assert identify({"x-fleet-user": "ann"}, {"user": "bob"}).user == "ann"
    assert identify({}, {"user": "bob"}).user == "bob"
    assert identify({}).user == "anonymous"
    assert identify({"x-fleet-user": "jürgen".encode().decode("latin-1")}).user == "jürgen"


@pytest.mark.parametrize("user", ["", "a\x00b", "a\nb", "x" * 257])
def test_a_name_that_is_none_is_unauthorized(user: str) -> None:
    with pytest.raises(Refusal) as refusal:
        identify({"x-fleet-user": user})

    assert refusal.value.code is Code.UNAUTHORIZED


def test_pages_of_this_site_may_speak_and_others_not() -> None:
    refuse_foreign_origin({"host": "h:1"})
    refuse_foreign_origin({"host": "h:1", "origin": "http://h:1"})
    for origin in ("http://h:2", "http://evil", "null", "http://h:1.evil"):
        with pytest.raises(Refusal):
            refuse_foreign_origin({"host": "h:1", "origin": origin})


def test_a_burst_is_allowed_and_then_the_rate() -> None:
    bucket = Allowance(per_s=10, burst=3, now_s=0)

    assert [bucket.take(0) for _ in range(4)] == [True, True, True, False]
    assert 0 < bucket.wait_ms <= 101
    assert bucket.take(0.1)
    assert not bucket.take(0.1)
    assert [bucket.take(100) for _ in range(4)] == [True, True, True, False]


async def test_readiness_is_asked_once_and_remembered_for_a_moment() -> None:
    asked: list[float] = []
    now = 0.0

    async def fine() -> str | None:
        asked.append(now)
        return None

    async def broken() -> str | None:
        raise RuntimeError("no broker")

    readiness = Readiness({"fine": fine, "broken": broken}, clock_s=lambda: now, fresh_s=1.0)
    first = await asyncio.gather(*(readiness.read() for _ in range(5)))
    await readiness.read()
    now = 1.5
    await readiness.read()

    assert asked == [0.0, 1.5]
    assert (first[0].ready, dict(first[0].faults)) == (False, {"broken": "no broker"})


async def test_a_check_that_hangs_is_a_fault_and_is_not_started_twice() -> None:
    started = 0

    async def hangs() -> str | None:
        nonlocal started
        started += 1
        await asyncio.Event().wait()
        return None

    readiness = Readiness({"hangs": hangs}, clock_s=lambda: 0.0, fresh_s=0.0, wait_s=0.0)
    readings = [await readiness.read() for _ in range(3)]
    await readiness.stop()

    assert started == 1
    assert all(not reading.ready for reading in readings)


@pytest.mark.parametrize("value", [b"", b"{", b"[]", b"{}", b'"x"', b'{"type":"delta"}', b"\xff"])
def test_a_reply_that_is_none_of_ours_is_nothing(value: bytes) -> None:
    assert parse_event(value) is None


def test_an_event_stream_says_where_to_go_on() -> None:
    event = delta(3, "x")

    assert event_text(event.raw, event, of_session=False) == f"id: 1-3\ndata: {event.raw}\n\n"
    assert event_text(event.raw, event, of_session=True) == f"id: t~1-3\ndata: {event.raw}\n\n"
    assert "\n" not in event.raw


def test_a_place_in_a_stream_is_read_or_refused() -> None:
    assert after_of_turn(None) is None
    turn, session = after_of_turn("1-3"), after_of_session("t.1~1-3")
    assert turn is not None
    assert turn.position == (1, 3)
    assert session is not None
    assert (session.turn, session.position) == ("t.1", (1, 3))
    for bad in ("x", "1", "t~", "~1-2"):
        with pytest.raises(Refusal):
            after_of_session(bad)


def test_the_policy_names_the_script_and_the_style_by_their_hashes() -> None:
    policy = policy_of("<style>a{}</style><script>x</script>")

    assert policy.count("sha256-") == 2
    assert "script-src 'sha256-" in policy


def test_a_ref_is_put_in_front_and_nothing_else_changes() -> None:
    event = delta(3, "x")

    assert event.with_ref(None) == event.raw
    assert event.with_ref('a"b') == '{"ref":"a\\"b",' + event.raw[1:]
