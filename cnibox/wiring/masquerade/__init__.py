"""Masquerading: what a container sends beyond its own subnet leaves with the host's address.

Two backends, iptables and nftables, with the reference's names of chains, tables and comments, so that either side's
DEL cleans up after the other's ADD. Both modules have the same functions; only the one in use is imported.
"""

from __future__ import annotations

from ...plugin import Attempts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from ...host.namespace import Machine
    from ...spec.address import Cidr
    from ..owner import Owner


def add(
    machine: Machine, owner: Owner, backend: str, addresses: list[Cidr], shared_chain: bool, lock: int
) -> Callable[[], None]:
    """Begin to set it up; the function returned waits until it is there.

    shared_chain: whether another interface of the container is in the same network
    lock: descriptor of the attachment's lock, which programs that we start hold on to should this process be killed
    """
    finish: Callable[[], None] = _backend(backend).add(machine, owner, addresses, shared_chain, lock)
    return finish


def remove(machine: Machine, owner: Owner, backend: str, addresses: list[Cidr]) -> Callable[[], None]:
    """Begin to remove it; the function returned waits until it is gone. It may be gone already."""
    finish: Callable[[], None] = _backend(backend).remove(machine, owner, addresses)
    return finish


def remove_by_name(machine: Machine, owner: Owner, keep: list[Cidr]) -> None:
    """Remove it from both backends when nothing but names is known: an attachment that a Go plugin made.

    `keep`: addresses of the container's other attachments to that network.
    """
    attempt = Attempts()
    for backend in ("nftables", "iptables"):
        attempt(_backend(backend).remove_by_name, machine, owner, keep)
    attempt.finish()


def collect(machine: Machine, network: str, valid: set[tuple[str, str]]) -> None:
    """Remove from both backends what belongs to the network and to none of these (container ID, interface name)."""
    attempt = Attempts()
    for backend in ("nftables", "iptables"):
        attempt(_backend(backend).collect, machine, network, valid)
    attempt.finish()


def missing(machine: Machine, owner: Owner, backend: str, addresses: list[Cidr]) -> list[str]:
    """The rules that are not there as they were made, in the words of iptables or nft."""
    found: list[str] = _backend(backend).missing(machine, owner, addresses)
    return found


def repair(machine: Machine, owner: Owner, backend: str, addresses: list[Cidr], others: list[Cidr]) -> None:
    """Make the rules anew; `others`: addresses of the container's other attachments to that network."""
    _backend(backend).repair(machine, owner, addresses, others)


def _backend(name: str) -> ModuleType:
    if name == "iptables":
        from . import iptables

        return iptables
    from . import nftables

    return nftables
