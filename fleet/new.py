"""`fleet new`: a folder with an agent, its test and a README, copied from a starter. Starts nothing."""

from __future__ import annotations

import importlib.util
import keyword
import os
import re
import shutil
import sys
from enum import StrEnum
from pathlib import Path

from fleet.exits import CommandError, Exit

_NAME = re.compile(r"[a-z][a-z0-9]*([_-][a-z0-9]+)*")
_MOST_CHARS = 64
STARTERS = Path(__file__).parent / "starters"


class Kind(StrEnum):
    """What the agent is to begin with."""

    CHAT = "chat"
    TOOLS = "tools"
    WORKFLOW = "workflow"


README = """# {name}

{about}

    python -m pytest                              its test: no broker, no database, no model
    FLEET_AGENT={name} fleet up --agents {module}:registry
                                                  everything on this machine; who names no agent gets this one
    fleet chat                                    in a second terminal, in this folder as well

`python` and `fleet` are those of Turnfleet's `.venv/bin`; pytest is not in it before `python -m pip install pytest`.

`{module}.py` is the agent, `test_{module}.py` its test. Give it a new `version` with every change of what it does:
sessions stay with the version that they began with. More: Turnfleet's docs/agents.md.
"""
ABOUT = {
    Kind.CHAT: "An agent that answers with one model call.",
    Kind.TOOLS: "An agent with tools, of which one needs its user's approval.",
    Kind.WORKFLOW: "An agent that is a graph: two branches side by side, then a summary.",
}


def new(name: str, kind: Kind, into: Path) -> Exit:
    """Write the folder `name` in `into`, and say what to do with it. Raises CommandError."""
    module = module_of(name)
    folder = into / name
    try:
        folder.mkdir()
    except FileExistsError:
        raise CommandError(Exit.USAGE, f"{folder} exists already; take another name") from None
    except OSError as error:
        raise CommandError(Exit.USAGE, f"{folder} cannot be made: {error.strerror}") from None
    for path, text in files_of(name, module, kind).items():
        (folder / path).write_text(text)
    print(f"{folder} is there. Now:\n  " + "\n  ".join(_commands(folder, name, module)))
    return Exit.OK


def _commands(folder: Path, name: str, module: str) -> list[str]:
    """What to type next, as it works where this one was typed."""
    python, fleet = (_seen_from(folder, command) for command in ("python", "fleet"))
    test = [f"{python} -m pytest"]
    if importlib.util.find_spec("pytest") is None:
        test.insert(0, f"{python} -m pip install pytest")
    up = f"FLEET_AGENT={name} {fleet} up --agents {module}:registry"
    return [f"cd {name}", *test, up, f"{fleet} chat     (in a second terminal)"]


def _seen_from(folder: Path, command: str) -> str:
    """By its name alone where that finds it, else by its way from `folder`."""
    ours = Path(sys.executable).parent / command
    found = shutil.which(command)
    return command if found is not None and Path(found) == ours else os.path.relpath(ours, folder)


def module_of(name: str) -> str:
    """The module of an agent's name. Raises CommandError where there can be none."""
    if not _NAME.fullmatch(name) or len(name) > _MOST_CHARS:
        text = f"{name!r} is no name for an agent: give a-z 0-9 - _, a letter first, 1-{_MOST_CHARS} characters"
        raise CommandError(Exit.USAGE, text)
    module = name.replace("-", "_")
    if keyword.iskeyword(module) or importlib.util.find_spec(module) is not None:
        raise CommandError(Exit.USAGE, f"{module!r} is a word or a module of Python already; take another name")
    return module


def files_of(name: str, module: str, kind: Kind) -> dict[str, str]:
    """What goes into the folder, by file name."""
    written = {f"{module}.py": STARTERS / f"{kind}.py", f"test_{module}.py": STARTERS / f"{kind}_test.py"}
    files = {
        path: source.read_text()
        .replace(f"fleet.starters.{kind}", module)
        .replace("starter-agent", name)
        .replace("starter_agent", module)
        for path, source in written.items()
    }
    return files | {"README.md": README.format(name=name, module=module, about=ABOUT[kind])}
