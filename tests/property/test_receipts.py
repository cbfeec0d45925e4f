"""A receipt's parts add up to the whole, and each is what it says: whole workers in virtual time, any turn, crashes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, Literal, NamedTuple
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.testing.virtual_loop import run
from journal.gate import Call
from journal.memory import MemoryStore
from schemas.entries import Claim, Entry, Finish, Step, Suspend, entry_of
from schemas.receipt import Receipt
from schemas.settings import ModelSettings
from tests.support.memory_fleet import MemoryFleet
from workers.agent import AgentTurn, agent
from workers.context import Context
from workers.models.port import ModelRequest, ModelUnavailable
from workers.models.retry import ModelCaller
from workers.models.scripted import Script, ScriptedModel
from workers.runs import Runs

EPOCH_MS = 1_800_000_000_000
WRITE_S = 0.003
Deed = tuple[Literal["model", "cut", "tool", "pay", "step", "own", "branch"], int]
Block = Sequence[Deed] | Literal["ask"]


class Plan(NamedTuple):
    """Blocks one after another, their deeds side by side, in ms; `kills`: after how many ms a worker dies, each time;
    `late_ms`: how long the record waits for the first worker; `decides_ms`: how long a decision takes."""

    blocks: list[Block]
    kills: list[int]
    late_ms: int
    decides_ms: int


MS = st.integers(1, 400)
DEEDS = st.lists(
    st.tuples(st.sampled_from(["model", "cut", "tool", "pay", "step", "own", "branch"]), MS), min_size=1, max_size=3
)
PLANS = st.builds(
    Plan,
    st.lists(DEEDS | st.just("ask"), min_size=1, max_size=4),
    st.lists(st.integers(5, 900), max_size=2),
    st.integers(0, 500),
    st.integers(10, 2_000),
)


class Trace:
    """What happened when, told by whoever did it: none of it by the ledger."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, float, float]] = []
        self.begins: list[float] = []

    @contextmanager
    def span(self, hop: str) -> Iterator[None]:
        began_s = now_s()
        try:
            yield
        finally:
            self.spans.append((hop, began_s, now_s()))

    def by_hop(self, since_s: float, until_s: float) -> dict[str, float]:
        """A window's seconds by hop: of what overlaps, the first of model, tools, write; the rest is the agent's."""
        cuts = sorted({since_s, until_s, *(t for _, a, b in self.spans for t in (a, b) if since_s < t < until_s)})
        found = dict.fromkeys(("model", "tools", "write", "agent"), 0.0)
        for a, b in pairwise(cuts):
            busy = {hop for hop, begin, end in self.spans if begin <= a and b <= end}
            found[next((hop for hop in ("model", "tools", "write") if hop in busy), "agent")] += b - a
        return found


class Traced(ModelCaller):
    """Says when it is asked."""

    trace: Trace

    async def ask(self, request: ModelRequest, **more: Any) -> Any:
        with self.trace.span("model"):
            return await super().ask(request, **more)


def now_s() -> float:
    return asyncio.get_running_loop().time()


def clock_ms() -> int:
    return EPOCH_MS + int(now_s() * 1000)


def answers() -> Callable[[ModelRequest], Script]:
    """A model that takes as long as it is told; asked to be cut, it is, the first time."""
    cut: set[str] = set()

    def answer(request: ModelRequest) -> Script:
        kind, ms, _ = said = request.messages[0].text.split()
        first = kind == "cut" and (name := " ".join(said)) not in cut
        if first:
            cut.add(name)
            return Script(first_s=int(ms) / 2000, cut_after=1, error=ModelUnavailable("cut", after_s=0.05))
        return Script(first_s=int(ms) / 1000)

    return answer


def spec_of(plan: Plan, trace: Trace) -> Any:
    async def work(hop: str, ms: int) -> int:
        with trace.span(hop):
            await asyncio.sleep(ms / 1000)
        return ms

    async def does(ctx: Context, deed: Deed, name: str) -> None:
        kind, ms = deed
        if kind in {"model", "cut"}:
            await ctx.model(f"{kind} {ms} {name}", show=False)
        elif kind in {"tool", "pay"}:
            await ctx.tool(kind, lambda ms: work("tools", ms), {"ms": ms}, call=name, side_effects=kind == "pay")
        elif kind == "branch":
            aside = ctx.branch(name.replace(".", "-"))
            await aside.model(f"model {ms} {name}", show=False)
            await aside.tool("tool", lambda: work("tools", ms), {}, side_effects=False)
        elif kind == "step":
            await ctx.step(name, lambda: work("agent", ms))
        else:
            await work("agent", ms)

    @agent(name="does", version="1")
    async def spec(turn: AgentTurn, ctx: Context) -> str:
        trace.begins.append(now_s())
        for number, block in enumerate(plan.blocks):
            if isinstance(block, str):
                await ctx.approval(f"may I {number}?")
            else:
                jobs = (does(ctx, deed, f"{number}.{n}") for n, deed in enumerate(block))
                for done in await asyncio.gather(*jobs, return_exceptions=True):
                    if isinstance(done, BaseException) and getattr(done, "code", "") != "outcome_unknown":
                        raise done
        return "done"

    return spec


