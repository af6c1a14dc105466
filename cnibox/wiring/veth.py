"""A container on a veth pair: what bridge and ptp have in common.

The far end is the container's interface; the near end is on the host, where the container's traffic can be masqueraded.
What ADD made outside the container is recorded, so that DEL and GC need nothing but the attachment's name.
"""

from __future__ import annotations

import errno
import posix

from .. import record
from ..host import addresses, iptables, links, routes, sysctl
from ..host.journal import HostError
from ..spec import errors
from ..spec.address import Cidr
from ..spec.errors import CniError
from ..spec.options import Bool, Int, OneOf, Option, Options
from ..spec.result import Interface, Result
from . import backends, masquerade
from .interface import DAD_LIMIT, InterfacePlugin, require, require_told_mtu
from .owner import Owner
from .sharing import Hold

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from ..host.links import Link
    from ..host.namespace import Machine, Namespace
    from ..plugin import Attempts
    from ..record import Record

FORWARDING = {4: "net/ipv4/ip_forward", 6: "net/ipv6/conf/all/forwarding"}
NAME_ATTEMPTS = 10

MTU = Option("mtu", Int(0, 65535), 0, "MTU of both ends of the veth pair; 0: the kernel's default")
IP_MASQ = Option("ipMasq", Bool, False, "masquerade what the container sends beyond its own subnet")
IP_MASQ_BACKEND = Option(
    "ipMasqBackend", OneOf("iptables", "nftables"), "", "by default iptables, or nftables where iptables is unusable"
)


