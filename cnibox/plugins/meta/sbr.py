"""sbr: source based routing: what a container sends from an interface's address leaves by that interface.

{"type": "sbr"}

Each address gets a rule, and a table of its own with the interface's routes, which leave the main table. So answers go
back the way that their questions came, however many networks a container has.
"""

from __future__ import annotations

import errno

from ... import record
from ...host import addresses, links, routes, rules
from ...host.netlink.rtnl import RT_SCOPE_LINK, RT_TABLE_MAIN, RTN_UNICAST, RTPROT_RA
from ...host.routes import Route
from ...spec import errors
from ...spec.address import Address, Cidr
from ...spec.errors import CniError
from ...spec.jsontext import member
from ...spec.options import Bool, Int, Ip, ListOf, Option, Options
from ...wiring import tables
from ...wiring.chained import ChainedPlugin
from ...wiring.interface import require
from ...wiring.source_routing import Plan, belongs, in_main, needs_gateway, source_of, table_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeVar

    from ...host.links import Link
    from ...host.namespace import Namespace
    from ...host.rules import Rule
    from ...plugin import Attempts
    from ...record import Record
    from ...spec.result import IpConfig, Result

    T = TypeVar("T")

FIRST_TABLE = 100
NO_LONGER = (errno.EINVAL, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENODEV)
"""Of a route that DEL puts back: the link lacks the address or the gateway by now, or is down, or is gone."""


