"""What has to be done at start when a topic is not the one that was there before. Runs no turn, consumes nothing.

The records of a topic that was deleted are gone, and with them what would have brought turns back after a crash. So
each turn that is not over, and each that ended within the last hour, gets a timer that is due at once: whoever owns its
partition takes it over, or publishes its frame again.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Mapping, Sequence

from broker.partition import partition_of
from broker.port import TopicState
from journal.port import Row, Store, Survey, Timer
from journal.waking import to_wake
from schemas.ids import split_key
from workers.partition import CONTROL, TURNS

RECENT_MS = 3_600_000
_BATCH = 500
_log = logging.getLogger("fleet.worker")


async def wake_what_lost_its_record(store: Store, topics: Mapping[str, TopicState], now_ms: int) -> int:
    """Compare the ids of the streams with those that are recorded; how many timers were armed.

    1. Timers. 2. The new id: a sweep that is cut off is done again. Call it before anything is consumed; workers that
    read the old topic must have ended. Reads the whole journal. Raises StoreUnavailable.
    """
    new = []
    for name in (TURNS, CONTROL):
        topic_id = topics[name].topic_id
        if topic_id is None:
            _log.info("the broker tells no id of %s: a topic that was created anew is not noticed", name)
        elif await store.recorded(f"topic_id:{name}", topic_id) != topic_id:
            new.append((name, topic_id))
    if not new:
        return 0
    armed = await _arm(store, topics[TURNS].partitions, now_ms)
    for name, topic_id in new:
        await store.record(f"topic_id:{name}", topic_id)
        _log.warning("%s was created anew: %d turns are looked at again", name, armed)
    return armed


async def _arm(store: Store, partitions: int, now_ms: int) -> int:
    armed, timers = 0, list[Timer]()
    async for rows in _sessions(store.survey):
        s = rows[0].s
        partition = partition_of(split_key(s)[1].encode(), partitions)
        timers += [Timer(s, turn, "", due_ms, partition) for turn, due_ms in to_wake(rows, now_ms - RECENT_MS, now_ms)]
        if len(timers) >= _BATCH:
            await store.timers.arm(timers)
            armed, timers = armed + len(timers), []
    await store.timers.arm(timers)
    return armed + len(timers)


async def _sessions(survey: Survey) -> AsyncIterator[Sequence[Row]]:
    """All rows of one session after the other."""
    rows: list[Row] = []
    async for page in survey.rows():
        for row in page:
            if rows and rows[0].s != row.s:
                yield rows
                rows = []
            rows.append(row)
    if rows:
        yield rows
