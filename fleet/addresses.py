"""Where everything is: what the environment sets wins, then what `fleet up` recorded. Knows the settings, no parts."""

from __future__ import annotations

from pathlib import Path

from fleet.data_dir import DataDir, Running
from fleet.exits import CommandError, Exit
from schemas.settings import GatewaySettings, KafkaSettings, LocalSettings, MongoSettings

NOTHING_RUNS = "nothing runs here: start it with `fleet up`, or set {variable}"


def running(data: Path | None = None) -> Running | None:
    """What `fleet up` runs in `data` (default: the setting), if it does."""
    return DataDir(data or LocalSettings().data).running()


def kafka(data: Path | None = None) -> KafkaSettings:
    """Settings of a broker that is there. Raises CommandError(UNREACHABLE)."""
    settings = KafkaSettings()
    if settings.kafka_bootstrap:
        return settings
    found = running(data)
    if found is None:
        raise CommandError(Exit.UNREACHABLE, NOTHING_RUNS.format(variable="FLEET_KAFKA_BOOTSTRAP"))
    return settings.model_copy(
        update={
            "kafka_bootstrap": found.kafka_bootstrap,
            "topic_prefix": settings.topic_prefix
            if "topic_prefix" in settings.model_fields_set
            else found.topic_prefix,
        }
    )


def mongo(data: Path | None = None) -> MongoSettings:
    """Settings of a store that is there. Raises CommandError(UNREACHABLE)."""
    settings = MongoSettings()
    if settings.mongo_uri:
        return settings
    found = running(data)
    if found is None:
        raise CommandError(Exit.UNREACHABLE, NOTHING_RUNS.format(variable="FLEET_MONGO_URI"))
    given = "mongo_database" in settings.model_fields_set
    database = settings.mongo_database if given else found.mongo_database
    return settings.model_copy(update={"mongo_uri": found.mongo_uri, "mongo_database": database})


def gateway(data: Path | None = None) -> str:
    """The gateway's address, `http://host:port`. Without anything known: the settings' default."""
    settings = GatewaySettings()
    if not {"gateway_host", "gateway_port"} & settings.model_fields_set:
        found = running(data)
        if found is not None:
            return found.gateway
    return f"http://{settings.gateway_host}:{settings.gateway_port}"
