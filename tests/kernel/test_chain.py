"""The chain that podman and nerdctl generate, bridge, portmap, firewall and tuning, as a whole."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.kernel.test_repair import FLUSH, repair
from tests.support.chain import Chain
from tests.support.machine import Machine
from tests.support.network import host_local
from tests.support.rules import ruleset
from tests.support.traces import nothing_left

DEFAULT = [{"dst": "0.0.0.0/0"}]
BACKENDS = pytest.mark.parametrize("backend", ["iptables", "nftables"])


def chain(machine: Machine, backend: str, container: str, port: int) -> Chain:
    mappings = [{"hostPort": port, "containerPort": 80, "protocol": protocol} for protocol in ("tcp", "udp")]
    return Chain(
        machine,
        {"type": "bridge", "isGateway": True, "ipMasq": True, "ipMasqBackend": backend,
         "ipam": host_local("10.77.0.0/24", routes=DEFAULT)},
        {"type": "portmap", "backend": backend, "runtimeConfig": {"portMappings": mappings}},
        {"type": "firewall", "backend": backend, "ingressPolicy": "same-bridge"},
        {"type": "tuning", "sysctl": {"net.core.somaxconn": "500"}},
        container=container,
    )  # fmt: skip


def own(lines: list[str], address: str) -> list[str]:
    return [line for line in lines if f"{address}/32" in line or f"{address} " in line or f"{address}:" in line]


@BACKENDS
def test_fifty_at_once_lose_no_rule_and_leave_none(machine: Machine, backend: str) -> None:
    containers = [f"c{number}" for number in range(50)]
    machine.run("sh", "-c", f"for name in {' '.join(containers)}; do ip netns add $name; done")
    chains = [chain(machine, backend, name, 20000 + number) for number, name in enumerate(containers)]
    with ThreadPoolExecutor(50) as pool:
        list(pool.map(Chain.add, chains))
        there = ruleset(machine).splitlines()
        counts = {len(own(there, each.result["ips"][0]["address"].partition("/")[0])) for each in chains}
        assert len(counts) == 1 and counts.pop() >= 5, "some have fewer rules than others"
        checks = [each.attempt("CHECK", config) for each in chains for config in each.configs]
        assert not [ended for ended in checks if ended.status]
        list(pool.map(Chain.delete, chains))
    assert not [line for line in ruleset(machine).splitlines() if "10.77.0." in line and "cni0" not in line]
    assert nothing_left(machine)


@BACKENDS
def test_repair_of_all_after_a_flush(machine: Machine, backend: str) -> None:
    chains = []
    for number, name in enumerate(("c3", "c1", "c2")):
        machine.container(name)
        chains.append(chain(machine, backend, name, 20000 + number))
        chains[-1].add()
    before = ruleset(machine)
    machine.run("sh", "-c", FLUSH)
    repair(machine)
    assert ruleset(machine) == before
    for each in chains:
        for config in each.configs:
            each.one("CHECK", config)
        each.delete()
    assert nothing_left(machine)
