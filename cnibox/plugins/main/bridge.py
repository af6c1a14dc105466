"""bridge: the container is plugged into a bridge on the host, together with the others of its network.

{"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true,
 "ipam": {"type": "host-local", "subnet": "10.1.2.0/24", "routes": [{"dst": "0.0.0.0/0"}]}}

The bridge is made by the first attachment, and stays. Without `ipam` the container gets an interface and no address.
With `vlan` the gateway's address is on an interface of the host in that VLAN, cni0.5, which stays as well.
"""

from __future__ import annotations

import errno

from ... import record
from ...host import addresses, links, sysctl
from ...host.journal import HostError
from ...spec import errors
from ...spec.address import Cidr
from ...spec.errors import CniError
from ...spec.options import Bool, Int, ListOf, Mac, Option, Options, Record, Text
from ...spec.request import CONTAINER_ID, interface_name_fault
from ...spec.result import Interface, Result, Route
from ...wiring.interface import gateways, require
from ...wiring.sharing import keep_mac, provide_gateways
from ...wiring.veth import IP_MASQ, IP_MASQ_BACKEND, MTU, VethPlugin, ignore_new_routers, skip_dad

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...host.links import Link
    from ...host.namespace import Machine, Namespace
    from ...plugin import Attempts
    from ...record import Record as CniRecord
    from ...spec.address import Address
    from ...spec.request import Request
    from ...spec.result import IpConfig
    from ...wiring.spoof_check import SpoofCheck
    from ...wiring.vlans import BridgeVlans

VLANS = Options(
    Option("minID", Int(1, 4094), help="the first VLAN of a range"),
    Option("maxID", Int(1, 4094), help="the last VLAN of a range"),
    Option("id", Int(1, 4094), help="a VLAN"),
)
MAC_SPOOF_CHECK = Option("macspoofchk", Bool, False, "drop what the container sends from another MAC address")
DEFAULT = {4: Cidr.parse("0.0.0.0/0"), 6: Cidr.parse("::/0")}


