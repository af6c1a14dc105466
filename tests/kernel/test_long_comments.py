"""Networks and containers with names so long that not all of them fits into a rule's comment."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.support.machine import GO, Machine, Outcome
from tests.support.network import bridge, host_local, ptp
from tests.support.ports import mapping, portmap

NAMES = [("n" * 100, "c" * 141), ("n" * 9, "c" * 232), ("n" * 200, "c" * 60), ("n" * 110, "c" * 222)]
LENGTHS = pytest.mark.parametrize("network, container", NAMES, ids=lambda name: str(len(name)))
BACKENDS = pytest.mark.parametrize("backend", ["iptables", "nftables"])
V4, V6 = "10.77.0.0/24", "fd77::/64"


def run(machine: Machine, verb: str, config: dict[str, Any], container: str, **options: Any) -> Outcome:
    return machine.plugin(config["type"], verb, config, **{"container_id": container, "netns": "/run/netns/c1", **options})


def done(machine: Machine, verb: str, config: dict[str, Any], container: str, **options: Any) -> Any:
    outcome = run(machine, verb, config, container, **options)
    assert (outcome.status, outcome.stderr) == (0, ""), outcome
    return outcome.json if verb == "ADD" else None


def rules(machine: Machine) -> list[str]:
    """Those that are of single containers, without counters."""
    text = re.sub(r"counter packets \d+ bytes \d+ ?", "", machine.run("nft", "list", "ruleset"))
    return [line.strip() for line in text.splitlines() if re.search(r"10\.77\.|fd77:|CNI-(DN-)?[0-9a-f]{20}", line)]


def repair(machine: Machine) -> str:
    return machine.run(f"{machine.farm}/cnibox", "repair")


@LENGTHS
@BACKENDS
@pytest.mark.parametrize("make", [bridge, ptp])
def test_masquerading(machine: Machine, make: Any, backend: str, network: str, container: str) -> None:
    config = make(name=network, ipMasq=True, ipMasqBackend=backend, ipam=host_local(V4, V6))
    neighbour = f"{container[:-1]}x"
    for each, name in ((container, "c1"), (neighbour, "c2")):
        machine.container(name)
        result = done(machine, "ADD", config, each, netns=f"/run/netns/{name}")
        if each == container:
            config_of_it = {**config, "prevResult": result}
    before = rules(machine)
    done(machine, "CHECK", config_of_it, container)
    assert repair(machine) == "nothing was missing\n" and rules(machine) == before
    if backend == "iptables":
        machine.run("iptables", "-t", "nat", "-F", "POSTROUTING")
    else:
        machine.run("nft", "flush", "chain", "inet", "cni_plugins_masquerade", "masq_checks")
    assert run(machine, "CHECK", config_of_it, container).status == 1
    repair(machine)
    done(machine, "CHECK", config_of_it, container)
    assert sorted(rules(machine)) == sorted(before)
    done(machine, "DEL", config, container)
    assert len(rules(machine)) == len(before) // 2
    done(machine, "DEL", config, neighbour, netns="")
    assert rules(machine) == []


@LENGTHS
def test_masquerading_of_a_go_plugin(machine: Machine, network: str, container: str) -> None:
    machine.container()
    config = bridge(name=network, cniVersion="1.0.0", ipMasq=True, ipMasqBackend="iptables", ipam=host_local(V4, V6))
    result = done(machine, "ADD", config, container, farm=GO)
    assert rules(machine)
    done(machine, "CHECK", {**config, "prevResult": result}, container)
    done(machine, "DEL", {**config, "prevResult": result}, container)
    assert rules(machine) == []


@LENGTHS
@BACKENDS
def test_published_ports_and_firewall(machine: Machine, backend: str, network: str, container: str) -> None:
    machine.container()
    result = done(machine, "ADD", bridge(name=network, ipam=host_local(V4, V6)), container)
    wall = {"cniVersion": "1.1.0", "name": network, "type": "firewall", "backend": backend, "prevResult": result}
    for config in (portmap(mapping(), name=network, backend=backend, prevResult=result), wall):
        done(machine, "ADD", config, container)
        before = rules(machine)
        done(machine, "CHECK", config, container)
        assert before and repair(machine) == "nothing was missing\n"
        done(machine, "DEL", config, container)
        assert rules(machine) == []


@LENGTHS
def test_spoof_check(machine: Machine, network: str, container: str) -> None:
    """nft(8) takes no comments of more than 128 bytes; the kernel does."""
    machine.container()
    neighbour = f"{container[:-1]}x"
    machine.container("c2")
    config = bridge(name=network, macspoofchk=True, ipam=host_local(V4, V6))
    result = done(machine, "ADD", config, container)
    done(machine, "ADD", config, neighbour, netns="/run/netns/c2")
    assert machine.ping("10.77.0.2")
    machine.run("ip", "-n", "c1", "link", "set", "eth0", "address", "02:00:00:00:be:ef")
    machine.run("ip", "neigh", "flush", "all")
    assert not machine.ping("10.77.0.2") and machine.ping("10.77.0.3")
    assert repair(machine) == "nothing was missing\n"
    mac = next(each["mac"] for each in result["interfaces"] if each["name"] == "eth0")
    machine.run("ip", "-n", "c1", "link", "set", "eth0", "address", mac)
    done(machine, "CHECK", {**config, "prevResult": result}, container)
    done(machine, "DEL", config, container)
    assert machine.run("nft", "list", "table", "bridge", "nat").count("jump") == 2
    done(machine, "DEL", config, neighbour, netns="")
    assert "jump" not in machine.run("nft", "list", "table", "bridge", "nat")


@pytest.mark.parametrize("network, container", NAMES[:2])
def test_gc_knows_what_a_go_plugin_made_by_its_chain(machine: Machine, network: str, container: str) -> None:
    """Of the container ID the comment has only a part, which another container's has, too."""
    valid = f"{container[:-1]}x"
    configs = {}
    for each, name in ((container, "c1"), (valid, "c2")):
        machine.container(name)
        options = {"farm": GO, "netns": f"/run/netns/{name}"}
        config = bridge(name=network, cniVersion="1.0.0", ipMasq=True, ipam=host_local(V4, V6))
        result = done(machine, "ADD", config, each, **options)
        ports = {**portmap(mapping(8080 + len(configs)), name=network, cniVersion="1.0.0"), "prevResult": result}
        done(machine, "ADD", ports, each, **options)
        configs[name] = [{**config, "prevResult": result}, ports]
    before = rules(machine)
    attachments = {"cniVersion": "1.1.0", "cni.dev/valid-attachments": [{"containerID": valid, "ifname": "eth0"}]}
    for config in configs["c1"]:
        done(machine, "GC", {**config, **attachments}, container)
    assert len(rules(machine)) == len(before) // 2
    done(machine, "CHECK", configs["c2"][0], valid, netns="/run/netns/c2")
    for config in configs["c1"]:
        done(machine, "GC", {**config, **attachments, "cni.dev/valid-attachments": []}, container)
    assert rules(machine) == []
