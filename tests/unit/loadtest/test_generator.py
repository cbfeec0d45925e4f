"""The loops of the generator against a lane that answers in memory, on a loop whose time is not real."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from itertools import count

import pytest

from loadtest.answers import Request
from loadtest.generator import Heard, Run, run_closed, run_count, run_open
from loadtest.schedule import sessions
from loadtest.workload import Echo, Prompt


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time passes only while nothing is ready: it jumps to the next timer."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 100.0

    def time(self) -> float:
        return self.now_s

    def _run_once(self) -> None:
        waiting = [handle for handle in self._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]
        if waiting and not self._ready:  # type: ignore[attr-defined]
            self.now_s = max(self.now_s, min(handle.when() for handle in waiting))
        super()._run_once()  # type: ignore[misc]


class EchoLane:
    """Answers after `delay_s`; `stall` is a time in which nothing is answered."""

    def __init__(self, delay_s: float, stall: tuple[float, float] = (0, 0)) -> None:
        self.most = 0
        self._delay_s = delay_s
        self._stall = stall
        self._outstanding = 0

    def listen(self, heard: Heard) -> None:
        self._heard = heard

    def submit(self, request: Request, agent: str) -> None:
        loop = asyncio.get_running_loop()
        self._outstanding += 1
        self.most = max(self.most, self._outstanding)
        due_s = loop.time() + self._delay_s
        if self._stall[0] <= due_s - 100.0 < self._stall[1]:
            due_s = 100.0 + self._stall[1]
        loop.call_at(due_s, self._answer, request)

    def _answer(self, request: Request) -> None:
        self._outstanding -= 1
        frame = {"type": "completed", "session": request.session, "turn": request.turn, "attempt": 1, "seq": 1}
        self._heard(frame | {"text": request.expected}, asyncio.get_running_loop().time())


@pytest.fixture
def virtually(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Run]]:
    loop = VirtualLoop()
    monkeypatch.setattr(time, "monotonic", loop.time)
    yield loop.run_until_complete
    loop.close()


def echo(count: int = 10) -> Echo:
    return Echo("r", sessions(count, kind="rounds", seed=1))


def test_open_arrivals_do_not_wait_for_answers(virtually: Callable[..., Run]) -> None:
    lane = EchoLane(2.0)
    run = virtually(run_open(lane, echo(), (n / 100 for n in count()), seconds=5.0, ramp_s=3.0))
    assert lane.most >= 199
    assert run.verdict.sent == run.verdict.completed == 500
    assert run.offered_rate == pytest.approx(100, rel=0.01)
    assert run.achieved_rate == pytest.approx(100, rel=0.01)


def test_a_stall_is_felt_by_every_turn_that_should_have_started_in_it(virtually: Callable[..., Run]) -> None:
    lane = EchoLane(0.01, stall=(1.0, 2.0))
    run = virtually(run_open(lane, echo(), (n / 100 for n in count()), seconds=4.0))
    assert run.from_intended.p50_ms == pytest.approx(10, abs=1)
    assert run.from_intended.p90_ms == pytest.approx(600, abs=30)
    assert run.from_intended.max_ms == pytest.approx(1000, abs=20)


def test_a_generator_that_is_held_up_counts_the_lateness_as_latency(virtually: Callable[..., Run]) -> None:
    class Blocking(EchoLane):
        def submit(self, request: Request, agent: str) -> None:
            if request.turn == "r.100":
                loop = asyncio.get_running_loop()
                assert isinstance(loop, VirtualLoop)
                loop.now_s += 1.0
            super().submit(request, agent)

    run = virtually(run_open(Blocking(0.01), echo(), (n / 100 for n in count()), seconds=3.0))
    assert run.from_sent.p90_ms == pytest.approx(10, abs=1)
    assert run.from_intended.p90_ms == pytest.approx(700, abs=50)


def test_a_closed_loop_keeps_its_number_outstanding(virtually: Callable[..., Run]) -> None:
    lane = EchoLane(0.5)
    run = virtually(run_closed(lane, echo(20), outstanding=20, seconds=10.0, ramp_s=2.0))
    assert lane.most == 20
    assert run.achieved_rate == pytest.approx(40, rel=0.1)
    assert run.verdict.whole


def test_a_count_is_kept_exactly(virtually: Callable[..., Run]) -> None:
    lane = EchoLane(0.1)
    run = virtually(run_count(lane, echo(3), outstanding=3, turns=10))
    assert run.verdict.sent == run.verdict.completed == 10
    assert lane.most == 3


def test_a_lane_that_never_answers_is_given_up_and_seen(virtually: Callable[..., Run]) -> None:
    lane = EchoLane(10_000.0)
    run = virtually(run_open(lane, echo(), (n / 10 for n in count()), seconds=1.0, grace_s=3.0))
    assert run.verdict.unanswered == 10
    assert run.turns == 0


def test_turns_of_a_session_are_numbered_and_texts_differ() -> None:
    work = echo(2)
    first, _, third = (work.next(0.0) for _ in range(3))
    assert (first.session, first.number, third.number) == (third.session, 1, 2)
    assert first.text != third.text
    assert first.expected == first.text


def test_two_runs_may_share_their_sessions_but_never_a_turn() -> None:
    first, second = (Echo(run, sessions(1, kind="rounds", seed=1), owner="o").next(0.0) for run in ("a", "b"))
    assert first.session == second.session
    assert first.turn != second.turn


def test_a_prompt_expects_the_tokens_that_its_hint_asks_for() -> None:
    work = Prompt("r", sessions(2, kind="rounds", seed=1), tokens=3, rate=200, first_ms=5)
    first, second = work.next(0.0), work.next(0.0)
    assert first.expected == "t1 t2 t3 "
    assert second.expected == "t2 t3 t4 "
