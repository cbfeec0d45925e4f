"""Keeps a group member's id when only its generation is too old, as Kafka's own client does. Knows nothing of records.

aiokafka 0.14 forgets both at a commit that comes too late, and joins again as somebody else; the old id stays in the
group as a silent member. Kafka waits for it until its session times out, at every rebalance; the embedded broker, which
answers so to every commit that a rebalance overtakes, waits for good when the silent one is the group's leader (seen).
"""

from __future__ import annotations

from typing import Any

NO_GENERATION = -1
UNKNOWN_MEMBER_ID = 25


def keep_member_id(consumer: Any) -> None:
    """From now on this started `AIOKafkaConsumer` joins again under its id; only a join that the broker refuses because
    it does not know the id makes it forget it. aiokafka has no public place for this."""
    coordinator = consumer._coordinator
    forget, send = coordinator.reset_generation, coordinator._send_req
    unknown = False

    async def sent(request: Any) -> Any:
        nonlocal unknown
        response = await send(request)
        if type(request).__name__.startswith("JoinGroup"):
            unknown = response.error_code == UNKNOWN_MEMBER_ID
        return response

    def reset_generation() -> None:
        nonlocal unknown
        if unknown:
            unknown = False
            forget()
            return
        coordinator.generation = NO_GENERATION
        coordinator.request_rejoin()

    coordinator.reset_generation, coordinator._send_req = reset_generation, sent
