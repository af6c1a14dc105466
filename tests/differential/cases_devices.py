"""host-device. Debian's release lacks tap, which is compared with the facts known of it (tests/kernel/test_tap.py)."""

# A table: one request a line.
# fmt: off

from __future__ import annotations

from typing import Any

from tests.differential.sides import Case

MAC, OTHER_MAC = "c2:00:00:00:00:0a", "c2:00:00:00:00:0b"
DEVICE = f"ip link add a0 address {MAC} type ifb; ip link add b0 address {OTHER_MAC} type ifb"
"""With a carrier that is always there: the kernel tells others' with a delay."""
V4: dict[str, Any] = {"type": "host-local", "subnet": "10.1.0.0/24", "routes": [{"dst": "0.0.0.0/0"}]}
V6: dict[str, Any] = {"type": "host-local", "subnet": "fd01::/64", "routes": [{"dst": "::/0"}]}
DUAL: dict[str, Any] = {"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd01::/64"}]]}
LENT = ["alias of a device given back", "DEL is total"]
ANNOUNCED = [*LENT, "address of a device is announced"]


def device(name: str, ipam: Any = None, differs: Any = ANNOUNCED, setup: str = "", environ: Any = None, **config: Any) -> Case:
    given = {"device": "a0", **config, **({"ipam": ipam} if ipam is not None else {})}
    given = {"cniVersion": "1.0.0", "name": "net", "type": "host-device", **given}
    text = f"{MAC} {OTHER_MAC}"  # which are not random
    return Case(f"host-device-{name}", "host-device", given, environ=environ or {}, setup=f"{DEVICE}; {setup or ':'}; : {text}", differs=tuple(differs), kernel=("ifb",))


DEVICES = [
    *(device(f"version-{version}", V4, cniVersion=version) for version in ("0.1.0", "0.2.0", "0.3.1", "0.4.0")),
    device("l2", differs=LENT),
    device("l2-empty-type", {"type": ""}, LENT),
    device("v4", V4),
    device("v6", V6),
    device("dual", DUAL),
    device("up", V4, [*ANNOUNCED, "given back as it was"], setup="ip link set a0 up"),
    device("mtu", V4, setup="ip link set a0 mtu 1400"),
    device("addresses-on-the-host", V4, [*ANNOUNCED, "given back as it was"], setup="ip address add 192.0.2.1/24 dev a0; ip link set a0 up"),
    device("bridge-port", V4, setup="ip link add br0 type bridge; ip link set a0 master br0"),
    device("hwaddr", V4, device="", hwaddr=MAC.upper()),
    device("hwaddr-of-two", V4, device="", hwaddr=MAC, setup=f"ip link add z0 address {MAC} type ifb"),
    device("device-before-hwaddr", V4, hwaddr=OTHER_MAC),
    device("route-filled-in", {**V4, "routes": [{"dst": "10.9.0.0/16"}]}, [*ANNOUNCED, "CHECK of routes"]),
    device("dns", V4, dns={"nameservers": ["10.1.0.9"]}),
    device("same-name", V4, device="eth0", setup="ip link set a0 name eth0"),
    device("host-has-an-eth0", V4, setup="ip link add eth0 type bridge"),
    device("alias-before", V4, setup="ip link set a0 alias mine"),
    device("ipv6-disabled", V6, setup="ip netns exec c1 sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1"),
    device("dpdk-mode-is-no-option", V4, DPDKMode=False),
    # --- errors
    device("nothing", V4, ["config code", "DEL is total"], device=None),
    device("missing", V4, ["DEL is total"], device="nosuch"),
    device("hwaddr-missing", V4, ["DEL is total"], device="", hwaddr="c2:00:00:00:00:77"),
    device("hwaddr-wrong", V4, ["config code", "DEL is total"], device="", hwaddr="nonsense"),
    device("kernelpath-outside", V4, ["config code", "DEL is total"], device="", kernelpath="/etc"),
    device("kernelpath-missing", V4, ["DEL is total"], device="", kernelpath="/sys/devices/nosuch"),
    device("pci-missing", V4, ["DEL is total"], device="", pciBusID="0000:99:00.0"),
    device("device-id-missing", V4, ["DEL is total"], device="", runtimeConfig={"deviceID": "0000:99:00.0"}),
    device("wrong-type", V4, ["config code", "DEL is total"], device=5),
    device("interface-exists", V4, ["DEL is total"], setup="ip -n c1 link add eth0 type bridge"),
    device("not-movable", V4, ["DEL is total"], device="lo"),
    device("no-netns", V4, ["netns code", "DEL is total"], environ={"netns": "/run/netns/none"}),
    device("ipam-unknown", {"type": "no-such"}, []),
]
