"""A link of its own in the container: what macvlan, ipvlan, vlan, dummy and tap have in common.

It is born in the container's namespace with its final name: nothing is moved, nothing is left on the host.
"""

from __future__ import annotations

import errno

from .. import record
from ..host import links, routes, sysctl
from ..host.journal import HostError
from ..spec import errors
from ..spec.errors import CniError
from ..spec.options import Bool, Int, Option, Text
from ..spec.request import interface_name_fault
from ..spec.result import Interface, Result
from .interface import InterfacePlugin, require

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..host.links import Attributes, Link
    from ..host.namespace import Namespace
    from ..plugin import Attempts
    from ..record import Record

MASTER = Option("master", Text, "", "the parent interface; by default that of the default route")
MTU = Option("mtu", Int(0, 65535), 0, "MTU of the interface, at most the parent's; 0: the parent's")
LINK_IN_CONTAINER = Option("linkInContainer", Bool, False, "the parent is in the container, not on the host")
DRAFT = "~cnibox"
"""The name in the container of a link that gets its final one by a rename. A container has one ADD at a time."""


class LinkPlugin(InterfacePlugin):
    """ADD, CHECK and STATUS of such a link; a plugin says how it is made."""

    kind = ""
    """The kernel's name of its type (IFLA_INFO_KIND); empty: any."""
    dad = True

    def create_link(self) -> None:
        """Make the link, down, in the container."""
        raise NotImplementedError

    def check_link(self, link: Link) -> None:
        """Raise if the link (links.describe) is not as it was made."""

    def planned(self) -> Result:
        """What is known before IPAM is asked; raises what can be told before any change."""
        return Result()

    # --- ADD

    def add(self) -> Result:
        self.validate()
        dns = self.configured_dns()
        self.sandbox = self.open_sandbox()
        self.require_absent(self.sandbox)
        result, ipam = self.planned(), self.ipam()
        # Our own IPAM plugins need no link: asked first, a full range changes nothing. Others may want it (dhcp).
        if ipam is not None and ipam.in_process:
            self.lease(ipam, result)
        self.remember()
        self.machine.journal.why = "type"
        self.create_link()
        if ipam is not None and not ipam.in_process:
            self.lease(ipam, result)
        self.configure(result)
        result.dns = result.dns if dns is None else dns
        return result

    def configure(self, result: Result) -> None:
        """Addresses, routes, up; and complete the result."""
        link = links.get(self.sandbox, self.request.ifname)
        if result.ips:
            with self.sandbox, self.sandbox.batch():
                self._announce(link)
                self.assign(self.sandbox, link, result.ips)
                self.add_routes(self.sandbox, link, result)
        else:
            self.machine.journal.why = "type"
            links.set_up(self.sandbox, link)
        link = links.get(self.sandbox, link.name)
        if link.has_carrier:  # else nobody could be asked for duplicates, and waiting would not help
            self.wait_until_usable(self.sandbox, link, result)
        result.interfaces = [Interface(link.name, link.mac, self.request.netns, mtu=link.mtu)]

    def _announce(self, link: Link) -> None:
        """The kernel tells the neighbours of the new address: another container may have had it."""
        self.machine.journal.why = "type"
        sysctl.write(self.sandbox, f"net/ipv4/conf/{link.name}/arp_notify", "1", best_effort=True)
        sysctl.write(self.sandbox, f"net/ipv6/conf/{link.name}/ndisc_notify", "1", best_effort=True)

    # --- CHECK, STATUS

    def check(self) -> None:
        self.validate()
        sandbox, link, result = self.check_interface(self.kind)
        self.sandbox = sandbox
        described = links.describe(sandbox, link.name)
        require(described is not None and described.is_up, f"{link.name} is down")
        self.check_link(described or link)
        self.check_mtu(link, result)
        self.check_addresses(sandbox, link, result)
        self.check_routes(sandbox, result)

    def status(self) -> None:
        super().status()
        self.require_kernel()

    def require_kernel(self) -> None:
        """Raise when the link cannot be had here."""
        if not links.knows(self.machine.host, self.kind):
            advice = f"load the module (modprobe {self.kind}), or run a kernel that has it"
            raise CniError(errors.PLUGIN_UNAVAILABLE, f"this kernel has no links of type {self.kind}", advice)


