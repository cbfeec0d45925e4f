"""`fleet prices check`: what it says of a table, and that a worker would say the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fleet.exits import CommandError, Exit
from fleet.prices import check
from workers.ledger.prices import Prices, PricesRefused

GOOD = "currency: USD\nprices:\n  - {model: m, from: 2026-01-01, input: 1, output: 2}\n"


def test_a_table_that_can_be_used_is_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "prices.yaml"
    table.write_text(GOOD)
    assert check(table, as_json=False) is Exit.OK
    assert capsys.readouterr().out == f"{table}: 1 prices of 1 models, in USD\n"
    monkeypatch.setenv("FLEET_PRICES", str(table))
    assert check(None, as_json=True) is Exit.OK
    assert json.loads(capsys.readouterr().out) == {"file": str(table), "currency": "USD", "models": 1, "rows": 1}


def test_a_table_that_cannot_is_refused_with_the_sentence_of_a_workers_start(tmp_path: Path) -> None:
    table = tmp_path / "prices.yaml"
    table.write_text(GOOD.replace("input: 1", "input: -1"))
    with pytest.raises(CommandError) as told:
        check(table, as_json=False)
    with pytest.raises(PricesRefused) as refused:
        Prices.load(table)
    assert (told.value.code, told.value.text) == (Exit.USAGE, str(refused.value))
    assert told.value.text.endswith("row 1 (m), input: input should be greater than or equal to 0 (-1)")


def test_no_table_is_said_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FLEET_PRICES", raising=False)
    with pytest.raises(CommandError, match="no price table: name a file, or set FLEET_PRICES"):
        check(None, as_json=False)
