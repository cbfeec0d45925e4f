"""Keeps a consumer from spinning on a broker that answers an empty fetch at once, as the embedded one does.

Kafka holds an empty fetch back for `fetch_max_wait_ms`; there this changes nothing. Without it a consumer of noida-db
0.2.3 sends 3,000 fetches a second and burns a core while nothing happens (measured). Knows nothing of records.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

HELD_BACK_S = 0.02
"""An empty answer that took so long was held back by the broker."""
FIRST_S, MOST_S = 0.001, 0.004


def pace(consumer: Any) -> None:
    """From now on this `AIOKafkaConsumer` waits a little after an empty fetch that came back at once: 1 ms, doubled up
    to 4 ms while nothing comes. Call it before `start`; aiokafka has no public place for it."""
    client, pause_s = consumer._client, FIRST_S
    send = client.send

    async def paced(node_id: int, request: Any, **options: Any) -> Any:
        nonlocal pause_s
        begun_s = time.monotonic()
        response = await send(node_id, request, **options)
        if type(request).__name__ != "FetchRequest":
            return response
        if _has_records(response):
            pause_s = FIRST_S
        elif time.monotonic() - begun_s < HELD_BACK_S:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, MOST_S)
        return response

    client.send = paced


def _has_records(response: Any) -> bool:
    """Whether any partition of a fetch response brought bytes or an error; the batch is the last field of each."""
    return any(part[1] or part[-1] for _, parts in response.topics for part in parts)
