"""loopback: the container's lo, up and down."""

from __future__ import annotations

import pytest

from tests.support.machine import Machine
from tests.support.network import again, attach, bridge, state

CONFIG = {"cniVersion": "1.1.0", "name": "lo", "type": "loopback"}


def test_lo_works_when_add_returns(machine: Machine) -> None:
    result = attach(machine, CONFIG, ifname="lo")
    assert machine.ping("127.0.0.1", inside="c1")
    assert machine.ping("::1", inside="c1")
    assert result == {
        "cniVersion": "1.1.0",
        "interfaces": [{"mac": "00:00:00:00:00:00", "name": "lo", "sandbox": "/run/netns/c1"}],
        "ips": [{"address": "127.0.0.1/8", "interface": 0}, {"address": "::1/128", "interface": 0}],
    }


def container(machine: Machine) -> None:
    """With an lo that has been up once: the kernel gives it 127.0.0.1 then, and leaves it."""
    machine.container("c1")
    machine.run("ip", "-n", "c1", "link", "set", "lo", "up")
    machine.run("ip", "-n", "c1", "link", "set", "lo", "down")


def test_check_and_delete(machine: Machine) -> None:
    container(machine)
    before = state(machine)
    result = machine.plugin("loopback", "ADD", CONFIG, ifname="lo").json
    assert again(machine, "CHECK", CONFIG, result, ifname="lo").status == 0
    for _ in range(2):
        assert again(machine, "DEL", CONFIG, result, ifname="lo").status == 0
    assert state(machine) == before
    outcome = again(machine, "CHECK", CONFIG, result, ifname="lo")
    assert outcome.status == 1 and "down" in outcome.json["msg"]


def test_an_earlier_result_is_passed_on(machine: Machine) -> None:
    before = attach(machine, bridge())
    outcome = machine.plugin("loopback", "ADD", {**CONFIG, "prevResult": before})
    assert outcome.status == 0, outcome
    assert outcome.json == before


def test_without_ipv6(machine: Machine) -> None:
    machine.container("c1")
    machine.run("ip", "netns", "exec", "c1", "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
    outcome = machine.plugin("loopback", "ADD", CONFIG, ifname="lo")
    assert [each["address"] for each in outcome.json["ips"]] == ["127.0.0.1/8"]


def test_foreign_address_on_lo(machine: Machine) -> None:
    container(machine)
    machine.run("ip", "-n", "c1", "address", "add", "10.9.9.9/32", "dev", "lo")
    before = state(machine)
    outcome = machine.plugin("loopback", "ADD", CONFIG, ifname="lo")
    assert outcome.status == 1 and "non-loopback address 10.9.9.9/32" in outcome.json["msg"]
    assert state(machine) == before


@pytest.mark.parametrize("netns", ["", "/run/netns/gone", None])
def test_delete_without_namespace(machine: Machine, netns: str | None) -> None:
    assert machine.plugin("loopback", "DEL", CONFIG, ifname="lo", netns=netns).status == 0
