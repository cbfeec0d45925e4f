"""A decision that an agent asks for, as a step: answered from the journal, or the turn is suspended. Knows no model."""

from __future__ import annotations

from typing import NamedTuple

from pydantic import JsonValue

from schemas.codes import Code
from schemas.entries import ControlNote
from schemas.errors import TerminalError
from schemas.frames import ApprovalRequested
from workers.agent import Decision
from workers.canonical import digest_of, plain
from workers.steps import APPROVAL, Steps, call_of


class Asked(NamedTuple):
    """What is asked. `name`, `arguments`: of the call that it is about, None: a question; `schema`: what an answer must
    look like."""

    message: str
    name: str | None = None
    arguments: dict[str, JsonValue] | None = None
    schema: dict[str, JsonValue] | None = None


class Approval:
    """`call`: the model's id of the call, if it asked for it; `expires_s`: then it is denied."""

    __slots__ = ("_asked", "_call", "_expires_s", "_progress")

    def __init__(self, progress: Steps, asked: Asked, *, call: str | None, expires_s: float) -> None:
        self._progress = progress
        self._asked = asked
        self._call = call or ""
        self._expires_s = expires_s

    async def run(self) -> Decision:
        """What was decided. Raises TurnLost where nobody has decided yet, TerminalError."""
        progress, asked = self._progress, self._asked
        what = f"approval {asked.name or asked.message[:64]!r}"
        given: list[JsonValue] = [*asked]
        plain(given, what)
        if not self._expires_s > 0:
            raise TerminalError(Code.AGENT_ERROR, f"{what}: expires_s is {self._expires_s}, give more than 0")
        digest = digest_of(given, what)
        name = asked.name or "question"
        number, held = progress.take(APPROVAL, name, digest)
        turn = progress.whole.job.turn
        self._call = self._call or call_of(turn.turn, progress.run, number)
        if held is not None:
            progress.replayed(number)
            return Decision(**held.result)  # type: ignore[arg-type]
        note = turn.decided(self._call)
        if note is None:
            await progress.suspend(number, name, digest, self._frame())
        return await progress.whole.do(self._keep(number, name, digest, note))

    async def _keep(self, number: int, name: str, digest: str, note: ControlNote) -> Decision:
        """The decision is what this step came to."""
        given = note.value if isinstance(note.value, dict) else {}
        decision = Decision(allowed=note.kind == "approve", by=note.by or note.user, **given)  # type: ignore[arg-type]
        progress = self._progress
        step = progress.entry(number, APPROVAL, name, digest, result=decision._asdict(), call=self._call)
        await progress.append(step)
        return decision

    def _frame(self) -> ApprovalRequested:
        whole = self._progress.whole
        info, turn, now_ms = whole.job.info, whole.job.turn, whole.clock_ms()
        return ApprovalRequested(
            tenant=info.tenant,
            session=info.session,
            turn=turn.turn,
            attempt=turn.attempt,
            seq=0,
            at_ms=now_ms,
            call=self._call,
            kind="question" if self._asked.name is None else "tool_call",
            expires_ms=now_ms + int(self._expires_s * 1000),
            name=self._asked.name,
            arguments=self._asked.arguments,
            message=self._asked.message,
            answer_schema=self._asked.schema,
        )
