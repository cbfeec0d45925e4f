"""Who gets what: by tenant, session and turn, once."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from gateway.event import Event, event_of
from gateway.metrics import Metrics
from gateway.reader import Reader
from gateway.ring import Ring
from gateway.router import Router
from schemas.codes import Code
from schemas.frames import Ack, Refused
from tests.unit.gateway.frames import completed, delta, started


def router() -> Router:
    return Router(Ring(max_turns=100, max_bytes=1_000_000), Metrics(CollectorRegistry()))


def reader(tenant: str = "default", user: str = "ann") -> tuple[Reader, list[Event]]:
    seen: list[Event] = []
    return Reader(tenant, user, seen.append), seen


def test_a_turn_goes_to_its_followers_and_to_those_of_its_session_once() -> None:
    house = router()
    (one, of_turn), (two, of_session), (three, of_both), (four, of_other) = (reader() for _ in range(4))
    house.follow(one, "s", "t")
    house.follow(two, "s", None)
    house.follow(three, "s", "t")
    house.follow(three, "s", None)
    house.follow(four, "s", "u")
    house.deliver(started())
    house.deliver(started())

    assert [len(seen) for seen in (of_turn, of_session, of_both, of_other)] == [1, 1, 1, 0]


def test_two_tenants_sessions_of_one_name_are_two() -> None:
    house = router()
    own, seen = reader("default")
    other, nothing = reader("other")
    house.follow(own, "s", None)
    house.follow(other, "s", None)
    house.deliver(started())

    assert (len(seen), len(nothing)) == (1, 0)


def test_after_the_end_a_turn_has_no_followers_and_a_session_has() -> None:
    house = router()
    one, _ = reader()
    two, _ = reader()
    house.follow(one, "s", "t")
    house.follow(two, "s", None)
    house.deliver(completed(0, "x"))

    assert one.follows == set()
    assert two.follows == {("s", None)}


def test_a_connection_that_ended_follows_nothing() -> None:
    house = router()
    one, seen = reader()
    house.follow(one, "s", "t")
    house.follow(one, "s", None)
    house.leave_all(one)
    house.deliver(started())

    assert seen == []
    assert one.follows == set()


def test_an_ack_goes_to_whoever_sent_the_op_and_nobody_else() -> None:
    house = router()
    acks: list[Event] = []
    follower, seen = reader()
    house.follow(follower, "s", None)
    house.expect_ack("op1", acks.append)
    for op in ("op0", "op1", "op1"):
        house.deliver(event_of(Ack(op=op, session="s", state="applied", at_ms=1)))

    assert [event.op for event in acks] == ["op1"]
    assert seen == []


def test_a_refusal_goes_to_the_one_whose_record_it_answers() -> None:
    house = router()
    asked: list[int] = []
    follower, seen = reader()
    house.follow(follower, "s", "t")

    def on_refused(event: Event) -> bool:
        asked.append(1)
        return event.place == (0, 7)

    house.expect_refusal(follower, ("default", "s", "t"), on_refused)
    for offset in (6, 7, 7):
        house.deliver(
            event_of(
                Refused(
                    session="s", turn="t", at_ms=1, code=Code.CONFLICT, message="m", retry="no", partition=0,
                    offset=offset,
                )
            )
        )  # fmt: skip

    assert len(asked) == 2, "after its own it is not asked any more"
    assert seen == [], "a refusal is no frame of the turn"


def test_whoever_left_is_told_of_no_refusal() -> None:
    house = router()
    follower, _ = reader()
    house.follow(follower, "s", "t")
    house.expect_refusal(follower, ("default", "s", "t"), lambda _: pytest.fail("it has left"))
    house.leave_all(follower)
    house.deliver(
        event_of(
            Refused(session="s", turn="t", at_ms=1, code=Code.CONFLICT, message="m", retry="no", partition=0, offset=1)
        )
    )


def test_whoever_lost_the_session_stops_following_it() -> None:
    house = router()
    ann, of_ann = reader(user="ann")
    bob, of_bob = reader(user="bob")
    house.follow(ann, "s", None)
    house.follow(ann, "s", "t")
    house.follow(bob, "s", None)
    house.evict(("default", "s"), "bob")
    house.deliver(started())
    house.deliver(delta(1, "secret"))

    assert of_ann == []
    assert len(of_bob) == 2


def test_the_end_of_another_gateways_turn_renews_the_watch() -> None:
    house = router()
    ended: list[tuple[str, str]] = []
    house.on_foreign_end = lambda event, user: ended.append((event.turn, user))
    watcher, _ = reader()
    house.deliver(completed(0, "x", turn="nobody watches"))
    house.follow(watcher, "s", None)
    house.ring.begin(("default", "s", "own"), "ann")
    house.deliver(completed(0, "x", turn="own"))
    house.deliver(completed(0, "x", turn="foreign"))

    assert ended == [("foreign", "ann")]
