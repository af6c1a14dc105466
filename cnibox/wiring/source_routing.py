"""Source routing of one link: the rules, the tables' routes, and those that leave the main table."""

from __future__ import annotations

from ..host import routes, rules
from ..host.netlink.rtnl import RT_TABLE_MAIN
from ..host.routes import Route
from ..spec.address import Address
from .tables import RESERVED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host.links import Link
    from ..host.namespace import Namespace
    from ..host.rules import Rule
    from ..spec.result import IpConfig

DEFAULT = {4: "0.0.0.0/0", 6: "::/0"}


class Plan:
    """What an ADD changes."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.rules: list[tuple[str, int]] = []
        """(source, table)"""
        self.added: list[Route] = []
        self.removed: list[Route] = []

    def fill(
        self, table: int, ip: IpConfig, wanted: list[Route], there: list[Route], gateways: dict[int, Address]
    ) -> None:
        """Let the table have copies of the wanted routes, and a default route; `there`: what it has already."""
        version = ip.address.version
        named = gateways.get(version)
        if named is not None:
            wanted = [route for route in wanted if not route.is_default]
            others = [route for route in there if route.is_default and route.version == version]
            self.removed += [route.into(table) for route in others if route.gateway != str(named)]
            there = [route for route in there if route not in others or route.gateway == str(named)]
        gateway = named or ip.gateway
        if gateway is not None:
            default = Route.made(self.link, DEFAULT[version], str(gateway))
            same = [(route.dst, route.priority) for route in (*wanted, *there)]
            wanted += [default] * ((default.dst, default.priority) not in same)
        present = {route.key for route in there}
        self.added += [route.into(table) for route in wanted if route.key not in present]

    def carry_out(self, sandbox: Namespace, new_rules: list[tuple[str, int]]) -> None:
        """First what needs no gateway, and last what others need to reach theirs; undone the other way round."""
        journal = sandbox.machine.journal
        hints = [route for route in self.added if route.table == RT_TABLE_MAIN]
        for route in sorted((each for each in self.added if each not in hints), key=needs_gateway):
            journal.why = "gateways" if route.is_default else "type"
            routes.put(sandbox, self.link, route)
        journal.why = "type"
        for source, table in new_rules:
            rules.add(sandbox, source, table)
        for route in sorted(self.removed, key=needs_gateway, reverse=True):
            routes.take(sandbox, self.link, route)
        journal.why = "addSourceHints"
        for route in hints:  # not before: the kernel would not tell one from ptp's route to the subnet by its gateway
            routes.put(sandbox, self.link, route)


def source_of(ip: IpConfig) -> str:
    """The address alone: /32 or /128."""
    return str(ip.address.host)


def table_of(there: list[Rule], ip: IpConfig) -> int:
    """The table that a rule from that address names already; 0: none."""
    found = (rule.table for rule in there if rule.source == source_of(ip) and rule.table not in RESERVED)
    return next(found, 0)


def in_main(ways: list[Route], ips: list[IpConfig]) -> list[Route]:
    """The main table's routes of the IP versions that have an address: others would be reached by no rule."""
    versions = {ip.address.version for ip in ips}
    return [route for route in ways if route.table == RT_TABLE_MAIN and route.version in versions]


def belongs(route: Route, ip: IpConfig, ips: list[IpConfig]) -> bool:
    """Whether a route goes to the table of that address: its gateway or source is in the subnet, or in none's."""
    if route.version != ip.address.version:
        return False
    ends = [Address.parse(text) for text in (*route.gateways, route.source) if text]
    return _has(ip, ends) or not any(_has(each, ends) for each in ips)


def _has(ip: IpConfig, ends: list[Address]) -> bool:
    return any(ip.address.contains(end) for end in ends)


def needs_gateway(route: Route) -> bool:
    return bool(route.gateways)
