"""What may happen next in a world, and what becomes of it: the environment of the decisions.

Events are `(what, worker, which)`. Those of `SPENDS` are faults and what clients say: nobody may count on them.
"""

from __future__ import annotations

from journal.fold import FoldError
from tests.explorer import promises
from tests.explorer.bench import Agent
from tests.explorer.driver import NOTHING, TIMERS, Driver
from tests.explorer.scope import FAULTS, LATER_MS, NOW_MS, Scope
from tests.explorer.store import Broken, Journal, Store
from tests.explorer.world import CONTROL, NOT_READ, TURNS, Late, Marks, Seat, World
from workers import effects as fx
from workers.session import Session

Event = tuple[str, int, int]
SPENDS = frozenset((*FAULTS, "say"))


def _next_of(agent: Agent, session: Session, scope: Scope) -> tuple[str, ...]:
    """What an agent does that waits for nothing: it ends once nothing can join its turn any more."""
    if agent.asked < scope.asks.get(agent.turn, 0):
        return ("suspend",)
    if agent.step < scope.steps:
        return ("step",)
    if agent.unheard:
        return ("hears",)
    if agent.sealed or not scope.steers:
        return ("completed",)
    return () if session.joining else ("seals",)


class Moves:
    """See the module. One instance belongs to one exploration: it remembers what every fact makes of every bench."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.store = Store()
        self.driver = Driver(scope, self.store)

    # ---- what may happen

    def events(self, world: World) -> list[Event]:
        """Everything that may happen now."""
        found: list[Event] = [("arrive", item.worker, at) for at, item in enumerate(world.late)]
        if world.budget[FAULTS.index("time")]:
            found.append(("time", 0, 0))
        for worker in (0, 1):
            self._of_worker(world, worker, found)
        return found

    def _may_say(self, world: World) -> bool:
        """A delete is sent while there is something to delete: then "unknown" is a lie. A release needs a letter."""
        if world.said == len(self.scope.commands):
            return False
        if self.scope.said(world.said).kind == "release":
            ended = world.outcome(self.scope.said(world.said).turn)
            return ended is not None and ended.outcome == "failed"
        return self.scope.said(world.said).kind != "delete" or self.store.state(world.journal).opened is not None

    def _of_worker(self, world: World, worker: int, found: list[Event]) -> None:
        seat = world.seats[worker]
        if world.owner == worker and not seat.current:
            found.append(("assigned", worker, 0))
        if not seat.assigned:
            return
        if world.owner != worker:
            found.append(("lost", worker, 0))
        if seat.marks[TURNS].next < self.scope.written(world.said):
            found.append(("poll", worker, TURNS))
        if seat.marks[CONTROL].next < world.said:
            found.append(("poll", worker, CONTROL))
        elif self._may_say(world):
            found.append(("say", worker, world.said))
        found.extend(("due", worker, number) for number in world.timers - seat.handed if self._due_now(world, number))
        self._of_bench(world, worker, seat, found)
        self._faults(world, worker, found)

    def _due_now(self, world: World, number: int) -> bool:
        """A decision may be due at any moment; a parked turn only when its deadline has passed."""
        return bool(self.scope.timers[number][1]) or world.now_ms >= NOW_MS + 1_000 * self.scope.deadline_s

    def _of_bench(self, world: World, worker: int, seat: Seat, found: list[Event]) -> None:
        bench = self.driver.benches[seat.bench]
        if bench is None:
            return
        if seat.read != NOT_READ or bench.session.asked is not None:
            found.append(("answer", worker, 0))
        agent = bench.agent
        if agent is not None:
            if agent.stop is not None:
                found.append(("cancelled", worker, 0))
            if not agent.waits:
                found.extend((what, worker, 0) for what in _next_of(agent, bench.session, self.scope))
        if bench.slot == "wanted":
            found.append(("granted", worker, 0))
        if bench.repeats:
            found.append(("repeats", worker, 0))
        found.extend(("acknowledged", worker, item) for item in range(len(bench.outbox)))

    def _faults(self, world: World, worker: int, found: list[Event]) -> None:
        if not any(world.budget):
            return
        left = dict(zip(FAULTS, world.budget, strict=True))
        seat = world.seats[worker]
        bench = self.driver.benches[seat.bench]
        commits = range(world.commits) if world.owner == worker else range(1)
        if left["crash"]:
            others = (worker, 1 - worker) if world.seats[1 - worker].assigned else (worker,)
            others = others if world.owner == worker else (world.owner,)
            found.extend(("crash", worker, 2 * commit + to) for commit in commits for to in others)
        if world.owner == worker:
            found.extend((fault, worker, at) for fault in ("rebalance", "keep") if left[fault] for at in commits)
        if bench is None:
            return
        asked = bench.session.asked
        if left["ambiguous"] and isinstance(asked, fx.Append) and seat.read == NOT_READ:
            found.append(("ambiguous", worker, 0))
        if left["coordinator"] and world.member(worker) and (seat.read != NOT_READ or isinstance(asked, fx.Prove)):
            found.extend(("coordinator", worker, commit) for commit in commits)
        if left["evict"] and bench.session.idle and not bench.outbox:
            found.append(("evict", worker, 0))

    def left(self, world: World) -> str:
        """What is left to do; empty: everything is settled, published, committed, and no slot is held."""
        for seat in world.seats:
            bench = self.driver.benches[seat.bench]
            if bench is not None and bench.slot:
                return f"a slot is {bench.slot}"
        return promises.settled(world, self.scope, self.store)

    # ---- what becomes of it

    def after(self, world: World, event: Event) -> World:
        """The world after `event`. Raises Broken."""
        what, worker, which = event
        acks, ended = world.acks, world.ended
        if what in FAULTS:
            at = FAULTS.index(what)
            budget = (*world.budget[:at], world.budget[at] - 1, *world.budget[at + 1 :])
            world = world._replace(budget=budget, used=world.used + (what not in {"evict", "time"}))
        try:
            world = getattr(self, "_" + what)(world, worker, which)
        except FoldError as error:
            raise Broken(f"the journal does not fold: {error}") from error
        if world.acks is not acks or world.ended is not ended:
            promises.honoured(world, self.scope)
        return world

    def _tell(self, world: World, worker: int, *fact: object) -> World:
        seat = world.seats[worker]
        told = self.driver.tell(seat.bench, f"w{worker}.{seat.life}", world.now_ms, fact)
        if told.frames:
            self._check_frames(world, seat, told.frames)
        world = world.seated(worker, bench=told.bench)
        if told.marks:
            world = self._marked(world, worker, told.marks)
        if told.left:
            late = tuple(Late(worker, self.store.rows[row].v, row) for row in told.left)
            world = world._replace(late=world.late + late)
        return world

    def _marked(self, world: World, worker: int, done: tuple[tuple[int, int], ...]) -> World:
        """Records need no more work: what a member could commit from now on is ahead of nothing."""
        marks, since = list(world.seats[worker].marks), world.position
        for stream, offset in done:
            if stream == TIMERS:
                handed = world.seats[worker].handed - {offset}
                world = world.seated(worker, handed=handed)._replace(timers=world.timers - {offset})
                continue
            marks[stream] = marks[stream].settled(offset)
        world = world.seated(worker, marks=(marks[0], marks[1]))
        if world.member(worker):
            promises.committed(world, self.scope, self.store, since, world.position)
        return world

    def _check_frames(self, world: World, seat: Seat, frames: tuple[tuple[str, str], ...]) -> None:
        bench = self.driver.benches[seat.bench]
        out = {item[1] for item in bench.outbox if item[0] == "frame"} if bench is not None else set()
        for turn, frame in frames:
            promises.told(world, self.store, out, turn, frame)
            out.add(turn)

    def _say(self, world: World, worker: int, which: int) -> World:
        """A client says it, and it is polled at once: sent and not polled is the same as not sent."""
        return self._poll(world._replace(said=world.said + 1), worker, CONTROL)

    def _poll(self, world: World, worker: int, stream: int) -> World:
        seat = world.seats[worker]
        offset = seat.marks[stream].next
        marks = list(seat.marks)
        marks[stream] = marks[stream]._replace(next=offset + 1)
        world = world.seated(worker, marks=(marks[0], marks[1]))
        return self._tell(world, worker, "turn" if stream == TURNS else "control", offset, seat.marks[TURNS].position)

    def _due(self, world: World, worker: int, which: int) -> World:
        """A timer is found due; its session is told once."""
        seat = world.seats[worker]
        world = world.seated(worker, handed=seat.handed | {which})
        return self._tell(world, worker, "due", which, seat.marks[TURNS].position)

    # ---- questions

    def _answer(self, world: World, worker: int, which: int) -> World:
        seat = world.seats[worker]
        session = self.driver.session(seat.bench)
        assert session is not None
        if seat.read != NOT_READ:
            return self._answered(world.seated(worker, read=NOT_READ), worker, session.asked, seat.read)
        match session.asked:
            case fx.Append():
                return self._append(world, worker)
            case fx.Prove():
                return self._proved(world, worker, "proved")
            case fx.Arm(turn, call, _):
                world = world._replace(timers=world.timers | {self.scope.timers.index((turn, call))})
                return self._tell(world, worker, "armed")
            case fx.Wipe(version):
                world = world._replace(journal=self.unset(world.journal, version))
                return self._tell(world, worker, "wiped")
            case fx.Load():
                read = self.store.read_on(self.store.empty, world.journal)
            case fx.Look():
                read = self._read_on(world, worker)
            case fx.Find(turn):
                read = int(self.store.knows(world.journal, turn))
        if self.scope.commands:  # an op may come between: `nothing to do` is said only of what was read after it
            return world.seated(worker, read=read)
        return self._answered(world, worker, session.asked, read)

    def _answered(self, world: World, worker: int, asked: fx.Effect | None, read: int) -> World:
        """What was read is told; after a collision membership is proved first."""
        match asked:
            case fx.Append():
                return self._proved(world, worker, "collided", read)
            case fx.Find(turn):
                return self._tell(world, worker, "found", turn, bool(read))
        return self._tell(world, worker, "loaded" if isinstance(asked, fx.Load) else "looked", read)

    def _proved(self, world: World, worker: int, *fact: object) -> World:
        """`fact` follows where membership is proved."""
        return self._tell(world, worker, *fact) if self.proves(world, worker) else self.give_up(world, worker)

    def unset(self, journal: Journal, version: int) -> Journal:
        """The journal without the content below `version`."""
        return self.store.unset(journal, version)

    def proves(self, world: World, worker: int) -> bool:
        """Whether the group takes a commit of this worker."""
        return world.member(worker)

    def _read_on(self, world: World, worker: int) -> int:
        session = self.driver.session(world.seats[worker].bench)
        assert session is not None and session.state is not None
        return self.store.read_on(self.store.state_id(session.state), world.journal)

    def _append(self, world: World, worker: int) -> World:
        version, row = self._row(world, worker)
        verdict, journal = self.store.insert(world.journal, version, row)
        if verdict == "collided":
            return world.seated(worker, read=self._read_on(world, worker))
        world = self._written(world, journal)
        return self._tell(world, worker, verdict)

    def _row(self, world: World, worker: int) -> tuple[int, int]:
        seat = world.seats[worker]
        session = self.driver.session(seat.bench)
        assert session is not None and isinstance(session.asked, fx.Append)
        version, entry = session.asked
        return version, self.store.row_id(version, entry, f"w{worker}.{seat.life}")

    def _written(self, world: World, journal: tuple[int, ...]) -> World:
        if journal == world.journal:
            return world
        return promises.written(world, self.scope, self.store, journal)

    def _ambiguous(self, world: World, worker: int, which: int) -> World:
        return world._replace(late=(*world.late, Late(worker, *self._row(world, worker))))

    def _arrive(self, world: World, worker: int, which: int) -> World:
        late = world.late[which]
        world = world._replace(late=world.late[:which] + world.late[which + 1 :])
        return self._written(world, self.store.insert(world.journal, late.version, late.row)[1])

    # ---- slots, the agent, the broker

    def _granted(self, world: World, worker: int, which: int) -> World:
        return self._tell(world, worker, "granted")

    def _step(self, world: World, worker: int, which: int) -> World:
        return self._tell(world, worker, "step")

    def _suspend(self, world: World, worker: int, which: int) -> World:
        return self._tell(world, worker, "suspend")

    def _hears(self, world: World, worker: int, which: int) -> World:
        return self._tell(world, worker, "hears")

    def _seals(self, world: World, worker: int, which: int) -> World:
        return self._tell(world, worker, "seals")

    def _completed(self, world: World, worker: int, which: int) -> World:
        return self._tell(world, worker, "ended", "completed", f"by w{worker}")

    def _cancelled(self, world: World, worker: int, which: int) -> World:
        return self._tell(world, worker, "ended", "cancelled", f"by w{worker}")

    def _acknowledged(self, world: World, worker: int, which: int) -> World:
        bench = self.driver.benches[world.seats[worker].bench]
        assert bench is not None
        kind, *rest = bench.outbox[which]
        if kind == "reply":
            promises.answered(world, self.scope, self.store, rest[0], rest[1])
            world = world._replace(acks=world.acks | {(rest[0], rest[1])})
        elif kind == "request":
            world = world._replace(asked=world.asked | {rest[0]})
        elif kind == "refuse":
            world = world._replace(acks=world.acks | {(f"turn{rest[0]}", "refused")})
        else:
            world = world._replace(published=world.published | {rest[0]})
        return self._tell(world, worker, "acknowledged", which)

    def _repeats(self, world: World, worker: int, which: int) -> World:
        """The driver reads the frame of the first turn that is to be published again, and sends it."""
        bench = self.driver.benches[world.seats[worker].bench]
        assert bench is not None
        return self._tell(world, worker, "repeated", self.store.frame(world.journal, bench.repeats[0]))

    # ---- the group

    def _assigned(self, world: World, worker: int, which: int) -> World:
        """The worker hears of its assignment: kept sessions go on under new watermarks, records come again."""
        seat = world.seats[worker]
        turns, control = world.committed
        marks = (Marks(turns, turns), Marks(control, control))
        if seat.assigned:
            bench = self.driver.tell(seat.bench, "", NOW_MS, ("renewed",)).bench if seat.bench != NOTHING else NOTHING
            return world.seated(worker, current=True, marks=marks, bench=bench)
        return world.seated(worker, assigned=True, current=True, marks=marks)

    def _lost(self, world: World, worker: int, which: int) -> World:
        """The late callback: the sessions are abandoned, a RELEASE is sent, best effort."""
        session = self.driver.session(world.seats[worker].bench)
        entry = session.release_entry(world.now_ms) if session is not None else None
        if entry is not None:
            row = self.store.row_id(entry.version, entry.entry, f"w{worker}.{world.seats[worker].life}")
            world = self._written(world, self.store.insert(world.journal, entry.version, row)[1])
        return self._dropped(world, worker)

    def _dropped(self, world: World, worker: int) -> World:
        """The worker has nothing any more. Its writes under way are told from those of its next life."""
        life = world.seats[worker].life + any(late.worker == worker for late in world.late)
        return world._replace(seats=tuple(Seat(life=life) if at == worker else it for at, it in enumerate(world.seats)))  # type: ignore[arg-type]

    def give_up(self, world: World, worker: int) -> World:
        """Membership is not proved: the whole partition goes, and the worker joins again."""
        return self._dropped(world, worker)

    def _coordinator(self, world: World, worker: int, which: int) -> World:
        return self.give_up(world.committing(which), worker)

    def _crash(self, world: World, worker: int, which: int) -> World:
        commit, to = divmod(which, 2)
        world = world.committing(commit)
        return self._dropped(self._new_generation(world, to) if world.owner == worker else world, worker)

    def _rebalance(self, world: World, worker: int, which: int) -> World:
        return self._new_generation(world.committing(which), 1 - worker)

    def _keep(self, world: World, worker: int, which: int) -> World:
        return self._new_generation(world.committing(which), worker)

    def _new_generation(self, world: World, owner: int) -> World:
        return world.seated(0, current=False).seated(1, current=False)._replace(owner=owner)

    def _time(self, world: World, worker: int, which: int) -> World:
        return world._replace(now_ms=LATER_MS)

    def _evict(self, world: World, worker: int, which: int) -> World:
        return world.seated(worker, bench=NOTHING)
