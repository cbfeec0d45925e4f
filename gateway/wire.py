"""What a gateway itself says over a WebSocket: hello, error, pong, and the closing codes. Plain text; no sockets."""

from __future__ import annotations

from typing import Any

import orjson

from gateway.identity import Principal
from schemas.codes import MEANINGS, Code
from schemas.errors import Refusal
from schemas.limits import Limits
from schemas.settings import GatewaySettings

SUBPROTOCOL = "turnfleet.v1"
MAX_FRAME_BYTES = 1_048_576
FEATURES = ("attach", "cancel", "development-mode")

AWAY, NOT_TEXT, NOT_JSON, TOO_BIG, DRAIN = 1001, 1003, 1007, 1009, 1012
TOO_SLOW, SIGN_IN, WAIT = 4000, 4401, 4429


def hello(gateway: str, who: Principal, settings: GatewaySettings, limits: Limits) -> str:
    """The first frame."""
    return dumps(
        {
            "type": "hello",
            "protocol": SUBPROTOCOL,
            "gateway": gateway,
            "heartbeat_ms": settings.gateway_heartbeat_ms,
            "limits": {
                "content_bytes": limits.content_bytes,
                "metadata_bytes": limits.metadata_bytes,
                "frame_bytes": MAX_FRAME_BYTES,
                "frames_per_s": settings.gateway_frames_per_s,
                "frames_burst": settings.gateway_frames_burst,
            },
            "features": FEATURES,
            "tenant": who.tenant,
            "user": who.user,
        }
    )


def error(refusal: Refusal, *, ref: str | None, session: str | None = None, turn: str | None = None) -> str:
    """This frame of yours was not taken, or nobody knows."""
    frame: dict[str, Any] = {
        "type": "error",
        "code": refusal.code.value,
        "message": refusal.text,
        "retry": refusal.retry,
        "retry_after_ms": getattr(refusal, "retry_after_ms", None),
        "ref": ref,
        "session": session,
        "turn": getattr(refusal, "turn", None) or turn,
    }
    return dumps({name: value for name, value in frame.items() if value is not None})


def overloaded(wait_ms: int) -> Refusal:
    """Too many frames at once."""
    refusal = Refusal(Code.OVERLOADED, f"too many frames: wait {wait_ms} ms")
    refusal.retry_after_ms = wait_ms  # type: ignore[attr-defined]
    return refusal


def internal() -> Refusal:
    """An error of ours."""
    return Refusal(Code.INTERNAL, MEANINGS[Code.INTERNAL].text)


def pong(ref: str | None) -> str:
    return dumps({"type": "pong"} if ref is None else {"type": "pong", "ref": ref})


def dumps(value: object) -> str:
    return orjson.dumps(value).decode()
