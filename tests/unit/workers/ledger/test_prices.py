"""The price table: what it takes, what it refuses with which sentence, which row is in force, what tokens cost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from schemas.frames import Usage
from workers.ledger.booking import cost_of
from workers.ledger.prices import NO_PRICES, Counts, Prices, PricesRefused, counts

DAY_MS = 86_400_000
Y2026_MS = 1_767_225_600_000


def table(*rows: dict[str, Any], currency: str = "USD") -> Prices:
    lines = [f"currency: {currency}", "prices:"]
    lines += ["  - {" + ", ".join(f"{key}: {value}" for key, value in row.items()) + "}" for row in rows]
    return read("\n".join(lines))


def read(text: str) -> Prices:
    return Prices.of(yaml.safe_load(text))


def row(**more: Any) -> dict[str, Any]:
    return {"model": "m", "from": "2026-01-01", "input": 2, "output": 10, **more}


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([row(input=-1)], "row 1 (m), input: input should be greater than or equal to 0 (-1)"),
        ([row(), row(model="n", reasoning=-0.5)], "row 2 (n), reasoning: input should be greater than or equal to 0"),
        ([row(output=".inf")], "row 1 (m), output: input should be"),
        ([row(output="'10'")], "row 1 (m), output: input should be a valid number (10)"),
        ([row(price=1)], "row 1 (m), price: no such key; a row has model, provider, from, until, input, cached_input"),
        ([{"model": "m", "input": 1, "output": 1}], "row 1 (m), from: field required"),
        ([row(**{"from": "soon"})], "row 1 (m), from: input should be a valid date"),
        ([row(), row()], "m: the row from 2026-01-01 and the one from 2026-01-01 overlap"),
        (
            [row(until="2026-03-01"), row(**{"from": "2026-02-01"})],
            "m: the row from 2026-01-01 and the one from 2026-02-01 overlap; end the first one `until: 2026-02-01`",
        ),
        ([row(until="2026-01-01")], "m: `until` 2026-01-01 is not after `from` 2026-01-01"),
    ],
)
def test_a_row_that_cannot_be_used_is_refused_with_a_sentence(rows: list[dict[str, Any]], sentence: str) -> None:
    with pytest.raises(PricesRefused) as refused:
        table(*rows)
    assert str(refused.value).startswith(sentence)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("- 1", "want `currency` and a list `prices`"),
        ("prices: []", "currency: field required"),
        ("currency: USD\nprices: 5", "prices: input should be"),
        ("currency: usd\nprices: []", "currency: string should match pattern"),
        ("currency: USD\nprices: []\nextra: 1", "extra: no such key"),
    ],
)
def test_a_table_that_is_none_is_refused_with_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(PricesRefused) as refused:
        read(text)
    assert str(refused.value).startswith(sentence)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(
        PricesRefused, match=r"none\.yaml cannot be read: No such file or directory; correct FLEET_PRICES"
    ):
        Prices.load(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(PricesRefused, match=r"bad\.yaml is no YAML: "):
        Prices.load(tmp_path / "bad.yaml")
    (tmp_path / "large.yaml").write_bytes(b"#" * 1_048_577)
    with pytest.raises(PricesRefused, match="more than 1048576 bytes"):
        Prices.load(tmp_path / "large.yaml")
    assert len(Prices.load(None)) == 0


def test_the_row_in_force_is_the_one_of_the_moment_and_of_the_provider_first() -> None:
    prices = table(
        row(until="2026-02-01"),
        row(**{"from": "2026-03-01"}, input=3),
        row(**{"from": "2026-04-01"}, input=4),
        row(provider="p", input=9),
    )
    assert prices.row(None, "m", Y2026_MS - 1) is None
    assert prices.row(None, "m", Y2026_MS + 31 * DAY_MS) is None  # its end is no part of it
    found = [prices.row(None, "m", Y2026_MS + day * DAY_MS) for day in (0, 59, 89, 90, 500)]
    assert [row.input for row in found if row is not None] == [2, 3, 3, 4, 4]
    mine = prices.row("p", "m", Y2026_MS)
    other = prices.row("q", "m", Y2026_MS)
    assert mine is not None and other is not None and (mine.input, other.input) == (9, 2)
    assert (len(prices), prices.models) == (4, 1)


def test_a_model_that_is_asked_for_by_its_provider_is_found_by_either_name() -> None:
    usage = Usage(provider="anthropic", model="anthropic:m", input_tokens=1_000_000, output_tokens=0)
    for written in (
        row(provider="anthropic"),
        row(model="'anthropic:m'"),
        row(model="'anthropic:m'", provider="anthropic"),
    ):
        prices = table(written, row(provider="google", input=7))
        assert prices.cost(usage, Y2026_MS) == Counts(2_000_000_000, 0, 0, 0)
        assert prices.dearest("anthropic:m", Y2026_MS) == (2, 10)
    assert table(row(provider="google")).cost(usage, Y2026_MS) is None
    assert table(row(provider="google")).dearest("anthropic:m", Y2026_MS) is None
    assert table(row(provider="google"), row(input=3)).dearest("m", Y2026_MS) == (3, 10)


def test_what_a_call_may_cost_and_what_it_did_cost_are_read_from_the_same_rows() -> None:
    """The endpoint names no provider in its usage: it is `openai`, as in the documented table."""
    usage = Usage(model="gpt", input_tokens=1_000_000, output_tokens=0)
    documented = table(row(model="gpt", provider="openai"))
    assert documented.cost(usage, Y2026_MS) == Counts(2_000_000_000, 0, 0, 0)
    assert documented.dearest("gpt", Y2026_MS) == (2, 10)
    elsewhere = table(row(model="gpt", provider="azure"))
    assert elsewhere.cost(usage, Y2026_MS) is None
    assert elsewhere.dearest("gpt", Y2026_MS) is None
    of_whichever = table(row(model="'anthropic:m'", input=5), row(model="'anthropic:m'", provider="bedrock", input=9))
    assert of_whichever.dearest("anthropic:m", Y2026_MS) == (5, 10)


def test_tokens_are_counted_once_each_and_cost_what_their_kind_costs() -> None:
    usage = Usage(model="m", input_tokens=1_000, cached_input_tokens=400, output_tokens=50, reasoning_tokens=20)
    assert counts(usage) == Counts(600, 400, 30, 20)
    prices = table(row(cached_input=0.5, reasoning=20))
    assert prices.cost(usage, Y2026_MS) == Counts(1_200_000, 200_000, 300_000, 400_000)
    plain = table(row())  # cached as input, reasoning as output
    assert plain.cost(usage, Y2026_MS) == Counts(1_200_000, 800_000, 300_000, 200_000)
    odd = Usage(model="m", input_tokens=1, cached_input_tokens=5, output_tokens=1, reasoning_tokens=9)
    assert counts(odd) == Counts(0, 1, 0, 1)


def test_a_model_without_a_price_is_unknown_and_never_free() -> None:
    known, strange = (Usage(model=name, input_tokens=1_000, output_tokens=0) for name in ("m", "x"))
    assert cost_of((known, strange), table(row()), Y2026_MS) == (2_000_000, ("x",))
    assert cost_of((known,), NO_PRICES, Y2026_MS) == (0, ("m",))
