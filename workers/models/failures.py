"""Decides what a provider's failure means: wait, try again, or give up. Knows HTTP's codes; no client library."""

from __future__ import annotations

import email.utils
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schemas.errors import RetryableError, TerminalError
from workers.models.port import ModelRateLimited, ModelRefused, ModelUnavailable

_TEXT_CHARS = 400
_TRANSIENT = frozenset({408, 409, 425})
# A quota that is used up answers 429 as well, but does not pass by waiting.
_FINAL_CODES = frozenset({"insufficient_quota", "billing_hard_limit_reached"})


@dataclass(frozen=True, slots=True)
class Failure:
    """What a provider said. `status`: HTTP, 0 where there was none; `after_s`: when it wants to be asked again."""

    text: str
    status: int = 0
    after_s: float | None = None
    code: str = ""

    def typed(self) -> RetryableError | TerminalError:
        """The error of ours that it is."""
        text = self.text[:_TEXT_CHARS]
        if self.status == 429 and self.code not in _FINAL_CODES:
            return ModelRateLimited(text, after_s=self.after_s)
        if self.status == 0 or self.status >= 500 or self.status in _TRANSIENT:
            return ModelUnavailable(text, after_s=self.after_s)
        return ModelRefused(text, status=self.status)


def failure_in_stream(error: Any) -> Failure:
    """An error that came as an event: `{message, type, code}`, a text, or something else."""
    if not isinstance(error, dict):
        return Failure(f"the provider broke off: {error}")
    code, kind = error.get("code"), str(error.get("type") or "")
    text = f"the provider broke off: {error.get('message') or kind or code or 'without a reason'}"
    return Failure(text, _status(code, kind), None, str(code or ""))


def _status(code: object, kind: str) -> int:
    if isinstance(code, str) and code.isdecimal():
        code = int(code)
    if isinstance(code, int) and 400 <= code <= 599:
        return code
    names = f"{code} {kind}"
    if "rate_limit" in names or "insufficient_quota" in names:
        return 429
    if "invalid_request" in names or "content_filter" in names or "context_length" in names:
        return 400
    return 0


def retry_after_s(headers: Mapping[str, str], now_s: float) -> float | None:
    """Seconds until the provider wants to be asked again, from `retry-after-ms` or `Retry-After` (seconds or a date).

    `now_s`: the wall clock in epoch seconds. Never negative; None if nothing is said, or nothing that makes sense.
    """
    for name, divisor in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) / divisor
        except ValueError:
            continue
        return max(seconds, 0.0) if math.isfinite(seconds) else None
    try:
        moment = email.utils.parsedate_to_datetime(headers.get("retry-after", ""))
        return max(moment.timestamp() - now_s, 0.0)
    except (TypeError, ValueError, OverflowError, IndexError, OSError):
        return None
