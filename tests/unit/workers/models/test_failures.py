"""What a provider's failure means, and when it wants to be asked again."""

from __future__ import annotations

import pytest

from schemas.codes import Code
from workers.models.failures import Failure, retry_after_s
from workers.models.port import ModelRateLimited, ModelRefused, ModelUnavailable

NOW_S = 1_784_000_000.0


@pytest.mark.parametrize(
    ("status", "kind", "code"),
    [
        (429, ModelRateLimited, Code.MODEL_RATE_LIMITED),
        *((status, ModelUnavailable, Code.MODEL_ERROR) for status in (0, 408, 409, 425, 500, 502, 503, 504, 529)),
        *((status, ModelRefused, Code.MODEL_ERROR) for status in (400, 401, 403, 404, 413, 422)),
    ],
)
def test_a_status_has_its_error(status: int, kind: type[Exception], code: Code) -> None:
    error = Failure("no", status).typed()
    assert type(error) is kind
    assert error.code is code


def test_a_quota_that_is_used_up_does_not_pass() -> None:
    assert isinstance(Failure("pay", 429, None, "insufficient_quota").typed(), ModelRefused)


def test_what_the_provider_asks_for_travels_with_the_error() -> None:
    error = Failure("wait", 503, 7.5).typed()
    assert isinstance(error, ModelUnavailable)
    assert error.after_s == 7.5


def test_a_long_text_is_cut() -> None:
    assert len(str(Failure("x" * 10_000).typed())) == 400


@pytest.mark.parametrize(
    ("headers", "after_s"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after": "Tue, 14 Jul 2026 03:33:30 GMT"}, 10.0),
        ({"retry-after": "Tue, 14 Jul 2020 03:33:30 GMT"}, 0.0),
        ({"retry-after": "Tue, 99 Jul 2020 03:33:30 GMT"}, None),
    ],
)
def test_retry_after_is_read_in_seconds_or_as_a_date(headers: dict[str, str], after_s: float | None) -> None:
    assert retry_after_s(headers, NOW_S) == after_s
