"""An interface in a container: what all interface plugins have in common.

IPAM around it, addresses and routes on it, CHECK of all of them, its removal. A plugin adds its options, the creation
of its link, and what only it does.
"""

from __future__ import annotations

import errno

from .. import record
from ..delegate import Delegate
from ..host import addresses, files, links, routes, sysctl
from ..host.journal import HostError
from ..host.netlink.rtnl import RT_TABLE_MAIN
from ..registry import PLUGINS
from ..spec import errors
from ..spec.errors import CniError
from ..spec.errors import require as require
from ..spec.jsontext import member, quoted
from ..spec.result import Dns, Result, Route
from .attachment import AttachmentPlugin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host.links import Link
    from ..host.namespace import Namespace
    from ..plugin import Attempts
    from ..record import Record
    from ..spec.address import Address
    from ..spec.result import Interface, IpConfig

IPV6_MTU = 1280  # RFC 8200, 5
DNS_LISTS = ("nameservers", "search", "options")
GO_TUNING = "/run/cni/tuning"  # where the reference's tuning keeps the former settings of an interface

DAD_LIMIT = 5.0
"""Seconds to wait for duplicate address detection, as the reference does."""


class InterfacePlugin(AttachmentPlugin):
    """A plugin whose ADD makes CNI_IFNAME in the container.

    container_index: the position of the container's interface among the result's interfaces
    dad: whether IPv6 addresses are probed for duplicates before use
    """

    container_index = 0
    dad = False

    # --- what a plugin says about itself

    def validate(self) -> None:
        """Raise for options that exclude each other, before any change."""

    def plan(self, result: Result) -> None:
        """Complete what IPAM answered: gateways, routes."""

    def require_absent(self, sandbox: Namespace) -> None:
        """A second ADD without DEL would fail later, and its undo would hit the first one's interface."""
        found = links.find(sandbox, self.request.ifname)
        if found is not None:
            text = f"container already has an interface {found.name} ({found.kind or 'no virtual link'}, {found.mac})"
            advice = f"in {sandbox.path}; a DEL for this container takes an earlier ADD back"
            raise CniError(errors.INTERNAL, text, advice)

    # --- IPAM

    def ipam_name(self) -> str:
        """The configuration's ipam.type, empty without one."""
        config = member(self.request.config, "ipam")
        if config is None:
            return ""
        if not isinstance(config, dict):
            raise CniError(errors.INVALID_CONFIG, f'option "ipam" must be an object, not {quoted(config)}')
        name = member(config, "type")
        if not (name is None or isinstance(name, str)):
            raise CniError(errors.INVALID_CONFIG, f'option "ipam.type" must be a string, not {quoted(name)}')
        return name or ""

    def ipam(self) -> Delegate | None:
        """The IPAM plugin that the configuration names, None without one."""
        name = self.ipam_name()
        if not name:
            return None
        # Another interface plugin would call itself, without end.
        if name in PLUGINS and not PLUGINS[name][0].startswith("cnibox.plugins.ipam."):
            text = f'option "ipam.type" must name an IPAM plugin, which {quoted(name)} is not'
            raise CniError(errors.INVALID_CONFIG, text)
        self.machine.journal.why = "ipam.type"
        return Delegate(name, self.request, self.machine)

    def lease(self, ipam: Delegate, result: Result) -> None:
        """Ask IPAM for addresses, and take them into the result."""
        self.machine.journal.why = "ipam.type"
        leased = ipam.add()
        if not leased.ips:
            text = f"IPAM plugin {ipam.name} returned missing IP config"
            raise CniError(errors.INTERNAL, text, "it must give at least one address")
        for ip in leased.ips:
            ip.interface = self.container_index
        result.ips, result.routes, result.dns = leased.ips, leased.routes, leased.dns
        self.require_ipv6_mtu(result)
        self.plan(result)

    def planned_mtu(self) -> tuple[str, int]:
        """The link, in words, whose MTU the interface will have, and that MTU; 0: not known yet."""
        return self.request.ifname, getattr(self.option, "mtu", 0)

    def require_ipv6_mtu(self, result: Result) -> None:
        """Raise, before the interface is made, if it would be too small for the result's addresses."""
        link, mtu = self.planned_mtu()
        if 0 < mtu < IPV6_MTU and any(ip.address.version == 6 for ip in result.ips):
            text = f"{ipv6_needs(link, mtu)}, and IPAM gave an IPv6 address"
            raise CniError(errors.INVALID_CONFIG, text, "raise the MTU, or give the container IPv4 addresses only")

    def configured_dns(self) -> Dns | None:
        """The configuration's own DNS settings, which replace those of IPAM; None if it has none.

        An empty list is a setting, as in the reference; null and "" are none.
        """
        config = member(self.request.config, "dns")
        try:
            dns = Dns() if config is None else Dns.from_object(config)
        except CniError as error:
            raise CniError(errors.INVALID_CONFIG, f"network configuration: {error.msg}", error.details) from None
        has_list = isinstance(config, dict) and any(isinstance(member(config, key), list) for key in DNS_LISTS)
        return dns if dns or has_list else None

    # --- addresses and routes

    def assign(self, sandbox: Namespace, link: Link, ips: list[IpConfig]) -> None:
        """Assign the addresses and bring the link up. IPv6 addresses are usable afterwards."""
        self.machine.journal.why = "ipam.type"
        if any(ip.address.version == 6 for ip in ips):
            enable_ipv6(sandbox, link)
        for ip in ips:
            addresses.add(sandbox, link, ip.address, dad=self.dad)
        links.set_up(sandbox, link)

    def add_routes(self, sandbox: Namespace, link: Link, result: Result) -> None:
        """Add the result's routes: one without a gateway by the first gateway of its family, or by the link alone."""
        self.machine.journal.why = "ipam.routes"
        for route in _distinct(result):
            routes.add(
                sandbox,
                link,
                str(route.dst),
                str(route.gw or ""),
                scope=route.scope or 0,
                table=route.table or 0,
                priority=route.priority,
                mtu=route.mtu,
                advmss=route.advmss,
            )

    def wait_until_usable(self, sandbox: Namespace, link: Link, result: Result) -> None:
        """Wait until the container's IPv6 addresses are, so that its first packet is not lost."""
        wanted = {str(ip.address) for ip in result.ips if ip.address.version == 6}
        if wanted:
            addresses.wait_until_usable(sandbox, link, wanted, DAD_LIMIT, link_local=self.dad)

    # --- CHECK

    def check_interface(self, kind: str) -> tuple[Namespace, Link, Result]:
        """What CHECK begins with: IPAM's own, the previous result, and the container's link as that result has it.

        `kind`: what it must be; empty: anything.
        """
        result = self.request.previous
        if result is None:
            advice = "CHECK compares with the result of ADD"
            raise CniError(errors.INVALID_CONFIG, "Required prevResult missing", advice)
        expected = self._interface_of(result)
        sandbox = self.open_sandbox()
        ipam = self.ipam()
        if ipam is not None:
            ipam.check()
        link = links.find(sandbox, expected.name)
        if link is None:
            raise CniError(errors.INTERNAL, f"interface {expected.name} is not in {sandbox.path}")
        require(kind in ("", link.kind), f"interface {link.name} is a {link.kind or 'hardware link'}, not a {kind}")
        same = not expected.mac or link.mac.lower() == expected.mac.lower()
        require(same, f"interface {link.name} has the MAC address {link.mac}, not {expected.mac}")
        return sandbox, link, result

    def _interface_of(self, result: Result) -> Interface:
        for interface in result.interfaces:
            if (interface.name, interface.sandbox) == (self.request.ifname, self.request.netns):
                return interface
        text = f"prevResult has no interface {self.request.ifname} in {self.request.netns}"
        raise CniError(errors.INVALID_CONFIG, text, "CHECK needs the result of this container's ADD")

    def check_mtu(self, link: Link, result: Result) -> None:
        """It must be the result's, else the configuration's; unless tuning has changed it without a report."""
        reported = self._interface_of(result).mtu
        wanted = reported or getattr(self.option, "mtu", 0)
        if wanted and link.mtu != wanted:
            require(self._is_tuned(reported), f"{link.name} has MTU {link.mtu}, not {wanted}")

    def _is_tuned(self, reported: int) -> bool:
        """Whether a later tuning has changed the MTU without a word in the result.

        Ours reports it in results from 1.1.0 on, the reference's never.
        """
        ours = record.of(self.request, "tuning")
        if ours is not None:
            return not reported and "mtu" in (ours.facts.get("settings") or {})
        data = files.read(f"{GO_TUNING}/{self.request.container_id}_{self.request.ifname}.json")
        return data is not None and b'"mtu"' in data

    def check_addresses(self, sandbox: Namespace, link: Link, result: Result) -> None:
        """Every address of the result that is this interface's must be on the link."""
        there = {address.text for address in addresses.of(sandbox, link)}
        for ip in self.own(result):
            require(str(ip.address) in there, f"address {ip.address} is not on {link.name}")

    def own(self, result: Result) -> list[IpConfig]:
        """The result's addresses that are of this plugin's interface; a later one may have added others."""
        return [ip for ip in result.ips if ip.interface is None or ip.interface == self.container_index]

    def check_routes(self, sandbox: Namespace, result: Result) -> None:
        """Every route of the result must be there: in the table that it names, else in any.

        A later plugin of the chain (sbr, vrf) may have moved it out of the main table; a default route there may have
        another gateway (sbr's `gateways`), if it is this interface's.
        """
        there = [route for version in (4, 6) for route in routes.of(sandbox, version)]
        link = links.get(sandbox, self.request.ifname)
        moved = {route.dst for route in there if route.table != RT_TABLE_MAIN and route.leads_through(link)}
        for route in _distinct(result):
            wanted = str(route.dst), str(route.gw or "")
            found = any(_matches(candidate, *wanted, route.table) for candidate in there)
            found = found or (wanted[0] in moved and wanted[0].endswith("/0") and not route.table)
            via = f" via {route.gw}" if route.gw else ""
            require(found, f"route {route.dst}{via} is not in {sandbox.path}")

    # --- DEL, STATUS, GC

    def delete_recorded(self, attempt: Attempts, found: Record, sandbox: Namespace | None) -> None:
        if sandbox is not None:
            attempt(self.delete_link, sandbox, found.ifname)

    def delete_unrecorded(self, attempt: Attempts, sandbox: Namespace | None) -> None:
        if sandbox is not None:
            attempt(self.delete_link, sandbox, self.request.ifname)

    def delete_link(self, sandbox: Namespace, name: str) -> None:
        self.machine.journal.why = "DEL"
        links.delete(sandbox, name)

    def delete_attachment(self, attempt: Attempts, found: Record | None) -> None:
        """With IPAM's DEL, due in every path of DEL, whatever else is still there (containernetworking/cni#1167)."""
        ipam = attempt(self.ipam)
        # One of others may need the link to give the address back (dhcp); ours gives it to the next container at once.
        if ipam is not None and not ipam.in_process:
            attempt(self._release, ipam)
        super().delete_attachment(attempt, found)
        if ipam is not None and ipam.in_process:
            attempt(self._release, ipam)

    def _release(self, ipam: Delegate) -> None:
        self.machine.journal.why = "ipam.type"
        ipam.delete()

    def collect(self, attempt: Attempts, valid: set[tuple[str, str]]) -> None:
        ipam = attempt(self.ipam)
        if ipam is not None:
            attempt(ipam.gc, valid)

    def status(self) -> None:
        self.validate()
        ipam = self.ipam()
        if ipam is not None:
            ipam.status()


