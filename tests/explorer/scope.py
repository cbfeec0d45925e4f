"""How much of the world is explored: records, faults, what clients do. Plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

from schemas.codec import ControlRecord, TurnRecord
from schemas.control import CONTROL
from schemas.entries import Position
from schemas.turn import Turn, digest
from workers.effects import Mail
from workers.holdings import Rules, Terms

NOW_MS = 1_000_000_000_000
LATER_MS = NOW_MS + 600_000
"""The clock shows the one, then, where a scope has the fault `time`, the other."""
FAULTS = ("crash", "rebalance", "keep", "ambiguous", "coordinator", "evict", "time")
_POLICIES = ("enqueue", "reject", "interrupt", "rollback", "steer")


class Record(NamedTuple):
    """A record of either log, as a trigger carries it, or the timer with this number. `stale`: it came with an older
    assignment of its worker, so that its mark counts no more; a timer's always counts."""

    stream: int
    offset: int
    stale: bool = False
    topic: str = "agent.turns"
    partition: int = 0


class Said(NamedTuple):
    """A command, read. `foreign`: of the other user; `strange`: of one whose turn or session it is not."""

    kind: str
    turn: str
    foreign: bool
    strange: bool


@dataclass(frozen=True)
class Scope:
    """`log`: turn records in offset order, as `T1` or `T1 reject foreign other`: an id, a policy of its own, by another
    user, with another text; an id that was there before is a copy. `ask`: it asks for a decision before its first step,
    `ask ask`: twice.

    `commands`: what clients say, at any time, in this order: `cancel T1`, `steer T1`, `approve T1`, `delete`, each
    perhaps `foreign`; said again it is a copy, with the same op. `approve T1 1`: on its second question. `release T1`:
    its dead letter is discarded; `release T1 T3`: redriven as T3, whose record comes after that. `waits`: the agent's
    sessions wait for it. `faults`: how many of each. `steps`: of each turn. `remembers`: how many ended turns a state
    remembers. `merge`: whether FINISH may carry the next CLAIM. `tries`: the limit of a worker. `deadline_s`: of each
    turn; `idle_s`: when a session expires; `fresh`: whether a turn opens an expired one anew. `queues`: whether a slot
    is granted later, not at once. `aside`: whether later turns go first while one is suspended, `most_aside` at a time.
    """

    log: tuple[str, ...]
    commands: tuple[str, ...] = ()
    faults: dict[str, int] = field(default_factory=dict)
    steps: int = 0
    remembers: int = 16
    merge: bool = True
    tries: int = 3
    deadline_s: int = 60
    idle_s: int = 86_400
    fresh: bool = True
    queues: bool = False
    waits: bool = False
    aside: bool = False
    most_aside: int = 8

    def turn(self, offset: int) -> str:
        """The turn of the record at `offset`."""
        return self.log[offset].split()[0]

    def op(self, index: int) -> str:
        """The id of the op at offset `index` of control."""
        return f"op{self.commands.index(self.commands[index])}"

    @cached_property
    def ops(self) -> dict[str, Said]:
        """The commands by op."""
        return {self.op(index): self._read(command) for index, command in enumerate(self.commands)}

    @cached_property
    def steers(self) -> bool:
        """Whether anything may join a running turn."""
        return any("steer" in said for said in (*self.log, *self.commands))

    @cached_property
    def asks(self) -> dict[str, int]:
        """How many decisions a turn asks for."""
        return {record.split()[0]: record.split().count("ask") for record in self.log if "ask" in record.split()}

    @cached_property
    def timers(self) -> tuple[tuple[str, str], ...]:
        """(turn, call) of every timer that may be armed."""
        turns = dict.fromkeys(record.split()[0] for record in self.log)
        calls = [(turn, call_of(turn, number)) for turn, count in self.asks.items() for number in range(count)]
        if self.waits:
            calls += [(turn, self.letter(turn)) for turn in turns]
        return (*calls, *((turn, "") for turn in turns)) if calls else ()

    def letter(self, turn: str) -> str:
        """The id of the dead letter of `turn`."""
        return f"agent.turns/0@{self.place_of(turn)}"

    def written(self, said: int) -> int:
        """How many turn records there are once so many commands were said."""
        later = [
            self.place_of(command.split()[2])
            for command in self.commands[said:]
            if len(command.split()) > 2 and command.startswith("release")
        ]
        return min(later, default=len(self.log))

    def place_of(self, turn: str) -> int:
        """The offset of its first record."""
        return next(at for at, record in enumerate(self.log) if record.split()[0] == turn)

    def place(self, turn: str) -> int:
        """Where it belongs in the order of turns: one that was redriven, where it was before."""
        for command in self.commands:
            kind, *turns = command.split()
            if kind == "release" and turns[1:] == [turn]:
                turn = turns[0]
        return self.place_of(turn)

    def decides(self, op: str) -> str | None:
        """The call that an op decides on."""
        command = next(self.commands[at] for at in range(len(self.commands)) if self.op(at) == op).split()
        number = next((int(word) for word in command if word.isdigit()), 0)
        return call_of(command[1], number) if command[0] in {"approve", "deny"} else None

    def said(self, index: int) -> Said:
        """The command at offset `index` of control."""
        return self.ops[self.op(index)]

    def _read(self, command: str) -> Said:
        kind, *rest = command.split()
        turn = next((word for word in rest if word != "foreign" and not word.isdigit()), "")
        owner = next((record for record in self.log if record.split()[0] == turn), self.log[0])
        foreign = "foreign" in rest
        return Said(kind, turn, foreign, foreign != ("foreign" in owner.split()))

    @property
    def budget(self) -> tuple[int, ...]:
        """How many faults of each kind are left at first."""
        return tuple(self.faults.get(fault, 0) for fault in FAULTS)

    def mail(self, offset: int) -> Mail:
        """The turn record at `offset`, as a session gets it."""
        turn, *rest = self.log[offset].split()
        said = {"turn": turn, "text": "other" if "other" in rest else "hi", "user": "v" if "foreign" in rest else "u"}
        policy = next((word for word in rest if word in _POLICIES), None)
        content = Turn.model_validate({**said, "if_busy": policy})
        position = Position(stream="agent.turns", partition=0, offset=offset, timestamp_ms=0)
        record = TurnRecord("s", content, turn, position, None, None)
        return Mail(record, digest(content), NOW_MS + 1_000 * self.deadline_s)

    def control(self, index: int) -> ControlRecord:
        """The control record at offset `index`."""
        said = self.said(index)
        body = {"kind": said.kind, "op": self.op(index), "user": "v" if said.foreign else "u"}
        body |= {"turn": said.turn} if said.turn else {}
        body |= {"text": "more"} if said.kind == "steer" else {}
        if said.kind in {"approve", "deny"}:
            number = next((int(word) for word in self.commands[index].split() if word.isdigit()), 0)
            decision = "allow" if said.kind == "approve" else "deny"
            body |= {"kind": "approve", "call": call_of(said.turn, number), "decision": decision}
        if said.kind == "release":
            body["letter"] = self.letter(said.turn)
            redriven = self.commands[index].split()[2:]
            body |= {"turn": redriven[0]} if redriven else {}
        control = CONTROL.validate_python(body)
        position = Position(stream="agent.control", partition=0, offset=index, timestamp_ms=0)
        return ControlRecord("s", control, position, None)

    def rules(self, worker: int) -> Rules:
        """What holds for the sessions of a worker."""
        terms = Terms("echo", "1", 1_000 * self.idle_s, self.fresh, self.waits, self.aside)
        return Rules(f"w{worker}", self.tries, lambda _: terms)


def call_of(turn: str, number: int) -> str:
    """The id of what a turn asks."""
    return f"{turn}.{number}"