class VethPlugin(InterfacePlugin):
    """ADD, DEL and GC of an attachment by a veth pair; a plugin says what is at the near end."""

    address_fact = "masquerade"
    needed_to_delete = Options(IP_MASQ)

    def add(self) -> Result:
        self.validate()
        self.more_facts: dict[str, Any] = {}
        dns = self.configured_dns()
        self.sandbox = self.open_sandbox()
        self.require_absent(self.sandbox)
        sharing = Hold(self.machine)
        result, ipam = Result(), self.ipam()
        # Our own IPAM plugins need no link: asked first, a full range changes nothing else, and masquerading is set up
        # by iptables-restore on another core while the kernel makes the links. Others may want to find it (dhcp).
        if ipam is not None and ipam.in_process:
            self.lease(ipam, result)
        self.host_name = f"veth{posix.urandom(4).hex()}"
        self.backend = backends.choose(self.machine, self.option.ipMasqBackend) if self.option.ipMasq else ""
        self.lock = self.record().lock(self.machine)  # until this process ends
        self.remember_pair(result)
        finish_masquerading = self.start_masquerading(result)
        self.prepare_host()
        self.create_pair(result)
        if ipam is not None and not ipam.in_process:
            self.lease(ipam, result)
            self.remember_pair(result)
            finish_masquerading = self.start_masquerading(result)
        self.wire(result)
        finish_masquerading()
        result.dns = result.dns if dns is None else dns
        sharing.succeeded()
        return result

    # --- what bridge and ptp do differently

    def prepare_host(self) -> None:
        """Before the pair is made: what its near end is plugged into."""

    def master(self) -> Link | None:
        """What the near end is plugged into."""
        return None

    def wire(self, result: Result) -> None:
        """Configure both ends, and complete the result."""
        raise NotImplementedError

    def mac(self) -> str:
        """The MAC address asked for; empty: the kernel's choice."""
        return ""

    # --- the pair

    def create_pair(self, result: Result) -> None:
        """Make the pair; a random name that is taken is replaced by another."""
        host, ifname = self.machine.host, self.request.ifname
        self.machine.journal.why = "type"
        for left in reversed(range(NAME_ATTEMPTS)):
            try:
                links.create_veth(
                    host,
                    self.host_name,
                    self.sandbox,
                    ifname,
                    master=self.master(),
                    mtu=self.option.mtu,
                    mac=self.mac(),
                )
                break
            except HostError as error:
                if error.errno != errno.EEXIST or left == 0 or links.find(host, self.host_name) is None:
                    raise
                self.host_name = f"veth{posix.urandom(4).hex()}"
                self.remember_pair(result)
        ignore_routers(host, self.host_name)
        skip_dad(host, self.host_name)

    def enable_forwarding(self, versions: set[int]) -> None:
        """Let the host forward; never switched off again by a DEL, as nobody knows who else relies on it."""
        host = self.machine.host
        for version in sorted(versions):
            if sysctl.read(host, FORWARDING[version]) in (None, "0"):  # 2 is on, too
                if version == 6:
                    keep_routers(host)
                sysctl.write(host, FORWARDING[version], "1", shared=True)

    def wait_until_reachable(self, near: Link, gateways: Iterable[Cidr]) -> None:
        """Wait until the host takes packets for IPv6 gateways at the near end, and can ask for the container's MAC."""
        wanted = {str(gateway) for gateway in gateways if gateway.version == 6}
        if wanted:
            addresses.wait_until_usable(self.machine.host, near, wanted, DAD_LIMIT, link_local=True)

    def describe(self, result: Result, near: Link, far: Link) -> None:
        """Add both ends to the result's interfaces."""
        result.interfaces += [
            Interface(near.name, near.mac, mtu=near.mtu),
            Interface(far.name, far.mac, self.request.netns, mtu=far.mtu),
        ]

    def check_near_end(self, result: Result, link: Link, master: Link | None) -> Link:
        """The host's end that the previous result names must be the far end's peer, and plugged in where it was."""
        for interface in result.interfaces:
            near = links.find(self.machine.host, interface.name) if not interface.sandbox else None
            if near is None or near.kind != "veth" or near.index != link.peer_index:
                continue
            same = not interface.mac or interface.mac.lower() == near.mac.lower()
            require(same, f"host interface {near.name} has the MAC address {near.mac}, not {interface.mac}")
            require(near.is_up, f"host interface {near.name} is down")
            require_told_mtu(near, interface)
            plugged = master is None or near.master == master.index
            require(plugged, f"host interface {near.name} is not plugged into {master.name if master else ''}")
            return near
        raise CniError(errors.INTERNAL, f"no host interface of prevResult is the other end of {link.name}")

    def check_masquerading(self, result: Result) -> None:
        """Somebody may have flushed the rules."""
        if not self.option.ipMasq:
            return
        found = record.of(self.request, self.name)
        facts = found.facts if found is not None else {}
        backend = str(facts.get("backend") or backends.choose(self.machine, self.option.ipMasqBackend))
        addresses = _cidrs(facts.get("masquerade")) or [ip.address for ip in self.own(result)]
        missing = masquerade.missing(self.machine, self.owner(), backend, addresses)
        require(not missing, f"masquerading by {backend} is not as it was made; missing: {', '.join(missing)}")

    # --- masquerading and the record

    def start_masquerading(self, result: Result) -> Callable[[], None]:
        """Begin to set it up for the result's addresses, if it has any yet; the function returned waits for the end."""
        self.machine.journal.why = "ipMasq"
        addresses = [ip.address for ip in result.ips] if self.option.ipMasq else []
        if not addresses:
            return lambda: None
        arguments = (addresses, self._shares_chain(self.request.name), self.lock.fd)

        def use_nftables(error: HostError) -> None:
            versions = {address.version for address in addresses}
            if self.option.ipMasqBackend or not backends.falls_back(self.machine, error, versions, "nat"):
                raise error
            if not isinstance(error, iptables.Unavailable):  # which comes before any change
                backends.clear(lambda: masquerade.remove(self.machine, self.owner(), self.backend, addresses)())
            self.backend = "nftables"
            self.remember_pair(result)
            masquerade.add(self.machine, self.owner(), self.backend, *arguments)

        try:
            finish = masquerade.add(self.machine, self.owner(), self.backend, *arguments)
        except HostError as error:
            use_nftables(error)
            return lambda: None

        def finish_or_fall_back() -> None:
            try:
                finish()
            except HostError as error:
                use_nftables(error)

        return finish_or_fall_back

    def owner(self) -> Owner:
        return Owner(self.request.name, self.request.container_id, self.request.ifname)

    def _shares_chain(self, network: str) -> bool:
        """Whether another interface of the container is in the same network: iptables' chain is theirs together."""
        return bool(record.siblings(self.request.container_id, self.request.ifname, network, self.name))

    def remember_pair(self, result: Result) -> None:
        self.remember(
            hostInterface=self.host_name,
            backend=self.backend,
            masquerade=[str(ip.address) for ip in result.ips] if self.option.ipMasq else [],
            **self.more_facts,
        )

    # --- DEL and GC

    def delete_recorded(self, attempt: Attempts, found: Record, sandbox: Namespace | None) -> None:
        # The rules go while the kernel waits (RCU, 15-50 ms) before it lets go of the link.
        finish = attempt(self._start_unmasquerading, found)
        if sandbox is not None:
            attempt(self.delete_link, sandbox, found.ifname)
        attempt(self._delete_near_end, found.facts.get("hostInterface"))
        if finish is not None:
            attempt(finish)

    def _start_unmasquerading(self, found: Record) -> Callable[[], None]:
        self.machine.journal.why = "ipMasq"
        addresses, backend = _cidrs(found.facts.get("masquerade")), found.facts.get("backend")
        if not addresses or not isinstance(backend, str):
            return lambda: None
        owner = Owner(found.network, found.container_id, found.ifname)
        return masquerade.remove(self.machine, owner, backend, addresses)

    def _delete_near_end(self, name: Any) -> None:
        """It is gone with the far end, unless the namespace could not be opened."""
        if isinstance(name, str) and links.find(self.machine.host, name) is not None:
            links.delete(self.machine.host, name)

    def delete_unrecorded(self, attempt: Attempts, sandbox: Namespace | None) -> None:
        if sandbox is not None:
            attempt(self.delete_link, sandbox, self.request.ifname)
        if self.option.ipMasq:
            self.machine.journal.why = "ipMasq"
            owner = self.owner()
            others = record.siblings(owner.container_id, owner.ifname, owner.network, self.name)
            keep = [address for other in others for address in _cidrs(other.facts.get("masquerade"))]
            attempt(masquerade.remove_by_name, self.machine, owner, keep)

    def collect(self, attempt: Attempts, valid: set[tuple[str, str]]) -> None:
        if self.option.ipMasq:
            attempt(masquerade.collect, self.machine, self.request.name, valid)
        super().collect(attempt, valid)

    @staticmethod
    def repair(machine: Machine, found: Record) -> list[str]:
        owner = Owner(found.network, found.container_id, found.ifname)
        addresses, backend = _cidrs(found.facts.get("masquerade")), str(found.facts.get("backend"))
        if not addresses or not masquerade.missing(machine, owner, backend, addresses):
            return []
        siblings = record.siblings(found.container_id, found.ifname, found.network, found.plugin)
        same = [each for each in siblings if each.facts.get("backend") == backend]
        others = [address for each in same for address in _cidrs(each.facts.get("masquerade"))]
        masquerade.repair(machine, owner, backend, addresses, others)
        return [f"masquerading of {', '.join(str(address.address) for address in addresses)} ({backend})"]

    def status(self) -> None:
        super().status()
        if self.option.ipMasq:
            backends.require_usable(self.machine, self.option.ipMasqBackend, "ipMasq", "ipMasqBackend", "nat")


