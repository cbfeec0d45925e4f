"""An agent on the bench: its turns run one by one, in virtual time, without broker or database. Owns the loop."""

from __future__ import annotations

import asyncio
import atexit
import weakref
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from datetime import date
from types import TracebackType
from typing import Any, TypeVar

from pydantic import JsonValue

from fleet.testing.attempt import Plan
from fleet.testing.conversation import NOON_MS, Conversation, Setup, Verdict
from fleet.testing.crashes import CrashPoint, everywhere
from fleet.testing.outcome import Outcome
from fleet.testing.script import Answers, Telling
from fleet.testing.virtual_loop import VirtualLoop
from journal.fold import fold
from journal.history import History
from journal.state import EMPTY, State
from schemas.entries import Open
from schemas.history import HistoryItem, said
from schemas.ids import message_id
from schemas.parts import Part
from schemas.profile import Profile
from schemas.turn import TurnInput
from workers.agent import AgentSpec, RegistrationError, SessionInfo
from workers.ledger.prices import NO_PRICES, Prices, Row
from workers.models.port import ModelRequest
from workers.registry import Registry, imported, specs_of
from workers.tools.tool import Tool

T = TypeVar("T")
Steers = tuple[int, str] | Sequence[tuple[int, str]]


class Lab:
    """One session of one agent. `agents`: an AgentSpec, what `fleet up --agents` takes, or its `module:registry`;
    `agent`: which of them, where there are several.

    `model`: what the model answers, one `says`, `asks` or `fails` a call, or a function of the request. `history`,
    `kept`: what the session has before its first turn; `profile`: the user's (a text is its summary), for an agent
    whose spec says `profile`. `tools`: in place of the agent's own ones of the same name; `prices`: of a model, for a
    million tokens in and out (the one that no agent names is `scripted`). `deadline_s`: of each turn;
    `model_attempts`: how often a call is tried. Raises RegistrationError.
    """

    def __init__(
        self,
        agents: object,
        *,
        model: Answers = (),
        agent: str | None = None,
        user: str = "ada",
        tenant: str = "default",
        session: str = "s1",
        profile: Profile | str | None = None,
        history: Sequence[HistoryItem | str] = (),
        kept: Mapping[str, JsonValue] | None = None,
        tools: Sequence[Tool] = (),
        prices: Mapping[str, tuple[float, float]] | None = None,
        deadline_s: float = 600.0,
        model_attempts: int = 4,
    ) -> None:
        _check_outside()
        _close_left()
        spec = _with_tools(spec_of(agents, agent), tools)
        if isinstance(profile, str):
            profile = Profile(tenant=tenant, user=user, version=1, summary=profile)
        info = SessionInfo(tenant, session, user, spec.name, spec.version)
        self._runner = asyncio.Runner(loop_factory=VirtualLoop)
        loop = self._runner.get_loop()
        setup = Setup(spec, info, profile, deadline_s, model_attempts, loop.time(), _prices(prices or {}))
        self._talk = self._run(_conversation(setup, Telling(model), _past(info, history, kept or {})))
        self._left = weakref.finalize(self, _LEFT.append, (self._runner, self._talk))
        self.last: Outcome | None = None

    def __enter__(self) -> Lab:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End what the agent left running. Where nobody holds the lab any more the next one does it, or the end."""
        if self._left.detach() is not None:
            _close(self._runner, self._talk)

    @property
    def state(self) -> State:
        """The session as a worker sees it."""
        return self._talk.state

    @property
    def history(self) -> tuple[HistoryItem, ...]:
        """What was said in the session, oldest first."""
        return tuple(self._talk.state.history)

    @property
    def kept(self) -> Mapping[str, JsonValue]:
        """What the session keeps by name."""
        return dict(self._talk.state.kept)

    @property
    def requests(self) -> tuple[ModelRequest, ...]:
        """What the model was asked in all turns."""
        return tuple(self._talk.model.requests)

    @property
    def left(self) -> int:
        """Answers of the script that nobody has asked for."""
        return self._talk.model.left

    def turn(
        self,
        text: str = "",
        *,
        parts: Sequence[Part] = (),
        metadata: Mapping[str, JsonValue] | None = None,
        options: Mapping[str, JsonValue] | None = None,
        tools: Sequence[str] | None = None,
        cancel_after: int | None = None,
        steer_after: Steers = (),
    ) -> Outcome:
        """The user says `text`; to the end of the turn, or to where it awaits a decision. `cancel_after`: the user
        cancels once so many steps are durable; `steer_after`: (steps, what the user says then), or several of them.

        Raises AssertionError where the model is asked more often than the script says, or a turn awaits a decision.
        """
        self._check_free()
        plan = Plan(cancel_after, _steers(steer_after))
        return self._kept_as_last(self._talk.begin(_input(text, parts, metadata, options, tools), plan))

    def decide(
        self,
        allow: bool = True,
        *,
        arguments: dict[str, JsonValue] | None = None,
        answer: JsonValue = None,
        note: str | None = None,
        by: str | None = None,
        cancel_after: int | None = None,
    ) -> Outcome:
        """Decide on what the turn awaits; to its end, or to the next decision. `by`: another user than the session's;
        `cancel_after`: as of a turn, counted from the turn's beginning."""
        self._check_awaits("decide")
        verdict = Verdict(allow, arguments, answer, note, by)
        return self._kept_as_last(self._talk.decide(verdict, Plan(cancel_after)))

    def wait(self, seconds: float) -> Outcome:
        """Nobody decides for so long: past the deadline of what is asked it is denied, by `deadline`."""
        asked = self._check_awaits("wait")
        left_s = (asked.deadline_ms - self._talk.clock_ms()) / 1000
        if seconds < left_s:
            self.advance(seconds)
            return self._talk.seen()
        self.advance(max(left_s, 0))
        outcome = self._kept_as_last(self._talk.deny_in_time(Plan()))
        self.advance(seconds - left_s)
        return outcome

    def advance(self, seconds: float) -> None:
        """The clock goes on, between two turns."""
        self._run(asyncio.sleep(seconds))

    def crash_everywhere(
        self,
        text: str = "",
        *,
        parts: Sequence[Part] = (),
        metadata: Mapping[str, JsonValue] | None = None,
        options: Mapping[str, JsonValue] | None = None,
        tools: Sequence[str] | None = None,
        steer_after: Steers = (),
        decisions: Sequence[Verdict] = (),
    ) -> tuple[CrashPoint, ...]:
        """Run the turn undisturbed (`last` is its outcome, and the session goes on from there), then again from the
        same session once for every point where a worker may die: before and after each entry is durable. Each time the
        turn goes on with an agent that is built anew, and must end the same, with nothing done twice: outcome, text,
        data, history, what is kept. `decisions`: what is decided, in order, wherever it asks; `steer_after`: as of a
        turn.

        Where a tool that may not be called again was in the middle of a call, only that is checked: see `unknown`.
        Raises AssertionError with a sentence otherwise. Returns the points.
        """
        self._check_free()
        given = _input(text, parts, metadata, options, tools)
        self.last, points = self._run(everywhere(self._talk, given, Plan(steers=_steers(steer_after)), decisions))
        return points

    def _kept_as_last(self, work: Coroutine[Any, Any, Outcome]) -> Outcome:
        self.last = self._run(work)
        return self.last

    def _check_free(self) -> None:
        turn = self.state.open
        if turn is not None:
            raise AssertionError(f"turn {turn.turn} awaits a decision: call decide() or wait() first")

    def _check_awaits(self, what: str) -> Any:
        turn = self.state.open
        if turn is None or turn.awaits is None:
            raise AssertionError(f"no turn awaits a decision: {what}() has nothing to do")
        return turn.awaits

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)


