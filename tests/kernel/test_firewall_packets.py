"""firewall with real packets: what passes with it, what does not without it, and what each ingress policy drops."""

from __future__ import annotations

import pytest

from tests.support.firewall import done, network, reached, wall, wired
from tests.support.machine import Machine
from tests.support.network import attach
from tests.support.packets import OUTSIDE, outside_world

BACKENDS = pytest.mark.parametrize("backend", ["iptables", "nftables"])
GATEWAY = {4: "10.77.1.1", 6: "fd77:1::1"}


def address(number: int, version: int, host: int = 2) -> str:
    return f"10.77.{number}.{host}" if version == 4 else f"fd77:{number}::{host}"


def forbid_forwarding(machine: Machine, backend: str) -> None:
    """The chain's policy: whatever no rule accepts is dropped."""
    if backend == "iptables":
        machine.run("sh", "-c", "iptables -P FORWARD DROP; ip6tables -P FORWARD DROP")
    else:
        wired(machine, wall(backend, 9), "c9", 9)  # which makes the chain
        machine.run("nft", "chain", "inet", "cni_firewall", "forward", "{ policy drop; }")


@BACKENDS
def test_what_is_forwarded_passes_only_with_it(machine: Machine, backend: str) -> None:
    outside_world(machine)
    forbid_forwarding(machine, backend)
    result = attach(machine, network())
    config = wall(backend)
    out = (OUTSIDE[4], "c1"), (OUTSIDE[6], "c1")
    unasked = (address(1, 4), "outside"), (address(1, 6), "outside")
    assert reached(machine, *out) == [False, False]
    done(machine, "ADD", config, result)
    assert reached(machine, *out, *unasked) == [True, True, False, False]
    done(machine, "DEL", config, result)
    assert reached(machine, *out) == [False, False]


@BACKENDS
@pytest.mark.parametrize("admin", ["CNI-ADMIN", "site_rules"])
def test_the_administrators_chain_comes_before(machine: Machine, backend: str, admin: str) -> None:
    outside_world(machine)
    wired(machine, wall(backend, iptablesAdminChainName=admin))
    drop = {
        "iptables": f"iptables -A {admin} -d {OUTSIDE[4]} -j DROP; ip6tables -A {admin} -d {OUTSIDE[6]} -j DROP",
        "nftables": f"nft add rule inet cni_firewall {admin} ip daddr {OUTSIDE[4]} drop; "
        f"nft add rule inet cni_firewall {admin} ip6 daddr {OUTSIDE[6]} drop",
    }
    out = (OUTSIDE[4], "c1"), (OUTSIDE[6], "c1")
    assert reached(machine, *out) == [True, True]
    machine.run("sh", "-ec", drop[backend])
    assert reached(machine, *out) == [False, False]


def test_nftables_does_not_overrule_iptables(machine: Machine) -> None:
    """What another chain drops stays dropped: a limit of nftables itself."""
    outside_world(machine)
    forbid_forwarding(machine, "iptables")
    wired(machine, wall("nftables"))
    assert not machine.ping(OUTSIDE[4], inside="c1")


@BACKENDS
@pytest.mark.parametrize("policy", ["open", "same-bridge", "isolated"])
def test_ingress_policy(machine: Machine, backend: str, policy: str) -> None:
    """c1 and c2 are on one bridge, c3 is on another."""
    outside_world(machine)
    config = wall(backend, ingressPolicy=policy)
    for container, number in (("c1", 1), ("c2", 1), ("c3", 2)):
        wired(machine, {**config, "name": f"net{number}"}, container, number)
    for version in (4, 6):
        own = address(1, version)
        ways = (GATEWAY[version], "c1"), (OUTSIDE[version], "c1"), (own, "outside"), (own, "")
        sibling, stranger, from_stranger = (address(1, version, 3), "c1"), (address(2, version), "c1"), (own, "c3")
        expected = [True, True, True, True, policy != "isolated", policy == "open", policy == "open"]
        assert reached(machine, *ways, sibling, stranger, from_stranger) == expected


@BACKENDS
def test_a_policy_ends_with_the_bridges_last_attachment(machine: Machine, backend: str) -> None:
    """An open network's containers on the same bridge are as isolated as the others, until then."""
    config = wall(backend, ingressPolicy="same-bridge")
    first, second = wired(machine, config, "c1"), wired(machine, config, "c2")
    wired(machine, wall(backend, 2, ingressPolicy="same-bridge"), "c3", 2)
    attach(machine, network(), "c4")
    done(machine, "DEL", config, first, "c1")
    strangers = (address(2, 4), "c4"), (address(2, 6), "c4")
    assert reached(machine, *strangers) == [False, False]
    done(machine, "DEL", config, second, "c2")
    assert reached(machine, *strangers) == [True, True]


@BACKENDS
def test_isolation_among_siblings_ends_with_the_attachment(machine: Machine, backend: str) -> None:
    config = wall(backend, ingressPolicy="isolated")
    first, second = wired(machine, config, "c1"), wired(machine, config, "c2")
    assert not machine.ping(address(1, 4, 3), inside="c1")
    done(machine, "DEL", config, first, "c1")
    done(machine, "DEL", config, second, "c2")
    assert machine.ping(address(1, 4, 3), inside="c1")
