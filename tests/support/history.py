"""Histories of one session as a cluster would hold them, written down by hand: what the history checker is tried on."""

from __future__ import annotations

from typing import Any

import orjson

from broker.partition import partition_of
from fleet.chaos.checker import check
from fleet.chaos.evidence import CONTROL, TURNS, Command, Evidence, FrameRecord, Marks, Place, Saved, TurnRecord
from fleet.chaos.finding import Verdict
from journal.port import Row

SESSION, PARTITIONS = "s1", 12
HOME = partition_of(SESSION.encode(), PARTITIONS)
Json = dict[str, Any]


class History:
    """Grows turn by turn; each method writes one record, entry or frame. `writer`: the worker that writes entries."""

    def __init__(self) -> None:
        self.turns: list[TurnRecord] = []
        self.commands: list[Command] = []
        self.rows: list[Row] = []
        self.frames: list[FrameRecord] = []
        self.letters: dict[Place, str] = {}
        self.saved: Saved | None = None
        self.committed: int | None = None
        self.whole = True
        self.writer = "w1"
        self._opened = False

    # records

    def record(self, turn: str, *, user: str = "u", partition: int = HOME) -> int:
        """A record of `agent.turns`; its offset."""
        self.turns.append(TurnRecord(partition, len(self.turns), turn, user))
        return len(self.turns) - 1

    def cancel(self, turn: str, op: str = "o1", *, user: str = "u", state: str | None = None) -> None:
        """A cancel, and its ack."""
        self.commands.append(Command(HOME, len(self.commands), op, "cancel", turn, user))
        if state is not None:
            self.frame({"type": "ack", "op": op, "state": state})

    def letter(self, offset: int, code: str = "bad_request") -> None:
        self.letters[TURNS, HOME, offset] = code

    # entries

    def row(self, kind: str, body: Json, *, turn: str | None = None, frames: tuple[str, ...] = (), v: int = 0) -> Row:
        number = v or len(self.rows) + 1
        text = orjson.dumps({"at_ms": 1, **body}).decode()
        row = Row("default/s1", number, kind, f"{self.writer}-{len(self.rows)}", 1, turn, None, text, frames)
        self.rows.append(row)
        return row

    def claimed(self, turn: str, attempt: int = 1, offset: int = 0, *, opens: bool = True) -> Json:
        body: Json = {"turn": turn, "attempt": attempt, "user": "u", "position": [TURNS, HOME, offset, 1]}
        if attempt == 1:
            body["input"] = {"text": f"say {turn}"}
        if opens and not self._opened:
            body["opens"] = {"user": "u"}
            self._opened = True
        return body

    def claim(self, turn: str, attempt: int = 1, offset: int = 0, *, opens: bool = True) -> None:
        body = self.claimed(turn, attempt, offset, opens=opens)
        self.row("claim", body, turn=turn if attempt == 1 else None)

    def step(self, turn: str, step: int, attempt: int = 1) -> None:
        self.row("step", {"turn": turn, "attempt": attempt, "step": step})
        self.frame({"type": "step", "turn": turn, "attempt": attempt, "seq": 50 + step, "step": step})

    def finish(self, turn: str, attempt: int = 1, **more: Any) -> str:
        """FINISH with `outcome`, `text`, `history` and `claim` as given; the terminal frame."""
        text, outcome = more.pop("text", f"said {turn}"), more.pop("outcome", "completed")
        end = terminal(turn, outcome, attempt, text=text, seq=more.pop("seq", 9), **more.pop("frame", {}))
        kept = more.pop("history", [assistant(turn, text)] if text else [])
        body = {"turn": turn, "attempt": attempt, "outcome": outcome, "history": kept, **more}
        self.row("finish", body, turn=more["claim"]["turn"] if "claim" in more else None, frames=(end,))
        return end

    def settle(self, turn: str, outcome: str = "cancelled") -> str:
        end = terminal(turn, outcome, 0)
        self.row("settle", {"turn": turn, "user": "u", "outcome": outcome}, turn=turn, frames=(end,))
        return end

    def close(self, *ended: str) -> None:
        frames = tuple(terminal(turn, "cancelled", 0) for turn in ended)
        self.row("close", {"reason": "delete", "ended": list(ended)}, frames=frames)
        self._opened = False

    def unset(self, *versions: int) -> None:
        """What a CLOSE does to the rows before it."""
        self.rows = [row._replace(body=None, frames=()) if row.v in versions else row for row in self.rows]

    # frames

    def frame(self, frame: Json, partition: int = 0) -> None:
        self.publish(orjson.dumps({"session": SESSION, **frame}).decode(), partition)

    def publish(self, text: str, partition: int = 0) -> None:
        self.frames.append(FrameRecord(partition, len(self.frames), orjson.loads(text), text.encode()))

    def delta(self, turn: str, seq: int, text: str, attempt: int = 1, kind: str = "delta") -> None:
        self.frame({"type": kind, "turn": turn, "attempt": attempt, "seq": seq, "text": text})

    # whole turns

    def turn(self, turn: str) -> None:
        """One turn as it should be: sent, claimed, streamed, finished, published."""
        offset = self.record(turn)
        self.claim(turn, offset=offset)
        self.delta(turn, 7, "said ")
        self.delta(turn, 8, turn)
        self.publish(self.finish(turn))

    # verdict

    def verdict(self, *, settled: bool = True) -> Verdict:
        """What the checker says; `committed` None: all records are."""
        committed = len(self.turns) if self.committed is None else self.committed
        offsets = {(TURNS, HOME): committed, (TURNS, HOME + 1): committed, (CONTROL, HOME): len(self.commands)}
        marks = Marks(PARTITIONS, offsets, replies_whole=self.whole, settled=settled)
        seen = Evidence(
            "default", SESSION, marks, self.turns, self.commands, self.rows, self.frames, self.letters, self.saved
        )
        verdict = Verdict()
        check(seen, verdict)
        return verdict


def terminal(turn: str, outcome: str, attempt: int = 1, *, text: str = "", seq: int = 1, **more: Any) -> str:
    """A terminal frame as it is stored and published."""
    place = {"session": SESSION, "turn": turn, "attempt": attempt, "seq": seq}
    return orjson.dumps({"type": outcome, **place, "text": text, **more}).decode()


def assistant(turn: str, text: str, number: int = 1, *calls: str) -> Json:
    """A message of the answer, asking for `calls`."""
    item: Json = {"id": f"{turn}~{number}", "turn": turn, "role": "assistant", "parts": []}
    if text:
        item["parts"] = [{"type": "text", "text": text}]
    if calls:
        item["calls"] = [{"call": call, "name": "look"} for call in calls]
    return item


def tool(turn: str, call: str, number: int = 2) -> Json:
    """The result of a call."""
    return {"id": f"{turn}~{number}", "turn": turn, "role": "tool", "parts": [], "call": call}
