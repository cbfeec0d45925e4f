"""One JSON text for one value."""

from __future__ import annotations

import pytest

from schemas.codes import Code
from schemas.errors import TerminalError
from workers.canonical import MAX_VALUE_BYTES, canonical, digest_of, plain


def test_the_order_of_keys_and_the_kind_of_list_do_not_matter() -> None:
    assert digest_of({"a": 1, "b": (2, 3)}, "x") == digest_of({"b": [2, 3], "a": 1}, "x")
    assert digest_of({"a": 1}, "x") != digest_of({"a": 1.5}, "x")
    assert len(digest_of(None, "x")) == 32
    assert canonical({"b": "ä", "a": None}, "x") == '{"a":null,"b":"ä"}'


def test_a_value_comes_back_as_the_journal_would_give_it() -> None:
    assert plain({"a": (1, 2)}, "x") == {"a": [1, 2]}
    assert plain(None, "x") is None
    assert plain(True, "x") is True
    assert plain("ä" * 10, "x") == "ä" * 10


@pytest.mark.parametrize("value", [object(), {1, 2}, b"x", float("nan"), {"a": float("inf")}, "\ud800", {(1,): 2}])
def test_what_is_no_json_is_refused(value: object) -> None:
    with pytest.raises(TerminalError, match="it is not JSON") as refused:
        plain(value, "it")
    assert refused.value.code == Code.AGENT_ERROR


def test_size_is_counted_in_bytes() -> None:
    assert plain("x" * (MAX_VALUE_BYTES - 2), "it")
    for value in ("x" * (MAX_VALUE_BYTES - 1), "ä" * (MAX_VALUE_BYTES // 2)):
        with pytest.raises(TerminalError, match="at most 262144 bytes") as refused:
            plain(value, "it")
        assert refused.value.code == Code.TOO_LARGE


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: list[object] = []
    loop.append(loop)
    with pytest.raises(TerminalError, match="it is not JSON"):
        plain(loop, "it")
