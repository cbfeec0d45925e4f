"""Attaching a connection to a session or a turn: check, follow, ask the owner to publish here, say where it stands.

Knows the ring and the journal; nothing of transports.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from gateway.access import Access
from gateway.event import Event, SessionKey
from gateway.identity import Principal
from gateway.lookup import Lookup
from gateway.metrics import Metrics
from gateway.ops import Ops
from gateway.reader import Reader
from gateway.resume import After, Resumed, Verdict, resume_turn, worst
from gateway.router import Router
from journal.state import State
from schemas.control import WatchControl
from schemas.errors import Refusal
from schemas.ids import mint

_WATCH_WAIT_S = 2.0
_log = logging.getLogger("gateway.attach")


class Attach:
    """The order matters: follow first, then read the journal, so that no frame falls between the two."""

    def __init__(self, access: Access, lookup: Lookup, router: Router, ops: Ops, metrics: Metrics) -> None:
        self._access = access
        self._lookup = lookup
        self._router = router
        self._ops = ops
        self._metrics = metrics
        self._watching: dict[SessionKey, asyncio.Task[None]] = {}
        router.on_foreign_end = self.watch_on

    async def turn(self, who: Principal, reader: Reader, session: str, turn: str, after: After | None) -> Resumed:
        """Follow one turn; its frames wait in `reader` until `release`. Raises Refusal (nothing is followed then)."""
        state = await self._access.require_session(who, session, "read", turn=turn)
        self._follow(reader, session, turn)
        try:
            state = await self._have_published_here(who, session, state, turn)
            resumed = await self._resume(reader, session, state, turn, after)
        except BaseException:
            self.undo(reader, session, turn)
            raise
        self._metrics.resumes.labels(resumed.verdict).inc()
        return resumed

    async def session(
        self, who: Principal, reader: Reader, session: str, after: After | None
    ) -> tuple[Verdict, list[Resumed]]:
        """Follow all current and later turns of a session, and what came since `after`. Raises Refusal."""
        state = await self._access.require_session(who, session, "read")
        self._follow(reader, session, None)
        try:
            state = await self._have_published_here(who, session, state, None)
            verdict, items = await self._resume_session(reader, session, state, after)
        except BaseException:
            self.undo(reader, session, None)
            raise
        self._metrics.resumes.labels(verdict).inc()
        return verdict, items

    def release(self, reader: Reader, session: str, turn: str | None, items: Sequence[Resumed]) -> None:
        """`recovered` is out: what was missed follows, then what waited."""
        for item in items:
            blind = item.blind or (item.verdict == "full" and reader.is_blind(session, item.turn))
            reader.start_at(session, item.turn, item.position, blind=blind)
        reader.release(session, turn, [event for item in items for event in item.replay])
        if turn is not None and any(event.terminal for item in items for event in item.replay):
            self._router.leave(reader, session, turn)

    def undo(self, reader: Reader, session: str, turn: str | None) -> None:
        """Follow no longer."""
        reader.drop(session, turn)
        self._router.leave(reader, session, turn)

    def watch_on(self, ended: Event, user: str) -> None:
        """A turn of another gateway ended, and with it the watch; somebody here follows the session: watch on."""
        key = ended.key[:2]
        if key not in self._watching:
            self._watching[key] = asyncio.create_task(
                self._watch_on(ended, Principal(ended.tenant, user)), name="watch"
            )

    async def stop(self) -> None:
        """End what is under way."""
        for task in list(self._watching.values()):
            task.cancel()
        await asyncio.gather(*self._watching.values(), return_exceptions=True)

    async def _watch_on(self, ended: Event, who: Principal) -> None:
        """What ended before the owner heard of the new watch is read from the journal."""
        try:
            await self._watch(who, ended.session, None)
            state = await self._lookup.state(ended.tenant, ended.session)
            before = state.ended(ended.turn)
            if before is not None and state.opened is not None and state.opened.user == who.user:
                for event in await self._lookup.ended_after(ended.tenant, ended.session, state, before.version):
                    self._router.spread(event)
        except Refusal:
            _log.info("watch of %s not renewed: the journal does not answer", ended.session)
        finally:
            del self._watching[ended.key[:2]]

    def _follow(self, reader: Reader, session: str, turn: str | None) -> None:
        reader.hold(session, turn)
        self._router.follow(reader, session, turn)

    async def _have_published_here(self, who: Principal, session: str, state: State, turn: str | None) -> State:
        """The state after the owner was asked to publish here as well, where another gateway began what runs."""
        if state.opened is None:
            return state
        now = state.open
        if now is not None and turn in (None, now.turn):
            log = self._router.ring.get((who.tenant, session, now.turn))
            if log is not None and (log.heard or log.user is not None):
                return state
        elif turn is not None:
            return state
        await self._watch(who, session, turn)
        return await self._lookup.state(who.tenant, session)

    async def _watch(self, who: Principal, session: str, turn: str | None) -> None:
        control = WatchControl(op=mint(), tenant=who.tenant, user=who.user, turn=turn)
        try:
            await self._ops.perform(session, control, wait_s=_WATCH_WAIT_S)
        except Refusal:
            return

    async def _resume(self, reader: Reader, session: str, state: State, turn: str, after: After | None) -> Resumed:
        """No frame comes twice on one connection: what it has already counts, whatever it says."""
        facts = await self._lookup.facts(reader.tenant, session, state, turn)
        told = facts.terminal or facts.asked
        if told is not None and self._router.ring.get(told.key) is not None:
            self._router.spread(told)
        log = self._router.ring.get((reader.tenant, session, turn))
        has = [at for at in (after.position if after else None, reader.position(session, turn)) if at is not None]
        return resume_turn(log, facts, max(has, default=None))

    async def _resume_session(
        self, reader: Reader, session: str, state: State, after: After | None
    ) -> tuple[Verdict, list[Resumed]]:
        known, turns = self._turns_since(reader, session, state, after)
        items = []
        for turn in turns:
            own = after if after is not None and turn == after.turn else None
            items.append(await self._resume(reader, session, state, turn, own))
        verdict = worst([item.verdict for item in items])
        return (verdict if known else "reset"), items

    def _turns_since(self, reader: Reader, session: str, state: State, after: After | None) -> tuple[bool, list[str]]:
        """Whether `after` names a turn that we can count from, and that turn and all later ones, in order."""
        ended = [item.turn for item in state.over if item.version > state.base]
        current = [item.turn for item in (*state.aside, state.open, *state.parked) if item is not None]
        logs = self._router.ring.of_session((reader.tenant, session))
        here = [log.key[2] for log in logs if log.terminal is None]
        current += [turn for turn in here if turn not in current and turn not in ended]
        if after is None or after.turn is None:
            return True, current
        turns = ended + current
        if after.turn not in turns:
            return False, current
        since = turns[turns.index(after.turn) :]
        return True, since
