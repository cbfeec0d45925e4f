"""`fleet new` writes a project that works, and touches nothing that is there."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fleet.__main__ import app
from fleet.exits import CommandError, Exit
from fleet.new import Kind, new
from fleet.registries import environ_of, loaded
from fleet.testing import Lab

KINDS = list(Kind)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current folder; what is imported from it is forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.mark.parametrize("kind", KINDS)
def test_it_writes_an_agent_a_test_and_a_readme(
    kind: Kind, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert new("tea-shop", kind, here) is Exit.OK
    assert "fleet up --agents tea_shop:registry" in capsys.readouterr().out

    folder = here / "tea-shop"
    assert {path.name for path in folder.iterdir()} == {"tea_shop.py", "test_tea_shop.py", "README.md"}
    assert len((folder / "README.md").read_text().splitlines()) == 13
    assert not [path for path in folder.iterdir() if "starter" in path.read_text()]
    monkeypatch.chdir(folder)
    assert [spec.name for spec in loaded(("tea_shop:registry",))][-1] == "tea-shop"
    Lab("tea_shop:registry")


@pytest.mark.parametrize("kind", KINDS)
def test_the_test_that_comes_with_a_kind_passes(kind: Kind) -> None:
    tests = inspect.getmembers(importlib.import_module(f"fleet.starters.{kind}_test"), inspect.isfunction)
    ran = [test() for name, test in tests if name.startswith("test_")]

    assert len(ran) >= 2


def test_a_folder_that_is_there_is_left_alone(here: Path) -> None:
    (here / "mine").mkdir()
    (here / "mine" / "mine.py").write_text("x = 1")

    with pytest.raises(CommandError, match="mine exists already; take another name"):
        new("mine", Kind.CHAT, here)
    assert (here / "mine" / "mine.py").read_text() == "x = 1"
    with pytest.raises(CommandError, match="cannot be made: No such file"):
        new("mine", Kind.CHAT, here / "nowhere")


@pytest.mark.parametrize("name", ["", "My Agent", "../x", "1st", "a--b", "-a", "x" * 65, "a/b", "é"])
def test_a_name_that_is_none_is_refused(name: str, here: Path) -> None:
    with pytest.raises(CommandError, match="is no name for an agent"):
        new(name, Kind.CHAT, here)


@pytest.mark.parametrize("name", ["json", "workers", "class", "fleet"])
def test_a_name_that_would_hide_a_module_is_refused(name: str, here: Path) -> None:
    with pytest.raises(CommandError, match="is a word or a module of Python already"):
        new(name, Kind.CHAT, here)
    assert list(here.iterdir()) == []


def test_the_command_takes_a_kind(here: Path) -> None:
    assert CliRunner().invoke(app, ["new", "tea", "--kind", "tools"]).exit_code == 0
    assert "approval=True" in (here / "tea" / "tea.py").read_text()
    assert CliRunner().invoke(app, ["new", "tea2", "--kind", "magic"]).exit_code == Exit.USAGE


def test_workers_of_fleet_up_get_the_registries_and_this_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "mine.py").write_text("registry = []")
    (here / "ours.py").write_text("registry = []")
    monkeypatch.setenv("FLEET_AGENTS", "ours:registry")
    monkeypatch.setenv("PYTHONPATH", "elsewhere")

    assert environ_of(()) == {}
    assert environ_of(["mine:registry"]) == {
        "FLEET_AGENTS": "ours:registry,mine:registry",
        "PYTHONPATH": f"{here}:elsewhere",
    }


def test_a_registry_that_cannot_be_loaded_stops_fleet_up_before_anything_starts(here: Path) -> None:
    result = CliRunner().invoke(app, ["up", "--agents", "nothing_here:registry", "--data", str(here / "data")])

    assert isinstance(result.exception, CommandError)
    assert (result.exception.code, (here / "data").exists()) == (Exit.USAGE, False)
    assert "nothing_here cannot be imported: ModuleNotFoundError" in result.exception.text


@pytest.mark.parametrize("on_path", [True, False])
def test_it_says_commands_that_work_where_they_are_typed(
    on_path: bool, here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    where = here / "turnfleet" / ".venv" / "bin"
    where.mkdir(parents=True)
    for command in ("python", "fleet"):
        (where / command).write_text("")
        (where / command).chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(where / "python"))
    monkeypatch.setenv("PATH", str(where) if on_path else "/nowhere")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    new("tea-shop", Kind.CHAT, here)

    bin_ = "" if on_path else "../turnfleet/.venv/bin/"
    assert [line.strip() for line in capsys.readouterr().out.splitlines()[1:]] == [
        "cd tea-shop",
        f"{bin_}python -m pip install pytest",
        f"{bin_}python -m pytest",
        f"FLEET_AGENT=tea-shop {bin_}fleet up --agents tea_shop:registry",
        f"{bin_}fleet chat     (in a second terminal)",
    ]
