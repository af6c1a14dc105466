"""Network interfaces: found, created, changed, awaited, deleted."""

from __future__ import annotations

import errno
import posix

from . import sysctl
from .journal import HostError, word
from .namespace import attempt, refusal
from .netlink import rtnl
from .netlink.rtnl import IFF_LOWER_UP, IFF_PROMISC, IFF_UP, RTEXT_FILTER_SKIP_STATS
from .netlink.socket import NLM_F_CREATE, NLM_F_EXCL, NetlinkError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .journal import Undo
    from .namespace import Message, Namespace

    Attributes = list[tuple[str, Any]]

READY_LIMIT = 5.0
"""Seconds for a link to become operational: it takes less than one millisecond on an idle machine."""

BR_STATE_FORWARDING = 3  # linux/if_bridge.h
NO_MAC = "00:00:00:00:00:00"

NAME_LIMIT = 15
"""Bytes of a name (IFNAMSIZ - 1)."""
ALTERNATIVE_NAME_LIMIT = 127
"""Bytes of an alternative name (ALTIFNAMSIZ - 1)."""

WANTED = frozenset(
    (
        "IFLA_IFNAME",
        "IFLA_ADDRESS",
        "IFLA_MTU",
        "IFLA_MASTER",
        "IFLA_LINK",
        "IFLA_LINK_NETNSID",
        "IFLA_OPERSTATE",
        "IFLA_IFALIAS",
        "IFLA_LINKINFO",
        "IFLA_INFO_KIND",
        "IFLA_INFO_SLAVE_DATA",
        "IFLA_BRPORT_STATE",
        "IFLA_BRPORT_MODE",
        "IFLA_BRPORT_ISOLATED",
    )
)


class Link:
    """A link as the kernel tells it (linux/if_link.h).

    `peer_index` and `peer_namespace` (by its number in this one, None: this one) are those of a veth's other end.
    `port` holds the settings of a bridge's port, if it is one; `data` those of its kind and `txqlen` are told by
    `describe` alone.
    """

    def __init__(self, message: dict[str, Any]) -> None:
        found = dict(message["attrs"])
        info = dict(found.get("IFLA_LINKINFO", {}).get("attrs", ()))
        self.index: int = message["index"]
        self.flags: int = message["flags"]
        self.name: str = found["IFLA_IFNAME"]
        self.mac: str = found.get("IFLA_ADDRESS", "")
        self.mtu: int = found.get("IFLA_MTU", 0)
        self.master: int = found.get("IFLA_MASTER", 0)
        self.peer_index: int = found.get("IFLA_LINK", 0)
        self.peer_namespace: int | None = found.get("IFLA_LINK_NETNSID")
        self.operstate: str = found.get("IFLA_OPERSTATE", "UNKNOWN")
        self.kind: str = info.get("IFLA_INFO_KIND", "")
        self.alias: str = found.get("IFLA_IFALIAS", "")
        self.txqlen: int = found.get("IFLA_TXQLEN", 0)
        self.data: dict[str, Any] = dict((info.get("IFLA_INFO_DATA") or {}).get("attrs", ()))
        self.port: dict[str, Any] = dict((info.get("IFLA_INFO_SLAVE_DATA") or {}).get("attrs", ()))

    @property
    def is_up(self) -> bool:
        return bool(self.flags & IFF_UP)

    @property
    def has_carrier(self) -> bool:
        """Whether it is up, and packets can leave it (IFF_LOWER_UP)."""
        return bool(self.flags & IFF_LOWER_UP)

    @property
    def forwards(self) -> bool:
        """Whether it is a bridge's port that passes packets on. With STP a new port does so after 30 seconds."""
        return bool(self.port.get("IFLA_BRPORT_STATE") == BR_STATE_FORWARDING)

    @property
    def is_promiscuous(self) -> bool:
        """Whether somebody set that flag: a capture in progress, or being a bridge's port, does not count."""
        return bool(self.flags & IFF_PROMISC)


def find(namespace: Namespace, name: str) -> Link | None:
    """The link of that name or alternative name, or None."""
    length = len(name.encode("utf-8", "surrogateescape"))
    if length > ALTERNATIVE_NAME_LIMIT:
        return None
    key = "IFLA_IFNAME" if length <= NAME_LIMIT else "IFLA_ALT_IFNAME"
    return _query(namespace, f"{namespace.ip} link show {name}", {"attrs": [(key, name)]})


