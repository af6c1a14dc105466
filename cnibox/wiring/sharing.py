"""What attachments use together (a bridge, its address, forwarding) is undone only while nobody else relies on it."""

from __future__ import annotations

import errno
import fcntl
import posix
import time

from .. import record
from ..host import addresses, files, links
from ..host.journal import HostError
from ..host.namespace import attempt
from ..record import STATE
from ..spec import errors
from ..spec.address import Cidr
from ..spec.errors import CniError
from .interface import IPV6_MTU, ipv6_needs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host.addresses import Assigned
    from ..host.journal import Undo
    from ..host.links import Link
    from ..host.namespace import Machine, Namespace


class Hold:
    """Tells every other ADD, until this process ends, that what is shared is in use.

    A failed ADD may take back what it added to shared things only if no other runs now (it gets the lock for itself),
    and none that ran beside it has succeeded (the lock file has the time that it had before): they found those things
    there, and would lose them.
    """

    def __init__(self, machine: Machine) -> None:
        record.make_state(machine)
        path = f"{STATE}/lock"
        with files.Doing(f"locking {path}"):
            self._fd = posix.open(path, posix.O_RDWR | posix.O_CREAT | files.SAFE, 0o600)
            fcntl.flock(self._fd, fcntl.LOCK_SH)  # held for itself alone only by an undo, which takes milliseconds
            self._seen = posix.fstat(self._fd).st_mtime_ns
        machine.journal.alone = self._alone

    def succeeded(self) -> None:
        """This ADD has; from now on it relies on what it found."""
        now = time.time_ns()
        with files.Doing(f"noting in {STATE}/lock that an ADD has succeeded"):
            if posix.fstat(self._fd).st_mtime_ns == self._seen:
                self._seen = now  # its own undo may still follow, if the result cannot be written
            posix.utime(self._fd, ns=(now, now))

    def _alone(self) -> bool:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return posix.fstat(self._fd).st_mtime_ns == self._seen


def unless_joined(host: Namespace, bridge: Link, undo: Undo, *, besides: str = "") -> Undo:
    """`undo` of what a bridge's containers may rely on, only if no port has joined it since (but that one of ours).

    A Go plugin takes no part in our lock: the new port may be a container with this gateway, or in this VLAN.
    """
    before = {port.index for port in links.ports(host, bridge)}

    def undo_if_alone() -> None:
        if all(port.index in before or port.name == besides for port in links.ports(host, bridge)):
            undo()

    return undo_if_alone


def keep_mac(machine: Machine, bridge: Link, *, is_new: bool) -> None:
    """Pin a bridge's MAC address before a port of ours joins it: else it would change with the ports that come and go.

    Setting an address that is set already flushes the bridge's neighbours, and the kernel does not tell by netlink
    whether it is set (addr_assign_type). So it is written down. `is_new`: the bridge was created with its address.
    """
    if _is_pinned(bridge.index, bridge.mac):
        return
    machine.journal.why = "bridge"
    path = _pinned(bridge.index, bridge.mac if is_new else links.pin_mac(machine.host, bridge))

    def write() -> None:
        with files.Doing(f"writing {path}"):
            posix.close(posix.open(path, posix.O_WRONLY | posix.O_CREAT | files.SAFE, 0o600))

    def undo() -> None:
        attempt(lambda: posix.unlink(path), errno.ENOENT)

    machine.journal.run(f"touch {path}", write, undo, shared=True)


def _pinned(index: int, mac: str) -> str:
    """The empty file that says that this bridge's address is pinned. An index is used again, an address is not."""
    return f"{STATE}/bridge.{index}.{mac}"


def _is_pinned(index: int, mac: str) -> bool:
    path = _pinned(index, mac)
    with files.Doing(f"looking for {path}"):
        try:
            posix.stat(path)
        except FileNotFoundError:
            return False
        return True


def provide_gateways(machine: Machine, link: Link, bridge: Link, wanted: list[Cidr], *, replace: bool) -> None:
    """Give the gateways' addresses to a link: the bridge itself, or its interface in a VLAN."""
    there = addresses.of(machine.host, link)
    missing = [gateway for gateway in wanted if str(gateway) not in {address.text for address in there}]
    others = [address for address in there if address.text not in {str(gateway) for gateway in wanted}]
    for gateway in missing:
        _make_room(machine, link, gateway, others, replace)
        _add_gateway(machine.host, link, bridge, gateway)


def _make_room(machine: Machine, link: Link, gateway: Cidr, there: list[Assigned], replace: bool) -> None:
    """Other IPv4 addresses, and overlapping IPv6 ones, are in the way."""
    for address in there:
        other = Cidr.parse(address.text)
        overlaps = other.contains(gateway.address) or gateway.contains(other.address)
        if other.version != gateway.version or (other.version == 6 and not overlaps):
            continue
        if not replace:
            raise CniError(
                errors.INTERNAL,
                f"{link.name} already has an IP address different from {gateway}: it has {other}",
                f'set "forceAddress": true to replace it, or remove it (ip address delete {other} dev '
                f"{link.name}) if no container uses it",
            )
        machine.journal.why = "forceAddress"
        addresses.remove(machine.host, link, other)
        machine.journal.why = "isGateway"


def _add_gateway(host: Namespace, link: Link, bridge: Link, gateway: Cidr) -> None:
    undo = unless_joined(host, bridge, addresses.removal(host, link, gateway))
    try:
        addresses.add(host, link, gateway, undo=undo, shared=True)
    except HostError as error:
        if error.errno == errno.EEXIST:  # another container's ADD was faster
            return
        if gateway.version == 6 and 0 < link.mtu < IPV6_MTU:
            error.hint = ipv6_needs(link.name, link.mtu)
        elif error.errno == errno.EACCES and gateway.version == 6:
            error.hint = f"IPv6 is disabled on it; sysctl -w net/ipv6/conf/{link.name}/disable_ipv6=0"
        raise
