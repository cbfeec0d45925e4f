"""What must hold in every world (design §4): raises Broken with one sentence. Changes nothing."""

from __future__ import annotations

from journal.fold import FoldError
from journal.state import State
from schemas.entries import Claim, Close, ControlNote, Entry, Finish, Settle, Suspend
from tests.explorer.scope import Scope
from tests.explorer.store import FREED, Broken, Journal, Store
from tests.explorer.world import CONTROL, TURNS, Ended, World


def written(world: World, scope: Scope, store: Store, journal: Journal) -> World:
    """One more entry is in the journal: it counts, ends no turn twice, keeps the order, starts no duel."""
    entry = store.entries[journal[-1]]
    what = f"{entry.k.upper()} {getattr(entry, 'turn', '')}".strip()
    try:
        store.read_on(store.read_on(store.empty, world.journal), journal)
    except FoldError as error:
        raise Broken(f"{what} of a loser is in the journal: {error}") from error
    before = store.state(world.journal)
    if isinstance(entry, Settle) and before.unended(entry.turn) is not None:
        raise Broken(f"{what}: it has begun and is open")
    said = scope.ops.get(entry.op_id or "")
    if said is not None and said.strange and said.kind == "cancel" and entry.k != "control":
        raise Broken(f"{what}: by a stranger's cancel")
    world = world._replace(journal=journal)
    for ended in _ends(entry):
        world = _one_more_outcome(world, scope, store, ended)
    claim = entry.claim if isinstance(entry, Finish) else entry
    if isinstance(claim, Claim):
        _claimed(world, claim, scope)
        _stood_aside(world, claim, before, store)
        opened = store.state(journal).opened
        if opened is None or opened.user != claim.user:
            raise Broken(f"{claim.turn} of a stranger is claimed")
    return world


def _ends(entry: Entry) -> list[Ended]:
    if isinstance(entry, Finish):
        joined = [
            Ended(turn, "joined", frame, False) for turn, frame in zip(entry.joined, entry.frames[1:], strict=True)
        ]
        return [Ended(entry.turn, entry.outcome, entry.frames[0], True), *joined]
    if isinstance(entry, Settle):
        return [Ended(entry.turn, entry.outcome, entry.frames[0], False)]
    if isinstance(entry, Close):
        return [Ended(turn, "cancelled", frame, False) for turn, frame in zip(entry.ended, entry.frames, strict=True)]
    return []


def _ran_out(world: World, store: Store) -> bool:
    """Whether a quarantine ended because its time was up: whoever redrives after that comes last."""
    rows = (store.entries[row] for row in world.journal if row != FREED)
    return any(isinstance(entry, ControlNote) and entry.kind == "release" and entry.by for entry in rows)


def _one_more_outcome(world: World, scope: Scope, store: Store, ended: Ended) -> World:
    if world.outcome(ended.turn) is not None:
        raise Broken(f"{ended.turn} has a second outcome: {ended.outcome}")
    if ended.outcome == "completed":
        later = [
            it.turn
            for it in world.ended
            if it.outcome == "completed"
            and scope.place(it.turn) > scope.place(ended.turn)
            and not _let_go_first(world, store, ended.turn, it.turn)
        ]
        if scope.place(ended.turn) != scope.place_of(ended.turn) and _ran_out(world, store):
            later = []
        if later:
            raise Broken(f"{ended.turn} is completed after {later[0]}, which came later")
    return world._replace(ended=(*world.ended, ended))


def _let_go_first(world: World, store: Store, turn: str, later: str) -> bool:
    """Whether `turn` stood aside when `later` began: only then may it end after that one."""
    stood = False
    for row in world.journal:
        entry = store.entries[row] if row != FREED else None
        stood = stood or (isinstance(entry, Suspend) and entry.aside and entry.turn == turn)
        claim = entry.claim if isinstance(entry, Finish) else entry
        if isinstance(claim, Claim) and claim.turn == later:
            return stood
    return stood


def _stood_aside(world: World, claim: Claim, before: State, store: Store) -> None:
    """What was decided on is resumed before anything else begins, and every attempt sees what the first one saw."""
    first = claim.attempt == 1
    decided = next((turn.turn for turn in before.aside if turn.awaits is None), None)
    if first and decided is not None and before.quarantine is None:
        raise Broken(f"{claim.turn} begins before {decided}, which stands aside and was decided on")
    now = store.state(world.journal).open
    if first or now is None or FREED in world.journal:
        return
    for at, row in enumerate(world.journal, 1):
        entry = store.entries[row]
        begun = entry.claim if isinstance(entry, Finish) else entry
        if isinstance(begun, Claim) and begun.turn == claim.turn:
            saw = store.state(world.journal[:at]).history
            sees = now.seen.history if now.seen is not None else store.state(world.journal).history
            if [item.id for item in saw] != [item.id for item in sees]:
                raise Broken(f"attempt {claim.attempt} of {claim.turn} sees another history than its first one")
            return


def _claimed(world: World, claim: Claim, scope: Scope) -> None:
    if world.outcome(claim.turn) is not None:
        raise Broken(f"{claim.turn} begins again after its outcome")
    if claim.attempt > 1 + 2 * world.used + scope.asks.get(claim.turn, 0):
        raise Broken(f"{claim.turn} is claimed {claim.attempt} times after {world.used} faults: a duel")
    if claim.tries > 1 + world.used:
        raise Broken(f"{claim.turn} counts {claim.tries} tries after {world.used} faults")


