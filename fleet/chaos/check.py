"""`fleet chaos check`: what it prints and exits with. What is looked at is in `fleet.chaos.gather`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

from broker.kafka_scan import KafkaScan
from broker.port import BrokerUnavailable
from fleet import addresses
from fleet.answer import printable
from fleet.chaos.finding import Verdict
from fleet.chaos.gather import Sources, inspect
from fleet.exits import CommandError, Exit
from fleet.store import opened
from journal.port import StoreUnavailable
from schemas.settings import WorkerSettings

SHOWN = 20


@contextlib.asynccontextmanager
async def connected(data: Path | None) -> AsyncIterator[Sources]:
    """The real broker and store."""
    kafka = addresses.kafka(data)
    async with opened(addresses.mongo(data)) as store:
        yield Sources(KafkaScan(kafka), store.survey, _say, WorkerSettings().worker_tries)


def _say(what: str) -> None:
    print(f"fleet: {what}", file=sys.stderr)


def check(data: Path | None, *, settled: bool, least: int, as_json: bool) -> Exit:
    """0: nothing broke, and at least `least` turns have ended; 1: a promise broke, or too few to say so."""
    begun_s = time.monotonic()
    verdict = asyncio.run(_check(data, settled=settled))
    took_s = time.monotonic() - begun_s
    ended = sum(verdict.outcomes.values())
    if as_json:
        print(json.dumps({**verdict.as_json(), "least": least, "took_s": round(took_s, 2)}, ensure_ascii=False))
    else:
        print_verdict(verdict)
        print(f"looked at {verdict.turns:,} turns in {took_s:.1f} s ({verdict.turns / took_s:,.0f} turns/s)")
    if ended < least:
        print(f"fleet: {ended} turns have ended, {least} are needed for this to prove anything", file=sys.stderr)
    return Exit.OK if verdict.clean and ended >= least else Exit.DIFFERENT


async def _check(data: Path | None, *, settled: bool) -> Verdict:
    try:
        async with connected(data) as sources:
            return await inspect(sources, settled=settled)
    except (BrokerUnavailable, StoreUnavailable) as error:
        raise CommandError(Exit.UNREACHABLE, str(error)) from None


def print_verdict(verdict: Verdict) -> None:
    """For people: what was looked at, then every breach with the turn's events, up to a limit."""
    outcomes = ", ".join(f"{count:,} {name}" for name, count in sorted(verdict.outcomes.items())) or "none"
    print(f"{verdict.turns:,} turns of {verdict.sessions:,} sessions: {outcomes}; {verdict.pending:,} under way")
    print(
        f"{verdict.records:,} turn records, {verdict.commands:,} commands, {verdict.frames:,} frames, "
        f"{verdict.letters:,} dead letters, {verdict.entries:,} journal entries"
        + (f", {verdict.foreign:,} records that are none of ours" if verdict.foreign else "")
    )
    for finding in verdict.findings[:SHOWN]:
        place = "/".join(part for part in (finding.tenant, finding.session, finding.turn) if part)
        print(f"{finding.promise} {finding.kind}: {printable(place)}: {printable(finding.text)}")
        for event in finding.events:
            print(f"    {printable(event)}")
    if verdict.broken > SHOWN:
        print(f"… and {verdict.broken - min(SHOWN, len(verdict.findings)):,} more")
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(verdict.kinds.items()))
    print("nothing broke" if verdict.clean else f"{verdict.broken:,} breaches: {kinds}")
