"""Writes the tables of the docs from the code, between two marks. Must not know what the tables are good for."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.metrics import MetricWrapperBase
from pydantic_core import PydanticUndefined

from fleet.chaos import finding, plan
from gateway.metrics import Metrics
from schemas import settings
from schemas.codes import MEANINGS
from workers.mcp import config
from workers.metrics import WorkerMetrics

ROOT = Path(__file__).resolve().parent.parent


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; bars in cells are escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def settings_table() -> str:
    """Every setting under the heading of its component: variable, default, meaning."""
    parts = []
    for group in settings.GROUPS:
        rows = [
            (f"`{settings.PREFIX}{name.upper()}`", _default(field.get_default(call_default_factory=True)), _text(field))
            for name, field in group.model_fields.items()
        ]
        parts.append(
            f"## {(group.__doc__ or '').strip().rstrip('.')}\n\n" + table(("variable", "default", "meaning"), rows)
        )
    return "\n\n".join(parts)


def _default(value: Any) -> str:
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, dict):
        value = ",".join(f"{name}={number}" for name, number in value.items())
    return f"`{value}`" if value not in ("", (), None) else "none"


def _text(field: Any) -> str:
    return str(field.description or "")


def topics_table() -> str:
    """Every topic of topics.yaml."""
    topics = yaml.safe_load((ROOT / "topics.yaml").read_text())["topics"]
    rows = [
        (
            f"`{topic['name']}`",
            topic["key"],
            f"`{topic['schema']}`",
            f"{topic['partitions']}{' (fixed for its life)' if topic.get('sessions') else ''}",
            str(topic["replication_factor"]),
            ", ".join(f"`{key}={value}`" for key, value in sorted(topic["config"].items())),
        )
        for topic in topics
    ]
    return table(("topic", "key", "schema", "partitions", "replicas", "config"), rows)


def errors_table() -> str:
    """Every error code: HTTP status, what a client may do, meaning."""
    rows = [(f"`{code.value}`", str(m.status), f"`{m.retry}`", m.text) for code, m in MEANINGS.items()]
    return table(("code", "HTTP", "retry", "meaning"), rows)


def metrics_table() -> str:
    """Every metric of the gateway and of a worker."""
    declared = [
        metric for metric in vars(Metrics(CollectorRegistry())).values() if isinstance(metric, MetricWrapperBase)
    ]
    rows = [_row("gateway", next(iter(metric.describe())), metric._labelnames) for metric in declared]
    rows += [_row("worker", family, vars(family)["_labelnames"]) for family in WorkerMetrics(dict).collect()]
    return table(("metric", "type", "labels", "of", "meaning"), rows)


def _row(component: str, family: Metric, labels: Iterable[str]) -> tuple[str, str, str, str, str]:
    name = f"`{family.name}{'_total' if family.type == 'counter' else ''}`"
    return name, family.type, ", ".join(f"`{label}`" for label in labels), component, family.documentation


def chaos_table() -> str:
    """Every fault of `fleet chaos run`, then every breach that `fleet chaos check` can find, with its promise."""
    faults = table(("fault", "what happens"), [(f"`{fault}`", text) for fault, text in plan.MEANINGS.items()])
    rows = [(meaning.promise, f"`{kind}`", meaning.text) for kind, meaning in finding.MEANINGS.items()]
    rows.sort(key=lambda row: int(row[0][1:]))
    return f"{faults}\n\n{table(('promise', 'breach', 'what was seen'), rows)}"


def mcp_table() -> str:
    """Every key of the file of MCP servers: of a server, then of a tool's policy."""
    parts = []
    for head, model in (("key of a server", config.ServerConfig), ("key of a tool", config.PolicyConfig)):
        rows = [(f"`{name}`", _default(field.default), _text(field)) for name, field in model.model_fields.items()]
        parts.append(table((head, "default", "meaning"), rows))
    return "\n\n".join(parts)


TABLES = {
    "mcp.md": mcp_table,
    "reliability.md": chaos_table,
    "settings.md": settings_table,
    "topics.md": topics_table,
    "errors.md": errors_table,
    "metrics.md": metrics_table,
}


def with_table(page: str, text: str) -> str:
    """The page with what is between `<!-- table -->` and `<!-- end -->` replaced."""
    return re.sub(r"<!-- table -->.*?<!-- end -->", lambda _: f"<!-- table -->\n{text}\n<!-- end -->", page, flags=re.S)


def main() -> None:
    """Rewrites every page that has a table."""
    for name, make in TABLES.items():
        path = ROOT / "docs" / name
        path.write_text(with_table(path.read_text(), make()))
        sys.stdout.write(f"docs/{name}\n")


if __name__ == "__main__":
    main()
