"""macvlan with real packets, and what only it has."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.machine import Machine, links
from tests.support.network import again, attach, host_local, state
from tests.support.uplink import network, uplink

pytestmark = pytest.mark.kernel("macvlan")
MAC = "c2:11:22:33:44:55"


@pytest.mark.parametrize("mode, reached", [("bridge", True), ("private", False), ("vepa", False)])
def test_containers_reach_each_other(machine: Machine, mode: str, reached: bool) -> None:
    """In bridge mode; all reach the wire, and neither the switch there sends their packets back."""
    uplink(machine)
    config = network("macvlan", mode=mode, ipam=host_local())
    for name in ("c1", "c2"):
        attach(machine, config, name)
    for address in ("10.77.0.2", "fd77::2"):
        assert machine.ping(address, inside="c2") is reached
    for address in ("10.77.0.1", "fd77::1"):
        assert machine.ping(address, inside="c2")


def test_neighbours_are_told_of_a_new_owner(machine: Machine) -> None:
    """An address that another container had a moment ago: the wire's neighbour entry is wrong until somebody says so."""
    uplink(machine)
    config = network("macvlan", ipam={"type": "static", "addresses": [{"address": "10.77.0.9/24"}]})
    result = attach(machine, config)
    assert machine.ping("10.77.0.9", inside="wire")
    assert again(machine, "DEL", config, result).status == 0
    attach(machine, config, "c2")
    assert machine.ping("10.77.0.9", inside="wire")


def test_without_ipam(machine: Machine) -> None:
    uplink(machine)
    config = network("macvlan", ipam=None)
    result = attach(machine, config)
    assert "ips" not in result
    assert "UP" in machine.ip("-n", "c1", "link", "show", "eth0")[0]["flags"]
    assert again(machine, "CHECK", config, result).status == 0
    assert again(machine, "DEL", config, result).status == 0
    assert links(machine, "c1") == ["lo"]


@pytest.mark.parametrize(
    "given, expected",
    [
        ({"mac": MAC.upper()}, MAC),
        ({"mac": "02:00:00:00:00:01", "CNI_ARGS": f"MAC={MAC};IgnoreUnknown=1"}, MAC),
        ({"CNI_ARGS": "MAC=02:00:00:00:00:01", "runtimeConfig": {"mac": MAC}}, MAC),
        ({"mac": "02:00:00:00:00:01", "runtimeConfig": {"mac": MAC}, "mode": "private"}, MAC),
        ({"mac": MAC, "mode": "passthru"}, MAC),
    ],
)
def test_mac(machine: Machine, given: dict[str, Any], expected: str) -> None:
    """Of these three places the last one counts; the configuration, CNI_ARGS, the capability."""
    uplink(machine)
    before = state(machine)
    options = {key: value for key, value in given.items() if not key.isupper()}
    environ = {key: value for key, value in given.items() if key.isupper()}
    config = network("macvlan", **options)
    result = attach(machine, config, **environ)
    assert result["interfaces"][0]["mac"] == machine.ip("-n", "c1", "link", "show", "eth0")[0]["address"] == expected
    assert again(machine, "CHECK", config, result, **environ).status == 0
    assert again(machine, "DEL", config, result, **environ).status == 0
    machine.run("ip", "netns", "delete", "c1")
    assert state(machine) == before  # with the parent's own address, which it has lent in passthru mode


@pytest.mark.parametrize("mac", ["nonsense", "01:00:5e:00:00:01"])
def test_wrong_mac(machine: Machine, mac: str) -> None:
    uplink(machine)
    machine.container()
    before = state(machine)
    outcome = machine.plugin("macvlan", "ADD", network("macvlan", mac=mac))
    assert outcome.code == (7 if mac == "nonsense" else 999) and mac in outcome.json["msg"], outcome
    assert state(machine) == before


def test_broadcast_queue(machine: Machine) -> None:
    uplink(machine)
    attach(machine, network("macvlan", bcqueuelen=5000))
    assert machine.ip("-d", "-n", "c1", "link", "show", "eth0")[0]["linkinfo"]["info_data"]["bcqueuelen"] == 5000


def test_only_one_passes_through(machine: Machine) -> None:
    uplink(machine)
    attach(machine, network("macvlan", mode="passthru"))
    machine.container("c2")
    before = state(machine)
    outcome = machine.plugin("macvlan", "ADD", network("macvlan"), container_id="c2", netns="/run/netns/c2")
    assert outcome.status == 1 and "ip link add eth0 netns /run/netns/c2 link up0 type macvlan" in outcome.json["msg"]
    assert state(machine) == before


def test_master_that_is_a_bridges_port(machine: Machine) -> None:
    uplink(machine)
    machine.run("sh", "-ec", "ip link add br0 type bridge; ip link set up0 master br0")
    machine.container()
    outcome = machine.plugin("macvlan", "ADD", network("macvlan"))
    assert outcome.status == 1 and "up0 is a bridge's port" in outcome.json["msg"], outcome


def test_alternative_name_of_the_master(machine: Machine) -> None:
    uplink(machine)
    name = "a-name-that-is-longer-than-15-bytes"
    machine.run("ip", "link", "property", "add", "dev", "up0", "altname", name)
    result = attach(machine, network("macvlan", name))
    assert again(machine, "CHECK", network("macvlan", name), result).status == 0
