"""The requests to chained plugins: after an interface plugin of the same side, with its result as prevResult."""

# A table: one request a line.
# fmt: off

from __future__ import annotations

from typing import Any

from tests.differential.sides import Case

VERSIONS = ("0.3.1", "0.4.0", "1.0.0")
V4 = {"type": "host-local", "subnet": "10.1.0.0/24"}
BRIDGE, PTP = {"type": "bridge", "ipam": V4}, {"type": "ptp", "ipam": V4}
WRONG = ["config code", "DEL is total"]
MAC = "c2:11:22:33:44:55"


def _case(plugin: str, name: str, differs: Any, after: Any, config: Any, **more: Any) -> Case:
    given = {"cniVersion": "1.0.0", "name": "net", "type": plugin, **config}
    chain = () if after is None else (after,)
    return Case(f"{plugin}-{name}", plugin, given, differs=tuple(differs), chain=chain, **more)


RECEIVING = {"ingressRate": 8_000_000, "ingressBurst": 1_600_000}
SENDING = {"egressRate": 4_000_000, "egressBurst": 800_000}
BOTH = {**RECEIVING, **SENDING}
LEFT = "qdiscs stay"


def bandwidth(name: str, differs: Any = (), after: Any = BRIDGE, between: str = "", **config: Any) -> Case:
    """`ip link set` makes both sides' queues equally long: 1.1.1's bridge makes some of none, of which tbf makes some."""
    same = "for link in $(ls /proc/sys/net/ipv4/conf); do ip link set $link txqueuelen 1000 2>/dev/null || true; done"
    kernel = ("ifb", "tbf", "ingress", "u32", "mirred")
    return _case("bandwidth", name, differs, after, config, between=between or same, kernel=kernel)


BANDWIDTH = [
    *(bandwidth(f"version-{version}", ["linklayer", "second action", LEFT], cniVersion=version, **BOTH) for version in VERSIONS),
    bandwidth("receiving", ["linklayer", LEFT], **RECEIVING),
    bandwidth("sending", ["linklayer", "second action", LEFT], **SENDING),
    bandwidth("after-ptp", ["linklayer", "second action", LEFT], PTP, **BOTH),
    bandwidth("mtu", ["linklayer", "second action", LEFT], {**BRIDGE, "mtu": 1400}, **SENDING),
    bandwidth("none", ["CHECK without limits"]),
    bandwidth("zero", ingressRate=0, egressBurst=0),
    bandwidth("runtime", ["linklayer", "second action", LEFT], runtimeConfig={"bandwidth": BOTH}, capabilities={"bandwidth": True}),
    bandwidth("runtime-beside-own", ["linklayer", LEFT], runtimeConfig={"bandwidth": SENDING}, **RECEIVING),
    bandwidth("runtime-beside-zero", runtimeConfig={"bandwidth": SENDING}, ingressRate=0),
    bandwidth("odd-numbers", ["linklayer", LEFT], ingressRate=1_000_003, ingressBurst=1_234_567),
    bandwidth("slow", ["linklayer", LEFT], ingressRate=8, ingressBurst=800),
    bandwidth("fast", ["linklayer", LEFT], ingressRate=100_000_000_000, ingressBurst=8_000_000_000),
    bandwidth("burst-of-the-kubelet", [LEFT, "burst beyond 274 s"], ingressRate=1_000_000, ingressBurst=2**31 - 1),
    bandwidth("too-slow", ["config code"], ingressRate=7, ingressBurst=800),
    bandwidth("no-burst", WRONG, ingressRate=1000),
    bandwidth("no-rate", WRONG, egressBurst=1000),
    bandwidth("burst-too-large", WRONG, egressRate=1000, egressBurst=1 << 40),
    bandwidth("negative", WRONG, egressRate=-1, egressBurst=1000),
    bandwidth("no-previous", ["config code"], None, **BOTH),
    bandwidth("discipline-there", between="tc qdisc add dev $(ip -br link show type veth | sed 's/@.*//') root handle 5: pfifo", **RECEIVING),
]


def tuning(name: str, differs: Any = (), after: Any = BRIDGE, environ: Any = None, between: str = "", **config: Any) -> Case:
    same = "ip -n c1 link set eth0 txqueuelen 1000; " * (after is not None)
    return _case("tuning", name, differs, after, config, environ=environ or {}, between=same + between)


