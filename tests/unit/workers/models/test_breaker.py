"""When calls stop and when they go on, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from fleet.testing.virtual_loop import run
from schemas.codes import Code
from workers.models.breaker import Breaker, BreakerOpen, BreakerRules, Standing
from workers.models.breakers import Breakers
from workers.models.port import ModelRateLimited, ModelUnavailable

BAD = ModelUnavailable("502")
CLOSED, HALF_OPEN, OPEN = Standing.CLOSED, Standing.HALF_OPEN, Standing.OPEN


class Bench:
    """A breaker on the running loop, and where it stood each time that it told."""

    def __init__(self, **rules: float) -> None:
        loop = asyncio.get_running_loop()
        self.told: list[Standing] = []
        self.breaker = Breaker(
            "m",
            BreakerRules(**rules),  # type: ignore[arg-type]
            clock_s=loop.time,
            call_later=loop.call_later,
            changed=lambda breaker: self.told.append(breaker.standing),
        )

    async def call(self, error: BaseException | None = None, *, passes: bool = True) -> None:
        period = await self.breaker.enter(0.0)
        self.breaker.ended(period, error, passes=passes)

    async def fail(self, times: int, error: BaseException = BAD) -> None:
        for _ in range(times):
            await self.call(error)

    @property
    def standing(self) -> Standing:
        return self.breaker.standing


Play = Callable[[], Awaitable[None]]


def virtual(play: Play) -> Callable[[], None]:
    """Make a test of an asynchronous function, in virtual time."""

    def test() -> None:
        async def whole() -> None:
            await play()

        run(whole())

    test.__name__ = getattr(play, "__name__", "test")
    return test


@virtual
async def test_it_opens_after_so_many_failures_in_a_row() -> None:
    bench = Bench(failures=5)
    await bench.fail(4)
    assert bench.standing is CLOSED
    await bench.fail(1)
    assert (bench.standing, bench.told) == (OPEN, [OPEN])


@virtual
async def test_an_answer_in_between_begins_a_new_row() -> None:
    bench = Bench(failures=5, share=1.0)
    for _ in range(5):
        await bench.fail(4)
        await bench.call()
    assert bench.standing is CLOSED


@virtual
async def test_failures_of_long_ago_do_not_count() -> None:
    bench = Bench(failures=3, window_s=10.0)
    for _ in range(9):
        await bench.fail(1)
        await asyncio.sleep(6.0)
    assert bench.standing is CLOSED


@virtual
async def test_it_opens_when_half_of_the_calls_fail() -> None:
    bench = Bench(failures=5, share=0.5)
    for _ in range(4):
        await bench.call()
        await bench.fail(1)
    assert bench.standing is CLOSED
    await bench.call()
    await bench.fail(1)
    assert bench.standing is OPEN


@virtual
async def test_a_few_failures_among_many_calls_are_borne() -> None:
    bench = Bench(failures=5, share=0.5)
    for _ in range(100):
        for _ in range(3):
            await bench.call()
        await bench.fail(2)
    assert bench.standing is CLOSED


@virtual
async def test_open_it_takes_no_call_and_says_why_and_until_when() -> None:
    bench = Bench(failures=1, open_s=5.0)
    await bench.fail(1, ModelRateLimited("429: slow down"))
    await asyncio.sleep(2.0)
    with pytest.raises(BreakerOpen, match="429: slow down") as caught:
        await bench.call()
    assert (caught.value.code, round(caught.value.after_s or 0, 3)) == (Code.MODEL_RATE_LIMITED, 3.0)


@pytest.mark.parametrize(("asked_s", "open_s"), [(None, 5.0), (1.0, 5.0), (20.0, 20.0), (3_600.0, 60.0)])
def test_what_the_provider_asks_for_keeps_it_open_up_to_a_minute(asked_s: float | None, open_s: float) -> None:
    async def play() -> None:
        bench = Bench(failures=1, open_s=5.0)
        await bench.fail(1, ModelRateLimited("429", after_s=asked_s))
        await asyncio.sleep(open_s - 0.01)
        assert bench.standing is OPEN
        await asyncio.sleep(0.02)
        assert bench.standing is HALF_OPEN

    run(play())


async def half_open(**rules: float) -> Bench:
    bench = Bench(**{"failures": 1, "open_s": 5.0, **rules})
    await bench.fail(1)
    await asyncio.sleep(5.01)
    assert bench.standing is HALF_OPEN
    return bench


@virtual
async def test_half_open_one_call_goes_through_and_its_answer_closes() -> None:
    bench = await half_open()
    probe = await bench.breaker.enter(0.0)
    with pytest.raises(BreakerOpen):
        await bench.call()
    bench.breaker.ended(probe, None, passes=False)
    assert bench.standing is CLOSED
    await bench.call()
    assert bench.told == [OPEN, HALF_OPEN, CLOSED]


@virtual
async def test_half_open_its_failure_opens_again() -> None:
    bench = await half_open()
    await bench.fail(1)
    assert bench.standing is OPEN
    await asyncio.sleep(5.01)
    assert bench.standing is HALF_OPEN


@virtual
async def test_a_probe_that_was_cancelled_says_nothing_and_another_goes_through() -> None:
    bench = await half_open()
    await bench.call(asyncio.CancelledError(), passes=False)
    assert bench.standing is HALF_OPEN
    await bench.call()
    assert bench.standing is CLOSED


@virtual
async def test_calls_that_began_before_it_opened_decide_nothing() -> None:
    bench = Bench(failures=1, open_s=5.0)
    early = [await bench.breaker.enter(0.0) for _ in range(3)]
    await bench.fail(1)
    bench.breaker.ended(early[0], None, passes=False)
    assert bench.standing is OPEN
    await asyncio.sleep(5.01)
    bench.breaker.ended(early[1], None, passes=False)
    bench.breaker.ended(early[2], BAD, passes=True)
    assert bench.standing is HALF_OPEN


@virtual
async def test_whoever_waits_goes_through_when_it_closes_and_the_first_is_the_probe() -> None:
    bench = Bench(failures=1, open_s=5.0)
    await bench.fail(1)
    began: list[tuple[int, Standing]] = []

    async def caller(number: int) -> None:
        period = await bench.breaker.enter(30.0)
        began.append((number, bench.standing))
        await asyncio.sleep(0.5)
        bench.breaker.ended(period, None, passes=False)

    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(caller(number))
        await asyncio.sleep(5.4)
        assert began == [(0, HALF_OPEN)]
        await asyncio.sleep(0.15)
        assert began == [(0, HALF_OPEN), (1, CLOSED), (2, CLOSED), (3, CLOSED)]


@virtual
async def test_whoever_waits_for_too_long_is_told_so() -> None:
    bench = Bench(failures=1, open_s=60.0)
    await bench.fail(1)
    began_s = asyncio.get_running_loop().time()
    with pytest.raises(BreakerOpen):
        await bench.breaker.enter(30.0)
    assert asyncio.get_running_loop().time() - began_s == 30.0


@virtual
async def test_one_who_waits_and_is_cancelled_as_he_is_called_does_not_stop_the_others() -> None:
    bench = Bench(failures=1, open_s=5.0)
    await bench.fail(1)
    first = asyncio.create_task(bench.breaker.enter(30.0))
    second = asyncio.create_task(bench.breaker.enter(30.0))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(5.0, first.cancel)
    bench.breaker.ended(await second, None, passes=False)
    assert (bench.standing, first.cancelled()) == (CLOSED, True)


@virtual
async def test_half_open_one_turn_is_let_in_and_another_when_that_one_did_not_call() -> None:
    bench = await half_open()
    assert [bench.breaker.lets_in() for _ in range(3)] == [True, False, False]
    await asyncio.sleep(5.0)
    assert bench.told == [OPEN, HALF_OPEN, HALF_OPEN]
    assert [bench.breaker.lets_in() for _ in range(2)] == [True, False]
    await bench.call()
    assert [bench.breaker.lets_in() for _ in range(2)] == [True, True]


@virtual
async def test_a_turn_may_begin_if_one_of_its_models_takes_calls() -> None:
    loop = asyncio.get_running_loop()
    breakers = Breakers(BreakerRules(failures=1), clock_s=loop.time, call_later=loop.call_later)
    for name in ("a", "b"):
        breaker = breakers.of(name)
        breaker.ended(await breaker.enter(0.0), BAD, passes=True)
    assert [breakers.let_in(models) for models in (["a"], ["a", "b"], ["a", "c"], ["c"], [])] == [
        False,
        False,
        True,
        True,
        False,
    ]
    assert breakers.worst is OPEN
    assert breakers.of("a") is breakers.of("a")


@virtual
async def test_invented_names_of_models_do_not_fill_the_memory() -> None:
    loop = asyncio.get_running_loop()
    breakers = Breakers(BreakerRules(failures=1), clock_s=loop.time, call_later=loop.call_later)
    bad = breakers.of("bad")
    bad.ended(await bad.enter(0.0), BAD, passes=True)
    for number in range(2_500):
        breakers.of(f"m{number}")
    assert len(breakers) <= 1_000
    assert breakers.of("bad") is bad
