"""`fleet prices check`: whether a worker would take this price table. Asks the workers' own reader."""

from __future__ import annotations

import json
from pathlib import Path

from fleet.exits import CommandError, Exit
from schemas.settings import WorkerSettings
from workers.ledger.prices import Prices, PricesRefused


def check(file: Path | None, *, as_json: bool) -> Exit:
    """0: it can be used; 2: it cannot, or there is none."""
    path = file or WorkerSettings().prices
    if path is None:
        raise CommandError(Exit.USAGE, "no price table: name a file, or set FLEET_PRICES")
    try:
        prices = Prices.load(path)
    except PricesRefused as error:
        raise CommandError(Exit.USAGE, str(error)) from None
    if as_json:
        print(
            json.dumps({"file": str(path), "currency": prices.currency, "models": prices.models, "rows": len(prices)})
        )
    else:
        print(f"{path}: {len(prices)} prices of {prices.models} models, in {prices.currency}")
    return Exit.OK
