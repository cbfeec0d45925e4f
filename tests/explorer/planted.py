"""Planted bugs: each is a patch of the code that ships, or of the driver around it, and a scope in which it shows.

B: of the journal protocol's list; J: a sentence of design §4 left out; M: a bug of the machine that is mended;
S: one that nobody made yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

from journal.fold import fold
from schemas.entries import Finish, Step
from tests.explorer.driver import NOTHING, Driver
from tests.explorer.moves import Moves
from tests.explorer.scope import Scope
from tests.explorer.store import FREED, Store
from tests.support.planted import a_strangers_turn_begins, marked_at_the_claim, marked_on_a_collision
from workers import endings
from workers.admission import Admission
from workers.commands import Commands
from workers.effects import Acknowledge, Append, Publish
from workers.holdings import Holdings
from workers.lifecycle import Lifecycle
from workers.session import Session
from workers.suspended import Suspended


class Planted(NamedTuple):
    """`says`: words of the verdict that it must lead to."""

    plant: Callable[[], AbstractContextManager[Any]]
    scope: Scope
    says: str


def keys_freed_at_a_close() -> Any:
    def freed(self: Moves, journal: Any, version: int) -> Any:
        return (FREED,) * (version - 1) + journal[version - 1 :]

    return patch.object(Moves, "unset", freed)


def dropped_by_its_offset() -> Any:
    admit = Admission._admit

    def dropped(self: Admission, mail: Any, trigger: Any, state: Any, out: list[Any], now_ms: int) -> None:
        if state.open is not None and mail.record.position.offset <= state.open.position.offset:
            out.append(Acknowledge(trigger))
        else:
            admit(self, mail, trigger, state, out, now_ms)

    return patch.object(Admission, "_admit", dropped)


def nothing_published_again() -> Any:
    return patch.object(Store, "frame", lambda *_: None)


def collision_ignored() -> Any:
    insert = Store.insert

    def ignored(self: Store, journal: Any, version: int, row: int) -> Any:
        verdict, journal = insert(self, journal, version, row)
        return ("applied" if verdict == "collided" else verdict), journal

    return patch.object(Store, "insert", ignored)


def published_by_a_loser() -> Any:
    collided = Session.collided

    def published(self: Session, state: Any, now_ms: int) -> Any:
        entry = self.asked.entry if isinstance(self.asked, Append) else None
        orders = collided(self, state, now_ms)
        return (
            [Publish(entry.turn, entry.frames[0], frozenset((None,))), *orders] if isinstance(entry, Finish) else orders
        )

    return patch.object(Session, "collided", published)


def no_proof_of_membership() -> Any:
    return patch.object(Moves, "proves", lambda *_: True)


@contextmanager
def two_appends_in_flight() -> Iterator[None]:
    step, ended = Driver._step, Session.ended

    def at_once(self: Driver, bench: Any) -> Any:
        orders = step(self, bench)
        bench.agent.step, bench.agent.waits = bench.agent.step + 1, False
        return orders

    def overtaking(self: Session, result: Any, now_ms: int) -> Any:
        first = self.asked
        if not isinstance(first, Append) or not isinstance(first.entry, Step) or self.state is None:
            return ended(self, result, now_ms)
        self.state, self.asked = fold(self.state, first.version, first.entry), None
        return [first, *ended(self, result, now_ms)]

    with patch.object(Session, "ended", overtaking), patch.object(Driver, "_step", at_once):
        yield


def marked_where_it_runs() -> Any:
    admit = Admission._admit

    def marked(self: Admission, mail: Any, trigger: Any, state: Any, out: list[Any], now_ms: int) -> None:
        if self.running == mail.id:
            out.append(Acknowledge(trigger))
        else:
            admit(self, mail, trigger, state, out, now_ms)

    return patch.object(Admission, "_admit", marked)


def one_session_given_up() -> Any:
    def kept(self: Moves, world: Any, worker: int) -> Any:
        return world.seated(worker, bench=NOTHING)

    return patch.object(Moves, "give_up", kept)


def a_second_op_publishes_nothing() -> Any:
    obeyed = Commands._obeyed_before

    def answered(self: Commands, op: Any, state: Any, out: list[Any], now_ms: int) -> bool:
        seen = state.seen(op.record.control.op)
        if state.ended(seen.turn) is None:
            return obeyed(self, op, state, out, now_ms)
        self._reply(op, "applied", seen.turn, out, now_ms)
        return True

    return patch.object(Commands, "_obeyed_before", answered)


def denied_without_a_look() -> Any:
    deny = Commands._deny

    def denied(self: Commands, *rest: Any) -> bool:
        self._fresh = True
        return deny(self, *rest)

    return patch.object(Commands, "_deny", denied)


def read_before_the_op_came() -> Any:
    loaded = Session.loaded

    def fresh(self: Session, state: Any, now_ms: int) -> Any:
        self._late = False
        return loaded(self, state, now_ms)

    return patch.object(Session, "loaded", fresh)


def closed_before_the_frames_are_out() -> Any:
    close = Commands._close

    def closed(self: Commands, *rest: Any) -> bool:
        publishing, self._publishing = self._publishing, {}
        with patch.object(Holdings, "_republish_unseen"):
            result = close(self, *rest)
        self._publishing = publishing
        return result

    return patch.object(Commands, "_close", closed)


def unset_by_nobody_after_a_crash() -> Any:
    loaded = Session.loaded

    def wiped(self: Session, state: Any, now_ms: int) -> Any:
        return loaded(self, state._replace(wiped=True), now_ms)

    return patch.object(Session, "loaded", wiped)


def a_known_turn_is_a_collision() -> Any:
    insert = Store.insert

    def collided(self: Store, journal: Any, version: int, row: int) -> Any:
        verdict, journal = insert(self, journal, version, row)
        return ("collided" if verdict == "known" else verdict), journal

    return patch.object(Store, "insert", collided)


def taken_over_without_a_proof() -> Any:
    take_over = Lifecycle._take_over

    def unproved(self: Lifecycle, *rest: Any) -> bool:
        self._proof = True
        return take_over(self, *rest)

    return patch.object(Lifecycle, "_take_over", unproved)


def a_settled_cancel_is_forgotten() -> Any:
    def forgotten(self: Holdings, turn: str, op: Any, out: list[Any], now_ms: int) -> None:
        self._republish(turn, out)

    return patch.object(Holdings, "_over_before", forgotten)


def what_ended_elsewhere_still_waits() -> Any:
    return patch.object(Session, "_known_elsewhere")


def known_is_over() -> Any:
    found = Session.found

    def at_once(self: Session, turn: str, known: bool, now_ms: int) -> Any:
        self._indexed = turn
        return found(self, turn, known, now_ms)

    return patch.object(Session, "found", at_once)


def a_dead_owners_frames_are_not_waited_for() -> Any:
    again = Holdings._republish

    def republish(self: Holdings, *rest: Any) -> None:
        again(self, *rest)
        self._repeats.clear()

    return patch.object(Holdings, "_republish", republish)


def a_take_over_waits_for_no_frames() -> Any:
    shown = Session._all_shown

    def shown_to_commands(self: Session, state: Any, out: list[Any]) -> bool:
        return shown(self, state, out) if self._ops else True

    return patch.object(Session, "_all_shown", shown_to_commands)


def a_stranger_cancels_what_waits() -> Any:
    cancel = Commands._cancel

    def found(self: Commands, op: Any, state: Any, out: list[Any], now_ms: int) -> bool:
        control = op.record.control
        users = {mail.id: mail.user for mail in self.mail}
        as_owner = control.model_copy(update={"user": users.get(control.turn, control.user)})
        self._ops[0] = op._replace(record=op.record._replace(control=as_owner))
        return cancel(self, self._ops[0], state, out, now_ms)

    return patch.object(Commands, "_cancel", found)


def what_joined_is_forgotten_at_the_end() -> Any:
    finish = endings.finish

    def alone(*args: Any, **kwargs: Any) -> Finish:
        entry = finish(*args, **kwargs)
        return entry.model_copy(update={"joined": (), "frames": entry.frames[:1]})

    return patch.object(endings, "finish", alone)


def no_slot_is_given_back() -> Any:
    return patch.object(Holdings, "_give_slot_back")


def timers_deleted_before_their_work_is_published() -> Any:
    """When the turn goes on, as if that were all that a timer is for."""
    decided = Suspended._after_decision

    def at_once(self: Suspended, entry: Any, state: Any, out: list[Any], now_ms: int) -> None:
        decided(self, entry, state, out, now_ms)
        for _, left, _ in self._chains:
            left.clear()
        self._unchain((), out)

    return patch.object(Suspended, "_after_decision", at_once)


def marked_though_others_are_parked_behind_it() -> Any:
    chain = Holdings._chain

    def alone(self: Holdings, trigger: Any, state: Any, *rest: Any) -> None:
        chain(self, trigger, state._replace(parked=()), *rest)

    return patch.object(Holdings, "_chain", alone)


def the_question_is_not_asked_again() -> Any:
    waits = Lifecycle._wait_for_decision

    def silent(self: Lifecycle, turn: Any, asked: Any, state: Any, out: list[Any], now_ms: int) -> bool:
        if not self._requesting and not self.running and self._armed is None:
            self._requested |= {(turn.turn, asked.call)}
        return waits(self, turn, asked, state, out, now_ms)

    return patch.object(Lifecycle, "_wait_for_decision", silent)


def no_timer_for_a_question() -> Any:
    return patch.object(Lifecycle, "_arm_first", lambda *_: False)


def the_timer_of_this_question_is_freed_by_it() -> Any:
    return patch.object(Holdings, "_wake_again")


def frames_of_resumed_turns_wait_for_their_records() -> Any:
    def alone(self: Holdings, turn: str, out: list[Any], to: Any = None) -> None:
        self._republish_one(turn, out, to)

    return patch.object(Holdings, "_republish", alone)


def nothing_is_held_back_in_quarantine() -> Any:
    def begins(self: Lifecycle, held: Any, state: Any, out: list[Any], now_ms: int) -> bool:
        if state.parked:
            return self._begin_parked(state.parked[0], state, out, now_ms)
        return self._begin(self.mail[0], state, out, now_ms) if self.mail else False

    return patch.object(Lifecycle, "_wait_in_quarantine", begins)


def a_resumed_turn_sees_what_ended_meanwhile() -> Any:
    return patch("journal.fold._seeing", lambda now, state: now)


def its_frame_goes_out_before_those_of_earlier_ends() -> Any:
    def alone(self: Holdings, turn: str, out: list[Any], to: Any = None) -> None:
        self._republish_one(turn, out, to)

    return patch.object(Holdings, "_republish", alone)


def what_waits_begins_before_what_was_decided_on() -> Any:
    turn = Session._next_turn

    def new(self: Session, state: Any, out: list[Any], now_ms: int) -> bool:
        if state.aside and state.open is None and self.mail:
            return self._next_new(state, out, now_ms)
        return turn(self, state, out, now_ms)

    return patch.object(Session, "_next_turn", new)


def a_decision_on_what_stands_aside_is_marked_at_once() -> Any:
    chain = Holdings._chain

    def alone(self: Holdings, trigger: Any, state: Any, *rest: Any) -> None:
        chain(self, trigger, state._replace(aside=()), *rest)

    return patch.object(Holdings, "_chain", alone)


_ASIDE = Scope(("T1 ask", "T2"), ("approve T1",), aside=True)
_ZOMBIE = Scope(("T1",), faults={"rebalance": 1})
_CRASH = Scope(("T1",), faults={"crash": 1})
_DELETE = Scope(("T1",), ("delete",), faults={"rebalance": 1})
_FORGOTTEN = Scope(("T1", "T2"), ("cancel T1",), faults={"crash": 1}, remembers=1)
_DELETE_CRASH = Scope(("T1",), ("delete",), faults={"crash": 1})

PLANTED = {
    "B1": Planted(keys_freed_at_a_close, _DELETE, "never published"),
    "B2": Planted(marked_on_a_collision, Scope(("T1",), faults={"rebalance": 2}), "is committed and T1 has no outcome"),
    "B3": Planted(dropped_by_its_offset, Scope(("T1", "T2"), faults={"crash": 1}), "is committed and"),
    "B4": Planted(nothing_published_again, _CRASH, "never published"),
    "B5": Planted(collision_ignored, _ZOMBIE, "the journal has no outcome"),
    "B5b": Planted(published_by_a_loser, Scope(("T1",), faults={"rebalance": 2}), "a terminal frame of T1"),
    "B7": Planted(no_proof_of_membership, _ZOMBIE, "after 1 faults"),
    "B8": Planted(two_appends_in_flight, Scope(("T1",), steps=1), "there is no version 2"),
    "B10": Planted(marked_at_the_claim, Scope(("T1",)), "is committed and T1 has no outcome"),
    "B6": Planted(
        timers_deleted_before_their_work_is_published, Scope(("T1 ask",), faults={"crash": 1}), "nothing more happens"
    ),
    "J1": Planted(marked_where_it_runs, Scope(("T1", "T2"), faults={"keep": 1}), "is committed and"),
    "J2": Planted(one_session_given_up, Scope(("T1",), faults={"crash": 1, "coordinator": 1}), "nothing more happens"),
    "J3": Planted(
        marked_though_others_are_parked_behind_it, Scope(("T1 ask", "T2"), faults={"crash": 1}), "nothing more happens"
    ),
    "J4": Planted(
        a_second_op_publishes_nothing, Scope(("T1",), ("cancel T1",), faults={"crash": 1}), "never published"
    ),
    "J5": Planted(denied_without_a_look, _DELETE, "delete is answered unknown"),
    "J5b": Planted(read_before_the_op_came, _DELETE, "delete is answered unknown"),
    "J6": Planted(closed_before_the_frames_are_out, _DELETE_CRASH, "never published"),
    "J7": Planted(unset_by_nobody_after_a_crash, _DELETE_CRASH, "content is left"),
    "J8": Planted(the_question_is_not_asked_again, Scope(("T1 ask",), faults={"crash": 1}), "is committed and"),
    "J9": Planted(a_known_turn_is_a_collision, Scope(("T1", "T2", "T1"), remembers=1), "for ever"),
    "J10": Planted(the_timer_of_this_question_is_freed_by_it, Scope(("T1 ask",), faults={"crash": 1}), "is committed"),
    "J10b": Planted(no_timer_for_a_question, Scope(("T1 ask",)), "is committed and T1 has no outcome"),
    "J12": Planted(taken_over_without_a_proof, _ZOMBIE, "tries after 1 faults"),
    "M1": Planted(a_settled_cancel_is_forgotten, _FORGOTTEN, "nothing more happens"),
    "M2": Planted(what_ended_elsewhere_still_waits, Scope(("T1", "T2"), faults={"rebalance": 1}), "goes out before"),
    "M3": Planted(known_is_over, Scope(("T1", "T2"), ("cancel T2",), faults={"rebalance": 1}), "too_late"),
    "M4": Planted(a_dead_owners_frames_are_not_waited_for, Scope(("T1", "T2"), faults={"crash": 1}), "goes out before"),
    "M5": Planted(a_take_over_waits_for_no_frames, Scope(("T1", "T2", "T3"), faults={"crash": 1}), "goes out before"),
    "M8": Planted(
        frames_of_resumed_turns_wait_for_their_records, Scope(("T1 ask", "T2"), faults={"crash": 1}), "goes out before"
    ),
    "M6": Planted(a_strangers_turn_begins, Scope(("T1", "T2 foreign")), "of a stranger is claimed"),
    "M7": Planted(a_stranger_cancels_what_waits, Scope(("T1",), ("cancel T1 foreign",)), "by a stranger's cancel"),
    "S3": Planted(
        nothing_is_held_back_in_quarantine,
        Scope(("T1", "T2", "T3"), ("release T1 T3",), faults={"crash": 1}, tries=1, waits=True),
        "is completed after",
    ),
    "S4": Planted(a_resumed_turn_sees_what_ended_meanwhile, _ASIDE, "sees another history than its first one"),
    "S5": Planted(
        its_frame_goes_out_before_those_of_earlier_ends,
        Scope(("T1 ask", "T2"), faults={"crash": 1}, aside=True),
        "goes out before that of T2",
    ),
    "S6": Planted(
        what_waits_begins_before_what_was_decided_on,
        Scope(("T1 ask", "T2", "T3"), aside=True, merge=False),
        "begins before T1",
    ),
    "S7": Planted(a_decision_on_what_stands_aside_is_marked_at_once, _ASIDE, "is committed and T1 has no outcome"),
    "S1": Planted(no_slot_is_given_back, Scope(("T1",)), "a slot is held"),
    "S2": Planted(what_joined_is_forgotten_at_the_end, Scope(("T1", "T2 steer")), "nothing more happens"),
}
