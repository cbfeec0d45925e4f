"""The nodes of a workflow: what each reads, what it writes, and how it is carried out. Knows no graph as a whole.

A node reads values by name (`input` is the turn's text) and writes one under its own. Branches run side by side in
branches of the context, so that each has steps of its own and replays whatever the timing.
"""

from __future__ import annotations

import asyncio
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson
from pydantic import JsonValue

from schemas.codes import Code
from schemas.errors import TerminalError
from schemas.ids import legal
from workers.agent import RegistrationError
from workers.context import Context
from workers.side_by_side import side_by_side

Values = dict[str, JsonValue]
_MOST_ITEMS = 256


class Node(Protocol):
    """One node. `name`: under which it writes; empty: it writes nothing of its own."""

    @property
    def name(self) -> str: ...

    def begins(self) -> list[str]:
        """The branches that it begins in its own line. Raises RegistrationError where others begin two alike."""
        ...

    def writes(self) -> frozenset[str]:
        """The names under which it may write."""
        ...

    def check(self, known: frozenset[str]) -> frozenset[str]:
        """The names that are known after it, of those before. Raises RegistrationError."""
        ...

    async def run(self, ctx: Context, values: Values) -> None:
        """Carry it out; what it writes is put into `values`."""
        ...


@dataclass(frozen=True, slots=True)
class Ask:
    """A model call. `prompt`, `system`: texts with `{names}`; `choices`: the answer must be one of them, anything else
    counts as the last; `show`: it is part of the answer."""

    name: str
    prompt: str
    system: str = ""
    choices: tuple[str, ...] = ()
    lines: bool = False
    show: bool = False
    model: str | None = None

    def begins(self) -> list[str]:
        return []

    def writes(self) -> frozenset[str]:
        return frozenset({self.name})

    def check(self, known: frozenset[str]) -> frozenset[str]:
        _known(self.name, (self.prompt, self.system), known)
        return known | {_named(self.name)}

    async def run(self, ctx: Context, values: Values) -> None:
        answer = await ctx.model(
            filled(self.prompt, values), system=filled(self.system, values), show=self.show, model=self.model
        )
        values[self.name] = self._read(answer.text)

    def _read(self, text: str) -> JsonValue:
        if self.choices:
            said = text.strip().lower()
            return next((choice for choice in self.choices if choice.lower() in said), self.choices[-1])
        if self.lines:
            lines = (line.strip().lstrip("-*•0123456789.) ") for line in text.splitlines())
            found: list[JsonValue] = [line for line in lines if line]
            return found[:_MOST_ITEMS]
        return text


@dataclass(frozen=True, slots=True)
class Do:
    """A function of the values, done once: what it returns (JSON) is durable."""

    name: str
    function: Callable[[Values], Any]

    def begins(self) -> list[str]:
        return []

    def writes(self) -> frozenset[str]:
        return frozenset({self.name})

    def check(self, known: frozenset[str]) -> frozenset[str]:
        return known | {_named(self.name)}

    async def run(self, ctx: Context, values: Values) -> None:
        values[self.name] = await ctx.step(self.name, lambda _: self.function(dict(values)), dict(values))


@dataclass(frozen=True, slots=True)
class Say:
    """A text with `{names}`, part of the answer."""

    text: str
    name: str = ""

    def begins(self) -> list[str]:
        return []

    def writes(self) -> frozenset[str]:
        return frozenset()

    def check(self, known: frozenset[str]) -> frozenset[str]:
        _known("say", (self.text,), known)
        return known

    async def run(self, ctx: Context, values: Values) -> None:
        ctx.emit(filled(self.text, values))


@dataclass(frozen=True, slots=True)
class Seq:
    """One node after the other."""

    nodes: tuple[Node, ...]
    name: str = ""

    def begins(self) -> list[str]:
        return [line for node in self.nodes for line in node.begins()]

    def writes(self) -> frozenset[str]:
        return frozenset().union(*(node.writes() for node in self.nodes))

    def check(self, known: frozenset[str]) -> frozenset[str]:
        for node in self.nodes:
            known = node.check(known)
        return known

    async def run(self, ctx: Context, values: Values) -> None:
        for node in self.nodes:
            await node.run(ctx, values)


@dataclass(frozen=True, slots=True)
class Choose:
    """The node that the value of `on` names; `otherwise` where it names none."""

    on: str
    cases: Mapping[str, Node]
    otherwise: Node | None = None
    name: str = ""

    @property
    def _ways(self) -> list[Node]:
        return [*self.cases.values(), *([self.otherwise] if self.otherwise is not None else [])]

    def begins(self) -> list[str]:
        """Only one way is gone, so that two may begin branches of one name."""
        return sorted({line for node in self._ways for line in unlike(node)})

    def writes(self) -> frozenset[str]:
        return frozenset().union(*(node.writes() for node in self._ways))

    def check(self, known: frozenset[str]) -> frozenset[str]:
        if self.on not in known:
            raise RegistrationError(f"choose: no node before it writes {self.on!r}; there are: {_list(known)}")
        after = [node.check(known) for node in self._ways]
        if self.otherwise is None:
            after.append(known)
        return frozenset.intersection(*after)

    async def run(self, ctx: Context, values: Values) -> None:
        value = values[self.on]
        node = self.cases.get(value) if isinstance(value, str) else None
        node = node if node is not None else self.otherwise
        if node is not None:
            await node.run(ctx, values)


