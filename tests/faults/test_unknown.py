"""An error is not an answer: what cannot be looked at is not taken for gone, and repair acts on today's record."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from tests.faults.cases import Case
from tests.faults.steps import add, assert_same, chain, delete, named, over, settled, stand
from tests.faults.test_broken_add import _last_failing
from tests.support.faulty import Agent
from tests.support.machine import Machine, Outcome, links
from tests.support.network import again, attach, bridge, ptp
from tests.support.ports import ask, mapping, portmap, publish, run, serving
from tests.support.traces import nothing_left

FOLDER = "/run/cnibox/attachments"
NETWORK = bridge()
BACKENDS = pytest.mark.parametrize("backend", ["iptables", "nftables"])


def injected(machine: Machine, plugin: str, command: str, config: Any, inject: str, *words: str, **options: Any) -> Outcome:
    """The plugin, of which strace makes a system call fail: "openat:error=ENFILE"."""
    call = inject.partition(":")[0]
    program = ["strace", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={inject}", *words, f"{machine.farm}/{plugin}"]
    return machine.plugin(plugin, command, config, program=program, **options)


@BACKENDS
@pytest.mark.parametrize("error", ["ENFILE", "EIO", "ENOMEM"])
def test_port_of_a_container_that_cannot_be_looked_at_is_not_free(machine: Machine, backend: str, error: str) -> None:
    kept = publish(machine, NETWORK, portmap(mapping(8080, 80), backend=backend))
    result = attach(machine, NETWORK, "c2")
    config = {**portmap(mapping(8080, 80), backend=backend), "prevResult": result}
    options = {"container_id": "c2", "netns": "/run/netns/c2"}
    fault = injected(machine, "portmap", "ADD", config, f"openat:error={error}:when=1", "-P", "/run/netns/c1", **options)
    assert fault.status == 1 and "/run/netns/c1" in fault.json["msg"], fault
    assert run(machine, "CHECK", kept).status == 0
    with serving(machine, "c1"):
        assert ask(machine, "", [("tcp", "10.77.0.1", 8080)]) == ["c1 10.77.0.1"]
    assert machine.plugin("portmap", "DEL", config, **options).status == 0


@pytest.mark.parametrize("number", range(1, 6))
@pytest.mark.parametrize("plugin", ["firewall", "bridge"])
def test_way_back_from_the_namespace_fails_once(machine: Machine, plugin: str, number: int) -> None:
    """Rules of the host are never made inside the container."""
    config = bridge(ipMasq=True) if plugin == "bridge" else {"cniVersion": "1.1.0", "name": "mynet", "type": plugin}
    if plugin == "bridge":
        machine.container()
    else:
        config["prevResult"] = attach(machine, NETWORK)
    ended = injected(machine, plugin, "ADD", config, f"setns:error=ENOMEM:when={number}")
    inside = machine.run("ip", "netns", "exec", "c1", "iptables-save", check=False)
    assert "CNI-" not in inside, ended
    if ended.status == 0:
        assert machine.plugin(plugin, "CHECK", {**config, "prevResult": ended.json}).status == 0
    assert machine.plugin(plugin, "DEL", config).status == 0
    if plugin == "bridge":
        assert nothing_left(machine) and links(machine, "c1") == ["lo"]


@pytest.mark.parametrize("make", [bridge, ptp])
def test_del_that_cannot_identify_the_namespace_fails(machine: Machine, make: Any) -> None:
    """With an exit status 0 the interface would stay for ever."""
    config = make(ipMasq=True, ipMasqBackend="nftables")
    attach(machine, config)
    ended = injected(machine, config["type"], "DEL", config, "getsockopt:error=ENOBUFS")
    assert ended.status == 1 or links(machine, "c1") == ["lo"], ended
    assert machine.plugin(config["type"], "DEL", config, netns="").status == 0
    assert links(machine, "c1") == ["lo"] and nothing_left(machine)


def test_lease_that_cannot_be_read_is_not_forgotten(machine: Machine) -> None:
    """The index is made again after a Go plugin's change; what one failing read has missed must not be missed for good."""
    config = bridge()
    attach(machine, config)
    lease = "/var/lib/cni/networks/mynet/10.77.0.2"
    machine.run("touch", "/var/lib/cni/networks/mynet")
    machine.container("c2")
    options = {"container_id": "c2", "netns": "/run/netns/c2"}
    injected(machine, "bridge", "ADD", config, "openat:error=ENFILE", "-P", lease, **options)
    assert machine.plugin("bridge", "DEL", config).status == 0
    assert machine.run("ls", lease, check=False) == ""
    assert machine.plugin("bridge", "DEL", config, **options).status == 0
    assert nothing_left(machine)


CASES = ["bridge-nftables", "ptp-iptables", "firewall-iptables", "portmap-nftables", "tuning", "host-device", "macvlan"]


@over([named(name) for name in CASES])
def test_undo_that_fails_keeps_what_a_del_needs(agent: Agent, case: Case) -> None:
    """The DEL that follows has neither a namespace nor a previous result."""
    stand(agent, case)
    chain(agent, case)
    before = settled(agent)
    last = _last_failing(agent, case)
    assert last
    for number in range(last + 1, last + 30):
        ended = add(agent, case, fail=last, EIO=number)
        if not ended.hit:
            break
        assert ended.status == 1, ended
        agent_previous = agent.previous.pop("c1", None)
        deleted = delete(agent, case, "")
        if agent_previous is not None:
            agent.previous["c1"] = agent_previous
        assert deleted.status == 0, deleted
        assert_same(before, agent, ended, deleted)
    assert number > last + 1


