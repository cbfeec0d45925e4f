"""The workspace: small text files of one session, within a quota. Pure; knows no context and no store.

A change is a function of the files and of the arguments alone, so that a later attempt makes it again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue

MAX_FILES = 64
MAX_FILE_BYTES = 65_536
MAX_BYTES = 524_288
_PATH = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+){0,7}")
_SHOWN_LINES = 400
_FOUND = 100
PREFIX = "file:"


class FileError(Exception):
    """What was asked cannot be done; the text is for the model."""


class _Given(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Ls(_Given):
    """List the files of the workspace, with their sizes."""

    prefix: str = ""


class Read(_Given):
    """Read a file of the workspace, with line numbers."""

    path: str
    first_line: int = Field(1, ge=1)
    lines: int = Field(_SHOWN_LINES, ge=1, le=2_000)


class Write(_Given):
    """Write a file of the workspace, whole; it replaces an earlier one. Files stay for later turns."""

    path: str
    content: str


class Edit(_Given):
    """Replace a text in a file of the workspace. `old` must be there exactly once, unless `all` is true."""

    path: str
    old: str = Field(min_length=1)
    new: str
    all: bool = False


class Grep(_Given):
    """Find the lines of the workspace's files that contain a text (no pattern)."""

    text: str = Field(min_length=1)
    prefix: str = ""


class Workspace:
    """`files`: path → text. `changed`: those that were written since it was made."""

    def __init__(self, files: Mapping[str, str] | None = None) -> None:
        self.files: dict[str, str] = dict(files or {})
        self.changed: set[str] = set()

    @classmethod
    def of(cls, kept: Mapping[str, JsonValue]) -> Workspace:
        """As a session keeps it."""
        files = {name.removeprefix(PREFIX): text for name, text in kept.items() if name.startswith(PREFIX)}
        return cls({path: text for path, text in files.items() if isinstance(text, str)})

    def fork(self) -> Workspace:
        """The same files, to be changed apart."""
        return Workspace(self.files)

    def merge(self, files: JsonValue) -> None:
        """Take over what a fork changed: path → text. What does not fit is left out."""
        for path, text in files.items() if isinstance(files, dict) else ():
            if isinstance(text, str):
                try:
                    self.put(path, text)
                except FileError:
                    continue

    def changes(self) -> dict[str, JsonValue]:
        """What was written, path → text."""
        return {path: self.files[path] for path in sorted(self.changed)}

    def put(self, path: str, text: str) -> None:
        """Raises FileError."""
        path = checked(path)
        bytes_ = len(text.encode(errors="replace"))
        if bytes_ > MAX_FILE_BYTES:
            raise FileError(f"{path} would have {bytes_} bytes, a file has at most {MAX_FILE_BYTES}")
        others = [len(other.encode(errors="replace")) for name, other in self.files.items() if name != path]
        if len(others) >= MAX_FILES:
            raise FileError(f"the workspace has {MAX_FILES} files, there is no room for more")
        if sum(others) + bytes_ > MAX_BYTES:
            raise FileError(f"the workspace would have {sum(others) + bytes_} bytes, at most {MAX_BYTES}")
        self.files[path] = text
        self.changed.add(path)

    def ls(self, given: Ls) -> str:
        """A line for each file."""
        names = [path for path in sorted(self.files) if path.startswith(given.prefix)]
        return "\n".join(f"{path} ({len(self.files[path])} characters)" for path in names) or "no files"

    def read(self, given: Read) -> str:
        """Numbered lines."""
        lines = self._text(given.path).splitlines()
        some = lines[given.first_line - 1 : given.first_line - 1 + given.lines]
        shown = "\n".join(f"{number}\t{line}" for number, line in enumerate(some, given.first_line))
        left = len(lines) - (given.first_line - 1 + len(some))
        return (shown or "[empty]") + (f"\n[{left} more lines]" if left > 0 else "")

    def write(self, given: Write) -> str:
        """What was done."""
        self.put(given.path, given.content)
        return f"{given.path} is written: {len(given.content)} characters"

    def edit(self, given: Edit) -> str:
        """What was done."""
        text = self._text(given.path)
        found = text.count(given.old)
        if found == 0:
            raise FileError(f"{given.path} does not contain that text")
        if found > 1 and not given.all:
            raise FileError(f"{given.path} contains that text {found} times: give more of it, or all=true")
        self.put(given.path, text.replace(given.old, given.new))
        return f"{given.path} is changed in {found} place{'s' if found > 1 else ''}"

    def grep(self, given: Grep) -> str:
        """`path:line: text` for each line found."""
        found = [
            f"{path}:{number}: {line[:300]}"
            for path in sorted(self.files)
            if path.startswith(given.prefix)
            for number, line in enumerate(self.files[path].splitlines(), 1)
            if given.text in line
        ]
        more = f"\n[{len(found) - _FOUND} more]" if len(found) > _FOUND else ""
        return "\n".join(found[:_FOUND]) + more if found else "nothing found"

    def _text(self, path: str) -> str:
        text = self.files.get(checked(path))
        if text is None:
            raise FileError(f"there is no file {path}; there are: {', '.join(sorted(self.files)) or 'none'}")
        return text


def checked(path: str) -> str:
    """A path within the workspace. Raises FileError."""
    if len(path) > 200 or not _PATH.fullmatch(path) or any(set(part) == {"."} for part in path.split("/")):
        raise FileError(
            f"{path[:80]!r} is no path here: give names of A-Z a-z 0-9 . _ - with / between, without . or .."
        )
    return path


# name → the model of its arguments, what it does
TOOLS: dict[str, tuple[type[BaseModel], Callable[[Workspace, Any], str]]] = {
    "ls": (Ls, Workspace.ls),
    "read": (Read, Workspace.read),
    "write": (Write, Workspace.write),
    "edit": (Edit, Workspace.edit),
    "grep": (Grep, Workspace.grep),
}
