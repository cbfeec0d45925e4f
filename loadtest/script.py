"""How the scripted model answers a call: defaults, the hint in the prompt, then rules. Pure: no clock, no I/O.

A hint is a JSON object as the whole text of the last user message: `{"tokens": 200, "rate": 200, "first_ms": 50}`.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import orjson
import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError


def token(number: int) -> str:
    """Text of the token `number`; an answer is a run of consecutive ones, so that a missing or foreign one is seen."""
    return f"t{number} "


def answer_text(tokens: int, start: int = 0) -> str:
    """The whole answer of `tokens` tokens beginning with `start`."""
    return "".join(token(number) for number in range(start, start + tokens))


class Answer(BaseModel):
    """One call's fate. `rate` in tokens/s (0: all at once), `cut_after`: the connection is cut after so many tokens,
    `status` other than 200: an error body, with `Retry-After` if `retry_after_s` is set."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tokens: int = Field(default=20, ge=0, le=100_000)
    start: int = Field(default=0, ge=0, le=100_000)
    rate: float = Field(default=200.0, ge=0)
    first_ms: float = Field(default=50.0, ge=0)
    status: int = Field(default=200, ge=200, le=599)
    retry_after_s: float | None = None
    cut_after: int | None = Field(default=None, ge=0)
    finish: str = "stop"


class Rule(BaseModel):
    """Changes the answer of calls that match all of its globs: each `every`-th of them, at most `times` times."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    session: str = "*"
    model: str = "*"
    text: str = "*"
    every: int = Field(default=1, ge=1)
    times: int | None = Field(default=None, ge=0)
    answer: dict[str, Any] = Field(default_factory=dict)


class Rules(BaseModel):
    """A script file: YAML or JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    defaults: Answer = Answer()
    rules: tuple[Rule, ...] = ()


class Call(BaseModel):
    """What the script may look at."""

    session: str
    model: str
    text: str


class Script:
    """Rules with their counters."""

    def __init__(self, rules: Rules) -> None:
        """Raises ValidationError (a ValueError) if a rule asks for an impossible answer."""
        for rule in rules.rules:
            Answer.model_validate(rules.defaults.model_dump() | rule.answer)
        self._rules = rules
        self._met = [0] * len(rules.rules)
        self._used = [0] * len(rules.rules)

    @classmethod
    def load(cls, path: Path) -> Script:
        """Read a YAML or JSON file of `Rules`. Raises ValueError with the place of the fault."""
        return cls(Rules.model_validate(yaml.safe_load(path.read_text("utf-8")) or {}))

    def answer(self, call: Call) -> Answer:
        """The answer for this call: defaults, over them the hint field by field, over that the first rule that applies
        (so a hint cannot undo the error or cut that a rule wants). A hint that is no valid answer is ignored."""
        base = self._rules.defaults.model_dump()
        ruled = self._apply(call)
        try:
            return Answer.model_validate(base | hint(call.text) | ruled)
        except ValidationError:
            return Answer.model_validate(base | ruled)

    def _apply(self, call: Call) -> dict[str, Any]:
        for number, rule in enumerate(self._rules.rules):
            if not _matches(rule, call):
                continue
            self._met[number] += 1
            if self._met[number] % rule.every or (rule.times is not None and self._used[number] >= rule.times):
                continue
            self._used[number] += 1
            return rule.answer
        return {}


def hint(text: str) -> dict[str, Any]:
    """The hint that a message is, or nothing."""
    if not text.startswith("{"):
        return {}
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return found if isinstance(found, dict) else {}


def _matches(rule: Rule, call: Call) -> bool:
    return (
        fnmatchcase(call.session, rule.session)
        and fnmatchcase(call.model, rule.model)
        and fnmatchcase(call.text, rule.text)
    )