def at(namespace: Namespace, index: int) -> Link | None:
    """The link of that interface index, or None."""
    return _query(namespace, f"{namespace.ip} link show (index {index})", {"index": index, "attrs": []})


def get(namespace: Namespace, name: str) -> Link:
    """The link of that name; HostError ENODEV when there is none."""
    link = find(namespace, name)
    if link is None:
        raise HostError(errno.ENODEV, f"interface {name} in {namespace.path}", "there is no such interface")
    return link


def describe(namespace: Namespace, name: str) -> Link | None:
    """The link of that name with all that the kernel tells of it, or None."""
    return _query(namespace, f"{namespace.ip} -d link show {name}", {"attrs": [("IFLA_IFNAME", name)]}, None)


def knows(namespace: Namespace, kind: str) -> bool:
    """Whether the kernel has links of that kind, by a request that it refuses anyhow; a module is loaded for it."""
    none: Attributes = [("IFLA_ADDRESS", NO_MAC)]
    info = ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", kind)]})
    body = {"attrs": [("IFLA_IFNAME", f"?{kind}"), *none, info]}
    try:
        namespace.send(f"asking for links of type {kind}", (rtnl.RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body))
    except HostError as error:
        return error.errno != errno.EOPNOTSUPP
    return True


def every(namespace: Namespace) -> list[Link]:
    """All links."""
    body = {"attrs": [("IFLA_EXT_MASK", RTEXT_FILTER_SKIP_STATS)]}
    return [Link(message) for message in namespace.dump(f"{namespace.ip} link show", rtnl.RTM_GETLINK, body, WANTED)]


def ports(namespace: Namespace, bridge: Link) -> list[Link]:
    """The links whose master is that bridge."""
    body = {"attrs": [("IFLA_MASTER", bridge.index), ("IFLA_EXT_MASK", RTEXT_FILTER_SKIP_STATS)]}
    say = f"{namespace.ip} link show master {bridge.name}"
    found = [Link(message) for message in namespace.dump(say, rtnl.RTM_GETLINK, body, WANTED)]
    return [link for link in found if link.master == bridge.index]  # kernels before 4.5 do not filter


def _query(namespace: Namespace, say: str, body: dict[str, Any], wanted: frozenset[str] | None = WANTED) -> Link | None:
    body["attrs"].append(("IFLA_EXT_MASK", RTEXT_FILTER_SKIP_STATS))
    try:
        answer = namespace.ask(say, (rtnl.RTM_GETLINK, 0, body), wanted)
    except HostError as error:
        if error.errno == errno.ENODEV:
            return None
        raise
    return Link(answer)


def create(
    namespace: Namespace,
    name: str,
    kind: str,
    attributes: Attributes,
    data: Attributes | None = None,
    *,
    into: Namespace | None = None,
    say: str = "",
    undo: Undo | None = None,
    shared: bool = False,
) -> None:
    """Create a link of a kind (RTM_NEWLINK); undone by deleting it.

    `attributes` are added to its name and kind, `data` are those of the kind (IFLA_INFO_DATA). `into`: the link is born
    in that namespace, with its final name, while links that it refers to are `namespace`'s. `say`: what `ip link
    add` has after the name, unless that is just the type.
    """
    place = into or namespace
    info: Attributes = [("IFLA_INFO_KIND", kind)] + [("IFLA_INFO_DATA", {"attrs": data})] * bool(data)
    moved: Attributes = [("IFLA_NET_NS_FD", place.fd)] * (place is not namespace)
    body = {"attrs": [("IFLA_IFNAME", name), *attributes, *moved, ("IFLA_LINKINFO", {"attrs": info})]}
    say = f"{namespace.ip} link add {name}" + f" netns {word(place.path)}" * bool(moved) + " " + (say or f"type {kind}")
    message = (rtnl.RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body)
    try:
        namespace.change(say, message, undo or deletion(place, name), shared=shared)
    except HostError as error:
        if error.errno == errno.EOPNOTSUPP:
            error.hint = (
                f"this kernel may lack links of type {kind} (modprobe {kind}), or refuse them with these options"
            )
        raise


