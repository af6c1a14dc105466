"""Settings of a link that can be changed and put back: MAC address, MTU, queue length, and what packets it takes."""

from __future__ import annotations

import errno

from . import links
from .journal import HostError
from .namespace import attempt
from .netlink import rtnl
from .netlink.rtnl import IFF_ALLMULTI, IFF_PROMISC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .links import Link
    from .namespace import Message, Namespace

ORDER = ("mac", "promisc", "mtu", "allmulti", "txQLen")
"""Their names, those of tuning's options and backups, in the order in which they are changed."""

REFUSED = (errno.EINVAL, errno.EBUSY, errno.EOPNOTSUPP, errno.EADDRNOTAVAIL, errno.ERANGE, errno.EPERM, errno.EACCES,
           errno.EROFS, errno.ENOENT, errno.ENODEV)  # fmt: skip
"""What the kernel says when something cannot be put back: whoever takes an attachment away then does without."""

_FLAGS = {"promisc": IFF_PROMISC, "allmulti": IFF_ALLMULTI}
_ATTRIBUTES = {"mac": "IFLA_ADDRESS", "mtu": "IFLA_MTU", "txQLen": "IFLA_TXQLEN"}
_WORDS = {"mac": "address", "promisc": "promisc", "mtu": "mtu", "allmulti": "allmulticast", "txQLen": "txqueuelen"}


def of(namespace: Namespace, name: str) -> tuple[Link, dict[str, Any]]:
    """The link of that name, and its settings; HostError ENODEV when there is none."""
    link = links.describe(namespace, name)
    if link is None:
        raise HostError(errno.ENODEV, f"interface {name} in {namespace.path}", "there is no such interface")
    flags = {key: bool(link.flags & bit) for key, bit in _FLAGS.items()}
    found = {"mac": link.mac, "mtu": link.mtu, "txQLen": link.txqlen, **flags}
    return link, {key: found[key] for key in ORDER}


def change(namespace: Namespace, link: Link, key: str, value: Any, before: Any) -> None:
    """Change one; undone to `before`."""
    if value == before:
        return
    say, message = _change(namespace, link, key, value)
    namespace.change(say, message, lambda: namespace.send(*_change(namespace, link, key, before)))


def put_back(namespace: Namespace, link: Link, key: str, value: Any) -> None:
    """Change one back, if the kernel lets us."""
    attempt(lambda: namespace.change(*_change(namespace, link, key, value)), *REFUSED)


def _change(namespace: Namespace, link: Link, key: str, value: Any) -> tuple[str, Message]:
    words = ("on" if value else "off") if key in _FLAGS else value
    say = f"{namespace.ip} link set {link.name} {_WORDS[key]} {words}"
    body: dict[str, Any] = {"index": link.index, "attrs": []}
    if key in _FLAGS:
        body |= {"flags": _FLAGS[key] if value else 0, "change": _FLAGS[key]}
    else:
        body["attrs"] = [(_ATTRIBUTES[key], value)]
    return say, (rtnl.RTM_NEWLINK, 0, body)
