"""What must hold after a run, from topics and store alone: the promises P1 to P5, P8 and the rules of the journal.

Each check yields a sentence for every promise that it finds broken. `passed` is asked during the run, at each commit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Any

import orjson

from broker.memory import MemoryCluster
from journal.fold import REMEMBERED_TURNS, FoldError
from journal.folding import fold_rows
from journal.state import EMPTY, State
from schemas.entries import Claim, Close, ControlNote, Finish, Intent, Park, Settle, Step, Suspend
from schemas.history import HistoryItem
from tests.simulation.agents import KILLS
from tests.simulation.ledger import CONTROL, TURNS, Ledger, Written
from tests.simulation.plan import TENANT, Plan
from tests.simulation.strangers import RIVAL, STRANGER, named

TRIES = 3


def passed(ledger: Ledger, cluster: MemoryCluster) -> Callable[[str, int, int], str | None]:
    """Why the record at an offset may not be committed yet; None: it may."""

    def why(topic: str, partition: int, offset: int) -> str | None:
        record = cluster.log(topic, partition).records[offset]
        body = orjson.loads(record.value or b"{}")
        if (topic, partition, ledger.placed(topic, offset)) in ledger.lives.refused:
            return None
        if topic == CONTROL:
            stranger = body["user"] == STRANGER and body["kind"] != "release"  # that is an operator's
            acks = ledger.denied if stranger else ledger.acks
            return None if acks.get(body["op"]) else f"(op {body['op']}) is not answered"
        place = (named(body.get("tenant", TENANT), (record.key or b"").decode()), body["turn"])
        if _held(ledger.rows.get(place[0], []), place[1]):
            return None  # at the end it must be over all the same
        if place not in ledger.over:
            return f"({place[0]}/{place[1]}) is not over"
        return None if place in ledger.terminals else f"({place[0]}/{place[1]}) has no frame published"

    return why


def broken(plan: Plan, ledger: Ledger, states: dict[str, State]) -> Iterator[str]:
    """Every promise that is broken; `states`: of every session, as the loader of the product gives it."""
    yield from _terminals(plan, ledger)
    yield from _cancels(plan, ledger)
    yield from _steers(plan, ledger)
    yield from _decisions(plan, ledger)
    yield from _poison(ledger)
    yield from ledger.lives.conflicts(lambda session, turn: _forgotten(ledger.rows.get(session, []), turn))
    for session in sorted(plan.sessions):
        rows = ledger.rows.get(session, [])
        yield from _versions(session, rows)
        yield from _writers(session, rows)
        yield from _order(session, rows, ledger)
        yield from _steps(session, rows, ledger)
        yield from _kept(session, rows)
        yield from _tools(session, rows, ledger)
        yield from _history(session, rows, states[session], ledger)


def _terminals(plan: Plan, ledger: Ledger) -> Iterator[str]:
    """P1, P2, P5: one end each, and what was published is what the journal holds. What was refused has none."""
    for place in plan.turns:
        if place not in ledger.lives.records:
            yield f"{'/'.join(place)} was never sent"
    for session, turn in ledger.lives.records:
        if ledger.lives.accepted(session, turn) is None:
            continue
        frames = ledger.terminals.get((session, turn), [])
        frame = ledger.over.get((session, turn))
        if frame is None:
            yield f"{session}/{turn} was accepted and is not over"
        elif len(frames) != 1:
            yield f"{session}/{turn} has {len(frames)} different terminal frames"
        elif frames[0] != frame.encode():
            yield f"{session}/{turn}: the published frame is not the journal's"
    for session, turn in ledger.terminals:
        if (session, turn) not in ledger.over:
            yield f"{session}/{turn} has a terminal frame and no end in the journal"


def _cancels(plan: Plan, ledger: Ledger) -> Iterator[str]:
    """P8: what was acknowledged is what happened."""
    for op, (session, turn) in plan.cancels.items():
        states = {ack["state"] for ack in ledger.acks.get(op, [])}
        outcome = _outcome(ledger, session, turn)
        if not states:
            yield f"{session}: cancel {op} was never answered"
        if ledger.lives.shared(session):
            continue  # it may have been said of somebody else's session, and then it binds nothing
        if states & {"applied", "held"} and outcome != "cancelled":
            yield f"{session}/{turn}: cancel {op} was answered {sorted(states)}, the turn is {outcome}"
        if not states <= {"applied", "held", "too_late"}:
            yield f"{session}: cancel {op} was answered {sorted(states)}"


def _steers(plan: Plan, ledger: Ledger) -> Iterator[str]:
    """What is said to a running turn is answered, and `applied` stands in the journal once (and in the history)."""
    for op, (session, turn) in plan.steers.items():
        states = {ack["state"] for ack in ledger.acks.get(op, [])}
        notes = [entry for _, entry in ledger.rows.get(session, []) if isinstance(entry, ControlNote)]
        noted = sum(entry.op == op and entry.user != STRANGER for entry in notes)
        if not states:
            yield f"{session}: steer {op} was never answered"
        told = "applied" in states and not ledger.lives.borrowed(session, op)
        if noted > 1 or told > noted or (noted and "applied" not in states):
            yield f"{session}/{turn}: steer {op} was answered {sorted(states)}, the journal holds it {noted} times"


def _held(rows: list[Written], turn: str) -> bool:
    """Whether the journal has held a turn: suspended, joined to one that was, or parked."""
    suspended = {entry.turn for _, entry in rows if isinstance(entry, Suspend)}
    now = ""
    for _, entry in rows:
        claim = entry.claim if isinstance(entry, Finish) else entry
        now = claim.turn if isinstance(claim, Claim) else now
        if isinstance(entry, Park) and entry.turn == turn:
            return True
        joins = isinstance(entry, ControlNote) and entry.input is not None and entry.turn == turn
        if joins and now in suspended:
            return True
    return turn in suspended


def _decisions(plan: Plan, ledger: Ledger) -> Iterator[str]:
    """A decision is answered; one that is `applied` stands in the journal, and no call is decided on twice."""
    for session in plan.sessions:
        rows = ledger.rows.get(session, [])
        calls = [(entry.turn, entry.call) for _, entry in rows if isinstance(entry, ControlNote) and entry.call]
        if len(set(calls)) != len(calls):
            yield f"{session}: decided twice: {sorted(call for call in calls if calls.count(call) > 1)[0]}"
    for op, (session, turn) in plan.decisions.items():
        states = {ack["state"] for ack in ledger.acks.get(op, [])}
        rows = ledger.rows.get(session, [])
        noted = sum(isinstance(entry, ControlNote) and entry.op == op and entry.call is not None for _, entry in rows)
        if not states:
            yield f"{session}: decision {op} was never answered"
        told = "applied" in states and not ledger.lives.borrowed(session, op)
        if noted > 1 or told > noted or (noted and "applied" not in states):
            yield f"{session}/{turn}: decision {op} was answered {sorted(states)}, the journal holds it {noted} times"


def _poison(ledger: Ledger) -> Iterator[str]:
    """P12: a turn that kills its process runs three times at most."""
    for session, turn in ledger.lives.records:
        taken = ledger.lives.accepted(session, turn)
        if taken is not None and taken.text == KILLS and ledger.runs.get(turn, 0) > TRIES:
            yield f"{session}/{turn} killed {ledger.runs[turn]} processes"


def _forgotten(rows: list[Written], turn: str) -> bool:
    """Whether a session came to forget what a turn of it said."""
    ends = [entry for _, entry in rows if isinstance(entry, Close | Finish | Settle)]
    after = next((n for n, entry in enumerate(ends) if turn in _ended(entry)), len(ends))
    return len(ends) - after > REMEMBERED_TURNS or any(isinstance(entry, Close) for entry in ends[after:])


def _ended(entry: Close | Finish | Settle) -> tuple[str, ...]:
    return tuple(entry.ended) if isinstance(entry, Close) else (entry.turn, *getattr(entry, "joined", ()))


def _versions(session: str, rows: list[Written]) -> Iterator[str]:
    """No gap, no double, and the fold takes it: nothing overlaps, nothing of a loser."""
    versions = [written.row.v for written in rows]
    if versions != list(range(1, len(rows) + 1)):
        yield f"{session}: versions {versions}"
    nonces = [written.row.nonce for written in rows]
    if len(set(nonces)) != len(nonces):
        yield f"{session}: a nonce is there twice"
    try:
        fold_rows(EMPTY, [written.row for written in rows])
    except (FoldError, ValueError) as error:
        yield f"{session}: the journal does not fold: {error}"


def _writers(session: str, rows: list[Written]) -> Iterator[str]:
    """P4: what an attempt writes is written by whoever claimed it."""
    owner, claimed = "", ("", 0)
    for row, entry in rows:
        writer = row.nonce.partition("-")[0]
        if isinstance(entry, Step) and (writer != owner or (entry.turn, entry.attempt) != claimed):
            yield f"{session} v{row.v}: a step of {entry.turn} by {writer}, claimed by {owner}"
        if isinstance(entry, Finish) and entry.outcome == "completed" and writer != owner:
            yield f"{session} v{row.v}: {entry.turn} finished by {writer}, claimed by {owner}"
        claim = entry.claim if isinstance(entry, Finish) else entry
        if isinstance(claim, Claim):
            owner, claimed = writer, (claim.turn, claim.attempt)


def _order(session: str, rows: list[Written], ledger: Ledger) -> Iterator[str]:
    """P3: first claims in publish order; frames of turns that ran in the order of their ends."""
    if ledger.renewed:
        return  # no order is promised across topics
    claims = [
        claim.turn
        for _, entry in rows
        for claim in [entry.claim if isinstance(entry, Finish) else entry]
        if isinstance(claim, Claim) and claim.attempt == 1
    ]
    first = {entry.first for _, entry in rows if isinstance(entry, ControlNote)}  # of what waited in a quarantine
    taken = [
        told for turn in claims if (told := ledger.lives.accepted(session, turn)) is not None and turn not in first
    ]
    refused = {place for place, code in ledger.lives.refused.items() if code != "poison"}
    for user in sorted({told.user for told in taken}):
        mine = [told.place[2] for told in taken if told.user == user and told.place not in refused]  # else met again
        if mine != sorted(mine):
            yield f"{session}: claimed in the order {claims}, {user}'s were published at {mine}"
    ended = [entry.turn for _, entry in rows if isinstance(entry, Finish)]
    for (name, partition), turns in ledger.shown.items():
        shown = [turn for turn in turns if turn in set(ended)]
        if name == session and shown != [turn for turn in ended if turn in set(shown)]:
            yield f"{session}: ended in the order {ended}, frames on {partition} in the order {shown}"


def _steps(session: str, rows: list[Written], ledger: Ledger) -> Iterator[str]:
    """P6, P10, P11: each step of a turn once, in order, and the answer is made of them; an attempt that was not the
    last one, for a crash, a loss or a hand-over, cost one step at most."""
    made: dict[str, list[Step]] = {}
    attempts: dict[str, int] = {}
    for row, entry in rows:
        claim = entry.claim if isinstance(entry, Finish) else entry
        if isinstance(claim, Claim):
            attempts[claim.turn] = claim.attempt
        if isinstance(entry, Step):
            done = made.setdefault(entry.turn, [])
            before = sum(step.run == entry.run for step in done)
            if entry.step != before:
                yield f"{session} v{row.v}: step {entry.run}/{entry.step} of {entry.turn} after {before} steps"
            done.append(entry)
    for turn, done in made.items():
        frame = orjson.loads(ledger.over.get((session, turn), "{}"))
        if frame.get("type") == "completed" and done[0].kind == "step":
            ordered = sorted(done, key=_place)  # branches write in the order of their timing
            said = "".join(f"[{step.result if step.error is None else step.error.code.value}]" for step in ordered)
            if frame["text"] != said:
                yield f"{session}/{turn}: answered {frame['text']}, its steps are {said}"
            worked = sum(step.kind != "approval" for step in done)
            at_once = max(len({step.run.split("/")[0] for step in done if step.run}), 1)
            if (redone := ledger.work[turn] - worked) >= at_once * attempts[turn]:
                yield f"{session}/{turn}: {redone} steps redone in {attempts[turn]} attempts"


def _place(step: Step) -> tuple[int, str, int]:
    """Where a step's result stands in the answer: the agent may have been run several times, then branch by branch."""
    run = step.run.split("/")[0].partition("@")[2]
    return (int(run or 1) - 1 if step.run else step.step, step.run, step.step)


