"""The requests to macvlan, ipvlan and vlan, whose links are on top of the machine's up0. Debian lacks dummy."""

# A table: one request a line.
# fmt: off

from __future__ import annotations

from typing import Any

from tests.differential.sides import Case

UP = "ip link add up0 up type veth peer name up1; ip link set up1 up; "
DEFAULT_ROUTE = f"{UP}ip address add 192.0.2.1/24 dev up0; ip route add default via 192.0.2.2; "
IN_CONTAINER = "ip -n c1 link add up0 up type veth peer name up1; ip -n c1 link set up1 up; "
TAKEN = f"{UP}ip -n c1 link add eth0 type veth; "
SUBNET4, SUBNET6 = {"subnet": "10.1.0.0/24"}, {"subnet": "fd01::/64"}
DEFAULTS = [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
V4 = {"type": "host-local", **SUBNET4, "routes": DEFAULTS[:1]}
DUAL = {"type": "host-local", "ranges": [[SUBNET4], [SUBNET6]], "routes": DEFAULTS}
DNS = {"nameservers": ["10.1.0.9"], "domain": "example.org"}
STATIC_DNS = {"type": "static", "addresses": [{"address": "10.1.0.2/24"}], "dns": DNS}
MAC, OTHER_MAC = "c2:11:22:33:44:55", "c2:11:22:33:44:66"
NEEDS = {"macvlan": "macvlan", "ipvlan": "ipvlan", "vlan": "8021q"}
OWN: dict[str, dict[str, Any]] = {"macvlan": {"master": "up0"}, "ipvlan": {"master": "up0"}, "vlan": {"master": "up0", "vlanId": 5}}
TOLD = {"macvlan": ["ndisc_notify"], "ipvlan": ["ndisc_notify"], "vlan": ["ndisc_notify", "arp_notify"]}


def link(plugin: str, name: str, ipam: Any = V4, differs: Any = (), setup: str = UP, environ: Any = None, told: bool = True, **config: Any) -> Case:
    """`told`: the neighbours are, of addresses; not if the ADD fails. An option None is left out."""
    given = {"cniVersion": "1.0.0", "name": "net", "type": plugin, **OWN[plugin], "ipam": ipam, **config}
    given = {key: value for key, value in given.items() if value is not None}
    named = (*differs, *(TOLD[plugin] if told else []))
    return Case(f"{plugin}-{name}", plugin, given, environ or {}, setup, named, kernel=(NEEDS[plugin],))


def of_each(plugin: str) -> list[Case]:
    """What all three have in common; few: two of them run in user-mode Linux."""
    return [
        link(plugin, "dual", DUAL),
        link(plugin, "options", mtu=1400, dns=DNS),
        link(plugin, "interface-exists", setup=TAKEN, told=False),
        link(plugin, "master-missing", differs=[] if plugin == "ipvlan" else ["DEL is total"], setup="", told=False),
        # 1.1.1 has no linkInContainer: it takes the host's up0, which is not there.
        link(plugin, "in-container", differs=["linkInContainer"], setup=IN_CONTAINER, linkInContainer=True),
    ]


LINKS = [
    *of_each("macvlan"),
    link("macvlan", "version-0.2.0", cniVersion="0.2.0"),
    link("macvlan", "version-0.4.0", DUAL, cniVersion="0.4.0"),
    link("macvlan", "dns", STATIC_DNS, dns={"domain": "other.example.org"}),
    link("macvlan", "dns-of-ipam", STATIC_DNS, ["IPAM's dns"]),
    link("macvlan", "routes", {**V4, "routes": [{"dst": "10.9.0.0/16", "gw": "10.1.0.9"}, {"dst": "10.10.0.0/16"}]}, ["CHECK of routes"]),
    link("macvlan", "same-name-as-master", setup=UP.replace("up0", "eth0"), master="eth0"),
    link("macvlan", "ipam-unknown", {"type": "no-such"}, told=False),
    link("macvlan", "wrong-mtu", differs=["config code", "DEL is total"], mtu="big", told=False),
    link("macvlan", "no-netns", differs=["netns code"], environ={"netns": "/run/netns/none"}, told=False),
    *(link("macvlan", f"mode-{mode}", mode=mode) for mode in ("bridge", "private", "vepa", "passthru")),
    link("macvlan", "default-route", setup=DEFAULT_ROUTE, master=None),
    link("macvlan", "no-default-route", differs=["DEL is total"], master=None, told=False),
    link("macvlan", "l2", None, told=False),
    link("macvlan", "mtu-too-large", differs=["config code", "DEL is total"], mtu=1600, told=False),
    link("macvlan", "mode-wrong", differs=["config code"], mode="no-such", told=False),
    link("macvlan", "mac", mac=MAC.upper()),
    link("macvlan", "mac-args", mac=OTHER_MAC, environ={"CNI_ARGS": f"MAC={MAC};IgnoreUnknown=1"}),
    link("macvlan", "mac-capability", mac=OTHER_MAC, runtimeConfig={"mac": MAC}),
    link("macvlan", "mac-passthru", differs=["mac in passthru mode"], mode="passthru", mac=MAC),
    link("macvlan", "mac-wrong", differs=["config code"], mac="nonsense", told=False),
    *of_each("ipvlan"),
    *(link("ipvlan", f"mode-{mode}", mode=mode) for mode in ("l3", "l3s")),
    link("ipvlan", "default-route", setup=DEFAULT_ROUTE, master=None, differs=["CHECK of a default master"]),
    link("ipvlan", "l2-without-addresses", None, ["config code"], told=False),
    link("ipvlan", "mtu-too-large", differs=["MTU of the master"], mtu=1600, told=False),
    *of_each("vlan"),
    link("vlan", "id-0", vlanId=0),
    link("vlan", "id-4095", differs=["config code", "DEL is total"], vlanId=4095, told=False),
    link("vlan", "no-master", differs=["config code", "DEL is total"], master=None, told=False),
    link("vlan", "no-ipam", None, ["vlan without IPAM"]),
    link("vlan", "taken", setup=f"{UP}ip link add v5 link up0 type vlan id 5", told=False),
    link("vlan", "master-down", setup=f"{UP}ip link set up0 down", told=False),
]
