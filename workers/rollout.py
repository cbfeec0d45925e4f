"""Which version of an agent a new session gets: by tenant, by share, else the one that is settled. Knows no session's
state; a session that lives keeps its version."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from workers.agent import RegistrationError

_PLACES = 10_000


@dataclass(frozen=True, slots=True)
class Share:
    """One rule: `percent` of the new sessions, or those of `tenants`."""

    percent: float = 0.0
    tenants: frozenset[str] = frozenset()


@dataclass(slots=True)
class Rollout:
    """`shares`: agent → version → its rule, in the order in which they were given."""

    shares: Mapping[str, Mapping[str, Share]] = field(default_factory=dict)

    @classmethod
    def of(cls, rules: Sequence[str], versions: Mapping[str, Sequence[str]]) -> Rollout:
        """From `agent@version=25%` and `agent@version=tenant1|tenant2`; `versions`: those registered of each agent.
        Raises RegistrationError with a sentence for whoever set it."""
        shares: dict[str, dict[str, Share]] = {}
        for rule in rules:
            name, version, share = _parsed(rule)
            if version not in versions.get(name, ()):
                there = ", ".join(f"{agent}@{known}" for agent, all_ in versions.items() for known in all_)
                raise RegistrationError(f"FLEET_AGENT_ROLLOUT: {rule!r} is not registered; there are: {there}")
            known = shares.setdefault(name, {})
            old = known.get(version, Share())
            known[version] = Share(old.percent + share.percent, old.tenants | share.tenants)
        for name, given in shares.items():
            if (total := sum(share.percent for share in given.values())) > 100:
                raise RegistrationError(f"FLEET_AGENT_ROLLOUT: the shares of {name} are {total:g} % together")
        return cls(shares)

    def settled(self, name: str, versions: Sequence[str]) -> str:
        """The version of sessions that no rule speaks of: the last one registered that no rule names."""
        named = self.shares.get(name, {})
        return next((version for version in reversed(versions) if version not in named), versions[-1])

    def pick(self, name: str, versions: Sequence[str], tenant: str, session: str) -> str:
        """The version that a new session gets; the same on every worker."""
        given = self.shares.get(name)
        if not given:
            return versions[-1]
        for version, share in given.items():
            if tenant in share.tenants:
                return version
        place, upto = _place(name, tenant, session), 0.0
        for version, share in given.items():
            upto += share.percent * _PLACES / 100
            if place < upto:
                return version
        return self.settled(name, versions)

    def told(self, name: str, version: str) -> str:
        """For people: what the rules say of a version; empty: nothing."""
        share = self.shares.get(name, {}).get(version)
        if share is None:
            return ""
        said = [f"{share.percent:g} %"] if share.percent else []
        return ", ".join([*said, *sorted(share.tenants)])


def _parsed(rule: str) -> tuple[str, str, Share]:
    agent, equals, said = rule.partition("=")
    name, at, version = agent.strip().partition("@")
    said = said.strip()
    if not (name and at and version and equals and said):
        raise RegistrationError(
            f"FLEET_AGENT_ROLLOUT: {rule!r} is no `agent@version=25%` or `agent@version=tenant1|tenant2`"
        )
    if not said.endswith("%"):
        return name, version, Share(tenants=frozenset(tenant.strip() for tenant in said.split("|") if tenant.strip()))
    try:
        percent = float(said[:-1])
    except ValueError:
        percent = -1.0
    if not 0 <= percent <= 100:
        raise RegistrationError(f"FLEET_AGENT_ROLLOUT: {rule!r}: give a share from 0% to 100%")
    return name, version, Share(percent=percent)


def _place(name: str, tenant: str, session: str) -> int:
    """Where a session stands, 0 … 9,999: evenly, and the same for every share."""
    digest = hashlib.blake2b(f"{name}\n{tenant}\n{session}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) % _PLACES
