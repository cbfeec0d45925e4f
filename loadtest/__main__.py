"""`python -m loadtest`: without a command the short load set (`make load`); single scenarios, the scripted model, the
yardstick."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import uvloop

from loadtest import apache_kafka, machine, yardstick
from loadtest.bench import Bench, Plan
from loadtest.model_server import Model
from loadtest.processes import PartFailed
from loadtest.report import Report, as_text
from loadtest.result import Outcome
from loadtest.scenarios import ALL, BRINGS_ITS_OWN_STACK, BY_NAME_ONLY
from loadtest.script import Rules, Script
from loadtest.stack import Kafka, Stack
from loadtest.wheel import Wheel


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line. Exit codes: 0 done (targets missed or not), 1 an answer was wrong or a part failed,
    2 usage, 130 interrupted (Ctrl-C or SIGTERM; what was started is ended)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    asked = _parser().parse_args(given or ["short"])
    try:
        return int(uvloop.run(asked.run(asked)))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return 130


async def _load(asked: argparse.Namespace) -> int:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    plan = Plan(asked.seed, asked.repetitions, asked.scale, asked.against)
    started, begun_s, described = datetime.now(UTC), time.monotonic(), machine.describe() | {"kafka": asked.kafka}
    outcomes = []
    for name in asked.scenarios or [name for name in ALL if name not in BY_NAME_ONLY]:
        print(f"… {name}", file=sys.stderr, flush=True)
        outcome = await _scenario(name, plan, asked.kafka)
        print(as_text(outcome), flush=True)
        outcomes.append(outcome)
    report = Report(
        command=f"python -m loadtest {' '.join(sys.argv[1:])}".strip(),
        started=started.isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - begun_s, 1),
        seed=plan.seed,
        repetitions=plan.repetitions,
        machine=described,
        outcomes=outcomes,
    )
    print(f"report: {report.write(asked.out)}", flush=True)
    return 1 if report.faults else 0


async def _scenario(name: str, plan: Plan, kafka: Kafka) -> Outcome:
    """Each scenario has a stack of its own, so that none measures what another left behind."""
    try:
        async with Stack(kafka="none" if name in BRINGS_ITS_OWN_STACK else kafka) as stack:
            return await ALL[name](Bench(stack, plan))
    except PartFailed as failed:
        return Outcome(name, name, "not measured", faults=(str(failed),))


async def _model(asked: argparse.Namespace) -> int:
    loop = asyncio.get_running_loop()
    script = Script.load(asked.script) if asked.script else Script(Rules())
    server = await Model(loop, script, Wheel(loop, tick_s=asked.tick_ms / 1000)).serve(asked.host, asked.port)
    print(f"ready http://{asked.host}:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    async with server:
        await _stop_signal()
    return 0


async def _yardstick(asked: argparse.Namespace) -> int:
    bare = yardstick.run(
        asked.bootstrap,
        asked.mongo,
        prefix=asked.prefix,
        database=f"{asked.prefix}yard".replace("-", "_"),
        ready=lambda: print("ready yardstick", flush=True),
    )
    task = asyncio.create_task(bare, name="yardstick")
    stop = asyncio.create_task(_stop_signal(), name="stop")
    await asyncio.wait({task, stop}, return_when=asyncio.FIRST_COMPLETED)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    return 0


async def _stop_signal() -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m loadtest", description="Load on Turnfleet from outside.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    short = commands.add_parser("short", help="nearly all scenarios, some ten minutes (make load; the default)")
    _measured(short)
    short.set_defaults(scenarios=[])
    single = commands.add_parser("run", help="some scenarios")
    single.add_argument("scenarios", nargs="+", choices=list(ALL), metavar="SCENARIO", help=", ".join(ALL))
    _measured(single)
    model = commands.add_parser("model", help="the scripted OpenAI-compatible model server")
    model.add_argument("--host", default="127.0.0.1")
    model.add_argument("--port", type=int, default=0, help="0: any free one, printed on the ready line")
    model.add_argument("--script", type=Path, help="YAML or JSON with defaults and rules")
    model.add_argument("--tick-ms", type=float, default=5.0, help="how late a token may be on a free loop")
    model.set_defaults(run=_model)
    bare = commands.add_parser("yardstick", help="the bare loop, until stopped; its topics must exist")
    for option in ("--bootstrap", "--mongo", "--prefix"):
        bare.add_argument(option, required=True)
    bare.set_defaults(run=_yardstick)
    return parser


def _measured(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument(
        "--kafka",
        choices=["embedded", "apache"],
        default="apache" if apache_kafka.available() else "embedded",
        help="Apache Kafka itself (the default where java and mvn are found) or the embedded broker; "
        "with FLEET_KAFKA_BOOTSTRAP set that one is used",
    )
    parser.add_argument("--scale", type=float, default=1.0, help="lengthens or shortens every run")
    parser.add_argument("--against", default="", metavar="COMMIT", help="for the scenario of that name")
    parser.add_argument("--out", type=Path, default=Path("loadtest/reports"), help="folder of the report")
    parser.set_defaults(run=_load)


if __name__ == "__main__":
    sys.exit(main())
