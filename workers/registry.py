"""Which agents there are: built in, from `FLEET_AGENTS`, from entry points. Builds and runs none of them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import EntryPoint, entry_points

from schemas.codes import Code
from schemas.errors import Refusal
from workers.agent import AgentSpec, RegistrationError
from workers.agents.chat import spec as chat
from workers.agents.echo import spec as echo
from workers.agents.one.agent import spec as one
from workers.agents.team.agent import spec as team
from workers.agents.workflow.agent import spec as workflow
from workers.rollout import Rollout

GROUP = "turnfleet.agents"


class Registry:
    """Specs by name and version, and where each came from. Versions of one name come from one place; the last one is
    the newest. Raises RegistrationError with a sentence for whoever starts us."""

    def __init__(self, specs: Iterable[AgentSpec] = (), *, default: str | None = None) -> None:
        self.default = default
        self.rollout = Rollout()
        self._specs: dict[str, dict[str, AgentSpec]] = {}
        self._places: dict[str, str] = {}
        self.add(specs, "the code")

    @classmethod
    def load(
        cls,
        places: Sequence[str],
        default: str,
        *,
        rollout: Sequence[str] = (),
        found: Callable[[], Iterable[EntryPoint]] | None = None,
    ) -> Registry:
        """The built-in agents, those of `places` (`package.module:registry`) and of the installed entry points.
        `rollout`: as the setting says it."""
        registry = cls(default=default)
        registry.add(builtin_specs(), "turnfleet")
        for place in places:
            registry.add(specs_of(imported(place), place), place)
        for point in (found or _installed)():
            registry.add(specs_of(_loaded(point), point.value), f"entry point {point.name} = {point.value}")
        if default not in registry._specs:
            raise RegistrationError(f"FLEET_AGENT: no agent {default!r} is registered; there are: {registry._names()}")
        registry.rollout = Rollout.of(rollout, {name: list(all_) for name, all_ in registry._specs.items()})
        return registry

    def __contains__(self, name: str) -> bool:
        return name in self._specs

    def __iter__(self) -> Iterator[AgentSpec]:
        return (spec for versions in self._specs.values() for spec in versions.values())

    def __len__(self) -> int:
        return sum(map(len, self._specs.values()))

    def place(self, name: str) -> str:
        """Where an agent was registered, for people."""
        return self._places[name]

    def get(self, name: str | None, version: str | None = None) -> AgentSpec:
        """The agent of that name; None: the default one. `version` None, or not registered any more: the settled one.
        Raises Refusal(agent_unknown)."""
        versions = self._versions(name)
        spec = versions.get(version) if version is not None else None
        if spec is not None:
            return spec
        if len(versions) == 1:
            return next(iter(versions.values()))
        known = list(versions)
        return versions[self.rollout.settled(versions[known[-1]].name, known)]

    def version(self, name: str | None, tenant: str, session: str) -> str:
        """The version that a new session gets. Raises Refusal(agent_unknown)."""
        versions = list(self._versions(name))
        named = name if name is not None else self.default
        assert named is not None
        return self.rollout.pick(named, versions, tenant, session)

    def new_sessions(self, spec: AgentSpec) -> str:
        """For people: which new sessions get this version; empty: none."""
        versions = list(self._versions(spec.name))
        told = self.rollout.told(spec.name, spec.version)
        if told or spec.version != self.rollout.settled(spec.name, versions):
            return told
        return "all" if len(versions) == 1 else "all others"

    def _versions(self, name: str | None) -> dict[str, AgentSpec]:
        wanted = name if name is not None else self.default
        versions = self._specs.get(wanted) if wanted is not None else None
        if versions is None:
            raise Refusal(Code.AGENT_UNKNOWN, f"no agent {wanted!r} is registered; there are: {self._names()}")
        return versions

    def add(self, specs: Iterable[AgentSpec], place: str) -> None:
        """Register; a name may be taken by one place, and there once a version."""
        for spec in specs:
            versions = self._specs.setdefault(spec.name, {})
            first = self._places.setdefault(spec.name, place)
            if spec.version in versions or first != place:
                raise RegistrationError(f"agent {spec.name!r} of {place} is registered already by {first}; rename one")
            versions[spec.version] = spec

    def _names(self) -> str:
        return ", ".join(sorted(self._specs)) or "none"


def builtin_specs() -> list[AgentSpec]:
    """The agents that come with the platform."""
    return [echo(), chat(), workflow(), team(), one()]


def specs_of(found: object, place: str) -> list[AgentSpec]:
    """The specs of what a place holds: a spec, a Registry, a list, a mapping, or a function that returns one of them.

    A mapping's keys must be the names.
    """
    if callable(found) and not isinstance(found, AgentSpec | Registry):
        found = _call(found, place)
    if isinstance(found, AgentSpec):
        return [found]
    if isinstance(found, Mapping):
        for key, spec in found.items():
            if isinstance(spec, AgentSpec) and key != spec.name:
                raise RegistrationError(f"{place}: key {key!r} holds the agent {spec.name!r}; use its name as the key")
        found = list(found.values())
    if not isinstance(found, Iterable) or isinstance(found, str | bytes):
        raise RegistrationError(f"{place} is {type(found).__name__}, want AgentSpecs: a list, a mapping or a Registry")
    specs = list(found)
    for spec in specs:
        if not isinstance(spec, AgentSpec):
            raise RegistrationError(f"{place} holds {type(spec).__name__}, want AgentSpec")
    return specs


def _call(function: Callable[[], object], place: str) -> object:
    try:
        return function()
    except Exception as error:
        raise RegistrationError(f"{place} raised {type(error).__name__}: {error}") from error


def imported(place: str) -> object:
    """What lies at `package.module:name`. Raises RegistrationError."""
    module, colon, name = place.partition(":")
    if not (module and colon and name):
        raise RegistrationError(f"FLEET_AGENTS: {place!r} is no `package.module:registry`")
    try:
        found: object = importlib.import_module(module)
        for step in name.split("."):
            found = getattr(found, step)
    except AttributeError:
        raise RegistrationError(f"FLEET_AGENTS: {module} has no {name!r}") from None
    except RegistrationError:
        raise
    except Exception as error:
        raise RegistrationError(
            f"FLEET_AGENTS: {module} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    return found


def _installed() -> Iterable[EntryPoint]:
    return entry_points(group=GROUP)


def _loaded(point: EntryPoint) -> object:
    try:
        return point.load()
    except RegistrationError:
        raise
    except Exception as error:
        text = f"entry point {point.name} = {point.value} cannot be loaded: {type(error).__name__}: {error}"
        raise RegistrationError(text) from error
