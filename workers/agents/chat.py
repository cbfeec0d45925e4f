"""The agent `chat`: one model call over the history. Has no tools and no state."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import JsonValue

from schemas.codes import Code
from schemas.errors import TerminalError
from schemas.history import HistoryItem
from workers.agent import Agent, AgentSpec, AgentTurn, Reply, SessionInfo
from workers.context import Context, ModelParams

INSTRUCTIONS = "You are a helpful assistant. Answer briefly and truthfully; say so when you do not know."
HISTORY_CHARS = 400_000
_OPTIONS = frozenset({"instructions", "temperature", "max_tokens"})


class Chat:
    """Answers with what the model says. One instance serves every session: it has no state.

    `instructions`: the system message; `model` None: the setting; `history_chars`: the oldest whole turns beyond it
    are not sent (a later issue summarises them).
    """

    def __init__(
        self, instructions: str = INSTRUCTIONS, *, model: str | None = None, history_chars: int = HISTORY_CHARS
    ) -> None:
        self._instructions = instructions
        self._model = model
        self._history_chars = history_chars

    async def run(self, turn: AgentTurn, ctx: Context) -> Reply:
        """System, history, input, in this order: what stays the same from turn to turn comes first."""
        messages = (*recent(ctx.history, self._history_chars), ctx.message)
        answer = await ctx.model(messages, **self._params(turn))
        return Reply(finish=answer.finish)

    def _params(self, turn: AgentTurn) -> ModelParams:
        options = turn.options
        params: ModelParams = {"system": _text(options.get("instructions"), self._instructions), "model": self._model}
        if "temperature" in options:
            params["temperature"] = _number(options["temperature"], "temperature", 0, 2)
        if "max_tokens" in options:
            params["max_tokens"] = int(_number(options["max_tokens"], "max_tokens", 1, 1_000_000))
        return params


def spec(instructions: str = INSTRUCTIONS, *, model: str | None = None, fallbacks: tuple[str, ...] = ()) -> AgentSpec:
    """How `chat` is registered."""
    built = Chat(instructions, model=model)

    async def build(spec: AgentSpec, session: SessionInfo) -> Agent:
        return built

    return AgentSpec(
        name="chat",
        version="1",
        build=build,
        description="One model call over the history",
        options=_OPTIONS,
        model=model,
        fallbacks=fallbacks,
    )


def recent(history: Sequence[HistoryItem], most_chars: int) -> Sequence[HistoryItem]:
    """The newest whole turns that fit into `most_chars`. O(what is kept)."""
    chars = 0
    start = len(history)
    for index in range(len(history) - 1, -1, -1):
        item = history[index]
        chars += len(item.text) + 16
        if chars > most_chars:
            break
        if index == 0 or history[index - 1].turn != item.turn:
            start = index
    return history[start:]


def _text(given: JsonValue, default: str) -> str:
    if given is None:
        return default
    if not isinstance(given, str):
        raise TerminalError(Code.BAD_REQUEST, "options.instructions: want a text")
    return given


def _number(given: JsonValue, name: str, least: float, most: float) -> float:
    if isinstance(given, bool) or not isinstance(given, int | float) or not least <= given <= most:
        raise TerminalError(Code.BAD_REQUEST, f"options.{name}: want a number from {least:g} to {most:g}")
    return given
