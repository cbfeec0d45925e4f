"""Makes an embedded mongod the primary of its set of one member, whatever port it had before. Knows no parts."""

from __future__ import annotations

import asyncio
from typing import Any

SET_NAME = "turnfleet"
ASK_AGAIN_S = 0.02
NOT_INITIALISED = 94  # the server's code NotYetInitialized


async def make_primary(host: str, port: int) -> None:
    """Initiate the set on the first start; put the new address into its configuration on a later one. Waits."""
    from pymongo import AsyncMongoClient

    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
        host, port, directConnection=True, serverSelectionTimeoutMS=10_000
    )
    try:
        await _configure(client, f"{host}:{port}")
        while not (await client.admin.command("hello")).get("isWritablePrimary"):  # noqa: ASYNC110 - another process
            await asyncio.sleep(ASK_AGAIN_S)
    finally:
        await client.close()


async def _configure(client: Any, address: str) -> None:
    stored = await _stored_config(client)
    if stored is None:
        member = {"_id": 0, "host": address}
        settings = {"electionTimeoutMillis": 1_000}
        await client.admin.command("replSetInitiate", {"_id": SET_NAME, "members": [member], "settings": settings})
    elif stored["members"][0]["host"] != address:
        # A member that does not find its own address in the configuration is in no set: only force helps, and with
        # one member there is nobody to ask.
        stored["members"][0]["host"] = address
        stored["version"] += 1
        await client.admin.command("replSetReconfig", stored, force=True)


async def _stored_config(client: Any) -> dict[str, Any] | None:
    from pymongo.errors import OperationFailure

    try:
        answer: dict[str, Any] = await client.admin.command("replSetGetConfig")
    except OperationFailure as error:
        if error.code == NOT_INITIALISED:
            return None
        raise
    config: dict[str, Any] = answer["config"]
    return config


async def initiate(addresses: list[str]) -> None:
    """Make one set of mongods that have none yet, and wait for its primary. Elections are quick, for tests."""
    from pymongo import AsyncMongoClient

    members = [{"_id": number, "host": address} for number, address in enumerate(addresses)]
    settings = {"electionTimeoutMillis": 2_000, "heartbeatIntervalMillis": 500}
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
        addresses[0], directConnection=True, serverSelectionTimeoutMS=10_000
    )
    try:
        await client.admin.command("replSetInitiate", {"_id": SET_NAME, "members": members, "settings": settings})
    finally:
        await client.close()
    while await primary(addresses) is None:  # noqa: ASYNC110 - another process
        await asyncio.sleep(ASK_AGAIN_S)


async def primary(addresses: list[str]) -> int | None:
    """Which of these is the primary now; None: nobody says so."""
    from pymongo import AsyncMongoClient
    from pymongo.errors import PyMongoError

    for number, address in enumerate(addresses):
        client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
            address, directConnection=True, serverSelectionTimeoutMS=1_500, socketTimeoutMS=1_500
        )
        try:
            if (await client.admin.command("hello")).get("isWritablePrimary"):
                return number
        except PyMongoError:
            continue
        finally:
            await client.close()
    return None


async def step_down(address: str) -> None:
    """Ask a primary to leave its office for ten seconds. It refuses where nobody could follow; that is no error."""
    from pymongo import AsyncMongoClient
    from pymongo.errors import PyMongoError

    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(
        address, directConnection=True, serverSelectionTimeoutMS=2_000
    )
    try:
        await client.admin.command({"replSetStepDown": 10, "secondaryCatchUpPeriodSecs": 5})
    except PyMongoError:
        return
    finally:
        await client.close()
