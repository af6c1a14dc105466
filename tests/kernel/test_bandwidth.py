"""bandwidth: what the kernel is told, and how fast packets really are."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import pytest

from tests.support.faulty import REPOSITORY
from tests.support.machine import Machine, Outcome, links
from tests.support.network import attach, bridge, host_local, layer2, ptp, state

pytestmark = pytest.mark.kernel("ifb", "tbf", "ingress", "u32", "mirred")

RECEIVING = {"ingressRate": 8_000_000, "ingressBurst": 800_000}
SENDING = {"egressRate": 8_000_000, "egressBurst": 800_000}
BOTH = {**RECEIVING, **SENDING}
TBF = "rate 8Mbit burst 100000b/1 mpu 0b lat 25ms"
IFB = "bwpf0bca4ac77cd"  # of mynet and c1
REDIRECTION = f"mirred (Egress Redirect to device {IFB}) stolen"

_COUNT = """
import socket, sys, time
server = socket.create_server(("", 5201))
print("ready", flush=True)
peer, total, begin = server.accept()[0], 0, time.monotonic() + 1
while (now := time.monotonic()) < begin + float(sys.argv[1]):
    size = len(peer.recv(65536))
    total += size if now > begin else 0
print(total * 8 / float(sys.argv[1]))
"""
_POUR = """
import socket, sys
peer = socket.create_connection((sys.argv[1], 5201))
try:
    while True:
        peer.send(bytes(65536))
except OSError:
    pass
"""


def rate(machine: Machine, sender: str, receiver: str, address: str, seconds: float = 3) -> float:
    """Bit/s of payload that arrive by TCP, from one second after the beginning on, when the burst is spent."""
    words = [["ip", "netns", "exec", name, sys.executable, "-c"] for name in (receiver, sender)]
    counting = subprocess.Popen(machine.enter(*words[0], _COUNT, str(seconds)), stdout=subprocess.PIPE, text=True)
    assert counting.stdout is not None and counting.stdout.readline() == "ready\n"
    pouring = subprocess.Popen(machine.enter(*words[1], _POUR, address))
    found = float(counting.communicate(timeout=60)[0])
    pouring.wait(timeout=60)
    return found


def config(result: Any, **options: Any) -> dict[str, Any]:
    return {"cniVersion": "1.1.0", "name": "mynet", "type": "bandwidth", "prevResult": result, **options}


def run(machine: Machine, command: str, result: Any, *, environ: Any = None, **options: Any) -> Outcome:
    return machine.plugin("bandwidth", command, config(result, **options), **(environ or {}))


def limited(machine: Machine, network: dict[str, Any], **options: Any) -> tuple[Any, Any]:
    """The results of the plugin before, and of bandwidth."""
    before = attach(machine, network)
    outcome = run(machine, "ADD", before, **options)
    assert (outcome.status, outcome.stderr) == (0, ""), outcome
    return before, outcome.json


def near(result: Any) -> str:
    return next(each["name"] for each in result["interfaces"] if each["name"].startswith("veth"))


def queues(machine: Machine) -> str:
    """Everything but what a link without limits has, and the kernel's running number of an action."""
    shown = machine.run("tc", "-d", "qdisc", "show")
    filters = [machine.run("tc", "filter", "show", "dev", name, "ingress") for name in links(machine)]
    limits = "".join(line for line in shown.splitlines(keepends=True) if "noqueue" not in line)
    return limits + re.sub(r"\bindex \d+ ", "", "".join(filters))


# --- traffic


@pytest.mark.parametrize("direction", ["receiving", "sending"])
def test_limit_holds(machine: Machine, direction: str) -> None:
    network = bridge(ipam=host_local("10.77.0.0/24"))
    limited(machine, network, **(RECEIVING if direction == "receiving" else SENDING))
    attach(machine, network, "c2")
    ways = {"receiving": ("c2", "c1", "10.77.0.2"), "sending": ("c1", "c2", "10.77.0.3")}
    assert rate(machine, *ways.pop(direction)) == pytest.approx(8e6, rel=0.15)
    [other] = ways.values()
    assert rate(machine, *other, seconds=0.5) > 80e6


