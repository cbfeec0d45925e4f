"""`fleet dead-letters`: what each of its commands prints and exits with. What is done is in `fleet.redrive`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from broker.kafka_publisher import KafkaPublisher
from broker.kafka_scan import KafkaScan
from broker.port import BrokerUnavailable, PublishError, PublishUnknown
from fleet import addresses
from fleet.answer import printable
from fleet.asking import spelled
from fleet.exits import CommandError, Exit
from fleet.letter import CONTROL, TURNS, Wanted, described, summary
from fleet.moment import moment, moment_ms
from fleet.redrive import Choice, Found, Office, Redriven, carry_out, discard, find, redrive
from fleet.store import opened
from journal.port import StoreUnavailable
from schemas.codes import Code

_COLUMNS = ("id", "state", "code", "session", "attempts", "written (UTC)", "reason")
_WIDE = 200  # columns, where no terminal says how many there are
_WORDS = {
    "unsupported": "cannot be redriven",
    "redriven": "redriven before",
    "redriving": "is being redriven",
    "discarding": "is being discarded",
}


def wanted_of(codes: Sequence[str] | None, session: str | None, since: str | None, until: str | None) -> Wanted:
    """What the filters of the command line mean. Raises CommandError(USAGE)."""
    now_ms = _clock_ms()
    try:
        found = frozenset(Code(code) for code in codes or ())
    except ValueError as error:
        raise CommandError(Exit.USAGE, f"--code: {error}; docs/errors.md lists the codes") from None
    times = [moment_ms(text, now_ms=now_ms) if text is not None else None for text in (since, until)]
    return Wanted(found, session, times[0], times[1])


def chosen(ids: Sequence[str] | None, *, every: bool, wanted: Wanted) -> Choice:
    """Ids, or `--all` with filters: one of both. Raises CommandError(USAGE)."""
    if bool(ids) == every:
        raise CommandError(Exit.USAGE, "name the letters by their ids, or say --all (with filters, if you like)")
    if ids and not wanted.everything:
        raise CommandError(Exit.USAGE, "filters go with --all, not with ids")
    return Choice(tuple(ids) if ids else None, wanted)


def list_letters(data: Path | None, wanted: Wanted, *, all_states: bool, as_json: bool) -> Exit:
    """0, also where there are none."""

    async def work(office: Office) -> Found:
        return await find(office, wanted.matches, values=False)

    found = asyncio.run(_at_work(data, work))
    shown = [one for one in found.letters if all_states or found.is_open(one)]
    rows = [summary(one, found.marks.get(one.id)) for one in shown]
    if as_json:
        print(spelled({"letters": rows, "foreign": found.foreign}))
        return Exit.OK
    if rows:
        _print_table(rows)
    else:
        print("there are no dead letters" + ("" if all_states else " that are open"))
    if found.foreign:
        print(f"fleet: {found.foreign} records on the topic are no letters of ours", file=sys.stderr)
    return Exit.OK


def show(data: Path | None, letter_id: str, *, as_json: bool) -> Exit:
    """0: shown; 1: there is no such letter."""

    async def work(office: Office) -> Found:
        return await find(office, lambda letter: letter.id == letter_id, values=True)

    found = asyncio.run(_at_work(data, work))
    if not found.letters:
        raise CommandError(Exit.DIFFERENT, f"there is no dead letter {letter_id}")
    whole = described(found.letters[0], found.marks.get(letter_id))
    if as_json:
        print(spelled(whole))
    else:
        _print_letter(whole)
    return Exit.OK


def redrive_letters(data: Path | None, choice: Choice, *, as_json: bool) -> Exit:
    """0: all of them are out, now or before; 1: one is missing, was discarded or cannot be redriven."""
    done, missing = asyncio.run(_at_work(data, lambda office: carry_out(office, choice, redrive)))
    return _say(done, missing, "redriven", as_json=as_json)


def discard_letters(data: Path | None, choice: Choice, *, as_json: bool) -> Exit:
    """0: all of them are discarded, now or before; 1: one is missing, or was redriven."""
    done, missing = asyncio.run(_at_work(data, lambda office: carry_out(office, choice, discard)))
    return _say(done, missing, "discarded", as_json=as_json)


@contextlib.asynccontextmanager
async def connected(data: Path | None) -> AsyncIterator[Office]:
    """The real broker and store."""
    kafka = addresses.kafka(data)
    publisher = KafkaPublisher(kafka, (TURNS, CONTROL))
    async with opened(addresses.mongo(data)) as store:
        try:
            await publisher.start()
            yield Office(KafkaScan(kafka), publisher, store, _clock_ms)
        finally:
            await publisher.stop()


async def _at_work(data: Path | None, work: Callable[[Office], Awaitable[Any]]) -> Any:
    """Do it, connected. What does not answer is CommandError(UNREACHABLE)."""
    try:
        async with connected(data) as office:
            return await work(office)
    except (BrokerUnavailable, StoreUnavailable) as error:
        raise CommandError(Exit.UNREACHABLE, str(error)) from None
    except (PublishError, PublishUnknown) as error:
        text = f"not all of them are out ({error}): do it again, what is out stays out once"
        raise CommandError(Exit.UNREACHABLE, text) from None


def _say(done: Sequence[Redriven], missing: Sequence[str], wanted: str, *, as_json: bool) -> Exit:
    if as_json:
        rows = [{"id": one.letter, "state": one.state, "turn": one.turn, "published": one.published} for one in done]
        print(json.dumps({"letters": rows, "missing": list(missing)}))
    else:
        for one in done:
            as_turn = f" as turn {one.turn}" if one.turn is not None else ""
            fresh = one.published or one.state == "discarded"
            print(f"{one.letter} {one.state if fresh else _WORDS.get(one.state, one.state)}{as_turn}")
        if not done and not missing:
            print("there are no dead letters that are open")
    for letter_id in missing:
        print(f"fleet: there is no dead letter {letter_id}", file=sys.stderr)
    return Exit.OK if not missing and all(one.state == wanted for one in done) else Exit.DIFFERENT


def _print_table(rows: Sequence[dict[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in _COLUMNS:
        table.add_column(column, no_wrap=column not in {"session", "reason"}, overflow="fold")
    for row in rows:
        cells = {**row, "written (UTC)": moment(row["at_ms"])[:19]}
        table.add_row(*(Text(printable(str(cells[column]))) for column in _COLUMNS))
    _console().print(table)


def _print_letter(whole: dict[str, Any]) -> None:
    table = Table("", "", box=None, pad_edge=False, show_header=False)
    table.columns[1].overflow = "fold"
    for name in ("id", "state", "code", "reason", "session", "turn", "attempts", "redriven_as"):
        if whole[name] is not None:
            table.add_row(name, Text(printable(str(whole[name]))))
    table.add_row("record of", moment(whole["record_at_ms"]))
    table.add_row("written", moment(whole["at_ms"]))
    for (name, text), (_, raw) in zip(whole["headers"], whole["headers_base64"], strict=True):
        table.add_row(Text(printable(name)), Text(printable(text) if text is not None else f"base64 {raw}"))
    _console().print(table)
    if whole["value_base64"] is None:
        print("(no value)")
    else:
        print(printable(whole["value"]) if whole["value"] is not None else f"base64 {whole['value_base64']}")


def _console() -> Console:
    return Console() if sys.stdout.isatty() else Console(width=_WIDE)


def _clock_ms() -> int:
    return time.time_ns() // 1_000_000