def enable_ipv6(sandbox: Namespace, link: Link) -> None:
    """Container runtimes start namespaces with IPv6 switched off (docker --net=none does)."""
    for name in ("lo", link.name):
        key = f"net/ipv6/conf/{name}/disable_ipv6"
        value = sysctl.read(sandbox, key)
        if value is None and 0 < link.mtu < IPV6_MTU and name == link.name:
            reason = ipv6_needs(link.name, link.mtu)
            hint = "raise the MTU, or give the container IPv4 addresses only"
            raise HostError(errno.EINVAL, f"enabling IPv6 on {name}", reason, hint)
        if value is None:
            hint = "boot without ipv6.disable=1, or give the container IPv4 addresses only"
            raise HostError(errno.EAFNOSUPPORT, f"enabling IPv6 on {name}", "this kernel has no IPv6", hint)
        if value != "0":
            sysctl.write(sandbox, key, "0")
    sysctl.write(sandbox, f"net/ipv6/conf/{link.name}/keep_addr_on_down", "1", best_effort=True)


def ipv6_needs(link: str, mtu: int) -> str:
    return f"IPv6 needs an MTU of at least {IPV6_MTU}, and {link} has {mtu}"


def require_told_mtu(link: Link, interface: Interface) -> None:
    """CHECK: the link's MTU must be the one of prevResult, if that has one."""
    require(interface.mtu in (0, link.mtu), f"host interface {link.name} has MTU {link.mtu}, not {interface.mtu}")


def gateways(ips: list[IpConfig]) -> dict[int, Address]:
    """IP version -> the first gateway of that version."""
    found: dict[int, Address] = {}
    for ip in ips:
        if ip.gateway is not None:
            found.setdefault(ip.gateway.version, ip.gateway)
    return found


def _distinct(result: Result) -> list[Route]:
    """The result's routes with their gateways filled in, each once: the kernel refuses the same route twice."""
    by_default = gateways(result.ips)
    found: dict[object, Route] = {}
    for route in result.routes:
        gateway = route.gw
        if gateway is None and not route.scope:
            gateway = by_default.get(route.dst.version)
        filled = Route(route.dst.network, gateway, route.mtu, route.advmss, route.priority, route.table, route.scope)
        found.setdefault((filled.dst, filled.gw, filled.table, filled.priority), filled)
    return list(found.values())


def _matches(route: routes.Route, dst: str, gateway: str, table: int | None) -> bool:
    if route.dst != dst or (table and route.table != table):
        return False
    return not gateway or gateway == route.gateway or any(gateway == via for _, via in route.hops)
