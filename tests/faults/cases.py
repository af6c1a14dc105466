"""The attachments whose ADD, DEL and GC are broken at every operation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.support.machine import GO

V4 = [{"subnet": "10.1.2.0/28"}]
V6 = [{"subnet": "fd00:1:2::/124"}]
ROUTES = [{"dst": "0.0.0.0/0"}]


def network(plugin: str, ranges: list[Any] | None = None, **options: Any) -> dict[str, Any]:
    ipam = {"type": "host-local", "ranges": ranges or [V4], "routes": ROUTES}
    return {"cniVersion": "1.1.0", "name": "net", "type": plugin, "ipam": ipam, **options}


def host_interface(address: str) -> dict[str, Any]:
    """The result of a plugin that has only chosen an interface of the host, and an address for the container."""
    return {
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "eth0"}],
        "ips": [{"address": address, "gateway": "10.1.2.1"}],
    }


@dataclass
class Case:
    """`config` is added beside a standing attachment `beside` (by default of the same network).

    `address`: what of the standing attachment is pinged from the host. `replaces`: whether the bridge loses the address that
    `beside` needs. `path`: before the farm on CNI_PATH.
    `after`: configurations of the plugins before this one in the network's list, which are not broken; each gets the
    result of the one before, and the last of them makes CNI_IFNAME.
    `first`: the list of another network that each container has before, as net0.
    `mend`: a shell script that makes anew what has died with the container's namespace, or waits for its end.
    `brief`: whether most ways of breaking it are tried at few operations only (test_broken_briefly.py); in user-mode
    Linux a process takes eight times as long.
    `setup`: a shell script run on the machine before; `inside`: one run in each container. `firewalld`: whether it runs.
    `kernel`: the features that the machine must have (tests/support/kernel.py).
    """

    name: str
    config: dict[str, Any]
    address: str = "10.1.2.2"
    beside: dict[str, Any] = field(default_factory=dict)
    replaces: bool = False
    path: str = ""
    after: list[dict[str, Any]] = field(default_factory=list)
    first: list[dict[str, Any]] = field(default_factory=list)
    setup: str = ""
    inside: str = ""
    firewalld: bool = False
    mend: str = ""
    kernel: tuple[str, ...] = ()
    brief: bool = False

    def __post_init__(self) -> None:
        self.plugin: str = self.config["type"]
        self.beside = self.beside or self.config


TUNING = {"cniVersion": "1.1.0", "name": "net", "type": "tuning", "mtu": 1400, "txQLen": 500, "promisc": True, "allmulti": True,
          "sysctl": {"net.core.somaxconn": "0x1f4", "net.ipv4.conf.IFNAME.arp_filter": "1", "net.ipv4.ip_forward": "1"}}  # fmt: skip
RECEIVING = {
    "cniVersion": "1.1.0",
    "name": "net",
    "type": "bandwidth",
    "ingressRate": 8_000_000,
    "ingressBurst": 800_000,
}
PORTS = [
    {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
    {"hostPort": 53, "containerPort": 53, "protocol": "udp"},
]
PORTMAP = {"cniVersion": "1.1.0", "name": "net", "type": "portmap", "runtimeConfig": {"portMappings": PORTS}}
BESIDE = {**PORTMAP, "runtimeConfig": {"portMappings": [{**PORTS[0], "hostPort": 8081}]}}
NFT = {"backend": "nftables"}
BANDWIDTH = {**RECEIVING, "egressRate": 8_000_000, "egressBurst": 800_000}
SHAPING = ("ifb", "tbf", "ingress", "u32", "mirred")
GATEWAY = {"isGateway": True, "isDefaultGateway": True}
# The parent has the name of the containers' interfaces: before Linux 6.15 these are made with another, and renamed.
PARENT = (
    "sysctl -qw net.ipv6.conf.default.accept_dad=0; ip link add eth0 up type veth peer name far0; ip link set far0 up"
)
FAR_END = f"{PARENT}; ip address add 10.1.2.1/28 dev far0"
FAR_VLAN = f"{PARENT}; ip link add far6 link far0 up type vlan id 6; ip address add 10.1.2.1/28 dev far6"
DEVICE = "ip link add name a1 index 91 address 02:00:00:00:00:0a mtu 1400 type ifb; ip link set a1 up"
"""One whose carrier is always there: the kernel tells others' with a delay."""
DEVICES = f"""
sysctl -qw net.ipv6.conf.default.addr_gen_mode=1
{DEVICE}
ip link add a2 up type veth peer name b2; ip link set b2 up; ip address add 10.1.2.1/28 dev b2
"""
DPDK = """
mount -t tmpfs pci /sys/bus/pci; mkdir -p /sys/bus/pci/devices/0000:00:05.0 /sys/bus/pci/drivers/vfio-pci
ln -s ../../drivers/vfio-pci /sys/bus/pci/devices/0000:00:05.0/driver
"""
NEW_DEVICE = f"if ! ip link show a1; then {DEVICE}; fi"
ROUTED = {"cniVersion": "1.1.0", "name": "net"}
LAN = ROUTED | {"name": "lan"}
SECOND = LAN | {
    "type": "bridge",
    "bridge": "lan0",
    "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.4.0/28"}]]},
}
PARENTS = f"""
{PARENT}
ip link add eth1 up type veth peer name far1; ip link set far1 up; ip address add 10.1.2.1/28 dev far1
"""
NO_LONGER_LENT = "while ip -d link show eth0 | grep -q 'promiscuity [^0]'; do sleep 0.01; done"
PASSTHRU = network("macvlan", mode="passthru", mac="02:00:00:00:00:0c")
MASTER = (
    "ip link add up0 address 02:00:00:00:00:0d up type veth peer name up1 address 02:00:00:00:00:0e; ip link set up1 up"
)
BEHIND = ROUTED | {"type": "ipvlan"}
OTHER = {"type": "static", "addresses": [{"address": "10.9.9.2/24", "gateway": "10.9.9.1"}]}
CASES = [
    Case("bridge-iptables", network("bridge", ipMasq=True, isGateway=True)),
    Case("bridge-nftables", network("bridge", ipMasq=True, ipMasqBackend="nftables", isGateway=True)),
    Case("bridge-dual", network("bridge", [V4, [{"subnet": "10.1.3.0/28"}], V6], ipMasq=True, mtu=1400, **GATEWAY)
         | {"forceAddress": True}),
    Case("bridge-l2", {"cniVersion": "1.1.0", "name": "net", "type": "bridge"}, address=""),
    Case(
        "bridge-replaced-address",
        network("bridge", isDefaultGateway=True, forceAddress=True) | {"name": "other"},
        address="10.9.9.2",
        replaces=True,
        beside={"cniVersion": "1.1.0", "name": "net", "type": "bridge", "isGateway": True, "ipam": OTHER},
    ),
    Case("bridge-hairpin", network("bridge", hairpinMode=True, isGateway=True)),
    Case("bridge-promisc", network("bridge", promiscMode=True, portIsolation=True, isGateway=True)),
    Case("bridge-spoof-check", network("bridge", macspoofchk=True, isGateway=True)),
    Case("bridge-vlan", network("bridge", isGateway=True, vlan=5, vlanTrunk=[{"id": 7}]), kernel=("bridge-vlan",), brief=True),
    Case("bridge-go-ipam", network("bridge", ipMasq=True, isGateway=True) | {"cniVersion": "1.0.0"}, path=GO),
    Case("ptp-iptables", network("ptp", [V4, V6], ipMasq=True)),
    Case("ptp-nftables", network("ptp", [V4, V6], ipMasq=True, ipMasqBackend="nftables")),
    Case("macvlan", network("macvlan", [V4, V6], master="eth0", mtu=1400), setup=FAR_END, kernel=("macvlan",)),
    Case(
        "macvlan-passthru",
        PASSTHRU | {"master": "eth0"},
        beside=PASSTHRU | {"master": "eth1"},
        setup=PARENTS,
        mend=NO_LONGER_LENT,
        kernel=("macvlan",),
    ),
    Case("macvlan-in-container", network("macvlan", [V4, V6], master="up0", linkInContainer=True), address="", inside=MASTER, kernel=("macvlan",)),
    Case("ipvlan", network("ipvlan", master="eth0"), setup=FAR_END, kernel=("ipvlan",)),
    Case(
        "ipvlan-behind-another",
        BEHIND | {"prevResult": host_interface("10.1.2.3/28")},
        beside=BEHIND | {"prevResult": host_interface("10.1.2.2/28")},
        setup=FAR_END,
        kernel=("ipvlan",),
        brief=True,
    ),
    Case(
        "vlan",
        network("vlan", master="eth0", vlanId=5),
        beside=network("vlan", master="eth0", vlanId=6),
        setup=FAR_VLAN,
        kernel=("8021q",),
        brief=True,
    ),
    *(
        Case(
            name,
            {**config, "device": "a1"},
            address,
            {**config, "device": "a2"},
            path=path,
            setup=DEVICES,
            mend=NEW_DEVICE,
            kernel=("ifb",),
        )
        for name, config, address, path in (
            ("host-device", network("host-device", [V4, V6]), "10.1.2.2", ""),
            ("host-device-go-ipam", network("host-device") | {"cniVersion": "1.0.0"}, "10.1.2.2", GO),
            ("host-device-l2", {"cniVersion": "1.1.0", "name": "net", "type": "host-device"}, "", ""),
        )
    ),
    Case("host-device-dpdk", network("host-device", pciBusID="0000:00:05.0"), address="", setup=DPDK),
    Case("tap", network("tap", [V4, V6], mtu=1400, owner=1, group=2), beside=network("ptp"), kernel=("tun",)),
    Case("tap-l2", {"cniVersion": "1.1.0", "name": "net", "type": "tap"}, beside=network("ptp"), kernel=("tun",)),
    Case(
        "tap-in-a-bridge",
        network("tap", bridge="br0"),
        beside=network("ptp"),
        inside="ip link add br0 address 02:00:00:00:00:0b type bridge",
        kernel=("tun",),
    ),
    Case("dummy", network("dummy"), address="", kernel=("dummy",), brief=True),
    Case("sbr", ROUTED | {"type": "sbr"}, after=[network("bridge", [V4, V6], isGateway=True)]),
    Case("sbr-hints", ROUTED | {"type": "sbr", "addSourceHints": True, "gateways": ["10.1.2.1"]}, after=[network("ptp", [V4, V6])]),
    Case("sbr-table", ROUTED | {"type": "sbr", "table": 4000}, after=[network("bridge", isGateway=True)]),
    Case(
        "sbr-second",
        ROUTED | {"type": "sbr"},
        first=[SECOND, LAN | {"type": "sbr"}],
        after=[network("bridge", [V4, V6], isGateway=True)],
    ),
    Case("vrf", ROUTED | {"type": "vrf", "vrfname": "red"}, after=[network("bridge", [V4, V6], isGateway=True)], kernel=("vrf",), brief=True),
    Case(
        "vrf-second",
        ROUTED | {"type": "vrf", "vrfname": "red"},
        first=[SECOND, LAN | {"type": "vrf", "vrfname": "red"}],
        after=[network("bridge", isGateway=True)],
        kernel=("vrf",),
        brief=True,
    ),
    Case("loopback", {"cniVersion": "1.1.0", "name": "net", "type": "loopback"}, address=""),
    Case("host-local", network("host-local", [V4, V6, [{"subnet": "10.1.3.0/28"}]]), address=""),
    Case("static", {"cniVersion": "1.1.0", "name": "net", "type": "static", "ipam": OTHER}, address=""),
    Case("tuning", {**TUNING, "mac": "c2:11:22:33:44:55"}, beside=TUNING, after=[network("bridge", isGateway=True)]),
    Case("tuning-args", {**TUNING, "args": {"cni": {"mtu": 1300, "mac": "", "sysctl": {}}}}, after=[network("ptp")]),
    Case("bandwidth", BANDWIDTH, after=[network("bridge", isGateway=True)], kernel=SHAPING),
    Case("bandwidth-receiving", RECEIVING, after=[network("ptp")], kernel=SHAPING),
    Case("firewall-iptables", {**ROUTED, "type": "firewall"}, after=[network("bridge", [V4, V6], isGateway=True)]),
    *(
        Case(
            f"firewall-{backend}-{policy}",
            {**ROUTED, "type": "firewall", "backend": backend, "ingressPolicy": policy},
            after=[network("bridge", [V4, V6], isGateway=True)],
        )
        for backend, policy in (("iptables", "same-bridge"), ("iptables", "isolated"), ("nftables", "isolated"))
    ),
    Case(
        "firewall-firewalld",
        ROUTED | {"type": "firewall", "backend": "firewalld"},
        after=[network("bridge", [V4, V6], isGateway=True)],
        firewalld=True,
    ),
    Case("portmap-iptables", PORTMAP, beside=BESIDE, after=[network("bridge", [V4, V6], isGateway=True)]),
    Case("portmap-iptables-v4", PORTMAP | {"snat": False}, beside=BESIDE, after=[network("bridge", isGateway=True)]),
    Case("portmap-nftables", PORTMAP | NFT, beside=BESIDE | NFT, after=[network("bridge", [V4, V6], isGateway=True)]),
    Case(
        "portmap-conditions",
        PORTMAP | NFT | {"conditionsV4": ["ip", "saddr", "10.0.0.0/8"]},
        beside=BESIDE | NFT,
        after=[network("bridge", isGateway=True)],
    ),
    Case("bandwidth-after-tuning", BANDWIDTH, after=[network("bridge", isGateway=True), TUNING], kernel=SHAPING),
]  # fmt: skip
