"""Which port a part listens on: the preferred one, or another that is free. Knows nothing of parts."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field


def free(host: str, port: int) -> bool:
    """Whether somebody could listen there now."""
    with socket.socket(_family(host), socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


@dataclass(slots=True)
class Ports:
    """Hands out ports on `host`, none of them twice. `notes`: a sentence for each that was taken."""

    host: str = "127.0.0.1"
    notes: list[str] = field(default_factory=list)
    given: set[int] = field(default_factory=set)

    def choose(self, name: str, preferred: int, *, host: str | None = None) -> int:
        """`preferred`, or any free port (preferred 0: any, without a note). Raises OSError if the host is not ours."""
        where = host or self.host
        if preferred and preferred not in self.given and free(where, preferred):
            port = preferred
        else:
            port = self._any(where)
            if preferred:
                self.notes.append(f"port {preferred} is taken: {name} listens on {port}")
        self.given.add(port)
        return port

    def _any(self, host: str) -> int:
        while True:
            with socket.socket(_family(host), socket.SOCK_STREAM) as probe:
                probe.bind((host, 0))
                port: int = probe.getsockname()[1]
            if port not in self.given:
                return port


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