def _check_outside() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise AssertionError("a Lab runs a loop of its own: use it in `def test_…`, not in `async def test_…`")


def allows(
    *,
    arguments: dict[str, JsonValue] | None = None,
    answer: JsonValue = None,
    note: str | None = None,
    by: str | None = None,
) -> Verdict:
    """What is asked is allowed; with other arguments, or with an answer, where they are given."""
    return Verdict(True, arguments, answer, note, by)


def denies(*, note: str | None = None, by: str | None = None) -> Verdict:
    """What is asked is denied."""
    return Verdict(False, note=note, by=by)


def spec_of(agents: object, agent: str | None) -> AgentSpec:
    """The agent that is meant. Raises RegistrationError."""
    place = agents if isinstance(agents, str) else "what Lab got"
    specs = specs_of(imported(agents) if isinstance(agents, str) else agents, place)
    Registry(specs)
    if agent is not None:
        specs = [spec for spec in specs if spec.name == agent]
    if len(specs) != 1:
        names = ", ".join(spec.name for spec in specs) or "none"
        raise RegistrationError(f"Lab runs one agent, these are {len(specs)} ({names}): name it with agent=")
    return specs[0]


def _with_tools(spec: AgentSpec, tools: Sequence[Tool]) -> AgentSpec:
    """The agent with these in place of its own. Raises RegistrationError."""
    named = {tool.name: tool for tool in tools}
    strange = named.keys() - {tool.name for tool in spec.own_tools}
    if strange:
        raise RegistrationError(f"agent {spec.name} has no tool {min(strange)!r} that this one could stand for")
    return replace(spec, own_tools=tuple(named.get(tool.name, tool) for tool in spec.own_tools)) if named else spec


