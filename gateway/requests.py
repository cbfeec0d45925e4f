"""What every HTTP route needs of a request: who asks, its body within bounds, its waiting time. Knows no route."""

from __future__ import annotations

import math
from typing import Any, TypeVar

from fastapi import Request
from pydantic import BaseModel, ValidationError

from gateway.identity import Principal, identify, refuse_foreign_origin
from schemas.codec import first_error
from schemas.codes import Code
from schemas.errors import Refusal
from schemas.ids import legal

MAX_BODY_BYTES = 1_048_576
_Model = TypeVar("_Model", bound=BaseModel)


def principal(request: Request) -> Principal:
    """Who asks. Raises Refusal."""
    if request.method not in {"GET", "HEAD"}:
        refuse_foreign_origin(request.headers)
    return identify(request.headers)


async def body_of(request: Request, model: type[_Model]) -> _Model:
    """The JSON body, read no further than allowed; an empty one is an empty object. Raises Refusal."""
    told = request.headers.get("content-length", "0")
    if not told.isdigit() or int(told) > MAX_BODY_BYTES:
        raise Refusal(Code.TOO_LARGE, f"the body: at most {MAX_BODY_BYTES} bytes")
    read = bytearray()
    async for chunk in request.stream():
        read += chunk
        if len(read) > MAX_BODY_BYTES:
            raise Refusal(Code.TOO_LARGE, f"the body: at most {MAX_BODY_BYTES} bytes")
    try:
        return model.model_validate_json(bytes(read) or b"{}")
    except ValidationError as error:
        raise Refusal(Code.BAD_REQUEST, first_error(error)) from None


def wait_of(request: Request, most_s: float) -> float | None:
    """`?wait_s=` in seconds, at most `most_s`; None: not asked for. Raises Refusal."""
    given = request.query_params.get("wait_s")
    if given is None:
        return None
    try:
        wait_s = float(given)
    except ValueError:
        wait_s = math.nan
    if not 0 <= wait_s < math.inf:
        raise Refusal(Code.BAD_REQUEST, "wait_s: a number of seconds, 0 or more")
    return min(wait_s, most_s)


def legal_id(name: str, value: str) -> str:
    """`value`, if it may be an id. Raises Refusal."""
    if not legal(value):
        raise Refusal(Code.BAD_REQUEST, f"{name}: 1-128 characters out of A-Z a-z 0-9 . _ : -")
    return value


def page_of(request: Request, most: int = 1_000) -> tuple[int, str | None]:
    """`?limit=` (100 if none) and `?after=`. Raises Refusal."""
    given = request.query_params.get("limit", "100")
    limit = int(given) if given.isascii() and given.isdigit() and len(given) < 9 else 0
    if not 1 <= limit <= most:
        raise Refusal(Code.BAD_REQUEST, f"limit: 1 to {most}")
    return limit, request.query_params.get("after") or None


def takes(model: type[BaseModel]) -> dict[str, Any]:
    """What OpenAPI says of a body that is read by hand."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    return {"requestBody": {"content": {"application/json": {"schema": schema}}}}
