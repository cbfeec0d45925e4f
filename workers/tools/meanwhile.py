"""What one call asks its user while it runs. Over with the call: what is open then is withdrawn, what comes later is
declined, whoever is asked next. Knows no server.
"""

from __future__ import annotations

import asyncio

from pydantic_core import to_json

from schemas.errors import RetryableError, TerminalError
from workers.context import Context, ask_meanwhile
from workers.job import TurnLost
from workers.tools.exchange import QUESTION_BYTES, QUESTIONS, Answer, Question

_LAST_S, _LAST_SHARE = 1.0, 0.1  # of a call's time is left to it when nobody answered: at most, and of all of it
_DECLINED = Answer(allowed=False)


class Meanwhile:
    """`timeout_s`: of the call, which begins now."""

    def __init__(self, line: Context, call: str, timeout_s: float) -> None:
        self._line = line
        self._call = call
        self._clock = asyncio.get_running_loop().time
        self._until_s = self._clock() + timeout_s - min(_LAST_S, _LAST_SHARE * timeout_s)
        self._asking: set[asyncio.Task[Answer]] = set()
        self._asked_so_far = 0
        self._over = False

    async def ask(self, question: Question) -> Answer:
        """Exchange: its user's answer, declined where there is none in time. Called from whichever task."""
        self._asked_so_far += 1
        if self._over or self._asked_so_far > QUESTIONS or len(to_json(question)) > QUESTION_BYTES:
            return _DECLINED
        task = asyncio.create_task(self._asked(question), name=f"question of {self._call}")
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError:  # the server takes its question back, or is gone
            task.cancel()
            raise
        return _DECLINED if task.cancelled() else task.result()

    async def _asked(self, question: Question) -> Answer:
        try:
            return await ask_meanwhile(self._line, question, call=self._call, within_s=self._until_s - self._clock())
        except (TurnLost, TerminalError, RetryableError):
            return _DECLINED

    def end(self) -> None:
        """The call is over."""
        self._over = True
        for task in self._asking:
            task.cancel()
