"""DEL is total: however little is known, and however much is gone already, afterwards nothing is left."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.machine import GO, Machine, Outcome, links
from tests.support.network import attach, bridge, host_local, layer2, ptp
from tests.support.traces import nothing_left, traces

MASQUERADED = {
    "bridge-iptables": bridge(ipMasq=True),
    "bridge-nftables": bridge(ipMasq=True, ipMasqBackend="nftables"),
    "ptp-iptables": ptp(ipMasq=True),
    "ptp-nftables": ptp(ipMasq=True, ipMasqBackend="nftables"),
}
every_network = pytest.mark.parametrize("config", MASQUERADED.values(), ids=MASQUERADED)


def delete(machine: Machine, config: dict[str, Any], container: str = "c1", **options: Any) -> Outcome:
    """DEL, without a prevResult."""
    options.setdefault("netns", f"/run/netns/{container}")
    return machine.plugin(config["type"], "DEL", config, container_id=container, **options)


def assert_deleted(machine: Machine, config: dict[str, Any], **options: Any) -> None:
    ended = delete(machine, config, **options)
    assert (ended.status, ended.stdout, ended.stderr) == (0, "", ""), ended


def unmount(machine: Machine, name: str = "c1") -> None:
    """What a reboot, or a careless runtime, leaves of a namespace: the file on which it was mounted."""
    machine.run("sh", "-c", f"ip netns delete {name} && touch /run/netns/{name}")


@every_network
@pytest.mark.parametrize("netns", ["", None, "/run/netns/c1", "/run/netns/none"])
def test_without_a_previous_result(machine: Machine, config: dict[str, Any], netns: str | None) -> None:
    attach(machine, config)
    assert_deleted(machine, config, netns=netns)
    assert nothing_left(machine)
    assert links(machine, "c1") == ["lo"]


@every_network
def test_namespace_gone(machine: Machine, config: dict[str, Any]) -> None:
    attach(machine, config)
    machine.run("ip", "netns", "delete", "c1")
    assert_deleted(machine, config)
    assert nothing_left(machine)


@every_network
def test_plain_file_in_place_of_the_namespace(machine: Machine, config: dict[str, Any]) -> None:
    """The reference fails at every DEL then, and its runtime repeats it for ever."""
    attach(machine, config)
    unmount(machine)
    assert_deleted(machine, config)
    assert nothing_left(machine)


@every_network
def test_path_leads_to_the_namespace_of_the_host(machine: Machine, config: dict[str, Any]) -> None:
    """/proc/<pid>/ns/net of a container whose process ID another process has by now."""
    attach(machine, config)
    machine.run("ip", "netns", "delete", "c1")
    machine.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "uplink")  # the host's own
    ended = delete(machine, config, netns="/proc/self/ns/net")
    assert (ended.status, ended.stdout) == (0, ""), ended
    assert "eth0" in links(machine)
    machine.run("ip", "link", "delete", "eth0")
    assert nothing_left(machine)


@every_network
def test_twice_and_never_added(machine: Machine, config: dict[str, Any]) -> None:
    assert_deleted(machine, config)
    attach(machine, config)
    for _ in range(2):
        assert_deleted(machine, config)
    assert_deleted(machine, config, container="never", netns="")
    assert nothing_left(machine)


@every_network
def test_renamed_network(machine: Machine, config: dict[str, Any]) -> None:
    """The record knows the name under which rules and leases were made."""
    attach(machine, config)
    assert_deleted(machine, {**config, "name": "renamed"})
    assert nothing_left(machine)


def test_renamed_network_of_an_executed_delegate(machine: Machine, tmp_path: Path) -> None:
    """It takes the network's name from its stdin, and must find the lease that it made under the old one."""
    (tmp_path / "host-local").symlink_to(f"{GO}/host-local")
    path = f"{tmp_path}:{machine.farm}"
    config = {**bridge(), "cniVersion": "1.0.0"}
    attach(machine, config, CNI_PATH=path)
    assert_deleted(machine, {**config, "name": "renamed"}, CNI_PATH=path)
    assert nothing_left(machine)


