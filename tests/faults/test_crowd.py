"""Many containers at once, of which some fail: each has its own address, the bridge is everybody's, and at the end nothing is left."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.machine import Machine
from tests.support.network import bridge, host_local
from tests.support.traces import nothing_left

COUNT = 100
GATEWAY = "10.77.0.1"


def run(machine: Machine, command: str, config: dict[str, Any], name: str, *, into: str = "") -> Any:
    words = [f"{machine.farm}/bridge"]
    if into:
        words = ["sh", "-c", f"exec {words[0]} > {into}"]
    return machine.plugin("bridge", command, config, container_id=name, netns=f"/run/netns/{name}", program=words)


@pytest.mark.parametrize(("at_once", "backend"), [(8, "iptables"), (50, "nftables")])
def test_first_attachments_at_once(machine: Machine, at_once: int, backend: str) -> None:
    """Every fifth ADD cannot write its result and undoes itself, at a time when others rely on what it made for all."""
    names = [f"c{number}" for number in range(COUNT)]
    failing = set(names[::5])
    machine.run("sh", "-c", f"for name in {' '.join(names)}; do ip netns add $name; done")
    config = bridge(ipMasq=True, ipMasqBackend=backend, ipam=host_local("10.77.0.0/24"))

    with ThreadPoolExecutor(at_once) as pool:
        ended = list(
            pool.map(lambda name: run(machine, "ADD", config, name, into="/dev/full" if name in failing else ""), names)
        )
        added = {name: each for name, each in zip(names, ended, strict=True) if name not in failing}
        assert all(each.status == 0 and not each.stderr for each in added.values()), [
            e for e in added.values() if e.status
        ]
        assert all(each.status == 1 for name, each in zip(names, ended, strict=True) if name in failing)
        addresses = {each.json["ips"][0]["address"] for each in added.values()}
        assert len(addresses) == len(added)
        assert sorted(machine.run("ls", "/run/cnibox/attachments").split()) == sorted(added)
        leases = machine.run("sh", "-c", "cat /var/lib/cni/networks/mynet/10.*").replace("eth0", " ").split()
        assert sorted(leases) == sorted(added)

        script = f"for name in {' '.join(added)}; do ip netns exec $name ping -q -c1 -W1 {GATEWAY} > /dev/null || echo $name; done"
        assert machine.run("sh", "-c", script).split() == []
        assert machine.run("cat", "/proc/sys/net/ipv4/ip_forward") == "1\n"

        deleted = list(pool.map(lambda name: run(machine, "DEL", config, name), names))
    assert all((each.status, each.stdout, each.stderr) == (0, "", "") for each in deleted)
    assert nothing_left(machine)
