"""GC takes away what belongs to the calling network and to no valid attachment, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.machine import Machine, Outcome, links
from tests.support.network import attach, bridge, host_local, ptp, state
from tests.support.traces import nothing_left, traces

VALID, OLDER = "cni.dev/valid-attachments", "cni.dev/attachments"
BACKENDS = {"iptables": {"ipMasq": True}, "nftables": {"ipMasq": True, "ipMasqBackend": "nftables"}}
every_backend = pytest.mark.parametrize("backend", BACKENDS.values(), ids=BACKENDS)
LEASES = "/var/lib/cni/networks/mynet"


def collect(machine: Machine, config: dict[str, Any], *valid: str, key: str = VALID, **options: Any) -> Outcome:
    """GC, for which these "container/interface" are valid."""
    attachments = [dict(zip(("containerID", "ifname"), each.split("/"), strict=True)) for each in valid]
    config = {**config, key: attachments}
    return machine.plugin(config["type"], "GC", config, container_id="", netns="", ifname="", **options)


def assert_collected(machine: Machine, config: dict[str, Any], *valid: str, **options: Any) -> None:
    ended = collect(machine, config, *valid, **options)
    assert (ended.status, ended.stdout, ended.stderr) == (0, "", ""), ended


def address_of(result: Any) -> str:
    address: str = result["ips"][0]["address"].partition("/")[0]
    return address


@every_backend
@pytest.mark.parametrize("make", [bridge, ptp])
@pytest.mark.parametrize("key", [VALID, OLDER])
def test_only_what_is_the_networks_and_not_valid(machine: Machine, make: Any, backend: Any, key: str) -> None:
    mine = make(**backend)
    others = {**mine, "name": "other", "ipam": host_local("10.78.0.0/24", "fd78::/64"), "bridge": "cni1"}
    kept, other = attach(machine, mine, "c1"), attach(machine, others, "c3")
    attach(machine, mine, "c2")
    before = traces(machine, "c1") + traces(machine, "c3")
    assert_collected(machine, mine, "c1/eth0", key=key)
    assert traces(machine, "c2") == []
    assert links(machine, "c2") == ["lo"]
    assert traces(machine, "c1") + traces(machine, "c3") == before
    assert machine.ping(address_of(kept)) and machine.ping(address_of(other))


@every_backend
@pytest.mark.parametrize("make", [bridge, ptp])
def test_absent_key_means_nothing_and_an_empty_list_everything(machine: Machine, make: Any, backend: Any) -> None:
    config = make(**backend)
    attach(machine, config)
    before = state(machine)
    ended = machine.plugin(config["type"], "GC", config, container_id="", netns="", ifname="")
    assert (ended.status, ended.stdout) == (0, ""), ended
    assert state(machine) == before
    assert_collected(machine, config)
    assert nothing_left(machine)


@every_backend
def test_one_of_two_interfaces(machine: Machine, backend: Any) -> None:
    config = bridge(**backend)
    kept = attach(machine, config)
    assert machine.plugin("bridge", "ADD", config, ifname="eth1").status == 0
    assert_collected(machine, config, "c1/eth0")
    assert links(machine, "c1") == ["eth0", "lo"]
    rules = " ".join(traces(machine, "c1"))
    assert all(ip["address"].partition("/")[0] in rules for ip in kept["ips"])
    assert machine.ping(address_of(kept))
    assert_collected(machine, config)
    assert nothing_left(machine)


@pytest.mark.parametrize("make", [bridge, ptp])
def test_made_by_go(machine: Machine, make: Any) -> None:
    """Go's interfaces go with their namespaces; rules and leases would stay for ever."""
    config = make(ipMasq=True, cniVersion="1.0.0")
    for name in ("c1", "c2"):
        netns = machine.container(name)
        assert machine.go(config["type"], "ADD", config, container_id=name, netns=netns).status == 0
    before = traces(machine, "c1")
    machine.run("ip", "netns", "delete", "c2")
    assert_collected(machine, {**config, "cniVersion": "1.1.0"}, "c1/eth0")
    assert traces(machine, "c2") == []
    assert traces(machine, "c1") == before and before


@pytest.mark.parametrize("flush", ["-D POSTROUTING 1", "-F POSTROUTING"])
def test_rules_partly_missing(machine: Machine, flush: str) -> None:
    """A chain to which no jump leads any more is found by its comments."""
    config = bridge(ipMasq=True)
    attach(machine, config)
    machine.run("sh", "-c", f"iptables -t nat {flush}; rm -r /run/cnibox/attachments/c1; ip netns delete c1")
    assert_collected(machine, config)
    assert nothing_left(machine)


def test_old_lease_files(machine: Machine) -> None:
    """Those of 2018 name the container alone: valid while any of its interfaces is."""
    config = bridge(ipam=host_local("10.77.0.0/24"))
    attach(machine, config)
    for address, content in (("10.77.0.50", "c1"), ("10.77.0.51", "c9"), ("10.77.0.52", "c9\\r\\neth0")):
        machine.run("sh", "-c", f"printf '{content}' > {LEASES}/{address}")
    assert_collected(machine, config, "c1/eth0")
    left = machine.run("ls", LEASES).split()
    assert left == ["10.77.0.2", "10.77.0.50", "last_reserved_ip.0", "lock"]


def test_lock_and_last_reserved_stay(machine: Machine) -> None:
    config = bridge()
    attach(machine, config)
    assert_collected(machine, config)
    assert machine.run("ls", LEASES).split() == ["last_reserved_ip.0", "last_reserved_ip.1", "lock"]


def test_never_used_network(machine: Machine) -> None:
    before = state(machine)
    assert_collected(machine, bridge(ipMasq=True))
    assert state(machine) == before


def test_delegate_is_asked(machine: Machine, tmp_path: Path) -> None:
    plugin = tmp_path / "noting"
    plugin.write_text(f"#!/bin/sh\necho $CNI_COMMAND >> {tmp_path}/verbs\ncat >> {tmp_path}/stdin\n")
    plugin.chmod(0o755)
    config = bridge(ipam={"type": "noting"})
    words = [f"{machine.farm}/bridge"]
    assert_collected(machine, config, "c1/eth0", program=words, CNI_PATH=f"{tmp_path}:{machine.farm}")
    assert (tmp_path / "verbs").read_text() == "GC\n"
    assert VALID in (tmp_path / "stdin").read_text()