def ignore_routers(host: Namespace, name: str, *, shared: bool = False) -> None:
    """A container must not configure the host by router advertisements (CVE-2020-10749)."""
    sysctl.write(host, f"net/ipv6/conf/{name}/accept_ra", "0", shared=shared, best_effort=True)


def ignore_new_routers(host: Namespace, link: Link) -> None:
    """The same for a link that somebody else may have made, unless the host has routes by router advertisements there.

    Such a link leads to the administrator's network, and without advertisements the host would lose its default route.
    """
    if sysctl.read(host, f"net/ipv6/conf/{link.name}/accept_ra") not in (None, "0"):
        if link.index not in routes.advertised(host):
            ignore_routers(host, link.name, shared=True)


def keep_routers(host: Namespace) -> None:
    """Let links accept router advertisements although the host forwards, if they have routes from such.

    When forwarding is switched on, the kernel drops these routes, unless accept_ra is 2 (rt6_purge_dflt_routers).
    """
    for index in sorted(routes.advertised(host)):
        link = links.at(host, index)
        key = f"net/ipv6/conf/{link.name}/accept_ra" if link is not None else ""
        if key and sysctl.read(host, key) == "1":  # 0: some daemon handles the advertisements itself
            sysctl.write(host, key, "2", shared=True)


def skip_dad(host: Namespace, name: str, *, shared: bool = False) -> None:
    """What every link of ours on the host's side needs before it has a carrier.

    Without a link-local address the host cannot ask for a container's MAC address; what it forwards to it is lost. It
    would be probed for duplicates for one or two seconds.
    """
    sysctl.write(host, f"net/ipv6/conf/{name}/accept_dad", "0", shared=shared, best_effort=True)


def _cidrs(texts: Any) -> list[Cidr]:
    return [Cidr.parse(text) for text in texts] if isinstance(texts, list) else []
