"""What an error of pydantic-ai means to us. Knows its exceptions; no provider's own."""

from __future__ import annotations

from pydantic_ai.exceptions import (
    ModelAPIError,
    ModelConnectionError,
    ModelHTTPError,
    ModelQuotaExceededError,
    ModelRateLimitError,
    ModelRequestRejectedError,
    UserError,
)

from schemas.errors import RetryableError, TerminalError
from workers.models.failures import Failure
from workers.models.port import ModelRateLimited, ModelRefused, ModelTimedOut, ModelUnavailable, Timeouts

_TEXT_CHARS = 400


def typed(error: Exception, limits: Timeouts) -> RetryableError | TerminalError:
    """The error of ours that it is."""
    if isinstance(error, RetryableError | TerminalError):
        return error
    if isinstance(error, ModelConnectionError):
        return _not_reached(error, limits)
    if isinstance(error, ModelAPIError):
        return _answered(error)
    text = f"{type(error).__name__}: {error}"[:_TEXT_CHARS]
    if isinstance(error, UserError | NotImplementedError):
        return ModelRefused(f"the request cannot be written for this model: {text}")
    return ModelUnavailable(f"the provider's answer cannot be read: {text}")


def _not_reached(error: ModelConnectionError, limits: Timeouts) -> ModelUnavailable:
    if error.phase == "connect":
        return ModelTimedOut("connect", limits.connect_s)
    return ModelUnavailable(f"the provider's stream broke off: {error.message}"[:_TEXT_CHARS])


def _answered(error: ModelAPIError) -> RetryableError | TerminalError:
    status = error.status_code if isinstance(error, ModelHTTPError) else 0
    text = f"the provider answered {status or 'an error'}: {_said(error)}"
    if isinstance(error, ModelQuotaExceededError | ModelRequestRejectedError):
        return ModelRefused(text[:_TEXT_CHARS], status=status)
    if isinstance(error, ModelRateLimitError):
        return ModelRateLimited(text[:_TEXT_CHARS], after_s=error.retry_after)
    return Failure(text, status, error.retry_after, error.provider_error_code or "").typed()


def _said(error: ModelAPIError) -> str:
    """The provider's own sentence, where its body has one."""
    body = error.body
    while isinstance(body, dict) and isinstance(body.get("error"), dict):
        body = body["error"]
    if isinstance(body, dict) and isinstance(body.get("message"), str):
        return str(body["message"])
    return str(body or error.message)