class Bridge(VethPlugin):
    options = Options(
        Option("bridge", Text, "cni0", "name of the bridge; made if it is missing"),
        Option("isGateway", Bool, False, "give the bridge the gateway's address, and let the host forward"),
        Option("isDefaultGateway", Bool, False, "isGateway, and the container's default route leads there"),
        Option("forceAddress", Bool, False, "replace another address that the bridge has"),
        IP_MASQ,
        IP_MASQ_BACKEND,
        MTU,
        Option("hairpinMode", Bool, False, "the container may reach itself through the bridge"),
        Option("promiscMode", Bool, False, "the bridge takes frames for any MAC address"),
        Option("enabledad", Bool, False, "probe the container's IPv6 addresses for duplicates; takes a second or two"),
        Option("disableContainerInterface", Bool, False, "leave the container's interface down; not with ipam"),
        Option("portIsolation", Bool, False, "the container reaches no other isolated port of the bridge"),
        Option(
            "mac",
            Mac,
            help="of the container's interface",
            config=False,
            cni_arg="MAC",
            args_cni="mac",
            capability="mac",
        ),
        Option("vlan", Int(0, 4094), 0, "the VLAN of what the container sends untagged; 0: the bridge's default"),
        Option("vlanTrunk", ListOf(Record(VLANS)), help="VLANs of what the container sends tagged"),
        Option("preserveDefaultVlan", Bool, False, "the port stays in the bridge's default VLAN, too"),
        MAC_SPOOF_CHECK,
    )
    needed_to_delete = Options(IP_MASQ, MAC_SPOOF_CHECK)
    container_index = 2
    vlans: BridgeVlans | None = None

    def derived_names(self) -> list[tuple[str, str]]:
        names = super().derived_names()
        if self.option.macspoofchk:
            names.append((CONTAINER_ID, spoof_check(self.machine, self.request).mac_chain))
        return names

    def validate(self) -> None:
        option = self.option
        fault, details = interface_name_fault(option.bridge)
        if fault:
            raise CniError(errors.INVALID_CONFIG, f'option "bridge" of bridge: {fault}', details or option.bridge)
        if option.hairpinMode and option.promiscMode:
            text = "cannot set hairpin mode and promiscuous mode at the same time"
            raise CniError(errors.INVALID_CONFIG, text, 'set one of "hairpinMode" and "promiscMode" to false')
        if option.disableContainerInterface and self.ipam_name():
            text = "cannot use IPAM when the container interface stays down"
            raise CniError(errors.INVALID_CONFIG, text, 'remove "ipam" or "disableContainerInterface"')
        self.dad = option.enabledad
        self.is_gateway = option.isGateway or option.isDefaultGateway
        if option.vlan or option.vlanTrunk is not None:
            from ...wiring.vlans import BridgeVlans

            self.vlans = BridgeVlans(self.machine, option)
            if self.is_gateway and self.ipam_name():
                self.vlans.require_gateway_name()

    # --- ADD

    def plan(self, result: Result) -> None:
        """Gateways that IPAM left open are the first address of their subnet; the default route leads to them."""
        for ip in result.ips:
            if ip.gateway is None and self.is_gateway:
                ip.gateway = ip.address.first.plus(1)
            if self.is_gateway and ip.gateway == ip.address.address:
                text = f"the container's address {ip.address} is also its gateway's"
                raise CniError(errors.INVALID_CONFIG, text, 'give the range another "gateway", or exclude that address')
        if self.option.isDefaultGateway:
            for version, gateway in gateways(result.ips).items():
                self._add_default_route(result, version, gateway)

    @staticmethod
    def _add_default_route(result: Result, version: int, gateway: Address) -> None:
        mine = [route for route in result.routes if route.dst.network == DEFAULT[version]]
        for route in mine:
            route.gw = route.gw or gateway
        if not mine:
            result.routes.append(Route(DEFAULT[version], gateway))

    def prepare_host(self) -> None:
        """Make sure of the bridge."""
        host, name = self.machine.host, self.option.bridge
        self.machine.journal.why = "bridge"
        bridge = links.find(host, name)
        is_new = bridge is None and self._create_bridge()
        bridge = bridge or links.get(host, name)
        if bridge.kind != "bridge":
            text = f"{name} is a {bridge.kind or 'hardware link'}, not a bridge"
            raise CniError(errors.INVALID_CONFIG, text, 'choose another name in "bridge"')
        if self.vlans is not None:
            self.vlans.ensure_filtering(bridge)
        keep_mac(self.machine, bridge, is_new=is_new)
        self.machine.journal.why = "bridge"
        ignore_new_routers(host, bridge)
        if not bridge.is_up:
            skip_dad(host, name, shared=True)
            links.set_up(host, bridge, undone=True, shared=True)
        if self.option.promiscMode and not bridge.is_promiscuous:
            self.machine.journal.why = "promiscMode"
            links.set_promiscuous(host, bridge, shared=True)
        self.bridge = bridge

    def _create_bridge(self) -> bool:
        """With its MAC address: one that the kernel chose would change with the ports; False if it is there by now."""
        mac, mtu = links.random_mac(), self.option.mtu
        try:
            links.create(
                self.machine.host,
                self.option.bridge,
                "bridge",
                [("IFLA_ADDRESS", mac), *[("IFLA_MTU", mtu)] * bool(mtu)],
                say=f"address {mac}" + f" mtu {mtu}" * bool(mtu) + " type bridge",
                undo=self._delete_bridge,
                shared=True,
            )
        except HostError as error:
            if error.errno != errno.EEXIST:
                raise
            return False  # another container's first ADD was faster
        return True

    def _delete_bridge(self) -> None:
        bridge = links.find(self.machine.host, self.option.bridge)
        if bridge is not None and not links.ports(self.machine.host, bridge):
            links.deletion(self.machine.host, bridge.name)()

    def master(self) -> Link:
        return self.bridge

    def mac(self) -> str:
        return self.option.mac or ""

    def wire(self, result: Result) -> None:
        host, sandbox, option = self.machine.host, self.sandbox, self.option
        self._configure_port()
        gateway = self.bridge
        far = links.get(sandbox, self.request.ifname)
        if option.macspoofchk:
            self.more_facts["macspoofchk"] = far.mac
            self.remember_pair(result)
            self.machine.journal.why = "macspoofchk"
            spoof_check(self.machine, self.request).add(self.host_name, far.mac)
        if result.ips:
            with sandbox, sandbox.batch():
                self._prepare_far_end(far)
                self.assign(sandbox, far, result.ips)
                self.add_routes(sandbox, far, result)
        elif not option.disableContainerInterface:
            self.machine.journal.why = "type"
            links.set_up(sandbox, far)
        if self.is_gateway and result.ips:
            gateway = self._provide_gateways(result)
        find = links.get if option.disableContainerInterface else links.operational
        near, far = find(host, self.host_name), find(sandbox, far.name)
        if near.forwards or not self.dad:
            self.wait_until_usable(sandbox, far, result)
        if near.forwards:
            bridge = links.operational(host, option.bridge)
            if self.is_gateway:
                self.wait_until_reachable(gateway, self._gateways(result.ips))
        else:  # with STP for half a minute, in which no packet passes, and none that looks for duplicates
            bridge = links.get(host, option.bridge)
        result.interfaces.append(Interface(bridge.name, bridge.mac, mtu=bridge.mtu))
        self.describe(result, near, far)
        if gateway is not self.bridge:
            result.interfaces.append(Interface(gateway.name, gateway.mac, mtu=gateway.mtu))

    def _configure_port(self) -> None:
        """Hairpin and isolation, which a new port has not, and VLANs, of which it has the bridge's default."""
        if self.vlans is not None:
            self.vlans.join(self.host_name)
        if not (self.option.hairpinMode or self.option.portIsolation):
            return
        port = links.get(self.machine.host, self.host_name)
        self.machine.journal.why = "hairpinMode" if self.option.hairpinMode else "portIsolation"
        hairpin, isolated = int(self.option.hairpinMode), int(self.option.portIsolation)
        settings = [("IFLA_BRPORT_MODE", hairpin), ("IFLA_BRPORT_ISOLATED", isolated)]
        words = ("off", "on")
        links.set_port(self.machine.host, port, settings, f"hairpin {words[hairpin]} isolated {words[isolated]}")

    def _prepare_far_end(self, far: Link) -> None:
        """Duplicate address detection as asked for; neighbours are told of the new address by the kernel."""
        conf = f"net/ipv6/conf/{far.name}"
        self.machine.journal.why = "enabledad"
        if self.option.enabledad:
            sysctl.write(self.sandbox, f"{conf}/enhanced_dad", "1", best_effort=True)
            sysctl.write(self.sandbox, f"{conf}/accept_dad", "1", best_effort=True)
        else:
            self.machine.journal.why = "type"
            sysctl.write(self.sandbox, f"{conf}/accept_dad", "0", best_effort=True)
        self.machine.journal.why = "type"
        sysctl.write(self.sandbox, f"net/ipv4/conf/{far.name}/arp_notify", "1", best_effort=True)

    def _provide_gateways(self, result: Result) -> Link:
        """The gateways' addresses on the bridge, or on the host's interface in the VLAN, and forwarding."""
        wanted = self._gateways(result.ips)
        link = self.vlans.provide_gateway(self.bridge) if self.vlans and self.vlans.gateway else self.bridge
        self.machine.journal.why = "isGateway"
        provide_gateways(self.machine, link, self.bridge, wanted, replace=self.option.forceAddress)
        self.enable_forwarding({gateway.version for gateway in wanted})
        return link

    @staticmethod
    def _gateways(ips: list[IpConfig]) -> list[Cidr]:
        """The gateways with the length of their addresses' prefixes, each once."""
        return list(dict.fromkeys(Cidr(ip.gateway, ip.address.prefix) for ip in ips if ip.gateway is not None))

    # --- CHECK

    def check(self) -> None:
        self.validate()
        sandbox, link, result = self.check_interface("veth")
        bridge = links.find(self.machine.host, self.option.bridge)
        if bridge is None or bridge.kind != "bridge":
            raise CniError(errors.INTERNAL, f"bridge {self.option.bridge} is not there")
        for interface in result.interfaces:
            if interface.name == bridge.name and not interface.sandbox and interface.mac:
                same = interface.mac.lower() == bridge.mac.lower()
                require(same, f"bridge {bridge.name} has the MAC address {bridge.mac}, not {interface.mac}")
        promiscuous = bridge.is_promiscuous or not self.option.promiscMode
        require(promiscuous, f"bridge {bridge.name} is not in promiscuous mode")
        require(bridge.is_up, f"bridge {bridge.name} is down")
        near = self.check_near_end(result, link, bridge)
        self._check_port(near)
        if not self.option.disableContainerInterface:
            require(link.is_up, f"{link.name} is down")
        self.check_mtu(link, result)
        self.check_addresses(sandbox, link, result)
        self.check_routes(sandbox, result)
        if self.vlans is not None:
            self.vlans.check(bridge, near)
        if self.is_gateway:
            self._check_gateways(result, bridge)
        self.check_masquerading(result)
        if self.option.macspoofchk:
            whole = spoof_check(self.machine, self.request).is_there(near.name, link.mac)
            require(whole, f"macspoofchk: the rules for {near.name} in nftables' table bridge nat are not complete")

    def _check_gateways(self, result: Result, bridge: Link) -> None:
        wanted = self._gateways(self.own(result))
        link = self.vlans.check_gateway(bridge) if wanted and self.vlans and self.vlans.gateway else bridge
        there = {address.text for address in addresses.of(self.machine.host, link)}
        for gateway in wanted:
            require(str(gateway) in there, f"the gateway's address {gateway} is not on {link.name}")

    def _check_port(self, near: Link) -> None:
        mtu = self.option.mtu
        require(not mtu or near.mtu == mtu, f"host interface {near.name} has MTU {near.mtu}, not {mtu}")
        for option, key in (("hairpinMode", "IFLA_BRPORT_MODE"), ("portIsolation", "IFLA_BRPORT_ISOLATED")):
            wanted = getattr(self.option, option)
            is_set = bool(near.port.get(key, 0))
            same = is_set == wanted or (option == "portIsolation" and is_set and self._is_isolated_by_firewall(near))
            require(same, f"{option} of port {near.name} is {'on' if is_set else 'off'}")

    def _is_isolated_by_firewall(self, port: Link) -> bool:
        """A later firewall with "ingressPolicy": "isolated" isolates the port, too."""
        part = record.of(self.request, "firewall")
        return part is not None and port.name in (part.facts.get("isolated") or ())

    # --- DEL, repair, STATUS

    def delete_recorded(self, attempt: Attempts, found: CniRecord, sandbox: Namespace | None) -> None:
        super().delete_recorded(attempt, found, sandbox)
        if found.facts.get("macspoofchk"):
            self.machine.journal.why = "macspoofchk"
            attempt(spoof_check(self.machine, found).remove)

    def delete_unrecorded(self, attempt: Attempts, sandbox: Namespace | None) -> None:
        super().delete_unrecorded(attempt, sandbox)
        if self.option.macspoofchk:
            self.machine.journal.why = "macspoofchk"
            attempt(spoof_check(self.machine, self.request).remove)

    @staticmethod
    def repair(machine: Machine, found: CniRecord) -> list[str]:
        done = VethPlugin.repair(machine, found)
        port, mac = found.facts.get("hostInterface"), found.facts.get("macspoofchk")
        if isinstance(port, str) and isinstance(mac, str):
            check = spoof_check(machine, found)
            if not check.is_there(port, mac):
                check.remove()
                check.add(port, mac)
                done.append(f"MAC-spoof check of {port}")
        return done

    def status(self) -> None:
        super().status()
        bridge = links.find(self.machine.host, self.option.bridge)
        if bridge is not None and bridge.kind != "bridge":
            text = f"{bridge.name} is a {bridge.kind or 'hardware link'}, not a bridge"
            raise CniError(errors.PLUGIN_UNAVAILABLE, text)
        if self.vlans is not None:
            self.vlans.require_known()
        if self.option.macspoofchk:
            spoof_check(self.machine, self.request).require_usable()


def spoof_check(machine: Machine, attachment: Request | CniRecord) -> SpoofCheck:
    """Of whatever names container and interface; imported only where it is wanted."""
    from ...wiring.spoof_check import SpoofCheck

    return SpoofCheck(machine, attachment.container_id, attachment.ifname)
