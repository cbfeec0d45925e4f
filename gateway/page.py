"""The chat page: one static file, and the headers that keep it from doing anything else. Knows no route but `/`."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from fastapi import APIRouter, Response

_FILE = Path(__file__).parent / "static" / "chat.html"
_SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)


def page_routes() -> APIRouter:
    """The route."""
    html = _FILE.read_text(encoding="utf-8")
    headers = {
        "Content-Security-Policy": policy_of(html),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }
    routes = APIRouter(include_in_schema=False)

    @routes.get("/")
    async def page() -> Response:
        return Response(html, media_type="text/html; charset=utf-8", headers=headers)

    return routes


def policy_of(html: str) -> str:
    """Only this very script and style run, and they speak to nobody but this gateway."""
    scripts = " ".join(_hash(text) for text in _SCRIPT.findall(html))
    styles = " ".join(_hash(text) for text in _STYLE.findall(html))
    return (
        f"default-src 'none'; script-src {scripts}; style-src {styles}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
