"""Writes the JSON Schema of everything that travels or is stored, one file a model. `python -m schemas.export DIR`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from schemas.alert import Alert
from schemas.control import CONTROL
from schemas.dead_letter import DeadLetter
from schemas.entries import ENTRY
from schemas.frames import FRAME
from schemas.profile import Profile
from schemas.receipt import Receipt
from schemas.snapshot import Snapshot
from schemas.turn import Turn

EXPORTED: dict[str, TypeAdapter[Any]] = {
    "turn": TypeAdapter(Turn),
    "control": CONTROL,
    "event": FRAME,
    "receipt": TypeAdapter(Receipt),
    "alert": TypeAdapter(Alert),
    "dead-letter": TypeAdapter(DeadLetter),
    "entry": ENTRY,
    "snapshot": TypeAdapter(Snapshot),
    "profile": TypeAdapter(Profile),
}
"""Name, as topics.yaml has it → the model; a dead letter's are its `dl_…` headers, its value is the original bytes."""


def documents() -> dict[str, str]:
    """File name → JSON text, keys sorted."""
    return {f"{name}.json": _text(name, adapter.json_schema()) for name, adapter in EXPORTED.items()}


def _text(name: str, schema: dict[str, Any]) -> str:
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:turnfleet:schema:{name}.v1",
    } | schema
    return json.dumps(whole, indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def main() -> None:
    """Write them into the directory that the command line names."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in documents().items():
        (folder / name).write_text(text)


if __name__ == "__main__":
    main()