@pytest.mark.parametrize("verb", ["DEL", "GC"])
def test_draft_of_a_record_is_removed(machine: Machine, verb: str) -> None:
    """An ADD that was killed between the draft and its rename leaves it."""
    machine.run("mkdir", "-p", f"{FOLDER}/c9")
    machine.run("touch", f"{FOLDER}/c9/eth0:mynet:bridge.new")
    config = bridge() | ({"cni.dev/valid-attachments": None} if verb == "GC" else {})
    names = {"container_id": "c9", "netns": ""} if verb == "DEL" else {"container_id": None, "netns": None, "ifname": None}
    assert machine.plugin("bridge", verb, config, **names).status == 0
    assert machine.run("ls", FOLDER) == ""


@BACKENDS
def test_repair_waits_for_a_container_that_is_started_again(machine: Machine, backend: str) -> None:
    """It has read all records before: those of c1, whose lock it waits for, and of c2, which is replaced meanwhile."""
    first = bridge(ipMasq=True, ipMasqBackend=backend)
    attach(machine, first, "c1")
    config = portmap(mapping(8080, 80), backend=backend)
    published = publish(machine, first, config, "c2")
    held = subprocess.Popen(machine.enter("flock", f"{FOLDER}/c1", "sh", "-c", "echo locked; sleep 2"), stdout=subprocess.PIPE)
    assert held.stdout is not None and held.stdout.readline() == b"locked\n"
    repair = subprocess.Popen(machine.enter(f"{machine.farm}/cnibox", "repair"), stdout=subprocess.PIPE)
    assert machine.wait_until(lambda: waits(repair.pid, machine))
    assert run(machine, "DEL", published, "c2").status == 0
    assert again(machine, "DEL", first, published["prevResult"], "c2").status == 0
    options = {"container_id": "c2", "netns": "/run/netns/c2"}
    result = machine.plugin("bridge", "ADD", first, **options).json  # with another address
    published = {**config, "prevResult": result}
    assert machine.plugin("portmap", "ADD", published, **options).status == 0
    held.communicate()
    assert repair.communicate()[0] == b"nothing was missing\n"
    assert run(machine, "CHECK", published, "c2").status == 0
    assert again(machine, "CHECK", first, published["prevResult"], "c2").status == 0
    assert run(machine, "DEL", published, "c2").status == 0
    for name in ("c1", "c2"):
        assert machine.plugin("bridge", "DEL", first, container_id=name, netns=f"/run/netns/{name}").status == 0
    assert machine.run("ls", FOLDER) == ""
    rules = machine.run("sh", "-c", "iptables-save; nft list ruleset")
    assert "10.77.0." not in rules


def waits(pid: int, machine: Machine) -> bool:
    """Whether the process has opened the folder of c1, whose lock it waits for."""
    script = f"ls -l /proc/{pid}/fd /proc/{pid}/task/*/children 2>/dev/null"
    return f"{FOLDER}/c1" in subprocess.run(["sh", "-c", script], capture_output=True, text=True).stdout


def test_repair_leaves_what_has_no_interface_any_more(machine: Machine) -> None:
    """A Go plugin's DEL takes the interface and the rules, and knows of no record."""
    config = bridge(ipMasq=True, ipMasqBackend="nftables")
    attach(machine, config)
    machine.run("ip", "-n", "c1", "link", "delete", "eth0")
    machine.run("nft", "flush", "ruleset")
    assert machine.run(f"{machine.farm}/cnibox", "repair") == "nothing was missing\n"
    assert "10.77.0.2" not in machine.run("nft", "list", "ruleset")


def test_isolation_of_one_ip_version_goes_with_its_last_attachment(machine: Machine) -> None:
    """An IPv6 container of the same bridge needs no rule of iptables' IPv4 table."""
    configs = {}
    for name, subnet in (("c1", "10.77.0.0/24"), ("c2", "fd77::/64")):
        network = bridge(name=f"net-{name}", isGateway=True, ipam={"type": "host-local", "subnet": subnet})
        result = attach(machine, network, name)
        configs[name] = {"cniVersion": "1.1.0", "name": f"net-{name}", "type": "firewall", "backend": "iptables",
                         "ingressPolicy": "same-bridge"}  # fmt: skip
        assert again(machine, "ADD", configs[name], result, name).status == 0
        configs[name]["prevResult"] = result
    assert "cni0" in machine.run("iptables-save", "-t", "filter")
    assert machine.plugin("firewall", "DEL", configs["c1"]).status == 0
    assert "cni0" not in machine.run("iptables-save", "-t", "filter")
    assert "cni0" in machine.run("ip6tables-save", "-t", "filter")
    options = {"container_id": "c2", "netns": "/run/netns/c2"}
    assert machine.plugin("firewall", "DEL", configs["c2"], **options).status == 0
    assert "cni0" not in machine.run("ip6tables-save", "-t", "filter")
