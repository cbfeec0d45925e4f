"""A topic that was created anew is noticed at start, once, and its turns get timers."""

from __future__ import annotations

from collections.abc import Mapping

from broker.port import TopicState
from journal.memory import MemoryStore
from journal.rows import row_of
from tests.support.desk import Desk
from workers.recreated import wake_what_lost_its_record

NOW = 1_000_000_000_001


def topics(turns: str | None, control: str | None) -> Mapping[str, TopicState]:
    ids = {"agent.turns": turns, "agent.control": control}
    return {name: TopicState(name, 4, 1, {}, topic_id) for name, topic_id in ids.items()}


async def store() -> MemoryStore:
    desk, made = Desk(), MemoryStore()
    desk.turn("t1")
    await made.journal.insert([row_of("default/s", 1, desk.log.entries[0], "w-1")])
    return made


async def due(of: MemoryStore) -> list[tuple[str, str, int]]:
    return [(timer.s, timer.turn, timer.partition) for timer in await of.timers.due(NOW, range(4), 10)]


async def test_the_first_ids_are_recorded_and_nothing_is_woken() -> None:
    made = await store()
    assert await wake_what_lost_its_record(made, topics("a", "b"), NOW) == 0
    assert await due(made) == []


async def test_a_new_id_of_either_wakes_what_is_open_once() -> None:
    for changed in (topics("x", "b"), topics("a", "x")):
        made = await store()
        await wake_what_lost_its_record(made, topics("a", "b"), NOW)
        assert await wake_what_lost_its_record(made, changed, NOW) == 1
        [(s, turn, partition)] = await due(made)
        assert (s, turn) == ("default/s", "t1")
        assert 0 <= partition < 4
        assert await wake_what_lost_its_record(made, changed, NOW) == 0


async def test_a_broker_that_tells_no_ids_is_taken_at_its_word() -> None:
    made = await store()
    assert await wake_what_lost_its_record(made, topics(None, None), NOW) == 0
    assert await wake_what_lost_its_record(made, topics("a", "b"), NOW) == 0
