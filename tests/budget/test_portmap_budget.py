"""What portmap may start: one iptables-restore for each IP version, and at most one process to find out what is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.budget.test_budget import plugin_processes
from tests.support.machine import Machine
from tests.support.network import attach, bridge
from tests.support.ports import legacy, mapping, portmap, publish

RESTORES = ["ip6tables-restore", "iptables-restore"]
V4 = [mapping(host_ip="0.0.0.0")]


@pytest.mark.parametrize("among", ["nobody", "ours", "what ours have left"])
def test_legacy_iptables(machine: Machine, tmp_path: Path, among: str) -> None:
    legacy(machine)
    network = bridge()
    config = portmap(mapping())
    if among != "nobody":
        other = publish(machine, network, portmap(mapping(1000)), "c2")
        if among != "ours":
            outcome = machine.plugin("portmap", "DEL", other, container_id="c2", netns="/run/netns/c2")
            assert outcome.status == 0
    config["prevResult"] = attach(machine, network)
    for mappings, restores, saves in (([mapping()], RESTORES, ["iptables-save"]), (V4, RESTORES, ["iptables-save"])):
        config["runtimeConfig"] = {"portMappings": mappings}
        programs, count = plugin_processes(machine, tmp_path, "ADD", config)
        assert sorted(programs) == [*restores, *saves] and count == len(programs)
    programs, count = plugin_processes(machine, tmp_path, "DEL", config)
    assert programs == ["iptables-restore"] and count == 1


def test_iptables_among_what_a_go_plugin_has_published(machine: Machine, tmp_path: Path) -> None:
    """Its entries are read by netlink."""
    result = attach(machine, bridge(cniVersion="1.0.0"), "c2")
    old = {**portmap(mapping(1000), cniVersion="1.0.0"), "prevResult": result}
    assert machine.go("portmap", "ADD", old, container_id="c2", netns="/run/netns/c2").status == 0
    config = {**portmap(mapping()), "prevResult": attach(machine, bridge())}
    programs, count = plugin_processes(machine, tmp_path, "ADD", config)
    assert sorted(programs) == RESTORES and count == 2


def test_iptables_beside_rules_of_other_programs(machine: Machine, tmp_path: Path) -> None:
    """What iptables can show gives no reason to start iptables-save."""
    for program in ("iptables", "ip6tables"):
        machine.run(program, "-t", "nat", "-A", "PREROUTING", "-p", "tcp", "--dport", "9", "-j", "REDIRECT")
        machine.run(program, "-t", "nat", "-N", "nat")
        machine.run(program, "-t", "nat", "-A", "nat", "-j", "RETURN")
    config = {**portmap(mapping()), "prevResult": attach(machine, bridge())}
    programs, count = plugin_processes(machine, tmp_path, "ADD", config)
    assert sorted(programs) == RESTORES and count == 2
