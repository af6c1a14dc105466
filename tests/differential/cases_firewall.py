"""The requests to firewall, after an interface plugin of the same side."""

# A table: one request a line.
# fmt: off

from __future__ import annotations

from typing import Any

from tests.differential.sides import Case

VERSIONS = ("0.4.0", "1.0.0")
V4 = {"type": "host-local", "subnet": "10.1.0.0/24"}
V6 = {"type": "host-local", "subnet": "fd01::/64"}
DUAL = {"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd01::/64"}]]}
TWO = {"type": "static", "addresses": [{"address": "10.1.0.2/24"}, {"address": "10.2.0.2/24"}, {"address": "fd01::2/64"}]}
BRIDGE, PTP = {"type": "bridge", "ipam": DUAL}, {"type": "ptp", "ipam": DUAL}
COMMENT = '-m comment --comment "CNI firewall plugin'
THERE = f"""
iptables -N CNI-FORWARD; iptables -N CNI-ADMIN; iptables -A CNI-ADMIN -d 10.9.9.9 -j DROP; iptables -A FORWARD -d 10.9.9.8 -j DROP
iptables -A FORWARD {COMMENT} rules" -j CNI-FORWARD; iptables -A CNI-FORWARD -s 10.9.9.7 -j ACCEPT
"""
"""Something of the reference's, and of an administrator's, in places where it is not put."""
POLICY = ["names of policies", "policy ends"]


def firewall(name: str, differs: Any = (), after: Any = BRIDGE, between: str = "", **config: Any) -> Case:
    given = {"cniVersion": "1.0.0", "name": "net", "type": "firewall", **config}
    return Case(f"firewall-{name}", "firewall", given, differs=tuple(differs), chain=() if after is None else (after,), between=between)


FIREWALL = [
    *(firewall(f"version-{version}", cniVersion=version) for version in VERSIONS),
    firewall("v4", after={"type": "bridge", "ipam": V4}),
    firewall("v6", after={"type": "bridge", "ipam": V6}),
    firewall("two-addresses", after={"type": "bridge", "ipam": TWO}),
    firewall("after-ptp", after=PTP),
    firewall("without-addresses", after={"type": "bridge"}),
    firewall("iptables", backend="iptables"),
    firewall("empty-strings", backend="", iptablesAdminChainName="", firewalldZone="", ingressPolicy=""),
    firewall("admin-chain", iptablesAdminChainName="MINE"),
    firewall("zone", firewalldZone="work"),
    firewall("open", ingressPolicy="open"),
    firewall("chains-there", between=THERE),
    firewall("jumps-gone", between=f"{THERE}iptables -F FORWARD"),
    *(firewall(f"same-bridge-{name}", POLICY, {"type": "bridge", "ipam": ipam}, ingressPolicy="same-bridge") for name, ipam in (("v4", V4), ("dual", DUAL))),
    firewall("same-bridge-chains-there", POLICY, between=THERE, ingressPolicy="same-bridge"),
    firewall("same-bridge-without-addresses", after={"type": "bridge"}, ingressPolicy="same-bridge"),
    firewall("isolated", ["isolated"], ingressPolicy="isolated"),
    firewall("unknown-policy", ["config code", "DEL is total"], ingressPolicy="closed"),
    firewall("unknown-backend", ["unknown backend"], backend="pf"),
    firewall("wrong-type", ["config code", "DEL is total"], backend=5),
    firewall("admin-chain-with-a-space", ["config code"], iptablesAdminChainName="A B"),
    firewall("no-previous", ["config code"], None),
    firewall("address-twice", ["rules of each attachment"], between="iptables -N CNI-FORWARD; iptables -A CNI-FORWARD -s 10.1.0.2/32 -j ACCEPT"),
]
