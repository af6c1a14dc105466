"""A link of its own in the container: what macvlan, ipvlan, vlan, dummy and tap have in common.

It is born in the container's namespace with its final name: nothing is moved or renamed, nothing is left on the host.
"""

from __future__ import annotations

from ..host import links, routes, sysctl
from ..spec import errors
from ..spec.errors import CniError
from ..spec.options import Bool, Int, Option, Text
from ..spec.result import Interface, Result
from .interface import InterfacePlugin, require

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host.links import Attributes, Link
    from ..host.namespace import Namespace

MASTER = Option("master", Text, "", "the parent interface; by default that of the default route")
MTU = Option("mtu", Int(0, 65535), 0, "MTU of the interface, at most the parent's; 0: the parent's")
LINK_IN_CONTAINER = Option("linkInContainer", Bool, False, "the parent is in the container, not on the host")


class LinkPlugin(InterfacePlugin):
    """ADD, CHECK and STATUS of such a link; a plugin says how it is made."""

    kind = ""
    """The kernel's name of its type (IFLA_INFO_KIND)."""
    dad = True

    def create_link(self) -> None:
        """Make the link, down, in the container."""
        raise NotImplementedError

    def check_link(self, link: Link) -> None:
        """Raise if the link (links.describe) is not as it was made."""

    def planned(self) -> Result:
        """What is known before IPAM is asked."""
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
        self._configure(result)
        result.dns = dns or result.dns
        return result

    def _configure(self, result: Result) -> None:
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
        self.check_addresses(sandbox, link, result)
        self.check_routes(sandbox, result)

    def status(self) -> None:
        super().status()
        if not links.knows(self.machine.host, self.kind):
            advice = f"load the module (modprobe {self.kind}), or run a kernel that has it"
            raise CniError(errors.PLUGIN_UNAVAILABLE, f"this kernel has no links of type {self.kind}", advice)


class StackedPlugin(LinkPlugin):
    """A link on top of another, its master, on the host or in the container."""

    needs_master = False
    """Whether the configuration has to name it."""

    def validate(self) -> None:
        super().validate()
        if self.needs_master and not self.option.master:
            text = f'option "master" of {self.name} is missing'
            raise CniError(errors.INVALID_CONFIG, text, "name the interface that carries the container's packets")

    @property
    def side(self) -> Namespace:
        """Where the master is."""
        return self.sandbox if self.option.linkInContainer else self.machine.host

    def master(self) -> Link:
        """The link on top of which ours is made."""
        return find_master(self.side, self.option.master)

    def stack(self, data: Attributes, say: str, mac: str = "") -> None:
        """Make the link; `say` as in `ip link add ... type KIND ...`."""
        master, mtu = self.master(), self.option.mtu
        if mtu > master.mtu:
            text = f"invalid MTU {mtu}: the MTU of its master {master.name} is {master.mtu}"
            raise CniError(errors.INVALID_CONFIG, text, 'lower "mtu", or leave it out')
        attributes: Attributes = [("IFLA_LINK", master.index)]
        attributes += [("IFLA_MTU", mtu)] * bool(mtu) + [("IFLA_ADDRESS", mac)] * bool(mac)
        own = f" mtu {mtu}" * bool(mtu) + f" address {mac}" * bool(mac)
        say = f"link {master.name}{own} type {self.kind} {say}"
        links.create(self.side, self.request.ifname, self.kind, attributes, data, into=self.sandbox, say=say)

    def check_link(self, link: Link) -> None:
        master = self.master()
        require(link.peer_index == master.index, f"{link.name} is not on top of {master.name}")
        same = not self.option.mtu or link.mtu == self.option.mtu
        require(same, f"{link.name} has MTU {link.mtu}, not {self.option.mtu}")

    def status(self) -> None:
        super().status()
        if not self.option.linkInContainer:
            try:
                find_master(self.machine.host, self.option.master)
            except CniError as error:
                raise CniError(errors.PLUGIN_UNAVAILABLE, error.msg, error.details) from None


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
