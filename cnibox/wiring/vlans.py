"""VLANs of a bridge: those that a container's port is in, and the host's interface in one of them, for its gateway.

Frames without a tag belong to a port's native VLAN (its PVID), those of all others have one. The host's interface in
VLAN 5 of cni0 is cni0.5, one end of a veth pair whose other end is a port of the bridge with that native VLAN.
"""

from __future__ import annotations

import errno
import posix

from ..host import links, vlans
from ..host.journal import HostError
from ..spec import errors
from ..spec.errors import CniError
from ..spec.request import interface_name_fault
from .interface import require
from .sharing import unless_joined
from .veth import ignore_new_routers, ignore_routers, skip_dad

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host.links import Link
    from ..host.namespace import Machine
    from ..host.vlans import Membership
    from ..spec.options import Values


class BridgeVlans:
    """What `vlan`, `vlanTrunk` and `preserveDefaultVlan` of one attachment ask for.

    gateway: the name of the host's interface in the VLAN; empty without `vlan`, when the bridge itself is the gateway
    """

    def __init__(self, machine: Machine, option: Values) -> None:
        self.machine = machine
        self.host = machine.host
        self.why = "vlan" if option.vlan else "vlanTrunk"
        self.wanted = membership(option.vlan, option.vlanTrunk or [])
        self.keeps = option.preserveDefaultVlan
        self.vlan = option.vlan
        self.gateway = f"{option.bridge}.{option.vlan}" if option.vlan else ""

    def require_gateway_name(self) -> None:
        fault, _ = interface_name_fault(self.gateway) if self.gateway else ("", "")
        if fault:
            text = f"the interface of VLAN {self.vlan} would be {self.gateway}: {fault}"
            raise CniError(errors.INVALID_CONFIG, text, 'choose a shorter name in "bridge": both have at most 15 bytes')

    def require_known(self) -> None:
        """CniError 50 on a kernel without."""
        if not vlans.are_known(self.host):
            raise CniError(errors.PLUGIN_UNAVAILABLE, f"option {self.why} of bridge: {vlans.LACKING}")

    # --- ADD

    def ensure_filtering(self, bridge: Link) -> None:
        """The reference leaves an existing bridge unfiltered, and all its containers in one segment."""
        described = links.describe(self.host, bridge.name) or bridge
        if described.data.get("IFLA_BR_VLAN_FILTERING"):
            return
        if described.data.get("IFLA_BR_VLAN_DEFAULT_PVID") == 0 and links.ports(self.host, bridge):
            text = f"bridge {bridge.name} does not filter VLANs, and its ports are in none: they would be cut off"
            advice = f"put them into one, or use another bridge; ip link set {bridge.name} type bridge vlan_filtering 1"
            raise CniError(errors.INTERNAL, text, advice)
        self.machine.journal.why = self.why
        undo = unless_joined(self.host, bridge, lambda: vlans.stop_filtering(self.host, bridge))
        vlans.start_filtering(self.host, bridge, undo)

    def join(self, port: str) -> None:
        """Put the container's port into its VLANs, before it has a carrier."""
        if self.wanted:
            self.machine.journal.why = self.why
            vlans.join(self.host, links.get(self.host, port), self.wanted, keep=self.keeps)

    def provide_gateway(self, bridge: Link) -> Link:
        """The host's interface in the VLAN, operational; it stays, as the bridge does.

        It is brought up last: one that is down has been left by an ADD that was killed, or is not ready yet.
        """
        self.machine.journal.why = self.why
        if links.find(self.host, self.gateway) is None:
            self._create_pair(bridge)
        link = links.get(self.host, self.gateway)
        port = self._port_of(link, bridge)
        ignore_new_routers(self.host, link)  # also one that somebody else made
        if not link.is_up:
            skip_dad(self.host, link.name, shared=True)
            if port is not None:
                self._complete(port)
            links.set_up(self.host, link, undone=True, shared=True)
        if port is not None:
            links.operational(self.host, port.name)
            link = links.operational(self.host, link.name)
        return link

    def _create_pair(self, bridge: Link) -> None:
        port, mtu = f"veth{posix.urandom(4).hex()}", links.get(self.host, bridge.name).mtu
        port_mac, mac = links.random_mac(), links.random_mac()
        peer = {"attrs": [("IFLA_IFNAME", self.gateway), ("IFLA_ADDRESS", mac), ("IFLA_MTU", mtu)]}
        try:
            links.create(
                self.host,
                port,
                "veth",
                [("IFLA_ADDRESS", port_mac), ("IFLA_MTU", mtu), ("IFLA_MASTER", bridge.index)],
                [("VETH_INFO_PEER", peer)],
                say=f"address {port_mac} mtu {mtu} master {bridge.name} "
                f"type veth peer name {self.gateway} address {mac} mtu {mtu}",
                undo=unless_joined(self.host, bridge, links.deletion(self.host, port), besides=port),
                shared=True,
            )
        except HostError as error:
            # Another container's ADD was faster.
            if error.errno != errno.EEXIST or links.find(self.host, self.gateway) is None:
                raise

    def _complete(self, port: Link) -> None:
        ignore_routers(self.host, port.name, shared=True)
        skip_dad(self.host, port.name, shared=True)
        vlans.join(self.host, port, {self.vlan: vlans.NATIVE}, keep=self.keeps)
        links.set_up(self.host, port)

    def _port_of(self, link: Link, bridge: Link) -> Link | None:
        """The other end of the pair; None for an interface of another type, which an administrator has made."""
        if link.kind != "veth":
            return None
        port = links.at(self.host, link.peer_index)
        if port is None or (port.peer_index, port.master) != (link.index, bridge.index):
            text = f"{link.name} is there, and is not plugged into bridge {bridge.name}"
            raise CniError(errors.INTERNAL, text, f"it has to be the host's interface in VLAN {self.vlan}: remove it")
        return port

    # --- CHECK

    def check(self, bridge: Link, port: Link) -> None:
        described = links.describe(self.host, bridge.name) or bridge
        require(bool(described.data.get("IFLA_BR_VLAN_FILTERING")), f"bridge {bridge.name} does not filter VLANs")
        found = self._check_port(port, self.wanted)
        more = sorted(found.keys() - self.wanted.keys()) if self.wanted and not self.keeps else []
        require(not more, f"port {port.name} is also in VLAN {', '.join(map(str, more))}")

    def check_gateway(self, bridge: Link) -> Link:
        """The host's interface in the VLAN."""
        link = links.find(self.host, self.gateway)
        if link is None:
            raise CniError(errors.INTERNAL, f"interface {self.gateway} of VLAN {self.vlan} is not there")
        require(link.is_up, f"interface {link.name} is down")
        port = self._port_of(link, bridge)
        if port is not None:
            require(port.is_up, f"port {port.name} of {link.name} is down")
            self._check_port(port, {self.vlan: vlans.NATIVE})
        return link

    def _check_port(self, port: Link, wanted: Membership) -> Membership:
        """The VLANs that it is in, among them the wanted ones; an older reference's ports are in VLAN 1, too."""
        found = vlans.of(self.host, port)
        for vid, flags in wanted.items():
            said = f"VLAN {vid} of port {port.name} is {_said(found.get(vid))}, not {_said(flags)}"
            require(found.get(vid) == flags, said)
        return found


