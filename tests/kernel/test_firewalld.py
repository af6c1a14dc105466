"""firewall by firewalld: Debian's, on a bus of its own."""

from __future__ import annotations

import pytest

from tests.support.firewall import (
    ask_firewalld,
    done,
    elements,
    network,
    reached,
    rules,
    run,
    running_firewalld,
    sources,
    wall,
    wired,
)
from tests.support.machine import Machine
from tests.support.network import attach, state
from tests.support.packets import OUTSIDE, outside_world

ADDRESSES = ["10.77.1.2/32", "fd77:1::2/128"]


def test_the_containers_addresses_are_sources_of_a_zone(machine: Machine) -> None:
    """It is found and used although nothing asks for it; the zone decides what is forwarded."""
    outside_world(machine)
    result, config = attach(machine, network()), wall()
    with running_firewalld(machine):
        ask_firewalld(machine, "changeZoneOfInterface", "drop", "br1")
        ask_firewalld(machine, "changeZoneOfInterface", "public", "uplink")
        before = reached(machine, (OUTSIDE[4], "c1"), (OUTSIDE[6], "c1"))
        assert done(machine, "ADD", config, result).json == result
        assert sources(machine) == ADDRESSES and not elements(machine)
        assert not [line for line in rules(machine) if "CNI-" in line]
        assert before == [False, False]
        assert all(machine.ping(OUTSIDE[version], inside="c1") for version in (4, 6))
        done(machine, "CHECK", config, result)
        assert done(machine, "ADD", config, result).json == result  # a second time
        assert sources(machine) == ADDRESSES
        ask_firewalld(machine, "removeSource", "trusted", ADDRESSES[1])
        refused = run(machine, "CHECK", config, result)
        assert refused.code == 999 and "source fd77:1::2 of zone trusted" in refused.json["msg"]
        done(machine, "DEL", config, None, netns="")
        assert sources(machine) == []
        done(machine, "DEL", config, result)


def test_another_zone(machine: Machine) -> None:
    result, config = attach(machine, network()), wall("firewalld", firewalldZone="work")
    with running_firewalld(machine):
        done(machine, "STATUS", config, None)
        done(machine, "ADD", config, result)
        assert (sources(machine, "work"), sources(machine)) == (ADDRESSES, [])
        done(machine, "CHECK", config, result)
        ask_firewalld(machine, "removeSource", "work", ADDRESSES[0])
        ask_firewalld(machine, "addSource", "home", ADDRESSES[0])
        done(machine, "DEL", config, result)  # what is another zone's by now stays there
        assert (sources(machine, "work"), sources(machine, "home")) == ([], ADDRESSES[:1])
        ask_firewalld(machine, "addSource", "home", ADDRESSES[1])
        ask_firewalld(machine, "removeSource", "home", ADDRESSES[0])
        before = state(machine)
        refused = run(machine, "ADD", {**config, "firewalldZone": "nowhere"}, result)
        assert refused.code == 999 and "INVALID_ZONE" in refused.json["msg"]
        refused = run(machine, "ADD", config, result)  # the second address cannot be had: the first is given back
        assert refused.code == 999 and "ZONE_CONFLICT" in refused.json["msg"]
        assert sources(machine, "work") == []
        assert state(machine) == before


def test_an_address_that_is_a_source_already(machine: Machine) -> None:
    """ZONE_ALREADY_SET is no error; another attachment's source stays."""
    config = wall("firewalld")
    with running_firewalld(machine):
        first = wired(machine, config, "c1")
        machine.container("c2")
        done(machine, "ADD", config, first, "c2")
        done(machine, "CHECK", config, first, "c2")
        done(machine, "DEL", config, first, "c1")
        done(machine, "DEL", config, first, "c1")
        assert sources(machine) == ADDRESSES
        done(machine, "DEL", config, first, "c2")
        assert sources(machine) == []


@pytest.mark.parametrize("backend", ["iptables", "nftables"])
def test_it_starts_and_stops_between_add_and_del(machine: Machine, backend: str) -> None:
    """DEL does what the record says, or, without one, looks everywhere."""
    result, config = attach(machine, network()), wall(backend)
    without = {key: value for key, value in config.items() if key != "backend"}
    done(machine, "ADD", config, result)
    with running_firewalld(machine):
        done(machine, "CHECK", without, result)
        done(machine, "DEL", without, None)
        assert not [line for line in rules(machine) if "10.77.1.2" in line] and not elements(machine)
        done(machine, "ADD", without, result)
        done(machine, "GC", {**without, "cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}]}, None)
        assert sources(machine) == ADDRESSES
        machine.run("rm", "-r", "/run/cnibox/attachments")
        done(machine, "DEL", without, result)
        assert sources(machine) == []
        done(machine, "ADD", without, result)
    done(machine, "DEL", without, result)
    assert run(machine, "STATUS", wall("firewalld"), None).code == 50
    refused = run(machine, "ADD", wall("firewalld"), result)
    assert refused.code == 999 and "no answer on the system bus" in refused.json["msg"]


def test_ingress_policy_is_a_packet_filters(machine: Machine) -> None:
    config = wall(ingressPolicy="isolated")
    with running_firewalld(machine):
        first, second = wired(machine, config, "c1"), wired(machine, config, "c2")
        there = rules(machine)
        assert any("-i br1 -o br1" in line for line in there) and not [
            line for line in there if "-j CNI-FORWARD" in line
        ]
        assert len(sources(machine)) == 4
        assert not machine.ping("10.77.1.3", inside="c1")
        done(machine, "CHECK", config, first)
        done(machine, "DEL", config, first)
        done(machine, "DEL", config, second, "c2")
        assert not [line for line in rules(machine) if "br1" in line] and sources(machine) == []


def test_a_reload_and_repair(machine: Machine) -> None:
    """A reload forgets the runtime configuration."""
    config = wall(ingressPolicy="same-bridge")
    with running_firewalld(machine):
        result = wired(machine, config)
        before = sources(machine), rules(machine), rules(machine, 6)
        machine.run("firewall-cmd", "--reload")
        assert sources(machine) == []
        assert run(machine, "CHECK", config, result).code == 999
        assert "--add-source=10.77.1.2/32" in machine.run(f"{machine.farm}/cnibox", "repair")
        assert (sources(machine), rules(machine), rules(machine, 6)) == before
        done(machine, "CHECK", config, result)


def test_a_bus_without_it(machine: Machine) -> None:
    """A socket on which nobody answers, or where there is no such name, is no firewalld."""
    result = attach(machine, network())
    machine.run("mkdir", "-p", "/run/dbus")
    machine.run("python3", "-c", "import socket; socket.socket(socket.AF_UNIX).bind('/run/dbus/system_bus_socket')")
    done(machine, "ADD", wall(), result)
    assert len([line for line in rules(machine) if "10.77.1.2" in line]) == 2
    done(machine, "DEL", wall(), result)
