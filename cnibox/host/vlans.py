"""VLANs of a bridge and its ports (linux/if_bridge.h), as `bridge vlan` and `ip link set type bridge` have them."""

from __future__ import annotations

import errno

from .journal import HostError
from .netlink import rtnl
from .netlink.rtnl import (
    AF_BRIDGE,
    BRIDGE_VLAN_INFO_PVID,
    BRIDGE_VLAN_INFO_RANGE_BEGIN,
    BRIDGE_VLAN_INFO_RANGE_END,
    BRIDGE_VLAN_INFO_UNTAGGED,
    RTEXT_FILTER_BRVLAN_COMPRESSED,
)
from .netlink.socket import NLM_F_CREATE, NLM_F_EXCL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .journal import Undo
    from .links import Link
    from .namespace import Message, Namespace

    Membership = dict[int, int]
    """VLAN ID -> TAGGED, NATIVE, or another combination of PVID and UNTAGGED."""

FIRST, LAST = 1, 4094
TAGGED, PVID, UNTAGGED = 0, BRIDGE_VLAN_INFO_PVID, BRIDGE_VLAN_INFO_UNTAGGED
NATIVE = PVID | UNTAGGED
"""Frames without a tag are in this VLAN, and its frames leave without one."""

LACKING = "this kernel lacks bridge VLAN filtering (CONFIG_BRIDGE_VLAN_FILTERING)"


def are_known(namespace: Namespace) -> bool:
    """Whether the kernel's bridges can filter VLANs, by a request that it refuses anyhow.

    Such a kernel looks at the protocol first (br_validate), and refuses that; all others refuse the name.
    """
    data = {"attrs": [("IFLA_BR_VLAN_PROTOCOL", 0)]}
    info = {"attrs": [("IFLA_INFO_KIND", "bridge"), ("IFLA_INFO_DATA", data)]}
    body = {"attrs": [("IFLA_IFNAME", "no/name"), ("IFLA_LINKINFO", info)]}
    try:
        namespace.send("asking for bridge VLAN filtering", (rtnl.RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, body))
    except HostError as error:
        return error.errno == errno.EPROTONOSUPPORT
    return False


def start_filtering(namespace: Namespace, bridge: Link, undo: Undo) -> None:
    """Let a bridge look at VLANs, for all of its ports. HostError EOPNOTSUPP says what the kernel lacks."""
    try:
        namespace.change(_filtering_say(namespace, bridge, 1), _filtering(bridge, 1), undo, shared=True)
    except HostError as error:
        if error.errno == errno.EOPNOTSUPP:
            error.hint = LACKING
        raise


def stop_filtering(namespace: Namespace, bridge: Link) -> None:
    """The undo of `start_filtering`."""
    namespace.send(_filtering_say(namespace, bridge, 0), _filtering(bridge, 0))


def _filtering_say(namespace: Namespace, bridge: Link, value: int) -> str:
    return f"{namespace.ip} link set {bridge.name} type bridge vlan_filtering {value}"


def _filtering(bridge: Link, value: int) -> Message:
    data = {"attrs": [("IFLA_BR_VLAN_FILTERING", value)]}
    info = {"attrs": [("IFLA_INFO_KIND", "bridge"), ("IFLA_INFO_DATA", data)]}
    return rtnl.RTM_NEWLINK, 0, {"index": bridge.index, "attrs": [("IFLA_LINKINFO", info)]}


def of(namespace: Namespace, port: Link) -> Membership:
    """The VLANs that a port, or a bridge itself, is in."""
    body = {"family": AF_BRIDGE, "attrs": [("IFLA_EXT_MASK", RTEXT_FILTER_BRVLAN_COMPRESSED)]}
    wanted = frozenset(("IFLA_AF_SPEC", "IFLA_BRIDGE_VLAN_INFO"))
    found: Membership = {}
    for message in namespace.dump(f"bridge vlan show dev {port.name}", rtnl.RTM_GETLINK, body, wanted):
        if message["index"] == port.index:
            for _, spec in message["attrs"]:
                found |= _expanded([info for _, info in spec["attrs"]])
    return found


def _expanded(infos: list[dict[str, int]]) -> Membership:
    found: Membership = {}
    begin = 0
    for info in infos:
        vid, flags = info["vid"], info["flags"]
        if flags & BRIDGE_VLAN_INFO_RANGE_BEGIN:
            begin = vid
            continue
        first = begin if flags & BRIDGE_VLAN_INFO_RANGE_END else vid
        found |= dict.fromkeys(range(first, vid + 1), flags & NATIVE)
    return found


def join(namespace: Namespace, port: Link, wanted: Membership, *, keep: bool) -> None:
    """Put a port into VLANs, and unless `keep` out of all others; goes with its link. One packet for the kernel."""
    with namespace.batch():
        if not keep:
            _change(namespace, port, rtnl.RTM_DELLINK, FIRST, LAST, TAGGED)
        for first, last, flags in ranges(wanted):
            _change(namespace, port, rtnl.RTM_SETLINK, first, last, flags)


def _change(namespace: Namespace, port: Link, kind: int, first: int, last: int, flags: int) -> None:
    begin, end = BRIDGE_VLAN_INFO_RANGE_BEGIN, BRIDGE_VLAN_INFO_RANGE_END
    if first == last:
        infos: list[tuple[str, Any]] = [("IFLA_BRIDGE_VLAN_INFO", {"flags": flags, "vid": first})]
    else:
        infos = [("IFLA_BRIDGE_VLAN_INFO", {"flags": flags | begin, "vid": first})]
        infos += [("IFLA_BRIDGE_VLAN_INFO", {"flags": flags | end, "vid": last})]
    body = {"family": AF_BRIDGE, "index": port.index, "attrs": [("IFLA_AF_SPEC", {"attrs": infos})]}
    verb = "delete" if kind == rtnl.RTM_DELLINK else "add"
    numbers = f"{first}-{last}" if first != last else f"{first}"
    say = f"bridge vlan {verb} dev {port.name} vid {numbers}" + " pvid" * bool(flags & PVID)
    say += " untagged" * bool(flags & UNTAGGED)
    namespace.change(say, (kind, 0, body))


def ranges(membership: Membership) -> list[tuple[int, int, int]]:
    """(first, last, flags) of neighbours with the same flags, in order; a native VLAN is by itself (it is only one)."""
    found: list[tuple[int, int, int]] = []
    for vid, flags in sorted(membership.items()):
        if found and found[-1][1:] == (vid - 1, flags):
            found[-1] = (found[-1][0], vid, flags)
        else:
            found.append((vid, vid, flags))
    return found
