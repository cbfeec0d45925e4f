"""Whether an answer fits a form: the plain values that MCP's elicitations ask for; patterns are nobody's here."""

from __future__ import annotations

from typing import Any

import pytest

from workers.tools.form import fits


def form(required: list[str] | None = None, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties) if required is None else required}


@pytest.mark.parametrize("answer", [None, "yes", {"x": 1}, 7])
def test_where_nothing_is_asked_everything_fits(answer: Any) -> None:
    assert fits(None, answer)
    assert fits({"type": "string"}, answer)


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ({"type": "string"}, ["", "x"], [1, True, ["x"], {}]),
        ({"type": "string", "minLength": 2, "maxLength": 3}, ["ab", "abc"], ["a", "abcd"]),
        ({"type": "string", "enum": ["S", "L"]}, ["S"], ["M", 1]),
        ({"type": "string", "oneOf": [{"const": "S", "title": "small"}]}, ["S"], ["small"]),
        ({"type": "string", "pattern": "^(a+)+$", "format": "email"}, ["a" * 40 + "!"], [1]),
        ({"type": "integer", "minimum": 1, "maximum": 5}, [1, 5, 2.0], [0, 6, 1.5, True, "1", float("inf")]),
        ({"type": "number", "maximum": 1.5}, [1, 1.5, -7], [2, True, "1"]),
        ({"type": "boolean"}, [True, False], [0, 1, "true"]),
        ({"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2}, [[], ["a", "b"]], ["a", ["c"], ["a"] * 3]),
        ({"type": "array", "items": {"anyOf": [{"const": "a"}]}, "minItems": 1}, [["a"]], [[], ["b"], [1]]),
        ({"type": "hologram"}, [1, "x"], []),
        ("no schema", [1, "x"], []),
    ],
)
def test_fields(field: Any, good: list[Any], bad: list[Any]) -> None:
    assert [value for value in good if not fits(form(it=field), {"it": value})] == []
    assert [value for value in bad if fits(form(it=field), {"it": value})] == []


def test_what_is_required_must_be_there_and_what_is_not_may_be_null() -> None:
    asked = form(["a"], a={"type": "string"}, b={"type": "string"})
    assert fits(asked, {"a": "x"})
    assert fits(asked, {"a": "x", "b": None, "c": 1})
    assert not fits(asked, {"a": None})
    assert not fits(asked, {"b": "x"})
    assert not fits(asked, None)
    assert fits(form([]), None)
    assert not fits(form([]), "x")
    assert fits({"type": "object", "properties": 7, "required": 7}, {"a": 1})