def test_limit_holds_both_ways_after_ptp(machine: Machine) -> None:
    limited(machine, ptp(ipam=host_local("10.77.0.0/24")), **BOTH)
    attach(machine, ptp(ipam=host_local("10.77.0.0/24")), "c2")
    assert rate(machine, "c2", "c1", "10.77.0.2") == pytest.approx(8e6, rel=0.15)
    assert rate(machine, "c1", "c2", "10.77.0.3") == pytest.approx(8e6, rel=0.15)


# --- ADD


def test_what_the_kernel_is_told(machine: Machine) -> None:
    before, result = limited(machine, layer2(mtu=1400), **BOTH)
    ifb = machine.ip("-d", "link", "show", IFB)[0]
    assert (ifb["mtu"], ifb["linkinfo"]["info_kind"], ifb.get("txqlen", 0)) == (1400, "ifb", 0)
    assert {"UP", "LOWER_UP"} <= set(ifb["flags"])
    added = {"name": IFB, "mac": ifb["address"], "mtu": 1400}
    assert result == {**before, "interfaces": [*before["interfaces"], added]}
    shown = queues(machine)
    assert f"qdisc tbf 1: dev {near(before)} root refcnt 3 {TBF}" in shown
    assert f"qdisc tbf 1: dev {IFB} root refcnt 2 {TBF}" in shown
    assert f"qdisc ingress ffff: dev {near(before)}" in shown
    assert "protocol all pref 1 u32 chain 0 fh 800::800" in shown and "flowid 1:1" in shown
    assert shown.count(REDIRECTION) == 1


def test_receiving_alone_makes_no_link(machine: Machine) -> None:
    before, result = limited(machine, layer2(), **RECEIVING)
    assert result == before
    assert queues(machine) == f"qdisc tbf 1: dev {near(before)} root refcnt 3 {TBF} linklayer ethernet \n"


def test_without_limits_nothing_is_touched(machine: Machine) -> None:
    before = attach(machine, layer2())
    untouched = state(machine)
    none = {"ingressRate": 0, "ingressBurst": 0}
    for options in ({}, none, {"runtimeConfig": {"bandwidth": {}}}, {**none, "runtimeConfig": {"bandwidth": BOTH}}):
        for verb in ("ADD", "CHECK", "DEL"):
            outcome = run(machine, verb, before, **options)
            assert outcome.status == 0, outcome
            assert verb != "ADD" or outcome.json == before
    assert state(machine) == untouched and queues(machine) == ""


def test_limits_from_the_runtime(machine: Machine) -> None:
    limited(machine, layer2(), runtimeConfig={"bandwidth": BOTH}, capabilities={"bandwidth": True})
    assert queues(machine).count(TBF) == 2


def test_one_of_the_four_in_the_configuration_counts_alone(machine: Machine) -> None:
    limited(machine, layer2(), **RECEIVING, runtimeConfig={"bandwidth": SENDING})
    assert queues(machine).count(TBF) == 1 and IFB not in links(machine)


def test_latency(machine: Machine) -> None:
    limited(machine, layer2(), **RECEIVING, latency=100)
    assert "lat 100ms" in queues(machine)


def test_rate_of_more_than_32_bits(machine: Machine) -> None:
    options = {"ingressRate": 80_000_000_000, "ingressBurst": 8_000_000_000}
    before, result = limited(machine, layer2(), **options)
    assert "rate 80Gbit burst" in queues(machine)
    assert run(machine, "CHECK", result, **options).status == 0
    assert near(before) == near(result)


