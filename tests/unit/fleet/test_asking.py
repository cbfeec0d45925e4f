"""What a person decides at the terminal, as the frame `approve` has it."""

from __future__ import annotations

from typing import Any

import pytest

from fleet.asking import DENY, Asked, decide, spelled

PAY = {"call": "c", "kind": "tool_call", "name": "pay", "arguments": {"eur": 5}, "message": "may I?", "expires_ms": 1}
ASK = {"call": "c", "kind": "question", "message": "which?", "expires_ms": 1}


class Person:
    """Types these lines; an exception among them is a key."""

    def __init__(self, *typed: str | type[BaseException]) -> None:
        self.typed = list(typed)
        self.begun: list[str] = []
        self.told: list[str] = []

    async def read(self, _: str, begun: str) -> str:
        self.begun.append(begun)
        line = self.typed.pop(0)
        if isinstance(line, str):
            return line
        raise line


async def decided(frame: dict[str, Any], person: Person) -> dict[str, Any]:
    made = await decide(Asked(frame), person.read, person.told.append)
    assert not person.typed, "everything was read"
    return made


@pytest.mark.parametrize("typed", ["", "n", "what", KeyboardInterrupt, EOFError])
async def test_everything_but_yes_denies(typed: str | type[BaseException]) -> None:
    assert await decided(PAY, Person(typed)) == DENY


async def test_yes_allows_and_what_is_asked_was_shown() -> None:
    person = Person("y")
    assert await decided(PAY, person) == {"decision": "allow"}
    assert person.told == ["approval: may I?", 'pay {"eur": 5}']


async def test_edited_arguments_are_shown_again_before_they_are_allowed() -> None:
    person = Person("e", '{"eur":', "[]", '{"eur": 3}', "y")
    assert await decided(PAY, person) == {"decision": "allow", "arguments": {"eur": 3}}
    assert person.begun[1] == '{"eur": 5}'
    assert person.told[-1] == 'pay {"eur": 3}'


async def test_what_python_takes_for_the_same_is_an_edit() -> None:
    asked = {**PAY, "arguments": {"n": 1}}
    assert await decided(asked, Person("e", '{"n": true}', "y")) == {"decision": "allow", "arguments": {"n": True}}
    assert await decided(asked, Person("e", '{"n": 1}', "y")) == {"decision": "allow"}


@pytest.mark.parametrize("line", ['{"n": NaN}', '{"n": -Infinity}', '{"n": 1e999}', '{"n": "\\ud800"}'])
async def test_what_only_python_takes_for_json_is_typed_again(line: str) -> None:
    person = Person("e", line, '{"n": 2}', "y")
    assert await decided(PAY, person) == {"decision": "allow", "arguments": {"n": 2}}
    assert any(told.startswith("that is no JSON") for told in person.told)
    json_asked = {**ASK, "schema": {"type": "object"}}
    assert await decided(json_asked, Person(line, '{"n": 2}')) == {"decision": "allow", "answer": {"n": 2}}


async def test_ctrl_c_while_editing_denies() -> None:
    assert await decided(PAY, Person("e", KeyboardInterrupt)) == DENY


async def test_a_question_gets_a_text() -> None:
    assert await decided(ASK, Person("the red one")) == {"decision": "allow", "answer": "the red one"}
    assert await decided({**ASK, "schema": {"type": "string"}}, Person("5")) == {"decision": "allow", "answer": "5"}


async def test_a_question_with_a_schema_gets_json() -> None:
    person = Person("{", '{"red": true}')
    answer = await decided({**ASK, "schema": {"type": "object"}}, person)
    assert answer == {"decision": "allow", "answer": {"red": True}}
    assert person.begun == ["", "{"], "what was typed is not lost"


async def test_no_answer_denies() -> None:
    assert await decided(ASK, Person(" ")) == DENY


def test_what_is_decided_on_hides_nothing() -> None:
    assert spelled({"to": "a\u202eb\x1b"}) == '{"to": "a\\u202eb\\u001b"}'
    assert spelled("a\u3164\u00a0\U000e0041") == r'"a\u3164\u00a0\udb40\udc41"'
