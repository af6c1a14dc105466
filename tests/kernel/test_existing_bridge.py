"""bridge on a bridge that an administrator has made: its MAC address, its spanning tree and its routes stay as they are."""

from __future__ import annotations

import time
from typing import Any

import pytest

from cnibox.host.links import READY_LIMIT
from tests.support.machine import Machine, links
from tests.support.network import again, attach, bridge, host_local, layer2, state

in_vlan = pytest.mark.kernel("bridge-vlan")
LOWER = "02:00:00:00:00:01"
"""A MAC address that is lower than nearly all others: a bridge takes the lowest of its ports'."""

NETWORKS = {
    "gateway": bridge(),
    "default gateway": bridge(isDefaultGateway=True, mtu=1400),
    "no gateway": bridge(isGateway=False),
    "no addresses": layer2(),
    "interface down": layer2(disableContainerInterface=True),
    "vlan": bridge(vlan=7),
    "vlan without addresses": layer2(vlan=7),
}
EACH_NETWORK = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=in_vlan if "vlan" in name else ()) for name in NETWORKS]
)


def mac(machine: Machine, name: str = "cni0") -> str:
    return str(machine.ip("link", "show", name)[0]["address"])


def bridge_id(machine: Machine) -> str:
    """The address in its ID for the spanning tree, written as the link's."""
    shown = machine.ip("-d", "link", "show", "cni0")[0]["linkinfo"]["info_data"]["bridge_id"]
    return ":".join(f"{int(octet, 16):02x}" for octet in shown.partition(".")[2].split(":"))


def create(machine: Machine, *words: str) -> None:
    machine.run("ip", "link", "add", "cni0", "type", "bridge", *words)
    machine.run("ip", "link", "set", "cni0", "up")


def plug(machine: Machine, name: str, address: str) -> None:
    """Another port of the bridge, up and with a carrier."""
    machine.run("ip", "link", "add", name, "address", address, "up", "type", "veth", "peer", "name", f"{name}far")
    machine.run("ip", "link", "set", f"{name}far", "up")
    machine.run("ip", "link", "set", name, "master", "cni0")


# --- the MAC address

BRIDGES = ("down", "up", "with a port", "with the gateway's address", "left by its ports")


def existing(machine: Machine, how: str) -> None:
    machine.run("ip", "link", "add", "cni0", "type", "bridge")
    if how != "down":
        machine.run("ip", "link", "set", "cni0", "up")
    if how in ("with a port", "left by its ports"):
        plug(machine, "up0", "fa:00:00:00:00:99")
    if how == "with the gateway's address":
        machine.run("ip", "address", "add", "10.77.0.1/24", "dev", "cni0")
        machine.run("ip", "address", "add", "fd77::1/64", "dev", "cni0", "nodad")
    if how == "left by its ports":
        machine.run("ip", "link", "delete", "up0")


def others_come_and_go(machine: Machine, config: dict[str, Any]) -> None:
    plug(machine, "other", LOWER)
    result = attach(machine, config, "c2")
    machine.run("ip", "link", "delete", "other")
    for name in {"up0"} & set(links(machine)):
        machine.run("ip", "link", "delete", name)
    assert again(machine, "DEL", config, result, "c2").status == 0


@EACH_NETWORK
@pytest.mark.parametrize("how", BRIDGES)
def test_mac_address_stays(machine: Machine, how: str, name: str) -> None:
    """Whatever ports come and go, before and after the last of them."""
    existing(machine, how)
    before, config = mac(machine), NETWORKS[name]
    result = attach(machine, config)
    known = mac(machine)
    assert known == result["interfaces"][0]["mac"] == bridge_id(machine)
    assert known == before or (how == "left by its ports" and before == "00:00:00:00:00:00" != known)
    others_come_and_go(machine, config)
    assert mac(machine) == known
    check = again(machine, "CHECK", config, result)
    assert check.status == 0, check
    assert again(machine, "DEL", config, result).status == 0
    assert mac(machine) == known == bridge_id(machine)


