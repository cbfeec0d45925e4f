"""`fleet session show|delete`: what the journal says of a session, and a request to its owner to forget it."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

from fleet import addresses
from fleet.answer import printable
from fleet.asking import spelled
from fleet.exits import CommandError, Exit
from fleet.moment import moment
from fleet.store import opened
from fleet.wire import connected, within
from journal.loader import load
from journal.state import State
from schemas.codec import control_headers, encode_control
from schemas.control import DeleteControl
from schemas.ids import legal, mint, session_key
from schemas.settings import MongoSettings

CONTROL = "agent.control"
SOURCE = "/turnfleet/fleet-session"


def show(data: Path | None, tenant: str, session: str, *, as_json: bool) -> Exit:
    """0: shown; 1: there is no such session."""
    state = asyncio.run(_state(addresses.mongo(data), tenant, session))
    if state.opened is None:
        raise CommandError(Exit.DIFFERENT, _missing(session, state))
    found = describe(tenant, session, state)
    print(spelled(found) if as_json else _for_people(found))
    return Exit.OK


def delete(data: Path | None, tenant: str, session: str, *, timeout_s: float, as_json: bool) -> Exit:
    """0: its contents are gone; 1: there is no such session, or the owner refused."""
    state = asyncio.run(_state(addresses.mongo(data), tenant, session))
    if state.opened is None:
        raise CommandError(Exit.DIFFERENT, _missing(session, state))
    ack = asyncio.run(_delete(data, tenant, session, user=state.opened.user, timeout_s=timeout_s))
    print(json.dumps(ack) if as_json else f"session {session}: delete {ack['state']}")
    return Exit.OK if ack["state"] == "applied" else Exit.DIFFERENT


def describe(tenant: str, session: str, state: State) -> dict[str, Any]:
    """A living session as JSON: what `--json` prints."""
    opened, now = state.opened, next(iter(state.begun), None)
    assert opened is not None
    return {
        "tenant": tenant,
        "session": session,
        "user": opened.user,
        "agent": opened.agent,
        "agent_version": opened.agent_version,
        "state": "idle" if now is None else "suspended" if now.awaits is not None else "running",
        "turn": now.turn if now is not None else None,
        "attempt": now.attempt if now is not None else None,
        "version": state.version,
        "turns": state.turns,
        "opened_ms": opened.at_ms,
        "last_ms": state.last_ms,
        "history": [item.model_dump(mode="json", exclude_defaults=True) for item in state.history],
        "ended": [{"turn": one.turn, "outcome": one.outcome, "version": one.version} for one in state.over],
    }


async def _state(settings: MongoSettings, tenant: str, session: str) -> State:
    if not (legal(session) and legal(tenant)):
        raise CommandError(Exit.USAGE, "a session id has 1 to 128 characters out of A-Z a-z 0-9 . _ : -")
    async with opened(settings) as store:
        return (await load(store, session_key(tenant, session))).state


async def _delete(data: Path | None, tenant: str, session: str, *, user: str, timeout_s: float) -> dict[str, Any]:
    op = mint()
    control = DeleteControl(op=op, tenant=tenant, user=user)
    async with connected(addresses.kafka(data), session, topic=CONTROL) as wire:
        await wire.listen()
        reply_to = f"{wire.reply_partition}:{mint()}"
        headers = control_headers(op, source=SOURCE, now_ms=int(time.time() * 1000), reply_to=reply_to)
        await wire.publish(CONTROL, encode_control(control), headers)
        async with within(timeout_s, f"the owner of session {session} did not acknowledge"):
            async for frame in wire.frames():
                if frame["type"] == "ack" and frame.get("op") == op:
                    return frame
    raise AssertionError("frames never end")


def _missing(session: str, state: State) -> str:
    if state.closed is not None:
        how = {"delete": "was deleted", "expire": "expired"}[state.closed.reason]
        return f"session {session} {how} at {moment(state.closed.at_ms)}"
    return f"there is no session {session}"


def _for_people(found: dict[str, Any]) -> str:
    agent = f"{found['agent']} {found['agent_version']}"
    counts = f"version {found['version']} · {found['turns']} turns · last {moment(found['last_ms'])}"
    lines = [
        f"session {found['session']} of {found['user']} (tenant {found['tenant']})",
        f"  agent {agent} · {found['state']} · {counts}",
    ]
    for item in found["history"]:
        text = "".join(part.get("text", f"[{part.get('type')}]") for part in item["parts"])
        partial = " (partial)" if item.get("partial") else ""
        lines.append(f"  {item['role']}{partial}> {printable(text)}")
    return "\n".join(lines)
