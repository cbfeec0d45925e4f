"""A worker of few words for the gateway's tests: reads the twin's topics, writes the journal, answers by script.

It has the worker's order (journal, then frames) and none of its care. The text of a turn is its script:
`say a|b|c` answers with these deltas, `hold a|b` waits for `go` before each delta but the first, anything else is
echoed at once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from broker.memory import MemoryCluster, MemoryPublisher, MemoryTail
from broker.partition import partition_of
from broker.port import Outgoing, Record
from gateway.event import now_ms
from journal.loader import load
from journal.memory import MemoryStore
from journal.rows import row_of
from journal.state import State
from schemas.codec import ControlRecord, TurnRecord, decode_control, decode_turn, parse_reply_to, reply_to_of
from schemas.codes import MEANINGS, Code
from schemas.entries import Claim, Close, Entry, Finish, Open
from schemas.errors import Refusal
from schemas.frames import Ack, AckState, Cancelled, Completed, Delta, Frame, Refused, Started, encode
from schemas.history import HistoryItem
from schemas.ids import message_id, session_key
from schemas.parts import TextPart
from schemas.receipt import Receipt
from schemas.turn import digest


class StubWorker:
    """One partition of turns and of control. `go` lets a held turn say its next delta; `deaf`: it reads nothing."""

    def __init__(self, cluster: MemoryCluster, publisher: MemoryPublisher, store: MemoryStore) -> None:
        self._cluster = cluster
        self._publisher = publisher
        self._store = store
        self._nonce = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._running: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._cancelled: set[tuple[str, str]] = set()
        self._watchers: dict[str, set[str]] = defaultdict(set)
        self._gates: dict[tuple[str, str], asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(0))
        self.hearing = asyncio.Event()
        self.hearing.set()
        self.ran: list[str] = []
        self.controls: list[str] = []

    async def start(self) -> None:
        for topic, take in (("agent.turns", self._turn), ("agent.control", self._op)):
            tail = MemoryTail(self._cluster)
            await tail.start(topic, 0)
            self._tasks.append(asyncio.create_task(self._read(tail, take), name=f"stub {topic}"))

    async def stop(self) -> None:
        tasks = [*self._tasks, *self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def go(self, session: str, turn: str, times: int = 1) -> None:
        """Let a held turn go on."""
        for _ in range(times):
            self._gates[session, turn].release()

    async def _read(self, tail: MemoryTail, take: Callable[[Record], Awaitable[None]]) -> None:
        while True:
            records: Sequence[Record] = await tail.batch()
            for record in records:
                await self.hearing.wait()
                try:
                    await take(record)
                except Exception:
                    logging.getLogger("stub").exception("the stub failed")
                    raise

    async def _turn(self, record: Record) -> None:
        try:
            turn = decode_turn(record, "agent.turns")
        except Refusal as refusal:
            self._refuse(record, refusal.code, refusal.text)
            return
        s = session_key(turn.turn.tenant, turn.session)
        state = (await load(self._store, s)).state
        if state.opened is not None and state.opened.user != turn.turn.user:
            self._refuse(record, Code.NOT_FOUND, "there is no such session")
            return
        if turn.turn.agent == "nobody":
            self._refuse(record, Code.AGENT_UNKNOWN, "no such agent")
            return
        while any(key[0] == turn.session for key in self._running):
            await asyncio.wait([task for key, task in self._running.items() if key[0] == turn.session])
        state = (await load(self._store, s)).state
        ended = state.ended(turn.id)
        if ended is not None:
            if ended.digest != digest(turn.turn):
                self._refuse(record, Code.CONFLICT, "known with other content")
                return
            row = await self._store.journal.row(s, ended.version)
            assert row is not None
            self._publish(turn.session, row.frames[0].encode(), turn.reply_to)
            return
        await self._claim(s, state, turn)
        running = asyncio.create_task(self._run(s, turn), name=f"stub {turn.id}")
        self._running[turn.session, turn.id] = running
        running.add_done_callback(lambda _: self._running.pop((turn.session, turn.id), None))
        if not turn.turn.text.startswith("hold "):
            await running

    async def _claim(self, s: str, state: State, turn: TurnRecord) -> None:
        opens = None
        if state.opened is None:
            opens = Open(at_ms=now_ms(), user=turn.turn.user, agent="stub", agent_version="1")
        claim = Claim(
            at_ms=now_ms(), turn=turn.id, attempt=1, tries=1, worker="stub", user=turn.turn.user,
            position=turn.position, digest=digest(turn.turn), deadline_ms=now_ms() + 60_000, reply_to=turn.reply_to,
            input=turn.turn, opens=opens,
        )  # fmt: skip
        await self._append(s, state.version + 1, claim)
        self.ran.append(turn.id)

    async def _run(self, s: str, turn: TurnRecord) -> None:
        script, _, rest = turn.turn.text.partition(" ")
        pieces = rest.split("|") if script in {"say", "hold"} else [turn.turn.text]
        told = 0
        common: dict[str, Any] = {"session": turn.session, "turn": turn.id, "attempt": 1, "tenant": turn.turn.tenant}
        if script in {"say", "hold"}:
            self._frame(
                turn,
                Started(
                    **common, seq=0, at_ms=now_ms(), agent="stub", agent_version="1", worker="stub", journal_version=1
                ),
            )
            for number, piece in enumerate(pieces, 1):
                if script == "hold" and number > 1:
                    await self._gates[turn.session, turn.id].acquire()
                if (turn.session, turn.id) in self._cancelled:
                    break
                self._frame(
                    turn, Delta(**common, seq=number, at_ms=now_ms(), message=message_id(turn.id, 1), text=piece)
                )
                told = number
        text = "".join(pieces[: told or None]) if told else "".join(pieces)
        over: Frame
        if (turn.session, turn.id) in self._cancelled:
            over = Cancelled(**common, seq=told + 1, at_ms=now_ms(), by="user", text=text)
        else:
            item = answered(turn.id, text)
            over = Completed(**common, seq=told + 1, at_ms=now_ms(), text=text, messages=(item,))
        await self._finish(s, turn, over, text)

    async def _finish(self, s: str, turn: TurnRecord, over: Completed | Cancelled, text: str) -> None:
        state = (await load(self._store, s)).state
        item = answered(turn.id, text)
        raw = encode(over)
        receipt = Receipt(
            tenant=turn.turn.tenant, session=turn.session, turn=turn.id, user=turn.turn.user, agent="stub",
            outcome=over.type, attempt=1, at_ms=now_ms(),
        )  # fmt: skip
        finish = Finish(
            at_ms=now_ms(),
            turn=turn.id,
            attempt=1,
            outcome=over.type,
            history=(item,),
            frames=(raw.decode(),),
            receipt=receipt,
        )
        await self._append(s, state.version + 1, finish)
        self._frame(turn, over)
        self._watchers.pop(turn.session, None)

    async def _op(self, record: Record) -> None:
        op = decode_control(record, "agent.control")
        control = op.control
        self.controls.append(control.kind)
        s = session_key(control.tenant, op.session)
        state = (await load(self._store, s)).state
        foreign = state.opened is not None and state.opened.user != control.user
        if control.kind == "open":
            if state.opened is not None:
                self._ack(op, "refused" if foreign else "exists")
            elif control.agent == "nobody":
                self._ack(op, "refused")
            else:
                opened = Open(at_ms=now_ms(), user=control.user, agent=control.agent or "stub", agent_version="1")
                await self._append(s, state.version + 1, opened)
                self._ack(op, "applied")
        elif control.kind == "delete":
            await self._delete(s, op, state, foreign=foreign)
        elif control.kind == "watch":
            if op.reply_to is not None and not foreign:
                self._watchers[op.session].add(op.reply_to)
            self._ack(op, "unknown" if foreign else "applied")
        elif control.kind == "cancel":
            key = (op.session, control.turn)
            running = key in self._running
            self._cancelled.add(key)
            self.go(*key, times=20)
            self._ack(op, "applied" if running else "too_late" if state.ended(control.turn) else "held")
        else:
            self._ack(op, "refused")

    async def _delete(self, s: str, op: ControlRecord, state: State, *, foreign: bool) -> None:
        if state.opened is None or foreign:
            self._ack(op, "unknown")
            return
        await self._append(s, state.version + 1, Close(at_ms=now_ms(), reason="delete", op=op.control.op))
        await self._store.journal.unset(s, state.version + 1)
        self._ack(op, "applied")

    async def _append(self, s: str, version: int, entry: Entry) -> None:
        self._nonce += 1
        verdict = await self._store.journal.insert([row_of(s, version, entry, f"stub-{self._nonce}")])
        assert verdict[0].value == "applied", verdict

    def _frame(self, turn: TurnRecord, frame: Frame) -> None:
        for place in {turn.reply_to, *self._watchers[turn.session]}:
            self._publish(turn.session, encode(frame), place)

    def _ack(self, op: ControlRecord, state: AckState) -> None:
        turn = getattr(op.control, "turn", None)
        ack = Ack(
            op=op.control.op, session=op.session, state=state, at_ms=now_ms(), turn=turn, tenant=op.control.tenant
        )
        self._publish(op.session, encode(ack), op.reply_to)

    def _refuse(self, record: Record, code: Code, text: str) -> None:
        session = (record.key or b"").decode()
        turn = dict(record.headers).get("ce_id", b"t").decode()
        refused = Refused(
            session=session, turn=turn, at_ms=now_ms(), code=code, message=text, retry=MEANINGS[code].retry,
            partition=record.partition, offset=record.offset,
        )  # fmt: skip
        self._publish(session, encode(refused), reply_to_of(record.headers))

    def _publish(self, session: str, value: bytes, reply_to: str | None) -> None:
        headers: tuple[tuple[str, bytes], ...] = ()
        if reply_to is not None:
            partition, headers = parse_reply_to(reply_to)[0], (("reply_to", reply_to.encode()),)
        else:
            partition = partition_of(session.encode(), self._publisher.partition_count("agent.replies"))
        self._publisher.publish(Outgoing("agent.replies", session.encode(), value, partition, headers))


def answered(turn: str, text: str) -> HistoryItem:
    """The answer as it joins the history."""
    parts = (TextPart(text=text),)
    return HistoryItem(id=message_id(turn, 1), turn=turn, role="assistant", parts=parts, at_ms=now_ms())
