"""`fleet dead-letters` as it is typed: what each command prints and exits with, over the in-memory twins."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from broker.memory import MemoryCluster, MemoryPublisher, MemoryScan, Verdict
from broker.port import Outgoing, TopicState
from fleet import dead_letters
from fleet.__main__ import app
from fleet.exits import CommandError, Exit
from fleet.letter import CONTROL, DEAD_LETTERS, TURNS
from fleet.moment import moment_ms
from fleet.redrive import Office
from journal.memory import MemoryStore
from schemas.codes import Code
from schemas.dead_letter import DeadLetter

NOW_MS = 1_800_000_000_000
HOUR_MS = 3_600_000


class Place:
    """A cluster and a store that outlive a command."""

    def __init__(self) -> None:
        self.cluster = MemoryCluster()
        self.store = MemoryStore()
        for name, partitions in ((TURNS, 12), (CONTROL, 12), (DEAD_LETTERS, 4)):
            self.cluster.make(TopicState(name, partitions, 1, {}))

    @contextlib.asynccontextmanager
    async def connected(self, _: Path | None) -> AsyncIterator[Office]:
        publisher = MemoryPublisher(self.cluster, (TURNS, CONTROL), timeout_s=0.05)
        try:
            await publisher.start()
            yield Office(MemoryScan(self.cluster), publisher, self.store, lambda: NOW_MS)
        finally:
            await publisher.stop()

    def letter(self, offset: int, code: Code = Code.BAD_REQUEST, session: str = "s1", **fields: Any) -> str:
        """A letter about a record of partition 7; `at_ms`: when it was written. Its id."""
        at_ms = fields.pop("at_ms", NOW_MS - HOUR_MS)
        value = fields.pop("value", json.dumps({"turn": f"t{offset}", "text": "hi"}).encode())
        reason = fields.pop("reason", "as the test wants")
        ms = fields.pop("timestamp_ms", 0)
        head = DeadLetter(code=code, reason=reason, topic=TURNS, partition=7, offset=offset, timestamp_ms=ms)
        headers = [*head.headers(), *fields.pop("headers", ())]
        self.cluster.append(DEAD_LETTERS, 1, Outgoing(DEAD_LETTERS, session.encode(), value, 1, headers, at_ms))
        return head.id

    def releases(self) -> list[tuple[str, str | None]]:
        """The letter and turn of each release, in order."""
        records = [record for n in range(12) for record in self.cluster.log("agent.control", n).records]
        said = [json.loads(record.value or b"{}") for record in records]
        return [(op["letter"], op.get("turn")) for op in said]

    def turns(self) -> list[str]:
        """The turn ids on the topic, in order."""
        logs = [self.cluster.log(TURNS, number).records for number in range(12)]
        return [json.loads(record.value or b"")["turn"] for log in logs for record in log]


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Place:
    made = Place()
    monkeypatch.setattr(dead_letters, "connected", made.connected)
    monkeypatch.setattr(dead_letters, "_clock_ms", lambda: NOW_MS)
    return made


def fleet(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["dead-letters", *arguments])


def as_json(*arguments: str) -> Any:
    result = fleet(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def ids(*arguments: str) -> list[int]:
    """The offsets of what is listed."""
    return [int(row["id"].split("@")[1]) for row in as_json("list", *arguments)["letters"]]


def complaint(*arguments: str) -> CommandError:
    error = fleet(*arguments).exception
    assert isinstance(error, CommandError), error
    return error


def test_list_filters_by_code_session_and_time(place: Place) -> None:
    place.letter(1, Code.POISON, at_ms=NOW_MS - 3 * HOUR_MS)
    place.letter(2, Code.TOO_LARGE, session="s2")
    place.letter(3, Code.POISON, session="s2", at_ms=NOW_MS - 60_000)
    place.letter(3, Code.POISON, session="s2", at_ms=NOW_MS - 50_000)  # a copy
    assert ids() == [1, 2, 3]
    assert ids("--code", "poison") == [1, 3]
    assert ids("--code", "poison", "--code", "too_large") == [1, 2, 3]
    assert ids("--session", "s2") == [2, 3]
    assert ids("--since", "2h") == [2, 3]
    assert ids("--until", "30m") == [1, 2]
    assert ids("--since", "2h", "--until", "30m", "--session", "s2") == [2]


def test_list_for_people_has_a_line_a_letter_and_obeys_no_markup_and_no_control_characters(place: Place) -> None:
    place.letter(1, session="s1", reason="[bold]no[/bold] \x1b[31mred")
    out = re.sub(r"\s+", " ", fleet("list").stdout)
    assert "agent.turns/7@1" in out
    assert "bad_request" in out
    assert "[bold]no[/bold]" in out
    assert "\x1b" not in out
    assert "no dead letters" in fleet("list", "--code", "poison").stdout


def test_records_that_are_no_letters_are_counted_and_spoil_nothing(place: Place) -> None:
    place.cluster.append(DEAD_LETTERS, 0, Outgoing(DEAD_LETTERS, b"k", b"v", 0))
    place.letter(1)
    assert as_json("list")["foreign"] == 1
    assert "1 records on the topic are no letters" in fleet("list").stderr


def test_show_prints_headers_and_original_bytes(place: Place) -> None:
    place.letter(1, value=b'{"turn":"t1","text":"\xc3\xbc"}', headers=[("x-mine", b"seen"), ("raw", b"\xff")])
    place.letter(2, value=b"\x00\xff")
    place.letter(3, value=None)
    whole = as_json("show", "agent.turns/7@1")
    assert (whole["turn"], whole["value"]) == ("t1", '{"turn":"t1","text":"ü"}')
    assert whole["headers"] == [["x-mine", "seen"], ["raw", None]]
    shown = fleet("show", "agent.turns/7@1").stdout
    assert "seen" in shown
    assert '{"turn":"t1","text":"ü"}' in shown
    assert "base64 AP8=" in fleet("show", "agent.turns/7@2").stdout
    assert "(no value)" in fleet("show", "agent.turns/7@3").stdout


def test_what_does_not_exist_has_exit_code_1(place: Place) -> None:
    assert complaint("show", "agent.turns/7@9").code == Exit.DIFFERENT
    for command in ("redrive", "discard"):
        result = fleet(command, "agent.turns/7@9")
        assert result.exit_code == Exit.DIFFERENT
        assert "there is no dead letter agent.turns/7@9" in result.stderr


def test_redrive_by_id_publishes_once_and_says_what_was_done_before(place: Place) -> None:
    letter = place.letter(1)
    done = as_json("redrive", letter)["letters"]
    assert done == [{"id": letter, "state": "redriven", "turn": "t1", "published": True}]
    again = fleet("redrive", letter)
    assert (again.exit_code, place.turns()) == (0, ["t1"])
    assert "redriven before as turn t1" in again.stdout
    assert ids() == []
    assert ids("--all-states") == [1]


def test_redrive_all_takes_what_is_open_in_order_and_what_the_filters_leave(place: Place) -> None:
    for offset in (5, 1, 3):
        place.letter(offset)
    place.letter(2, Code.TOO_LARGE)
    fleet("discard", "agent.turns/7@3")
    result = fleet("redrive", "--all", "--code", "bad_request")
    assert result.exit_code == 0
    assert place.turns() == ["t1", "t5"]
    assert "no dead letters that are open" in fleet("redrive", "--all", "--code", "bad_request").stdout
    assert ids() == [2]


def test_redrive_all_ends_what_a_crash_left_undone(place: Place) -> None:
    place.letter(1, Code.POISON)
    place.cluster.judge = lambda _: Verdict.TAKE_SILENTLY  # it is in, and nobody knows
    failed = complaint("redrive", "--all")
    assert failed.code == Exit.UNREACHABLE
    assert "do it again" in failed.text
    assert ids() == [1]
    assert as_json("list")["letters"][0]["state"] == "redriving"
    place.cluster.judge = lambda _: Verdict.TAKE
    assert fleet("redrive", "--all").exit_code == 0
    assert len(set(place.turns())) == 1


def test_a_letter_of_a_topic_that_was_created_anew_is_none_of_the_old_ones(place: Place) -> None:
    old, new = place.letter(1, timestamp_ms=NOW_MS - 5), place.letter(1, timestamp_ms=NOW_MS - 1, session="s2")
    assert fleet("redrive", old).exit_code == 0
    assert [row["id"] for row in as_json("list")["letters"]] == [new]
    assert as_json("discard", new)["letters"][0]["state"] == "discarded"


def test_discard_hides_and_does_not_publish(place: Place) -> None:
    letter = place.letter(1)
    assert as_json("discard", letter)["letters"][0]["state"] == "discarded"
    assert fleet("discard", letter).exit_code == 0
    assert ids() == []
    assert as_json("list", "--all-states")["letters"][0]["state"] == "discarded"
    refused = fleet("redrive", letter)
    assert (refused.exit_code, place.turns()) == (Exit.DIFFERENT, [])
    assert "discarded" in refused.stdout


def test_discarding_a_poisonous_turn_ends_its_sessions_quarantine(place: Place) -> None:
    letter = place.letter(1, Code.POISON)
    assert fleet("discard", letter).exit_code == 0
    assert place.releases() == [(letter, None)]


def test_discard_all_ends_what_a_crash_left_undone(place: Place) -> None:
    letter = place.letter(1, Code.POISON)
    place.cluster.judge = lambda _: Verdict.DROP
    assert complaint("discard", "--all").code == Exit.UNREACHABLE
    assert as_json("list")["letters"][0]["state"] == "discarding"
    assert "is being discarded" in fleet("redrive", letter).stdout
    place.cluster.judge = lambda _: Verdict.TAKE
    assert fleet("discard", "--all").exit_code == 0
    assert place.releases() == [(letter, None)]
    assert ids() == []


def test_a_redriven_letter_cannot_be_discarded(place: Place) -> None:
    letter = place.letter(1)
    fleet("redrive", letter)
    assert fleet("discard", letter).exit_code == Exit.DIFFERENT
    assert as_json("list", "--all-states")["letters"][0]["state"] == "redriven"


@pytest.mark.parametrize(
    "arguments",
    [
        ("redrive",),
        ("discard",),
        ("redrive", "a", "--all"),
        ("redrive", "a", "--code", "poison"),
        ("discard", "a", "--session", "s1"),
        ("list", "--code", "poizon"),
        ("list", "--since", "yesterday"),
    ],
)
def test_what_cannot_be_meant_is_wrong_usage(place: Place, arguments: tuple[str, ...]) -> None:
    assert complaint(*arguments).code == Exit.USAGE


def test_a_broker_that_is_away_is_unreachable(place: Place) -> None:
    place.letter(1)
    place.cluster.fail()
    for command in (("list",), ("show", "x"), ("redrive", "--all"), ("discard", "--all")):
        assert complaint(*command).code == Exit.UNREACHABLE


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30m", NOW_MS - HOUR_MS // 2),
        ("2d", NOW_MS - 48 * HOUR_MS),
        ("1970-01-01T00:00:01", 1_000),
        ("1970-01-01T01:00:01+01:00", 1_000),
        ("1970-01-02", 24 * HOUR_MS),
    ],
)
def test_moments_are_ages_or_iso_8601(text: str, expected: int) -> None:
    assert moment_ms(text, now_ms=NOW_MS) == expected