@pytest.mark.parametrize("config", [bridge(), ptp(), layer2()], ids=["bridge", "ptp", "layer2"])
def test_options_that_have_become_wrong(machine: Machine, config: dict[str, Any]) -> None:
    attach(machine, config)
    broken = {**config, "mtu": "large", "hairpinMode": True, "promiscMode": True}
    if "ipam" in config:
        broken["ipam"] = {**config["ipam"], "ranges": []}
    assert_deleted(machine, broken)
    assert nothing_left(machine)


@pytest.mark.parametrize("make", [bridge, ptp])
@pytest.mark.parametrize("netns", ["there", "gone", "file", "empty"])
def test_made_by_go(machine: Machine, make: Any, netns: str) -> None:
    config = make(ipMasq=True, cniVersion="1.0.0")
    machine.container("c1")
    added = machine.go(config["type"], "ADD", config)
    assert added.status == 0, added
    if netns == "gone":
        machine.run("ip", "netns", "delete", "c1")
    elif netns == "file":
        unmount(machine)
    assert_deleted(machine, config, netns="" if netns == "empty" else "/run/netns/c1")
    if netns == "empty":  # what is in the namespace goes with it: nothing tells which link it is
        machine.run("ip", "netns", "delete", "c1")
    assert nothing_left(machine)


@every_network
@pytest.mark.parametrize("by", ["ours", "go"])
def test_namespace_path_used_by_another_container(machine: Machine, config: dict[str, Any], by: str) -> None:
    """A late DEL must not take the interface of the container that is at the path now, though even its inode may be the same."""
    attach(machine, config)
    machine.run("ip", "netns", "delete", "c1")
    assert machine.wait_until(lambda: not [name for name in links(machine) if name.startswith("veth")])
    machine.container("c1")
    if by == "ours":
        added = machine.plugin(config["type"], "ADD", config, container_id="c2")
    else:
        added = machine.go(config["type"], "ADD", {**config, "cniVersion": "1.0.0"}, container_id="c2")
    assert added.status == 0, added
    for _ in range(2 if by == "ours" else 1):  # of the first container nothing is known after the first DEL
        assert_deleted(machine, config)
        assert "eth0" in links(machine, "c1")
        assert machine.ping(added.json["ips"][0]["address"].partition("/")[0])
        assert traces(machine, "c1") == [] and traces(machine, "c2")


@every_network
def test_interface_deleted_by_somebody(machine: Machine, config: dict[str, Any]) -> None:
    attach(machine, config)
    machine.run("ip", "-n", "c1", "link", "delete", "eth0")
    assert_deleted(machine, config)
    assert nothing_left(machine)


def test_bridge_deleted_by_somebody(machine: Machine) -> None:
    config = bridge(ipMasq=True)
    attach(machine, config)
    machine.run("ip", "link", "delete", "cni0")
    assert_deleted(machine, config)
    assert nothing_left(machine)


FLUSHES = {
    "nat-rules": "iptables -t nat -F; ip6tables -t nat -F",
    "nat-rules-and-chains": "iptables -t nat -F; iptables -t nat -X; ip6tables -t nat -F; ip6tables -t nat -X",
    "ruleset": "nft flush ruleset",
    "jump": "iptables -t nat -D POSTROUTING 1",
    "chain": "iptables -t nat -F $(iptables-save -t nat | sed -n 's/^:\\(CNI-[0-9a-f]*\\).*/\\1/p')",
    "chain-rule": "iptables -t nat -D $(iptables-save -t nat | sed -n 's/^:\\(CNI-[0-9a-f]*\\).*/\\1/p') 1",
    "nft-rule": "nft flush chain inet cni_plugins_masquerade masq_checks",
}


@every_network
@pytest.mark.parametrize("flush", FLUSHES.values(), ids=FLUSHES)
def test_rules_flushed_by_somebody(machine: Machine, config: dict[str, Any], flush: str) -> None:
    attach(machine, config)
    machine.run("sh", "-c", flush, check=False)
    assert_deleted(machine, config)
    assert nothing_left(machine)


