"""Writes what the chart's values may say of settings and secrets into helm/values.schema.json. Knows no Kubernetes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from schemas import settings

FILE = Path(__file__).resolve().parent.parent / "helm" / "values.schema.json"
OURS = {"gateway_host", "gateway_port", "worker_host", "worker_port", "worker_name", "topics_file"}
"""Settings that the chart gives."""
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "enum", "pattern")


def is_secret(field: Any) -> bool:
    """What no log shows is no plain setting here either."""
    return not field.repr


def settings_schema() -> dict[str, Any]:
    """Each variable that may stand under `settings`, with its type and bounds; no other."""
    groups = [group for group in settings.GROUPS if group is not settings.LocalSettings]
    found: dict[str, Any] = {}
    for group in groups:
        described = group.model_json_schema()["properties"]
        for name, field in group.model_fields.items():
            if name not in OURS and not is_secret(field):
                found[settings.PREFIX + name.upper()] = _value(described[name])
    return _closed(found, required="FLEET_KAFKA_BOOTSTRAP")


def secrets_schema() -> dict[str, Any]:
    """Each variable that is a secret: where its value lies, never the value."""
    text = {"type": "string", "minLength": 1}
    reference = {
        "type": "object",
        "additionalProperties": False,
        "required": ["name", "key"],
        "properties": {"name": text, "key": text},
    }
    names = [
        settings.PREFIX + name.upper()
        for group in settings.GROUPS
        for name, field in group.model_fields.items()
        if is_secret(field)
    ]
    return _closed(dict.fromkeys(names, reference), required="FLEET_MONGO_URI")


def _closed(properties: dict[str, Any], *, required: str) -> dict[str, Any]:
    """Nothing but these; the processes do not start without `required`."""
    return {"type": "object", "additionalProperties": False, "required": [required], "properties": properties}


def _value(described: dict[str, Any]) -> dict[str, Any]:
    """What a variable may be. A list is text here, as it is in the environment."""
    kind = described.get("type")
    bounds = {key: described[key] for key in _BOUNDS if key in described}
    return {
        "type": kind if kind in {"integer", "number", "boolean"} else "string",
        **bounds,
        "description": described["description"],
    }


def text(page: str) -> str:
    """The file with these two parts as the code says."""
    schema = json.loads(page)
    schema["properties"]["settings"] = settings_schema()
    schema["properties"]["secrets"] = secrets_schema()
    return json.dumps(schema, indent=2) + "\n"


def main() -> None:
    """Rewrites it."""
    FILE.write_text(text(FILE.read_text()))
    sys.stdout.write("helm/values.schema.json\n")


if __name__ == "__main__":
    main()
