"""Shows how the parts come up: a table that moves on a terminal, plain lines elsewhere. Knows names, no parts."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text


class Progress:
    """Written to standard error, so that standard output has the one line that programs want."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._began_s: dict[str, float] = {}
        self._took_s: dict[str, float] = {}
        self._where: dict[str, str] = {}
        self._live: Live | None = None

    def __enter__(self) -> Progress:
        if self.console.is_terminal:
            self._live = Live(console=self.console, get_renderable=self._table, refresh_per_second=10, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """From now on only sentences."""
        if self._live is not None:
            self._live.stop()
            self._live = None
            self.console.print(self._table(), highlight=False)

    def starting(self, name: str) -> None:
        """A part is being started."""
        self._began_s[name] = time.monotonic()

    def ready(self, name: str, where: str) -> None:
        """A part is ready, at `where`."""
        self._took_s[name] = time.monotonic() - self._began_s[name]
        self._where[name] = where
        if self._live is None:
            self.say(f"{name} ready after {self._took_s[name]:.1f} s{' at ' + where if where else ''}")

    def say(self, sentence: str) -> None:
        """A sentence for people."""
        self.console.print(Text(f"fleet: {sentence}"), highlight=False, soft_wrap=True)

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for name in self._began_s:
            took_s = self._took_s.get(name)
            sign = Spinner("dots") if took_s is None else Text("✓", style="green")
            spent_s = time.monotonic() - self._began_s[name] if took_s is None else took_s
            table.add_row(sign, Text(name), Text(f"{spent_s:4.1f} s"), Text(self._where.get(name, ""), style="dim"))
        return table