def test_repeated_add_replaces(machine: Machine) -> None:
    before, _ = limited(machine, layer2(), **BOTH)
    more = {**BOTH, "ingressRate": 16_000_000, "egressRate": 16_000_000}
    outcome = run(machine, "ADD", before, **more)
    assert outcome.status == 0, outcome
    shown = queues(machine)
    assert shown.count("rate 16Mbit") == 2 and shown.count(REDIRECTION) == 1
    assert run(machine, "CHECK", outcome.json, **more).status == 0
    assert run(machine, "ADD", before, **SENDING).status == 0
    assert f"dev {near(before)} root" not in queues(machine)
    assert run(machine, "ADD", before, **RECEIVING).status == 0
    assert IFB not in links(machine) and queues(machine).count("qdisc") == 1
    assert run(machine, "DEL", before, **RECEIVING).status == 0
    assert queues(machine) == ""


def test_repeated_add_without_limits_takes_them_away(machine: Machine) -> None:
    """With the record: nothing is left for DEL, and GC."""
    before = attach(machine, layer2())
    untouched = state(machine)
    for first in (BOTH, RECEIVING, SENDING):
        for none in ({}, {"ingressRate": 0, "ingressBurst": 0, "egressRate": 0, "egressBurst": 0}):
            assert run(machine, "ADD", before, **first).status == 0
            outcome = run(machine, "ADD", before, **none)
            assert outcome.status == 0 and outcome.json == before, outcome
            assert queues(machine) == "" and state(machine) == untouched
            assert run(machine, "CHECK", before, **none).status == 0


def test_repeated_add_without_limits_after_another_container_of_that_name(machine: Machine) -> None:
    """Whose DEL never came. Its ifb goes; the interface that there is now was never limited."""
    limited(machine, layer2(), **BOTH)
    machine.run("ip", "netns", "delete", "c1")
    before = attach(machine, layer2())
    assert IFB in links(machine)
    assert run(machine, "ADD", before).status == 0
    assert queues(machine) == "" and IFB not in links(machine)


@pytest.mark.parametrize("again", [RECEIVING, SENDING, {}], ids=["receiving", "sending", "none"])
def test_failed_repeated_add_brings_back_what_it_took_away(machine: Machine, again: Any) -> None:
    """Whose result cannot be printed."""
    before, result = limited(machine, layer2(mtu=1400), **BOTH)
    shown, untouched = queues(machine), state(machine)
    program = ["sh", "-c", f"exec {machine.farm}/bandwidth >/dev/full"]
    outcome = machine.plugin("bandwidth", "ADD", config(before, **again), program=program)
    assert outcome.status == 1
    assert queues(machine) == shown and state(machine) == untouched
    assert run(machine, "CHECK", result, **BOTH).status == 0
    assert run(machine, "DEL", result, **BOTH).status == 0
    assert queues(machine) == "" and IFB not in links(machine)


def test_failed_repeated_add_leaves_the_first(machine: Machine) -> None:
    """The ingress of the host's end has got another filter meanwhile."""
    before, result = limited(machine, layer2(), **BOTH)
    script = f"tc filter add dev {near(before)} ingress prio 5 protocol ip u32 match u32 1 1 flowid 1:1"
    machine.run("sh", "-c", script)
    shown = queues(machine)
    outcome = run(machine, "ADD", before, **{**BOTH, "ingressRate": 16_000_000, "egressRate": 16_000_000})
    assert outcome.status == 1 and "with other filters already" in outcome.json["msg"]
    assert queues(machine) == shown
    assert run(machine, "CHECK", result, **BOTH).status == 1
    assert run(machine, "DEL", result, **BOTH).status == 0
    assert queues(machine) == ""


