"""Addresses of a link. An address is a Cidr-like object: `str()` gives "10.1.2.3/24", and `.version` 4 or 6."""

from __future__ import annotations

import errno

from . import routes
from .journal import HostError
from .namespace import attempt
from .netlink import rtnl
from .netlink.rtnl import AF_INET, AF_INET6, IFA_F_DADFAILED, IFA_F_NODAD, IFA_F_TENTATIVE, RT_SCOPE_LINK
from .netlink.socket import NLM_F_CREATE, NLM_F_EXCL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from .journal import Undo
    from .links import Link
    from .namespace import Message, Namespace

    class Address(Protocol):
        """An address with the length of its prefix."""

        @property
        def version(self) -> int: ...
        @property
        def prefix(self) -> int: ...


class Assigned:
    """An address as the kernel tells it: "10.1.2.3/24", its scope (linux/rtnetlink.h) and flags (linux/if_addr.h)."""

    def __init__(self, message: dict[str, Any]) -> None:
        found = dict(message["attrs"])
        self.message = message
        self.text = f"{found.get('IFA_LOCAL') or found['IFA_ADDRESS']}/{message['prefixlen']}"
        self.version = 6 if message["family"] == AF_INET6 else 4
        self.index: int = message["index"]
        self.scope: int = message["scope"]
        self.flags: int = found.get("IFA_FLAGS", message["flags"])

    @classmethod
    def unpacked(cls, text: str) -> Assigned:
        """An address from what `packed` gave; ValueError when that is something else."""
        data = bytes.fromhex(text)
        return cls(rtnl.FAMILY.decode("ifaddrmsg", data, 0, len(data)))

    def packed(self) -> str:
        """All of it in hexadecimal, to be written down."""
        return rtnl.FAMILY.encode("ifaddrmsg", self.message).hex()


def of(namespace: Namespace, link: Link, *families: int) -> list[Assigned]:
    """The link's addresses, IPv4 first; `families`: AF_INET or AF_INET6 alone."""
    found = []
    for family in families or (AF_INET, AF_INET6):
        body = {"family": family, "index": link.index, "attrs": []}
        say = f"{namespace.ip} address show dev {link.name}"
        found += [Assigned(message) for message in namespace.dump(say, rtnl.RTM_GETADDR, body)]
    return [address for address in found if address.index == link.index]


def of_host(namespace: Namespace, version: int) -> list[str]:
    """All addresses of the namespace itself, without prefix length; IPv6 without link-local ones."""
    body = {"family": AF_INET if version == 4 else AF_INET6, "attrs": []}
    found = map(Assigned, namespace.dump(f"{namespace.ip} -{version} address show", rtnl.RTM_GETADDR, body))
    return [each.text.partition("/")[0] for each in found if version == 4 or each.scope != RT_SCOPE_LINK]


def add(
    namespace: Namespace,
    link: Link,
    address: Address,
    *,
    dad: bool = False,
    undo: Undo | None = None,
    shared: bool = False,
) -> None:
    """Assign an address; it goes with its link.

    Without `dad` an IPv6 address is usable as soon as `wait_until_usable` returns: duplicate address detection (RFC
    4862, 5.4) takes one to two seconds, and on a link of our own making with addresses from IPAM has nothing to find.
    """
    say = f"{namespace.ip} address add {address} dev {link.name}"
    message = _message(rtnl.RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, link, address, dad)
    say += " nodad" if address.version == 6 and not dad else " broadcast +" if _has_broadcast(address) else ""
    namespace.change(say, message, undo, shared=shared)


def remove(namespace: Namespace, link: Link, address: Address) -> None:
    """Take an address away from a shared link."""
    say = f"{namespace.ip} address delete {address} dev {link.name}"
    message = _message(rtnl.RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, link, address, False)

    def undo() -> None:
        attempt(lambda: namespace.send(f"undo: {say}", message), errno.EEXIST)

    namespace.change(say, _message(rtnl.RTM_DELADDR, 0, link, address, False), undo, shared=True)


