"""The last lines of a log, as people read them."""

from __future__ import annotations

from pathlib import Path

from fleet.log_tail import readable, readable_tail


def test_structured_lines_become_sentences() -> None:
    mongod = '{"t":{"$date":"x"},"s":"E","c":"STORAGE","id":1,"ctx":"i","msg":"Failed","attr":{"error":"disk full"}}'
    assert readable(mongod) == "Failed error=disk full"
    assert readable('{"event":"turn ended","session":"s1","level":"info"}') == "turn ended session=s1"


def test_other_lines_stay_as_they_are() -> None:
    assert readable("plain") == "plain"
    assert readable('["a"]') == '["a"]'
    assert readable("{broken") == "{broken"


def test_only_the_last_lines_that_say_something_are_shown(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("first\n\nnoida-db: weak version `GLIBC_2.39' not found\nsecond\nthird\n")
    assert readable_tail(log, lines=2) == ["second", "third"]
    assert readable_tail(log) == ["first", "second", "third"]


def test_a_log_that_is_not_there_says_nothing(tmp_path: Path) -> None:
    assert readable_tail(tmp_path / "none.log") == []


def test_bytes_that_are_no_text_do_no_harm(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_bytes(b"\xff\xfe" * 40_000 + b"\nend\n")
    assert readable_tail(log, lines=1) == ["end"]
