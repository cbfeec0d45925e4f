"""`fleet send`: one turn straight to Kafka, as an outside producer publishes it; `--wait` reads its frames there."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from broker.port import Position
from fleet import addresses
from fleet.answer import Answer, Piece, ending, printable, told
from fleet.asking import Asked, seen, spelled
from fleet.exits import CommandError, Exit
from fleet.wire import Wire, connected, within
from schemas.codec import check_turn, encode_turn, first_error, turn_headers
from schemas.errors import Refusal
from schemas.ids import legal, mint
from schemas.settings import KafkaSettings
from schemas.turn import Turn

TURNS = "agent.turns"
SOURCE = "/turnfleet/fleet-send"


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be sent; `turn` None: an id is minted."""

    session: str
    text: str
    user: str = "anonymous"
    agent: str | None = None
    turn: str | None = None

    def as_turn(self) -> Turn:
        """The record's value. Raises CommandError(USAGE) for what would be refused anyway."""
        if not legal(self.session):
            raise CommandError(Exit.USAGE, "a session id has 1 to 128 characters out of A-Z a-z 0-9 . _ : -")
        try:
            turn = Turn(turn=self.turn or mint(), user=self.user, agent=self.agent, text=self.text)
            check_turn(turn)
        except ValidationError as error:
            raise CommandError(Exit.USAGE, first_error(error)) from None
        except Refusal as refusal:
            raise CommandError(Exit.USAGE, refusal.text) from None
        return turn


def send(data: Path | None, wish: Wish, *, wait_s: float | None, as_json: bool) -> Exit:
    """0: published, or with `wait_s` completed. 1: it failed, was cancelled or refused."""
    return asyncio.run(_send(addresses.kafka(data), wish, wait_s=wait_s, as_json=as_json))


async def _send(settings: KafkaSettings, wish: Wish, *, wait_s: float | None, as_json: bool) -> Exit:
    turn = wish.as_turn()
    assert turn.turn is not None
    async with connected(settings, wish.session, topic=TURNS) as wire:
        if wait_s is not None:
            await wire.listen()  # before the publish: the answer may be out before the ack is
        headers = turn_headers(turn.turn, source=SOURCE, now_ms=int(time.time() * 1000))
        position = await wire.publish(TURNS, encode_turn(turn), headers)
        if wait_s is None:
            _say_published(wish.session, turn.turn, position, as_json=as_json)
            return Exit.OK
        async with within(wait_s, f"turn {turn.turn} did not end"):
            end = await _watch(wire, Answer(turn.turn), live=sys.stdout.isatty() and not as_json)
    return _say_end(end, as_json=as_json)


async def _watch(wire: Wire, answer: Answer, *, live: bool) -> dict[str, Any]:
    """The frame that ended the turn; on a terminal its text is shown as it comes."""
    async for frame in wire.frames():
        if frame["type"] == "refused" and frame.get("turn") == answer.turn:
            return frame
        for sight in answer.take(frame):
            if isinstance(sight, Asked):
                print(f"fleet: {awaiting(sight)}", file=sys.stderr, flush=True)
            elif live and isinstance(sight, Piece):
                print(("\n" if sight.anew else "") + printable(sight.text), end="", flush=True)
        if answer.end is not None:
            if live and answer.shown:
                print()
            return {**answer.end, "_shown": live}
    raise AssertionError("frames never end")


def awaiting(asked: Asked) -> str:
    """Why nothing comes: nobody can decide here."""
    frame = asked.frame
    what = f"{seen(str(frame['name']))} {spelled(frame.get('arguments') or {})}" if frame.get("name") else "a question"
    said = f" ({' '.join(seen(frame['message']).split())})" if frame.get("message") else ""
    where = f"POST /v1/sessions/{frame['session']}/turns/{frame['turn']}/approve"
    return f"the turn awaits a decision on {what}{said}, call {asked.call}: on the chat page, or {where}"


def _say_published(session: str, turn: str, position: Position, *, as_json: bool) -> None:
    if as_json:
        where = {"partition": position.partition, "offset": position.offset}
        print(json.dumps({"session": session, "turn": turn, **where}))
    else:
        print(f"published turn {turn} of session {session} (partition {position.partition}, offset {position.offset})")


def _say_end(end: dict[str, Any], *, as_json: bool) -> Exit:
    shown = end.pop("_shown", False)
    if as_json:
        print(spelled(end))
    elif not shown and (text := told(end)):
        print(printable(text))
    if said := ending(end):
        print(f"fleet: {said}", file=sys.stderr)
    return Exit.OK if end["type"] == "completed" else Exit.DIFFERENT