def create_veth(
    host: Namespace, name: str, sandbox: Namespace, ifname: str, *, master: Link | None, mtu: int, mac: str
) -> None:
    """A veth pair by one message: `name` up and plugged into `master` here, `ifname` down in `sandbox`.

    No rename and no move: the far end is born in its namespace with its final name, MTU and MAC (0, "": the kernel's).
    """
    near_mac = random_mac()
    size: Attributes = [("IFLA_MTU", mtu)] if mtu > 0 else []
    address: Attributes = [("IFLA_ADDRESS", mac)] if mac else []
    peer = {"attrs": [("IFLA_IFNAME", ifname), ("IFLA_NET_NS_FD", sandbox.fd), *size, *address]}
    data = {"attrs": [("VETH_INFO_PEER", peer)]}
    body = {
        "flags": IFF_UP,
        "change": IFF_UP,
        "attrs": [
            ("IFLA_IFNAME", name),
            ("IFLA_ADDRESS", near_mac),
            *size,
            *([("IFLA_MASTER", master.index)] if master else []),
            ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "veth"), ("IFLA_INFO_DATA", data)]}),
        ],
    }
    size_words = f" mtu {mtu}" if size else ""
    say = f"ip link add {name} up address {near_mac}" + (f" master {master.name}" if master else "") + size_words
    say += f" type veth peer name {ifname} netns {word(sandbox.path)}{size_words}" + (f" address {mac}" if mac else "")
    host.change(say, (rtnl.RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body), deletion(host, name))


def set_up(namespace: Namespace, link: Link, *, undone: bool = False, shared: bool = False) -> None:
    """Bring a link up; `undone` unless it goes with a failed ADD anyway."""
    say = f"{namespace.ip} link set {link.name} up"
    undo = (lambda: _set_down_again(namespace, link)) if undone else None
    namespace.change(say, _flags_message(link, IFF_UP, IFF_UP), undo, shared=shared)


def _set_down_again(namespace: Namespace, link: Link) -> None:
    """Down, with the IPv6 addresses that it had before it was up: the kernel would drop them."""
    with sysctl.for_now(namespace, f"net/ipv6/conf/{link.name}/keep_addr_on_down", "1"):
        namespace.send(f"{namespace.ip} link set {link.name} down", _flags_message(link, 0, IFF_UP))


def random_mac() -> str:
    """A random MAC address: unicast, locally administered.

    A link on the host gets it when it is created. The kernel's own random address would be one that systemd-udevd may
    replace later (MACAddressPolicy=persistent; addr_assign_type is 1).
    """
    first, *rest = posix.urandom(6)
    return bytes((first & 0xFC | 0x02, *rest)).hex(":")


def pin_mac(namespace: Namespace, bridge: Link) -> str:
    """Give a bridge the MAC address that it has, or a random one if it has none; the address.

    A bridge that was not given its address takes the lowest of its ports'. The kernel cannot undo this; the address
    stays what it was.
    """
    mac = bridge.mac if bridge.mac != NO_MAC else random_mac()
    addresses = [mac]
    if not bridge.is_up or bridge.operstate == "UNKNOWN":
        # It may never have had a port. The ID of such a bridge is zero: it would be the root of any spanning tree. The
        # kernel sets the ID with an address that differs. Both are one packet: nobody sees the other address.
        addresses = [random_mac(), mac]
    say = f"{namespace.ip} link set {bridge.name} address {mac}"
    messages = [(rtnl.RTM_NEWLINK, 0, {"index": bridge.index, "attrs": [("IFLA_ADDRESS", each)]}) for each in addresses]

    def do() -> None:
        for answer in namespace.netlink.request(*messages):
            if isinstance(answer, NetlinkError):
                raise refusal(say, answer)

    namespace.machine.journal.run(say, do, shared=True)
    return mac


def change(namespace: Namespace, link: Link, attributes: Attributes, say: str) -> None:
    """Change a link that goes with a failed ADD; `say` as in `ip link set X ...`."""
    message = (rtnl.RTM_NEWLINK, 0, {"index": link.index, "attrs": attributes})
    namespace.change(f"{namespace.ip} link set {link.name} {say}", message)


