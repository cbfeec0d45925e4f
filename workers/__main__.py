"""`python -m workers`: settings -> adapters -> worker -> run. The only place where a worker is put together.

SIGTERM and SIGINT drain, a second one hands over at once; see `workers.drain`.
Exit status: 0 drained, 1 could not start, lost something that does not pass (the reason is one sentence on stderr), or
could not be ended within the grace period, 3 its loop was blocked, by SIGPROF where that let no thread run any more:
see `workers.watchdog`.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import logging
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable

import uvloop
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from broker.kafka_admin import KafkaAdmin
from broker.kafka_consumer import KafkaGroupConsumer
from broker.kafka_publisher import KafkaPublisher
from broker.port import BrokerUnavailable
from broker.topics import TopicsMismatch, require_topics
from journal.mongo import MongoStore
from journal.port import StoreMismatch, StoreUnavailable
from schemas.settings import (
    BudgetSettings,
    KafkaSettings,
    ModelSettings,
    MongoSettings,
    SessionSettings,
    WorkerSettings,
    complaint,
    unknown_variables,
)
from schemas.topics import Topics, load_topics
from workers.agent import RegistrationError
from workers.builder import Builder
from workers.children import Children
from workers.contained import contain
from workers.executor import Executor
from workers.health import CannotListen, HealthServer, health_app
from workers.ledger.allowance import caps_of
from workers.ledger.bank import Bank
from workers.ledger.prices import Prices, PricesRefused
from workers.logs import TurnLog, configure
from workers.mcp.config import load
from workers.mcp.host import McpHost
from workers.memory import BudgetTooSmall
from workers.metrics import WorkerMetrics
from workers.models.openai_compatible import OpenAICompatibleModel
from workers.models.port import Model, ModelMisconfigured
from workers.models.retry import ModelCaller
from workers.models.router import RoutedModel
from workers.outbox import Outbox
from workers.partition import CONTROL, TURNS
from workers.readiness import Readiness
from workers.recreated import wake_what_lost_its_record
from workers.registry import Registry
from workers.services import Services
from workers.system import Parts
from workers.watchdog import Limits, Watchdog
from workers.worker import Worker

REFUSED = (
    BudgetTooSmall,
    BrokerUnavailable,
    StoreMismatch,
    StoreUnavailable,
    TopicsMismatch,
    RegistrationError,
    ModelMisconfigured,
    CannotListen,
    PricesRefused,
)
_log = logging.getLogger("fleet.worker")
_STRAYS_S = 1.0  # agents that do not stop may hold up the end of the process so long; all that counts is written
_SWITCH_S = 0.001  # the consumer's thread hands records over; 5 ms would be a hop's worth of latency under load


def now_ms() -> int:
    """The wall clock in epoch milliseconds."""
    return time.time_ns() // 1_000_000


async def run() -> int:
    """Put a worker together and run it until SIGTERM, SIGINT or something that does not pass."""
    settings = WorkerSettings()
    _speak_up(settings)
    registry, builder = Registry.load(settings.agents, settings.agent, rollout=settings.agent_rollout), Builder()
    prices = Prices.load(settings.prices)
    kafka, sessions = KafkaSettings(), SessionSettings()
    loop = asyncio.get_running_loop()
    contain(loop)
    topics = check_retention(load_topics(kafka.topics_file), sessions.session_keep_keys_s)
    store, publisher, admin = MongoStore(MongoSettings()), KafkaPublisher(kafka, topics.names), KafkaAdmin(kafka)
    await asyncio.gather(require_topics(admin, topics), store.start())
    await _check_topics(store, admin, topics)
    await publisher.start()
    model = _model(ModelSettings(), registry)
    children = Children(settings.worker_processes, settings.worker_process_bytes)
    mcp = McpHost(load(settings.mcp), store.pins, children, clock_ms=now_ms)
    name = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    consumer = KafkaGroupConsumer(kafka, "workers", (TURNS, CONTROL), client_id=_client_id(settings))

    def failed(error: BaseException) -> None:
        worker.failed(error)

    def count(metric: str, label: str) -> None:
        worker.system.metrics.count(metric, label)

    services = _services(store, model, children, mcp, prices, count)
    worker = Worker(
        Parts(
            store=store,
            consumer=consumer,
            outbox=Outbox(publisher, call_later=loop.call_later),
            registry=registry,
            builder=builder,
            executor=Executor(services, call_later=loop.call_later, fatal=failed),
            turn_log=TurnLog(enabled=settings.log_level in {"debug", "info"}, call_later=loop.call_later),
            clock_ms=now_ms,
            clock_s=loop.time,
            call_later=loop.call_later,
        ),
        publisher,
        name=name,
        settings=settings,
        sessions=sessions,
    )
    _count(worker.system.metrics, children, mcp, builder)
    metrics = CollectorRegistry()
    metrics.register(worker.system.metrics)
    readiness = Readiness(worker, admin, topics)
    health = HealthServer(health_app(metrics, readiness.reasons), settings.worker_host, settings.worker_port)
    health.listen()  # before the group knows of us: a port that is taken should cost nobody a rebalance
    worker.memory.require_room()
    _heed(loop, worker)
    watchdog = Watchdog(
        Limits.of(settings, kafka), leave=consumer.leave, count=lambda: worker.system.metrics.count("stalls")
    )
    await builder.warm_up(registry)
    await worker.start()
    _calm()
    watchdog.start()
    mcp.warm_up()
    serving = (
        asyncio.create_task(health.serve(), name="health"),
        asyncio.create_task(readiness.watch(worker.stopping), name="readiness"),
    )
    _log.info("worker started", extra={"worker": name})
    await worker.stopping.wait()
    _be_gone(settings.worker_grace_s, status=1)
    await worker.drain()
    await health.stop()
    await asyncio.gather(*serving, return_exceptions=True)
    await _close(mcp, children, model, admin)
    watchdog.stop()
    _log.info("worker ended", extra={"worker": name})
    status = 1 if worker.error is not None else 0
    _be_gone(_STRAYS_S, status=status)
    return status


def _client_id(settings: WorkerSettings) -> str:
    return f"turnfleet-worker-{settings.worker_name}" if settings.worker_name else ""


def _heed(loop: asyncio.AbstractEventLoop, worker: Worker) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, worker.stop)


def _speak_up(settings: WorkerSettings) -> None:
    configure(settings.log_format, settings.log_level)
    for sentence in unknown_variables(os.environ):
        _log.warning(sentence)


async def _close(mcp: McpHost, children: Children, model: Model, admin: KafkaAdmin) -> None:
    await mcp.close()
    await children.close()
    await model.close()
    await admin.stop()


def _services(
    store: MongoStore,
    model: Model,
    children: Children,
    mcp: McpHost,
    prices: Prices,
    count: Callable[[str, str], None],
) -> Services:
    return Services(
        models=ModelCaller(model, ModelSettings()),
        clock_ms=now_ms,
        children=children,
        profiles=store.profiles,
        count=count,
        prices=prices,
        tools=mcp,
        bank=_bank(store),
    )


def _count(metrics: WorkerMetrics, children: Children, mcp: McpHost, builder: Builder) -> None:
    """What happens beside the turns' own parts is counted as well."""

    def built(agent: str, us: int) -> None:
        metrics.count("builds", agent)
        metrics.count("build_seconds", agent, us / 1_000_000)

    builder.built = built
    children.tell = lambda outcome: metrics.count("computes", outcome)
    mcp.tell = lambda what, server, outcome: metrics.count(what, (server, outcome))
    metrics.gauge("mcp_leases", lambda: mcp.open_leases)


