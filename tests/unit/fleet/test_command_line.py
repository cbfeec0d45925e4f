"""The command line: its exit codes are those of the docs, and a setting that cannot be read is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fleet.__main__ import app
from fleet.exits import Exit

DOCS = Path(__file__).resolve().parents[3] / "docs" / "cli.md"
COMMANDS = ("new", "up", "chat", "send", "topics check", "topics apply", "session show", "session delete", "agents")
AGENTS = ("prices check", "agents check", "agents pins list", "agents pins accept", "agents pins revoke")
LETTERS = ("dead-letters list", "dead-letters show", "dead-letters redrive", "dead-letters discard")


def test_the_docs_list_every_exit_code() -> None:
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", DOCS.read_text(), re.MULTILINE)}
    assert listed == {int(code) for code in Exit}


@pytest.mark.parametrize("command", [*COMMANDS, *AGENTS, *LETTERS])
def test_every_command_has_help_and_a_place_in_the_docs(command: str) -> None:
    result = CliRunner().invoke(app, [*command.split(), "--help"])
    assert result.exit_code == 0
    assert f"fleet {command}" in DOCS.read_text()


def test_wrong_usage_has_its_own_exit_code() -> None:
    assert CliRunner().invoke(app, ["send"]).exit_code == Exit.USAGE
    assert CliRunner().invoke(app, ["up", "--workers", "0"]).exit_code == Exit.USAGE
