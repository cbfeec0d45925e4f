"""What `fleet` prints of what others wrote: it is shown, and does nothing."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.table import Table

from fleet import agents_check
from fleet.__main__ import lenient
from fleet.cells import cells

HOSTILE = "[/red]\x1b]0;owned\x07[link=x]\x9b2J\u202e"


def test_markup_and_control_characters_are_plain_text() -> None:
    table = Table("a", "b", box=None)
    table.add_row(*cells(HOSTILE, "[bold]b"))
    file = io.StringIO()
    Console(file=file, width=200, force_terminal=True).print(table)

    assert "[/red]]0;owned[link=x]2J" in file.getvalue()
    assert "[bold]b" in file.getvalue()
    assert not set("\x07\x9b\u202e") & set(file.getvalue())
    assert "\x1b]" not in file.getvalue()


def test_a_server_of_tools_drives_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    tools = [{"tool": HOSTILE, "called": HOSTILE, "pin": "accepted"}]
    servers = [{"server": "s", "tools": tools, "left": [{"name": HOSTILE, "why": HOSTILE}], "away": HOSTILE}]
    agents_check._show(servers, as_json=False)

    said = capsys.readouterr().out
    assert "[/red]" in said
    assert not set("\x07\x1b\x9b\u202e") & set(said)


def test_bytes_that_are_no_text_and_text_that_no_terminal_has_end_no_command() -> None:
    given, shown = io.TextIOWrapper(io.BytesIO(b"a\xffb\n"), "utf-8"), io.TextIOWrapper(io.BytesIO(), "ascii")
    lenient(given, shown)

    assert given.readline() == "a\ufffdb\n"
    shown.write("h\u00e9\ud800")
    shown.flush()
    assert isinstance(shown.buffer, io.BytesIO)
    assert shown.buffer.getvalue() == b"h??"
