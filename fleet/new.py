"""`fleet new`: a folder with an agent, its test and a README, copied from a starter. Starts nothing."""

from __future__ import annotations

import importlib.util
import keyword
import re
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
    fleet up --agents {module}:registry           everything on this machine, in this folder
    fleet chat --agent {name}                     in a second terminal, in this folder as well

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
    print(f"{folder} is there. Now:\n  cd {name}\n  python -m pytest\n  fleet up --agents {module}:registry")
    return Exit.OK


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
