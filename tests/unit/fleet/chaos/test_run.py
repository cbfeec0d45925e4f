"""`fleet chaos run`: what it refuses, what counts as a pass, what the report says. Starts no process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fleet.__main__ import app
from fleet.chaos.aftermath import by_kind, measure
from fleet.chaos.breaking import Done
from fleet.chaos.finding import Finding, Kind, Verdict
from fleet.chaos.plan import Fault
from fleet.chaos.report import Report
from fleet.chaos.run import Wish, engine, failures_of, faults_of, named, shape_of
from fleet.chaos.score import Score
from fleet.chaos.stack import Shape
from fleet.chaos.traffic import Ask
from fleet.exits import CommandError, Exit

WISH = Wish(minutes=1, seed=1)
ASK = Ask("s", "t", "echo", "say t", "say t", False)


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def refused(*arguments: str) -> CommandError:
    result = CliRunner().invoke(app, ["chaos", "run", *arguments])
    assert isinstance(result.exception, CommandError), result.output
    return result.exception


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("FLEET_KAFKA_BOOTSTRAP", "k:9092")
    monkeypatch.setenv("FLEET_MONGO_URI", "mongodb://m/?replicaSet=rs0")
    return monkeypatch


def test_a_cluster_that_is_not_marked_is_refused_unless_told_twice(given: pytest.MonkeyPatch) -> None:
    for arguments in ((), ("--force",)):
        error = refused(*arguments)
        assert error.code == Exit.USAGE
        assert "not marked as a test cluster" in error.text
    shape = shape_of(Wish(minutes=1, seed=1, forced=2))
    assert (shape.bootstrap, shape.kafka, shape.mongods) == ("k:9092", "given", 0)


def test_a_marked_cluster_is_used_as_it_is_and_only_our_processes_are_broken(given: pytest.MonkeyPatch) -> None:
    given.setenv("FLEET_TOPIC_PREFIX", "test.")
    with pytest.raises(CommandError, match="not marked"):
        shape_of(WISH)
    given.setenv("FLEET_MONGO_DATABASE", "test_turnfleet")
    shape = shape_of(WISH)

    assert (shape.prefix, shape.database) == ("test.", "test_turnfleet")
    assert not set(faults_of(WISH, shape)) & {Fault.BROKER, Fault.PRIMARY, Fault.STEP_DOWN}
    assert "cannot break broker" in refused("--faults", "kill,broker").text


def test_one_address_alone_is_refused(given: pytest.MonkeyPatch) -> None:
    given.delenv("FLEET_MONGO_URI")

    assert "set both" in refused().text


def test_faults_are_what_the_stack_can_break() -> None:
    three = Shape(kafka="apache", mongods=3)
    assert set(Fault) - set(faults_of(WISH, three)) == {Fault.BROKER_FREEZE}
    assert set(faults_of(WISH, Shape(kafka="apache", brokers=3, mongods=3))) == set(Fault)
    embedded = Shape(kafka="embedded", mongods=1)
    assert set(Fault) - set(faults_of(WISH, embedded)) == {Fault.BROKER, Fault.BROKER_FREEZE, Fault.STEP_DOWN}
    assert faults_of(Wish(minutes=1, seed=1, faults=(Fault.KILL,)), three) == (Fault.KILL,)


def test_names_that_nobody_knows_are_refused() -> None:
    assert named(" kill, gateway-drain ,") == (Fault.KILL, Fault.GATEWAY_DRAIN)
    assert "there are kill" in refused("--faults", "kil").text
    assert engine("embedded") == "embedded"
    assert "neither apache nor embedded" in refused("--kafka", "redpanda").text
    assert "several need Apache Kafka" in refused("--kafka", "embedded", "--brokers", "3").text


def score(clock: Clock | None = None) -> Score:
    return Score(clock or Clock())


def answered(score: Score, **frame: Any) -> None:
    score.heard({"type": "completed", "session": "s", "turn": "t", "text": "say t", **frame})


def test_a_score_counts_each_turn_once_and_knows_what_is_missing() -> None:
    clock = Clock()
    counted = score(clock)
    counted.offered(ASK)
    counted.accepted(ASK)
    assert counted.unanswered == {"t"}
    clock.now_s += 2.5
    for _ in range(2):
        answered(counted)
    answered(counted, turn="foreign")
    answered(counted, type="delta")

    said = counted.as_json()
    assert (said["offered"], said["accepted"], said["answered"]) == (1, 1, 1)
    assert said["latency"]["p99_ms"] == 2_500
    assert [row[:2] for row in counted.seconds()] == [(0, 0), (1, 0), (2, 1)]
    assert not counted.unanswered


def test_an_answer_that_is_another_one_is_wrong() -> None:
    counted = score()
    counted.offered(ASK)
    answered(counted, text="else")

    assert "answered 'else'" in counted.wrong[0]


def begun(score: Score, turn: str, attempt: int, pid: int) -> None:
    score.heard({"type": "started", "turn": turn, "attempt": attempt, "worker": f"a-host-{pid}-c0ffee"})


def test_a_take_over_is_a_turn_of_the_broken_process_that_goes_on_in_another() -> None:
    clock = Clock()
    counted = score(clock)
    for turn, pid in (("a", 7), ("b", 7), ("c", 7), ("d", 8)):
        begun(counted, turn, 1, pid)
    for pause_s, turn, pid in ((2.0, "a", 8), (3.0, "d", 9), (1.5, "b", 9), (0.5, "c", 7), (90.0, "a", 9)):
        clock.now_s += pause_s
        begun(counted, turn, 2, pid)

    assert counted.taken_over(1.0, 21.0, 7) == [1.0, 5.5]
    assert counted.taken_over(1.0, 21.0, 8) == [4.0]
    assert counted.taken_over(30.0, 50.0, 7) == []


def test_silence_is_the_longest_time_between_two_completed_turns() -> None:
    clock = Clock()
    counted = score(clock)
    for number, (pause_s, word) in enumerate(
        ((1.0, "completed"), (3.0, "completed"), (1.0, "failed"), (1.0, "completed"))
    ):
        clock.now_s += pause_s
        counted.offered(ASK._replace(turn=f"t{number}"))
        answered(counted, turn=f"t{number}", type=word)

    assert counted.silence_s() == 3.0
    assert counted.silence_s(4.5, 10.0) == 2.0
    assert counted.silence_s(50.0) == 0.0


def waited(counted: Score, clock: Clock, turn: str, sent_s: float, end_s: float) -> None:
    clock.now_s = 100.0 + sent_s
    counted.offered(ASK._replace(turn=turn))
    clock.now_s = 100.0 + end_s
    answered(counted, turn=turn)


def test_recovery_is_the_longest_wait_of_a_turn_even_while_others_flow() -> None:
    clock = Clock()
    counted = score(clock)
    waited(counted, clock, "before", 1.0, 4.0)
    waited(counted, clock, "flows", 6.0, 6.5)
    waited(counted, clock, "was there", 3.0, 12.0)
    waited(counted, clock, "came into it", 7.0, 14.5)
    waited(counted, clock, "after", 11.0, 50.0)

    assert counted.recovery_s(5.0, 10.0) == 7.5
    assert counted.recovery_s(5.0, 6.0) == 7.0
    assert counted.recovery_s(60.0, 70.0) == 0.0


def test_the_aftermath_of_a_fault_says_whether_another_was_felt_with_it() -> None:
    clock = Clock()
    counted = score(clock)
    begun(counted, "x", 1, 7)
    waited(counted, clock, "a", 9.0, 17.0)
    begun(counted, "x", 2, 8)
    waited(counted, clock, "b", 20.0, 21.0)
    waited(counted, clock, "c", 99.0, 100.0)
    faults = [
        Done("kill", "worker-1", 10.0, 12.0, pid=7),
        Done("broker", "broker-2", 16.0, 20.5),
        Done("model", "429", 60.0, 64.0),
        Done("kill", "worker-2", 61.0, 61.0, skipped=True),
    ]
    measure(faults, counted)

    assert [fault.recovery_s for fault in faults] == [7.0, 1.0, 0.0, 0.0]
    assert [fault.alone for fault in faults] == [False, False, True, False]
    assert faults[0].takeovers_s == [7.0]
    assert by_kind(faults) == {
        "broker": {
            "count": 1, "recovery_median_s": 1.0, "recovery_max_s": 1.0, "recovery_alone_max_s": None,
            "silence_max_s": 79.0,
        },
        "kill": {
            "count": 1, "recovery_median_s": 7.0, "recovery_max_s": 7.0, "recovery_alone_max_s": None,
            "silence_max_s": 4.0, "takeovers": 1, "takeover_median_s": 7.0, "takeover_p99_s": 7.0,
            "takeover_max_s": 7.0,
        },
        "model": {
            "count": 1, "recovery_median_s": 0.0, "recovery_max_s": 0.0, "recovery_alone_max_s": 0.0,
            "silence_max_s": 79.0,
        },
    }  # fmt: skip


def test_a_run_passes_only_if_nothing_broke_and_enough_happened() -> None:
    counted, verdict = score(), Verdict()
    counted.offered(ASK)
    counted.accepted(ASK)
    assert failures_of(counted, verdict, [], needed=0) == [
        "1 turns were accepted and never answered, e.g. t",
    ]
    answered(counted)
    assert failures_of(counted, verdict, [], needed=1) == []
    assert "1 turns were completed, 2 are needed" in failures_of(counted, verdict, [], needed=2)[0]
    done = [Done("kill", "worker-1", 1.0, 2.0, skipped=number > 0) for number in range(3)]
    assert "1 of 3 faults happened" in failures_of(counted, verdict, [], needed=1, faults=done)[0]
    assert failures_of(counted, verdict, [], needed=1, faults=done[:2]) == []
    assert "nobody broke: worker-1 ended" in failures_of(counted, verdict, ["worker-1 ended\nlog"], needed=1)[0]
    verdict.add(Finding(Kind.LOST, "default", "s", "t", "gone"))
    assert failures_of(counted, verdict, [], needed=1) == ["1 × lost"]


def test_half_of_the_load_is_needed_where_nothing_else_is_said() -> None:
    assert Wish(minutes=2, seed=1, rate=50).needed == 3_000
    assert Wish(minutes=2, seed=1, rate=50, least=7).needed == 7


def test_the_report_is_json_and_one_page_that_shows_all(tmp_path: Path) -> None:
    verdict = Verdict(turns=1)
    verdict.add(Finding(Kind.LOST, "default", "s<1>", "t", "gone", ("agent.turns/0@1 record",)))
    faults = [Done("kill", "worker-1", 1.0, 2.5), Done("freeze", "worker-2", 2.0, 4.0, skipped=True)]
    counted = score()
    report = Report(
        command="fleet chaos run",
        started="2026-01-01T00:00:00+00:00",
        seconds=60.0,
        seed=1,
        machine={"cores": 2, "packages": {}},
        faults=faults,
        score=counted.as_json(),
        seconds_of_load=[(0, 5, 12.0), (1, 0, float("nan"))],
        verdict=verdict,
        deaths=[],
        failures=["1 × lost"],
    )
    page = report.write(tmp_path / "out").read_text()
    said = json.loads((tmp_path / "out" / "report.json").read_text())

    assert not said["passed"]
    assert said["by_second"]["rows"] == [[0, 5, 12.0], [1, 0, None]]
    assert said["faults"][0] == {
        "fault": "kill", "what": "worker-1", "at_s": 1.0, "until_s": 2.5, "skipped": False, "pid": None,
        "alone": True, "recovery_s": 0.0, "silence_s": 0.0, "takeovers_s": [],
    }  # fmt: skip
    assert set(said["by_kind"]) == {"kill"}
    assert said["load"]["latency"]["p99_ms"] is None
    assert said["verdict"]["findings"][0]["promise"] == "P1"
    assert "P1 lost: s&lt;1&gt;/t" in page
    assert "agent.turns/0@1 record" in page
    assert page.count("<svg") == 3
    assert "://" not in page
