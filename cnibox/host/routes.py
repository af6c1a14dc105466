"""Routes. Destinations and gateways are given as text: "10.1.0.0/16", "default" as "0.0.0.0/0" or "::/0"."""

from __future__ import annotations

import errno

from .journal import HostError
from .netlink import rtnl
from .netlink.rtnl import (
    AF_INET,
    AF_INET6,
    RT_SCOPE_NOWHERE,
    RT_SCOPE_UNIVERSE,
    RT_TABLE_MAIN,
    RTN_LOCAL,
    RTN_UNICAST,
    RTPROT_BOOT,
    RTPROT_UNSPEC,
)
from .netlink.socket import NLM_F_CREATE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .links import Link
    from .namespace import Namespace


class Route:
    """A route as the kernel tells it: `dst` is "10.1.0.0/16"; an empty text and the number 0 mean unset."""

    def __init__(self, message: dict[str, Any]) -> None:
        found = dict(message["attrs"])
        everything = "0.0.0.0" if message["family"] == AF_INET else "::"
        self.version = 4 if message["family"] == AF_INET else 6
        self.dst = f"{found.get('RTA_DST', everything)}/{message['dst_len']}"
        self.gateway: str = found.get("RTA_GATEWAY", "")
        self.source: str = found.get("RTA_PREFSRC", "")
        self.index: int = found.get("RTA_OIF", 0)
        self.table: int = found.get("RTA_TABLE", message["table"])
        self.priority: int = found.get("RTA_PRIORITY", 0)
        self.scope: int = message["scope"]
        self.type: int = message["type"]
        self.hops = [(hop["oif"], dict(hop["attrs"]).get("RTA_GATEWAY", "")) for hop in found.get("RTA_MULTIPATH", ())]


def of(namespace: Namespace, version: int) -> list[Route]:
    """All unicast routes of one IP version, in every table."""
    body = {"family": AF_INET if version == 4 else AF_INET6, "attrs": []}
    say = f"{namespace.ip} -{version} route show table all"
    found = [Route(message) for message in namespace.dump(say, rtnl.RTM_GETROUTE, body)]
    return [route for route in found if route.type == RTN_UNICAST]


def default_interface(namespace: Namespace) -> int:
    """The interface index of the main table's default route, of IPv4 before IPv6, the best metric first; 0: none."""
    for version in (4, 6):
        found = [route for route in of(namespace, version) if route.table == RT_TABLE_MAIN and route.dst.endswith("/0")]
        for route in sorted(found, key=lambda route: route.priority):
            if index := route.index or next((hop for hop, _ in route.hops), 0):
                return index
    return 0


def is_local(namespace: Namespace, address: str) -> bool:
    """Whether packets to that IPv6 address are for the namespace itself."""
    body = {"family": AF_INET6, "dst_len": 128, "attrs": [("RTA_DST", address)]}
    try:
        answers = namespace.send(f"{namespace.ip} route get {address}", (rtnl.RTM_GETROUTE, 0, body))
    except HostError as error:
        if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
            return False
        raise
    return bool(answers[0]["type"] == RTN_LOCAL)


def add(
    namespace: Namespace,
    link: Link,
    dst: str,
    gateway: str = "",
    *,
    source: str = "",
    scope: int = RT_SCOPE_UNIVERSE,
    table: int = 0,
    priority: int = 0,
    mtu: int = 0,
    advmss: int = 0,
) -> None:
    """Add a route through a link, with which it goes. HostError EEXIST: it is there; ENETUNREACH: a bad gateway."""
    metrics = [("RTAX_MTU", mtu)] * bool(mtu) + [("RTAX_ADVMSS", advmss)] * bool(advmss)
    body = _body(link, dst, gateway, source, scope, table)
    body["attrs"] += [("RTA_PRIORITY", priority)] * bool(priority)
    body["attrs"] += [("RTA_METRICS", {"attrs": metrics})] * bool(metrics)
    say = f"{namespace.ip} route add {dst}" + (f" via {gateway}" if gateway else "") + f" dev {link.name}"
    say += f" src {source}" * bool(source) + f" table {table}" * bool(table) + f" metric {priority}" * bool(priority)
    say += f" mtu {mtu}" * bool(mtu) + f" advmss {advmss}" * bool(advmss)
    namespace.change(say, (rtnl.RTM_NEWROUTE, NLM_F_CREATE, body))


def remove(namespace: Namespace, link: Link, dst: str) -> None:
    """Remove the main table's route to a destination through a link."""
    body = {**_body(link, dst, "", "", RT_SCOPE_NOWHERE, 0), "proto": RTPROT_UNSPEC}  # whoever made it
    namespace.change(f"{namespace.ip} route delete {dst} dev {link.name}", (rtnl.RTM_DELROUTE, 0, body))


def _body(link: Link, dst: str, gateway: str, source: str, scope: int, table: int) -> dict[str, Any]:
    destination, _, length = dst.partition("/")
    attributes: list[tuple[str, Any]] = [("RTA_OIF", link.index)]
    if int(length):
        attributes.append(("RTA_DST", destination))
    if gateway:
        attributes.append(("RTA_GATEWAY", gateway))
    if source:
        attributes.append(("RTA_PREFSRC", source))
    if table > 255:
        attributes.append(("RTA_TABLE", table))
    return {
        "family": AF_INET6 if ":" in dst else AF_INET,
        "dst_len": int(length),
        "table": (table or RT_TABLE_MAIN) if table <= 255 else 0,
        "proto": RTPROT_BOOT,
        "scope": scope,
        "type": RTN_UNICAST,
        "attrs": attributes,
    }
