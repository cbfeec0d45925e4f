"""The test kit: an agent against a scripted model, in virtual time, in a plain pytest. Starts nothing."""

from fleet.testing.conversation import Verdict
from fleet.testing.crashes import CrashPoint
from fleet.testing.lab import Lab, allows, denies
from fleet.testing.outcome import Asked, Outcome, ToolUse
from fleet.testing.script import Answer, asks, asks_badly, asks_many, fails, says

__all__ = [
    "Answer",
    "Asked",
    "CrashPoint",
    "Lab",
    "Outcome",
    "ToolUse",
    "Verdict",
    "allows",
    "asks",
    "asks_badly",
    "asks_many",
    "denies",
    "fails",
    "says",
]
