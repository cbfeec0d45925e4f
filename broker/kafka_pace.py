"""How often a consumer fetches: not at once again from a broker that answers empty fetches at once, as the embedded one
does, and, where asked for, not at once again after records came. Knows nothing of records.

Kafka holds an empty fetch back for `fetch_max_wait_ms`. Without the first rule a consumer of noida-db 0.2.3 sends 3,000
fetches a second and burns a core while nothing happens (measured). The second is for load: a fetch costs the same CPU
whether it brings one record or fifty.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

HELD_BACK_S = 0.01
"""An empty answer that took so long was held back by the broker."""
LEAST_S, MOST_S = 0.001, 0.02
QUIET_SHARE = 0.01


def pace(consumer: Any, gather_s: float = 0.0) -> None:
    """From now on this `AIOKafkaConsumer` waits after an empty fetch that came back at once: a hundredth of the time
    since the last record, at least 1 ms and at most 20 ms. And it asks a broker again `gather_s` after records came
    from it, not sooner: a record that comes alone is not delayed, one right behind another by less than that. Call it
    before `start`; aiokafka has no public place for it."""
    client = consumer._client
    send = client.send
    start_s = time.monotonic()
    brought_s: dict[int, float] = {}

    async def paced(node_id: int, request: Any, **options: Any) -> Any:
        if type(request).__name__ != "FetchRequest":
            return await send(node_id, request, **options)
        begun_s = time.monotonic()
        last_s = brought_s.get(node_id, start_s)
        if begun_s - last_s < gather_s:
            await asyncio.sleep(last_s + gather_s - begun_s)
            begun_s = time.monotonic()
        response = await send(node_id, request, **options)
        now_s = time.monotonic()
        if _brought_something(response):
            brought_s[node_id] = now_s
        elif now_s - begun_s < HELD_BACK_S:
            await asyncio.sleep(min(max((now_s - last_s) * QUIET_SHARE, LEAST_S), MOST_S))
        return response

    client.send = paced


def _brought_something(response: Any) -> bool:
    """Whether any partition of a fetch response has bytes or an error: last and second field of each."""
    return any(part[1] or part[-1] for _, parts in response.topics for part in parts)