def _prices(given: Mapping[str, tuple[float, float]]) -> Prices:
    rows = [
        Row.model_validate({"model": model, "from": date(2000, 1, 1), "input": prices[0], "output": prices[1]})
        for model, prices in given.items()
    ]
    return Prices("USD", rows) if rows else NO_PRICES


async def _conversation(setup: Setup, model: Telling, state: State) -> Conversation:
    return Conversation(setup, model, state)


_LEFT: list[tuple[asyncio.Runner, Conversation]] = []
"""Labs that were dropped. A loop cannot be run where the garbage collector happens to find one."""
_END_S = 5.0


def _close_left() -> None:
    while _LEFT:
        _close(*_LEFT.pop())


atexit.register(_close_left)


def _close(runner: asyncio.Runner, talk: Conversation) -> None:
    """A task that will not end is left behind: a runner would wait for it for ever."""
    runner.run(_end(talk))
    loop = runner.get_loop()
    if asyncio.all_tasks(loop):
        loop.close()
    else:
        runner.close()


async def _end(talk: Conversation) -> None:
    await talk.close()
    if left := asyncio.all_tasks() - {asyncio.current_task()}:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=_END_S)


def _past(info: SessionInfo, history: Sequence[HistoryItem | str], kept: Mapping[str, JsonValue]) -> State:
    """An open session. Texts are a user's and an assistant's in turn."""
    opened = Open(at_ms=NOON_MS, user=info.user, agent=info.agent, agent_version=info.agent_version)
    items = []
    for n, item in enumerate(history):
        if isinstance(item, str):
            turn = f"p{n // 2}"
            item = said(message_id(turn, n % 2), turn=turn, role=_ROLES[n % 2], text=item, at_ms=NOON_MS - 1000)  # noqa: PLW2901
        items.append(item)
    return fold(EMPTY, 1, opened)._replace(history=History().extended(items), kept=dict(kept))


_ROLES: Any = ("user", "assistant")


def _input(
    text: str,
    parts: Sequence[Part],
    metadata: Mapping[str, JsonValue] | None,
    options: Mapping[str, JsonValue] | None,
    tools: Sequence[str] | None,
) -> TurnInput:
    return TurnInput(
        text=text,
        parts=tuple(parts),
        metadata=dict(metadata or {}),
        options=dict(options) if options is not None else None,
        tools=tuple(tools) if tools is not None else None,
    )


def _steers(given: Steers) -> tuple[tuple[int, str], ...]:
    if len(given) == 2 and isinstance(given[0], int):
        return ((given[0], str(given[1])),)
    steers: Any = given
    return tuple(sorted(steers, key=lambda steer: steer[0]))
