"""Prints what `fleet topics check|apply` found and did. The comparing is in `fleet.topics`."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from rich.console import Console
from rich.table import Table

from fleet import addresses, topics
from fleet.exits import Exit


def check(data: Path | None, *, as_json: bool) -> Exit:
    """0: the cluster matches; 1: it differs."""
    found = asyncio.run(topics.check(addresses.kafka(data)))
    drift = [difference for difference in found if difference.is_drift]
    if as_json:
        print(json.dumps({"drift": [topics.as_json(one) for one in drift], "not_reported": len(found) - len(drift)}))
    elif not drift:
        print("the cluster's topics are those of topics.yaml")
    else:
        table = Table("topic", "what", "topics.yaml", "cluster", "what to do", box=None, pad_edge=False)
        for one in drift:
            table.add_row(one.topic, one.what, one.wanted, one.found, one.remedy or "")
        Console().print(table)
    return Exit.DIFFERENT if drift else Exit.OK


def apply(data: Path | None, *, as_json: bool) -> Exit:
    """0: the cluster matches now; 1: something was refused."""
    done, refused = asyncio.run(topics.apply(addresses.kafka(data)))
    if as_json:
        print(json.dumps({"done": list(done), "refused": [topics.as_json(one) for one in refused]}))
    else:
        for sentence in done:
            print(sentence)
        for one in refused:
            print(f"refused: {one}")
        if not done and not refused:
            print("nothing to do: the cluster's topics are those of topics.yaml")
    return Exit.DIFFERENT if refused else Exit.OK
