"""Which tools of a list can be offered, under which names; and schemas that do not compile."""

from __future__ import annotations

from typing import Any

import pytest

from workers.mcp.listing import Listing, exposed_name, listing
from workers.mcp.schema_faults import faults

OBJECT: dict[str, Any] = {"type": "object"}


def of(*tools: Any) -> Listing:
    return listing(tools, prefix="it_")


def test_a_tool_keeps_its_name_and_gets_a_prefix() -> None:
    made = of({"name": "read", "description": "Reads", "inputSchema": OBJECT})
    (tool,) = made.tools
    assert (tool.name, tool.exposed, tool.description, tool.schema) == ("read", "it_read", "Reads", OBJECT)
    assert made.left == ()


@pytest.mark.parametrize(
    "changed",
    [
        {"name": "b"}, {"description": "other"}, {"inputSchema": {**OBJECT, "required": ["x"]}},
        {"outputSchema": OBJECT}, {"description": None},
    ],
)  # fmt: skip
def test_a_digest_is_of_name_description_and_schemas(changed: dict[str, Any]) -> None:
    first = {"name": "a", "description": "A", "inputSchema": OBJECT}
    digests = {tool.digest for given in (first, {**first, **changed}) for tool in of(given).tools}
    assert len(digests) == 2
    again = {"annotations": {"readOnlyHint": True}, "inputSchema": OBJECT, "description": "A", "name": "a"}
    assert of(again).tools[0].digest == of(first).tools[0].digest


def test_names_that_become_one_are_left_out() -> None:
    made = of(*({"name": name, "inputSchema": OBJECT} for name in ("a b", "a.b", "c")))
    assert [tool.name for tool in made.tools] == ["c"]
    assert {left.name for left in made.left} == {"a b", "a.b"}


def test_a_long_name_is_cut_to_what_models_take() -> None:
    assert exposed_name("it_", "x" * 100) == "it_" + "x" * 61
    assert exposed_name("it_", "lösche/alles!") == "it_l_sche_alles_"


@pytest.mark.parametrize(
    "tool",
    [
        None, 7, [], {}, {"name": None}, {"name": ""}, {"name": "x" * 200}, {"name": "a\nb"},
        {"name": "a"}, {"name": "a", "inputSchema": []}, {"name": "a", "inputSchema": {"type": "string"}},
        {"name": "a", "inputSchema": OBJECT, "description": 7},
        {"name": "a", "inputSchema": OBJECT, "description": "x" * 20_000},
        {"name": "a", "inputSchema": {**OBJECT, "x": float("nan")}},
        {"name": "a", "inputSchema": {**OBJECT, "x": "y" * 70_000}},
        {"name": "a", "inputSchema": OBJECT, "outputSchema": {"x": 2**70}},
    ],
)  # fmt: skip
def test_what_is_no_tool_is_left_out_and_said_so(tool: Any) -> None:
    made = of(tool, {"name": "good", "inputSchema": OBJECT})
    assert [one.name for one in made.tools] == ["good"]
    assert len(made.left) == 1
    assert made.left[0].why


@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        (OBJECT, ""),
        ({"type": "object", "properties": {"a": {"pattern": r"^\p{L}+$"}, "b": {"pattern": r"(?<x>a)"}}}, ""),
        ({"type": "object", "properties": {"a": {"pattern": "^(a+)+$"}}}, ""),
        ({"type": "object", "properties": {"$ref": {"type": "string"}, "pattern": {"type": "string"}}}, ""),
        ({"$defs": {"x": {}}, "properties": {"a": {"$ref": "#/$defs/x"}}}, ""),
        ({"properties": {"a": {"pattern": "("}}}, "a broken pattern"),
        ({"patternProperties": {"[": {}}}, "a broken pattern"),
        ({"properties": {"a": {"$ref": "https://example.com/x"}}}, "$ref 'https://example.com/x' leads nowhere"),
        ({"properties": {"a": {"$ref": "#/$defs/x"}}}, "$ref '#/$defs/x' leads nowhere"),
        ({"properties": []}, "at properties: [] is not of type 'object'"),
        ({"required": "a"}, "at required: 'a' is not of type 'array'"),
    ],
)
def test_what_is_wrong_with_a_schema(schema: Any, fault: str) -> None:
    assert faults([schema, OBJECT]) == [fault, ""]
