"""What a chaos run found, as JSON for programs and one HTML page for people. Needs nothing from the network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from fleet.chaos.aftermath import by_kind
from fleet.chaos.breaking import Done
from fleet.chaos.finding import Verdict
from loadtest.plots import HEIGHT, LEFT, RIGHT, WIDTH, svg
from loadtest.report import STYLE
from loadtest.result import Chart

ROW = 16
SHOWN = 50


@dataclass(frozen=True, slots=True)
class Report:
    """Everything about one run. `failures`: why it is no pass, in sentences; `deaths`: processes that ended though
    nobody broke them."""

    command: str
    started: str
    seconds: float
    seed: int
    machine: Mapping[str, object]
    faults: Sequence[Done]
    score: Mapping[str, Any]
    seconds_of_load: Sequence[tuple[int, int, float]]
    verdict: Verdict
    deaths: Sequence[str]
    failures: Sequence[str]

    @property
    def passed(self) -> bool:
        """Every promise held, and enough happened to say so."""
        return not self.failures

    def write(self, folder: Path) -> Path:
        """Write `report.json` and `report.html` into `folder`; the page's path."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.json").write_text(json.dumps(self.as_json(), indent=1, ensure_ascii=False), "utf-8")
        page = folder / "report.html"
        page.write_text(self.as_html(), "utf-8")
        return page

    def as_json(self) -> dict[str, Any]:
        """For programs; a second without an answer has no latency."""
        series = [[second, done, p99 if p99 == p99 else None] for second, done, p99 in self.seconds_of_load]
        return {
            "passed": self.passed,
            "failures": list(self.failures),
            "command": self.command,
            "started": self.started,
            "seconds": self.seconds,
            "seed": self.seed,
            "machine": dict(self.machine),
            "load": _finite(dict(self.score)),
            "faults": [fault.as_json() for fault in self.faults],
            "by_kind": by_kind(self.faults),
            "deaths": list(self.deaths),
            "verdict": self.verdict.as_json(),
            "by_second": {"columns": ["second", "completed", "p99_ms"], "rows": series},
        }

    def as_html(self) -> str:
        """One page."""
        machine = ", ".join(f"{name}: {value}" for name, value in self.machine.items() if not isinstance(value, dict))
        word = "<span class=yes>passed</span>" if self.passed else "<span class=no>failed</span>"
        return "\n".join(
            [
                "<!doctype html><html lang=en><meta charset=utf-8><title>Turnfleet chaos report</title>",
                f"<style>{STYLE}</style><h1>Turnfleet chaos report: {word}</h1><pre>{escape(self.command)}</pre>",
                f"<p>{escape(self.started)}, {self.seconds:.0f} s, seed {self.seed}. {escape(machine)}.</p>",
                _list("faults", self.failures),
                self._load(),
                _axis(self.faults, max((second for second, *_ in self.seconds_of_load), default=0) + 1),
                self._kinds(),
                *map(svg, self._charts()),
                self._verdict(),
                _list("faults", self.deaths),
                "</html>",
            ]
        )

    def _load(self) -> str:
        shown = {name: value for name, value in self.score.items() if value not in ({}, [], 0)}
        rows = "".join(f"<tr><td>{escape(name)}<td>{escape(str(value))}" for name, value in shown.items())
        return f"<h2>Load</h2><table>{rows}</table>"

    def _kinds(self) -> str:
        found = by_kind(self.faults)
        names = list(dict.fromkeys(name for felt in found.values() for name in felt))
        head = "".join(f"<th>{escape(name)}" for name in ("fault", *names))
        rows = "".join(
            f"<tr><td>{escape(kind)}"
            + "".join(f"<td>{'–' if felt.get(name) is None else felt[name]}" for name in names)
            for kind, felt in found.items()
        )
        return f"<h2>What was felt of each kind</h2><table><tr>{head}{rows}</table>"

    def _charts(self) -> list[Chart]:
        labels = [str(second) for second, *_ in self.seconds_of_load]
        done = [float(count) for _, count, _ in self.seconds_of_load]
        p99 = [late for *_, late in self.seconds_of_load]
        return [
            Chart("Turns completed a second", "1/s", labels, {"turns": done}, "lines"),
            Chart("p99 of the turns completed in that second", "ms", labels, {"p99": p99}, "lines"),
        ]

    def _verdict(self) -> str:
        verdict = self.verdict
        counts = verdict.as_json()
        counts.pop("findings")
        rows = "".join(f"<tr><td>{escape(name)}<td>{escape(str(value))}" for name, value in counts.items())
        found = "".join(
            f"<li>{finding.promise} {finding.kind}: {escape(finding.session)}/{escape(finding.turn or '')}: "
            f"{escape(finding.text)}<pre>{escape(chr(10).join(finding.events))}</pre>"
            for finding in verdict.findings[:SHOWN]
        )
        return f"<h2>History</h2><table>{rows}</table><ul class=faults>{found}</ul>"


def _list(name: str, sentences: Sequence[str]) -> str:
    return f"<ul class={name}>{''.join(f'<li><pre>{escape(one)}</pre>' for one in sentences)}</ul>" if sentences else ""


def _axis(faults: Sequence[Done], seconds: int) -> str:
    """Faults as bars over the same time as the charts below."""
    kinds = sorted({fault.fault for fault in faults})
    height = ROW * len(kinds) + 24
    wide = (WIDTH - LEFT - RIGHT) / max(seconds - 1, 1)
    rows = [
        f'<text x="{LEFT - 6}" y="{24 + ROW * number + 11}" class="tick">{escape(kind)}</text>'
        for number, kind in enumerate(kinds)
    ]
    bars = [
        f'<rect x="{LEFT + fault.at_s * wide:.1f}" y="{24 + ROW * kinds.index(fault.fault) + 2}" '
        f'width="{max((fault.until_s - fault.at_s) * wide, 2):.1f}" height="{ROW - 4}" fill="#c53030" '
        f'opacity="{0.25 if fault.skipped else 0.8}"><title>{escape(fault.what)}, {fault.at_s:g} to {fault.until_s:g} s'
        f"</title></rect>"
        for fault in faults
    ]
    title = f'<text x="0" y="14" class="title">Faults ({len(faults)})</text>'
    return f'<svg viewBox="0 0 {WIDTH} {max(height, HEIGHT // 4)}" role="img">{title}{"".join(rows + bars)}</svg>'


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if value == value else None
    if isinstance(value, dict):
        return {str(name): _finite(inner) for name, inner in value.items()}
    return value
