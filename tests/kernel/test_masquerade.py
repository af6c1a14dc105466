"""ipMasq with real packets: what leaves the container's subnet has the host's address, and nothing else has."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from tests.support.machine import Machine
from tests.support.network import again, attach, bridge, host_local, ptp, state
from tests.support.packets import HOST, OUTSIDE, multicast_router, outside_world, source_seen

BACKENDS = pytest.mark.parametrize("backend", ["iptables", "nftables"])
DEFAULT = [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
CONTAINER = {4: "10.77.0.2", 6: "fd77::2"}
HIDE_IPTABLES = ("mount", "-t", "tmpfs", "none", "/etc/alternatives")  # where Debian's symlinks lead


def network(make: Any, backend: str = "", **options: Any) -> Any:
    more = {"ipMasqBackend": backend} if backend else {}
    return make(ipMasq=True, ipam=host_local(routes=DEFAULT), **more, **options)


def jumps(machine: Machine, program: str = "iptables") -> list[str]:
    """The rules of table nat that lead to a container's chain."""
    return [line for line in machine.run(f"{program}-save", "-t", "nat").splitlines() if " -j CNI-" in line]


def checks(machine: Machine) -> int:
    """How many rules there are in the nftables backend's chain."""
    listed = machine.run("nft", "list", "chain", "inet", "cni_plugins_masquerade", "masq_checks", check=False)
    return listed.count(" masquerade comment ")


@BACKENDS
@pytest.mark.parametrize("make", [bridge, ptp])
def test_outside_sees_the_host(machine: Machine, make: Any, backend: str) -> None:
    outside_world(machine)
    other = host_local("10.78.0.0/24", "fd78::/64", routes=DEFAULT)
    attach(machine, make(name="plain", bridge="br1", ipam=other), "c0")
    attach(machine, network(make, backend))
    for version in (4, 6):
        assert source_seen(machine, sender="c1", receiver="outside", address=OUTSIDE[version]) == HOST[version]
        assert machine.ping(OUTSIDE[version], inside="c1")
    assert source_seen(machine, sender="c0", receiver="outside", address=OUTSIDE[4]) == "10.78.0.2"


@BACKENDS
def test_inside_the_subnet_nothing_is_masqueraded(machine: Machine, backend: str) -> None:
    """With ptp what goes from one container to the other is routed by the host, and meets the rules."""
    config = network(ptp, backend)
    attach(machine, config, "c1")
    attach(machine, config, "c2")
    for version, address in ((4, "10.77.0.3"), (6, "fd77::3")):
        assert source_seen(machine, sender="c1", receiver="c2", address=address) == CONTAINER[version]


@BACKENDS
def test_multicast_is_not_masqueraded(machine: Machine, backend: str) -> None:
    outside_world(machine)
    attach(machine, network(bridge, backend))
    group = "239.1.2.3"
    with multicast_router(machine, CONTAINER[4], group, "cni0", "uplink"):
        seen = source_seen(machine, sender="c1", receiver="outside", address=group, group=(group, OUTSIDE[4]))
    assert seen == CONTAINER[4]


@BACKENDS
def test_every_address_is_masqueraded(machine: Machine, backend: str) -> None:
    outside_world(machine)
    config = network(bridge, backend)
    config["ipam"]["ranges"] += [[{"subnet": "10.78.0.0/24"}], [{"subnet": "fd78::/64"}]]
    attach(machine, config)
    for source, version in (("10.77.0.2", 4), ("10.78.0.2", 4), ("fd77::2", 6), ("fd78::2", 6)):
        machine.run("ip", "-n", "c1", "route", "replace", f"{OUTSIDE[version]}", "via", gateway(source), "src", source)
        assert source_seen(machine, sender="c1", receiver="outside", address=OUTSIDE[version]) == HOST[version]


def gateway(address: str) -> str:
    return f"{address[:-1]}1"


@BACKENDS
def test_the_last_container_takes_all_its_rules_away(machine: Machine, backend: str) -> None:
    config = network(bridge, backend)
    first = attach(machine, config, "c1")
    second = attach(machine, config, "c2")
    count = {
        "iptables": lambda: len(jumps(machine)) + len(jumps(machine, "ip6tables")),
        "nftables": lambda: checks(machine),
    }
    assert count[backend]() == 4
    assert again(machine, "DEL", config, first, "c1").status == 0
    assert count[backend]() == 2
    assert again(machine, "DEL", config, second, "c2").status == 0
    assert count[backend]() == 0
    assert "CNI-" not in machine.run("iptables-save") + machine.run("ip6tables-save")


REFERENCE = """
table inet cni_plugins_masquerade {{
    chain masq_checks {{
        ip saddr == 10.77.0.2 ip daddr != 10.77.0.0/24 masquerade comment "{prefix}, net: mynet, if: eth0, id: c1"
        ip6 saddr == fd77::2 ip6 daddr != fd77::/64 masquerade comment "{prefix}, net: mynet, if: eth0, id: c1"
    }}
    chain postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        ip daddr == 224.0.0.0/4 return
        ip6 daddr == ff00::/8 return
        goto masq_checks
    }}
}}
"""
"""As the reference gives it to `nft -f`."""


