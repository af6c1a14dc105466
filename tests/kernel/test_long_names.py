"""Names that are too long for a file or a chain: ADD refuses them before it changes anything; DEL and GC succeed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.machine import Machine
from tests.support.network import attach, bridge, host_local, ptp

PORTS = {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}
CHAINED: dict[str, Any] = {
    "cniVersion": "1.1.0",
    "name": "net1",
    "prevResult": {"cniVersion": "1.1.0", "ips": [{"address": "10.3.4.5/24"}]},
}
BRIDGE = bridge(ipMasq=True, ipam=host_local("10.66.1.0/24"))
CASES = [
    # network name, container ID, code, limit
    (BRIDGE, 240, 2, 7, 255 - len("eth0::bridge.new")),
    (ptp(ipMasq=True), 255, 2, 7, 255 - len("eth0::ptp.new")),
    (ptp(), 300, 2, 7, 255 - len("eth0::ptp.new")),
    (ptp(), 9, 270, 4, 255),
    ({**BRIDGE, "macspoofchk": True}, 9, 236, 4, 255 - len("cni-br-iface--eth0-mac")),
    ({**CHAINED, "type": "portmap", "runtimeConfig": PORTS}, 9, 250, 4, 255 - len("sctp:65535::eth0")),
    ({**CHAINED, "type": "tuning", "promisc": True}, 9, 244, 4, 255 - len("_eth0.json.new")),
    ({**CHAINED, "type": "firewall"}, 251, 2, 7, 255 - len("eth0::firewall.new")),
    ({**CHAINED, "type": "bandwidth", "ingressRate": 1000, "ingressBurst": 1000}, 2, 256, 4, 255),
    ({**CHAINED, "type": "sbr"}, 2, 400, 4, 255),
    ({"cniVersion": "1.1.0", "type": "host-local", "ipam": host_local()}, 249, 2, 7, 255 - len("..lease")),
]


@pytest.mark.parametrize(("config", "network", "container", "code", "limit"), CASES)
def test_names_that_are_too_long(
    machine: Machine, config: dict[str, Any], network: int, container: int, code: int, limit: int
) -> None:
    netns = machine.container("c1")
    config = {**config, "name": "n" * network}

    def run(command: str, **more: Any) -> Any:
        return machine.plugin(config["type"], command, {**config, **more}, container_id="c" * container, netns=netns)

    assert run("DEL").status == 0  # makes the lock of the firewall
    before = machine.snapshot()
    outcome = run("ADD")
    assert outcome.code == code, outcome
    assert outcome.json["msg"] == ("network name is too long" if code == 7 else "container ID is too long")
    assert f"{max(network, container)} bytes; at most {limit} fit" in outcome.json["details"]
    for _ in range(2):
        outcome = run("DEL")
        assert outcome.status == 0, outcome
    outcome = run("GC", **{"cni.dev/valid-attachments": []})
    assert outcome.status == 0, outcome
    assert machine.snapshot() == before
    if code == 7:
        outcome = run("STATUS")
        assert outcome.code == 7 and outcome.json["msg"] == "network name is too long", outcome


def test_the_longest_names_work(machine: Machine) -> None:
    network, container = "n" * (255 - len("eth0::bridge.new")), "c" * (255 - len("cni-br-iface--eth0-mac"))
    options = {"ipMasqBackend": "nftables", "ipMasq": True, "macspoofchk": True}
    config = bridge(name=network, ipam=host_local("10.66.2.0/24"), **options)
    netns = machine.container("c1")
    outcome = machine.plugin("bridge", "ADD", config, container_id=container, netns=netns)
    assert outcome.status == 0, outcome
    assert outcome.json["ips"][0]["address"] == "10.66.2.2/24"
    for command in ("CHECK", "DEL", "DEL"):
        whole = {**config, "prevResult": outcome.json}
        done = machine.plugin("bridge", command, whole, container_id=container, netns=netns)
        assert done.status == 0, (command, done)
    assert "10.66.2.2" not in machine.run("find", "/var/lib/cni")
    assert container not in machine.run("find", "/run/cnibox")


def test_a_go_plugins_leases_of_a_long_network_name_are_released(machine: Machine) -> None:
    """Of 249 bytes and more there is room for Go's folder, but not for our index beside it."""
    network = "n" * 254
    machine.run("mkdir", "-p", f"/var/lib/cni/networks/{network}")
    for address, container in (("10.1.0.2", "c1"), ("10.1.0.3", "c2")):
        path = f"/var/lib/cni/networks/{network}/{address}"
        machine.run("tee", path, stdin=f"{container}\r\neth0".encode())
    config = {"cniVersion": "1.1.0", "name": network, "type": "host-local", "ipam": host_local("10.1.0.0/24")}
    outcome = machine.plugin("host-local", "DEL", config)
    assert outcome.status == 0, outcome
    assert machine.run("ls", f"/var/lib/cni/networks/{network}") == "10.1.0.3\nlock\n"
    outcome = machine.plugin("host-local", "GC", {**config, "cni.dev/valid-attachments": []})
    assert outcome.status == 0, outcome
    assert machine.run("ls", f"/var/lib/cni/networks/{network}") == "lock\n"


def test_long_names_do_not_hide_what_is_there(machine: Machine) -> None:
    attach(machine, BRIDGE, "c1")
    config = {**BRIDGE, "name": "n" * 255}
    assert machine.plugin("bridge", "DEL", config, container_id="c" * 256).status == 0
    assert machine.plugin("bridge", "CHECK", BRIDGE).code == 7  # without prevResult; the attachment is still there
    assert machine.ip("-n", "c1", "link", "show", "eth0")
