"""The configuration's `dns` beside that of the IPAM plugin: any setting in it replaces all of those."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.machine import Machine
from tests.support.network import bridge, layer2, ptp
from tests.support.uplink import needing, network, uplink

IPAM = {"nameservers": ["10.77.0.53"], "domain": "example.net", "search": ["example.org"], "options": ["ndots:2"]}
STATIC = {"type": "static", "addresses": [{"address": "10.77.0.5/24", "gateway": "10.77.0.1"}], "dns": IPAM}
TAP = {"cniVersion": "1.1.0", "name": "mynet", "type": "tap", "ipam": STATIC}
HOST_DEVICE = {"cniVersion": "1.1.0", "name": "mynet", "type": "host-device", "device": "up0", "ipam": STATIC}

PLUGINS = [
    pytest.param("bridge", bridge(ipam=STATIC), id="bridge"),
    pytest.param("ptp", ptp(ipam=STATIC), id="ptp"),
    pytest.param("tap", TAP, marks=pytest.mark.kernel("tun"), id="tap"),
    pytest.param("host-device", HOST_DEVICE, id="host-device"),
    *(needing(name, network(name, ipam=STATIC)) for name in ("macvlan", "ipvlan", "vlan", "dummy")),
]
SETTINGS: list[tuple[Any, Any]] = [
    # the configuration's, and the result's
    ({"nameservers": []}, None),
    ({"search": []}, None),
    ({"options": [], "domain": ""}, None),
    ({"Nameservers": []}, None),  # Go does not look at a key's case
    ({"nameservers": [], "search": ["example.com"]}, {"search": ["example.com"]}),
    ({"domain": "example.com"}, {"domain": "example.com"}),
    ({"nameservers": None, "search": None, "options": None, "domain": None}, IPAM),
    ({"domain": ""}, IPAM),
    ({}, IPAM),
    (None, IPAM),
]


@pytest.mark.parametrize("plugin, config", PLUGINS)
def test_an_empty_list_replaces_that_of_ipam(machine: Machine, plugin: str, config: dict[str, Any]) -> None:
    """All settings in turn, each with its DEL; tested by the reference for ptp (ptp_test.go)."""
    uplink(machine)
    machine.container()
    for setting, expected in SETTINGS:
        outcome = machine.plugin(plugin, "ADD", {**config, "dns": setting})
        assert outcome.status == 0, outcome
        assert outcome.json.get("dns") == expected, setting
        assert machine.plugin(plugin, "DEL", config).status == 0


def test_in_an_older_result(machine: Machine) -> None:
    """Before 1.0.0 "dns" is always there."""
    machine.container()
    outcome = machine.plugin("bridge", "ADD", bridge(cniVersion="0.4.0", ipam=STATIC, dns={"nameservers": []}))
    assert outcome.json["dns"] == {}


def test_without_ipam(machine: Machine) -> None:
    machine.container()
    assert machine.plugin("bridge", "ADD", layer2(dns={"search": ["a.example"]})).json["dns"] == {"search": ["a.example"]}


@pytest.mark.parametrize("dns", ["", [], 5, {"nameservers": "10.1.1.1"}, {"nameservers": [1]}, {"domain": []}])
def test_what_is_no_setting_is_refused(machine: Machine, dns: Any) -> None:
    machine.container()
    outcome = machine.plugin("ptp", "ADD", ptp(ipam=STATIC, dns=dns))
    assert outcome.code == 7 and "dns" in outcome.json["msg"]
