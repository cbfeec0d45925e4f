"""Writes the tables of the docs from the code, between two marks. Must not know what the tables are good for."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic_core import PydanticUndefined

from schemas import settings
from schemas.codes import MEANINGS

ROOT = Path(__file__).resolve().parent.parent
METRIC_TYPES = {"Counter": "counter", "Gauge": "gauge", "Histogram": "histogram", "Summary": "summary"}


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
    """Every metric that a `metrics.py` declares: read from the source, because nothing is registered at import."""
    rows = [
        row
        for path in sorted(ROOT.glob("*/metrics.py"))
        for row in sorted(_metrics(ast.parse(path.read_text()), path.parent.name))
    ]
    return table(("metric", "type", "labels", "from", "meaning"), rows)


def _metrics(tree: ast.Module, component: str) -> Iterable[tuple[str, str, str, str, str]]:
    for node in ast.walk(tree):
        kind = METRIC_TYPES.get(_called(node))
        if kind is None or not isinstance(node, ast.Call):
            continue
        named = {keyword.arg: keyword.value for keyword in node.keywords}
        name = ast.literal_eval(node.args[0] if node.args else named["name"])
        text = ast.literal_eval(node.args[1] if len(node.args) > 1 else named["documentation"])
        label_node = node.args[2] if len(node.args) > 2 else named.get("labelnames")
        labels = ", ".join(f"`{label}`" for label in (ast.literal_eval(label_node) if label_node else ()))
        suffix = "_total" if kind == "counter" and not name.endswith("_total") else ""
        yield f"`{name}{suffix}`", kind, labels, component, text


def _called(node: ast.AST) -> str:
    if not isinstance(node, ast.Call):
        return ""
    return node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


TABLES = {
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
