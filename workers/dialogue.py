"""What a turn asks its user while a call of it runs and holds its slot. Knows no tool, no journal and no timer.

One question at a time. Nothing is in the journal but what was decided: a question ends with its attempt. Order of
effects: (1) the session takes decisions on it, (2) it is shown, (3) the CONTROL of its decision is durable, (4) whoever
watches sees that, (5) the call gets it.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from schemas.control import ApproveControl
from schemas.entries import ControlNote
from schemas.frames import ApprovalDecided, ApprovalRequested
from workers.steps import Steps
from workers.tools.exchange import Answer, Question
from workers.tools.form import fits

if TYPE_CHECKING:
    from workers.progress import Progress

DECLINED = Answer(allowed=False)
DEADLINE, WITHDRAWN = "deadline", "withdrawn"


class _Put(NamedTuple):
    """The question that is open. `decided` None: it was withdrawn."""

    call: str
    line: Steps
    fields: dict[str, Any]
    decided: asyncio.Future[ControlNote | None]


class Dialogue:
    """`ask` and `withdraw` are the turn's; `decided` and `show` come from its session."""

    __slots__ = ("_count", "_open", "_place", "_whole")

    def __init__(self, whole: Progress) -> None:
        self._whole = whole
        self._place = asyncio.Lock()
        self._open: _Put | None = None
        self._count = 0

    async def ask(self, line: Steps, question: Question, *, call: str, until_ms: int) -> Answer:
        """What its user says to `question` of `call`; declined where nobody says anything until then, or can be asked.
        Cancelled: the question is withdrawn. Raises as `check_open`."""
        async with self._place:
            self._whole.check_open()
            self._count += 1
            name = f"{call}.a{self._whole.job.turn.attempt}.{self._count}"
            until_ms = min(until_ms, self._whole.job.turn.deadline_ms)
            left_s = (until_ms - self._whole.clock_ms()) / 1000
            if left_s <= 0 or not self._whole.job.link.ask(name, lambda control: _fits(question, control)):
                return DECLINED
            schema = dict(question.schema) if question.schema is not None else None
            fields = {"kind": "question", "message": question.message, "schema": schema, "expires_ms": until_ms}
            put = self._open = _Put(name, line, fields, asyncio.get_running_loop().create_future())
            try:
                self.show()
                note = await self._waited(put, left_s)
            finally:
                self._open = None
        return DECLINED if note is None else _answer(note)

    def show(self) -> None:
        """Put what is open before whoever watches."""
        put = self._open
        if put is not None:
            put.line.emitter.send(ApprovalRequested, call=put.call, **put.fields)

    def decided(self, note: ControlNote) -> None:
        """A decision is durable."""
        self._tell(note.call or "", "allow" if note.kind == "approve" else "deny", note.by or note.user)
        put = self._open
        if put is not None and put.call == note.call and not put.decided.done():
            put.decided.set_result(note)

    def withdraw(self) -> None:
        """Nobody waits for a decision any more."""
        put = self._open
        if put is not None and not put.decided.done() and self._taken_back(put, WITHDRAWN):
            put.decided.set_result(None)

    async def _waited(self, put: _Put, left_s: float) -> ControlNote | None:
        try:
            async with asyncio.timeout(left_s):
                return await asyncio.shield(put.decided)
        except TimeoutError:
            if put.decided.done() or not self._taken_back(put, DEADLINE):
                return await put.decided  # somebody did decide, and it is being written down
            return None
        except asyncio.CancelledError:
            if not put.decided.done():
                self._taken_back(put, WITHDRAWN)
            raise

    def _taken_back(self, put: _Put, by: str) -> bool:
        """Whether nobody can decide on it any more."""
        taken_back = self._whole.job.link.withdraw(put.call)
        if taken_back:
            self._tell(put.call, "deny", by, put.line)
        return taken_back

    def _tell(self, call: str, decision: str, by: str, line: Steps | None = None) -> None:
        if line is None:
            line = self._open.line if self._open is not None and self._open.call == call else self._whole
        line.emitter.send(ApprovalDecided, call=call, decision=decision, by=by)


def _fits(question: Question, control: ApproveControl) -> bool:
    return control.decision == "deny" or fits(question.schema, control.answer)


def _answer(note: ControlNote) -> Answer:
    """What was decided. A field that was left empty is left out."""
    value = note.value.get("answer") if isinstance(note.value, dict) else None
    if isinstance(value, dict):
        value = {name: it for name, it in value.items() if it is not None}
    return Answer(note.kind == "approve", value)
