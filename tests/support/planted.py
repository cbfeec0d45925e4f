"""Bugs that more than one of simulation, explorer and mutants plant. Each is entered as a context."""

from __future__ import annotations

from copy import copy
from typing import Any
from unittest.mock import patch

from broker.port import Position, PublishUnknown
from gateway.publishing import Publishing
from gateway.reader import Reader
from workers.effects import Acknowledge
from workers.lifecycle import Lifecycle
from workers.session import Session


def marked_on_a_collision() -> Any:
    collided = Session.collided

    def marked(self: Session, state: Any, now_ms: int) -> Any:
        held = [trigger for triggers in self._held.values() for trigger in triggers]
        self._held.clear()
        return [*map(Acknowledge, held), *collided(self, state, now_ms)]

    return patch.object(Session, "collided", marked)


def marked_at_the_claim() -> Any:
    after = Lifecycle._after_claim

    def marked(self: Lifecycle, entry: Any, out: list[Any]) -> None:
        out.extend(map(Acknowledge, self._held.get(entry.turn, ())))
        after(self, entry, out)

    return patch.object(Lifecycle, "_after_claim", marked)


def a_strangers_turn_begins() -> Any:
    begin = Lifecycle._begin

    def begun(self: Lifecycle, mail: Any, state: Any, out: list[Any], now_ms: int) -> bool:
        disguised = copy(mail)
        disguised.user = state.opened.user if state.opened is not None else mail.user
        return begin(self, disguised, state, out, now_ms)

    return patch.multiple(Lifecycle, _begin=begun, _strangers_out=lambda *_: None)


def frames_passed_on_twice() -> Any:
    def passed(self: Reader, event: Any) -> None:
        self._sink(event)

    return patch.object(Reader, "_pass", passed)


def no_answer_taken_for_accepted() -> Any:
    send = Publishing.send

    async def hopeful(self: Publishing, outgoing: Any, **of: Any) -> Position:
        publish = self._publisher.send

        async def sent(outgoing: Any) -> Position:
            try:
                return await publish(outgoing)
            except PublishUnknown:
                return Position(0, 0, 0)

        with patch.object(self._publisher, "send", sent):
            return await send(self, outgoing, **of)

    return patch.object(Publishing, "send", hopeful)