def put_back(namespace: Namespace, link: Link, address: Assigned, do: routes.Do) -> None:
    """Assign an IPv6 address that the link had, unless it is there; it is not probed for duplicates again.

    `do`: namespace.change or namespace.send.
    """
    attributes = [pair for pair in address.message["attrs"] if pair[0] != "IFA_FLAGS"]
    attributes.append(("IFA_FLAGS", address.flags & ~IFA_F_TENTATIVE | IFA_F_NODAD))
    message = (rtnl.RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, {**address.message, "attrs": attributes})
    say = f"{namespace.ip} address add {address.text} dev {link.name} nodad"
    attempt(lambda: do(say, message), errno.EEXIST)


def removal(namespace: Namespace, link: Link, address: Address) -> Undo:
    """What undoes the assignment of an address; it may be gone already, with or without its link."""
    say = f"{namespace.ip} address delete {address} dev {link.name}"
    message = _message(rtnl.RTM_DELADDR, 0, link, address, False)
    return lambda: attempt(lambda: namespace.send(say, message), errno.EADDRNOTAVAIL, errno.ENODEV)


def wait_until_usable(
    namespace: Namespace, link: Link, wanted: set[str], limit: float, *, link_local: bool = False
) -> None:
    """Wait until packets to the wanted IPv6 addresses of the link are taken; `link_local`: also to those of that scope.

    Even without duplicate address detection the kernel makes an address's local route later, in a work queue
    (addrconf_dad_work), and drops what comes before. HostError EADDRNOTAVAIL names one that somebody else has.
    """
    waiting: list[str] = []

    def all_are() -> bool:
        waiting[:] = _unusable(namespace, link, wanted, link_local)
        return not waiting

    if not namespace.wait_for(all_are, limit, rtnl.RTNLGRP_IPV6_ROUTE, rtnl.RTNLGRP_IPV6_IFADDR):
        doing = f"waiting for {', '.join(waiting)} on {link.name} to become usable"
        raise HostError(errno.ETIMEDOUT, doing, f"the kernel has not finished within {limit:g} s")


def _unusable(namespace: Namespace, link: Link, wanted: set[str], link_local: bool) -> list[str]:
    found = []
    for address in of(namespace, link, AF_INET6):
        if address.text not in wanted and not (link_local and address.scope == RT_SCOPE_LINK):
            continue
        if address.flags & IFA_F_DADFAILED:
            if address.text in wanted:
                doing = f"duplicate address detection of {address.text} on {link.name}"
                raise HostError(errno.EADDRNOTAVAIL, doing, "another host on this network has that address")
        elif address.flags & IFA_F_TENTATIVE or not routes.is_local(namespace, address.text.partition("/")[0]):
            found.append(address.text)
    return found


def _message(kind: int, flags: int, link: Link, address: Address, dad: bool) -> Message:
    text = str(address).partition("/")[0]
    attributes: list[tuple[str, Any]] = [("IFA_LOCAL", text), ("IFA_ADDRESS", text)]
    if _has_broadcast(address):
        attributes.append(("IFA_BROADCAST", _broadcast(text, address.prefix)))
    if address.version == 6 and not dad:
        attributes.append(("IFA_FLAGS", IFA_F_NODAD))
    family = AF_INET if address.version == 4 else AF_INET6
    return kind, flags, {"family": family, "prefixlen": address.prefix, "index": link.index, "attrs": attributes}


def _has_broadcast(address: Address) -> bool:
    return address.version == 4 and address.prefix < 31


def _broadcast(text: str, prefix: int) -> str:
    number = 0
    for part in text.split("."):
        number = number << 8 | int(part)
    number |= (1 << 32 - prefix) - 1
    return ".".join(str(number >> shift & 255) for shift in (24, 16, 8, 0))