def _kept(session: str, rows: list[Written]) -> Iterator[str]:
    """P2: what the session keeps changes once a turn: a list of turns grows by one, and begins anew after CLOSE."""
    kept: list[str] = []
    for row, entry in rows:
        if isinstance(entry, Close):
            kept = []
        if isinstance(entry, Finish) and entry.kept is not None and "turns" in entry.kept:
            if entry.kept["turns"] != [*kept, entry.turn]:
                yield f"{session} v{row.v}: {entry.turn} kept {entry.kept} after {kept}"
            kept.append(entry.turn)


def _tools(session: str, rows: list[Written], ledger: Ledger) -> Iterator[str]:
    """P6: a tool that is not idempotent is called once at most, one that is always under the same key, and neither
    before the journal says that it is about to be."""
    keys: dict[tuple[str, str], str] = {}
    for row, entry in rows:
        if isinstance(entry, Intent):
            if (entry.turn, entry.name) in keys:
                yield f"{session} v{row.v}: a second intent of {entry.name} of {entry.turn}"
            keys[entry.turn, entry.name] = entry.key
        if isinstance(entry, Step) and entry.kind == "tool" and (entry.turn, entry.name) not in keys:
            yield f"{session} v{row.v}: {entry.name} of {entry.turn} has a step and no intent"
        done = isinstance(entry, Step) and entry.kind == "tool" and entry.error is None
        if isinstance(entry, Step) and done and (entry.turn, entry.name) not in ledger.calls:
            yield f"{session} v{row.v}: {entry.name} of {entry.turn} has a result and was never called"
    for (turn, tool), called in ledger.calls.items():
        if (session, turn) not in ledger.lives.records or session.startswith(RIVAL):  # its agent calls none
            continue
        if tool.startswith("pay") and len(called) > 1:
            yield f"{session}/{turn}: pay was called {len(called)} times"
        key = keys.get((turn, tool))
        if tool.startswith("book") and set(called) != {key}:
            yield f"{session}/{turn}: book was called under {sorted(set(called))}, its intent has {key}"
        if key is None:
            yield f"{session}/{turn}: {tool} was called without an intent"


