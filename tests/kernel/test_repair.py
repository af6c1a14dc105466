"""`cnibox repair` after a flush: the ruleset is as it was, byte for byte, and packets pass."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.machine import Machine
from tests.support.network import again, attach, bridge, host_local, ptp
from tests.support.packets import HOST, OUTSIDE, outside_world, source_seen
from tests.support.rules import ruleset

FLUSH = "nft flush ruleset; iptables -F; iptables -t nat -F; iptables -t nat -X; iptables -X; ip6tables -t nat -F; ip6tables -t nat -X"
BACKENDS = pytest.mark.parametrize("backend", ["iptables", "nftables"])
DEFAULT = [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]


def repair(machine: Machine, *options: str) -> str:
    return machine.run(f"{machine.farm}/cnibox", "repair", *options)


def networks(backend: str) -> list[tuple[str, dict[str, Any]]]:
    """Containers of two networks and both plugins, in the order of their ADDs."""
    options = {"ipMasq": True, "ipMasqBackend": backend}
    one = bridge(**options, ipam=host_local(routes=DEFAULT))
    two = ptp(name="other", **options, ipam=host_local("10.78.0.0/24", "fd78::/64", routes=DEFAULT))
    return [("c3", one), ("c1", two), ("c2", one), ("c4", two)]


@BACKENDS
def test_after_a_flush_everything_is_as_before(machine: Machine, backend: str) -> None:
    outside_world(machine)
    for container, config in networks(backend):
        attach(machine, config, container)
    before = ruleset(machine)
    machine.run("sh", "-c", FLUSH)
    assert ruleset(machine) != before
    assert source_seen(machine, sender="c3", receiver="outside", address=OUTSIDE[4]) != HOST[4]
    told = repair(machine)
    assert ruleset(machine) == before
    assert told.count("masquerading of ") == 4 and "c3 eth0 (network mynet, bridge): " in told
    for container in ("c1", "c3"):
        assert source_seen(machine, sender=container, receiver="outside", address=OUTSIDE[4]) == HOST[4]
        assert source_seen(machine, sender=container, receiver="outside", address=OUTSIDE[6]) == HOST[6]
    assert repair(machine) == "nothing was missing\n" and repair(machine, "--quiet") == ""
    assert ruleset(machine) == before
    assert ruleset(machine) == before


@BACKENDS
def test_what_was_deleted_is_not_put_back(machine: Machine, backend: str) -> None:
    """Nor what belongs to a container whose namespace is gone."""
    results = {container: attach(machine, config, container) for container, config in networks(backend)}
    assert again(machine, "DEL", networks(backend)[0][1], results["c3"], "c3").status == 0
    machine.run("ip", "netns", "delete", "c1")
    machine.run("sh", "-c", FLUSH)
    told = repair(machine)
    assert [line.split()[0] for line in told.splitlines()] == ["c2", "c4"]
    assert not [line for line in ruleset(machine).splitlines() if "10.77.0.2" in line or "10.78.0.2" in line]


def test_a_single_missing_rule_is_found(machine: Machine) -> None:
    for container, config in networks("iptables"):
        attach(machine, config, container)
    before = sorted(ruleset(machine).splitlines())
    first = next(line for line in machine.run("iptables-save", "-t", "nat").splitlines() if "-s 10.77.0.2" in line)
    machine.run("sh", "-c", f"iptables -t nat {first.replace('-A ', '-D ', 1)}")
    assert repair(machine).count("\n") == 1
    assert sorted(ruleset(machine).splitlines()) == before


def test_what_cannot_be_put_back_is_told(machine: Machine) -> None:
    for container, config in networks("iptables"):
        attach(machine, config, container)
    machine.run("sh", "-c", FLUSH)
    machine.run("mount", "-t", "tmpfs", "none", "/etc/alternatives")  # where Debian's iptables leads
    ended = machine.plugin("cnibox", None, {}, program=[f"{machine.farm}/cnibox", "repair"])
    assert ended.status == 1
    assert "c3 eth0 (network mynet, bridge): " in ended.stderr and "iptables" in ended.stderr
    assert "4 attachments could not be repaired" in ended.stderr