def test_two_interfaces_of_one_network(machine: Machine) -> None:
    """The reference has one name for both ifbs, and the second ADD fails."""
    before, _ = limited(machine, layer2(), **BOTH)
    eth1 = {"ifname": "eth1"}
    second = machine.plugin("bridge", "ADD", layer2(), **eth1)
    assert second.status == 0, second
    outcome = run(machine, "ADD", second.json, environ=eth1, **BOTH)
    assert outcome.status == 0, outcome
    other = outcome.json["interfaces"][-1]["name"]
    assert other.startswith("bwp") and len(other) == 15 and other != IFB
    assert run(machine, "CHECK", outcome.json, environ=eth1, **BOTH).status == 0
    assert run(machine, "DEL", outcome.json, environ=eth1, **BOTH).status == 0
    assert IFB in links(machine) and other not in links(machine)
    assert queues(machine).count(TBF) == 2
    assert run(machine, "DEL", before, **BOTH).status == 0
    assert queues(machine) == ""


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"ingressRate": 1000}, "if rate is set, burst must also be set"),
        ({"egressBurst": 1000}, "if burst is set, rate must also be set"),
        ({"egressRate": 1000, "egressBurst": 8 << 32}, "burst cannot be more than 4GB"),
        ({"egressRate": 7, "egressBurst": 1000}, "at least 8 bit/s"),
        ({"runtimeConfig": {"bandwidth": {"ingressRate": 1000}}}, "if rate is set, burst must also be set"),
        ({"egressRate": -1}, '"egressRate"'),
        ({"runtimeConfig": {"bandwidth": {"egressRate": "1"}}}, '"runtimeConfig.bandwidth.egressRate"'),
        ({**BOTH, "latency": 0}, '"latency"'),
    ],
)
def test_wrong_limits(machine: Machine, options: Any, text: str) -> None:
    before = attach(machine, layer2())
    untouched = state(machine)
    outcome = run(machine, "ADD", before, **options)
    assert outcome.code == 7 and text in outcome.json["msg"], outcome
    assert state(machine) == untouched
    assert run(machine, "DEL", before, **options).status == 0


def test_needs_a_veth_to_the_host(machine: Machine) -> None:
    netns = machine.container("c1")
    machine.container("c2")
    script = """
    ip link add name a0 type ifb; ip link set a0 netns c1
    ip -n c1 link add name near type veth peer name there netns c2
    ip -n c1 link add name in type veth peer name out
    """
    machine.run("sh", "-ec", script)
    previous = {"cniVersion": "1.1.0", "interfaces": [{"name": "a0", "sandbox": netns}]}
    for name in ("a0", "near", "in"):
        outcome = run(machine, "ADD", previous, environ={"ifname": name}, **BOTH)
        assert "no veth with its other end on the host" in outcome.json["msg"], outcome
    outcome = run(machine, "ADD", previous, **BOTH)
    assert "eth0 is not in" in outcome.json["msg"]
    outcome = run(machine, "ADD", None, **BOTH)
    assert outcome.code == 7 and "chained plugin" in outcome.json["msg"]
    assert queues(machine) == ""


def test_somebody_elses_discipline_stays(machine: Machine) -> None:
    before = attach(machine, layer2())
    machine.run("tc", "qdisc", "add", "dev", near(before), "root", "handle", "5:", "pfifo")
    shown = queues(machine)
    outcome = run(machine, "ADD", before, **BOTH)
    assert outcome.status == 1 and "pfifo 5: already" in outcome.json["msg"]
    assert run(machine, "DEL", before, **BOTH).status == 0
    assert queues(machine) == shown


def test_clsact_stays(machine: Machine) -> None:
    before = attach(machine, layer2())
    machine.run("tc", "qdisc", "add", "dev", near(before), "clsact")
    shown = queues(machine)
    outcome = run(machine, "ADD", before, **BOTH)
    assert outcome.status == 1 and "discipline clsact" in outcome.json["msg"], outcome
    assert run(machine, "DEL", before, **BOTH).status == 0
    assert queues(machine) == shown


