"""ifb: a link to which what arrives on another one is diverted, so that it can be limited where it leaves this one."""

from __future__ import annotations

import errno

from . import links
from .namespace import attempt
from .netlink import rtnl
from .netlink.rtnl import IFF_UP
from .netlink.socket import NLM_F_CREATE, NLM_F_EXCL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .links import Attributes, Link
    from .namespace import Namespace


def create(namespace: Namespace, name: str, mtu: int) -> None:
    """Create one, down, without a queue of its own; undone."""
    mac = links.random_mac()
    say = f"address {mac} mtu {mtu} txqueuelen 0 type ifb"
    attributes = [("IFLA_ADDRESS", mac), ("IFLA_MTU", mtu), ("IFLA_TXQLEN", 0)]
    links.create(namespace, name, "ifb", attributes, say=say)


def remove(namespace: Namespace, link: Link) -> None:
    """Delete one; gone already is fine. Undone: it is there again, with its index, to which filters lead, and up."""
    say = f"{namespace.ip} link delete {link.name}"
    message = (rtnl.RTM_DELLINK, 0, {"index": link.index, "attrs": []})
    described: Attributes = [("IFLA_IFNAME", link.name), ("IFLA_ADDRESS", link.mac), ("IFLA_MTU", link.mtu)]
    described += [("IFLA_TXQLEN", 0), ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "ifb")]})]
    flags = link.flags & IFF_UP
    body = {"index": link.index, "flags": flags, "change": IFF_UP, "attrs": described}
    again = (rtnl.RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body)
    attempt(
        lambda: namespace.change(say, message, lambda: namespace.send(f"undo {say}", again)),
        errno.ENODEV,
    )