class Sbr(ChainedPlugin):
    options = Options(
        Option(
            "table",
            Int(1, 0xFFFFFFFF),
            help="the table that the rules name; then no route is touched, and the other options say nothing",
        ),
        Option("gateways", ListOf(Ip), [], "of the default routes, one of each IP version; by default the addresses'"),
        Option("addSourceHints", Bool, False, "leave the subnets in the main table, with the address to send from"),
    )

    def gateways(self) -> dict[int, Address]:
        """IP version -> the gateway that the configuration names."""
        found: dict[int, Address] = {}
        for gateway in self.option.gateways:
            other = found.setdefault(gateway.version, gateway)
            if other is not gateway:
                text = f"gateways list contains multiple IPv{gateway.version} addresses: {other} and {gateway}"
                raise CniError(errors.INVALID_CONFIG, text, "one of each IP version is allowed")
        return found

    def own_addresses(self, result: Result) -> list[IpConfig]:
        found = self.addresses_of(result)
        if not found:
            text = f"No IP addresses supplied on interface: {self.request.ifname}"
            raise CniError(errors.INTERNAL, text, "an earlier plugin of the list must give it one")
        return found

    # --- ADD

    def add(self) -> Result:
        gateways = self.gateways()
        result = self.require_previous()
        ips = self.own_addresses(result)
        self.sandbox = self.open_sandbox()
        link = self.require_link()
        self.lock(self.sandbox)
        plan = Plan(link)
        there = rules.of(self.sandbox)
        if self.option.table is None:
            self._plan_tables(plan, ips, gateways, there)
        else:
            plan.rules = [(source_of(ip), self.option.table) for ip in ips]
        self._remember(plan)
        known = {(rule.source, rule.table) for rule in there}
        with self.sandbox.batch():
            plan.carry_out(self.sandbox, [each for each in plan.rules if each not in known])
        return result

    def _plan_tables(self, plan: Plan, ips: list[IpConfig], gateways: dict[int, Address], there: list[Rule]) -> None:
        """A table for each address; an earlier ADD's, if there was one."""
        ways = [route for version in (4, 6) for route in routes.everything(self.sandbox, version)]
        used = tables.in_use(self.sandbox, there, ways)
        own = [route for route in ways if route.type == RTN_UNICAST and route.leads_through(plan.link)]
        hints = self._hints(plan.link, ips)
        moved = [route for route in in_main(own, ips) if route.key not in hints]
        for ip in ips:
            table = table_of(there, ip) or tables.lowest_free(FIRST_TABLE, used)
            used.add(table)
            plan.rules.append((source_of(ip), table))
            wanted = [route for route in moved if belongs(route, ip, ips)]
            plan.fill(table, ip, wanted, [route for route in own if route.table == table], gateways)
        present = {route.key for route in own if route.table == RT_TABLE_MAIN}
        plan.added += [hint for key, hint in hints.items() if key not in present]
        hinted = {hint.dst for hint in hints.values()}
        plan.removed += [route.into(RT_TABLE_MAIN) for route in moved if not self._stays(route, hinted)]

    def _hints(self, link: Link, ips: list[IpConfig]) -> dict[object, Route]:
        """Main-table routes to the subnets, by their keys; of several addresses of a subnet the last one counts."""
        if not self.option.addSourceHints:
            return {}
        subnets = {
            str(ip.address.network): Route.made(
                link, str(ip.address.network), source=str(ip.address.address), scope=RT_SCOPE_LINK
            )
            for ip in ips
        }
        return {hint.key: hint for hint in subnets.values()}

    def _stays(self, route: Route, hinted: set[str]) -> bool:
        """Whether a route stays in the main table: with addSourceHints all that need no gateway do."""
        return bool(hinted) and route.version == 4 and route.scope == RT_SCOPE_LINK and route.dst not in hinted

    def _remember(self, plan: Plan) -> None:
        """Also what an earlier ADD of this attachment did, of which this one is a repetition."""
        older = record.of(self.request, self.name)
        same = older is not None and older.facts.get("namespace") == self.sandbox.identity
        facts = older.facts if older and same and older.facts.get("index") == plan.link.index else {}
        removed = [route.packed() for route in plan.removed if route.table == RT_TABLE_MAIN]
        replaced = {_place(route) for route in plan.removed}
        added = [each for each in facts.get("added", ()) if _place(Route.unpacked(each)) not in replaced]
        self.remember(
            index=plan.link.index,
            rules=_united(map(tuple, facts.get("rules", ())), plan.rules),
            added=_united(added, [route.packed() for route in plan.added]),
            removed=_united(facts.get("removed", ()), removed),
        )

    # --- CHECK, STATUS

    def check(self) -> None:
        gateways = self.gateways()
        ips = self.own_addresses(self.require_previous())
        self.sandbox = self.open_sandbox()
        link = self.require_link()
        there = rules.of(self.sandbox)
        if self.option.table is not None:
            known = {(rule.source, rule.table) for rule in there}
            for ip in ips:
                wanted = source_of(ip), self.option.table
                require(wanted in known, f"there is no rule from {wanted[0]} for table {wanted[1]}")
            return
        self._check_tables(link, ips, gateways, there)

    def _check_tables(self, link: Link, ips: list[IpConfig], gateways: dict[int, Address], there: list[Rule]) -> None:
        ways, added = routes.through(self.sandbox, link), self._recorded(link)
        for ip in ips:
            table = table_of(there, ip)
            require(bool(table), f"there is no rule from {source_of(ip)}")
            named = gateways.get(ip.address.version)
            via = {str(named)} if named else self._gateways_of(ip, [each for each in added if each.table == table])
            found = any(each.table == table and each.is_default and via & set(_ends(each)) for each in ways)
            words = " or ".join(sorted(via))
            require(found or not via, f"table {table} has no default route via {words} dev {link.name}")
        present = {_place(route) for route in ways}
        for route in added:
            require(_place(route) in present, f"route {route} dev {link.name} is gone")
        self._check_main(link, ips, ways)

    def _recorded(self, link: Link) -> list[Route]:
        """The routes that ADD has added, of that very link; none when a Go plugin did."""
        found = record.of(self.request, self.name)
        if found is None or found.facts.get("index") != link.index:
            return []
        return [Route.unpacked(each) for each in found.facts.get("added", ())]

    def _gateways_of(self, ip: IpConfig, added: list[Route]) -> set[str]:
        """Where the default route of an address may lead: as recorded, else to its gateway, or as the network's own."""
        found = {end for route in added if route.is_default for end in _ends(route)}
        if found or ip.gateway is None:
            return found
        own = (
            each
            for each in self.require_previous().routes
            if each.dst.version == ip.address.version and not each.dst.prefix
        )
        return {str(ip.gateway), *(str(each.gw) for each in own if each.gw is not None)}

    def _check_main(self, link: Link, ips: list[IpConfig], ways: list[Route]) -> None:
        """The main table has the hints, and else only what comes by itself: advertised, or fe80::/64."""
        hints = self._hints(link, ips)
        found = in_main(ways, ips)
        for key, hint in hints.items():
            require(key in {route.key for route in found}, f"route {hint} is not in the main table")
        hinted = {hint.dst for hint in hints.values()}
        for route in found:
            by_itself = route.proto == RTPROT_RA or route.dst == "fe80::/64"
            expected = route.key in hints or self._stays(route, hinted) or by_itself
            require(expected, f"route {route} dev {link.name} is in the main table")

    def status(self) -> None:
        self.gateways()
        if not rules.known(self.machine.host):
            advice = "run a kernel that has it (CONFIG_IP_MULTIPLE_TABLES)"
            raise CniError(errors.PLUGIN_UNAVAILABLE, "this kernel has no policy routing", advice)

    # --- DEL, GC

    def delete_recorded(self, attempt: Attempts, found: Record, sandbox: Namespace | None) -> None:
        """Take away the rules; if the link is still there, its routes are again as they were."""
        if sandbox is None:
            return
        if not found.facts.get("rules"):  # the record is damaged
            self.delete_unrecorded(attempt, sandbox)
            return
        self.machine.journal.why = "DEL"
        attempt(self.lock, sandbox)
        wanted = {tuple(each) for each in found.facts.get("rules", ())}
        for rule in attempt(rules.of, sandbox) or ():
            if (rule.source, rule.table) in wanted:
                attempt(rules.remove, sandbox, rule)
        link = attempt(links.find, sandbox, found.ifname)
        if link is None or link.index != found.facts.get("index"):
            return
        for packed in reversed(found.facts.get("added", ())):
            attempt(routes.drop, sandbox, link, Route.unpacked(packed), sandbox.change)
        for route in sorted(map(Route.unpacked, found.facts.get("removed", ())), key=needs_gateway):
            attempt(routes.put_back, sandbox, link, route, sandbox.change, *NO_LONGER)

    def delete_unrecorded(self, attempt: Attempts, sandbox: Namespace | None) -> None:
        """Take away the rules from the link's addresses, and from those that ADD was given; routes go with the link."""
        if sandbox is None:
            return
        self.machine.journal.why = "DEL"
        attempt(self.lock, sandbox)
        link = attempt(links.find, sandbox, self.request.ifname)
        there = attempt(addresses.of, sandbox, link) if link is not None else None
        sources = {str(Cidr.parse(each.text).host) for each in there or ()}
        if self.request.previous is not None:
            sources.update(source_of(ip) for ip in self.addresses_of(self.request.previous))
        table = member(self.request.config, "table")
        for rule in attempt(rules.of, sandbox) or ():
            if rule.source in sources and (rule.table == table or type(table) is not int):
                attempt(rules.remove, sandbox, rule)


def _ends(route: Route) -> list[str]:
    """Its gateways; the empty text for none."""
    return route.gateways or [""]


def _place(route: Route) -> tuple[object, ...]:
    return route.table, route.key


def _united(older: Iterable[T], newer: list[T]) -> list[T]:
    return list(dict.fromkeys((*older, *newer)))
