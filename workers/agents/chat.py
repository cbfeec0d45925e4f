"""The agent `chat`: one model call over the history and the profile. Has no tools and no state."""

from __future__ import annotations

from pydantic import JsonValue

from schemas.codes import Code
from schemas.errors import TerminalError
from workers.agent import Agent, AgentSpec, AgentTurn, Reply, SessionInfo
from workers.context import Context, ModelParams
from workers.prompt.turn import Layout, noted, prompted

INSTRUCTIONS = "You are a helpful assistant. Answer briefly and truthfully; say so when you do not know."
_OPTIONS = frozenset({"instructions", "temperature", "max_tokens"})


class Chat:
    """Answers with what the model says. One instance serves every session: it has no state.

    `instructions`: the system message; `model` None: the setting; `layout`: how much of what is sent, and from when on
    older turns are summarised.
    """

    def __init__(
        self, instructions: str = INSTRUCTIONS, *, model: str | None = None, layout: Layout | None = None
    ) -> None:
        self._instructions = instructions
        self._model = model
        self._layout = layout or Layout()

    async def run(self, turn: AgentTurn, ctx: Context) -> Reply:
        """What stays the same from turn to turn comes first: see `workers.prompt.compile`."""
        params = self._params(turn)
        instructions = _text(turn.options.get("instructions"), self._instructions)
        prompt = await prompted(ctx, instructions, layout=self._layout)
        params["system"] = prompt.system
        answer = await ctx.model(prompt.messages, **params)
        noted(ctx, prompt, answer)
        return Reply(finish=answer.finish)

    def _params(self, turn: AgentTurn) -> ModelParams:
        options = turn.options
        params: ModelParams = {"model": self._model}
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
        profile=True,
    )


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
