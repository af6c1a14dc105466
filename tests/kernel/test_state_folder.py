"""Where /run/cnibox cannot be made, or belongs to another user: ADD says what to do, DEL and GC have nothing to do."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.machine import Machine, Outcome
from tests.support.network import again, attach, bridge, host_local, ptp

FARM = "/var/lib/cni/farm"  # where an ordinary user can read it
PORTS = {"portMappings": [{"hostPort": 8081, "containerPort": 81, "protocol": "tcp"}]}
PREVIOUS = {"cniVersion": "1.1.0", "ips": [{"address": "10.3.4.5/24"}]}
CHAINED: dict[str, Any] = {"cniVersion": "1.1.0", "name": "net3", "prevResult": PREVIOUS}
CONFIGS = [
    bridge(name="net3", ipam=host_local("10.68.0.0/24")),
    ptp(name="net3", ipam={"type": "static", "addresses": [{"address": "10.3.4.5/24", "gateway": "10.3.4.1"}]}),
    {**CHAINED, "type": "portmap", "runtimeConfig": PORTS},
    {**CHAINED, "type": "firewall"},
    {**CHAINED, "type": "tuning", "allmulti": True},
    {**CHAINED, "type": "bandwidth", "ingressRate": 1000, "ingressBurst": 1000},
]

kinds = pytest.mark.parametrize("config", CONFIGS, ids=[each["type"] for each in CONFIGS])


def with_interface(machine: Machine, config: dict[str, Any]) -> None:
    """A container, with the interface that an earlier plugin of the list would have made."""
    machine.container("c1")
    if "prevResult" in config:
        machine.run("ip", "link", "add", "veth9", "type", "veth", "peer", "name", "eth0", "netns", "c1")


def in_user_namespace(machine: Machine, command: str, config: dict[str, Any], prepare: str) -> Outcome:
    """As root of an ordinary user's namespace, who may not write to /run; the container's namespace is theirs, too."""
    machine.run("sh", "-c", f"cp -rT {machine.farm} {FARM} && chmod 755 {FARM}")
    script = (
        f"{prepare}; unshare --net sleep 9 >/dev/null 2>&1 <&- & sleep 0.2; "
        f"CNI_NETNS=/proc/$!/ns/net {FARM}/{config['type']}; status=$?; kill $!; exit $status"
    )
    user = ["setpriv", "--reuid", "1003", "--regid", "1003", "--clear-groups"]
    program = [*user, "unshare", "--user", "--map-root-user", "--net", "--mount", "sh", "-c", script]
    return machine.plugin(config["type"], command, config, program=program, farm=FARM)


@kinds
def test_of_another_user(machine: Machine, config: dict[str, Any]) -> None:
    with_interface(machine, config)
    machine.run("sh", "-c", "mkdir -p /run/cnibox/attachments/c1; chown -R 1234 /run/cnibox")
    before = machine.snapshot()
    outcome = machine.plugin(config["type"], "ADD", config)
    assert outcome.status == 1, outcome
    assert "using /run/cnibox: it belongs to user 1234, and we are user 0; remove it" in outcome.json["msg"]
    assert "mount -t tmpfs tmpfs /run/cnibox" in outcome.json["msg"]
    for command, more in (("DEL", {}), ("GC", {"cni.dev/valid-attachments": []})):
        outcome = machine.plugin(config["type"], command, {**config, **more})
        assert outcome.status == 0, outcome
    assert machine.snapshot() == before


def test_what_another_user_recorded_is_not_believed(machine: Machine) -> None:
    """The record says what DEL deletes."""
    config = ptp(name="net3")
    result = attach(machine, config)
    machine.run("sh", "-c", "ip link add victim type dummy || ip link add victim type veth peer name peer")
    record = machine.run("sh", "-c", "ls -d /run/cnibox/attachments/c1/*").strip()
    facts = json.loads(machine.run("cat", record)) | {"hostInterface": "victim", "hostMac": "x"}
    machine.run("tee", record, stdin=json.dumps(facts).encode())
    machine.run("chown", "1000", "/run/cnibox")
    outcome = again(machine, "DEL", config, result)
    assert outcome.status == 0, outcome
    assert "warning: /run/cnibox is ignored: it belongs to user 1000" in outcome.stderr
    assert outcome.stderr.count("ignored") == 1
    assert machine.ip("link", "show", "victim") and machine.run("ls", record)


@kinds
def test_no_write_access(machine: Machine, config: dict[str, Any]) -> None:
    with_interface(machine, config)
    machine.run("mount", "-o", "remount,ro", "/run")
    outcome = machine.plugin(config["type"], "ADD", config)
    assert outcome.status == 1, outcome
    assert "/run/cnibox: Read-only file system; cnibox keeps its state there" in outcome.json["msg"]
    assert "`mount -t tmpfs tmpfs /run`" in outcome.json["msg"]
    for command, more in (("DEL", {}), ("GC", {"cni.dev/valid-attachments": []})):
        outcome = machine.plugin(config["type"], command, {**config, **more})
        assert outcome.status == 0, outcome


@pytest.mark.parametrize("folder", ["mkdir -p -m 755 /run/cnibox/attachments", "true"])
def test_root_of_a_user_namespace(machine: Machine, folder: str) -> None:
    """The machine's root has no number there; and what the hint says helps."""
    machine.run("sh", "-c", f"chmod 755 /run; {folder}")
    config = ptp(name="net3", ipam={"type": "static", "addresses": [{"address": "10.3.4.5/24", "gateway": "10.3.4.1"}]})
    outcome = in_user_namespace(machine, "ADD", config, "true")
    place = "/run" if folder == "true" else "/run/cnibox"
    assert outcome.status == 1 and f"`mount -t tmpfs tmpfs {place}`" in outcome.json["msg"], outcome
    for command, more in (("DEL", {}), ("GC", {"cni.dev/valid-attachments": []})):
        outcome = in_user_namespace(machine, command, config | more, "true")
        assert outcome.status == 0, outcome
    outcome = in_user_namespace(machine, "ADD", config, f"mount -t tmpfs tmpfs {place}")
    assert outcome.status == 0, outcome