LINK = {"mac": MAC, "mtu": 1400, "promisc": True, "allmulti": True}
CONF = {"net.ipv4.conf.eth0.arp_filter": "1"}
TUNING = [
    *(tuning(f"version-{version}", cniVersion=version, **LINK) for version in VERSIONS),
    tuning("after-ptp", after=PTP, **LINK),
    tuning("nothing"),
    tuning("null", mac=None, mtu=None, promisc=None, allmulti=None, sysctl=None),
    tuning("zero", mac="", mtu=0, promisc=False),
    *(tuning(key, **{key: value}) for key, value in LINK.items()),
    tuning("allmulti-off", allmulti=False, between="ip -n c1 link set eth0 allmulticast on"),
    tuning("promisc-there", promisc=True, between="ip -n c1 link set eth0 promisc on"),
    tuning("promisc-of-others", ["CHECK of values"], mtu=1400, between="ip -n c1 link set eth0 promisc on"),
    tuning("txqlen", ["txQLen"], txQLen=500),
    tuning("mac-dashes", ["CHECK of values", "MAC as the kernel writes it"], mac=MAC.replace(":", "-")),
    tuning("mac-args", environ={"CNI_ARGS": f"MAC={MAC}"}),
    tuning("mac-args-wins", mac="02:00:00:00:00:01", environ={"CNI_ARGS": f"MAC={MAC};IgnoreUnknown=1;A=b"}),
    tuning("mac-capability-wins", runtimeConfig={"mac": MAC}, environ={"CNI_ARGS": "MAC=02:00:00:00:00:01"}),
    tuning("mac-args-cni-wins", args={"cni": {"mac": MAC}}, runtimeConfig={"mac": "02:00:00:00:00:01"}),
    tuning("args-cni", args={"cni": {"mtu": 1300, "promisc": False, "allmulti": False}}, **LINK),
    tuning("args-cni-sysctl", ["sysctls are put back"], args={"cni": {"sysctl": {"net.ipv4.conf.eth0.arp_filter": "1"}}}, sysctl={"net.ipv4.conf.eth0.arp_filter": "0", "net.ipv4.conf.eth0.arp_accept": "1"}),
    tuning("args-cni-sysctl-alone", ["panic"], args={"cni": {"sysctl": CONF}}),
    tuning("sysctl", ["sysctls are put back"], sysctl=CONF),
    tuning("sysctl-slashes", ["sysctls are put back"], sysctl={"net/ipv4/conf/eth0/arp_filter": "1"}),
    tuning("sysctl-ifname", ["sysctls are put back", "CHECK of values"], sysctl={"net.ipv4.conf.IFNAME.arp_filter": "1"}),
    tuning("sysctl-spaces", ["CHECK of values"], sysctl={"net.ipv4.tcp_rmem": "4096 131072 6291456"}),
    tuning("sysctl-hexadecimal", ["CHECK of values"], sysctl={"net.ipv4.tcp_fin_timeout": "0x20"}),
    tuning("sysctl-all", ["sysctls are put back"], sysctl={"net.ipv4.ip_forward": "1"}),
    tuning("sysctl-of-a-dotted-name", ["dots of a name"], sysctl={"net/ipv4/conf/d.1/arp_filter": "1"}, between="ip -n c1 link add d.1 type veth peer name d.2"),
    tuning("sysctl-unknown", ["config code"], sysctl={"net.core.nonsense": "1"}),
    tuning("sysctl-refused", sysctl={"net.core.somaxconn": "x"}),
    tuning("sysctl-kernel", ["config code"], sysctl={"kernel.hostname": "x"}),
    tuning("sysctl-escape", ["config code"], sysctl={"net/../kernel/hostname": "x"}),
    tuning("sysctl-wrong-type", WRONG, sysctl={"net.core.somaxconn": 5}),
    tuning("wrong-mtu", WRONG, mtu="1400"),
    tuning("mtu-too-large", mtu=70000),
    tuning("bad-mac", ["config code"], mac="nonsense"),
    tuning("args-unknown", ["environment code", "DEL is total"], environ={"CNI_ARGS": "FOO=1"}, mtu=1400),
    tuning("no-previous", ["config code"], None, mtu=1400),
    tuning("no-interface", mtu=1400, between="ip -n c1 link set eth0 name eth9"),
    tuning("data-dir", dataDir="/run/cni/other/place", mtu=1400),
]

META = [*BANDWIDTH, *TUNING]
