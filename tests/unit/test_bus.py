"""What we ask the bus in its own bytes is what jeepney would."""

from __future__ import annotations

import posix

import pytest
from jeepney.bus_messages import message_bus  # type: ignore[import-untyped]

from cnibox.host import firewalld


def test_calls_are_those_of_jeepney() -> None:
    assert firewalld._call(1, "Hello") == message_bus.Hello().serialise(1)
    assert firewalld._call(2, "NameHasOwner", firewalld.NAME) == message_bus.NameHasOwner(firewalld.NAME).serialise(2)


@pytest.mark.parametrize(
    "given, sockets",
    [
        ("", ["/var/run/dbus/system_bus_socket"]),
        ("unix:path=/a", ["/a"]),
        ("unix:path=/a,guid=00;unix:abstract=b;tcp:host=c", ["/a", "\0b"]),
        ("nonsense", []),
    ],
)
def test_addresses(monkeypatch: pytest.MonkeyPatch, given: str, sockets: list[str]) -> None:
    monkeypatch.setitem(posix.environ, b"DBUS_SYSTEM_BUS_ADDRESS", given.encode())
    assert firewalld._addresses() == sockets


def test_length_of_a_message() -> None:
    message = message_bus.NameHasOwner("x").serialise(1)
    assert firewalld._length(message) == len(message)
    assert firewalld._length(message[:10]) == 0
