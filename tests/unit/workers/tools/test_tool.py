"""A tool of a typed function: its schema, its arguments, its policy."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.parts import DataPart, TextPart
from workers.agent import RegistrationError, SessionInfo
from workers.tools.tool import BadArguments, Tool, ToolOutput, ToolPolicy, tool

ALICE = SessionInfo("acme", "s1", "alice", "one", "1")


@tool(read_only=True, timeout_s=5)
async def forecast(city: str, days: int = 1) -> str:
    """The weather of a city."""
    return f"{days} days of sun in {city}"


@tool
def pay(cents: int, *, idempotency_key: str) -> dict[str, Any]:
    """Pays."""
    return {"paid": cents, "key": idempotency_key}


def test_a_function_s_parameters_are_the_schema_and_its_docstring_the_description() -> None:
    assert forecast.name == "forecast"
    assert forecast.description == "The weather of a city."
    assert forecast.policy == ToolPolicy(read_only=True, timeout_s=5)
    assert forecast.parameters == {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer", "default": 1}},
        "required": ["city"],
        "additionalProperties": False,
    }


async def test_a_text_and_a_value_become_parts() -> None:
    assert await forecast.call({"city": "Oslo", "days": 2}) == ToolOutput(
        (TextPart(text="2 days of sun in Oslo"),), data="2 days of sun in Oslo"
    )
    paid = await pay.call({"cents": 5}, idempotency_key="k")

    assert paid.parts == (DataPart(data={"paid": 5, "key": "k"}),)


def test_a_key_makes_a_tool_idempotent_and_is_no_argument_of_the_model() -> None:
    assert pay.policy.idempotent
    assert list(pay.parameters["properties"]) == ["cents"]  # type: ignore[arg-type]


@pytest.mark.parametrize("given", [{}, {"city": 5}, {"city": "Oslo", "nights": 1}])
async def test_arguments_that_do_not_fit_are_named(given: dict[str, Any]) -> None:
    with pytest.raises(BadArguments, match=r"city|nights"):
        await forecast.call(given)


def test_a_parameter_without_a_type_and_a_strange_name_are_refused() -> None:
    def untyped(city) -> str:  # type: ignore[no-untyped-def]
        return str(city)

    with pytest.raises(RegistrationError, match="'city' has no type"):
        tool(untyped)
    with pytest.raises(RegistrationError, match="give 1-64 characters"):
        Tool("a tool", "", {}, forecast.call)
    with pytest.raises(RegistrationError, match="timeout_s"):
        tool(name="x", timeout_s=0)(pay.call)


@pytest.mark.parametrize(
    ("policy", "admitted"),
    [
        (ToolPolicy(), True),
        (ToolPolicy(tenants=frozenset({"acme"}), users=frozenset({"alice"})), True),
        (ToolPolicy(tenants=frozenset({"acme"}), users=frozenset({"bob"})), False),
        (ToolPolicy(tenants=frozenset()), False),
    ],
)
def test_who_may_use_a_tool_is_the_operator_s_word(policy: ToolPolicy, *, admitted: bool) -> None:
    assert policy.admits(ALICE) is admitted
