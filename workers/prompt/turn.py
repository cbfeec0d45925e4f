"""The prompt of one turn, from its context: measured, shortened where it is too long, compiled. For agents to use.

`prompt = await prompted(ctx, …)`, `answer = await ctx.model(prompt.messages, system=…, tools=…, volatile=…)`, then
`noted(ctx, prompt, answer)`, so that the next turn knows what the provider counted.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from schemas.history import HistoryItem
from workers.agent import ModelAnswer
from workers.context import Context, count
from workers.models.port import ToolSpec
from workers.prompt import tokens
from workers.prompt.compaction import NAME, Compaction, shortened
from workers.prompt.compile import Budgets, Prompt, Sources, compile_prompt, fixed
from workers.prompt.tokens import Meter

_log = logging.getLogger("fleet.worker")


@dataclass(frozen=True, slots=True)
class Layout:
    """What an agent says of all its prompts."""

    budgets: Budgets = field(default_factory=Budgets)
    compaction: Compaction = field(default_factory=Compaction)


async def prompted(
    ctx: Context,
    instructions: str,
    *,
    system: str = "",
    tools: Sequence[ToolSpec] = (),
    tail: Sequence[HistoryItem] = (),
    layout: Layout | None = None,
) -> Prompt:
    """This turn's prompt, up to its input and the tail. May ask the model for a summary first. Raises what ends the
    turn, TerminalError(too_large) too where instructions or tools are over their budget."""
    layout = layout or Layout()
    budgets, meter = layout.budgets, Meter(ctx.kept.get(tokens.KEPT))
    of = Sources(instructions, (), (ctx.message,), system, tools, ctx.profile, tail=tail)
    said, told, head = fixed(of, budgets, meter)
    others = tokens.of_text(said) + tokens.of_tools(told) + tokens.of_items((*head, ctx.message, *tail))
    short = await shortened(ctx, layout.compaction, meter, others)
    of = of._replace(history=ctx.history[short.start :], summary=short.text)
    prompt = compile_prompt(of, budgets, meter)
    if dropped := short.dropped + prompt.dropped:
        _log.warning("the %d oldest turns are left out of a prompt", dropped, extra={"session": ctx.info.session})
        count(ctx, "compactions", "dropped")
        ctx.state(NAME, {"outcome": "dropped", "turns": dropped})
    return prompt


def noted(ctx: Context, prompt: Prompt, answer: ModelAnswer) -> None:
    """Have the session keep what the provider counted of this prompt."""
    told = Meter.told(answer.usage, prompt.estimated)
    if told is not None:
        ctx.keep(tokens.KEPT, told)
