"""The host's own settings while containers come: its routes by router advertisement, a read-only /proc/sys, its links' addresses."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.machine import GO, Machine
from tests.support.network import V4, V6, again, attach, bridge, host_local, layer2, ptp, state
from tests.support.packets import advertise_router

NETWORKS = pytest.mark.parametrize("network", [bridge, ptp])


def sysctl(machine: Machine, key: str) -> str:
    return machine.run("cat", f"/proc/sys/net/ipv6/conf/{key}").strip()


# --- router advertisements


def lan(machine: Machine, link: str, *more: str) -> None:
    """A namespace "router", whose advertisements the host's link believes; the host does not forward yet."""
    machine.container("router")
    machine.run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=0", "net.ipv6.conf.default.accept_ra=1")
    machine.run("ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", "router")
    machine.run("ip", "-n", "router", "link", "set", "eth0", "up")
    machine.run("ip", "link", "set", link, *more, "up")


def has_default(machine: Machine, link: str) -> bool:
    return any(route["protocol"] == "ra" for route in machine.ip("-6", "route", "show", "default", "dev", link))


def advertise(machine: Machine, link: str) -> bool:
    """Whether the host takes an advertisement of the router for its default route."""
    advertise_router(machine, "router")
    return machine.wait_until(lambda: has_default(machine, link), 1)


@NETWORKS
def test_default_route_by_advertisement_stays(machine: Machine, network: Any) -> None:
    """And is renewed; of a link without one the host takes no advertisements from then on, as before."""
    lan(machine, "up.5")
    machine.run("ip", "link", "add", "up1", "type", "veth", "peer", "name", "up1far")
    assert advertise(machine, "up.5")
    config = network()
    result = attach(machine, config)
    assert sysctl(machine, "all/forwarding") == "1" and has_default(machine, "up.5")
    assert [sysctl(machine, f"{link}/accept_ra") for link in ("up.5", "up1")] == ["2", "1"]
    machine.run("ip", "-6", "route", "flush", "default", "dev", "up.5")
    assert advertise(machine, "up.5")
    attach(machine, config, "c2")
    assert again(machine, "CHECK", config, result).status == 0
    assert again(machine, "DEL", config, result).status == 0
    assert has_default(machine, "up.5")


def test_link_whose_advertisements_a_daemon_handles(machine: Machine) -> None:
    """systemd-networkd sets accept_ra to 0, and makes the same routes."""
    lan(machine, "up0")
    machine.run("sysctl", "-qw", "net.ipv6.conf.up0.accept_ra=0")
    machine.run("ip", "-6", "route", "add", "default", "via", "fe80::1", "dev", "up0", "proto", "ra")
    attach(machine, ptp())
    assert sysctl(machine, "up0/accept_ra") == "0" and has_default(machine, "up0")


def test_without_ipv6_nothing_changes(machine: Machine) -> None:
    lan(machine, "up0")
    assert advertise(machine, "up0")
    attach(machine, bridge(ipam=host_local(V4)))
    assert sysctl(machine, "up0/accept_ra") == "1" and has_default(machine, "up0")


@pytest.mark.parametrize("make", [bridge, ptp])
def test_failed_add_takes_it_back(machine: Machine, make: Any) -> None:
    """It fails at a route that the container cannot have, after the host forwards or before."""
    lan(machine, "up0")
    assert advertise(machine, "up0")
    machine.container()
    before = state(machine)
    config = make(ipMasq=True, ipam=host_local(V6, routes=[{"dst": "::/0", "gw": "fd99::1"}]))
    assert machine.plugin(config["type"], "ADD", config).status == 1
    assert sysctl(machine, "up0/accept_ra") == "1" and has_default(machine, "up0")
    assert state(machine)["host"] == before["host"]


@pytest.mark.parametrize("options", [{}, {"isGateway": False}], ids=["gateway", "no gateway"])
def test_default_route_through_the_bridge_itself_stays(machine: Machine, options: dict[str, Any]) -> None:
    """An administrator's bridge to the LAN: the host has its address, and its routes, on the bridge."""
    machine.run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=0", "net.ipv6.conf.default.accept_ra=1")
    machine.run("ip", "link", "add", "cni0", "up", "type", "bridge")
    lan(machine, "up0", "master", "cni0")
    assert machine.wait_until(lambda: advertise(machine, "cni0"))
    config = bridge(**options)
    result = attach(machine, config)
    attach(machine, config, "c2")
    assert has_default(machine, "cni0")
    machine.run("ip", "-6", "route", "flush", "default", "dev", "cni0")
    assert advertise(machine, "cni0")
    assert again(machine, "CHECK", config, result).status == 0


# --- /proc/sys is read-only, as in many containers in which an engine runs


def read_only(machine: Machine, *settings: str) -> None:
    machine.run("sysctl", "-qw", *settings)
    machine.run("sh", "-ec", "mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys")


