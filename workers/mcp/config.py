"""The operator's file of MCP servers, `FLEET_MCP`. Says what may be started, and what each tool is; starts nothing.

docs/mcp.md lists every key; a test compares. Secrets are never in the file: it names variables of the worker.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from schemas.codec import first_error
from schemas.settings import PREFIX
from workers.agent import RegistrationError
from workers.mcp.listing import exposed_name
from workers.tools.reserved import RESERVED, check_free
from workers.tools.tool import ToolPolicy

Variables = dict[str, str]
_NAME = r"^[A-Za-z_][A-Za-z0-9_]*$"
_Variable = Annotated[str, Field(pattern=_NAME)]


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PolicyConfig(_Config):
    """What the operator says of a tool."""

    read_only: bool = Field(False, description="It changes nothing, and may be called again")
    idempotent: bool = Field(False, description="It does the same work once, however often it is called alike")
    approval: bool = Field(False, description="Its user is asked before each call")
    approval_s: float = Field(86_400.0, gt=0, description="How long they may take (seconds)")
    timeout_s: float = Field(60.0, gt=0, description="Longest call (seconds)")
    max_result_bytes: int = Field(262_144, ge=1, description="Largest result, as JSON (bytes)")
    tenants: frozenset[str] | None = Field(None, description="Who may use it; left out: everybody")
    users: frozenset[str] | None = Field(None, description="Who may use it; left out: everybody")
    key_argument: str | None = Field(
        None, description="The argument in which an idempotent tool takes its key; left out: it goes along in `_meta`"
    )

    def policy(self) -> ToolPolicy:
        """As tools have it."""
        return ToolPolicy(**self.model_dump(exclude={"key_argument"}))


class ServerConfig(_Config):
    """One server, and how it is treated."""

    transport: Literal["stdio", "http"] = Field(description="A process of ours, or an address (streamable HTTP)")
    command: str | None = Field(None, description="stdio: what to run, found on the worker's PATH")
    args: tuple[str, ...] = Field((), description="stdio: its arguments")
    env: dict[_Variable, _Variable] = Field(
        {}, description="stdio: its variables, each taken from a variable of the worker; never one of ours (`FLEET_…`)"
    )
    variables: dict[_Variable, str] = Field({}, description="stdio: variables that are no secret, with their values")
    cwd: Path | None = Field(None, description="stdio: where it runs; left out: a new empty folder, its HOME as well")
    url: str | None = Field(None, pattern=r"^https?://", description="http: the address")
    headers: dict[str, _Variable] = Field({}, description="http: headers, each taken from a variable of the worker")
    era: Literal["auto", "2025-11-25", "2026-07-28"] = Field("auto", description="The protocol; `auto` asks the server")
    lease: Literal["shared", "session"] = Field(
        "shared", description="One connection for all, or one per session: for a server that keeps state"
    )
    most_leases: int = Field(64, ge=1, description="Connections at the same time; idle ones make room")
    most_calls: int = Field(16, ge=1, description="Calls at the same time on one connection; others wait")
    warm: bool = Field(False, description="Opened when the worker starts; else with the first turn that may use it")
    open_timeout_s: float = Field(20.0, gt=0, description="Longest opening, its list of tools included (seconds)")
    idle_s: float = Field(900.0, gt=0, description="Closed when idle for so long (seconds)")
    list_ttl_s: float = Field(
        2.0, ge=0, description="A list of tools this young is good for the next turn; else it is fetched (seconds)"
    )
    line_bytes: int = Field(4_194_304, ge=65_536, description="Largest message of the server (bytes)")
    prefix: str | None = Field(
        None, pattern=r"^[A-Za-z0-9_-]{0,32}$", description="Put before its tools' names; left out: `<server>_`"
    )
    pin: Literal["first", "strict"] = Field(
        "first", description="A tool never seen before: taken as it is, or only once an operator accepts it"
    )
    tools: dict[str, PolicyConfig] = Field({}, description="The tools that are allowed, by the server's name for them")
    others: PolicyConfig | None = Field(None, description="What holds for tools not named; left out: they are denied")

    @model_validator(mode="after")
    def _fits(self) -> ServerConfig:
        if (self.command is None) == (self.transport == "stdio"):
            raise ValueError("command belongs to transport stdio, and it needs one")
        if (self.url is None) == (self.transport == "http"):
            raise ValueError("url belongs to transport http, and it needs one")
        ours = [name for name in (*self.env.values(), *self.headers.values()) if name.startswith(PREFIX)]
        if ours:
            raise ValueError(f"{ours[0]} is a variable of ours: no server gets it")
        if not self.tools and self.others is None:
            raise ValueError("neither tools nor others: nothing of it could be used")
        return self

    def prefix_of(self, server: str) -> str:
        """What its tools' names begin with."""
        return self.prefix if self.prefix is not None else f"{server}_"

    def policy_of(self, tool: str) -> PolicyConfig | None:
        """What holds for a tool; None: it is denied."""
        return self.tools.get(tool, self.others)


class McpConfig(_Config):
    """The whole file."""

    servers: dict[Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,32}$")], ServerConfig] = Field(
        {}, description="By a name of your choice: 1-32 characters out of a-z 0-9 _ -"
    )


def load(path: Path | None, environ: Mapping[str, str] = os.environ) -> McpConfig:
    """The file at `path`, None: no servers. Raises RegistrationError with a sentence."""
    if path is None:
        return McpConfig()
    try:
        given = yaml.safe_load(path.read_text())
        config = McpConfig.model_validate(given if given is not None else {})
    except OSError as error:
        raise RegistrationError(f"FLEET_MCP: cannot read {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RegistrationError(f"FLEET_MCP: {path} is no YAML: {' '.join(str(error).split())[:300]}") from None
    except ValidationError as error:
        raise RegistrationError(f"FLEET_MCP: {path}: {first_error(error)}") from None
    for name, server in config.servers.items():
        for variable in (*server.env.values(), *server.headers.values()):
            if variable not in environ:
                raise RegistrationError(f"FLEET_MCP: {path}: server {name} wants variable {variable}, which is not set")
    _check_names(config, f"FLEET_MCP: {path}")
    return config


def _check_names(config: McpConfig, what: str) -> None:
    """No tool that the file names is called like one of ours, or like another one. Raises RegistrationError."""
    owners: dict[str, str] = {}
    for name, server in config.servers.items():
        exposed = [exposed_name(server.prefix_of(name), tool) for tool in server.tools]
        check_free(exposed, RESERVED, f"{what}: server {name}")
        for tool in exposed:
            if (owner := owners.setdefault(tool, name)) != name:
                raise RegistrationError(f"{what}: servers {owner} and {name} both have a tool {tool!r}; give a prefix")
