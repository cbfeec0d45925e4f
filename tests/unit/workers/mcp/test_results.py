"""What a server's result becomes: pictures that a provider will take, and words about everything else."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.parts import FilePart, TextPart
from workers.mcp.results import output


@pytest.mark.parametrize("data", ["no base64", "AAA", "", "a" * 5, None, 7, "AAAA\u2028"])
def test_a_picture_that_is_no_base64_is_left_out_and_said_so(data: Any) -> None:
    made = output({"content": [{"type": "image", "mimeType": "image/png", "data": data}]}, 10_000)

    assert made.parts == (TextPart(text="[a part of kind 'image' is left out]"),)


def test_a_picture_is_a_file() -> None:
    made = output({"content": [{"type": "image", "mimeType": "image/png", "data": "AAAA"}]}, 10_000)

    assert made.parts == (FilePart(media_type="image/png", data="AAAA"),)
