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

GROUP = "turnfleet.agents"


class Registry:
    """Specs by name, and where each came from. Raises RegistrationError with a sentence for whoever starts us."""

    def __init__(self, specs: Iterable[AgentSpec] = (), *, default: str | None = None) -> None:
        self.default = default
        self._specs: dict[str, AgentSpec] = {}
        self._places: dict[str, str] = {}
        self.add(specs, "the code")

    @classmethod
    def load(
        cls, places: Sequence[str], default: str, *, found: Callable[[], Iterable[EntryPoint]] | None = None
    ) -> Registry:
        """The built-in agents, those of `places` (`package.module:registry`) and of the installed entry points."""
        registry = cls(default=default)
        registry.add(builtin_specs(), "turnfleet")
        for place in places:
            registry.add(specs_of(_import(place), place), place)
        for point in (found or _installed)():
            registry.add(specs_of(_loaded(point), point.value), f"entry point {point.name} = {point.value}")
        if default not in registry._specs:
            raise RegistrationError(f"FLEET_AGENT: no agent {default!r} is registered; there are: {registry._names()}")
        return registry

    def __contains__(self, name: str) -> bool:
        return name in self._specs

    def __iter__(self) -> Iterator[AgentSpec]:
        return iter(self._specs.values())

    def __len__(self) -> int:
        return len(self._specs)

    def place(self, name: str) -> str:
        """Where an agent was registered, for people."""
        return self._places[name]

    def get(self, name: str | None) -> AgentSpec:
        """The agent of that name; None: the default one. Raises Refusal(agent_unknown)."""
        wanted = name if name is not None else self.default
        spec = self._specs.get(wanted) if wanted is not None else None
        if spec is None:
            raise Refusal(Code.AGENT_UNKNOWN, f"no agent {wanted!r} is registered; there are: {self._names()}")
        return spec

    def add(self, specs: Iterable[AgentSpec], place: str) -> None:
        """Register; a name may be taken once."""
        for spec in specs:
            if spec.name in self._specs:
                first = self._places[spec.name]
                raise RegistrationError(f"agent {spec.name!r} of {place} is registered already by {first}; rename one")
            self._specs[spec.name] = spec
            self._places[spec.name] = place

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


def _import(place: str) -> object:
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
