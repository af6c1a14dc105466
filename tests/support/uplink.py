"""Networks whose containers have a link of their own: on top of the machine's uplink, which leads to a namespace "wire"."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.machine import Machine
from tests.support.network import host_local

V4 = "10.77.0.0/24"
WIRE = {4: "10.77.0.1", 6: "fd77::1"}
"""The addresses of the far end, the gateways of the containers' subnets."""
KERNEL = {"macvlan": ("macvlan",), "ipvlan": ("ipvlan",), "vlan": ("8021q",), "dummy": ("dummy",)}
"""Plugin -> what the kernel must have (tests/support/kernel.py)."""
STACKED = ("macvlan", "ipvlan", "vlan")


def needing(plugin: str, *values: Any, name: str = "") -> Any:
    """A test's parameters, beginning with the plugin, with the mark that it needs."""
    return pytest.param(plugin, *values, marks=pytest.mark.kernel(*KERNEL[plugin]), id=name or plugin)


def every(*plugins: str) -> Any:
    """Run a test with each of the plugins, its parameter `plugin`."""
    return pytest.mark.parametrize("plugin", [needing(plugin) for plugin in plugins or KERNEL])


def uplink(machine: Machine, name: str = "up0", **link: str) -> None:
    """An interface up, whose far end in the namespace "wire" has the gateways' addresses; `link`: mtu="1400"."""
    wire = machine.container("wire").rpartition("/")[2]
    words = [word for pair in link.items() for word in pair]
    machine.run("ip", "link", "add", name, *words, "up", "type", "veth", "peer", "name", "wire0", "netns", wire)
    script = "sysctl -qw net.ipv6.conf.wire0.accept_dad=0; ip link set wire0 up"
    machine.run("ip", "netns", "exec", wire, "sh", "-ec", script + _addresses("wire0"))
    ends = ["link", "show", name], ["-n", wire, "link", "show", "wire0"]
    assert machine.wait_until(lambda: all(machine.ip(*end)[0]["operstate"] == "UP" for end in ends))


def tagged(machine: Machine, number: int) -> None:
    """Give the far end that VLAN, too, with the gateways' addresses in place of its own."""
    script = f"""
    ip address flush dev wire0; ip link add vlan0 link wire0 type vlan id {number}
    sysctl -qw net.ipv6.conf.vlan0.accept_dad=0; ip link set vlan0 up"""
    machine.run("ip", "netns", "exec", "wire", "sh", "-ec", script + _addresses("vlan0"))


def _addresses(name: str) -> str:
    return f"; ip address add {WIRE[4]}/24 dev {name}; ip address add {WIRE[6]}/64 dev {name}"


def network(plugin: str, master: str = "up0", **options: Any) -> dict[str, Any]:
    """A configuration with addresses from host-local; `options` replace or add, None removes."""
    own: dict[str, Any] = {"cniVersion": "1.1.0", "name": "mynet", "type": plugin, "ipam": host_local(V4)}
    own |= {"master": master} if plugin in STACKED else {}
    own |= {"vlanId": 5} if plugin == "vlan" else {}
    return {key: value for key, value in {**own, **options}.items() if value is not None}
