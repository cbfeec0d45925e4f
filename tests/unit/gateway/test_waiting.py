"""The queue's age as one gateway sees it: what counts, what does not, and that it forgets."""

from __future__ import annotations

import pytest

from gateway.event import Event, TurnKey, event_of
from gateway.waiting import Waiting
from schemas.codes import Code
from schemas.frames import Cancelled, Completed, Refused, Started
from tests.unit.gateway.frames import ids


class Seen:
    """A `Waiting` with a clock that the test moves; turns are named `<session>.<number>`."""

    def __init__(self, max_turns: int = 1_000) -> None:
        self.now_s = 100.0
        self.waiting = Waiting(clock_s=lambda: self.now_s, max_turns=max_turns)

    def after(self, seconds: float) -> Seen:
        self.now_s += seconds
        return self

    def send(self, name: str, partition: int = 0, lives_s: float = 300.0) -> bool:
        return self.waiting.entered(key_of(name), partition, lives_s)

    def begin(self, name: str) -> None:
        self.waiting.heard(started(name))

    def end(self, name: str) -> None:
        self.waiting.heard(completed(name))

    @property
    def age_s(self) -> float:
        return self.waiting.age_s(0)


def key_of(name: str) -> TurnKey:
    return ("default", name.split(".")[0], name)


def started(name: str) -> Event:
    fields = ids(1, 0, name, name.split(".")[0])
    return event_of(Started(**fields, agent="a", agent_version="1", worker="w", journal_version=1))


def completed(name: str) -> Event:
    return event_of(Completed(**ids(1, 1, name, name.split(".")[0]), text=""))


def test_the_age_is_that_of_the_oldest_turn_that_has_not_begun() -> None:
    seen = Seen()
    assert seen.age_s == 0
    seen.send("a.1")
    seen.after(3).send("b.1")
    seen.after(4)
    assert seen.age_s == 7
    seen.begin("a.1")
    assert seen.age_s == 4
    assert seen.waiting.oldest_s() == 4
    seen.begin("b.1")
    assert seen.age_s == 0


def test_a_turn_that_ends_without_a_started_has_begun() -> None:
    seen = Seen()
    seen.send("a.1")
    seen.after(5).end("a.1")
    assert (seen.age_s, len(seen.waiting)) == (0, 0)


def test_partitions_have_ages_of_their_own() -> None:
    seen = Seen()
    seen.send("a.1", 0)
    seen.after(2).send("b.1", 1)
    seen.after(1)
    assert [seen.waiting.age_s(partition) for partition in (0, 1, 2)] == [3, 1, 0]


def test_a_turn_behind_a_long_one_of_its_own_session_does_not_count() -> None:
    seen = Seen()
    seen.send("a.1")
    seen.begin("a.1")
    seen.send("a.2")
    assert seen.after(100).age_s == 0
    seen.end("a.1")
    assert seen.after(6).age_s == 6, "its session is free since then"


def test_only_the_first_of_a_thousand_turns_of_one_session_counts() -> None:
    seen = Seen()
    for number in range(1_000):
        seen.send(f"a.{number}", lives_s=1e6)
    for number in range(1_000):
        assert seen.after(1).age_s == 1
        seen.begin(f"a.{number}")
        assert seen.age_s == 0
        seen.end(f"a.{number}")
    assert len(seen.waiting) == 0


def test_what_a_later_turn_overtook_does_not_wait_for_the_fleet() -> None:
    seen = Seen()
    seen.send("stuck.1")  # its session is at work for another gateway, say
    seen.after(50).send("b.1")
    assert seen.after(1).age_s == 51
    seen.begin("b.1")
    assert seen.age_s == 0


def test_a_session_that_goes_on_in_its_slot_overtakes_nobody() -> None:
    seen = Seen()
    seen.send("a.1")
    seen.begin("a.1")
    seen.send("a.2")
    seen.after(1).send("b.1")
    seen.after(10)
    seen.end("a.1")
    seen.begin("a.2")
    assert seen.age_s == 10, "b.1 still waits for a slot"


@pytest.mark.parametrize("kind", ["refused", "cancelled"])
def test_a_turn_that_never_ran_leaves_and_overtakes_nobody(kind: str) -> None:
    seen = Seen()
    seen.send("a.1")
    seen.after(5).send("b.1")
    fields = ids(0, 1, "b.1", "b")
    if kind == "refused":
        del fields["attempt"], fields["seq"]
        refused = Refused(**fields, code=Code.BAD_REQUEST, message="", retry="no", partition=0, offset=1)
        seen.waiting.heard(event_of(refused))
    else:
        seen.waiting.heard(event_of(Cancelled(**fields, by="user", text="")))
    assert (seen.age_s, len(seen.waiting)) == (5, 1)


def test_frames_of_turns_that_others_sent_are_nothing_to_it() -> None:
    seen = Seen()
    seen.send("a.1")
    seen.begin("x.1")
    seen.end("a.7")
    assert (seen.after(1).age_s, len(seen.waiting)) == (1, 1)


def test_a_turn_that_is_sent_again_is_here_already() -> None:
    seen = Seen()
    assert seen.send("a.1")
    seen.after(5)
    assert not seen.send("a.1")
    assert key_of("a.1") in seen.waiting
    assert (seen.age_s, len(seen.waiting)) == (5, 1)


def test_a_turn_that_did_not_get_in_leaves() -> None:
    seen = Seen()
    seen.send("a.1")
    seen.send("a.2")
    seen.after(5)
    seen.waiting.left(key_of("a.1"))
    assert (seen.age_s, len(seen.waiting)) == (0, 1)
    seen.waiting.left(key_of("a.1"))
    assert len(seen.waiting) == 1


def test_a_turn_leaves_at_its_deadline() -> None:
    seen = Seen()
    seen.send("a.1", lives_s=10)
    assert seen.after(9).age_s == 9
    assert seen.after(1).age_s == 0
    assert len(seen.waiting) == 0


def test_what_was_begun_and_never_ended_leaves_after_its_deadline() -> None:
    seen = Seen()
    seen.send("a.1", lives_s=10)
    seen.begin("a.1")
    seen.after(11).send("b.1")
    assert len(seen.waiting) == 1


def test_it_keeps_no_more_than_so_many() -> None:
    seen = Seen(max_turns=100)
    for number in range(1_000):
        seen.after(1).send(f"s{number}.1", number % 7, lives_s=1e9)
    assert len(seen.waiting) == 100
    assert seen.waiting.oldest_s() == 99
