"""How an attempt of a turn ended, as the executor tells it. Plain values; knows nothing of journal or broker."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import JsonValue

from schemas.codes import Code
from schemas.frames import CancelledBy, Cut, Finish, Usage
from schemas.history import HistoryItem


@dataclass(slots=True)
class Result:
    """`messages`: the answer as the frame splits it; `history`: what joins the conversation after the user's message.

    `by` only for `cancelled`; `code` and `message` only for `failed`; `seq`: the terminal frame's number;
    `unrun`: the turn runs nowhere, so its frame comes after all that any attempt has shown; `kept`: what the session
    keeps from now on. Times in microseconds.
    """

    outcome: Literal["completed", "failed", "cancelled"]
    text: str = ""
    messages: tuple[HistoryItem, ...] = ()
    history: tuple[HistoryItem, ...] = ()
    usage: tuple[Usage, ...] = ()
    finish: Finish = "stop"
    data: JsonValue = None
    truncated: Cut | None = None
    by: CancelledBy | None = None
    code: Code | None = None
    message: str = ""
    model_us: int = 0
    agent_us: int = 0
    tools_us: int = 0
    write_us: int = 0
    model_calls: int = 0
    retries: int = 0
    untold_calls: int = 0
    seq: int = 0
    unrun: bool = False
    kept: dict[str, JsonValue] | None = None
