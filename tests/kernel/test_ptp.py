"""ptp with real packets: the container, the host, and nobody between."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.machine import Machine, links
from tests.support.network import V4, V6, again, attach, host_local, ptp, state
from tests.support.packets import DIRECTIONS, advertise_router, first_packet, outside_world

ROUNDS = 10


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_first_packet_is_delivered(machine: Machine, direction: str, version: int) -> None:
    """The first packet of all, as soon as ADD has returned, without a second try."""
    if "outside" in direction:
        outside_world(machine)
    for number in range(ROUNDS):
        assert first_packet(machine, ptp, direction, version, number), f"round {number}"


def test_result_tells_what_there_is(machine: Machine) -> None:
    result = attach(machine, ptp(mtu=1400))
    near = result["interfaces"][0]["name"]
    far = machine.ip("-n", "c1", "link", "show", "eth0")[0]
    assert result["interfaces"] == [
        {"mac": machine.ip("link", "show", near)[0]["address"], "mtu": 1400, "name": near},
        {"mac": far["address"], "mtu": 1400, "name": "eth0", "sandbox": "/run/netns/c1"},
    ]
    assert [each["interface"] for each in result["ips"]] == [1, 1]
    assert (far["mtu"], machine.ip("link", "show", near)[0]["mtu"]) == (1400, 1400)


def test_subnet_is_reached_by_the_host_alone(machine: Machine) -> None:
    """The neighbours of the subnet are not on this link."""
    near = attach(machine, ptp())["interfaces"][0]["name"]

    def route(*words: str) -> Any:
        found = machine.ip(*words)
        return found[0] if found else None

    for subnet, gateway, address, family in ((V4, "10.77.0.1", "10.77.0.2", "-4"), (V6, "fd77::1", "fd77::2", "-6")):
        assert route("-n", "c1", family, "route", "show", subnet)["gateway"] == gateway
        assert route("-n", "c1", family, "route", "show", gateway)["dev"] == "eth0"
        assert route(family, "route", "show", address)["dev"] == near
    local = machine.ip("-4", "address", "show", "dev", near)[0]["addr_info"][0]
    assert (local["local"], local["prefixlen"]) == ("10.77.0.1", 32)


def test_forwarding_is_switched_on_per_family(machine: Machine) -> None:
    machine.run("sysctl", "-qw", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0")
    attach(machine, ptp(ipam=host_local(V6)))
    assert machine.run("cat", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding") == "0\n1\n"


def test_container_does_not_configure_the_host(machine: Machine) -> None:
    """CVE-2020-10749, for a host that takes router advertisements though it forwards (accept_ra=2)."""
    machine.run("sysctl", "-qw", "net.ipv6.conf.default.accept_ra=2")
    near = attach(machine, ptp())["interfaces"][0]["name"]

    def configured() -> bool:
        return any("2001:db8:bad" in machine.run("ip", "-6", *words) for words in (("address",), ("route",)))

    advertise_router(machine, "c1")
    assert not machine.wait_until(configured, 0.3)
    machine.run("sysctl", "-qw", f"net.ipv6.conf.{near}.accept_ra=2")
    advertise_router(machine, "c1")
    assert machine.wait_until(configured)


@pytest.mark.parametrize(
    "address, words",
    [
        ({"address": "10.77.0.5/24"}, "without a gateway"),
        ({"address": "10.77.0.5/32", "gateway": "10.77.0.1"}, "without room"),
    ],
)
def test_what_ipam_must_give(machine: Machine, address: dict[str, str], words: str) -> None:
    """Seen before any change; the reference leaves a default route behind, and the pair."""
    machine.container()
    before = state(machine)
    outcome = machine.plugin("ptp", "ADD", ptp(ipam={"type": "static", "addresses": [address]}))
    assert outcome.status == 1 and words in outcome.json["msg"]
    assert state(machine) == before


def test_without_ipam(machine: Machine) -> None:
    machine.container()
    outcome = machine.plugin("ptp", "ADD", ptp(ipam={}))
    assert outcome.code == 7 and "IPAM" in outcome.json["msg"]
    assert links(machine) == ["lo"]


def test_second_add_fails_and_leaves_the_first_alone(machine: Machine) -> None:
    config = ptp(ipMasq=True)
    result = attach(machine, config)
    before = state(machine)
    outcome = machine.plugin("ptp", "ADD", config)
    assert outcome.status == 1 and "already has an interface eth0" in outcome.json["msg"]
    assert state(machine) == before
    assert again(machine, "CHECK", config, result).status == 0
    assert machine.ping("10.77.0.2")


def test_delete_leaves_nothing(machine: Machine) -> None:
    machine.container()
    machine.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    before = state(machine)
    config = ptp(ipMasq=True)
    outcome = machine.plugin("ptp", "ADD", config)
    assert outcome.status == 0, outcome
    for _ in range(2):
        assert again(machine, "DEL", config, outcome.json).status == 0
    assert state(machine) == before
