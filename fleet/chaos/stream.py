"""The replies' part of the proof: one turn's frames against what the journal holds of it. Pure.

Frames are folded in the order (attempt, seq), whatever the order in which they lie; a frame that lies twice counts
once. `text` of the terminal frame must be what the reader of the stream holds, and what the history keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from fleet.chaos.evidence import FrameRecord
from fleet.chaos.fate import Fate, Outcome
from fleet.chaos.finding import Kind

TERMINALS = frozenset({"completed", "failed", "cancelled"})
Found = Callable[[Kind, str], None]
Frame = Mapping[str, Any]


def compare(frames: Sequence[FrameRecord], fate: Fate, *, whole: bool, found: Found) -> None:
    """One turn. `whole`: retention has taken no reply yet."""
    published = {record.raw for record in frames if record.frame["type"] in TERMINALS}
    if len(published) > 1:
        found(Kind.TWO_TERMINALS, f"{len(published)} different terminal frames on agent.replies")
    if not fate.gone:
        _steps(frames, fate, found)
    if len(fate.outcomes) != 1:
        return
    outcome = fate.outcomes[0]
    if outcome.frame is None:
        return  # unset by a CLOSE
    stored = outcome.frame.encode()
    if len(published) == 1 and stored not in published:
        found(Kind.TERMINAL_DIFFERS, f"the terminal frame on agent.replies is not that of version {outcome.version}")
    known = next((record.frame for record in frames if record.raw == stored), None)
    terminal: Frame = known if known is not None else orjson.loads(stored)
    if terminal["type"] != outcome.name:
        found(Kind.TERMINAL_DIFFERS, f"version {outcome.version} says {outcome.name}, its frame {terminal['type']}")
    _history(terminal, outcome, found)
    if len(frames) > 1 and "into" not in terminal:
        _streamed(frames, terminal, whole, found)


def _steps(frames: Sequence[FrameRecord], fate: Fate, found: Found) -> None:
    """A `step` frame says that a step is durable."""
    said = (record.frame for record in frames if record.frame["type"] == "step")
    told = {(frame.get("run", ""), frame["step"]) for frame in said}
    for run, step in sorted(told - fate.steps):
        found(Kind.STEP_NOT_KEPT, f"step {step} {run} was told to be durable, the journal does not hold it")


def _history(terminal: Frame, outcome: Outcome, found: Found) -> None:
    """What the conversation keeps of the turn says the same as the answer."""
    kept, text = outcome.kept, terminal.get("text", "")
    if kept is None or "truncated" in terminal:
        return
    said = "".join(
        [part["text"] for item in kept if item["role"] == "assistant" for part in item["parts"] if "text" in part]
    )
    if said != text:
        what = f"the history keeps {_short(said)}, answered {_short(text)}"
        found(Kind.HISTORY_DIFFERS, f"version {outcome.version}: {what}")


def _streamed(frames: Sequence[FrameRecord], terminal: Frame, whole: bool, found: Found) -> None:
    """What a reader of the stream holds at the end is the answer, where the stream is all there."""
    place = (terminal["attempt"], terminal["seq"])
    shown: dict[tuple[int, int], Frame] = {}
    for record in frames:
        frame = record.frame
        if "run" in frame or "attempt" not in frame:
            continue
        key = (frame["attempt"], frame["seq"])
        known = shown.setdefault(key, frame)
        if frame["type"] not in TERMINALS and (known["type"], known.get("text")) != (frame["type"], frame.get("text")):
            found(Kind.STREAM_DIFFERS, f"attempt {key[0]} seq {key[1]} was published with two texts")
    order = sorted(key for key in shown if key < place)
    if not _complete(order, place, whole):
        return
    text, answer = _folded([shown[key] for key in order]), terminal.get("text", "")
    same = text == answer
    if (
        place[1] == 0
    ):  # it ended without another run: what was durable is the answer, shown or not, and no more than that
        same = text.startswith(answer) or answer.startswith(text)
    if text and not same and (answer or terminal["type"] == "completed"):  # an answer may come unstreamed
        found(Kind.STREAM_DIFFERS, f"streamed {_short(text)}, answered {_short(answer)}")


def _complete(order: Sequence[tuple[int, int]], place: tuple[int, int], whole: bool) -> bool:
    """Whether the last attempt's frames are there up to the terminal one: a worker that died right after its FINISH
    leaves some unpublished, and retention takes the oldest; then nothing can be said."""
    attempt, seq = place
    if seq == 0:
        return whole and bool(order)
    if not order or order[-1] != (attempt, seq - 1):
        return False
    return whole or (attempt, 0) in order


def _folded(frames: Sequence[Frame]) -> str:
    """The text after deltas and resets."""
    texts: list[str] = []
    for frame in frames:
        if frame["type"] == "delta":
            texts.append(frame["text"])
        elif frame["type"] == "reset":
            texts = [frame["text"]]
    return "".join(texts)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
