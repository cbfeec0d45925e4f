"""A tool: what the model is told of it, what the operator allows, and the function. Makes no call and knows no turn."""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, get_type_hints, overload

from pydantic import ConfigDict, JsonValue, TypeAdapter, ValidationError, create_model

from schemas.codec import first_error
from schemas.parts import Part, TextPart
from workers.agent import RegistrationError, SessionInfo
from workers.answer import parts_of
from workers.canonical import MAX_RESULT_BYTES, plain
from workers.models.port import ToolSpec

# What both the OpenAI and the Anthropic interface take for a tool's name.
NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
KEY = "idempotency_key"


class ToolOutput(NamedTuple):
    """What a tool answers: `parts` for the model and the user, `is_error` where it could not do what was asked, `data`:
    the same as a value for the agent's own code, where there is one."""

    parts: tuple[Part, ...]
    is_error: bool = False
    data: JsonValue = None

    @classmethod
    def said(cls, text: str, *, is_error: bool = False) -> ToolOutput:
        """A plain text."""
        return cls((TextPart(text=text),), is_error)

    @classmethod
    def refused(cls, text: str) -> ToolOutput:
        """It could not be done, and why, for the model."""
        return cls.said(text, is_error=True)


class Paused(NamedTuple):
    """A call that cannot go on now: no answer yet, but durable, `data` (JSON) with it."""

    data: JsonValue


@dataclass(frozen=True, slots=True)
class ToolPolicy:
    """What the operator says of a tool; never what its server claims.

    `read_only`: it changes nothing, and may be called again. `idempotent`: it changes something, once for one
    `idempotency_key`. `approval`: its user is asked first. `timeout_s`: of one call; `max_result_bytes`: of its result,
    as JSON. `tenants`, `users`: who may use it, None: everybody.
    """

    read_only: bool = False
    idempotent: bool = False
    approval: bool = False
    approval_s: float = 86_400.0
    timeout_s: float = 60.0
    max_result_bytes: int = 262_144
    tenants: frozenset[str] | None = None
    users: frozenset[str] | None = None

    def admits(self, info: SessionInfo) -> bool:
        """Whether the session's user may use the tool."""
        named = (self.tenants is None or info.tenant in self.tenants, self.users is None or info.user in self.users)
        return all(named)


Call = Callable[..., Awaitable[ToolOutput]]


@dataclass(frozen=True, slots=True)
class Tool:
    """`call(arguments, *, idempotency_key)`: arguments as the model gave them, a JSON object; the key only where the
    policy says `idempotent`, else None. Raises RetryableError or TerminalError; anything else is `tool_error`. It may
    be cancelled at any point, and must then end what it asked for.

    Raises RegistrationError.
    """

    name: str
    description: str
    parameters: Mapping[str, JsonValue]
    call: Call
    policy: ToolPolicy = field(default_factory=ToolPolicy)

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise RegistrationError(f"tool {self.name[:80]!r}: give 1-64 characters out of A-Z a-z 0-9 _ -")
        if self.policy.timeout_s <= 0 or self.policy.max_result_bytes < 1 or self.policy.approval_s <= 0:
            raise RegistrationError(f"tool {self.name}: timeout_s, approval_s and max_result_bytes must be above 0")

    @property
    def spec(self) -> ToolSpec:
        """What the model is told."""
        return ToolSpec(self.name, self.description, self.parameters)


class ToolSource(Protocol):
    """Where tools come from: a list in the code, MCP servers."""

    async def tools(self, session: SessionInfo) -> Sequence[Tool]:
        """Those of one session, asked for at the start of each turn. Raises nothing for a part that is away: its tools
        are missing then."""
        ...


Function = Callable[..., Any]


@overload
def tool(function: Function, /) -> Tool: ...
@overload
def tool(*, name: str | None = None, description: str | None = None, **policy: Any) -> Callable[[Function], Tool]: ...
def tool(
    function: Function | None = None, /, *, name: str | None = None, description: str | None = None, **policy: Any
) -> Tool | Callable[[Function], Tool]:
    """Make a tool of a typed function, synchronous or not: its parameters become the schema, its docstring the
    description. `policy`: fields of ToolPolicy; a parameter `idempotency_key` makes it idempotent.

    What the function returns: a ToolOutput, a text, or JSON. Raises RegistrationError for parameters without a type.
    """

    def wrap(function: Function) -> Tool:
        named = name or function.__name__
        takes_key, arguments = _arguments(function, named)
        if takes_key:
            policy["idempotent"] = True
        said = description if description is not None else inspect.getdoc(function) or ""
        return Tool(
            named, said, _schema(arguments), _caller(function, arguments, takes_key=takes_key), ToolPolicy(**policy)
        )

    return wrap(function) if function is not None else wrap


class BadArguments(Exception):
    """The model's arguments do not fit the tool; the text says which and why, for the model."""


def _arguments(function: Function, name: str) -> tuple[bool, TypeAdapter[Any]]:
    """Whether the function takes a key, and the model of its other parameters."""
    try:
        hints = get_type_hints(function, include_extras=True)
    except NameError as error:
        raise RegistrationError(f"tool {name}: {error}; its types must be importable where it is defined") from None
    fields: dict[str, Any] = {}
    parameters = dict(inspect.signature(function).parameters)
    takes_key = parameters.pop(KEY, None) is not None
    for parameter in parameters.values():
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY}:
            raise RegistrationError(f"tool {name}: parameter {parameter.name!r} cannot be given by name")
        if parameter.name not in hints:
            raise RegistrationError(f"tool {name}: parameter {parameter.name!r} has no type")
        fields[parameter.name] = (
            hints[parameter.name],
            ... if parameter.default is parameter.empty else parameter.default,
        )
    model = create_model(name, __config__=ConfigDict(extra="forbid"), **fields)
    return takes_key, TypeAdapter(model)


def _schema(arguments: TypeAdapter[Any]) -> dict[str, JsonValue]:
    return untitled(arguments.json_schema())


def untitled(schema: dict[str, Any]) -> dict[str, JsonValue]:
    """An object's JSON Schema without the titles that pydantic makes of names: they cost tokens and say nothing."""
    schema.pop("title", None)
    for each in schema.get("properties", {}).values():
        each.pop("title", None)
    return schema


def _caller(function: Function, arguments: TypeAdapter[Any], *, takes_key: bool) -> Call:
    async def call(given: Mapping[str, JsonValue], *, idempotency_key: str | None = None) -> ToolOutput:
        try:
            fitting = arguments.validate_python(given)
        except ValidationError as error:
            raise BadArguments(first_error(error)) from None
        named = {name: getattr(fitting, name) for name in type(fitting).model_fields}
        made = function(**named, **({KEY: idempotency_key} if takes_key else {}))
        return as_output(await made if inspect.isawaitable(made) else made)

    return call


def as_output(made: Any) -> ToolOutput:
    """What a function returned, as an output."""
    if isinstance(made, ToolOutput):
        return made
    value = plain(made, "a tool's result", MAX_RESULT_BYTES)
    return ToolOutput(parts_of(value), data=value)
