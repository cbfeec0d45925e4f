"""Turns behind a full mailbox of two: what cancels, policies and a delete make of them is what it is without one."""

from __future__ import annotations

import asyncio

from tests.integration.test_worker import Door
from tests.support.memory_fleet import MemoryFleet


async def full(fleet: MemoryFleet, turns: int = 20) -> None:
    """A worker on which `t0` runs, two turns wait in the mailbox of `s1` and the others behind it."""
    worker = await fleet.worker()
    for number in range(turns):
        fleet.turn("s1", str(number), turn=f"t{number}")
    await fleet.until(lambda: worker.system.backlog == turns - 3)


def ends(fleet: MemoryFleet) -> dict[str, str]:
    """Type of the terminal frame by turn; one each."""
    found = {name.partition("~")[2]: [frame["type"] for frame in frames] for name, frames in fleet.terminals().items()}
    assert all(len(types) == 1 for types in found.values())
    return {turn: types[0] for turn, types in found.items()}


def doors(door: Door) -> MemoryFleet:
    return MemoryFleet(door.spec(), default="door", worker_session_mailbox=2)


async def test_a_cancel_overtakes_what_waits_behind_the_mailbox() -> None:
    door = Door()
    async with doors(door) as fleet:
        await full(fleet)
        fleet.control("s1", op="c1", kind="cancel", turn="t15")
        await fleet.until(lambda: fleet.frames("s1", "ack"))
        assert [frame["state"] for frame in fleet.frames("s1", "ack")] == ["applied"]
        await fleet.until(lambda: ends(fleet) == {"t15": "cancelled"})
        door.open.set()
        await fleet.until(lambda: len(ends(fleet)) == 20)
        assert [turn for turn, end in ends(fleet).items() if end != "completed"] == ["t15"]
        ran = [frame["turn"] for frame in fleet.frames("s1", "completed")]
        assert ran == [f"t{number}" for number in range(20) if number != 15]
        await fleet.until(fleet.committed_everything)


async def test_a_cancel_of_another_users_leaves_everything_in_its_order() -> None:
    door = Door()
    async with doors(door) as fleet:
        await full(fleet)
        fleet.control("s1", op="c1", kind="cancel", turn="t15", user="eve")
        await fleet.until(lambda: fleet.frames("s1", "ack"))
        door.open.set()
        await fleet.until(lambda: len(ends(fleet)) == 20)
        assert [frame["turn"] for frame in fleet.frames("s1", "completed")] == [f"t{number}" for number in range(20)]


async def test_an_interrupt_ends_what_waits_behind_the_mailbox_too() -> None:
    door = Door()
    async with doors(door) as fleet:
        await full(fleet)
        fleet.turn("s1", "now", turn="urgent", if_busy="interrupt")
        await fleet.until(lambda: len(ends(fleet)) == 20)
        door.open.set()
        await fleet.until(lambda: len(ends(fleet)) == 21)
        assert [turn for turn, end in ends(fleet).items() if end != "cancelled"] == ["urgent"]
        await fleet.until(fleet.committed_everything)


async def test_a_turn_that_rejects_a_busy_session_is_told_at_once() -> None:
    door = Door()
    async with doors(door) as fleet:
        await full(fleet)
        fleet.turn("s1", "?", turn="asks", if_busy="reject")
        await fleet.until(lambda: ends(fleet) == {"asks": "failed"})
        door.open.set()
        await fleet.until(lambda: len(ends(fleet)) == 21)


async def test_a_delete_ends_what_waits_behind_the_mailbox_too() -> None:
    door = Door()
    async with doors(door) as fleet:
        await full(fleet)
        fleet.control("s1", op="d1", kind="delete")
        await fleet.until(lambda: len(ends(fleet)) == 20)
        assert set(ends(fleet).values()) == {"cancelled"}
        door.open.set()
        fleet.turn("s1", "anew", turn="later")
        await fleet.until(lambda: ends(fleet).get("later") == "completed")
        await fleet.until(fleet.committed_everything)


async def test_a_copy_of_a_turn_that_waits_behind_the_mailbox_runs_once() -> None:
    door = Door()
    async with doors(door) as fleet:
        await full(fleet)
        fleet.turn("s1", "15", turn="t15")
        fleet.turn("s1", "other", turn="t16")
        door.open.set()
        await fleet.until(lambda: len(ends(fleet)) == 20 and fleet.frames("s1", "refused"))
        assert [frame["code"] for frame in fleet.frames("s1", "refused")] == ["conflict"]
        ran = [frame["turn"] for frame in fleet.frames("s1", "completed")]
        assert list(dict.fromkeys(ran)) == [f"t{number}" for number in range(20)]
        await fleet.until(fleet.committed_everything)


async def test_a_copy_of_a_turn_that_is_known_does_not_wait_behind_the_others() -> None:
    door = Door()
    async with doors(door) as fleet:
        await full(fleet)
        fleet.turn("s1", "other", turn="t0")
        await fleet.until(lambda: [frame["code"] for frame in fleet.frames("s1", "refused")] == ["conflict"])
        fleet.turn("s1", "0", turn="t0")
        door.open.set()
        await fleet.until(lambda: len(ends(fleet)) == 20)
        fleet.turn("s1", "0", turn="t0")
        await fleet.until(fleet.committed_everything)
        assert [turn for turn, end in ends(fleet).items() if end != "completed"] == []


async def test_a_worker_that_drains_leaves_them_to_the_next_one() -> None:
    door = Door()
    async with doors(door) as fleet:
        await full(fleet)
        old, _ = fleet.workers[0]
        drained = asyncio.create_task(old.drain())
        await fleet.worker()
        await drained
        del fleet.workers[0]
        door.open.set()
        await fleet.until(lambda: len(ends(fleet)) == 20)
        assert set(ends(fleet).values()) == {"completed"}


async def test_a_turn_that_steers_joins_before_what_waits_behind_the_mailbox() -> None:
    door = Door()
    async with doors(door) as fleet:
        await full(fleet)
        fleet.turn("s1", "also this", turn="steers", if_busy="steer")
        await fleet.until(lambda: fleet.frames("s1", "joined"))
        fleet.control("s1", op="o1", kind="steer", turn="t15", text="too early")
        await fleet.until(lambda: fleet.frames("s1", "ack"))
        assert [frame["state"] for frame in fleet.frames("s1", "ack")] == ["refused"]
        door.open.set()
        await fleet.until(lambda: len(ends(fleet)) == 21)
        await fleet.until(fleet.committed_everything)
