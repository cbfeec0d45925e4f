"""What is stored comes back as it was; codes, ids and settings say what they must."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from schemas.codes import MEANINGS, Code, problem_type
from schemas.dead_letter import DeadLetter
from schemas.entries import Claim, Close, Finish, Position, Settle, body_of, entry_of
from schemas.frames import FRAME, Completed, Failed, encode
from schemas.history import said
from schemas.ids import legal, message_id, mint, session_key, split_key
from schemas.receipt import Hops, Receipt
from schemas.settings import WorkerSettings, known_variables, unknown_variables
from schemas.snapshot import EndedTurn, Snapshot
from schemas.turn import Turn, TurnInput

PLACE = Position("agent.turns", 1, 2, 3)
CLAIM = Claim(
    at_ms=1,
    turn="t",
    attempt=1,
    tries=1,
    worker="w",
    user="u",
    position=PLACE,
    digest="d",
    deadline_ms=9,
    input=TurnInput(text="hi", metadata={"$a.b": 1}),
)
RECEIPT = Receipt("default", "s", "t", "u", "echo", "completed", 1, 5, Hops(queue_us=7))


@pytest.mark.parametrize(
    "entry",
    [
        CLAIM,
        Finish(
            at_ms=2,
            turn="t",
            attempt=1,
            outcome="completed",
            history=(said("t~1", turn="t", role="assistant", text="ü", at_ms=2),),
            receipt=RECEIPT,
            claim=CLAIM,
            frames=('{"a":1}',),
        ),
        Settle(at_ms=1, turn="t", user="u", outcome="failed", digest="d", offset=4, frames=("{}",)),
        Close(at_ms=1, reason="delete", op="o", ended=("t",), frames=("{}",)),
    ],
)
def test_an_entry_comes_back_from_its_body_and_frames(entry: Finish) -> None:
    body = body_of(entry)
    assert entry_of(entry.k, body, entry.frames if hasattr(entry, "frames") else ()) == entry
    assert "frames" not in body


def test_a_claim_keeps_only_what_a_turn_input_has() -> None:
    turn = Turn(text="hi", user="u", if_busy="reject", deadline_ms=1_900_000_000_000)
    body = body_of(CLAIM.model_copy(update={"input": turn}))
    found = entry_of("claim", body)
    assert isinstance(found, Claim)
    assert found.input == TurnInput(text="hi")


def test_entries_say_which_turn_they_introduce() -> None:
    assert CLAIM.introduces == "t"
    assert CLAIM.model_copy(update={"input": None}).introduces is None
    finish = Finish(at_ms=1, turn="x", attempt=1, outcome="completed", claim=CLAIM)
    assert finish.introduces == "t"


def test_a_snapshot_comes_back_with_its_tuples() -> None:
    snapshot = Snapshot(
        version=3,
        base=1,
        opened=None,
        turns=1,
        last_ms=5,
        chunks=0,
        items=(),
        over=(EndedTurn("t", "completed", 2, "d", 7),),
    )
    assert Snapshot.model_validate_json(snapshot.model_dump_json()) == snapshot


def test_frames_leave_out_what_says_nothing_and_come_back() -> None:
    frame = Completed(session="s", turn="t", attempt=1, seq=2, at_ms=3, text="ü")
    raw = encode(frame)
    assert b"null" not in raw
    assert FRAME.validate_json(raw) == frame
    failed = Failed(session="s", turn="t", attempt=1, seq=2, at_ms=3, code=Code.BUSY, message="m", retry="new_turn")
    assert FRAME.validate_json(encode(failed)) == failed


def test_readers_ignore_unknown_fields() -> None:
    assert Turn.model_validate_json('{"text":"x","from the future":1}').text == "x"


def test_models_are_frozen_and_strict() -> None:
    with pytest.raises(ValidationError):
        CLAIM.turn = "other"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        Turn.model_validate_json('{"text":"x","deadline_ms":"1900000000000"}')


def test_every_code_has_a_meaning_and_a_type() -> None:
    assert set(MEANINGS) == set(Code)
    assert len({problem_type(code) for code in Code}) == len(Code)


def test_ids_are_legal_and_keys_split_again() -> None:
    assert legal(mint())
    assert split_key(session_key("acme", "s:1")) == ("acme", "s:1")
    assert message_id("t", 2) == "t~2"


def test_a_dead_letters_headers_come_back() -> None:
    letter = DeadLetter(code=Code.TOO_LARGE, reason="ü" * 2_000, topic="agent.turns", partition=1, offset=2, attempts=3)
    found = DeadLetter.from_headers(dict(letter.headers()))
    assert (found.code, found.offset, found.attempts) == (Code.TOO_LARGE, 2, 3)
    assert len(dict(letter.headers())["dl_reason"]) <= 1_024


def test_an_unknown_variable_is_named_with_its_nearest_neighbour() -> None:
    (sentence,) = unknown_variables({"FLEET_WORKER_SLOT": "1", "FLEET_WORKER_SLOTS": "1", "OTHER": "x"})
    assert sentence == "FLEET_WORKER_SLOT is not a setting; did you mean FLEET_WORKER_SLOTS?"
    assert unknown_variables(dict.fromkeys(known_variables(), "")) == []


def test_agents_are_a_comma_separated_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEET_AGENTS", "a.b:c, d:e ,")
    assert WorkerSettings().agents == ("a.b:c", "d:e")
