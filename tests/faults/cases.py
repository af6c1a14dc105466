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


@dataclass
class Case:
    """`config` is added beside a standing attachment `beside` (by default of the same network).

    `address`: what of the standing attachment is pinged from the host. `replaces`: whether the bridge loses the address that
    `beside` needs. `path`: before the farm on CNI_PATH.
    """

    name: str
    config: dict[str, Any]
    address: str = "10.1.2.2"
    beside: dict[str, Any] = field(default_factory=dict)
    replaces: bool = False
    path: str = ""

    def __post_init__(self) -> None:
        self.plugin: str = self.config["type"]
        self.beside = self.beside or self.config


GATEWAY = {"isGateway": True, "isDefaultGateway": True}
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
    Case("bridge-go-ipam", network("bridge", ipMasq=True, isGateway=True) | {"cniVersion": "1.0.0"}, path=GO),
    Case("ptp-iptables", network("ptp", [V4, V6], ipMasq=True)),
    Case("ptp-nftables", network("ptp", [V4, V6], ipMasq=True, ipMasqBackend="nftables")),
    Case("loopback", {"cniVersion": "1.1.0", "name": "net", "type": "loopback"}, address=""),
    Case("host-local", network("host-local", [V4, V6, [{"subnet": "10.1.3.0/28"}]]), address=""),
    Case("static", {"cniVersion": "1.1.0", "name": "net", "type": "static", "ipam": OTHER}, address=""),
]  # fmt: skip
