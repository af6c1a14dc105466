"""bridge's VLANs. Debian's release knows `vlan` alone; `vlanTrunk` and the others are newer."""

# A table: one request a line.
# fmt: off

from __future__ import annotations

from typing import Any

from tests.differential.sides import Case

NAMED = ["left VLAN 1"]
IN_VLAN = [*NAMED, "advertisements in a VLAN"]


def vlan(name: str, differs: Any = (), setup: str = "", number: int = 5, subnet: str = "10.1.0.0/24", l2: bool = False, **config: Any) -> Case:
    ipam = {} if l2 else {"ipam": {"type": "host-local", "subnet": subnet}}
    given = {"cniVersion": "1.0.0", "name": "net", "type": "bridge", "vlan": number, **ipam, **config}
    return Case(f"bridge-vlan-{name}", "bridge", given, setup=setup, differs=tuple(differs), kernel=("bridge-vlan",))


FILTERING = "ip link add cni0 address 02:00:00:00:00:01 type bridge vlan_filtering 1; ip link set cni0 up"

BRIDGE_VLANS = [
    vlan("l2", [*NAMED, "CHECK without ipam"], l2=True),
    vlan("plain", NAMED, number=4094),
    vlan("gateway", IN_VLAN, isGateway=True),
    vlan("gateway-v6", IN_VLAN, isGateway=True, subnet="fd01::/64", mtu=1400),
    vlan("default-gateway", IN_VLAN, isDefaultGateway=True),
    vlan("exists", IN_VLAN, setup=FILTERING, isGateway=True),
    vlan("exists-unfiltered", [*NAMED, "begins to filter"], setup=FILTERING.replace("vlan_filtering 1", "vlan_filtering 0")),
    vlan("other-address", setup=f"{FILTERING}; ip link add cni0.5 up type veth peer name p0; ip link set p0 up master cni0; ip address add 10.5.0.1/24 dev cni0.5", isGateway=True),
]
