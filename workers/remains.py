"""What durable steps leave when nobody runs them again: messages, each call with a result. Knows no task, no frame."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from pydantic import JsonValue

from journal.state import OpenTurn, steer_item
from schemas.entries import ControlNote, Intent, Step
from schemas.errors import OutcomeUnknown
from schemas.history import HistoryItem, ToolCall
from schemas.parts import PARTS, Part
from workers.agent import MAX_REPLY_BYTES
from workers.answer import Answer, parts_of


def of_turn(turn: OpenTurn, at_ms: int) -> tuple[str, tuple[HistoryItem, ...]]:
    """Text and messages of an open turn that ends without another run."""
    answer = Answer(turn.turn, _Nobody(), MAX_REPLY_BYTES)
    answer.resume(text_of(turn.steps), -1)
    notes = {note.op: note for note in turn.joined}
    restore(answer, turn.steps, notes, turn.turn)
    close_calls(answer, turn.intents)
    kept = answer.keep()
    asked = turn.suspended
    if asked is not None and not asked.run:
        _heard(answer, asked.steers, notes, turn.turn)
        answer.put(asked.text)
        kept = answer.text
    return kept, answer.items(at_ms, partial=True)


def restore(answer: Answer, steps: Sequence[Step], notes: Mapping[str, ControlNote], turn: str) -> None:
    """Add the messages of steps that this attempt did not come to, and what of `notes` (by op) they had heard. `steps`:
    in the order in which they were written.

    Nothing is added where the user holds other text than theirs: then the agent had begun to say it again.
    """
    if not answer.holds(text_of(steps)):
        return
    for step in steps:
        if step.run:
            _answered(answer, step)
            continue
        _heard(answer, step.steers, notes, turn)
        said = model_says(step)
        if said is None:
            answer.put(step.text)
            _answered(answer, step)
        else:
            text, calls = said
            answer.put(step.text[: len(step.text) - len(text)])
            answer.put(text, calls, by_model=True)


def _heard(answer: Answer, ops: Iterable[str], notes: Mapping[str, ControlNote], turn: str) -> None:
    for op in ops:
        if op in notes:
            answer.heard(steer_item(notes[op], turn))


def text_of(steps: Iterable[Step]) -> str:
    """What the answer has of these steps: what is said in a branch is no part of it."""
    return "".join(step.text for step in steps if not step.run)


def held_value(step: Step) -> JsonValue:
    """What a step holds, to be weighed."""
    return step.result if step.content is None else weighed(step.content, step.result)


def weighed(parts: tuple[Part, ...], data: JsonValue) -> JsonValue:
    """An answer in parts, as one value."""
    return [PARTS.dump_python(parts, mode="json"), data]


def result_parts(step: Step) -> tuple[Part, ...]:
    """What a tool answered, as a message holds it."""
    if step.content is not None:
        return step.content
    return parts_of(step.result if step.error is None else step.error.text)


def _answered(answer: Answer, step: Step) -> None:
    if step.call is not None and not step.paused:
        answer.tool_answer(step.call, result_parts(step))


def model_says(step: Step) -> tuple[str, tuple[ToolCall, ...]] | None:
    """The message that a model call showed, and what it asks for. None: no model call, or one that was not shown."""
    result = step.result
    if step.kind != "model" or not isinstance(result, dict) or not isinstance(chars := result.get("chars"), int):
        return None
    return step.text[len(step.text) - chars :], calls_of(step)


def calls_of(step: Step) -> tuple[ToolCall, ...]:
    """What a model asked for."""
    calls = step.result.get("calls") if isinstance(step.result, dict) else None
    return tuple(ToolCall.model_validate(call) for call in calls) if isinstance(calls, list) else ()


def close_calls(answer: Answer, intents: Iterable[Intent]) -> None:
    """Every call that was begun has a result: of these nobody knows what became of them."""
    for intent in intents:
        answer.tool_answer(intent.call, parts_of(str(OutcomeUnknown(intent.name, intent.call))))


class _Nobody:
    """Nobody looks."""

    def delta(self, message: str, text: str, kind: str = "delta") -> None: ...

    def reset(self, reason: str, step: int, text: str) -> None: ...