def test_nft_rules_are_those_of_the_reference(machine: Machine, farm: str) -> None:
    prefix = "-".join(hashlib.sha512(text).hexdigest()[:16] for text in (b"mynet", b"eth0:c1"))
    attach(machine, network(bridge, "nftables"))

    def listed(where: Machine) -> Any:
        found = json.loads(where.run("nft", "-j", "list", "ruleset"))["nftables"]
        for entry in found[1:]:
            for key in ("handle", "comment") if "rule" not in entry else ("handle",):
                next(iter(entry.values())).pop(key, None)
        return found

    ours, printed = listed(machine), machine.run("nft", "list", "table", "inet", "cni_plugins_masquerade")
    with Machine(farm) as other:
        other.run("nft", "-f", "-", stdin=REFERENCE.format(prefix=prefix).encode())
        assert ours == listed(other)
        theirs = other.run("nft", "list", "table", "inet", "cni_plugins_masquerade")
    assert [line for line in printed.splitlines() if not line.startswith("\tcomment")] == theirs.splitlines()


def test_check_takes_the_rules_of_the_reference_for_ours(machine: Machine) -> None:
    """And those that nft has read back."""
    prefix = "-".join(hashlib.sha512(text).hexdigest()[:16] for text in (b"mynet", b"eth0:c1"))
    config = network(bridge, "nftables")
    result = attach(machine, config)
    listed = machine.run("nft", "list", "ruleset")
    for rules in (REFERENCE.format(prefix=prefix), listed):
        machine.run("nft", "flush", "ruleset")
        assert again(machine, "CHECK", config, result).status == 1
        machine.run("nft", "-f", "-", stdin=rules.encode())
        assert again(machine, "CHECK", config, result).status == 0


@BACKENDS
@pytest.mark.parametrize("prefixes", [(32, 128), (31, 127), (20, 61), (1, 1), (0, 0)])
def test_check_of_prefixes_of_all_lengths(machine: Machine, backend: str, prefixes: tuple[int, int]) -> None:
    """Not all of them are programmed in the same way, or printed."""
    addresses = [{"address": f"{ip}/{prefix}"} for ip, prefix in zip(("10.77.0.5", "fd77::5"), prefixes, strict=True)]
    config = bridge(
        ipMasq=True, isGateway=False, ipMasqBackend=backend, ipam={"type": "static", "addresses": addresses}
    )
    result = attach(machine, config)
    outcome = again(machine, "CHECK", config, result)
    assert outcome.status == 0, outcome
    assert again(machine, "DEL", config, result).status == 0
    assert checks(machine) == 0 and not jumps(machine) and not jumps(machine, "ip6tables")


def test_without_iptables_nftables_takes_its_place(machine: Machine) -> None:
    machine.run(*HIDE_IPTABLES)
    outside_world(machine)
    config = network(bridge)
    result = attach(machine, config)
    assert checks(machine) == 2
    assert source_seen(machine, sender="c1", receiver="outside", address=OUTSIDE[4]) == HOST[4]
    assert again(machine, "CHECK", config, result).status == 0
    assert again(machine, "DEL", config, result).status == 0
    assert checks(machine) == 0


def test_unusable_iptables_is_replaced(machine: Machine) -> None:
    """It is there, but does not work on this kernel: `iptables -S INPUT 1` ends with neither 0 nor 1."""
    script = "cat >/run/broken <<'END'\n#!/bin/sh\necho no such table >&2\nexit 3\nEND\nchmod +x /run/broken"
    machine.run("sh", "-c", f"{script}; mount --bind /run/broken /usr/sbin/xtables-nft-multi")
    netns = machine.container()
    outcome = machine.plugin("bridge", "ADD", network(bridge), netns=netns)
    assert outcome.status == 0, outcome
    assert "nftables takes its place" in outcome.stderr and "no such table" in outcome.stderr
    assert checks(machine) == 2


def test_with_both_iptables_is_used(machine: Machine) -> None:
    attach(machine, network(bridge))
    assert len(jumps(machine)) == 1 and checks(machine) == 0


def test_missing_backend_that_was_asked_for(machine: Machine) -> None:
    machine.run(*HIDE_IPTABLES)
    machine.container()
    before = state(machine)
    outcome = machine.plugin("bridge", "ADD", network(bridge, "iptables"))
    assert outcome.status == 1
    assert "there is no iptables-restore" in outcome.json["msg"] and "nftables" in outcome.stdout
    assert state(machine) == before


def test_unknown_backend_is_refused_before_any_change(machine: Machine) -> None:
    machine.container()
    before = state(machine)
    outcome = machine.plugin("bridge", "ADD", network(bridge, "pf"))
    assert outcome.code == 7 and "ipMasqBackend" in outcome.json["msg"]
    assert state(machine) == before
