"""The replies' part of the proof: one turn's frames against its stored outcome. Pure.

Frames are folded in the order (attempt, seq), whatever the order in which they lie; a frame that lies twice counts
once. `text` of the terminal frame must be what the reader of the stream holds, and what the history keeps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from fleet.chaos.chain import Outcome
from fleet.chaos.evidence import FrameRecord
from fleet.chaos.finding import Kind

TERMINALS = frozenset({"completed", "failed", "cancelled"})
Found = Callable[[Kind, str], None]
Frame = Mapping[str, Any]


def compare(frames: Sequence[FrameRecord], outcome: Outcome, *, whole: bool, found: Found) -> None:
    """One turn that is over by `outcome`. `whole`: retention has taken no reply yet."""
    stored = outcome.frame
    if stored is None:
        return  # unset by a CLOSE
    wanted = stored.encode()
    published = {record.raw for record in frames if record.frame["type"] in TERMINALS}
    if len(published) > 1:
        found(Kind.TWO_TERMINALS, f"{len(published)} different terminal frames on agent.replies")
    elif published and wanted not in published:
        found(Kind.TERMINAL_DIFFERS, f"the terminal frame on agent.replies is not that of version {outcome.version}")
    terminal: Frame = orjson.loads(stored)
    if terminal["type"] != outcome.name:
        found(Kind.TERMINAL_DIFFERS, f"version {outcome.version} says {outcome.name}, its frame {terminal['type']}")
    _history(terminal, outcome, found)
    if len(frames) > 1 and "into" not in terminal:
        _streamed(frames, terminal, whole, found)


def _history(terminal: Frame, outcome: Outcome, found: Found) -> None:
    """What the conversation keeps of the turn says the same as the answer."""
    kept = outcome.kept
    if kept is None or "truncated" in terminal:
        return
    text = terminal.get("text", "")
    if not text and outcome.name != "completed":
        return
    said = "".join(
        [part["text"] for item in kept if item["role"] == "assistant" for part in item["parts"] if "text" in part]
    )
    if said != text:
        found(
            Kind.HISTORY_DIFFERS,
            f"version {outcome.version}: the history keeps {_short(said)}, answered {_short(text)}",
        )


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
        if known.get("text") != frame.get("text") and frame["type"] not in TERMINALS:
            found(Kind.STREAM_DIFFERS, f"attempt {key[0]} seq {key[1]} was published with two texts")
    order = sorted(key for key in shown if key < place)
    if not _complete(order, place, whole):
        return
    text, any_text = _folded([shown[key] for key in order])
    answer = terminal.get("text", "")
    if any_text and text != answer and (answer or terminal["type"] == "completed"):
        found(Kind.STREAM_DIFFERS, f"streamed {_short(text)}, answered {_short(answer)}")


def _complete(order: Sequence[tuple[int, int]], place: tuple[int, int], whole: bool) -> bool:
    """Whether the last attempt's frames are there up to the terminal one: a worker that died right after its FINISH
    leaves some unpublished, and retention takes the oldest; then nothing can be said."""
    attempt, seq = place
    if seq == 0:
        return True
    if not order or order[-1] != (attempt, seq - 1):
        return False
    return whole or (attempt, 0) in order


def _folded(frames: Sequence[Frame]) -> tuple[str, bool]:
    """The text after deltas and resets, and whether there were any."""
    texts: list[str] = []
    seen = False
    for frame in frames:
        kind = frame["type"]
        if kind == "delta":
            texts.append(frame["text"])
            seen = True
        elif kind == "reset":
            texts = [frame["text"]]
            seen = True
    return "".join(texts), seen


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
