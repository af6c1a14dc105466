"""Links of the host lent to a container's namespace, and given back.

A move takes a link down, out of its bridge or bond, and its addresses and routes away; MTU, MAC address and alias go
with it. A lent link carries its name on the host as its alias, as the reference's host-device has it.
"""

from __future__ import annotations

import errno

from . import addresses, links, routes
from .journal import HostError, word
from .namespace import attempt, refusal
from .netlink import rtnl
from .netlink.rtnl import AF_INET, AF_INET6, IFF_UP, RTPROT_KERNEL, RTPROT_RA
from .netlink.socket import NLM_F_CREATE, NLM_F_EXCL, NetlinkError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .links import Attributes, Link
    from .namespace import Message, Namespace

RETURN_LIMIT = 1.0
"""Seconds for the kernel to bring hardware home from a namespace that has ended; it takes some milliseconds."""
MADE_ANEW = (RTPROT_KERNEL, RTPROT_RA)
"""Who makes a link's routes again by itself: the kernel, and routers."""
FREE_NAME = "dev%d"
"""For a link whose name is taken: the kernel chooses the number. It does the same when a namespace ends."""


def lend(host: Namespace, link: Link, sandbox: Namespace, name: str, home_name: str) -> None:
    """Move a link into a namespace, with its final name; undone with all that the move has taken from it.

    `home_name` becomes its alias: the name that it is to have on the host again. Its present one is another if the
    kernel has brought it back from a namespace that has ended.

    By one message. The kernel moves first and renames then, so that nobody on the host sees the new name: udev and
    NetworkManager would act on it.
    """
    kept = _Kept(host, link)
    say = f"{host.ip} link set {link.name} netns {word(sandbox.path)} name {name} alias {home_name}"

    def undo() -> None:
        lent = links.find(sandbox, name)
        if lent is not None and lent.alias == home_name:
            kept.restore(_move_back(sandbox, lent, link.name, link.alias, up=link.is_up, master=link.master))

    def do() -> None:
        try:
            _move_in(link, sandbox, name, home_name, say)
        except HostError:
            stray = links.find(sandbox, link.name)  # moved, and then not renamed: somebody took the name meanwhile
            if stray is not None and stray.mac == link.mac and links.at(host, link.index) is None:
                kept.restore(_move_back(sandbox, stray, link.name, link.alias, up=link.is_up, master=link.master))
            raise

    host.machine.journal.run(say, do, undo)


def give_back(sandbox: Namespace, link: Link, name: str, *, up: bool) -> str:
    """Move a lent link to the host; the name that it has there, another one when `name` is taken."""
    change, is_taken = f"{sandbox.ip} link set", links.find(host_of(sandbox), name) is not None
    final, rest = (FREE_NAME, f"alias {name}") if is_taken else (name, "alias ''" + " up" * up)
    say = f"{change} {link.name} down && {change} {link.name} name {final} && {change} {final} netns $$ {rest}"
    if is_taken:
        say = f"{change} {link.name} down && {change} {link.name} netns $$ name {final} {rest}"
    moved: Link = host_of(sandbox).machine.journal.run(say, lambda: _move_back(sandbox, link, name, up=up))
    return moved.name


def take_home(host: Namespace, link: Link, name: str, *, up: bool) -> bool:
    """Give a link that the kernel has brought back its own name; False when that is taken."""
    if links.find(host, name) is not None:
        return False
    flags = IFF_UP if up else 0
    say = f"{host.ip} link set {link.name} name {name} alias ''" + " up" * up
    attributes: Attributes = [("IFLA_IFNAME", name), ("IFLA_IFALIAS", b"")]
    host.change(say, (rtnl.RTM_NEWLINK, 0, _body(link.index, attributes, flags, flags)))
    return True


def find(namespace: Namespace, alias: str, mac: str, index: int) -> Link | None:
    """The lent link, whatever its name; nearly everything else of it can be changed by whoever has it."""
    mine = (link for link in links.every(namespace) if link.alias == alias)
    return next((link for link in mine if link.mac == mac or link.index == index), None)