def _history(session: str, rows: list[Written], state: State, ledger: Ledger) -> Iterator[str]:
    """The stored conversation is what was said and answered, each turn once."""
    said: list[tuple[str, str, str, list[str]]] = []
    joined: dict[str, list[str]] = defaultdict(list)
    now = ""
    late: dict[str, str] = {}  # a CLAIM under way may land when its topic, and the record with it, is gone
    for _, entry in rows:
        claim = entry.claim if isinstance(entry, Finish) else entry
        if isinstance(claim, Claim) and claim.input is not None:
            late[claim.turn] = claim.input.text
        if isinstance(entry, Close):
            said.clear()
            joined.clear()
        if isinstance(entry, ControlNote) and entry.kind == "steer":
            joined[now].append(entry.input.text if entry.input is not None else str(entry.value))
        if isinstance(entry, Finish):
            if not entry.rollback:
                frame = orjson.loads(ledger.over[session, entry.turn])
                asked = ledger.lives.accepted(session, entry.turn)
                text = asked.text if asked is not None else late.get(entry.turn, "")
                said.append((entry.turn, text, frame.get("text", ""), sorted(joined[entry.turn])))
            joined.pop(entry.turn, None)
        if isinstance(claim, Claim):
            now = claim.turn
    kept = [_told(turn, list(items)) for turn, items in groupby(state.history, key=lambda item: item.turn)]
    if kept != said:
        yield f"{session}: the history holds {kept[-4:]}, said was {said[-4:]}"
    if rows and state.version != rows[-1].row.v:
        yield f"{session}: loaded at version {state.version}, written up to {rows[-1].row.v}"


