"""The agent `starter-agent`: a fixed graph that looks at a text from two sides at once, then sums up."""

from __future__ import annotations

from workers.agents.workflow.agent import workflow
from workers.agents.workflow.nodes import Ask, Do, Parallel, Seq

starter_agent = workflow(
    Seq(
        (
            Do("words", lambda values: len(str(values["input"]).split())),
            Parallel(
                {
                    "good": Ask("praise", "Say in one sentence what is good about this:\n\n{input}"),
                    "bad": Ask("doubt", "Say in one sentence what is doubtful about this:\n\n{input}"),
                }
            ),
            Ask("answer", "Judge a text of {words} words.\nFor it: {praise}\nAgainst it: {doubt}", show=True),
        )
    ),
    name="starter-agent",
    version="1",
    description="Judges a text from two sides",
)

registry = [starter_agent]