def wait_for(namespace: Namespace, alias: str, mac: str, index: int) -> Link | None:
    """The same, waited for: a namespace ends later than its last process, and its hardware comes back then."""
    return namespace.wait_for(lambda: find(namespace, alias, mac, index), RETURN_LIMIT, rtnl.RTNLGRP_LINK)


def host_of(namespace: Namespace) -> Namespace:
    return namespace.machine.host


def _move_in(link: Link, sandbox: Namespace, name: str, alias: str, say: str) -> None:
    attributes: Attributes = [("IFLA_NET_NS_FD", sandbox.fd), ("IFLA_IFNAME", name), ("IFLA_IFALIAS", alias.encode())]
    try:
        host_of(sandbox).send(say, (rtnl.RTM_NEWLINK, 0, _body(link.index, attributes)))
    except HostError as error:
        if error.errno == errno.EINVAL:
            error.hint = f"the kernel does not move {link.name} out of its namespace"
        raise


def _move_back(sandbox: Namespace, link: Link, name: str, alias: str = "", *, up: bool, master: int = 0) -> Link:
    """By one packet: down (older kernels rename nothing that is up), renamed inside, moved. The last must succeed."""
    host = host_of(sandbox)
    is_taken = links.find(host, name) is not None
    final, flags = (FREE_NAME, 0) if is_taken else (name, IFF_UP if up else 0)
    attributes: Attributes = [("IFLA_NET_NS_FD", host.fd), ("IFLA_IFNAME", final)]
    attributes += [("IFLA_IFALIAS", (name if is_taken else alias).encode())] + [("IFLA_MASTER", master)] * bool(master)
    messages: list[Message] = [
        (rtnl.RTM_NEWLINK, 0, _body(link.index, [], 0, IFF_UP)),
        (rtnl.RTM_NEWLINK, 0, _body(link.index, [("IFLA_IFNAME", final)])),
        (rtnl.RTM_NEWLINK, 0, _body(link.index, attributes, flags, flags)),
    ]
    answer = sandbox.netlink.request(*messages)[-1]
    if isinstance(answer, NetlinkError):
        raise refusal(f"giving {link.name} in {sandbox.path} back to the host as {name}", answer)
    found = find(host, name, link.mac, link.index) if is_taken else links.find(host, name)
    if found is None:
        raise HostError(errno.ENODEV, f"giving {link.name} back to the host as {name}", "it is not there")
    return found


def _body(index: int, attributes: Attributes, flags: int = 0, change: int = 0) -> dict[str, Any]:
    return {"index": index, "flags": flags, "change": change, "attrs": attributes}


class _Kept:
    """The addresses of a link that is up and its routes; not routes with several next hops."""

    def __init__(self, namespace: Namespace, link: Link) -> None:
        self.namespace = namespace
        # The kernel puts a new IPv6 address in front of the others, where it is preferred as a source.
        self.addresses = addresses.of(namespace, link, AF_INET) + addresses.of(namespace, link, AF_INET6)[::-1]
        ways = routes.through(namespace, link) if link.is_up else []
        self.routes = [route for route in ways if not route.hops and route.proto not in MADE_ANEW]

    def restore(self, link: Link) -> None:
        """Give all of it to the link; what fails does not stop the rest, and is raised at the end."""
        made = NLM_F_CREATE | NLM_F_EXCL
        messages = [(rtnl.RTM_NEWADDR, made, {**each.message, "index": link.index}) for each in self.addresses]
        by_device_first = sorted(self.routes, key=lambda route: bool(route.gateway))
        messages += [(rtnl.RTM_NEWROUTE, made, route.by(link).message) for route in by_device_first]
        refused: HostError | None = None
        for message in messages:
            try:
                attempt(lambda one=message: self.namespace.send(f"restoring {link.name}", one), errno.EEXIST)  # type: ignore[misc]
            except HostError as error:
                refused = refused or error
        if refused is not None:
            raise refused
