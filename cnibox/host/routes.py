"""Routes. Destinations and gateways are given as text: "10.1.0.0/16", "default" as "0.0.0.0/0" or "::/0"."""

from __future__ import annotations

import errno

from .journal import HostError
from .namespace import attempt
from .netlink import rtnl
from .netlink.rtnl import (
    AF_INET,
    AF_INET6,
    RT_SCOPE_LINK,
    RT_SCOPE_NOWHERE,
    RT_SCOPE_UNIVERSE,
    RT_TABLE_MAIN,
    RTM_F_CLONED,
    RTN_LOCAL,
    RTN_UNICAST,
    RTNH_F_ONLINK,
    RTPROT_BOOT,
    RTPROT_KERNEL,
    RTPROT_RA,
    RTPROT_UNSPEC,
)
from .netlink.socket import NLM_F_APPEND, NLM_F_CREATE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .links import Link
    from .namespace import Message, Namespace

    Do = Callable[[str, Message], object]

_IP6_PRIORITY = 1024
"""Of a route that is added without one (IP6_RT_PRIO_USER)."""
_NOT_COPIED = ("RTA_TABLE", "RTA_CACHEINFO", "RTA_EXPIRES", 30)  # 30: RTA_NH_ID, which the next hops stand beside
_PROTOCOLS = {RTPROT_KERNEL: "kernel", RTPROT_RA: "ra"}
_SCOPES = {RT_SCOPE_UNIVERSE: "global", RT_SCOPE_LINK: "link"}
_GONE = (errno.ESRCH, errno.ENOENT, errno.ENODEV)


class Route:
    """A route as the kernel tells it: `dst` is "10.1.0.0/16"; an empty text and the number 0 mean unset."""

    def __init__(self, message: dict[str, Any]) -> None:
        found = dict(message["attrs"])
        self.message = message
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
        self.proto: int = message["proto"]
        self.hops = [(hop["oif"], dict(hop["attrs"]).get("RTA_GATEWAY", "")) for hop in found.get("RTA_MULTIPATH", ())]

    @classmethod
    def made(cls, link: Link, dst: str, gateway: str = "", *, source: str = "", scope: int = 0) -> Route:
        """A route through a link that is not there yet, for `put`."""
        body = _body(link, dst, gateway, source, scope, 0)
        body["attrs"] += [("RTA_PRIORITY", _IP6_PRIORITY)] * (":" in dst)
        return cls(body)

    @classmethod
    def unpacked(cls, text: str) -> Route:
        """A route from what `packed` gave; ValueError when that is something else."""
        data = bytes.fromhex(text)
        return cls(rtnl.FAMILY.decode("rtmsg", data, 0, len(data)))

    def packed(self) -> str:
        """All of it in hexadecimal, to be written down."""
        return rtnl.FAMILY.encode("rtmsg", self.message).hex()

    @property
    def key(self) -> tuple[object, ...]:
        """What tells it from the other routes of its table."""
        hops = tuple(self.hops)
        return self.version, self.dst, self.priority, self.proto, self.gateway, self.source, self.index, hops

    @property
    def gateways(self) -> list[str]:
        return [gateway for gateway in (self.gateway, *(via for _, via in self.hops)) if gateway]

    @property
    def is_default(self) -> bool:
        return self.dst.endswith("/0")

    def leads_through(self, link: Link) -> bool:
        """Whether all packets that it routes leave by that link."""
        return {self.index} | {index for index, _ in self.hops} <= {0, link.index} and bool(self.index or self.hops)

    def into(self, table: int) -> Route:
        """The same route for another table, without what the kernel tells of its state."""
        attributes = [pair for pair in self.message["attrs"] if pair[0] not in _NOT_COPIED]
        attributes += [("RTA_TABLE", table)] * (table > 255)
        for name, value in attributes:
            for hop in value if name == "RTA_MULTIPATH" else ():
                hop["flags"] &= RTNH_F_ONLINK
        flags = self.message.get("flags", 0) & RTNH_F_ONLINK
        place = {"table": table if table <= 255 else 0, "flags": flags, "attrs": attributes}
        return Route({**self.message, **place})

    def by(self, link: Link) -> Route:
        """The same route by another link; of one with a single next hop."""
        found = self.into(self.table)
        attributes = [(name, link.index if name == "RTA_OIF" else value) for name, value in found.message["attrs"]]
        return Route({**found.message, "attrs": attributes})

    def __str__(self) -> str:
        text = (
            self.dst
            + "".join(f" via {gateway}" for gateway in self.gateways)
            + f" src {self.source}" * bool(self.source)
        )
        return (
            text
            + f" table {self.table}" * (self.table != RT_TABLE_MAIN)
            + f" metric {self.priority}" * bool(self.priority)
        )


    def words(self, link: Link) -> str:
        """The same for `ip route`, of a route that leads through the link."""
        text = self.dst + (f" via {self.gateway} dev {link.name}" if self.gateway else f" dev {link.name}")
        if self.hops:
            text = self.dst
        text += f" src {self.source}" * bool(self.source) + f" table {self.table}" * (self.table != RT_TABLE_MAIN)
        text += f" metric {self.priority}" * bool(self.priority)
        proto = _PROTOCOLS.get(self.proto, self.proto)
        text += f" proto {proto}" * (self.proto not in (RTPROT_UNSPEC, RTPROT_BOOT))
        text += _scope_words(self.dst, self.gateway or self.hops, self.scope)
        text += " onlink" * bool(self.message.get("flags", 0) & RTNH_F_ONLINK)
        return text + "".join(" nexthop" + f" via {via}" * bool(via) + f" dev {link.name}" for _, via in self.hops)


