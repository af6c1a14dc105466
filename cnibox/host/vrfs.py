"""VRFs: links whose ports are routed by a table of their own; and what a port keeps when it gets into one or out."""

from __future__ import annotations

import errno

from . import addresses, routes, sysctl
from .journal import HostError
from .links import WANTED, Link, get
from .netlink import rtnl
from .netlink.rtnl import (
    AF_INET6,
    IFA_F_DADFAILED,
    IFA_F_TENTATIVE,
    RT_SCOPE_LINK,
    RT_TABLE_LOCAL,
    RT_TABLE_MAIN,
    RTN_LOCAL,
    RTNLGRP_IPV6_IFADDR,
    RTNLGRP_IPV6_ROUTE,
    RTPROT_KERNEL,
)
from .routes import Route

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .addresses import Assigned
    from .namespace import Namespace
    from .routes import Do

READY_LIMIT = 5.0
"""Seconds for the kernel to make the routes of a port's IPv6 addresses; it takes milliseconds."""

_OF_EVERY_LINK = ("fe80::/64", "ff00::/8")
"""Destinations of routes that the kernel makes for each link by itself."""


def of(namespace: Namespace) -> list[Link]:
    """All VRFs."""
    body = {"attrs": [("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "vrf")]})]}
    wanted = WANTED | {"IFLA_INFO_DATA", "IFLA_VRF_TABLE"}
    dumped = namespace.dump(f"{namespace.ip} link show type vrf", rtnl.RTM_GETLINK, body, wanted)
    return [link for link in map(Link, dumped) if link.kind == "vrf"]  # kernels before 4.20 do not filter


def table_of(vrf: Link) -> int:
    return int(vrf.data.get("IFLA_VRF_TABLE", 0))


class Kept:
    """The global IPv6 addresses and the routes of a link: the kernel drops them when its master changes."""

    def __init__(self, given: list[Assigned], ways: list[Route]) -> None:
        self.addresses = given
        self.routes = ways

    @classmethod
    def of(cls, namespace: Namespace, link: Link) -> Kept:
        given = [each for each in addresses.of(namespace, link, AF_INET6) if _is_kept(each)]
        return cls(given, _ways(namespace, link))

    @classmethod
    def unpacked(cls, given: list[str], ways: list[str]) -> Kept:
        """From what `packed` gave; ValueError when that is something else."""
        return cls([addresses.Assigned.unpacked(text) for text in given], [Route.unpacked(text) for text in ways])

    def packed(self) -> dict[str, list[str]]:
        """All of it in hexadecimal, to be written down."""
        return {
            "addresses": [each.packed() for each in self.addresses],
            "routes": [each.packed() for each in self.routes],
        }

    def out_of(self, vrf: Link) -> Kept:
        """The same, of a link that leaves a VRF: the routes of its table are those of the main one afterwards."""
        table = table_of(vrf)
        return Kept(
            self.addresses, [route.into(RT_TABLE_MAIN) if route.table == table else route for route in self.routes]
        )

    def enslave(self, namespace: Namespace, link: Link, master: Link | None) -> None:
        """Change the master, or let the link have none, and wait until the addresses that it still has are usable.

        HostError ETIMEDOUT after READY_LIMIT.
        """
        index = master.index if master else 0
        message = (rtnl.RTM_NEWLINK, 0, {"index": link.index, "attrs": [("IFLA_MASTER", index)]})
        conf = f"net/ipv6/conf/{link.name}"
        with (
            sysctl.for_now(namespace, f"{conf}/keep_addr_on_down", "1"),
            sysctl.for_now(namespace, f"{conf}/dad_transmits", "0"),  # they have been probed on this very link
            sysctl.for_now(namespace, f"{conf}/router_solicitation_delay", "0"),
        ):
            namespace.send(moving(namespace, link, master), message)
            self._wait(namespace, link, master)

    def restore(self, namespace: Namespace, link: Link, master: Link | None, do: Do) -> None:
        """Put back what is lost: addresses; and routes, so that the new table has those of the old one, and no others.

        `do`: namespace.change or namespace.send. What is there already is no error.
        """
        there = {each.text for each in addresses.of(namespace, link, AF_INET6)}
        for address in self.addresses:  # one with a lifetime; and all, where sysctls cannot be written
            if address.text not in there:
                addresses.put_back(namespace, link, address, do)
        self._wait(namespace, link, master)
        table = table_of(master) if master else RT_TABLE_MAIN
        self._restore_routes(namespace, link, table, do)

    def _restore_routes(self, namespace: Namespace, link: Link, table: int, do: Do) -> None:
        there = {(route.table, route.key): route for route in _ways(namespace, link)}
        moved = [route.into(table if route.table == RT_TABLE_MAIN else route.table) for route in self.routes]
        wanted = {(route.table, route.key): route for route in moved}
        for place, route in sorted(wanted.items(), key=lambda item: bool(item[1].gateways)):
            if place not in there:
                routes.put_back(namespace, link, route, do)
        for place, route in there.items():
            # The kernel makes one for each address, which an earlier plugin may have taken away (ptp does).
            if route.table == table and route.proto == RTPROT_KERNEL and place not in wanted:
                routes.drop(namespace, link, route.into(table), do)

    def _wait(self, namespace: Namespace, link: Link, master: Link | None) -> None:
        table = table_of(master) if master else RT_TABLE_LOCAL
        waiting: list[str] = []

        def all_are() -> bool:
            waiting[:] = self._unusable(namespace, link, table)
            return not waiting

        if not namespace.wait_for(all_are, READY_LIMIT, RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV6_IFADDR):
            doing = f"waiting for {', '.join(waiting)} on {link.name} to be in table {table}"
            raise HostError(errno.ETIMEDOUT, doing, f"the kernel has not finished within {READY_LIMIT:g} s")

    def _unusable(self, namespace: Namespace, link: Link, table: int) -> list[str]:
        """The addresses to which packets are not taken yet; without a carrier none ever would be."""
        wanted = {address.text for address in self.addresses}
        if not wanted or not get(namespace, link.name).has_carrier:
            return []
        local = {
            route.dst.partition("/")[0]
            for route in routes.everything(namespace, 6)
            if route.type == RTN_LOCAL and route.table == table
        }
        return [
            each.text
            for each in addresses.of(namespace, link, AF_INET6)
            if each.text in wanted and (each.flags & IFA_F_TENTATIVE or each.text.partition("/")[0] not in local)
        ]


def moving(namespace: Namespace, link: Link, master: Link | None) -> str:
    return f"{namespace.ip} link set {link.name} " + (f"master {master.name}" if master else "nomaster")


def _is_kept(address: Assigned) -> bool:
    return address.scope < RT_SCOPE_LINK and not address.flags & IFA_F_DADFAILED


def _ways(namespace: Namespace, link: Link) -> list[Route]:
    """The link's unicast routes, in whatever table, but those that the kernel makes for every link."""
    return [
        route
        for route in routes.through(namespace, link)
        if route.table != RT_TABLE_LOCAL and route.dst not in _OF_EVERY_LINK
    ]