@pytest.mark.parametrize("how", BRIDGES[:3])
def test_mac_address_stays_after_a_failed_add(machine: Machine, how: str) -> None:
    """The ADD fails after its port has joined: the bridge has another address in the gateway's network."""
    existing(machine, how)
    machine.run("ip", "address", "add", "10.77.0.200/24", "dev", "cni0")
    machine.container()
    before = mac(machine)
    untouched = state(machine)
    outcome = machine.plugin("bridge", "ADD", bridge())
    assert outcome.status == 1 and "10.77.0.200" in outcome.json["msg"]
    assert mac(machine) == before
    assert state(machine)["files"] == untouched["files"]


def test_neighbours_stay(machine: Machine) -> None:
    """The kernel forgets a link's neighbours when it is given an address, even its own: only the first ADD does that."""
    existing(machine, "up")
    attach(machine, bridge())
    machine.run("ip", "neigh", "add", "10.77.0.99", "lladdr", LOWER, "dev", "cni0", "nud", "permanent")
    assert machine.ping("10.77.0.2")
    attach(machine, bridge(), "c2")
    assert [each["lladdr"] for each in machine.ip("neigh", "show", "10.77.0.99")] == [LOWER]


@pytest.mark.kernel("tun")
def test_bridge_in_the_container_keeps_its_mac_address(machine: Machine) -> None:
    machine.container()
    machine.run("ip", "-n", "c1", "link", "add", "br9", "type", "bridge")
    before = machine.ip("-n", "c1", "link", "show", "br9")[0]["address"]
    config = {"cniVersion": "1.1.0", "name": "mynet", "type": "tap", "bridge": "br9", "mac": LOWER}
    outcome = machine.plugin("tap", "ADD", config)
    assert outcome.status == 0, outcome
    assert machine.ip("-n", "c1", "link", "show", "br9")[0]["address"] == before


# --- the spanning tree


@EACH_NETWORK
@pytest.mark.parametrize("later", [False, True], ids=["stp", "stp-later"])
def test_stp_is_not_waited_for(machine: Machine, name: str, later: bool) -> None:
    """Neither by the first container nor by the next; CHECK has nothing against it."""
    config, results = NETWORKS[name], {}
    create(machine, "stp_state", "0" if later else "1", "forward_delay", "3000")
    if later:
        results["c1"] = attach(machine, config)
        machine.run("ip", "link", "set", "cni0", "type", "bridge", "stp_state", "1")
    for container in ("c2", "c3"):
        started = time.monotonic()
        results[container] = attach(machine, config, container)
        assert time.monotonic() - started < READY_LIMIT
        port = machine.ip("-d", "link", "show", results[container]["interfaces"][1]["name"])[0]
        assert port["linkinfo"]["info_slave_data"]["state"] in ("listening", "disabled")
    for container, result in results.items():
        outcome = again(machine, "CHECK", config, result, container)
        assert outcome.status == 0, outcome


@pytest.mark.parametrize("options", [{}, {"isGateway": False}], ids=["gateway", "no gateway"])
def test_stp_and_duplicate_address_detection(machine: Machine, options: dict[str, Any]) -> None:
    """No probe passes the bridge before it forwards: there is nothing to wait for."""
    create(machine, "stp_state", "1")
    attach(machine, bridge(enabledad=True, **options))
    assert "fd77::2" in machine.run("ip", "-n", "c1", "-6", "address", "show", "dev", "eth0", "tentative")


def test_packets_pass_when_the_bridge_forwards(machine: Machine) -> None:
    create(machine, "stp_state", "1", "forward_delay", "200")
    attach(machine, bridge(), "c1")
    attach(machine, bridge(), "c2")
    for address in ("10.77.0.1", "10.77.0.3", "fd77::1", "fd77::3"):
        assert machine.wait_until(lambda address=address: machine.ping(address, inside="c1"), 20)  # type: ignore[misc]


# --- what cannot be


def test_bridge_too_small_for_ipv6(machine: Machine) -> None:
    machine.run("ip", "link", "add", "cni0", "type", "bridge")
    machine.run("ip", "link", "set", "cni0", "mtu", "1000")
    machine.container()
    outcome = machine.plugin("bridge", "ADD", bridge(ipam=host_local("fd77::/64")))
    assert outcome.status == 1
    assert "1280" in outcome.json["msg"] and "cni0" in outcome.json["msg"] and "1000" in outcome.json["msg"]
