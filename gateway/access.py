"""Who may do what: one function through which every ownership check runs. Knows nothing of transports."""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from typing import Literal

from gateway.event import SessionKey
from gateway.identity import Principal
from gateway.lookup import Lookup
from gateway.router import Router
from journal.state import EMPTY, State
from schemas.codes import Code
from schemas.errors import Refusal
from schemas.ids import legal

Verb = Literal["send", "act", "read"]
_REMEMBERED = 20_000


class Access:
    """Owners of sessions, as the journal has them; the worker that owns the session checks again before it acts."""

    def __init__(self, lookup: Lookup, router: Router) -> None:
        self._lookup = lookup
        self._router = router
        self._owners: OrderedDict[SessionKey, str] = OrderedDict()

    async def require_session(self, who: Principal, session: str, verb: Verb, *, turn: str | None = None) -> State:
        """Let `who` pass, or raise Refusal `not_found`: the same answer for a missing session and for another user's.

        `send` (publish a turn): a session that does not exist may be begun. `act` (cancel, steer, …) and `read`: it
        exists, or `who` published `turn` through this gateway and it has not begun yet. Only `read` gives the state
        as it is now; the others may answer from memory. Raises `unavailable` when the journal does not answer.
        """
        if not legal(session):
            raise Refusal(Code.BAD_REQUEST, "session: 1-128 characters out of A-Z a-z 0-9 . _ : -")
        key = (who.tenant, session)
        if verb != "read" and self.knows(who, session):
            self._owners.move_to_end(key)
            return EMPTY
        state = await self._lookup.state(who.tenant, session, perhaps_new=verb == "send")
        owner = state.opened.user if state.opened is not None else None
        self._learn(key, owner)
        if owner == who.user or (owner is None and (verb == "send" or self._published(who, session, turn))):
            return state
        raise Refusal(Code.NOT_FOUND, "there is no such session")

    def knows(self, who: Principal, session: str) -> bool:
        """Whether `who` may send and act without the journal being asked."""
        return self._owners.get((who.tenant, session)) == who.user

    async def learn(self, who: Principal, session: str) -> None:
        """Ask the journal whose session it is, before the next turn would have to. Raises nothing."""
        with contextlib.suppress(Refusal):
            await self.require_session(who, session, "send")

    def forget(self, tenant: str, session: str) -> None:
        """The session was deleted: nobody's word about it holds any more."""
        self._owners.pop((tenant, session), None)

    def _learn(self, key: SessionKey, owner: str | None) -> None:
        before = self._owners.pop(key, None)
        if before is not None and before != owner:
            self._router.evict(key, owner)
        if owner is not None:
            self._owners[key] = owner
            if len(self._owners) > _REMEMBERED:
                self._owners.popitem(last=False)

    def _published(self, who: Principal, session: str, turn: str | None) -> bool:
        logs = self._router.ring.of_session((who.tenant, session))
        return any(log.user == who.user and turn in (None, log.key[2]) for log in logs)
