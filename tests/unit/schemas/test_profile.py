"""A profile's content: merge patches as RFC 7396 has them, and its limits."""

from __future__ import annotations

import pytest
from pydantic import JsonValue

from schemas.codes import Code
from schemas.errors import Refusal
from schemas.profile import MAX_SUMMARY_CHARS, Profile, merged

NEW = Profile(tenant="t", user="u", version=0)


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"a": "foo"}, "bar", "bar"),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_a_merge_patch_does_what_the_rfc_shows(target: JsonValue, patch: JsonValue, result: JsonValue) -> None:
    before = repr((target, patch))

    assert merged(target, patch) == result
    assert repr((target, patch)) == before


def test_a_change_makes_the_next_version_and_leaves_the_old_one() -> None:
    one = NEW.changed("likes tea", {"a": 1}, 7)

    assert (one.version, one.summary, one.facts, one.updated_ms) == (1, "likes tea", {"a": 1}, 7)
    assert NEW.blank
    assert not one.blank
    assert one.changed("", {}, 8).blank


@pytest.mark.parametrize(
    ("summary", "facts", "code"),
    [
        ("x" * (MAX_SUMMARY_CHARS + 1), {}, Code.TOO_LARGE),
        ("", {"x": "ü" * 33_000}, Code.TOO_LARGE),
        ("", {"x": list(range(5_000))}, Code.BAD_REQUEST),
        ("", {"x": 2**63}, Code.BAD_REQUEST),
        ("", {"x": float("nan")}, Code.BAD_REQUEST),
    ],
)
def test_what_is_over_a_limit_is_refused(summary: str, facts: dict[str, JsonValue], code: Code) -> None:
    with pytest.raises(Refusal) as refusal:
        NEW.changed(summary, facts, 1)

    assert refusal.value.code is code