def membership(native: int, trunk: list[Values]) -> Membership:
    """The VLANs of a port: `native` without a tag, by default 1 if it is a trunk. CniError 7 for a senseless trunk.

    A VLAN that is in both is the native one; the reference makes it tagged, and leaves the port without a native one.
    """
    wanted: Membership = {}
    for index, item in enumerate(trunk):
        low, high = item.minID, item.maxID
        if (low is None) != (high is None):
            absent = "minID" if low is None else "maxID"
            raise _fault(index, f"minID and maxID must be given together, {absent} is missing")
        if low is not None:
            if low > high:
                raise _fault(index, f"minID {low} is greater than maxID {high}")
            wanted |= dict.fromkeys(range(low, high + 1), vlans.TAGGED)
        if item.id is not None:
            wanted[item.id] = vlans.TAGGED
    if native or wanted:
        wanted[native or 1] = vlans.NATIVE
    return dict(sorted(wanted.items()))


def _fault(index: int, text: str) -> CniError:
    advice = 'a range is {"minID": 10, "maxID": 20}, a single VLAN {"id": 10}'
    return CniError(errors.INVALID_CONFIG, f'option "vlanTrunk[{index}]" of bridge: {text}', advice)


def _said(flags: int | None) -> str:
    if flags is None:
        return "absent"
    untagged = "untagged" if flags & vlans.UNTAGGED else "tagged"
    return f"native ({untagged})" if flags & vlans.PVID else untagged
