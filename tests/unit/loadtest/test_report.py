from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from loadtest.figures import Spread
from loadtest.plots import short, svg
from loadtest.report import Report, as_html, as_json, as_text
from loadtest.result import Chart, Figure, Outcome

RATE = Figure("turns/s", "1/s", Spread.of([900.0, 1200.0, 1000.0]), target=950, goal=1500)
DELAY = Figure("p50", "ms", Spread.of([3.5, 2.5]), "low", target=2.0)
UNKNOWN = Figure("other", "", Spread.of([math.nan]))
CHART = Chart("Turns <a second>", "1/s", ["one", "two"], {"product": [1.0, math.nan], "yardstick": [3.0, 4.0]})


def report(**change: object) -> Report:
    outcome = Outcome("echo", "Echo & more", "how", (RATE, DELAY, UNKNOWN), (CHART,), ({"p50": math.nan},), ("it <b>",))
    machine: dict[str, object] = {"cores": 2, "packages": {"aiokafka": "0.14.0"}}
    return Report("python -m loadtest short --seed 7", "2026-11-23T05:00:00+00:00", 61.2, 7, 3, machine, [outcome])


class Tags(HTMLParser):
    """Collects what a browser would load from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data")]


def test_a_figure_knows_on_which_side_of_its_target_it_lies() -> None:
    assert (RATE.reached, RATE.reached_goal) == (True, False)
    assert (DELAY.reached, DELAY.reached_goal) == (False, None)
    assert UNKNOWN.reached is None


def test_json_is_strict_and_holds_command_seed_machine_and_every_repetition() -> None:
    found = json.loads(as_json(report()), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert (found["command"], found["seed"], found["machine"]["cores"]) == ("python -m loadtest short --seed 7", 7, 2)
    (outcome,) = found["outcomes"]
    rate, delay, unknown = outcome["figures"]
    assert rate["spread"] == {"median": 1000.0, "low": 900.0, "high": 1200.0, "values": [900.0, 1200.0, 1000.0]}
    assert (rate["reached"], delay["reached"], unknown["reached"]) == (True, False, None)
    assert unknown["spread"]["median"] is None
    assert outcome["runs"] == [{"p50": None}]


def test_the_page_needs_nothing_from_elsewhere() -> None:
    tags = Tags()
    page = as_html(report())
    tags.feed(page)
    assert tags.addresses == []
    assert not {"script", "link", "img", "iframe"} & set(tags.names)
    assert "http" not in page.replace("http-equiv", "")
    assert "svg" in tags.names


def test_the_page_shows_figures_targets_and_faults_and_escapes_what_it_shows() -> None:
    page = as_html(report())
    assert re.search(r"turns/s<td>1,000 1/s<td>900 1/s<td>1,200 1/s<td>≥ 950<td>≥ 1,500<td class=yes>reached", page)
    assert "<td class=no>missed" in page
    assert "it &lt;b&gt;" in page
    assert "Turns &lt;a second&gt;" in page
    assert "cores: 2" in page
    assert "aiokafka 0.14.0" in page


def test_the_terminal_gets_the_same_in_short() -> None:
    text = as_text(report().outcomes[0])
    assert "1,000 1/s (900 to 1,200)" in text
    assert "MISSED" in text
    assert "WRONG: it <b>" in text


def test_both_files_are_written_and_faults_carry_their_scenario(tmp_path: Path) -> None:
    page = report().write(tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"report.json", "report.html"}
    assert page.read_text("utf-8").startswith("<!doctype html>")
    assert report().faults == ["echo: it <b>"]


@pytest.mark.parametrize("kind", ["bars", "lines"])
def test_a_chart_draws_each_value_and_leaves_out_what_is_no_number(kind: str) -> None:
    drawn = svg(Chart("t", "u", CHART.labels, CHART.series, "bars" if kind == "bars" else "lines"))
    assert len(re.findall(r"<title>", drawn)) == 3
    assert "nan" not in drawn


def test_a_chart_of_nothing_is_still_a_chart() -> None:
    assert svg(Chart("t", "", [], {})).endswith("</svg>")
    assert svg(Chart("t", "", ["a"], {"x": [0.0]}, "lines")).endswith("</svg>")


@pytest.mark.parametrize(
    ("value", "shown"), [(12345.6, "12,346"), (0.01234, "0.0123"), (99.44, "99.4"), (math.nan, "–"), (0.0, "0")]
)
def test_numbers_are_short(value: float, shown: str) -> None:
    assert short(value) == shown