@dataclass(frozen=True, slots=True)
class Parallel:
    """Nodes side by side, each in a branch named as it is; each sees the values from before and its own. What a branch
    writes is there afterwards, also in place of an earlier value; no two may write under one name."""

    branches: Mapping[str, Node]
    name: str = ""

    def begins(self) -> list[str]:
        for node in self.branches.values():
            unlike(node)
        return list(self.branches)

    def writes(self) -> frozenset[str]:
        return frozenset().union(*(node.writes() for node in self.branches.values()))

    def check(self, known: frozenset[str]) -> frozenset[str]:
        after, written = known, frozenset[str]()
        for name, node in self.branches.items():
            after |= node.check(known)
            if twice := written & node.writes():
                raise RegistrationError(f"parallel: two branches write {min(twice)!r}; give each a name of its own")
            written |= node.writes()
            _named(name)
        return after

    async def run(self, ctx: Context, values: Values) -> None:
        apart = {name: dict(values) for name in self.branches}
        await side_by_side([node.run(ctx.branch(name), apart[name]) for name, node in self.branches.items()])
        for name, node in self.branches.items():
            values.update({written: apart[name][written] for written in node.writes() if written in apart[name]})


@dataclass(frozen=True, slots=True)
class Each:
    """`node` for every item of the list `of`, `at_most` at once, each in a branch `<name>-<n>`; it sees `item`, and
    what it writes under `take` is collected under `name`, in the order of the items."""

    name: str
    of: str
    node: Node
    take: str
    at_most: int = 8
    _seen: frozenset[str] = field(default=frozenset({"item"}), init=False, repr=False)

    def begins(self) -> list[str]:
        unlike(self.node)
        return [f"{self.name}-0"]

    def writes(self) -> frozenset[str]:
        return frozenset({self.name})

    def check(self, known: frozenset[str]) -> frozenset[str]:
        if self.of not in known:
            raise RegistrationError(
                f"each {self.name}: no node before it writes {self.of!r}; there are: {_list(known)}"
            )
        if self.take not in self.node.check(known | self._seen):
            raise RegistrationError(f"each {self.name}: its node does not write {self.take!r}")
        if self.at_most < 1:
            raise RegistrationError(f"each {self.name}: at_most is {self.at_most}, give 1 or more")
        return known | {_named(self.name)}

    async def run(self, ctx: Context, values: Values) -> None:
        items = values[self.of]
        if not isinstance(items, list) or len(items) > _MOST_ITEMS:
            raise TerminalError(
                Code.AGENT_ERROR, f"each {self.name}: want a list of at most {_MOST_ITEMS} in {self.of!r}"
            )
        free = asyncio.Semaphore(self.at_most)

        async def one(branch: Context, item: JsonValue) -> JsonValue:
            async with free:
                own = {**values, "item": item}
                await self.node.run(branch, own)
                return own[self.take]

        works = [one(ctx.branch(f"{self.name}-{number}"), item) for number, item in enumerate(items)]
        values[self.name] = await side_by_side(works)


def unlike(node: Node) -> list[str]:
    """The branches that `node` begins in one line. Raises RegistrationError where two have one name."""
    lines = node.begins()
    if twice := {line for line in lines if lines.count(line) > 1}:
        raise RegistrationError(f"two branches are called {min(twice)!r}; give each a name of its own")
    return lines


def filled(text: str, values: Mapping[str, JsonValue]) -> str:
    """`text` with values for its names; what is no text is put in as JSON."""
    return string.Formatter().vformat(text, (), {name: _text(value) for name, value in values.items()})


def _text(value: JsonValue) -> str:
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return "\n".join(str(item) for item in value)
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _named(name: str) -> str:
    if not legal(name) or len(name) > 48:
        raise RegistrationError(f"node {name!r}: give 1-48 characters out of A-Z a-z 0-9 . _ : -")
    return name


def _known(node: str, texts: Sequence[str], known: frozenset[str]) -> None:
    for text in texts:
        try:
            used = {field for _, field, _, _ in string.Formatter().parse(text) if field is not None}
        except ValueError as error:
            raise RegistrationError(f"node {node}: {text[:60]!r} is no text with {{names}}: {error}") from None
        if strange := used - known:
            raise RegistrationError(
                f"node {node}: no node before it writes {min(strange)!r}; there are: {_list(known)} "
                "(write {{ and }} for braces)"
            )


def _list(known: frozenset[str]) -> str:
    return ", ".join(sorted(known))
