"""Tells the decisions that ship what happened, and carries out their orders as `workers/actor.py` does: slots are
granted at once, publications wait for the broker, an agent makes its steps and ends.

Benches are numbered: equal ones have the same number, and what a fact makes of one is worked out once.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from journal.fold import FoldError
from journal.port import Timer
from schemas.entries import Step, Suspend
from tests.explorer.bench import Agent, Bench
from tests.explorer.scope import NOW_MS, Record, Scope, call_of
from tests.explorer.store import KEY, Broken, Store
from workers import effects as fx
from workers.result import Result
from workers.session import Session

TIMERS = 2
NOTHING = 0  # the number of the bench without a session
Fact = tuple[Any, ...]


class Told(NamedTuple):
    """What a fact makes of a bench. `marks`: (stream, offset) that are done; `frames`: terminal frames that go out as
    (turn, frame); `left`: rows that were sent beside the open question."""

    bench: int
    marks: tuple[tuple[int, int], ...] = ()
    frames: tuple[tuple[str, str], ...] = ()
    left: tuple[int, ...] = ()


class _Out:
    """The same while it is gathered."""

    def __init__(self, worker: str) -> None:
        self.worker = worker
        self.marks: list[tuple[int, int]] = []
        self.frames: list[tuple[str, str]] = []
        self.left: list[int] = []


class Driver:
    """All benches that were seen, by number."""

    def __init__(self, scope: Scope, store: Store) -> None:
        self.scope = scope
        self.store = store
        self.benches: list[Bench | None] = [None]
        self._numbers: dict[Any, int] = {}
        self._told: dict[Any, Told | str] = {}
        self._now_ms = NOW_MS
        self._mail = [scope.mail(offset) for offset in range(len(scope.log))]

    def session(self, number: int) -> Session | None:
        """The session on a bench."""
        bench = self.benches[number]
        return bench.session if bench is not None else None

    def tell(self, number: int, worker: str, now_ms: int, fact: Fact) -> Told:
        """`fact` happens: the name of a method below and its arguments. `worker`: incarnation, for the nonces of what
        it sends. Raises Broken."""
        place, self._now_ms = (number, worker, now_ms, fact), now_ms
        told = self._told.get(place)
        if told is None:
            try:
                told = self._work_out(number, worker, fact)
            except (AssertionError, FoldError, LookupError, ValueError) as error:
                told = f"the worker fails at {fact[0]}: {error!r}"
            self._told[place] = told
        if isinstance(told, str):
            raise Broken(told)
        return told

    def _work_out(self, number: int, worker: str, fact: Fact) -> Told:
        before = self.benches[number]
        if before is None:
            bench = Bench(Session(KEY, self.scope.rules(int(worker[1])), floor=fact[-1]))
        elif fact[0] == "renewed":
            bench = before.copied(lambda record: record._replace(stale=record.stream < TIMERS))
        else:
            bench = before.copied()
        out = _Out(worker)
        self._carry_out(bench, getattr(self, "_" + fact[0])(bench, *fact[1:]), out)
        return Told(self._number(bench), tuple(out.marks), tuple(out.frames), tuple(out.left))

    def _number(self, bench: Bench) -> int:
        key = bench.key(self.store)
        known = self._numbers.get(key)
        if known is None:
            known = self._numbers[key] = len(self.benches)
            self.benches.append(bench)
        return known

    def _carry_out(self, bench: Bench, orders: list[fx.Effect], out: _Out) -> None:
        session = bench.session
        for order in orders:
            match order:
                case fx.Acknowledge(trigger) if not trigger.record.stale:
                    out.marks.append((trigger.record.stream, trigger.record.offset))
                case fx.Start():
                    assert session.state is not None and session.state.open is not None
                    bench.agent = Agent(session.state.open)
                case fx.Stop(by):
                    assert bench.agent is not None
                    bench.agent.stop = by
                case fx.Steer() if bench.agent is not None:
                    bench.agent.unheard = True
                case fx.Abandon():
                    bench.agent = None
                case fx.WantSlot():
                    assert not bench.slot, "a second slot"
                    bench.slot = "wanted"
                    if not self.scope.queues:
                        self._carry_out(bench, self._granted(bench), out)
                case fx.FreeSlot():
                    bench.slot = ""
                case fx.Publish(turn, frame, _):
                    self._send(bench, turn, frame, out)
                case fx.Request(turn, call, _, _):
                    bench.outbox.append(("request", call, turn))
                case fx.Republish(turn, _):
                    bench.repeats.append(turn)
                case fx.Reply(ack, trigger):
                    bench.outbox.append(("reply", ack.op, ack.state, trigger))
                case fx.Refuse(trigger, _, _):
                    bench.outbox.append(("refuse", trigger.record.offset, trigger))
                case fx.Append(version, entry) if order is not session.asked:
                    out.left.append(self.store.row_id(version, entry, out.worker))

    def _send(self, bench: Bench, turn: str, frame: str, out: _Out) -> None:
        bench.outbox.append(("frame", turn))
        out.frames.append((turn, frame))

    # ---- facts

    def _turn(self, bench: Bench, offset: int, floor: int) -> list[fx.Effect]:
        trigger = fx.Trigger(Record(0, offset), None, lambda _: None)
        return bench.session.arrived(self._mail[offset], trigger, self._now_ms)

    def _control(self, bench: Bench, offset: int, floor: int) -> list[fx.Effect]:
        trigger = fx.Trigger(Record(1, offset, topic="agent.control"), None, lambda _: None)
        return bench.session.commanded(fx.Op(self.scope.control(offset), trigger), self._now_ms)

    def _due(self, bench: Bench, number: int, floor: int) -> list[fx.Effect]:
        turn, call = self.scope.timers[number]
        trigger = fx.Trigger(Record(TIMERS, number, topic="timers"), None, lambda _: None)
        return bench.session.woken(Timer(KEY, turn, call, self._now_ms), trigger, self._now_ms)

    def _armed(self, bench: Bench) -> list[fx.Effect]:
        return bench.session.armed(self._now_ms)

    def _suspend(self, bench: Bench) -> list[fx.Effect]:
        agent = bench.agent
        assert agent is not None
        call = call_of(agent.turn, agent.asked)
        agent.waits, agent.unheard = True, False
        asked = Suspend(
            at_ms=self._now_ms,
            turn=agent.turn,
            attempt=agent.attempt,
            call=call,
            deadline_ms=self._now_ms,
            frames=(f'{{"type":"approval_requested","turn":"{agent.turn}"}}',),
        )
        return bench.session.step(asked, self._now_ms)

    def _granted(self, bench: Bench) -> list[fx.Effect]:
        bench.slot = "held"
        return bench.session.granted(self._now_ms)

    def _renewed(self, bench: Bench) -> list[fx.Effect]:
        return []

    def _step(self, bench: Bench) -> list[fx.Effect]:
        agent = bench.agent
        assert agent is not None
        agent.waits, agent.unheard = True, False
        step = Step(
            at_ms=self._now_ms,
            turn=agent.turn,
            attempt=agent.attempt,
            step=agent.step,
            kind="step",
            name="s",
            digest="d",
        )
        return bench.session.step(step, self._now_ms)

    def _hears(self, bench: Bench) -> list[fx.Effect]:
        """It is run again with what its user said meanwhile."""
        assert bench.agent is not None
        bench.agent.unheard = False
        return []

    def _seals(self, bench: Bench) -> list[fx.Effect]:
        assert bench.agent is not None
        bench.agent.sealed = bench.session.seal()
        assert bench.agent.sealed
        return []

    def _ended(self, bench: Bench, outcome: str, text: str) -> list[fx.Effect]:
        agent, bench.agent = bench.agent, None
        assert agent is not None
        result = Result(outcome, text=text, by=agent.stop if outcome == "cancelled" else None)  # type: ignore[arg-type]
        bench.session.allow_merge(self.scope.merge)
        return bench.session.ended(result, self._now_ms)

    def _repeated(self, bench: Bench, frame: str | None) -> list[fx.Effect]:
        """The first of `repeats` was read from the journal: it goes out, or its content is gone."""
        turn = bench.repeats.pop(0)
        if frame is None:
            return bench.session.published(turn, self._now_ms)
        return [fx.Publish(turn, frame, frozenset())]

    def _acknowledged(self, bench: Bench, item: int) -> list[fx.Effect]:
        kind, *rest = bench.outbox.pop(item)
        if kind == "frame":
            return bench.session.published(rest[0], self._now_ms)
        if kind == "request":
            return bench.session.requested(rest[1], rest[0], self._now_ms)
        return bench.session.replied(rest[2], self._now_ms) if kind == "reply" else [fx.Acknowledge(rest[1])]

    def _loaded(self, bench: Bench, state: int) -> list[fx.Effect]:
        return bench.session.loaded(self.store.states[state], self._now_ms)

    def _looked(self, bench: Bench, state: int) -> list[fx.Effect]:
        return bench.session.looked(self.store.states[state], self._now_ms)

    def _proved(self, bench: Bench) -> list[fx.Effect]:
        return bench.session.proved(self._now_ms)

    def _found(self, bench: Bench, turn: str, known: bool) -> list[fx.Effect]:
        return bench.session.found(turn, known, self._now_ms)

    def _applied(self, bench: Bench) -> list[fx.Effect]:
        asked = bench.session.asked
        assert isinstance(asked, fx.Append)
        if isinstance(asked.entry, Step) and bench.agent is not None and bench.agent.waits:
            bench.agent.step, bench.agent.waits = bench.agent.step + 1, False
        return bench.session.applied(self._now_ms)

    def _collided(self, bench: Bench, state: int) -> list[fx.Effect]:
        return bench.session.collided(self.store.states[state], self._now_ms)

    def _known(self, bench: Bench) -> list[fx.Effect]:
        return bench.session.known(self._now_ms)

    def _wiped(self, bench: Bench) -> list[fx.Effect]:
        return bench.session.wiped(self._now_ms)
