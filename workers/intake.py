"""Records in: decoded, checked against the registry, put to their session. Never waits for anything.

From a record to the agent's `run`: `received` -> `Actor.turn` -> `Executor.start` -> `run`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from broker.partition import partition_of
from broker.port import Record
from schemas.codec import ControlRecord, decode_control, decode_turn
from schemas.codes import Code
from schemas.errors import Refusal
from schemas.ids import session_key
from schemas.limits import Limits
from schemas.turn import Turn, digest
from workers.effects import Mail, Op, Trigger
from workers.partition import CONTROL, TURNS, Partition
from workers.system import ActorSystem

_log = logging.getLogger("fleet.worker")


class Intake:
    """`partitions`: of `agent.turns` on the cluster; `timeout_ms`: deadline of a turn that brings none."""

    def __init__(
        self,
        system: ActorSystem,
        *,
        partitions: int,
        timeout_ms: int,
        limits: Limits,
    ) -> None:
        self._system = system
        self._count = partitions
        self._timeout_ms = timeout_ms
        self._limits = limits
        self._turns_topic = system.consumer.name(TURNS)

    def received(self, generation: int, records: Sequence[Record]) -> None:
        """Records of one poll, in offset order by partition."""
        partitions, turns = self._system.partitions, self._turns_topic
        for record in records:
            partition = partitions.get(record.partition)
            if partition is None or partition.generation != generation:
                continue
            stream = TURNS if record.topic == turns else CONTROL
            if partition.marks[stream].received(record.offset):
                self._take(record, stream, partition)
            else:
                self._system.metrics.count("duplicates")

    def _take(self, record: Record, stream: str, partition: Partition) -> None:
        mark = partition.settle[stream]
        try:
            if stream == TURNS:
                self._turn(record, partition, mark)
            else:
                self._control(record, partition, mark)
        except Refusal as refusal:
            self._refuse(record, stream, refusal, mark)
        except Exception:  # noqa: BLE001 (a record may never end the worker, whatever is in it)
            _log.exception("a record could not be taken: %s/%d@%d", stream, record.partition, record.offset)
            self._refuse(record, stream, Refusal(Code.INTERNAL, "the decoder failed; the log has it"), mark)

    def _turn(self, record: Record, partition: Partition, mark: Callable[[int], None]) -> None:
        decoded = decode_turn(record, TURNS, self._limits)
        if partition_of(record.key or b"", self._count) != record.partition:
            return self._move(record, TURNS, mark)
        turn = decoded.turn
        if turn.agent is not None or turn.options or turn.tools or turn.if_busy is not None:
            self._check(turn)
        deadline_ms = turn.deadline_ms or decoded.position.timestamp_ms + self._timeout_ms
        mail = Mail(decoded, digest(turn), deadline_ms)
        trigger = Trigger(record, decoded.reply_to, mark)
        self._system.actor(session_key(turn.tenant, decoded.session), partition).turn(mail, trigger)
        return None

    def _check(self, turn: Turn) -> None:
        """What can be refused without knowing the session."""
        if turn.options or turn.tools or (turn.agent is not None and turn.agent not in self._system.registry):
            self._system.registry.get(turn.agent).check(turn)

    def _control(self, record: Record, partition: Partition, mark: Callable[[int], None]) -> None:
        decoded: ControlRecord = decode_control(record, CONTROL, self._limits)
        if partition_of(record.key or b"", self._count) != record.partition:
            return self._move(record, CONTROL, mark)
        self._system.metrics.count("controls", decoded.control.kind)
        trigger = Trigger(record, decoded.reply_to, mark)
        key = session_key(decoded.control.tenant, decoded.session)
        self._system.actor(key, partition).control(Op(decoded, trigger))
        return None

    def _move(self, record: Record, stream: str, mark: Callable[[int], None]) -> None:
        """A producer hashed the key in another way: the record goes to the right partition and works."""
        self._system.metrics.count("moved")
        self._system.outbox.move(record, stream, lambda: mark(record.offset))

    def _refuse(self, record: Record, stream: str, refusal: Refusal, mark: Callable[[int], None]) -> None:
        self._system.metrics.count("refused", refusal.code.value)
        self._system.outbox.refuse(
            record, stream, refusal.code, refusal.text, lambda: mark(record.offset), self._system.clock_ms()
        )
