"""Keeps a consumer from spinning on a broker that answers an empty fetch at once, as the embedded one does.

Kafka holds an empty fetch back for `fetch_max_wait_ms`; there this changes nothing. Without it a consumer of noida-db
0.2.3 sends 3,000 fetches a second and burns a core while nothing happens (measured). Knows nothing of records.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

HELD_BACK_S = 0.01
"""An empty answer that took so long was held back by the broker."""
LEAST_S, MOST_S = 0.001, 0.02
QUIET_SHARE = 0.01


def pace(consumer: Any) -> None:
    """From now on this `AIOKafkaConsumer` waits after an empty fetch that came back at once: a hundredth of the time
    since the last record, at least 1 ms and at most 20 ms. Call it before `start`; aiokafka has no public place for
    it."""
    client = consumer._client
    send = client.send
    last_s = time.monotonic()

    async def paced(node_id: int, request: Any, **options: Any) -> Any:
        nonlocal last_s
        begun_s = time.monotonic()
        response = await send(node_id, request, **options)
        if type(request).__name__ == "FetchRequest":
            now_s = time.monotonic()
            if _brought_something(response):
                last_s = now_s
            elif now_s - begun_s < HELD_BACK_S:
                await asyncio.sleep(min(max((now_s - last_s) * QUIET_SHARE, LEAST_S), MOST_S))
        return response

    client.send = paced


def _brought_something(response: Any) -> bool:
    """Whether any partition of a fetch response has bytes or an error: last and second field of each."""
    return any(part[1] or part[-1] for _, parts in response.topics for part in parts)