def _told(turn: str, items: list[HistoryItem]) -> tuple[str, str, str, list[str]]:
    """Of one turn: what was asked, what was answered, what was said meanwhile."""
    answer = "".join(item.text for item in items if item.role == "assistant")
    return turn, items[0].text, answer, sorted(item.text for item in items[1:] if item.role == "user")


def payloads(ledger: Ledger, bodies: Iterable[tuple[str, int, str]]) -> Iterator[str]:
    """After a sweep: each belongs to a row, and none lies below a CLOSE."""
    for s, v, nonce in bodies:
        session = named(*s.split("/", 1))
        rows = ledger.rows.get(session, [])
        if not any((row.v, row.nonce) == (v, nonce) for row, _ in rows):
            yield f"{session} v{v}: a payload by {nonce} that no row holds"
        if any(isinstance(entry, Close) and row.v > v for row, entry in rows):
            yield f"{session} v{v}: a payload of {nonce} outlived its session"


def _outcome(ledger: Ledger, session: str, turn: str) -> str | None:
    frame: dict[str, Any] = orjson.loads(ledger.over.get((session, turn), "{}"))
    return frame.get("type")


def ended(ledger: Ledger, how: str) -> int:
    """Turns that ended so."""
    return sum(orjson.loads(frame)["type"] == how for frame in ledger.over.values())


def settled(rows: list[Written]) -> int:
    """Turns that ended without running."""
    return sum(isinstance(entry, Settle) for _, entry in rows)


__all__ = ["TURNS", "broken", "ended", "passed", "payloads", "settled"]