async def lived(plan: Plan, trace: Trace) -> list[tuple[Entry, int]]:
    """The turn, with its crashes and decisions; its entries."""
    fleet = MemoryFleet(spec_of(plan, trace), default="does", worker_tries=9)
    fleet.cluster.clock_ms = fleet.clock_ms = clock_ms
    fleet.clock_ns = lambda: int(now_s() * 1e9)
    fleet.store = MemoryStore(writes_slowly)
    fleet.models = Traced(
        ScriptedModel(answers(), coalesce_s=0), ModelSettings(), clock_ms=clock_ms, chance=lambda: 0.5
    )
    fleet.models.trace = trace
    async with fleet:
        fleet.turn("s1", "go", turn="t1", user="u")
        await asyncio.sleep(plan.late_ms / 1000)
        await fleet.worker()
        for ms in plan.kills:
            await until(fleet, ms / 1000, plan.decides_ms / 1000)
            if fleet.terminals():
                break
            dead, consumer = fleet.workers.pop()
            consumer.silence()
            for number in list(dead.system.partitions):
                dead.system.disown(number, release=False)
            await fleet.worker()
        await until(fleet, 1e6, plan.decides_ms / 1000)
        rows = [row for (_, _), row in sorted(fleet.store.log.rows.items())]
        return [(entry_of(row.kind, row.body or "", row.frames), row.v) for row in rows]


async def until(fleet: MemoryFleet, seconds: float, decides_s: float) -> None:
    """Until the turn is over or so much time has passed; whoever is asked decides."""
    end_s = now_s() + seconds
    while now_s() < end_s and not fleet.terminals():
        await asyncio.sleep(min(0.01, end_s - now_s()))
        state = (await fleet.state("s1")).open
        if state is not None and state.awaits is not None and clock_ms() >= state.awaits.at_ms + decides_s * 1000:
            call = state.awaits.call
            fleet.control("s1", kind="approve", op=f"o{call}", turn="t1", call=call, decision="allow", user="u")
            await asyncio.sleep(0.05)


async def writes_slowly(call: Call) -> None:
    if call.operation == "insert" and call.phase == "before":
        await asyncio.sleep(WRITE_S)


def expected(entries: list[Entry], trace: Trace, arrived_ms: int) -> dict[str, float]:
    """Seconds by hop, from what the entries say of when and what the trace says of what."""
    claims = [entry for entry in entries if isinstance(entry, Claim)]
    finish = next(entry for entry in entries if isinstance(entry, Finish))
    found = dict.fromkeys(("claim", "model", "tools", "write", "agent", "suspended", "lost"), 0.0)
    found["queue"] = (claims[0].at_ms - arrived_ms) / 1000
    begins = iter(trace.begins)
    begin_s = next(begins, None)
    for claim, following in [*pairwise(claims), (claims[-1], None)]:
        made = [e for e in entries if isinstance(e, Step | Suspend) and e.attempt == claim.attempt]
        until_ms = finish.at_ms if following is None else made[-1].at_ms if made else claim.at_ms
        if following is not None:
            what = "suspended" if made and isinstance(made[-1], Suspend) else "lost"
            found[what] += (following.at_ms - until_ms) / 1000
        if begin_s is None or (following is not None and begin_s * 1000 > following.at_ms - EPOCH_MS):
            continue  # this attempt died before its agent began
        if until_ms > claim.at_ms:
            for hop, seconds in trace.by_hop(begin_s, (until_ms - EPOCH_MS) / 1000).items():
                found[hop] += seconds
            found["claim"] += begin_s - (claim.at_ms - EPOCH_MS) / 1000
        begin_s = next(begins, None)
    return found


def played(plan: Plan) -> tuple[Receipt, dict[str, float], list[Entry]]:
    trace = Trace()
    append = Runs.append

    async def traced(self: Runs, entry: Any) -> None:
        with trace.span("write"):
            await append(self, entry)

    with patch.object(Runs, "append", traced):
        entries = [entry for entry, _ in run(lived(plan, trace))]
    finish = next(entry for entry in entries if isinstance(entry, Finish))
    assert finish.receipt is not None
    first = next(entry for entry in entries if isinstance(entry, Claim))
    return finish.receipt, expected(entries, trace, first.position.timestamp_ms), entries


def check(plan: Plan, receipt: Receipt, wanted: dict[str, float], entries: list[Entry]) -> None:
    first = next(entry for entry in entries if isinstance(entry, Claim))
    hops = {hop: getattr(receipt.hops, f"{hop}_us") / 1e6 for hop in wanted}
    whole_s = (receipt.at_ms - first.position.timestamp_ms) / 1000
    assert abs(sum(hops.values()) - whole_s) <= 0.01 * whole_s
    assert receipt.whole_us == sum(round(seconds * 1e6) for seconds in hops.values())
    near_s = max(0.01 * whole_s, 0.002 * (1 + len(plan.kills) + len(plan.blocks)))
    assert {hop: hops[hop] for hop in wanted if abs(hops[hop] - wanted[hop]) > near_s} == {}, wanted
    claims = sum(isinstance(entry, Claim) for entry in entries)
    suspends = sum(isinstance(entry, Suspend) for entry in entries)
    assert (receipt.waste.attempts if receipt.waste is not None else 0) == claims - 1 - suspends


@settings(max_examples=60, deadline=None)
@given(plan=PLANS)
def test_the_parts_add_up_and_each_is_what_it_says(plan: Plan) -> None:
    check(plan, *played(plan))


def test_a_turn_with_everything() -> None:
    """Not left to chance: parallel model and tool calls, a retry, a decision, a worker that dies, in one turn."""
    together: Block = [("model", 300), ("tool", 200), ("own", 100), ("branch", 150)]
    plan = Plan([together, [("cut", 200)], [("own", 150)], "ask", [("pay", 300), ("model", 100)]], [200], 100, 500)
    receipt, wanted, entries = played(plan)
    check(plan, receipt, wanted, entries)
    hops = receipt.hops
    assert hops.queue_us >= 100_000 and hops.suspended_us >= 500_000 and hops.lost_us > 0
    assert min(hops.model_us, hops.tools_us, hops.write_us, hops.claim_us) > 0
    assert receipt.waste is not None and receipt.waste.attempts >= 1 and receipt.waste.untold_calls == 1
