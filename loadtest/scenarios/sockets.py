"""An open loop over many WebSockets: Poisson arrivals, a few busy sessions and many quiet ones. For orientation; the
figures that must be reached are in the other scenarios."""

from __future__ import annotations

from loadtest.bench import Bench
from loadtest.figures import Spread
from loadtest.generator import run_open
from loadtest.result import Chart, Figure, Outcome
from loadtest.scenarios.parts import Costed, costed, faults, others
from loadtest.schedule import arrivals, sessions
from loadtest.workload import Echo

SOCKETS = 50
SESSIONS = 2_000
RATE = 300.0
SECONDS = 8.0


async def measure(bench: Bench) -> Outcome:
    """One gateway, one worker; each repetition has another seed."""
    runs: list[Costed] = []
    wrong: list[str] = []
    async with bench.product(gateway=True) as product, bench.sockets(product, SOCKETS) as lane:
        for repetition in range(bench.plan.repetitions):
            seed = bench.plan.seed + repetition
            workload = Echo(f"k{repetition}", sessions(SESSIONS, kind="zipf", seed=seed))
            times = arrivals(RATE, kind="poisson", seed=seed)
            run = run_open(lane, workload, times, seconds=SECONDS * bench.plan.scale)
            runs.append(await costed(run, gateway=product.gateway, worker=product.worker))
        wrong += [f"the gateway refused a frame: {dict(error)}" for error in lane.errors[:3]]
        wrong += [f"a socket was closed: {why}" for why in lane.closed[:3]]
    marks = {"p50": "p50_ms", "p90": "p90_ms", "p99": "p99_ms"}
    latency = {name: [getattr(done.run.from_intended, field) for done in runs] for name, field in marks.items()}
    return Outcome(
        "sockets",
        f"Open loop over {SOCKETS} WebSockets",
        f"{RATE:g} echo turns a second, Poisson, {SESSIONS:,} sessions by Zipf; latency from the intended start",
        figures=[
            *(
                Figure(f"{name} from the intended start", "ms", Spread.of(found), "low")
                for name, found in latency.items()
            ),
            Figure("achieved a second", "1/s", Spread.of([done.run.achieved_rate for done in runs])),
            Figure("gateway CPU a turn", "µs", Spread.of([done.cpu_us["gateway"] for done in runs]), "low"),
            others(runs),
        ],
        charts=[Chart("Latency", "ms", [f"repetition {n + 1}" for n in range(len(runs))], latency)],
        runs=[done.as_dict() for done in runs],
        faults=wrong + [line for done in runs for line in faults("websocket", done.run)],
    )
