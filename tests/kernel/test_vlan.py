"""vlan with real packets, and what only it has."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.machine import Machine, links
from tests.support.network import again, attach, host_local, state
from tests.support.packets import vlan_of_first_arp
from tests.support.uplink import network, tagged, uplink

pytestmark = pytest.mark.kernel("8021q")


@pytest.mark.parametrize("number", [5, 4094])
def test_frames_are_tagged_on_the_parent(machine: Machine, number: int) -> None:
    uplink(machine)
    config = network("vlan", vlanId=number, ipam=host_local())
    result = attach(machine, config)
    assert machine.ip("-d", "-n", "c1", "link", "show", "eth0")[0]["linkinfo"]["info_data"]["id"] == number
    assert again(machine, "CHECK", config, result).status == 0
    with vlan_of_first_arp(machine, "wire", "wire0") as seen:
        assert not machine.ping("10.77.0.1", inside="c1")  # the far end has no such VLAN
        assert seen.answer() == str(number)
    tagged(machine, number)
    for address in ("10.77.0.1", "fd77::1"):
        assert machine.ping(address, inside="c1")


def test_priority_tagged(machine: Machine) -> None:
    """VLAN 0: a tag with no more than a priority."""
    uplink(machine)
    config = network("vlan", vlanId=0)
    result = attach(machine, config)
    assert again(machine, "CHECK", config, result).status == 0
    with vlan_of_first_arp(machine, "wire", "wire0") as seen:
        machine.ping("10.77.0.1", inside="c1")
        assert seen.answer() == "0"


@pytest.mark.parametrize(
    "options", [{"vlanId": 4095}, {"vlanId": -1}, {"vlanId": "5"}, {"master": None}, {"master": ""}]
)
def test_wrong_options(machine: Machine, options: dict[str, Any]) -> None:
    uplink(machine)
    machine.container()
    outcome = machine.plugin("vlan", "ADD", network("vlan", **options))
    assert outcome.code == 7 and next(iter(options)) in outcome.json["msg"], outcome
    assert links(machine, "c1") == ["lo"]


def test_each_vlan_once(machine: Machine) -> None:
    uplink(machine)
    attach(machine, network("vlan"))
    machine.container("c2")
    before = state(machine)
    outcome = machine.plugin("vlan", "ADD", network("vlan"), container_id="c2", netns="/run/netns/c2")
    assert outcome.status == 1 and "up0 has VLAN 5 already" in outcome.json["msg"], outcome
    assert state(machine) == before
    attach(machine, network("vlan", vlanId=6), "c3")


def test_master_that_is_down(machine: Machine) -> None:
    uplink(machine)
    machine.container()
    machine.run("ip", "link", "set", "up0", "down")
    outcome = machine.plugin("vlan", "ADD", network("vlan"))
    assert outcome.status == 1 and "up0 in the host's namespace is down" in outcome.json["msg"]
    assert "ip link set up0 up" in outcome.json["details"]
    assert links(machine, "c1") == ["lo"]
    outcome = machine.plugin("vlan", "STATUS", network("vlan"), container_id=None, netns=None, ifname=None)
    assert outcome.code == 50 and "up0" in outcome.json["msg"]


def test_without_ipam(machine: Machine) -> None:
    """As with macvlan: an interface and no address. The reference fails."""
    uplink(machine)
    config = network("vlan", ipam=None)
    result = attach(machine, config)
    assert "ips" not in result
    assert again(machine, "CHECK", config, result).status == 0
    assert again(machine, "DEL", config, result).status == 0
    assert links(machine, "c1") == ["lo"]
