"""Which port a part gets: the preferred one, else another and a sentence."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from fleet.ports import Ports, free


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def test_a_taken_port_is_replaced_and_said(taken: int) -> None:
    ports = Ports()
    port = ports.choose("the broker", taken)
    assert port != taken
    assert free("127.0.0.1", port)
    assert ports.notes == [f"port {taken} is taken: the broker listens on {port}"]


def test_the_preferred_port_is_used_where_it_is_free(taken: int) -> None:
    ports = Ports()
    wanted = Ports().choose("a", 0)
    assert ports.choose("a", wanted) == wanted
    assert ports.notes == []


def test_no_port_is_given_twice() -> None:
    ports = Ports()
    wanted = ports.choose("a", 0)
    assert ports.choose("b", wanted) != wanted
    assert len(ports.notes) == 1
