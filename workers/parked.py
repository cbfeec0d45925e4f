"""A turn that waits behind a suspended one: into the journal and back. Pure; decides nothing."""

from __future__ import annotations

from schemas.codec import TurnRecord
from schemas.entries import Park
from schemas.ids import split_key
from schemas.turn import turn_of
from workers.effects import Mail


def park(mail: Mail, now_ms: int) -> Park:
    """The PARK of a turn that waits in the mailbox."""
    record = mail.record
    return Park(
        at_ms=now_ms,
        turn=mail.id,
        user=mail.user,
        position=record.position,
        digest=mail.digest,
        deadline_ms=mail.deadline_ms,
        reply_to=record.reply_to,
        traceparent=record.traceparent,
        input=record.turn,
    )


def parked_mail(key: str, parked: Park) -> Mail:
    """The turn as it waited in the mailbox."""
    tenant, session = split_key(key)
    turn = turn_of(parked.input, turn=parked.turn, tenant=tenant, user=parked.user)
    record = TurnRecord(session, turn, parked.turn, parked.position, parked.reply_to, parked.traceparent)
    return Mail(record, parked.digest, parked.deadline_ms)
