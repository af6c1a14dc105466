"""firewall by firewalld: each address is a source of a zone, `trusted` by default, in its runtime configuration.

firewall-cmd --zone=trusted --add-source=10.1.2.3/32
"""

from __future__ import annotations

from ...host import firewalld
from ...host.firewalld import ALREADY_SET, NOT_A_SOURCE, Firewalld, FirewalldError
from ...host.journal import UNCHANGED, word
from ...plugin import Attempts
from .part import prefixed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...host.namespace import Machine
    from ...spec.address import Address


def add(machine: Machine, addresses: list[Address], zone: str) -> None:
    """A source that the zone has already stays when the ADD is undone."""
    bus = Firewalld(machine.program)
    for address in addresses:
        _Source(bus, zone, address).add(machine)


def remove(machine: Machine, addresses: list[Address], zone: str) -> None:
    """Some, or all, may be gone already; what runs no more has no runtime configuration."""
    if not firewalld.is_running():
        return
    bus, attempt = Firewalld(machine.program), Attempts()
    for address in addresses:
        source = _Source(bus, zone, address)
        attempt(machine.journal.run, source.say("remove"), source.remove)
    attempt.finish()


def missing(machine: Machine, addresses: list[Address], zone: str) -> list[Address]:
    bus = Firewalld(machine.program)
    return [address for address in addresses if not bus.call("querySource", zone, prefixed(address))]


def complete(machine: Machine, addresses: list[Address], zone: str) -> list[str]:
    absent = missing(machine, addresses, zone)
    add(machine, absent, zone)
    return [f"firewall-cmd --zone={zone} --add-source={prefixed(address)}" for address in absent]


class _Source:
    """One address as a source of a zone."""

    def __init__(self, bus: Firewalld, zone: str, address: Address) -> None:
        self.bus = bus
        self.names = zone, prefixed(address)

    def say(self, verb: str) -> str:
        zone, source = self.names
        return f"firewall-cmd --zone={word(zone)} --{verb}-source={source}"

    def add(self, machine: Machine) -> None:
        machine.journal.run(self.say("add"), self._add, self.remove)

    def remove(self) -> object:
        try:
            self.bus.call("removeSource", *self.names)
        except FirewalldError as error:
            if not error.is_a(*NOT_A_SOURCE):
                raise
            return UNCHANGED
        return None

    def _add(self) -> object:
        try:
            self.bus.call("addSource", *self.names)
        except FirewalldError as error:
            if not error.is_a(ALREADY_SET):
                raise
            return UNCHANGED
        return None
