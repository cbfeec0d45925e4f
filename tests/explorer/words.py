"""A trace in words. Decides nothing."""

from __future__ import annotations

from schemas.entries import Entry, Finish
from tests.explorer.moves import Event, Moves
from tests.explorer.world import NOT_READ, World
from workers import effects as fx

_PLAIN = {
    "assigned": "{} is told that the partition is its own",
    "lost": "{} is told that it lost the partition",
    "granted": "{} has a slot for the session",
    "step": "{}: the agent makes a step",
    "suspend": "{}: the agent asks for a decision",
    "hears": "{}: the agent is run again with what its user said",
    "seals": "{}: the agent is done, nothing joins its turn any more",
    "completed": "{}: the agent ends, completed",
    "cancelled": "{}: the agent ends, cancelled",
    "evict": "{} forgets the warm session",
    "rebalance": "{} loses the partition to the other and does not know it",
    "keep": "{}: a rebalance, it keeps the partition and does not know of the new generation",
    "coordinator": "{}: its proof fails for a passing reason, it gives the partition up",
}


def words(moves: Moves, world: World, event: Event, new: World | None) -> str:
    """`event` as a sentence; `new`: the world then, None where it broke."""
    what, worker, which = event
    seat, who = world.seats[worker], f"worker {worker}"
    if what in _PLAIN:
        return _PLAIN[what].format(who) + _committed(world, new)
    if what == "time":
        return "time passes, ten minutes"
    if what == "say":
        return f"a client says: {moves.scope.commands[which]}"
    if what == "arrive":
        late = world.late[which]
        return f"a write under way arrives: {_entry(moves.store.entries[late.row])} as version {late.version}"
    if what == "crash":
        goes = f", the partition goes to worker {which % 2}" if world.owner == worker else ""
        return f"{who} crashes{goes}{_committed(world, new)}"
    if what == "due":
        return f"{who} finds the timer of {' '.join(moves.scope.timers[which])} due"
    if what == "poll":
        offset = seat.marks[which].next
        return f"{who} polls {moves.scope.log[offset] if which == 0 else moves.scope.commands[offset]} @{offset}"
    if what in {"answer", "ambiguous"}:
        return f"{who}: " + _question(moves, world, worker, new, what)
    return f"{who}: " + _broker(moves, seat.bench, what, which)


def _committed(world: World, new: World | None) -> str:
    if new is None or new.committed == world.committed:
        return ""
    return f" (committed: turns up to {new.committed[0]}, control up to {new.committed[1]})"


def _broker(moves: Moves, number: int, what: str, which: int) -> str:
    bench = moves.driver.benches[number]
    assert bench is not None
    if what == "repeats":
        return f"reads the frame of {bench.repeats[0]} and sends it again"
    kind, *rest = bench.outbox[which]
    item = {
        "frame": "the frame of {0}",
        "reply": "the answer to {0}, {1},",
        "refuse": "the refusal of turn @{0}",
        "request": "the question {0}",
    }[kind]
    return f"{item.format(*rest)} is acknowledged"


def _question(moves: Moves, world: World, worker: int, new: World | None, what: str) -> str:
    seat = world.seats[worker]
    session = moves.driver.session(seat.bench)
    assert session is not None
    asked, told = session.asked, seat.read != NOT_READ
    proved = "membership is proved"
    if new is not None and not new.seats[worker].assigned:
        proved = "membership is not proved, the partition is given up"
    match asked:
        case fx.Prove():
            return proved
        case fx.Append(version, entry):
            if told:
                return proved
            if what == "ambiguous":
                return f"{_entry(entry)} as version {version} is sent, no answer"
            return f"{_entry(entry)} as version {version} {_verdict(world, worker, new)}"
        case fx.Find(turn):
            text = f"asks the index for {turn}: {'known' if moves.store.knows(world.journal, turn) else 'unknown'}"
        case fx.Arm(turn, call, _):
            return f"arms the timer of {turn} {call}"
        case fx.Wipe(version):
            return f"unsets the content below version {version}"
        case _:
            text = f"{'folds' if isinstance(asked, fx.Load) else 'reads on'} up to version {len(world.journal)}"
    if told:
        return f"goes on with what it read: {text.partition(' ')[0]}"
    return text


def _verdict(world: World, worker: int, new: World | None) -> str:
    if new is None:
        return "is appended"
    if new.seats[worker].read != NOT_READ:
        return "collides, it reads on"
    return "is applied" if new.journal != world.journal else "is refused: the turn is known (or it was applied before)"


def _entry(entry: Entry) -> str:
    text = f"{entry.k.upper()} {getattr(entry, 'turn', '')}".strip()
    if entry.k == "claim":
        text += f" (attempt {entry.attempt})"
    if isinstance(entry, Finish) and entry.claim is not None:
        text += f" {entry.outcome} + CLAIM {entry.claim.turn}"
    return text
