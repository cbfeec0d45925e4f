"""`fleet chaos run`: load, faults and history checker in one command, on a stack of processes that it starts itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from broker.kafka_scan import KafkaScan
from broker.port import BrokerUnavailable
from fleet.chaos.aftermath import by_kind, measure
from fleet.chaos.breaking import Breaking, Done
from fleet.chaos.check import print_verdict
from fleet.chaos.finding import Verdict
from fleet.chaos.gather import Sources, inspect
from fleet.chaos.load import Load, Pace
from fleet.chaos.plan import Fault, plan_of
from fleet.chaos.report import Report
from fleet.chaos.score import Score
from fleet.chaos.stack import Shape, Stack
from fleet.chaos.traffic import Traffic
from fleet.exits import CommandError, Exit
from fleet.part import CannotStart
from fleet.store import opened
from journal.port import StoreUnavailable
from loadtest import apache_kafka, machine
from loadtest.processes import PartFailed
from schemas.settings import KafkaSettings, MongoSettings, WorkerSettings

MARKS = ("test", "chaos")
NETWORK = frozenset({Fault.CUT, Fault.HOLD, Fault.SLOW, Fault.THROTTLE})
OURS = frozenset({Fault.KILL, Fault.FREEZE, Fault.DRAIN, Fault.GATEWAY, Fault.GATEWAY_DRAIN, Fault.MODEL, Fault.POISON})
"""What can be broken where broker and database are somebody else's."""
QUIET_S = 3.0


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be run. `faults` empty: all that the stack allows; `least`: completed turns, None: half of those that
    the rate asks for; `forced`: how often it was said that the cluster may be broken though it is not marked."""

    minutes: float
    seed: int
    faults: tuple[Fault, ...] = ()
    every_s: float = 6.0
    rate: float = 40.0
    sessions: int = 100
    workers: int = 2
    kafka: str | None = None
    brokers: int = 1
    mongods: int = 1
    least: int | None = None
    out: Path = Path("chaos-report")
    forced: int = 0

    @property
    def seconds(self) -> float:
        return self.minutes * 60

    @property
    def needed(self) -> int:
        """Completed turns without which the run proves nothing."""
        return self.least if self.least is not None else int(self.rate * self.seconds / 2)


def named(text: str) -> tuple[Fault, ...]:
    """Faults by their names, comma separated. Raises CommandError(USAGE)."""
    try:
        return tuple(Fault(name.strip()) for name in text.split(",") if name.strip())
    except ValueError as error:
        raise CommandError(Exit.USAGE, f"--faults: {error}; there are {', '.join(Fault)}") from None


def engine(kafka: str | None) -> str | None:
    """Which Kafka. Raises CommandError(USAGE)."""
    if kafka not in (None, "apache", "embedded"):
        raise CommandError(Exit.USAGE, f"--kafka: {kafka!r} is neither apache nor embedded")
    return kafka


def run(wish: Wish, *, as_json: bool) -> Exit:
    """0: every promise held; 1: one broke, or too few turns were completed to say so."""
    shape = shape_of(wish)
    wish = replace(wish, faults=faults_of(wish, shape))
    shape = replace(shape, network=bool(NETWORK & {*wish.faults}))
    for name in ("aiokafka", "broker"):  # that nothing answers is what is wanted here
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        report = uvloop.run(_run(wish, shape))
    except asyncio.CancelledError:
        raise CommandError(Exit.INTERRUPTED, "ended before it was done; what it had started is ended") from None
    except (CannotStart, PartFailed) as failed:
        raise CommandError(Exit.NOT_STARTED, str(failed)) from None
    except (BrokerUnavailable, StoreUnavailable) as error:
        raise CommandError(Exit.UNREACHABLE, str(error)) from None
    page = report.write(wish.out)
    if as_json:
        print(json.dumps(report.as_json(), ensure_ascii=False))
    else:
        _print(report)
        print(f"report: {page}")
    return Exit.OK if report.passed else Exit.DIFFERENT


def shape_of(wish: Wish) -> Shape:
    """The stack to start. With addresses in the settings it is on that cluster, if that is marked as one for tests:
    FLEET_TOPIC_PREFIX and FLEET_MONGO_DATABASE begin with `test` or `chaos`. Raises CommandError(USAGE)."""
    kafka, mongo = KafkaSettings(), MongoSettings()
    if not (kafka.kafka_bootstrap or mongo.mongo_uri):
        found = "apache" if apache_kafka.available() else "embedded"
        if wish.brokers > 1 and (wish.kafka or found) == "embedded":
            raise CommandError(Exit.USAGE, "--brokers: the embedded broker is always one; several need Apache Kafka")
        return Shape(kafka=wish.kafka or found, brokers=wish.brokers, mongods=wish.mongods, workers=wish.workers)
    if not (kafka.kafka_bootstrap and mongo.mongo_uri):
        raise CommandError(Exit.USAGE, "set both FLEET_KAFKA_BOOTSTRAP and FLEET_MONGO_URI, or none of them")
    marked = kafka.topic_prefix.startswith(MARKS) and mongo.mongo_database.startswith(MARKS)
    if not marked and wish.forced < 2:
        raise CommandError(
            Exit.USAGE,
            "this cluster is not marked as a test cluster: FLEET_TOPIC_PREFIX and FLEET_MONGO_DATABASE begin with "
            "`test` or `chaos` there. To break it all the same say --force twice",
        )
    return Shape(
        kafka="given",
        mongods=0,
        workers=wish.workers,
        bootstrap=kafka.kafka_bootstrap,
        mongo_uri=mongo.mongo_uri,
        prefix=kafka.topic_prefix,
        database=mongo.mongo_database,
        session_timeout_ms=kafka.kafka_session_timeout_ms,
    )


def faults_of(wish: Wish, shape: Shape) -> tuple[Fault, ...]:
    """What is broken. Raises CommandError(USAGE) for what this stack cannot break."""
    can = set(OURS)
    if shape.mongods:
        can.add(Fault.PRIMARY)
    if shape.mongods > 1:
        can.add(Fault.STEP_DOWN)
    if shape.kafka == "apache":
        can.add(Fault.BROKER)  # the embedded one forgets its last second when it is killed
    if shape.kafka == "apache" and shape.brokers > 1:
        can.add(Fault.BROKER_FREEZE)
    if shape.kafka == "apache" or shape.mongods == 1:
        can |= NETWORK
    if wrong := [fault.value for fault in wish.faults if fault not in can]:
        allowed = ", ".join(sorted(fault.value for fault in can))
        raise CommandError(Exit.USAGE, f"this stack cannot break {', '.join(wrong)}; it can: {allowed}")
    return wish.faults or tuple(fault for fault in Fault if fault in can)


async def _run(wish: Wish, shape: Shape) -> Report:
    started, begun_s = datetime.now(UTC), time.monotonic()
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    folder = Path(tempfile.mkdtemp(prefix="turnfleet-chaos-"))
    score, about = Score(), machine.describe()
    try:
        kafka = f"{shape.kafka} Kafka" + (f" of {shape.brokers} brokers" if shape.brokers > 1 else "")
        _say(f"starting {kafka}, {shape.mongods or 'given'} mongod, {shape.workers} workers, a gateway")
        async with Stack(shape, folder) as stack:
            breaking = await _load(wish, stack, score)
            verdict = await _verdict(stack, settled=not score.unanswered)
            deaths = [death for process in stack.processes for death in process.deaths] + breaking.failed
    finally:
        _keep_logs(folder, wish.out / "logs")
        shutil.rmtree(folder, ignore_errors=True)
    return Report(
        command=f"fleet {' '.join(sys.argv[1:])}",
        started=started.isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - begun_s, 1),
        seed=wish.seed,
        machine=about | stack.describe() | {"load_after": [round(load, 2) for load in os.getloadavg()]},
        faults=breaking.done,
        score=score.as_json(),
        seconds_of_load=score.seconds(),
        verdict=verdict,
        deaths=deaths,
        failures=failures_of(score, verdict, deaths, needed=wish.needed, faults=breaking.done),
    )


async def _load(wish: Wish, stack: Stack, score: Score) -> Breaking:
    traffic = Traffic(f"c{secrets.token_hex(3)}", seed=wish.seed, sessions=wish.sessions)
    plan = plan_of(wish.seed, wish.seconds, wish.faults, every_s=wish.every_s)
    async with Load(stack.kafka, stack.gateway_url, score) as load:
        breaking = Breaking(stack, _say, load.poison)
        score.start_s = time.monotonic()
        _say(f"{wish.seconds:g} s of load at {wish.rate:g} turns/s, {len(plan)} faults, seed {wish.seed}")
        async with asyncio.TaskGroup() as together:
            together.create_task(breaking.carry_out(plan, score.start_s), name="faults")
            together.create_task(load.run(traffic, Pace(wish.rate, wish.seconds)), name="load")
        await asyncio.sleep(QUIET_S)  # commits are hints, and come late
    measure(breaking.done, score)
    return breaking


async def _verdict(stack: Stack, *, settled: bool) -> Verdict:
    """Where the fleet is still at work, what is under way breaks nothing; that it was not done in time does."""
    async with opened(stack.mongo) as store:
        sources = Sources(KafkaScan(stack.kafka), store.survey, _say, WorkerSettings().worker_tries)
        return await inspect(sources, settled=settled)


def failures_of(
    score: Score, verdict: Verdict, deaths: Sequence[str], *, needed: int, faults: Sequence[Done] = ()
) -> list[str]:
    """Why a run is no pass; none: every promise held, and enough happened to say so."""
    failures = [f"{count} × {kind}" for kind, count in sorted(verdict.kinds.items())]
    if score.unanswered:
        some = ", ".join(sorted(score.unanswered)[:5])
        failures.append(f"{len(score.unanswered)} turns were accepted and never answered, e.g. {some}")
    failures += score.wrong
    failures += [f"a process ended that nobody broke: {death.splitlines()[0]}" for death in deaths]
    if score.outcomes["completed"] < needed:
        failures.append(f"{score.outcomes['completed']} turns were completed, {needed} are needed to prove anything")
    if (happened := sum(not fault.skipped for fault in faults)) < len(faults) / 2:
        failures.append(f"{happened} of {len(faults)} faults happened, the others found their target broken already")
    return failures


def _keep_logs(folder: Path, to: Path) -> None:
    """What the processes said; those of the run before go."""
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(parents=True)
    for log in folder.glob("*.log"):
        with contextlib.suppress(OSError):
            shutil.copy(log, to / log.name)


def _print(report: Report) -> None:
    load = report.score
    done = sum(not fault.skipped for fault in report.faults)
    print(
        f"{load['offered']:,} turns offered, {load['accepted']:,} accepted, {load['answered']:,} answered: "
        + ", ".join(f"{count:,} {name}" for name, count in sorted(load["outcomes"].items()))
    )
    latency = load["latency"]
    print(
        f"latency p50 {latency['p50_ms']:,.0f} ms, p99 {latency['p99_ms']:,.0f} ms, longest silence "
        f"{load['longest_silence_s']:g} s; {done} faults; {load['repeated_sends']:,} sends repeated"
    )
    for kind, felt in by_kind(report.faults).items():
        print(f"{kind}: " + ", ".join(f"{name} {value:g}" for name, value in felt.items() if value is not None))
    print_verdict(report.verdict)
    for failure in report.failures:
        print(f"FAILED: {failure}")
    print("passed" if report.passed else "failed")


def _say(what: str) -> None:
    print(f"fleet: {what}", file=sys.stderr, flush=True)