def everything(namespace: Namespace, version: int, index: int = 0) -> list[Route]:
    """All routes of one IP version, of every type, in every table.

    `index`: only those that use that interface, as far as the kernel selects; before 4.20 it does not.
    """
    body = {"family": AF_INET if version == 4 else AF_INET6, "attrs": [("RTA_OIF", index)] * bool(index)}
    say = f"{namespace.ip} -{version} route show table all" + f" (interface {index})" * bool(index)
    return [Route(message) for message in namespace.dump(say, rtnl.RTM_GETROUTE, body)]


def of(namespace: Namespace, version: int, index: int = 0) -> list[Route]:
    """All unicast routes of one IP version, in every table; without those that an old kernel made for itself."""
    found = everything(namespace, version, index)
    return [route for route in found if route.type == RTN_UNICAST and not route.message["flags"] & RTM_F_CLONED]


def through(namespace: Namespace, link: Link) -> list[Route]:
    """All unicast routes that lead through the link; the kernel looks for them, as a host may have a million."""
    return [route for version in (4, 6) for route in of(namespace, version, link.index) if route.leads_through(link)]


def advertised(namespace: Namespace) -> set[int]:
    """The indexes of the interfaces that have routes from router advertisements."""
    found = [route for route in of(namespace, 6) if route.proto == RTPROT_RA]
    return {index for route in found for index in (route.index, *(hop for hop, _ in route.hops)) if index}


def default_interface(namespace: Namespace) -> int:
    """The interface index of the main table's default route, of IPv4 before IPv6, the best metric first; 0: none."""
    for version in (4, 6):
        found = [route for route in of(namespace, version) if route.table == RT_TABLE_MAIN and route.dst.endswith("/0")]
        for route in sorted(found, key=lambda route: route.priority):
            if index := route.index or next((hop for hop, _ in route.hops), 0):
                return index
    return 0


def is_local(namespace: Namespace, address: str) -> bool:
    """Whether packets to that address are for the namespace itself."""
    found = _looked_up(namespace, address)
    return found is not None and found["type"] == RTN_LOCAL


def interface_to(namespace: Namespace, address: str) -> int:
    """The index of the interface by which packets to that address leave; 0: there is no route."""
    found = _looked_up(namespace, address)
    return int(dict(found["attrs"]).get("RTA_OIF", 0)) if found is not None else 0


def _looked_up(namespace: Namespace, address: str) -> dict[str, Any] | None:
    """What the kernel would do with a packet to that address."""
    family, bits = (AF_INET6, 128) if ":" in address else (AF_INET, 32)
    body = {"family": family, "dst_len": bits, "attrs": [("RTA_DST", address)]}
    try:
        return namespace.ask(f"{namespace.ip} route get {address}", (rtnl.RTM_GETROUTE, 0, body))
    except HostError as error:
        if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EINVAL, errno.EACCES):  # unreachable, blackhole
            return None
        raise


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
    say += f" mtu {mtu}" * bool(mtu) + f" advmss {advmss}" * bool(advmss) + _scope_words(dst, gateway, scope)
    namespace.change(say, (rtnl.RTM_NEWROUTE, NLM_F_CREATE, body))


def remove(namespace: Namespace, link: Link, dst: str) -> None:
    """Remove the main table's route to a destination through a link."""
    body = {**_body(link, dst, "", "", RT_SCOPE_NOWHERE, 0), "proto": RTPROT_UNSPEC}  # whoever made it
    namespace.change(f"{namespace.ip} route delete {dst} dev {link.name}", (rtnl.RTM_DELROUTE, 0, body))


def put(namespace: Namespace, link: Link, route: Route) -> None:
    """Add a route (Route.into, Route.made) that is not there, behind others to the same destination; undone."""
    say, message = _adding(namespace, link, route)
    namespace.change(say, message, lambda: drop(namespace, link, route, namespace.send))


def put_back(namespace: Namespace, link: Link, route: Route, do: Do, *tolerated: int) -> None:
    """Add a route unless it is there. `do`: namespace.change or namespace.send; `tolerated`: what may be in the way."""
    attempt(lambda: do(*_adding(namespace, link, route)), errno.EEXIST, *tolerated)


def take(namespace: Namespace, link: Link, route: Route) -> None:
    """Remove just that route; undone."""
    say, message = _removing(namespace, link, route)
    namespace.change(say, message, lambda: put_back(namespace, link, route, namespace.send))


def drop(namespace: Namespace, link: Link, route: Route, do: Do) -> None:
    """Remove just that route; it may be gone. `do`: namespace.change or namespace.send."""
    attempt(lambda: do(*_removing(namespace, link, route)), *_GONE)


def _adding(namespace: Namespace, link: Link, route: Route) -> tuple[str, Message]:
    say = f"{namespace.ip} route append {route.words(link)}"
    return say, (rtnl.RTM_NEWROUTE, NLM_F_CREATE | NLM_F_APPEND, route.message)


def _removing(namespace: Namespace, link: Link, route: Route) -> tuple[str, Message]:
    say = f"{namespace.ip} route delete {route.words(link)}"
    return say, (rtnl.RTM_DELROUTE, 0, route.message)


def _scope_words(dst: str, gateway: object, scope: int) -> str:
    """The scope of an IPv4 route, where `ip route` would choose another: global by way of a gateway, link without."""
    usual = RT_SCOPE_UNIVERSE if gateway else RT_SCOPE_LINK
    return f" scope {_SCOPES.get(scope, scope)}" if ":" not in dst and scope != usual else ""


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