def _bank(store: MongoStore) -> Bank:
    """Budgets as the settings say."""
    settings = BudgetSettings()
    return Bank(store.budgets, caps_of(settings), clock_ms=now_ms, output_tokens=settings.budget_output_tokens)


def _model(settings: ModelSettings, registry: Registry) -> RoutedModel:
    """All providers that the settings and the agents name."""
    model = RoutedModel(OpenAICompatibleModel(settings), settings)
    model.require([settings.model, *(name for spec in registry for name in (spec.model or "", *spec.fallbacks))])
    return model


def _be_gone(after_s: float, *, status: int) -> None:
    """Whatever still runs then: a loop that somebody blocks, an agent that swallows its cancellation, a thread."""
    timer = threading.Timer(after_s, os._exit, (status,))
    timer.daemon = True
    timer.start()


def _calm() -> None:
    """Warm sessions are many small objects that live long: looking at all of them for every 700 new ones costs half of
    the worker's time. What is there now stays for ever; the rest is looked at rarely."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    sys.setswitchinterval(_SWITCH_S)


def check_retention(topics: Topics, keep_s: int) -> Topics:
    """`topics`; a record that outlives the keys of its session would run again. Raises TopicsMismatch."""
    for topic in map(topics.named, (TURNS, CONTROL)):
        if topic.retention_s > keep_s:
            raise TopicsMismatch(
                f"{topic.name} keeps records for {topic.retention_s:.0f} s, FLEET_SESSION_KEEP_KEYS_S is {keep_s}: a "
                "turn that comes again would run again; raise the one, or lower retention.ms in topics.yaml"
            )
    return topics


async def _check_topics(store: MongoStore, admin: KafkaAdmin, topics: Topics) -> None:
    """The number of partitions of a stream that carries sessions is fixed for its life: refuse another one. A stream
    that was created anew: see to the turns whose records are gone."""
    for topic in topics.topics:
        recorded = await store.recorded(f"partitions:{topic.name}", str(topic.partitions))
        if topic.sessions and recorded != str(topic.partitions):
            raise TopicsMismatch(
                f"{topic.name} had {recorded} partitions when this database was first used, now {topic.partitions}: "
                "sessions would move; give topics.yaml the old number, or use a new database"
            )
    await wake_what_lost_its_record(store, await admin.describe((TURNS, CONTROL)), now_ms())


def main() -> int:
    """Run; refusals are one sentence, not a traceback."""
    faulthandler.enable()  # an agent's crash in foreign code leaves its stack
    try:
        return uvloop.run(run())
    except ValidationError as error:
        print(f"{complaint(error)}; docs/settings.md lists them", file=sys.stderr)
    except REFUSED as error:
        print(str(error), file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