@NETWORKS
def test_read_only_sysctls_that_are_as_they_must_be(machine: Machine, network: Any) -> None:
    """Only what would be nicer is missing then."""
    read_only(machine, "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    config = network()
    netns = machine.container()
    outcome = machine.plugin(config["type"], "ADD", config, netns=netns)
    assert outcome.status == 0, outcome
    for address in ("10.77.0.2", "fd77::2"):
        assert machine.ping(address)
    for address in ("10.77.0.1", "fd77::1"):
        assert machine.ping(address, inside="c1")
    for command in ("CHECK", "DEL", "DEL"):
        done = again(machine, command, config, outcome.json)
        assert done.status == 0, done


@NETWORKS
def test_read_only_sysctl_that_must_be_written(machine: Machine, network: Any) -> None:
    """The error names it, and where it can be set; nothing is left."""
    read_only(machine, "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=0")
    machine.container()
    before = state(machine)
    config = network(ipam=host_local(V6))
    outcome = machine.plugin(config["type"], "ADD", config)
    assert outcome.status == 1
    said = outcome.json["msg"] + outcome.json.get("details", "")
    assert "net/ipv6/conf/all/forwarding" in said and "Read-only" in said and "mount it read-write" in said
    assert state(machine) == before


@NETWORKS
def test_forwarding_is_left_alone_when_it_is_on(machine: Machine, network: Any) -> None:
    """2 is on, too; so says the kernel, which does not normalize it."""
    read_only(machine, "net.ipv6.conf.all.forwarding=2")
    config = network(ipam=host_local(V6))
    netns = machine.container()
    outcome = machine.plugin(config["type"], "ADD", config, netns=netns)
    assert outcome.status == 0, outcome
    assert sysctl(machine, "all/forwarding") == "2"


@pytest.mark.kernel("tun")
def test_read_only_sysctls_and_a_link_of_its_own(machine: Machine) -> None:
    read_only(machine, "net.ipv4.ip_forward=0")
    machine.container()
    config = {"cniVersion": "1.1.0", "name": "mynet", "type": "tap", "ipam": host_local()}
    outcome = machine.plugin("tap", "ADD", config)
    assert outcome.status == 0, outcome
    assert again(machine, "CHECK", config, outcome.json).status == 0


# --- addresses of the host's links


def assign_type(machine: Machine, link: str) -> str:
    """How the kernel says that a link got its MAC address; 1: at random, which udev's MACAddressPolicy replaces."""
    script = f"mkdir -p /run/sys && mount -t sysfs sys /run/sys && cat /run/sys/class/net/{link}/addr_assign_type"
    return machine.run("unshare", "--mount", "sh", "-ec", script).strip()


@pytest.mark.parametrize(
    "config",
    [bridge(), layer2(), ptp(), pytest.param(bridge(vlan=7), marks=pytest.mark.kernel("bridge-vlan"))],
    ids=["bridge", "layer 2", "ptp", "vlan"],
)
def test_links_on_the_host_have_addresses_that_udev_leaves_alone(machine: Machine, config: Any) -> None:
    result = attach(machine, config)
    ours = [each["name"] for each in result["interfaces"] if "sandbox" not in each]
    assert len(ours) == {"ptp": 1}.get(config["type"], 2 + bool(config.get("vlan")))
    everything = [link["ifname"] for link in machine.ip("link") if link["ifname"] != "lo"]
    assert {link: assign_type(machine, link) for link in everything} == dict.fromkeys(everything, "3")
    macs = [link["address"] for link in machine.ip("link") if link["ifname"] != "lo"]
    assert len(set(macs)) == len(macs)


@pytest.mark.kernel("ifb", "ingress", "mirred", "u32", "tbf")
def test_ifb_has_an_address_that_udev_leaves_alone(machine: Machine) -> None:
    result = attach(machine, ptp())
    config = {"cniVersion": "1.1.0", "name": "mynet", "type": "bandwidth", "egressRate": 80000, "egressBurst": 80000}
    outcome = machine.plugin("bandwidth", "ADD", {**config, "prevResult": result})
    assert outcome.status == 0, outcome
    assert assign_type(machine, outcome.json["interfaces"][-1]["name"]) == "3"


# --- MTU


@NETWORKS
@pytest.mark.parametrize("mtu", [576, 1279])
def test_mtu_too_small_for_ipv6(machine: Machine, network: Any, mtu: int) -> None:
    """Seen before any change; IPv4 can do with it."""
    machine.container()
    before = state(machine)
    outcome = machine.plugin(network()["type"], "ADD", network(mtu=mtu))
    assert outcome.code == 7 and "MTU of at least 1280" in outcome.json["msg"] and str(mtu) in outcome.json["msg"]
    assert state(machine) == before
    assert machine.plugin(network()["type"], "ADD", network(mtu=mtu, ipam=host_local(V4))).status == 0


@NETWORKS
def test_smallest_mtu_for_ipv6(machine: Machine, network: Any) -> None:
    attach(machine, network(mtu=1280))
    assert machine.ping("fd77::1", inside="c1")


@pytest.mark.kernel("tun")
@pytest.mark.parametrize("by_exec", [False, True])
def test_mtu_of_a_tap_too_small_for_ipv6(machine: Machine, by_exec: bool) -> None:
    """Also when an IPAM plugin that is run by exec gives the address, after the tap was made."""
    machine.container()
    config = {"cniVersion": "1.0.0", "name": "mynet", "type": "tap", "mtu": 1000, "ipam": host_local(V6)}
    before = state(machine)
    outcome = machine.plugin("tap", "ADD", config, CNI_PATH=GO if by_exec else machine.farm)
    assert outcome.code == 7 and "MTU of at least 1280, and eth0 has 1000" in outcome.json["msg"]
    assert state(machine) == before


def test_mtu_of_a_device_too_small_for_ipv6(machine: Machine) -> None:
    """The device keeps its own, which the message names."""
    machine.run("ip", "link", "add", "up0", "mtu", "1100", "type", "veth", "peer", "name", "up1")
    machine.container()
    config = {"cniVersion": "1.1.0", "name": "mynet", "type": "host-device", "device": "up0", "ipam": host_local(V6)}
    before = state(machine)
    outcome = machine.plugin("host-device", "ADD", config)
    assert outcome.status == 1 and "MTU of at least 1280, and eth0 has 1100" in outcome.json["msg"]
    assert state(machine) == before
