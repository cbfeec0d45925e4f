"""A corpus of poison, and what must become of it."""

from __future__ import annotations

import orjson

from loadtest.dead_letters import Letter
from loadtest.poisons import DEADLY, HARMLESS, Fates, Plan, Poison, corpus

PLAN = Plan("r0", 10, 3.0, 1_000_000)


def poisons(kinds: str = "harmless") -> list[Poison]:
    chosen = DEADLY if kinds == "deadly" else HARMLESS
    return list(corpus(PLAN._replace(run=kinds), chosen, [float(number) for number in range(len(chosen))], seed=1))


def letter(poison: Poison, *, attempts: int = 0, code: str = "") -> Letter:
    return Letter(poison.value, code or poison.letter, attempts, 1)


def test_each_kind_comes_once_at_its_time_and_the_same_seed_gives_the_same_corpus() -> None:
    found = poisons()
    assert [poison.kind for poison in found] == list(HARMLESS)
    assert [poison.due_s for poison in found] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    assert found == poisons()
    assert len({poison.value for poison in found}) == len(found), "its letter is known by its bytes"
    assert max(len(poison.value) for poison in found) <= 1_048_576 - 200, "a broker takes it"
    hangs = orjson.loads(next(poison for poison in found if poison.kind == "hangs").value)
    assert hangs["deadline_ms"] == PLAN.now_ms + 4_000 + 3_000


def test_poison_that_ended_as_it_must_is_no_fault() -> None:
    sent, fates = [*poisons(), *poisons("deadly")], Fates()
    assert fates.outstanding(sent) == sum(bool(poison.code) for poison in sent)
    for poison in sent:
        if poison.code:
            fates.heard(
                {"type": "failed", "turn": poison.turn, "code": poison.code, "attempt": 4 if poison.letter else 1}, 0.0
            )
    letters = [letter(poison, attempts=3) for poison in sent if poison.letter]
    assert fates.outstanding(sent) == 0
    assert fates.faults(sent, letters) == []


def test_a_letter_too_many_or_too_few_another_end_and_a_fourth_try_are_faults() -> None:
    sent, fates = poisons("deadly"), Fates()
    fates.heard({"type": "completed", "turn": sent[0].turn, "attempt": 4}, 0.0)
    (missing, ended, tried, unended) = fates.faults(sent, [letter(sent[1])])
    assert "dead letters [] instead of ['poison']" in missing
    assert "ended completed instead of poison" in ended
    assert "tried 4 times" in tried
    assert "ended not at all" in unended
    (doubled, _) = fates.faults(sent[1:], [letter(sent[1]), letter(sent[1])])
    assert "['poison', 'poison']" in doubled