class StackedPlugin(LinkPlugin):
    """A link on top of another, its master, on the host or in the container."""

    needs_master = False
    """Whether the configuration has to name it."""
    parent: Link

    def validate(self) -> None:
        super().validate()
        name = self.option.master
        if self.needs_master and not name:
            text = f'option "master" of {self.name} is missing'
            raise CniError(errors.INVALID_CONFIG, text, "name the interface that carries the container's packets")
        # Of a longer one its beginning: an alternative name may have 127 bytes.
        fault, details = interface_name_fault(name[: links.NAME_LIMIT]) if name else ("", "")
        if fault:
            raise CniError(errors.INVALID_CONFIG, f'option "master" of {self.name}: {fault}', details or name)

    # --- the master

    @property
    def side(self) -> Namespace:
        """Where the master is."""
        return self.sandbox if self.option.linkInContainer else self.machine.host

    @property
    def comes_with_add(self) -> bool:
        """Whether the master need not be there, or cannot be known, before an ADD."""
        return bool(self.option.linkInContainer)

    def master_name(self) -> str:
        """What ADD is told of the master's name; empty: it is the default route's."""
        return str(self.option.master)

    def master(self) -> Link:
        """The link on top of which ours can be made as the options say."""
        found, mtu = find_master(self.side, self.master_name()), self.option.mtu
        if mtu > found.mtu:
            text = f"invalid MTU {mtu}: the MTU of its master {found.name} is {found.mtu}"
            raise CniError(errors.INVALID_CONFIG, text, 'lower "mtu", or leave it out')
        return found

    # --- ADD

    def planned_mtu(self) -> tuple[str, int]:
        return super().planned_mtu() if self.option.mtu else (f"master {self.parent.name}", self.parent.mtu)

    def planned(self) -> Result:
        self.parent = self.master()
        return super().planned()

    def remember(self, **facts: Any) -> None:
        super().remember(master=self.parent.name, **facts)

    def stack(self, data: Attributes, say: str, mac: str = "") -> None:
        """Make the link; `say` as in `ip link add ... type KIND ...`."""
        master, mtu = self.parent, self.option.mtu
        attributes: Attributes = [("IFLA_LINK", master.index)]
        attributes += [("IFLA_MTU", mtu)] * bool(mtu) + [("IFLA_ADDRESS", mac)] * bool(mac)
        own = f" mtu {mtu}" * bool(mtu) + f" address {mac}" * bool(mac)
        say = f"link {master.name}{own} type {self.kind} {say}"
        try:
            self._create(attributes, data, say)
        except HostError as error:
            if error.errno == errno.EBUSY:
                error.hint = f"{master.name} is a bridge's port, or has links of another type: macvlan excludes ipvlan"
            raise

    def _create(self, attributes: Attributes, data: Attributes, say: str) -> None:
        """With its final name; if the kernel allows that."""
        name, sandbox = self.request.ifname, self.sandbox
        try:
            links.create(self.side, name, self.kind, attributes, data, into=sandbox, say=say)
        except HostError as error:
            # Before Linux 6.15 a name had to be free in the master's namespace, too: no eth0 on top of an eth0.
            if error.errno != errno.EEXIST or self.side is sandbox or links.find(self.side, name) is None:
                raise
            links.create(self.side, DRAFT, self.kind, attributes, data, into=sandbox, say=say)
            links.rename(sandbox, links.get(sandbox, DRAFT), name, links.deletion(sandbox, name))

    # --- CHECK, DEL, STATUS

    def check_link(self, link: Link) -> None:
        name = self.option.master or self._recorded_master()
        if name:  # else a Go plugin's ADD found it: the default route may be another one by now
            master = find_master(self.side, name)
            index = link.peer_index or link.index  # kernels before 5.17 leave it out when the two are the same
            require(index == master.index, f"{link.name} is not on top of {master.name}")

    def _recorded_master(self) -> str:
        found = record.of(self.request, self.name)
        name = found.facts.get("master") if found is not None else None
        return name if isinstance(name, str) else ""

    def delete_recorded(self, attempt: Attempts, found: Record, sandbox: Namespace | None) -> None:
        super().delete_recorded(attempt, found, sandbox)
        if sandbox is not None:
            attempt(self.delete_link, sandbox, DRAFT)

    def status(self) -> None:
        super().status()
        if not self.comes_with_add:
            self.master()


def find_master(namespace: Namespace, name: str) -> Link:
    """The link of that name, by default that of the default route; CniError when there is none."""
    if name:
        link = links.find(namespace, name)
        if link is None:
            raise CniError(errors.INTERNAL, f"master interface {name} is not in {namespace.place}", 'check "master"')
        return link
    index = routes.default_interface(namespace)
    link = links.at(namespace, index) if index else None
    if link is None:
        text = f"no default route in {namespace.place} whose interface could be the master"
        raise CniError(errors.INTERNAL, text, 'name it in "master"')
    return link
