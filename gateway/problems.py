"""Errors over HTTP: problem+json for everything that is not taken. Knows codes; nothing of what was asked."""

from __future__ import annotations

import logging

import orjson
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from gateway.event import Event
from gateway.metrics import Metrics
from schemas.codes import MEANINGS, Code, problem_type
from schemas.errors import Refusal

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER_S = 1
_STATUS_CODES = {404: Code.NOT_FOUND, 413: Code.TOO_LARGE, 401: Code.UNAUTHORIZED, 503: Code.UNAVAILABLE}
_log = logging.getLogger("gateway.http")


def problem(
    code: Code, detail: str, *, turn: str | None = None, status: int | None = None, retry_after_ms: int | None = None
) -> Response:
    """The response for a code."""
    meaning = MEANINGS[code]
    body = {
        "type": problem_type(code),
        "title": meaning.text,
        "status": status or meaning.status,
        "detail": detail,
        "code": code.value,
        "retry": meaning.retry,
    }
    if turn is not None:
        body["turn"] = turn
    status = status or meaning.status
    after_s = RETRY_AFTER_S if retry_after_ms is None else -(-retry_after_ms // 1_000)
    headers = {"Retry-After": str(after_s)} if status in {429, 503} else {}
    if code is Code.TOO_LARGE:
        headers["Connection"] = "close"  # the rest of the body is not waited for
    return Response(orjson.dumps(body), status_code=status, media_type=MEDIA_TYPE, headers=headers)


def refused(event: Event) -> Response:
    """The response for a `refused` frame."""
    fields = orjson.loads(event.raw)
    try:
        code = Code(fields["code"])
    except ValueError:
        code = Code.BAD_REQUEST
    return problem(code, fields.get("message", ""), turn=event.turn)


def install(app: FastAPI, metrics: Metrics) -> None:
    """Everything that goes wrong in a route answers as a problem."""

    async def on_refusal(_request: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)
        metrics.errors.labels(error.code.value).inc()
        after_ms = getattr(error, "retry_after_ms", None)
        return problem(error.code, error.text, turn=getattr(error, "turn", None), retry_after_ms=after_ms)

    async def on_http(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = _STATUS_CODES.get(error.status_code, Code.BAD_REQUEST)
        metrics.errors.labels(code.value).inc()
        response = problem(code, str(error.detail), status=error.status_code)
        response.headers.update(error.headers or {})
        return response

    async def on_validation(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        metrics.errors.labels(Code.BAD_REQUEST.value).inc()
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"])
        return problem(Code.BAD_REQUEST, f"{place}: {first['msg']}")

    async def on_crash(request: Request, error: Exception) -> Response:
        _log.error("a request could not be handled: %s %s", request.method, request.url.path, exc_info=error)
        metrics.errors.labels(Code.INTERNAL.value).inc()
        return problem(Code.INTERNAL, "the log has it")

    app.add_exception_handler(Refusal, on_refusal)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(Exception, on_crash)
