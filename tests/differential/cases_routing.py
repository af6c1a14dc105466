"""sbr and vrf, after a bridge plugin."""

# A table: one request a line.
# fmt: off

from __future__ import annotations

from typing import Any

from tests.differential.sides import Case

SUBNET4, SUBNET6 = {"subnet": "10.1.0.0/24"}, {"subnet": "fd01::/64"}
DEFAULT4, DEFAULT6 = {"dst": "0.0.0.0/0"}, {"dst": "::/0"}
V4 = {"type": "host-local", **SUBNET4, "routes": [DEFAULT4]}
V6 = {"type": "host-local", **SUBNET6, "routes": [DEFAULT6]}
DUAL = {"type": "host-local", "ranges": [[SUBNET4], [SUBNET6]], "routes": [DEFAULT4, DEFAULT6]}
BY_DEVICE = {"dst": "10.9.0.0/16"}
FAR = {"dst": "10.9.0.0/16", "gw": "10.1.0.9"}
IN_C1 = "ip -n c1"
FIRST_VRF = f"{IN_C1} link add t0 type vrf table 99; {IN_C1} link delete t0"
"""A namespace's first VRF leaves rules in it."""


def static(*addresses: str, **more: Any) -> dict[str, Any]:
    listed = [dict(zip(("address", "gateway"), each.split(), strict=False)) for each in addresses]
    return {"type": "static", "addresses": listed, **more}


def chained(name: str, plugin: str, ipam: Any, differs: Any = (), between: str = "", *, kernel: Any = (), **config: Any) -> Case:
    given = {"cniVersion": "1.0.0", "name": "net", "type": plugin, **config}
    before = ({"type": "bridge", "isGateway": True, "ipam": ipam},)
    return Case(f"{plugin}-{name}", plugin, given, differs=tuple(differs), chain=before, between=between, kernel=kernel)


def sbr(name: str, ipam: Any, differs: Any = (), between: str = "", **config: Any) -> Case:
    return chained(name, "sbr", ipam, ("DEL brings back", *differs), between, **config)


def vrf(name: str, ipam: Any, differs: Any = (), between: str = FIRST_VRF, **config: Any) -> Case:
    config = {"vrfname": "red", **config}
    return chained(name, "vrf", ipam, differs, between, kernel=("vrf",), **config)


VERSIONS = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0")
OTHER = "routes of the other IP version"
MOVED = ["routes of a VRF", "DEL brings back"]

ROUTING = [
    *(sbr(f"version-{version}", V4, [OTHER], cniVersion=version) for version in VERSIONS),
    sbr("v4", V4, [OTHER]),
    sbr("v6", V6),
    sbr("dual", DUAL, [OTHER]),
    sbr("routes", {**V4, "routes": [DEFAULT4, FAR, {"dst": "10.8.0.0/16"}]}, [OTHER]),
    sbr("default-of-the-network", {**V4, "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.7"}]}, [OTHER]),
    sbr("without-default", {**V4, "routes": []}, [OTHER]),
    sbr("by-device", static("10.1.0.2/24", routes=[BY_DEVICE]), [OTHER]),
    sbr("two-addresses", static("10.1.0.2/24 10.1.0.1", "10.1.0.3/24 10.1.0.1"), [OTHER]),
    sbr("two-subnets", static("10.1.0.2/24 10.1.0.1", "fd01::2/64 fd01::1", "fd02::2/64 fd02::1"), [OTHER]),
    sbr("used-tables", V4, [OTHER], f"{IN_C1} rule add from 192.0.2.9 table 100; {IN_C1} rule add from 192.0.2.8 table 101"),
    sbr("used-by-a-route", V4, ["used table"], f"{IN_C1} link set lo up; {IN_C1} route add 192.0.2.0/24 dev lo table 100"),
    sbr("route-outside", V4, ["lost route", OTHER], f"{IN_C1} route add 10.8.0.0/16 via 192.0.2.1 dev eth0 onlink"),
    sbr("two-routes", {**V4, "routes": [{"dst": "10.9.0.0/16", "gw": f"10.1.0.{n}"} for n in (8, 9)]}, ["lost route", OTHER]),
    chained("unreachable-gateway", "sbr", static("10.1.0.2/24 10.2.0.1")),
    Case("sbr-alone", "sbr", {"cniVersion": "1.0.0", "name": "net", "type": "sbr"}, differs=("config code", "DEL is total")),
    chained("no-addresses", "sbr", {}),
    vrf("v4", V4, MOVED),
    vrf("dual", DUAL, MOVED),
    vrf("table", V4, MOVED, table=1000),
    vrf("existing", V4, [*MOVED, "administrator's VRF"], f"{FIRST_VRF}; {IN_C1} link add red up type vrf table 7"),
    vrf("other-table", V4, [], f"{FIRST_VRF}; {IN_C1} link add red type vrf table 7", table=8),
    vrf("no-name", V4, ["config code", "DEL is total"], vrfname=""),
]
