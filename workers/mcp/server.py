"""One configured server: its connections, its list of tools, its calls. Knows no other server.

The list is fetched with every new connection, and at a turn's start when the last one is older than `list_ttl_s` or
the server said that it changed; who does not answer within half a second is taken at its last word, and the answer
counts for the next turn. A server that is not open is not opened to ask: the call that opens it fetches the list
first, and a tool that is not the one that was offered is not called.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from mcp.shared.exceptions import MCPError
from pydantic import JsonValue

from schemas.errors import RetryableError, TerminalError
from workers.agent import SessionInfo
from workers.mcp.calls import ask, no_answer, params_of
from workers.mcp.config import PolicyConfig, ServerConfig
from workers.mcp.lease import Away, Event, Lease, said
from workers.mcp.listing import Left, Listed, exposed_name, listing
from workers.mcp.opening import Opener
from workers.mcp.pinboard import Pinboard
from workers.mcp.soundness import Soundness
from workers.mcp.wire import Wire
from workers.tools.exchange import InputNeeded
from workers.tools.tool import Tool, ToolOutput

_log = logging.getLogger("fleet.mcp")
_LIST_WAIT_S = 0.5
_MOST_SILENT = 3  # calls in a row without an answer, before its connection is made anew
Outcome = Literal["done", "error", "away", "lost", "timeout", "cancelled", "input", "suspended"]
Tell = Callable[[str, str, str], None]
Key = tuple[str, str]
_SHARED = ("", "")


@dataclass(slots=True)
class _Known:
    """What one connection, or the one before it, listed last. `stale`: the server says that it changed."""

    listed: dict[str, Listed] | None = None
    listed_s: float = 0.0
    stale: bool = False
    fetching: asyncio.Task[None] | None = None


class McpServer:
    """`tell(what, server, outcome)`: `what` is `mcp_calls` or `mcp_openings`."""

    def __init__(
        self,
        name: str,
        config: ServerConfig,
        opener: Opener,
        *,
        pinboard: Pinboard,
        soundness: Soundness,
        tell: Tell,
    ) -> None:
        self.name = name
        self.config = config
        self.left: tuple[Left, ...] = ()
        self.why = ""  # it could not be listed the last time
        self._opener = opener
        self._pinboard = pinboard
        self._soundness = soundness
        self._tell = tell
        self._prefix = config.prefix_of(name)
        self._leases: dict[Key, Lease] = {}
        self._known: dict[Key, _Known] = {}  # a server that keeps state may offer each session something else
        self._closing: set[asyncio.Task[None]] = set()
        self._last: dict[str, Listed] | None = None  # whoever was listed last
        self._tried = False
        self._silent = 0

    @property
    def open_leases(self) -> int:
        return sum(lease.is_open for lease in self._leases.values())

    async def tools(self, session: SessionInfo) -> list[Tool]:
        """What one session is offered. Raises nothing: a server that is away keeps its last list, or has none yet."""
        await self.look(session)
        known = self._of(session).listed
        return [
            self._tool(session, tool, policy)
            for tool in (known if known is not None else self._last or {}).values()
            if (policy := self.config.policy_of(tool.name)) is not None and self._pinboard.accepts(self.name, tool)
        ]

    @property
    def listed(self) -> list[Listed]:
        """Everything that can be offered, accepted or not."""
        return list((self._last or {}).values())

    def _of(self, session: SessionInfo) -> _Known:
        return self._known.get(self._key(session), _Known())

    async def look(self, session: SessionInfo) -> None:
        """Fetch the list if it is time to."""
        if not self._is_time(session):
            return
        wait_s = _LIST_WAIT_S if self._last is not None or self._tried else self.config.open_timeout_s
        await asyncio.wait(self._looks(session), timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)

    def _looks(self, session: SessionInfo) -> list[asyncio.Task[None]]:
        """Those that bring a list: while there is none, another session's too; there may be no connection to spare."""
        if self._last is None and (under_way := self._under_way()):
            return under_way
        known = self._known.setdefault(self._key(session), _Known())
        if known.fetching is None:
            known.fetching = asyncio.create_task(self._look(session, known), name=f"mcp list {self.name}")
        return [known.fetching]

    def _under_way(self) -> list[asyncio.Task[None]]:
        return [known.fetching for known in self._known.values() if known.fetching is not None]

    def _is_time(self, session: SessionInfo) -> bool:
        if self._last is None:
            return True
        lease, known = self._leases.get(self._key(session)), self._of(session)
        if lease is None or not lease.is_open:
            return False
        fresh = known.listed is not None and not known.stale
        return not fresh or asyncio.get_running_loop().time() - known.listed_s >= self.config.list_ttl_s

    async def _look(self, session: SessionInfo, known: _Known) -> None:
        try:
            async with self._lease(session).use(calling=False) as wire:
                await self._fetch(wire, known)
        except Exception as error:  # noqa: BLE001 (it is away, or its list is none)
            self.why = said(error)
            _log.debug("mcp %s: no list of tools: %s", self.name, self.why)
        finally:
            self._tried = True
            known.fetching = None
            if (key := self._key(session)) not in self._leases:
                self._known.pop(key, None)

    async def _fetch(self, wire: Wire, known: _Known) -> None:
        """What this connection offers, judged. Raises MCPError, TimeoutError."""
        known.stale = False
        async with asyncio.timeout(self.config.open_timeout_s):
            raw = await wire.tools()
        made = listing(raw, prefix=self._prefix)
        wanted = [tool for tool in made.tools if self.config.policy_of(tool.name) is not None]
        faults = await self._soundness.faults(wanted)
        left, kept = list(made.left), []
        for tool in wanted:
            fault = faults[tool.digest] or wire.know(tool.name, tool.schema)
            if fault:
                left.append(Left(tool.name, fault))
            else:
                kept.append(tool)
        await self._pinboard.meet(self.name, kept, strict=self.config.pin == "strict")
        for one in set(left) - set(self.left):
            _log.warning("mcp %s: tool %r is left out: %s", self.name, one.name, one.why)
        self.left, self.why = tuple(left), ""
        self._last = known.listed = {tool.name: tool for tool in kept}
        known.listed_s = asyncio.get_running_loop().time()
        wire.offered = {tool.name: tool.digest for tool in kept}

    def _tool(self, session: SessionInfo, listed: Listed, policy: PolicyConfig) -> Tool:
        async def call(arguments: Mapping[str, JsonValue], *, idempotency_key: str | None = None) -> ToolOutput:
            return await self._call(session, listed, policy, arguments, idempotency_key)

        name = exposed_name(self._prefix, listed.name)
        return Tool(name, listed.description, listed.schema, call, policy.policy())

    async def _call(
        self,
        session: SessionInfo,
        listed: Listed,
        policy: PolicyConfig,
        arguments: Mapping[str, JsonValue],
        key: str | None,
    ) -> ToolOutput:
        outcome: Outcome = "cancelled"
        params = params_of(listed.name, arguments, policy, key)
        loop = asyncio.get_running_loop()
        began_s, lease = loop.time(), None
        try:
            async with asyncio.timeout(policy.timeout_s):
                lease = self._lease(session)
                async with lease.use() as wire:
                    if not await self._is_same(wire, listed, session):
                        outcome = "suspended"
                        return ToolOutput.refused(f"{listed.exposed} is suspended: it is not as accepted")
                    made = await ask(wire, params, policy, listed.exposed)
            outcome = "error" if made.is_error else "done"
            self._silent = 0
            return made
        except TimeoutError:
            outcome = "timeout"
            no_answer(
                listed.exposed, f"no answer within {policy.timeout_s:g} s", again=policy.read_only or policy.idempotent
            )
        except InputNeeded:
            outcome = "input"
            raise
        except Away:
            outcome = "away"
            raise
        except (RetryableError, TerminalError):
            outcome = "lost"
            raise
        finally:
            # Whoever calls us may have the same time-out, and cancels us a moment before ours.
            if outcome in {"timeout", "cancelled"} and loop.time() - began_s >= 0.9 * policy.timeout_s:
                self._count_silence(lease)
            self._tell("mcp_calls", self.name, outcome)

    async def _is_same(self, wire: Wire, listed: Listed, session: SessionInfo) -> bool:
        """Whether this connection offers what the model was told of, and that is still accepted. Raises Away."""
        if wire.offered is None:
            try:
                await self._fetch(wire, self._known.setdefault(self._key(session), _Known()))
            except (MCPError, TimeoutError) as error:
                raise Away(self.name, f"it does not list its tools: {said(error)}") from None
        same = wire.offered is not None and wire.offered.get(listed.name) == listed.digest
        return same and self._pinboard.accepts(self.name, listed)

    def _count_silence(self, lease: Lease | None) -> None:
        self._silent += 1
        if self._silent >= _MOST_SILENT and lease is not None:
            self._silent = 0
            lease.lose(f"it left {_MOST_SILENT} calls in a row without an answer")

    def _key(self, session: SessionInfo) -> Key:
        return (session.tenant, session.session) if self.config.lease == "session" else _SHARED

    def _lease(self, session: SessionInfo) -> Lease:
        """Its own or the shared one; the one that rests longest makes room. Raises Away."""
        key = self._key(session)
        lease = self._leases.get(key)
        if lease is None:
            if len(self._leases) >= self.config.most_leases:
                self._make_room()
            lease = self._leases[key] = Lease(
                f"{self.name}",
                self.config,
                self._opener,
                changed=functools.partial(self._changed, key),
                tell=self._told,
            )
        return lease

    def _make_room(self) -> None:
        resting = [(lease.used_s, key) for key, lease in self._leases.items() if not lease.users]
        if not resting:
            raise Away(self.name, f"all of its {self.config.most_leases} connections are in use", 1.0)
        key = min(resting)[1]
        lease = self._leases.pop(key)
        self._known.pop(key, None)
        task = asyncio.create_task(lease.close(), name=f"mcp close {self.name}")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _changed(self, key: Key) -> None:
        if (known := self._known.get(key)) is not None:
            known.stale = True

    def _told(self, event: Event) -> None:
        self._tell("mcp_openings", self.name, event)

    async def close(self) -> None:
        """All connections, and what they run."""
        fetching = self._under_way()
        for task in fetching:
            task.cancel()
        if fetching:
            await asyncio.wait(fetching)
        await asyncio.gather(*(lease.close() for lease in self._leases.values()), *self._closing)
        self._leases.clear()
