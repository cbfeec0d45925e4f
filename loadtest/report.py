"""The report: JSON for programs, one HTML page for people, a table for the terminal. Needs nothing from the network."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

from loadtest.plots import short, svg
from loadtest.result import Figure, Outcome

STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a202c}
table{border-collapse:collapse;width:100%;margin:.5rem 0}td,th{padding:.25rem .6rem;border-bottom:1px solid #e2e8f0;
text-align:right}td:first-child,th:first-child{text-align:left}.yes{color:#276749}.no{color:#c53030}
svg{width:100%;max-width:40rem;display:block;margin:1rem 0;font-size:11px}.grid{stroke:#e2e8f0}.tick{text-anchor:end}
.label,.value{text-anchor:middle}.title{font-weight:600;font-size:13px}pre{background:#f7fafc;padding:.6rem;
overflow:auto}.faults{color:#c53030}"""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that is known about one invocation. `started` is an ISO moment."""

    command: str
    started: str
    seconds: float
    seed: int
    repetitions: int
    machine: Mapping[str, object]
    outcomes: Sequence[Outcome]

    @property
    def faults(self) -> list[str]:
        """All that was wrong, with the scenario's name."""
        return [f"{outcome.scenario}: {fault}" for outcome in self.outcomes for fault in outcome.faults]

    def write(self, folder: Path) -> Path:
        """Write `report.json` and `report.html` into `folder`; returns the page's path."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.json").write_text(as_json(self), "utf-8")
        page = folder / "report.html"
        page.write_text(as_html(self), "utf-8")
        return page


def as_json(report: Report) -> str:
    """The report with whether each target was reached; what could not be measured is null."""
    value = asdict(report)
    for outcome, shown in zip(report.outcomes, value["outcomes"], strict=True):
        for figure, entry in zip(outcome.figures, shown["figures"], strict=True):
            entry |= {"reached": figure.reached, "reached_goal": figure.reached_goal}
    return json.dumps(_finite(value), indent=1, ensure_ascii=False, allow_nan=False)


def as_html(report: Report) -> str:
    """One page that needs nothing else."""
    machine = ", ".join(f"{name.replace('_', ' ')}: {_plain(value)}" for name, value in report.machine.items())
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>Turnfleet load report</title>",
        f"<style>{STYLE}</style><h1>Turnfleet load report</h1><pre>{escape(report.command)}</pre>",
        f"<p>{escape(report.started)}, {report.seconds:.0f} s, seed {report.seed}, {report.repetitions} repetitions. ",
        f"{escape(machine)}.</p><p>Median over the repetitions, smallest and largest beside it.</p>",
        *(_section(outcome) for outcome in report.outcomes),
        "</html>",
    ]
    return "\n".join(parts)


def as_text(outcome: Outcome) -> str:
    """The figures of one scenario for a terminal."""
    lines = [f"{outcome.title} ({outcome.how})"]
    for figure in outcome.figures:
        spread = figure.spread
        numbers = f"{short(spread.median)} {figure.unit}".strip() + f" ({short(spread.low)} to {short(spread.high)})"
        lines.append(f"  {figure.name:42} {numbers:34} {_target(figure)}".rstrip())
    lines += [f"  WRONG: {fault}" for fault in outcome.faults]
    return "\n".join(lines)


def _section(outcome: Outcome) -> str:
    rows = "".join(_row(figure) for figure in outcome.figures)
    wrong = "".join(f"<li>{escape(fault)}" for fault in outcome.faults)
    return (
        f"<h2>{escape(outcome.title)}</h2><p>{escape(outcome.how)}</p>"
        "<table><tr><th>figure<th>median<th>smallest<th>largest<th>at least<th>goal<th></tr>"
        f"{rows}</table>{f'<ul class=faults>{wrong}</ul>' if wrong else ''}{''.join(map(svg, outcome.charts))}"
    )


def _row(figure: Figure) -> str:
    spread, unit = figure.spread, f" {escape(figure.unit)}" if figure.unit else ""
    cells = "".join(f"<td>{short(value)}{unit}" for value in (spread.median, spread.low, spread.high))
    limits = "".join(f"<td>{_limit(figure, value)}" for value in (figure.target, figure.goal))
    verdict = {True: "<td class=yes>reached", False: "<td class=no>missed", None: "<td>"}[figure.reached]
    if figure.reached_goal:
        verdict = "<td class=yes>goal reached"
    return f"<tr><td>{escape(figure.name)}{cells}{limits}{verdict}</tr>"


def _target(figure: Figure) -> str:
    if figure.reached is None:
        return ""
    word = "goal reached" if figure.reached_goal else "reached" if figure.reached else "MISSED"
    return f"{_limit(figure, figure.target)}: {word}"


def _limit(figure: Figure, value: float | None) -> str:
    return "" if value is None else f"{'≥' if figure.better == 'high' else '≤'} {short(value)}"


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name} {inner}" for name, inner in value.items())
    return str(value)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value
