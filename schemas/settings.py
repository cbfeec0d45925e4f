"""Every setting, read from the environment with the prefix `FLEET_`. docs/settings.md lists them; a test compares."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PREFIX = "FLEET_"
PROVIDERS = ("anthropic", "google", "bedrock")
"""Model providers beside the OpenAI-compatible endpoint; a model's name begins with one and a colon."""
_LONGEST_S = 315_360_000  # ten years
_INT64 = 2**63 - 1
_BROKER = r"\s*(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._\-]+)(:[0-9]{1,5})?\s*"


def provider_of(model: str) -> str:
    """Whom a model is asked from: one of PROVIDERS by its prefix, else `openai`, whose own names may have colons."""
    name, colon, _ = model.partition(":")
    return name if colon and name in PROVIDERS else "openai"


def _host_of(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{re.split('[/?#]', rest)[0].rpartition('@')[2]}" if rest else ""


class _Settings(BaseSettings):
    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        allow_inf_nan=False,
        frozen=True,
        extra="ignore",
        populate_by_name=True,
    )

    @field_validator("*")
    @classmethod
    def _storable(cls, value: object, info: ValidationInfo) -> object:
        """More than this overflows only later, in the middle of a turn."""
        name = info.field_name or ""
        most = _LONGEST_S if name.endswith("_s") else _LONGEST_S * 1_000 if name.endswith("_ms") else _INT64
        if isinstance(value, int | float) and value > most:
            raise ValueError(f"at most {most}")
        return value

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """An address may hold a password or a key: its host is shown."""
        for name, value in super().__repr_args__():
            yield name, _host_of(value) if (name or "").endswith("_url") and isinstance(value, str) else value


class KafkaSettings(_Settings):
    """The broker."""

    kafka_bootstrap: str = Field(
        "",
        pattern=rf"^({_BROKER}(,{_BROKER})*)?$",
        description="Brokers `host:port`, comma separated; empty: `fleet up` starts an embedded one",
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="As Kafka names it"
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "PLAIN", description="As Kafka names it"
    )
    kafka_sasl_username: str = Field("", description="For PLAIN and SCRAM")
    kafka_sasl_password: str = Field("", description="For PLAIN and SCRAM", repr=False)
    kafka_ssl_cafile: str = Field("", description="CA certificates, a path; empty: the system's")
    kafka_ssl_certfile: str = Field("", description="Client certificate, a path")
    kafka_ssl_keyfile: str = Field("", description="Client key, a path")
    kafka_replication_factor: int = Field(
        0, ge=0, description="Replicas of each topic; 0: as topics.yaml says, at most the number of brokers"
    )
    kafka_session_timeout_ms: int = Field(
        10_000, ge=1_000, description="A worker silent for so long is replaced (milliseconds)"
    )
    kafka_heartbeat_ms: int = Field(400, ge=50, description="Heartbeat interval of the group (milliseconds)")
    kafka_publish_timeout_s: float = Field(
        8.0, gt=0, description="How long a publish may take before it is answered `publish_unknown` (seconds)"
    )
    topic_prefix: str = Field(
        "",
        pattern=r"^[A-Za-z0-9._\-]{0,200}$",
        description="Put before every topic and group name; tests use it",
    )
    topics_file: Path | None = Field(None, description="The list of topics; empty: topics.yaml of the distribution")

    @model_validator(mode="after")
    def _beats_in_time(self) -> KafkaSettings:
        if self.kafka_heartbeat_ms * 2 > self.kafka_session_timeout_ms:
            raise ValueError(
                f"{PREFIX}KAFKA_HEARTBEAT_MS: at most half of {PREFIX}KAFKA_SESSION_TIMEOUT_MS "
                f"({self.kafka_session_timeout_ms}), else workers that live are replaced"
            )
        return self


class MongoSettings(_Settings):
    """The store."""

    mongo_uri: str = Field("", description="A replica set; empty: `fleet up` starts a mongod", repr=False)
    mongo_database: str = Field("turnfleet", description="The database")
    mongo_timeout_s: float = Field(5.0, gt=0, description="How long one store call may take (seconds)")


