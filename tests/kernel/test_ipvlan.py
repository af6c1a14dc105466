"""ipvlan with real packets, and what only it has: addresses and master from prevResult."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.machine import Machine, links
from tests.support.network import again, attach, host_local, state
from tests.support.uplink import network, uplink

pytestmark = pytest.mark.kernel("ipvlan")


@pytest.mark.parametrize("mode", ["l2", "l3", "l3s"])
def test_containers_reach_each_other(machine: Machine, mode: str) -> None:
    uplink(machine)
    config = network("ipvlan", mode=mode, ipam=host_local())
    for name in ("c1", "c2"):
        attach(machine, config, name)
    macs = {machine.ip("-n", name, "link", "show", "eth0")[0]["address"] for name in ("c1", "c2")}
    assert macs == {machine.ip("link", "show", "up0")[0]["address"]}
    for address in ("10.77.0.2", "fd77::2"):
        assert machine.ping(address, inside="c2")
    if mode == "l2":
        assert machine.ping("10.77.0.1", inside="c2") and machine.ping("fd77::1", inside="c2")


PREVIOUS: dict[str, Any] = {
    "cniVersion": "1.1.0",
    "interfaces": [{"name": "up0", "mac": "02:00:00:00:00:01"}],
    "ips": [
        {"interface": 0, "address": "10.77.0.9/24", "gateway": "10.77.0.1"},
        {"address": "fd77::9/64", "gateway": "fd77::1"},
    ],
    "routes": [{"dst": "0.0.0.0/0"}],
    "dns": {"domain": "example.org"},
}


def test_chained(machine: Machine) -> None:
    """Without an IPAM plugin of its own, and without a master: those of prevResult."""
    uplink(machine)
    machine.container()
    before = state(machine)
    config = network("ipvlan", master=None, ipam=None)
    outcome = again(machine, "ADD", config, PREVIOUS)
    assert outcome.status == 0, outcome
    result = outcome.json
    assert [(each["name"], each["sandbox"]) for each in result["interfaces"]] == [("eth0", "/run/netns/c1")]
    assert result["ips"] == [{**each, "interface": 0} for each in PREVIOUS["ips"]]
    assert (result["routes"], result["dns"]) == (PREVIOUS["routes"], PREVIOUS["dns"])
    assert machine.ping("10.77.0.1", inside="c1") and machine.ping("fd77::1", inside="c1")
    assert machine.ip("-n", "c1", "route", "show", "default")[0]["gateway"] == "10.77.0.1"
    outcome = again(machine, "CHECK", config, result)
    assert outcome.status == 0, outcome
    outcome = machine.plugin("ipvlan", "STATUS", config, container_id=None, netns=None, ifname=None)
    assert outcome.status == 0, outcome
    for _ in range(2):
        assert again(machine, "DEL", config, result).status == 0
    assert state(machine) == before


def test_chained_with_an_ipam_plugin(machine: Machine) -> None:
    """Then only the master is prevResult's; and a master that is named is that one."""
    uplink(machine)
    machine.container()
    for config, previous in (
        (network("ipvlan", master=None), PREVIOUS),
        (network("ipvlan"), {**PREVIOUS, "interfaces": [{"name": "other"}, {"name": "another"}]}),
    ):
        outcome = again(machine, "ADD", config, previous)
        assert outcome.status == 0, outcome
        assert [each["address"].split(".")[:3] for each in outcome.json["ips"]] == [["10", "77", "0"]]
        assert again(machine, "CHECK", config, outcome.json).status == 0
        assert again(machine, "DEL", config, outcome.json).status == 0
    assert links(machine, "c1") == ["lo"]


@pytest.mark.parametrize(
    "previous, words",
    [
        (None, "ipvlan needs addresses"),
        ({**PREVIOUS, "ips": []}, "ipvlan needs addresses"),
        ({**PREVIOUS, "interfaces": []}, "has 0 interfaces"),
        ({**PREVIOUS, "interfaces": PREVIOUS["interfaces"] * 2}, "has 2 interfaces"),
    ],
)
def test_chained_without_what_it_needs(machine: Machine, previous: Any, words: str) -> None:
    uplink(machine)
    machine.container()
    config = network("ipvlan", master=None, ipam=None)
    outcome = machine.plugin("ipvlan", "ADD", {**config, "prevResult": previous} if previous else config)
    assert outcome.code == 7 and words in outcome.json["msg"], outcome
    assert links(machine, "c1") == ["lo"]
    assert machine.run("find", "/run/cnibox", "-type", "f", check=False) == ""


def test_macvlan_on_the_same_master(machine: Machine) -> None:
    uplink(machine)
    machine.run("ip", "link", "add", "m0", "link", "up0", "type", "macvlan")
    machine.container()
    outcome = machine.plugin("ipvlan", "ADD", network("ipvlan"))
    assert outcome.status == 1 and "macvlan excludes ipvlan" in outcome.json["msg"], outcome