# --- CHECK


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        ("tc qdisc delete dev {near} root", "discipline of {near} is noqueue, not tbf"),
        ("tc qdisc replace dev {near} root handle 7: pfifo", "discipline of {near} is pfifo, not tbf"),
        ("tc qdisc change dev {near} root handle 1: tbf rate 9mbit burst 100000 latency 25ms", "{near} is limited to rate"),
        ("tc qdisc change dev {near} root handle 1: tbf rate 8mbit burst 100000 latency 30ms", "limit 130000 bytes"),
        ("tc qdisc change dev {ifb} root handle 1: tbf rate 8mbit burst 90000 latency 25ms", "{ifb} is limited to rate"),
        ("tc qdisc delete dev {ifb} root", "discipline of {ifb} is noqueue, not tbf"),
        ("ip link set {ifb} down", "{ifb} is down"),
        ("ip link delete {ifb}", "{ifb}, through which the container sends, is not there"),
        ("tc qdisc delete dev {near} ingress", "{near} has no queueing discipline at its ingress"),
        ("tc filter delete dev {near} ingress", "not diverted to {ifb}: its filters lead to nowhere"),
    ],
)  # fmt: skip
def test_check_finds(machine: Machine, damage: str, text: str) -> None:
    before, result = limited(machine, layer2(), **BOTH)
    assert run(machine, "CHECK", result, **BOTH).status == 0
    names = {"near": near(before), "ifb": IFB}
    machine.run(*damage.format(**names).split())
    outcome = run(machine, "CHECK", result, **BOTH)
    assert outcome.code == 999 and text.format(**names) in outcome.json["msg"], outcome
    assert run(machine, "DEL", result, **BOTH).status == 0
    assert [line for line in queues(machine).splitlines() if "pfifo" not in line] == []


# --- DEL and GC


@pytest.mark.parametrize("case", ["as it was", "no netns", "no prevResult", "netns gone", "wrong limits"])
def test_del(machine: Machine, case: str) -> None:
    before = attach(machine, layer2())
    untouched = state(machine)
    result = run(machine, "ADD", before, **BOTH).json
    options = {"ingressRate": "x"} if case == "wrong limits" else BOTH
    if case == "netns gone":
        machine.run("ip", "netns", "delete", "c1")
    environ = {"netns": ""} if case == "no netns" else {}
    for _ in range(2):
        outcome = run(machine, "DEL", None if case == "no prevResult" else result, environ=environ, **options)
        assert (outcome.status, outcome.stdout) == (0, ""), outcome
    assert queues(machine) == "" and IFB not in links(machine)
    if case != "netns gone":
        assert state(machine) == untouched


@pytest.mark.parametrize("case", ["as it was", "no netns", "no prevResult"])
def test_del_of_what_go_made(machine: Machine, case: str) -> None:
    """Its ifb is found by its name; the host's end by the container's, or in the previous result."""
    previous = layer2(cniVersion="1.0.0")
    machine.container("c1")
    given = {"cniVersion": "1.0.0", **BOTH}
    before = machine.go("bridge", "ADD", previous).json
    assert machine.wait_until(lambda: {link["operstate"] for link in machine.ip("link")} == {"UP", "UNKNOWN"})
    machine.run("ip", "link", "set", near(before), "txqueuelen", "1000")  # which the kernel does for a tbf, for ever
    untouched = state(machine)
    result = machine.go("bandwidth", "ADD", config(before, **given)).json
    assert result["interfaces"][-1]["name"] == IFB
    assert run(machine, "CHECK", result, **given).status == 0
    environ = {"netns": ""} if case == "no netns" else {}
    outcome = run(machine, "DEL", None if case == "no prevResult" else result, environ=environ, **given)
    assert outcome.status == 0, outcome
    assert queues(machine) == "" and state(machine) == untouched


def test_go_deletes_what_we_made(machine: Machine) -> None:
    """All that it makes; it leaves the host's end as it is, also its own."""
    machine.container("c1")
    given = {"cniVersion": "1.0.0", **BOTH}
    before = machine.plugin("bridge", "ADD", layer2(cniVersion="1.0.0")).json
    result = run(machine, "ADD", before, **given).json
    assert machine.go("bandwidth", "CHECK", config(result, **given)).status == 0
    assert machine.go("bandwidth", "DEL", config(result, **given)).status == 0
    assert IFB not in links(machine)
    assert run(machine, "ADD", before, **given).status == 0  # what leads nowhere is replaced
    assert queues(machine).count(REDIRECTION) == 1
    assert run(machine, "DEL", result, **given).status == 0
    assert queues(machine) == ""


