"""Who gets a slot, who waits, who is held back; and that nobody waits for ever."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from workers.slots import Slots, Standing

CLEAR, SUSPECT, LAST_TRY = Standing.CLEAR, Standing.SUSPECT, Standing.LAST_TRY


@dataclass
class Turn:
    """Whoever wants a slot. `ran`: the order in which slots were granted, of all of them."""

    key: str
    ran: list[str]
    stands: Standing = CLEAR
    closed: bool = False

    def slot_granted(self) -> None:
        self.ran.append(self.key)

    def held(self) -> bool:
        return self.closed

    def standing(self) -> Standing:
        return self.stands


@dataclass
class Worker:
    """`come` in the given order."""

    slots: Slots
    ran: list[str] = field(default_factory=list)

    def come(self, *turns: tuple[str, Standing]) -> None:
        for key, standing in turns:
            self.slots.want(Turn(key, self.ran, standing))


def test_first_come_first_served() -> None:
    worker = Worker(Slots(2))
    worker.come(("a", CLEAR), ("b", CLEAR), ("c", CLEAR), ("d", CLEAR))
    assert worker.ran == ["a", "b"]
    worker.slots.give_back("b")
    worker.slots.give_back("a")
    assert (worker.ran, worker.slots.waiting) == (["a", "b", "c", "d"], 0)


def test_suspects_run_side_by_side() -> None:
    worker = Worker(Slots(4))
    worker.come(("a", SUSPECT), ("b", SUSPECT), ("c", CLEAR))
    assert worker.ran == ["a", "b", "c"]


@pytest.mark.parametrize("over", ["give_back", "eased"])
def test_a_last_try_waits_for_suspects_that_run_and_they_wait_for_it(over: str) -> None:
    worker = Worker(Slots(8))
    worker.come(
        ("a", SUSPECT), ("b", SUSPECT), ("last", LAST_TRY), ("c", SUSPECT), ("new", CLEAR), ("last 2", LAST_TRY)
    )
    assert (worker.ran, worker.slots.held) == (["a", "b", "new"], 3)
    getattr(worker.slots, over)("a")
    assert (worker.slots.held, worker.slots.alone) == (3, None)
    getattr(worker.slots, over)("b")
    assert (worker.ran[3:], worker.slots.alone) == (["last"], "last")
    getattr(worker.slots, over)("last")
    assert (worker.ran[4:], worker.slots.alone) == (["c"], None), "who waited first is first"
    getattr(worker.slots, over)("c")
    assert (worker.ran[5:], worker.slots.alone, worker.slots.held) == (["last 2"], "last 2", 0)


def test_a_last_try_that_leaves_takes_nobody_s_turn() -> None:
    worker = Worker(Slots(8))
    worker.come(("a", SUSPECT), ("last", LAST_TRY), ("b", SUSPECT))
    worker.slots.give_back("last")
    worker.slots.offer(gated=False)
    assert worker.ran == ["a", "b"]


def test_a_last_try_whose_model_takes_no_calls_holds_no_suspect_back() -> None:
    worker = Worker(Slots(8))
    worker.slots.gated = True
    worker.slots.want(Turn("last", worker.ran, LAST_TRY, closed=True))
    worker.come(("a", SUSPECT))
    assert worker.ran == ["a"]


def test_who_comes_and_goes_in_any_way_gets_a_slot_and_no_last_try_has_a_suspect_beside_it() -> None:
    for seed in range(300):
        chances = random.Random(seed)
        worker = Worker(Slots(chances.randrange(1, 5)))
        stands = {f"t{n}": chances.choice([CLEAR, CLEAR, SUSPECT, LAST_TRY]) for n in range(20)}
        coming, gone, eased = list(stands), set[str](), set[str]()
        while len(gone) < len(stands):
            running = [key for key in worker.ran if key not in gone]
            tainted = [key for key in running if stands[key] and key not in eased]
            if any(stands[key] is LAST_TRY for key in tainted):
                assert len(tainted) == 1, (seed, tainted)
            match chances.randrange(3):
                case 0 if coming:
                    key = coming.pop(0)
                    worker.come((key, stands[key]))
                case 1 if running:
                    eased.add(key := chances.choice(running))
                    worker.slots.eased(key)
                case _ if running:
                    gone.add(key := chances.choice(running))
                    worker.slots.give_back(key)
                case _:
                    assert coming, f"seed {seed}: nobody runs and {set(stands) - gone} wait for ever"
        assert (worker.slots.free, worker.slots.held, worker.slots.waiting) == (worker.slots.count, 0, 0)