class ModelSettings(_Settings):
    """The model provider."""

    model_url: str = Field("", description="An OpenAI-compatible endpoint; empty: `fleet up` starts a small local one")
    model: str = Field(
        "smollm2",
        description="The model's name there; `anthropic:…`, `google:…` and `bedrock:…` ask these providers instead",
    )
    model_key: str = Field("", description="Its API key", repr=False)
    anthropic_key: str = Field("", description="For models `anthropic:…`: the API key", repr=False)
    anthropic_url: str = Field("", description="For models `anthropic:…`: another address; empty: Anthropic's own")
    google_key: str = Field("", description="For models `google:…` (Gemini API): the API key", repr=False)
    google_url: str = Field("", description="For models `google:…`: another address; empty: Google's own")
    bedrock_key: str = Field(
        "", description="For models `bedrock:…`: an API key; empty: credentials as AWS finds them", repr=False
    )
    bedrock_region: str = Field("", description="For models `bedrock:…`: the region; empty: as AWS finds it")
    bedrock_url: str = Field("", description="For models `bedrock:…`: another address; empty: the region's own")
    model_tools: Literal["auto", "on", "off"] = Field(
        "auto",
        description="Whether models at FLEET_MODEL_URL take tools; `auto`: all but the small local one, which ignores "
        "them without a word",
    )
    model_concurrency: Annotated[dict[str, int], NoDecode] = Field(
        {"bedrock": 32},
        description="Calls at a time that a worker makes to a provider (`openai` is FLEET_MODEL_URL, `*` each other "
        "one), the others wait in order: `anthropic=8,*=64`; 0 or not named: no limit",
    )
    model_connect_timeout_s: float = Field(5.0, gt=0, description="Time to connect (seconds)")
    model_first_token_timeout_s: float = Field(60.0, gt=0, description="Time to the first token (seconds)")
    model_idle_timeout_s: float = Field(30.0, gt=0, description="Time between two tokens (seconds)")
    model_total_timeout_s: float = Field(300.0, gt=0, description="Time of one whole call (seconds)")
    model_attempts: int = Field(4, ge=1, description="How often a call is tried in all")
    model_retry_share: float = Field(
        0.1, ge=0, le=1, description="Retries that a worker may make, as a share of the calls that succeed at once"
    )
    model_retry_window_s: float = Field(
        30.0, gt=0, description="Retries that were earned and not needed fade within so long (seconds)"
    )
    model_retry_floor: int = Field(
        3, ge=0, description="Retries a minute that a worker may make in any case, however little it does"
    )
    model_breaker_failures: int = Field(
        5, ge=1, description="A model is asked no more for a while after so many failures in a row"
    )
    model_breaker_share: float = Field(
        0.5, gt=0, le=1, description="As well when this share failed, of twice so many calls or more"
    )
    model_breaker_window_s: float = Field(10.0, gt=0, description="Calls within so long are looked at (seconds)")
    model_breaker_open_s: float = Field(
        5.0, gt=0, description="How long at least, before one call is let through to see (seconds)"
    )
    model_breaker_wait_s: float = Field(
        30.0, ge=0, description="A running turn waits for the model so long, then fails typed (seconds); 0: at once"
    )
    model_coalesce_ms: int = Field(50, ge=0, le=1_000, description="Deltas are joined for so long (milliseconds)")

    @field_validator("model_concurrency", mode="before")
    @classmethod
    def _numbers(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pairs = [part.partition("=") for part in value.split(",") if part.strip()]
        return {name.strip(): number.strip() for name, _, number in pairs}

    @field_validator("model_concurrency")
    @classmethod
    def _of_providers(cls, value: dict[str, int]) -> dict[str, int]:
        known = {*PROVIDERS, "openai", "*"}
        if strange := sorted(set(value) - known):
            raise ValueError(f"{strange[0]!r} is no provider; there are: {', '.join(sorted(known))}")
        if any(number < 0 for number in value.values()):
            raise ValueError("give numbers from 0 on")
        return value


class SessionSettings(_Settings):
    """Sessions."""

    session_idle_s: int = Field(2_592_000, ge=1, description="A session idle for so long expires (seconds)")
    session_keep_keys_s: int = Field(
        1_209_600,
        ge=60,
        description="Keys of a closed session stay for so long (seconds); a worker refuses less than the retention of "
        "`agent.turns` and `agent.control`",
    )
    session_quarantine_s: int = Field(
        86_400, ge=1, description="A session waits at most so long for its poisonous turn to be dealt with (seconds)"
    )
    sweep_interval_s: float = Field(60.0, gt=0, description="Pause between two sweeps for expired sessions (seconds)")
    sweep_batch: int = Field(200, ge=1, le=10_000, description="Sessions a sweep handles at a time")
    turn_timeout_s: float = Field(300.0, gt=0, description="Deadline of a turn that brings none (seconds)")
    content_bytes: int = Field(
        262_144, ge=1_024, le=1_000_000, description="Limit of text and parts of one turn (bytes)"
    )


class GatewaySettings(_Settings):
    """The gateway."""

    gateway_host: str = Field("127.0.0.1", description="Address to listen on")
    gateway_port: int = Field(8080, ge=0, le=65_535, description="Port to listen on; 0: any free")
    gateway_ring_turns: int = Field(2_000, ge=1, description="Turns whose recent frames are kept for resuming")
    gateway_ring_bytes: int = Field(67_108_864, ge=65_536, description="Bytes of frames kept for resuming")
    gateway_socket_bytes: int = Field(1_048_576, ge=4_096, description="Queue of one socket at most (bytes)")
    gateway_heartbeat_ms: int = Field(25_000, ge=100, description="Ping interval of a WebSocket (milliseconds)")
    gateway_wait_max_s: float = Field(60.0, gt=0, description="Longest `wait_s` of a request (seconds)")
    gateway_queue_age_s: float = Field(
        30.0,
        ge=0,
        description="`overloaded` while turns wait for so long, until it is half; 0: never (seconds)",
    )
    gateway_frames_per_s: float = Field(200.0, gt=0, description="Frames a socket may send, sustained (per second)")
    gateway_frames_burst: int = Field(400, ge=1, description="Frames a socket may send at once")


class WorkerSettings(_Settings):
    """The worker."""

    worker_name: str = Field(
        "",
        pattern=r"^[A-Za-z0-9_.:\-]{0,128}$",
        description="Stays over restarts and is no other worker's, as a pod's name: what a crash left in the group "
        "under it is taken out at the start; empty: Kafka waits for the session timeout",
    )
    worker_host: str = Field("127.0.0.1", description="Address of health and metrics")
    worker_port: int = Field(0, ge=0, le=65_535, description="Port of health and metrics; 0: any free")
    worker_slots: int = Field(256, ge=1, description="Turns that run at the same time")
    worker_mailbox: int = Field(10_000, ge=1, description="Turns that wait before partitions are paused")
    worker_session_mailbox: int = Field(
        16, ge=1, description="Turns of one session that wait in its mailbox; the others wait behind it as records"
    )
    worker_backlog_bytes: int = Field(
        67_108_864,
        ge=0,
        description="Records that wait behind mailboxes before partitions are paused (bytes, estimated)",
    )
    worker_pool_bytes: int = Field(268_435_456, ge=0, description="Warm sessions kept (bytes, estimated)")
    worker_pool_idle_s: float = Field(900.0, gt=0, description="A warm session idle for so long is dropped (seconds)")
    worker_memory_mib: int = Field(
        0, ge=0, description="From 0.8 of it on warm sessions go, from 0.9 on no turns are read (MiB); 0: no limit"
    )
    worker_drain_s: float = Field(
        20.0, ge=0, description="On SIGTERM, running turns may end for so long; then they are handed over (seconds)"
    )
    worker_grace_s: float = Field(
        30.0, gt=0, description="On SIGTERM, the process is gone after so long, whatever happens (seconds)"
    )
    worker_tries: int = Field(3, ge=1, description="Claims in a row without a step before a turn is poison")
    worker_stall_warn_s: float = Field(
        1.0, gt=0, description="An agent that blocks the loop for so long is logged with its stack (seconds)"
    )
    worker_stall_share: float = Field(
        0.8,
        gt=0,
        le=0.9,
        description="A worker whose loop is blocked for this share of the session timeout ends itself",
    )
    worker_processes: int = Field(
        2,
        ge=1,
        description="Calls of `ctx.compute`, and turns of agents with `process=True`, that run at the same time",
    )
    worker_process_bytes: int = Field(
        2_147_483_648, ge=0, description="Address space of such a process (bytes); 0: no limit"
    )
    worker_delta_ms: int = Field(50, ge=0, le=1_000, description="Deltas of one turn are joined for so long (ms)")
    worker_snapshot_bytes: int = Field(
        65_536, ge=1_024, description="Least growth of a journal before a new snapshot (bytes)"
    )
    agents: Annotated[tuple[str, ...], NoDecode] = Field(
        (), description="Registries `package.module:registry`, comma separated, beside the built-in agents"
    )
    agent: str = Field("chat", description="The default agent")
    agent_rollout: Annotated[tuple[str, ...], NoDecode] = Field(
        (),
        description="Which version new sessions get where several are registered: `agent@version=25%` or "
        "`agent@version=tenant1|tenant2`, comma separated; the others get the last one that is not named",
    )
    prices: Path | None = Field(
        None, description="The price table, a YAML (docs/ledger.md); empty: no receipt has money. Read at the start"
    )
    mcp: Path | None = Field(None, description="The file of the MCP servers, see mcp.md; empty: none")
    log_format: Literal["json", "text"] = Field("json", description="Log lines for programs or for people")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level that is logged")

    @field_validator("agents", "agent_rollout", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


class BudgetSettings(_Settings):
    """Budgets (docs/ledger.md). 0: no limit; money in the currency of the price table"""

    budget_turn_tokens: int = Field(0, ge=0, description="Tokens of one turn, where its agent says nothing else")
    budget_turn_money: float = Field(0.0, ge=0, description="Money of one turn, likewise")
    budget_session_tokens: int = Field(0, ge=0, description="Tokens of one session, where its agent says nothing else")
    budget_session_money: float = Field(0.0, ge=0, description="Money of one session, likewise")
    budget_user_tokens: int = Field(0, ge=0, description="Tokens of one user of a tenant in a day (UTC)")
    budget_user_money: float = Field(0.0, ge=0, description="Money of one user in a day (UTC)")
    budget_day_tokens: int = Field(0, ge=0, description="Tokens of one tenant in a day (UTC)")
    budget_day_money: float = Field(0.0, ge=0, description="Money of one tenant in a day (UTC)")
    budget_output_tokens: int = Field(
        4_096, ge=1, description="`max_tokens` of a model call that says none, where there is a budget (tokens)"
    )


class LocalSettings(_Settings):
    """`fleet up`."""

    data: Path = Field(Path(".turnfleet"), description="Where `fleet up` keeps its data")
    workers: int = Field(2, ge=1, description="Workers that `fleet up` starts")


GROUPS: tuple[type[_Settings], ...] = (
    KafkaSettings,
    MongoSettings,
    ModelSettings,
    SessionSettings,
    GatewaySettings,
    WorkerSettings,
    BudgetSettings,
    LocalSettings,
)


def known_variables() -> list[str]:
    """Every variable that means something here."""
    return [PREFIX + name.upper() for group in GROUPS for name in group.model_fields]


def complaint(error: ValidationError) -> str:
    """What is wrong with which variable: one sentence, without the value, which may be a secret."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    said = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:
        return said
    name, *within = map(str, first["loc"])
    return ": ".join((PREFIX + name.upper(), *within, said))


def unknown_variables(environ: Mapping[str, str] | Iterable[str]) -> list[str]:
    """A sentence for each variable with our prefix that nobody reads, with the nearest known name."""
    known = known_variables()
    sentences = []
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            sentences.append(f"{name} is not a setting{hint}")
    return sentences
