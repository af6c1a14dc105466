"""A packet filter that cannot be read, or is not installed: what fails because of it, and what must not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.firewall import wall
from tests.support.machine import Machine
from tests.support.network import attach, bridge, host_local, ptp, state
from tests.support.ports import mapping, portmap

PLUGINS = pytest.mark.parametrize("plugin", ["bridge", "ptp", "portmap", "firewall"])
BACKENDS = pytest.mark.parametrize("backend", ["iptables", "nftables"])
OPTION = {"bridge": "ipMasqBackend", "ptp": "ipMasqBackend", "portmap": "backend", "firewall": "backend"}

REPLACE = """
mkdir -p /run/programs && [ -e /run/programs/iptables ] || mount --bind /run/programs /etc/alternatives
for each in iptables ip6tables; do for suffix in "" -save -restore; do
    ln -sf /usr/sbin/$each-{kind}$suffix /run/programs/$each$suffix
done; done
"""
BREAK = """
cat >/run/broken <<'END'
#!/bin/sh
echo "can't initialize the table: Table does not exist (do you need to insmod?)" >&2
exit 3
END
chmod +x /run/broken
for each in {programs}; do for suffix in "" -save -restore; do ln -sf /run/broken /run/programs/$each$suffix; done; done
"""
BREAK_NAT = """
cat >/run/without-nat <<'END'
#!/bin/sh
case "$0 $*" in
    *-restore*) input=$(cat); case "$input" in *'*nat'*) echo no table nat >&2; exit 3; esac
        echo "$input" | /usr/sbin/ip6tables-legacy-restore "$@"; exit;;
    *"-t nat"*) echo no table nat >&2; exit 3;;
    *-save*) exec /usr/sbin/ip6tables-legacy-save "$@";;
esac
exec /usr/sbin/ip6tables-legacy "$@"
END
chmod +x /run/without-nat
for suffix in "" -save -restore; do ln -sf /run/without-nat /run/programs/ip6tables$suffix; done
"""


def install(machine: Machine, kind: str = "legacy") -> None:
    """iptables and ip6tables work, on the kernel's older tables or on nftables."""
    machine.run("sh", "-c", REPLACE.format(kind=kind))


def break_programs(machine: Machine, *programs: str) -> None:
    """They end with 3, as those for the older tables do where the kernel has no IPv6, or no table nat."""
    machine.run("sh", "-c", BREAK.format(programs=" ".join(programs)))


def uninstall(machine: Machine, program: str) -> None:
    machine.run("sh", "-c", f"rm /run/programs/{program} /run/programs/{program}-*")


def ipam(version: int | None = None) -> dict[str, Any]:
    subnets = {4: ["10.77.0.0/24"], 6: ["fd77::/64"], None: ["10.77.0.0/24", "fd77::/64"]}
    return host_local(*subnets[version])


def configuration(
    machine: Machine, plugin: str, backend: str = "", version: int | None = None, container: str = "c1"
) -> dict[str, Any]:
    """For a new container; of one IP version, or of both."""
    chosen = {OPTION[plugin]: backend} if backend else {}
    if plugin in ("bridge", "ptp"):
        machine.container(container)
        return (ptp if plugin == "ptp" else bridge)(name="net1", ipMasq=True, ipam=ipam(version), **chosen)
    result = attach(machine, bridge(name="net1", ipam=ipam(version)), container)
    if plugin == "portmap":
        return portmap(mapping(8080), mapping(53, 53, "udp"), name="net1", prevResult=result, **chosen)
    return {**wall(ingressPolicy="same-bridge", **chosen), "prevResult": result}


def left(machine: Machine) -> str:
    """What there is of the container's address, in any packet filter."""
    script = "iptables-legacy-save; ip6tables-legacy-save; nft list ruleset"
    lines = machine.run("sh", "-c", script, check=False).splitlines()
    return "\n".join(line for line in lines if "10.77." in line or "fd77:" in line)


@PLUGINS
@BACKENDS
def test_a_filter_without_our_rules_cannot_fail_a_del_or_gc(machine: Machine, plugin: str, backend: str) -> None:
    install(machine)
    broken = ["ip6tables"] if backend == "iptables" else ["iptables", "ip6tables"]
    break_programs(machine, *broken)
    config = configuration(machine, plugin, backend, version=4)
    outcome = machine.plugin(plugin, "ADD", config)
    assert (outcome.status, outcome.stderr) == (0, ""), outcome
    for container in ("c1", "c1", "unknown"):
        outcome = machine.plugin(plugin, "DEL", config, container_id=container, netns="")
        assert outcome.status == 0, outcome
    assert left(machine) == ""
    valid = {"cni.dev/valid-attachments": [{"containerID": "c9", "ifname": "eth0"}]}
    outcome = machine.plugin(plugin, "GC", {**config, **valid}, container_id=None, netns=None, ifname=None)
    assert outcome.status == 0, outcome