def test_burst_of_the_kubelet(machine: Machine) -> None:
    """2^31 - 1 bits: at 1 Mbit/s more seconds than the kernel can count. The Go plugin's bucket is another; both pass."""
    machine.container("c1")
    given = {"cniVersion": "1.0.0", "egressRate": 1_000_000, "egressBurst": 2**31 - 1}
    before = machine.plugin("bridge", "ADD", layer2(cniVersion="1.0.0")).json
    result = machine.go("bandwidth", "ADD", config(before, **given)).json
    assert run(machine, "CHECK", result, **given).status == 0
    assert run(machine, "ADD", before, **given).status == 0
    assert run(machine, "CHECK", result, **given).status == 0
    assert "burst 34359738b" in queues(machine)  # 274.9 s at that rate
    assert run(machine, "DEL", result, **given).status == 0


def test_gc(machine: Machine) -> None:
    before = attach(machine, layer2())
    untouched = state(machine)
    result = run(machine, "ADD", before, **BOTH).json
    entry = {"containerID": "c1", "ifname": "eth0"}
    for valid, left in (([entry], 2), ([], 0)):
        outcome = run(machine, "GC", None, **{"cni.dev/valid-attachments": valid}, **BOTH)
        assert outcome.status == 0, outcome
        assert queues(machine).count(TBF) == left
    assert state(machine) == untouched
    assert result["interfaces"][-1]["name"] not in links(machine)


def test_status(machine: Machine) -> None:
    before = state(machine)
    assert run(machine, "STATUS", None).status == 0
    assert run(machine, "STATUS", None, ingressRate=5).code == 7
    assert state(machine) == before and queues(machine) == ""


_WITHOUT = """
sysctl -qw kernel.modprobe=/bin/false
trap 'sysctl -qw kernel.modprobe=/sbin/modprobe' EXIT
rmmod {module}
folder=/lib/modules/$(uname -r)
cp $folder/modules.builtin /run/ && grep -v /{module}.ko $folder/modules.dep >/run/modules.dep
mount -t tmpfs modules $folder && cp /run/modules.* $folder
CNI_COMMAND=STATUS CNI_PATH={farm} {farm}/bandwidth || true
"""


@pytest.mark.kernel("uml")
@pytest.mark.parametrize("module", ["ifb", "sch_tbf", "sch_ingress", "act_mirred", "cls_u32"])
def test_status_names_what_the_kernel_lacks(machine: Machine, module: str) -> None:
    """A module that has been taken out of it, and cannot be loaded again."""
    asked = json.dumps(config(None)).encode()
    assert (
        machine.run(f"{machine.farm}/bandwidth", stdin=asked, env={"CNI_COMMAND": "STATUS", "CNI_PATH": machine.farm})
        == ""
    )
    script = _WITHOUT.format(module=module, farm=machine.farm)
    told = json.loads(machine.run("sh", "-ec", script, stdin=asked))
    assert told["code"] == 50 and f"this kernel lacks {module}, by which" in told["msg"], told
    assert f"modprobe {module})" in told["details"]


_ASK = f"""
import sys
sys.path.insert(0, {str(REPOSITORY)!r})
from cnibox.host import qdisc_kinds
from cnibox.host.namespace import Machine
host = Machine("").host
print([qdisc_kinds.knows(host, kind) for kind in ("tbf", "ingress", "nonsense")])
print([qdisc_kinds.knows_action(host, kind) for kind in ("mirred", "nonsense")])
"""


def test_what_the_kernel_has_is_asked_for_without_a_change(machine: Machine) -> None:
    before = state(machine)
    assert machine.run(sys.executable, "-c", _ASK) == "[True, True, False]\n[True, False]\n"
    assert state(machine) == before and queues(machine) == ""