def set_mac(namespace: Namespace, link: Link, mac: str, undo: Undo | None = None) -> None:
    message = (rtnl.RTM_NEWLINK, 0, {"index": link.index, "attrs": [("IFLA_ADDRESS", mac)]})
    namespace.change(f"{namespace.ip} link set {link.name} address {mac}", message, undo)


def rename(namespace: Namespace, link: Link, name: str, undo: Undo | None = None) -> None:
    """Give a link another name; older kernels want it down."""
    message = (rtnl.RTM_NEWLINK, 0, {"index": link.index, "attrs": [("IFLA_IFNAME", name)]})
    namespace.change(f"{namespace.ip} link set {link.name} name {name}", message, undo)


def set_down(namespace: Namespace, link: Link) -> None:
    namespace.change(f"{namespace.ip} link set {link.name} down", _flags_message(link, 0, IFF_UP))


def set_promiscuous(namespace: Namespace, link: Link, *, shared: bool = False) -> None:
    """Switch promiscuous mode on; undone to off."""
    undo = _flags_message(link, 0, IFF_PROMISC)
    say = f"{namespace.ip} link set {link.name} promisc"
    namespace.change(
        f"{say} on",
        _flags_message(link, IFF_PROMISC, IFF_PROMISC),
        lambda: namespace.send(f"{say} off", undo),
        shared=shared,
    )


def set_port(namespace: Namespace, link: Link, settings: Attributes, say: str) -> None:
    """Change settings of a bridge's port; `say` as in `bridge link set dev X ...`. Goes with its link."""
    namespace.change(f"bridge link set dev {link.name} {say}", _port_message(link, settings))


def set_isolated(namespace: Namespace, port: Link, isolated: bool) -> None:
    """Let a bridge's port reach no other isolated one, or do so again; it may be gone by the undo."""
    say = f"bridge link set dev {port.name} isolated"
    message, undo = (_port_message(port, [("IFLA_BRPORT_ISOLATED", int(on))]) for on in (isolated, not isolated))
    words = ("off", "on") if isolated else ("on", "off")
    undone = f"{say} {words[0]}"
    namespace.change(f"{say} {words[1]}", message, lambda: attempt(lambda: namespace.send(undone, undo), errno.ENODEV))


def _port_message(link: Link, settings: Attributes) -> Message:
    slave = {"attrs": [("IFLA_INFO_SLAVE_KIND", "bridge"), ("IFLA_INFO_SLAVE_DATA", {"attrs": settings})]}
    return rtnl.RTM_NEWLINK, 0, {"index": link.index, "attrs": [("IFLA_LINKINFO", slave)]}


def delete(namespace: Namespace, name: str) -> bool:
    """Delete the link of that name; False when it is gone already."""
    say = f"{namespace.ip} link delete {name}"
    return attempt(lambda: namespace.change(say, _deletion_message(name)), errno.ENODEV)


def operational(namespace: Namespace, name: str) -> Link:
    """The link, once it carries packets (RFC 2863's operational state); told by the kernel's events, no polling.

    HostError ETIMEDOUT after READY_LIMIT.
    """

    link = get(namespace, name)

    def is_up() -> bool:
        nonlocal link
        link = get(namespace, name)
        return link.operstate == "UP"

    if link.operstate != "UP" and not namespace.wait_for(is_up, READY_LIMIT, rtnl.RTNLGRP_LINK):
        doing = f"waiting for {name} in {namespace.path} to become operational"
        raise HostError(errno.ETIMEDOUT, doing, f"it is still {link.operstate} after {READY_LIMIT:g} s")
    return link


def _flags_message(link: Link, flags: int, change: int) -> Message:
    return rtnl.RTM_NEWLINK, 0, {"index": link.index, "flags": flags, "change": change, "attrs": []}


def _deletion_message(name: str) -> Message:
    return rtnl.RTM_DELLINK, 0, {"attrs": [("IFLA_IFNAME", name)]}


def deletion(namespace: Namespace, name: str) -> Undo:
    """What undoes the creation of a link; it may be gone already."""
    say = f"{namespace.ip} link delete {name}"
    return lambda: attempt(lambda: namespace.send(say, _deletion_message(name)), errno.ENODEV)