@every_network
@pytest.mark.parametrize("first", ["eth0", "eth1"])
def test_two_interfaces_in_one_network(machine: Machine, config: dict[str, Any], first: str) -> None:
    """The iptables chain of the reference knows no interface; the first DEL of the two would take the other's rules away."""
    second = "eth1" if first == "eth0" else "eth0"
    machine.container("c1")
    for ifname in ("eth0", "eth1"):
        added = machine.plugin(config["type"], "ADD", config, ifname=ifname)
        assert added.status == 0, added
        if ifname == second:
            remaining = [ip["address"].partition("/")[0] for ip in added.json["ips"]]
    assert_deleted(machine, config, ifname="eth2", netns="")  # never added
    assert_deleted(machine, config, ifname=first)
    rules = traces(machine, "c1")
    if "nftables" in str(config):
        assert all(any(address in rule for rule in rules) for address in remaining)
    else:
        assert all(any(rule.startswith(f"-A POSTROUTING -s {address}/") for rule in rules) for address in remaining)
        assert sum(rule.endswith("-j MASQUERADE") for rule in rules) == 2, rules  # IPv4 and IPv6
    assert_deleted(machine, config, ifname=second)
    assert nothing_left(machine)


def script(folder: Path, output: str, status: int = 0) -> str:
    """An IPAM plugin that writes down which verbs it is asked; the folder for CNI_PATH."""
    path = folder / "noting"
    path.write_text(
        f"#!/bin/sh\necho $CNI_COMMAND >> {folder}/verbs\n[ $CNI_COMMAND = ADD ] && echo '{output}' && exit {status}\nexit 0\n"
    )
    path.chmod(0o755)
    return str(folder)


@pytest.mark.parametrize("make", [bridge, ptp])
@pytest.mark.parametrize(
    ("output", "status"),
    [('{"cniVersion": "1.1.0", "ips": []}', 0), ("nonsense", 0), ('{"code": 123, "msg": "full"}', 1)],
    ids=["no address", "no result", "an error"],
)
def test_delegate_is_asked_to_delete(machine: Machine, tmp_path: Path, make: Any, output: str, status: int) -> None:
    """Whatever a delegate's ADD answered, it is undone when the ADD fails; and a DEL reaches it also without a namespace."""
    config = make(ipMasq=True, ipam={"type": "noting"})
    path = {"farm": None, "CNI_PATH": f"{script(tmp_path, output, status)}:{machine.farm}"}
    machine.container("c1")
    ended = machine.plugin(config["type"], "ADD", config, program=[f"{machine.farm}/{config['type']}"], **path)
    assert ended.status == 1, ended
    if status:
        assert ended.json == {"code": 123, "msg": "full"}
    assert (tmp_path / "verbs").read_text().split() == ["ADD", "DEL"]
    assert nothing_left(machine)
    assert delete(machine, config, netns="", program=[f"{machine.farm}/{config['type']}"], **path).status == 0
    assert (tmp_path / "verbs").read_text().split() == ["ADD", "DEL", "DEL"]


def test_lease_is_released_although_the_rest_fails(machine: Machine) -> None:
    """One error does not keep the others from being tidied up, and it is told (containernetworking/cni#1167)."""
    config = bridge(ipMasq=True, ipam=host_local("10.77.0.0/24"))
    attach(machine, config)
    machine.run("sh", "-c", "mkdir /run/no && mount --bind /run/no /usr/sbin")  # no iptables-restore any more
    ended = delete(machine, config)
    assert traces_without_rules(machine) == []
    machine.run("umount", "/usr/sbin")
    if ended.status:
        assert json.loads(ended.stdout)["msg"]
        assert_deleted(machine, config)


def traces_without_rules(machine: Machine) -> list[str]:
    found = machine.run("sh", "-c", "ls /var/lib/cni/networks/mynet /sys/class/net", check=False).split()
    return [name for name in found if name.startswith(("10.", "veth"))]
