"""loopback: brings up the container's lo.

{"type": "loopback"}

A new network namespace has an interface lo, but down; containerd and CRI-O call this plugin first.
"""

from __future__ import annotations

from ...host import addresses, links
from ...spec import errors
from ...spec.address import Cidr
from ...spec.errors import CniError
from ...spec.result import Interface, IpConfig, Result
from ...wiring.interface import InterfacePlugin

LO = "lo"
LOOPBACK = (Cidr.parse("127.0.0.0/8"), Cidr.parse("::1/128"))


class Loopback(InterfacePlugin):
    def add(self) -> Result:
        """lo up; the result of the plugins before, or lo with its addresses."""
        previous = self.request.previous
        sandbox = self.open_sandbox()
        lo = links.get(sandbox, LO)
        if not lo.is_up:
            self.machine.journal.why = "type"
            links.set_up(sandbox, lo, undone=True)
        found = []
        for address in addresses.of(sandbox, lo):
            cidr = Cidr.parse(address.text)
            if not any(loopback.contains(cidr.address) for loopback in LOOPBACK):
                text = f"loopback interface found with non-loopback address {cidr}"
                raise CniError(errors.INTERNAL, text, f"in {sandbox.path}; remove it from lo")
            found.append(cidr)
        if previous is not None:
            return previous
        first = {cidr.version: cidr for cidr in reversed(found)}
        ips = [IpConfig(first[version], None, 0) for version in sorted(first)]
        return Result([Interface(LO, lo.mac, sandbox.path)], ips)

    def check(self) -> None:
        if not links.get(self.open_sandbox(), LO).is_up:
            raise CniError(errors.INTERNAL, "loopback interface is down", f"in {self.request.netns}")

    def delete(self) -> None:
        sandbox = self.find_sandbox()
        if sandbox is not None and (lo := links.get(sandbox, LO)).is_up:
            self.machine.journal.why = "DEL"
            links.set_down(sandbox, lo)

    def status(self) -> None:
        """Every namespace has its lo."""

    def gc(self, valid: set[tuple[str, str]]) -> None:
        """Nothing of it is outside the container's namespace."""
