"""What `fleet topics` and `fleet up` do about topics: topics.yaml against the cluster. The rules are in `broker`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from fleet.exits import CommandError, Exit
from fleet.part import CannotStart
from schemas.settings import KafkaSettings
from schemas.topics import Topics, load_topics

if TYPE_CHECKING:
    from broker.kafka_admin import KafkaAdmin
    from broker.topics import Difference

WORKERS = "workers"  # the group, as `workers/__main__.py` names it


async def provision(settings: KafkaSettings) -> None:
    """Create and alter what Kafka allows. Raises CannotStart where topics.yaml and the cluster cannot be reconciled."""
    from broker.port import BrokerUnavailable
    from broker.topics import apply

    try:
        async with _admin(settings) as admin:
            applied = await apply(admin, _wanted(settings), settings.kafka_replication_factor)
    except BrokerUnavailable as error:
        raise CannotStart(str(error), "check FLEET_KAFKA_BOOTSTRAP, or unset it for an embedded broker") from None
    fatal = [difference for difference in applied.refused if difference.is_fatal]
    if fatal:
        raise CannotStart(str(fatal[0]), fatal[0].remedy or "run `fleet topics check`")


async def regroup(settings: KafkaSettings) -> None:
    """Make the workers of an embedded broker join their group again: it waits for members that were killed."""
    from broker.kafka_group import evict

    await evict(settings, WORKERS)


async def check(settings: KafkaSettings) -> list[Difference]:
    """Every difference, those included that the broker only does not report. Raises CommandError(UNREACHABLE)."""
    from broker.port import BrokerUnavailable
    from broker.topics import check as compare

    try:
        async with _admin(settings) as admin:
            return await compare(admin, _wanted(settings), settings.kafka_replication_factor)
    except BrokerUnavailable as error:
        raise CommandError(Exit.UNREACHABLE, str(error)) from None


async def apply(settings: KafkaSettings) -> tuple[tuple[str, ...], tuple[Difference, ...]]:
    """(what was done, what was refused). Raises CommandError(UNREACHABLE)."""
    from broker.port import BrokerUnavailable
    from broker.topics import apply as mend

    try:
        async with _admin(settings) as admin:
            applied = await mend(admin, _wanted(settings), settings.kafka_replication_factor)
    except BrokerUnavailable as error:
        raise CommandError(Exit.UNREACHABLE, str(error)) from None
    return applied.done, applied.refused


def as_json(difference: Difference) -> dict[str, Any]:
    """A difference for programs."""
    return {**asdict(difference), "kind": str(difference.kind), "is_drift": difference.is_drift}


def _wanted(settings: KafkaSettings) -> Topics:
    return load_topics(settings.topics_file)


@asynccontextmanager
async def _admin(settings: KafkaSettings) -> AsyncIterator[KafkaAdmin]:
    from broker.kafka_admin import KafkaAdmin

    admin = KafkaAdmin(settings)
    try:
        yield admin
    finally:
        await admin.stop()