@PLUGINS
def test_an_unreadable_filter_is_named_in_a_warning(machine: Machine, plugin: str) -> None:
    install(machine)
    config = configuration(machine, plugin, "nftables")
    break_programs(machine, "ip6tables")
    outcome = machine.plugin(plugin, "DEL", config)
    assert outcome.status == 0 and " warning: " in outcome.stderr and "ip6tables-save" in outcome.stderr, outcome
    assert "Table does not exist" in outcome.stderr


@PLUGINS
def test_rules_on_record_are_not_forgotten(machine: Machine, plugin: str) -> None:
    """ip6tables worked when ADD wrote its rules, and fails at DEL."""
    install(machine)
    config = configuration(machine, plugin, "iptables")
    assert machine.plugin(plugin, "ADD", config).status == 0
    assert "fd77:" in left(machine)
    break_programs(machine, "ip6tables")
    for _ in range(2):
        outcome = machine.plugin(plugin, "DEL", config)
        assert outcome.status == 1 and "Table does not exist" in outcome.json["msg"], outcome
    assert "10.77." not in left(machine)  # what could be removed
    install(machine)
    assert machine.plugin(plugin, "DEL", config).status == 0
    assert left(machine) == ""


@PLUGINS
@pytest.mark.parametrize("fault", ["not installed", "unusable", "without nat"])
def test_nftables_takes_over_when_one_ip_version_lacks_iptables(machine: Machine, plugin: str, fault: str) -> None:
    install(machine)
    if fault == "not installed":
        uninstall(machine, "ip6tables")
    elif fault == "unusable":
        break_programs(machine, "ip6tables")
    else:
        machine.run("sh", "-c", BREAK_NAT)
    config = configuration(machine, plugin)
    outcome = machine.plugin(plugin, "ADD", config)
    assert outcome.status == 0, outcome
    old = machine.run("sh", "-c", "iptables-legacy-save; ip6tables-legacy-save")
    if (plugin, fault) == ("firewall", "without nat"):  # it needs no table nat
        assert outcome.stderr == "" and "fd77:" in old
    else:
        assert "nftables takes its place" in outcome.stderr
        assert "10.77." not in old and "10.77." in left(machine) and "fd77:" in left(machine)
    config = {**config, "prevResult": outcome.json}
    assert machine.plugin(plugin, "CHECK", config).status == 0
    for _ in range(2):
        outcome = machine.plugin(plugin, "DEL", config)
        assert outcome.status == 0, outcome
    assert left(machine) == ""


@PLUGINS
def test_a_missing_program_is_looked_for_in_folders_that_the_error_names(machine: Machine, plugin: str) -> None:
    install(machine, "nft")
    config = configuration(machine, plugin, "iptables")
    uninstall(machine, "ip6tables")
    before = state(machine)
    outcome = machine.plugin(plugin, "ADD", config)
    assert outcome.status == 1
    assert "there is no ip6tables-restore in /usr/sbin, /sbin, /usr/bin" in json.loads(outcome.stdout)["msg"]
    assert state(machine) == before
    uninstall(machine, "iptables")
    outcome = machine.plugin(plugin, "STATUS", {**config, "cniVersion": "1.1.0"})
    assert outcome.code == 50 and "iptables-restore in /usr/sbin, /sbin, /usr/bin" in outcome.json["msg"]


@pytest.mark.parametrize("backend", ["iptables", ""])
def test_ipv4_alone_needs_no_ip6tables(machine: Machine, backend: str) -> None:
    install(machine, "nft")
    uninstall(machine, "ip6tables")
    for plugin in ("bridge", "ptp", "portmap", "firewall"):
        config = configuration(machine, plugin, backend, version=4, container=plugin)
        where = {"container_id": plugin, "netns": f"/run/netns/{plugin}"}
        outcome = machine.plugin(plugin, "ADD", config, **where)
        assert (outcome.status, outcome.stderr) == (0, ""), outcome
        assert machine.plugin(plugin, "DEL", config, **where).status == 0
