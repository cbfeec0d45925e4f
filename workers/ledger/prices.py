"""What tokens cost: the price table of FLEET_PRICES, a YAML of dated rows. Knows no model and no turn.

```yaml
currency: USD
prices:                       # per million tokens
  - {model: gpt-4o, provider: openai, from: 2026-01-01, input: 2.5, cached_input: 1.25, output: 10}
```
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.frames import Usage
from schemas.settings import provider_of

KINDS = ("input", "cached", "output", "reasoning")
NANOS = 1_000_000_000
_MOST_BYTES = 1_048_576
_Price = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]


class PricesRefused(Exception):
    """The table cannot be used; the text is a sentence that says which row and what to do."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Row(_Strict):
    """Prices per million tokens of one model from the day `since` on (00:00 UTC), until the day `until`, else until its
    next row. `provider` None: of whichever. `cached_input` None: as `input`; `reasoning` None: as `output`."""

    model: str = Field(min_length=1, max_length=256)
    provider: str | None = Field(None, min_length=1, max_length=256)
    since: date = Field(alias="from")
    until: date | None = None
    input: _Price
    cached_input: _Price | None = None
    output: _Price
    reasoning: _Price | None = None

    @property
    def each(self) -> tuple[float, float, float, float]:
        """By kind, as KINDS."""
        cached = self.input if self.cached_input is None else self.cached_input
        return self.input, cached, self.output, self.output if self.reasoning is None else self.reasoning


class _Table(_Strict):
    currency: str = Field(pattern=r"^[A-Z]{3}$")
    prices: Annotated[tuple[Row, ...], Field(strict=False)]


class Counts(NamedTuple):
    """One number for each kind; tokens, or money in billionths. Together they are all of it."""

    input: int
    cached: int
    output: int
    reasoning: int


def counts(usage: Usage) -> Counts:
    """Tokens by kind, none of them counted twice: `input` without the cached ones, `output` without reasoning."""
    cached = min(usage.cached_input_tokens or 0, usage.input_tokens)
    reasoning = min(usage.reasoning_tokens or 0, usage.output_tokens)
    return Counts(usage.input_tokens - cached, cached, usage.output_tokens - reasoning, reasoning)


class Prices:
    """The table. `currency` "": there is none, and no price is known."""

    def __init__(self, currency: str = "", rows: Iterable[Row] = ()) -> None:
        self.currency = currency
        self._rows: dict[tuple[str | None, str], list[Row]] = {}
        for row in sorted(rows, key=lambda row: row.since):
            self._rows.setdefault((row.provider, row.model), []).append(row)
        for (_, model), dated in self._rows.items():
            _check_dates(model, dated)
        self._starts = {name: [_ms(row.since) for row in dated] for name, dated in self._rows.items()}

    def __len__(self) -> int:
        return sum(map(len, self._rows.values()))

    @property
    def models(self) -> int:
        """How many models have a price at some time."""
        return len({model for _, model in self._rows})

    @classmethod
    def load(cls, path: Path | None) -> Prices:
        """The table in this file; None: an empty one. Raises PricesRefused."""
        if path is None:
            return cls()
        try:
            with path.open("rb") as file:
                text = file.read(_MOST_BYTES + 1)
            if len(text) > _MOST_BYTES:
                raise PricesRefused(f"prices {path}: more than {_MOST_BYTES} bytes")
            given = yaml.safe_load(text)
        except OSError as error:
            raise PricesRefused(f"prices {path} cannot be read: {error.strerror}; correct FLEET_PRICES") from None
        except (yaml.YAMLError, ValueError) as error:
            raise PricesRefused(f"prices {path} is no YAML: {' '.join(str(error).split())[:200]}") from None
        try:
            return cls.of(given)
        except PricesRefused as error:
            raise PricesRefused(f"prices {path}: {error}") from None

    @classmethod
    def of(cls, given: Any) -> Prices:
        """The table that this is. Raises PricesRefused."""
        if not isinstance(given, dict):
            raise PricesRefused("want `currency` and a list `prices`")
        try:
            table = _Table.model_validate(given)
        except ValidationError as error:
            raise PricesRefused(_sentence(error, given)) from None
        return cls(table.currency, table.prices)

    def row(self, provider: str | None, model: str, at_ms: int) -> Row | None:
        """The row in force: of this provider, else of whichever. `anthropic:m` may stand as `m` of anthropic."""
        for name in _names(provider, model):
            starts = self._starts.get(name)
            place = bisect_right(starts, at_ms) - 1 if starts else -1
            if place >= 0:
                row = self._rows[name][place]
                if row.until is None or at_ms < _ms(row.until):
                    return row
        return None

    def cost(self, usage: Usage, at_ms: int) -> Counts | None:
        """In billionths of the currency, by kind; None: the model has no price then."""
        row = self.row(usage.provider, usage.model, at_ms)
        if row is None:
            return None
        return Counts(*(round(n * each * 1_000) for n, each in zip(counts(usage), row.each, strict=True)))

    def dearest(self, model: str, at_ms: int) -> tuple[float, float] | None:
        """The highest prices at which a call of a model may be booked, whatever kinds its tokens are: of input, of
        output. Of the row that `cost` takes. None: it has none."""
        row = self.row(None, model, at_ms)
        return None if row is None else (max(row.each[:2]), max(row.each[2:]))


NO_PRICES = Prices()


def _names(provider: str | None, model: str) -> list[tuple[str | None, str]]:
    """Under which a model's prices may stand, the nearest first. `provider` None: whom the model's name says."""
    asked = provider_of(model)
    names: list[tuple[str | None, str]] = [(provider or asked, model), (None, model)]
    if (bare := model.removeprefix(f"{asked}:")) != model:
        names.insert(1, (asked, bare))
    return names


def _check_dates(model: str, dated: list[Row]) -> None:
    for row in dated:
        if row.until is not None and row.until <= row.since:
            raise PricesRefused(f"{model}: `until` {row.until} is not after `from` {row.since}")
    for row, following in pairwise(dated):
        if row.since == following.since or (row.until is not None and row.until > following.since):
            raise PricesRefused(
                f"{model}: the row from {row.since} and the one from {following.since} overlap; end the first one "
                f"`until: {following.since}`, or leave `until` out"
            )


def _ms(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1_000)


def _sentence(error: ValidationError, given: dict[str, Any]) -> str:
    """What is wrong first, and where."""
    first = error.errors(include_url=False)[0]
    place, what = list(first["loc"]), first["msg"]
    name = ".".join(str(part) for part in place)
    if len(place) > 1 and place[0] == "prices" and isinstance(place[1], int):
        row = given["prices"][place[1]]
        model = row.get("model") if isinstance(row, dict) else None
        name = f"row {place[1] + 1}{f' ({model})' if model else ''}"
        name += f", {place[2]}" if len(place) > 2 else ""
    if first["type"] == "extra_forbidden":
        return f"{name}: no such key; a row has {', '.join(f.alias or n for n, f in Row.model_fields.items())}"
    told = "" if first["type"] == "missing" else f" ({str(first['input'])[:40]})"
    return f"{name}: {what[0].lower()}{what[1:]}{told}"