def told(world: World, store: Store, out: set[str], turn: str, frame: str) -> None:
    """A terminal frame goes out: the one that the journal has, after those of all that ran and ended before (and that
    the state remembers). `out`: whose frames this worker has sent."""
    ended = world.outcome(turn)
    if ended is None:
        raise Broken(f"a terminal frame of {turn} is published and the journal has no outcome")
    if ended.frame != frame:
        raise Broken(f"a terminal frame of {turn} is published which is not the journal's")
    for earlier in world.ended[: world.ended.index(ended)] if ended.ran else ():
        if earlier.turn in world.published or earlier.turn in out or not earlier.ran:
            continue
        if store.state(world.journal).ended(earlier.turn) is not None:
            raise Broken(f"the frame of {turn} goes out before that of {earlier.turn}, which ended earlier")


def answered(world: World, scope: Scope, store: Store, op: str, state: str) -> None:
    """The ack of a control op is out: it is true."""
    kind, turn, _, strange = scope.ops[op]
    if strange:
        if state not in {"held", "unknown"} and store.state(world.journal).opened is not None:
            raise Broken(f"a stranger's {kind} is answered {state}")
        return
    if kind in {"approve", "deny"} and state == "applied":
        twice = [other for other, told in world.acks if told == "applied" and scope.decides(other) == scope.decides(op)]
        if any(other != op for other in twice):
            raise Broken(f"two decisions on one call of {turn} are answered applied")
    joined = any(note.turn == turn for now in store.state(world.journal).begun for note in now.joined)
    if kind == "cancel" and state in {"too_late", "applied"} and world.outcome(turn) is None and not joined:
        raise Broken(f"cancel {turn} is answered {state} and {turn} is not over")
    if kind in {"delete", "expire"}:
        closed = store.closed_by(world.journal, op)
        if kind == "delete" and state == "unknown" and store.state(world.journal).closed is None:
            raise Broken("delete is answered unknown and the session lives")
        if state == "applied" and not (closed and store.clean(world.journal[:closed])):
            raise Broken(f"{kind} is answered applied and content is left")


def honoured(world: World, scope: Scope) -> None:
    """A cancel that was acknowledged is kept."""
    for op, state in world.acks:
        if op.startswith("op") and state in {"applied", "held"}:
            kind, turn, _, strange = scope.ops[op]
            ended = world.outcome(turn) if kind == "cancel" and not strange else None
            if ended is not None and ended.outcome != "cancelled":
                raise Broken(f"{turn} is {ended.outcome} though its cancel was answered {state}")


def committed(world: World, scope: Scope, store: Store, since: tuple[int, int], to: tuple[int, int]) -> None:
    """What may be committed is ahead of nothing: its turns are settled and told, its ops are answered."""
    for offset in range(since[TURNS], to[TURNS]):
        turn = scope.turn(offset)
        if (f"turn{offset}", "refused") in world.acks:
            continue
        if world.outcome(turn) is None:
            if _held(world, scope, store, turn):
                continue
            raise Broken(f"offset {offset} is committed and {turn} has no outcome")
        ended = store.state(world.journal).ended(turn)
        if ended is not None and ended.held and any(scope.timers[number][1] for number in world.timers):
            continue  # its mark is older than its outcome
        if turn not in world.published:
            raise Broken(f"offset {offset} is committed and the outcome of {turn} was never published")
    for offset in range(since[CONTROL], to[CONTROL]):
        states = {state for op, state in world.acks if op == scope.op(offset)}
        kind, turn, *_ = scope.said(offset)
        if not states:
            raise Broken(f"control {offset} ({scope.commands[offset]}) is committed and was never answered")
        forgotten = store.state(world.journal).ended(turn) is None
        waits = kind in {"approve", "deny"} and "applied" in states and world.outcome(turn) is None
        if waits and not _held(world, scope, store, turn):
            raise Broken(f"control {offset} ({kind} {turn}) is committed and {turn} has no outcome")
        if kind == "cancel" and "held" not in states and not forgotten and turn not in world.published:
            raise Broken(f"control {offset} ({kind} {turn}) is committed and the outcome of {turn} was never published")


def _held(world: World, scope: Scope, store: Store, turn: str) -> bool:
    """Whether the journal holds a turn that is not over: a timer will bring it back, and its user was asked."""
    state = store.state(world.journal)
    now = state.open
    if now is not None and now.awaits is not None and now.awaits.call not in world.asked:
        return False
    known = {parked.turn for parked in state.parked}
    for begun in state.begun:
        if begun.held:
            known.update((begun.turn, *(note.turn for note in begun.joined)))
        awaits = begun.awaits if begun is not now and turn in (begun.turn, *begun.steering) else None
        if awaits is not None:
            timed = any(scope.timers[number] == (begun.turn, awaits.call) for number in world.timers)
            return timed and awaits.call in world.asked
    return turn in known and any(scope.timers[number][1] for number in world.timers)


def settled(world: World, scope: Scope, store: Store) -> str:
    """What is left to do; empty: everything is settled, published, committed."""
    turns, control = world.position
    records = scope.written(world.said)
    if (turns, control) != (records, world.said):
        return f"committed up to {turns} of {records} turns, {control} of {world.said} ops"
    state = store.state(world.journal)
    if state.begun:
        return f"{state.begun[0].turn} is open"
    missing = [ended.turn for ended in world.ended if ended.turn not in world.published]
    if missing:
        return f"the outcome of {missing[0]} is not published"
    return "" if store.clean(world.journal) else "the closed session's content is left"
