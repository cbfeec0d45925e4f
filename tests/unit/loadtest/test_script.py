from __future__ import annotations

from pathlib import Path

import pytest

from loadtest.script import Answer, Call, Rules, Script, hint


def call(text: str = "hi", session: str = "s1", model: str = "scripted") -> Call:
    return Call(session=session, model=model, text=text)


def test_without_rules_the_hint_decides_and_the_rest_is_default() -> None:
    answer = Script(Rules()).answer(call('{"tokens": 200, "rate": 50}'))
    assert answer == Answer(tokens=200, rate=50)


@pytest.mark.parametrize("text", ["hi", "{not json", '["tokens"]', '{"tokens": "many"}', '{"tokens": -1}', '{"x": 1}'])
def test_what_is_no_hint_is_an_ordinary_prompt(text: str) -> None:
    assert Script(Rules()).answer(call(text)) == Answer()


def test_a_hint_is_only_an_object() -> None:
    assert hint("[1]") == {}
    assert hint('{"tokens": 3}') == {"tokens": 3}


def test_every_third_matching_call_is_hit_at_most_twice() -> None:
    script = Script(Rules.model_validate({"rules": [{"every": 3, "times": 2, "answer": {"status": 500}}]}))
    statuses = [script.answer(call()).status for _ in range(12)]
    assert statuses == [200, 200, 500, 200, 200, 500, 200, 200, 200, 200, 200, 200]


def test_globs_choose_session_model_and_text_and_the_first_rule_wins() -> None:
    rules = [
        {"session": "bad-*", "answer": {"status": 500}},
        {"text": "*slow*", "answer": {"rate": 1}},
        {"model": "other", "answer": {"tokens": 1}},
    ]
    script = Script(Rules.model_validate({"rules": rules}))
    assert script.answer(call("slow", session="bad-1")).status == 500
    assert script.answer(call("be slow please")).rate == 1
    assert script.answer(call(model="other")).tokens == 1
    assert script.answer(call()) == Answer()


def test_a_hint_cannot_undo_an_error_of_the_script() -> None:
    script = Script(Rules.model_validate({"rules": [{"answer": {"status": 429}}]}))
    assert script.answer(call('{"status": 200, "tokens": 9}')) == Answer(status=429, tokens=9)


def test_a_script_file_is_yaml_and_its_faults_are_found_at_once(tmp_path: Path) -> None:
    good, wrong = tmp_path / "good.yaml", tmp_path / "wrong.yaml"
    good.write_text("defaults: {tokens: 3}\nrules:\n  - {session: a*, answer: {cut_after: 1}}\n")
    wrong.write_text("rules:\n  - {answer: {statsu: 500}}\n")
    assert Script.load(good).answer(call(session="ab")) == Answer(tokens=3, cut_after=1)
    with pytest.raises(ValueError, match="statsu"):
        Script.load(wrong)
