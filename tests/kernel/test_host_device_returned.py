"""host-device: a namespace ends without a DEL, and the kernel brings its device back to the host, under another name.

The kernel does so with hardware. The devices here are ends of veth pairs, for which we do it: down, with its alias.
"""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from tests.kernel.test_host_device import A0, MAC, assert_given_back, delete, is_up, layer2, link, pci_device
from tests.kernel.test_host_device import machine as machine
from tests.support.machine import GO, Machine, links
from tests.support.network import attach, state

PCI = "0000:00:05.0"
OTHER = {"container_id": "c2", "netns": "/run/netns/c2"}
SELECTED: dict[str, dict[str, Any]] = {
    "device": {"device": "a0"},
    "alternative name": {"device": "the-port-at-the-left"},
    "hwaddr": {"hwaddr": MAC},
    "kernelpath": {"kernelpath": "/sys/devices/system"},
    "pciBusID": {"pciBusID": PCI},
    "deviceID": {"runtimeConfig": {"deviceID": PCI}},
    "auxiliary": {"runtimeConfig": {"deviceID": "mlx5_core.sf.4"}},
}
FOLDERS = {
    "kernelpath": "/sys/devices/system",
    "pciBusID": f"/sys/bus/pci/devices/{PCI}",
    "deviceID": f"/sys/bus/pci/devices/{PCI}",
    "auxiliary": "/sys/bus/auxiliary/devices/mlx5_core.sf.4",
}
UNREACHABLE = {
    "type": "static",
    "addresses": [{"address": "10.1.0.2/24"}],
    "routes": [{"dst": "10.9.0.0/16", "gw": "10.8.0.1"}],
}
every_way = pytest.mark.parametrize("way", SELECTED)
every_name = pytest.mark.parametrize("name", ["eth0", "dev7"])


def prepare(machine: Machine, way: str) -> None:
    """Let the device be found in that way."""
    machine.run("ip", "link", "property", "add", "dev", "a0", "altname", "the-port-at-the-left")
    if way in ("pciBusID", "deviceID"):
        pci_device(machine, PCI)
    elif way == "auxiliary":
        machine.run("sh", "-ec", f"mount -t tmpfs none /sys/bus; mkdir -p {FOLDERS[way]}/net/a0")
    elif way == "kernelpath":
        machine.run("sh", "-ec", f"mount -t tmpfs none {FOLDERS[way]}; mkdir -p {FOLDERS[way]}/net/a0")


def end(machine: Machine, name: str, way: str = "device", container: str = "c1") -> None:
    """End a container's namespace without a DEL: its device comes back as `name`."""
    pid = str(machine.process.pid)
    script = f"""
    ip -n {container} link set eth0 down; ip -n {container} link set eth0 name {name}
    ip -n {container} link set {name} netns {pid}; ip netns delete {container}
    """
    machine.run("sh", "-ec", script)
    if way in FOLDERS:
        machine.run("mv", f"{FOLDERS[way]}/net/a0", f"{FOLDERS[way]}/net/{name}")


def settled(machine: Machine, name: str) -> object:
    """The device and everything but the host's links, whose state follows a neighbour's with a delay."""
    found = link(machine, name)
    keys = ("ifindex", "ifname", "address", "mtu", "ifalias", "altnames")
    others = {place: text for place, text in state(machine).items() if place != "host"}
    return [found.get(key) for key in keys], is_up(found), links(machine), others


@every_name
@every_way
@pytest.mark.parametrize("first", ["ours", "go"])
def test_next_add_finds_it(machine: Machine, way: str, name: str, first: str) -> None:
    prepare(machine, way)
    config = layer2(**SELECTED[way], cniVersion="1.0.0")
    if first == "go" and way in ("alternative name", "auxiliary"):
        config = layer2(device="a0", cniVersion="1.0.0")  # Debian's does not know these
    attach(machine, config, farm=GO if first == "go" else machine.farm)
    end(machine, name, way)
    machine.container("c2")
    config = layer2(**SELECTED[way])
    assert machine.plugin("host-device", "STATUS", config, container_id=None, netns=None, ifname=None).status == 0
    added = machine.plugin("host-device", "ADD", config, **OTHER)
    assert added.status == 0, added
    assert added.json["interfaces"][0]["mac"] == MAC
    assert link(machine, "eth0", "c2")["ifalias"] == "a0" and links(machine) == ["b0", "lo"]
    assert machine.plugin("host-device", "CHECK", {**config, "prevResult": added.json}, **OTHER).status == 0
    assert delete(machine, config).status == 0  # the late DEL of c1 takes nothing from c2
    assert link(machine, "eth0", "c2")["ifalias"] == "a0"
    assert delete(machine, config, **OTHER).status == 0
    assert_given_back(machine)


@every_name
@every_way
@pytest.mark.parametrize("first", ["ours", "go"])
def test_late_delete_gives_its_name_back(machine: Machine, way: str, name: str, first: str) -> None:
    prepare(machine, way)
    config = layer2(device="a0", cniVersion="1.0.0")
    attach(machine, config, farm=GO if first == "go" else machine.farm)
    end(machine, name, way)
    netns = "" if name == "eth0" else "/run/netns/c1"
    for _ in range(2):
        assert delete(machine, layer2(**SELECTED[way]), netns=netns).status == 0
        assert_given_back(machine)


@pytest.mark.parametrize("options", [{"device": "a0"}, {"hwaddr": MAC}])
def test_failed_add_leaves_it_as_it_was(machine: Machine, options: dict[str, Any]) -> None:
    attach(machine, A0)
    end(machine, "eth0")
    machine.container("c2")
    untouched = settled(machine, "eth0")
    assert machine.plugin("host-device", "ADD", layer2(**options, ipam=UNREACHABLE), **OTHER).code == 999
    assert settled(machine, "eth0") == untouched


def test_description_of_an_administrator(machine: Machine) -> None:
    """An alias that is not a former name: the device keeps both, in its container and after a failed ADD."""
    machine.run("ip", "link", "set", "a0", "alias", "uplink", "up")
    machine.container("c1")
    untouched = settled(machine, "a0")
    for options in ({"hwaddr": MAC}, {"device": "a0"}):
        assert machine.plugin("host-device", "ADD", layer2(**options, ipam=UNREACHABLE)).code == 999
        assert link(machine, "a0")["ifalias"] == "uplink" and settled(machine, "a0") == untouched
    assert machine.plugin("host-device", "ADD", layer2(device="uplink")).code == 999  # it is up, and in use
    assert delete(machine, layer2(device="uplink")).status == 0
    assert settled(machine, "a0") == untouched
    assert machine.plugin("host-device", "ADD", layer2(hwaddr=MAC)).status == 0
    assert link(machine, "eth0", "c1")["ifalias"] == "a0"
    assert delete(machine).status == 0
    assert_given_back(machine)


def test_another_device_under_the_name_that_is_asked_for(machine: Machine) -> None:
    """eth0 is lent, and the place of its name is taken by one that came back from a container's eth0."""
    machine.run("ip", "link", "add", "eth0", "address", "02:00:00:00:00:0e", "type", "veth", "peer", "name", "far0")
    attach(machine, layer2(device="eth0"))
    attach(machine, A0, "c2")
    end(machine, "eth0", container="c2")
    machine.container("c3")
    outcome = machine.plugin("host-device", "ADD", layer2(device="eth0"), container_id="c3", netns="/run/netns/c3")
    assert outcome.code == 999 and "device eth0 is already in container c1, as eth0" in outcome.json["msg"], outcome
    assert machine.plugin("host-device", "ADD", layer2(device="a0"), container_id="c3", netns="/run/netns/c3").status == 0
    assert link(machine, "eth0", "c3")["address"] == MAC
    assert delete(machine).status == 0
    assert link(machine, "eth0")["address"] == "02:00:00:00:00:0e"


def test_address_changed_in_the_container(machine: Machine) -> None:
    attach(machine, layer2(hwaddr=MAC))
    machine.run("ip", "-n", "c1", "link", "set", "eth0", "address", "02:00:00:00:00:77")
    end(machine, "dev3")
    machine.container("c2")
    assert machine.plugin("host-device", "ADD", layer2(hwaddr=MAC), **OTHER).status == 0
    assert link(machine, "eth0", "c2")["ifalias"] == "a0"
    assert delete(machine, layer2(hwaddr=MAC), **OTHER).status == 0
    assert link(machine, "a0")["address"] == "02:00:00:00:00:77"


def test_add_waits_for_hardware(machine: Machine) -> None:
    """The kernel ends a namespace some time after its last process; a process keeps the namespace here."""
    place = "../../devices/pci0000:00/0000:00:05.0/net/a0"
    machine.run("sh", "-ec", f"mount -t tmpfs none /sys/class/net; ln -s {place} /sys/class/net/a0")
    attach(machine, A0)
    keeper = subprocess.Popen(machine.enter("ip", "netns", "exec", "c1", "sleep", "60"))
    try:
        assert machine.wait_until(lambda: str(keeper.pid) in machine.run("ip", "netns", "pids", "c1").split())
        machine.run("ip", "netns", "delete", "c1")
        come = f"sleep 0.3; nsenter -t {keeper.pid} -n ip link set eth0 down netns {machine.process.pid}"
        coming = subprocess.Popen(machine.enter("sh", "-c", come))
        machine.container("c2")
        added = machine.plugin("host-device", "ADD", layer2(device="a0"), **OTHER)
        assert coming.wait() == 0
        assert added.status == 0, added
        assert delete(machine, layer2(), **OTHER).status == 0
        assert "ifalias" not in link(machine, "a0") and links(machine) == ["a0", "b0", "lo"]
    finally:
        keeper.kill()
        keeper.wait()


@pytest.mark.parametrize("verb", ["DEL", "GC"])
def test_late_delete_of_hardware_does_not_wait_for_what_is_lent_again(machine: Machine, verb: str) -> None:
    place = "../../devices/pci0000:00/0000:00:05.0/net/a0"
    machine.run("sh", "-ec", f"mount -t tmpfs none /sys/class/net; ln -s {place} /sys/class/net/a0")
    machine.run("ip", "link", "set", "a0", "up")
    attach(machine, A0)
    end(machine, "eth0")
    attach(machine, {**A0, "name": "two"}, "c2")
    config = {**A0, "cni.dev/valid-attachments": []}
    watched = ["strace", "-qq", "-f", "-e", "trace=ppoll,poll,select,pselect6", f"{machine.farm}/host-device"]
    outcome = machine.plugin("host-device", verb, config, netns=None, program=watched)
    assert outcome.status == 0 and "Timeout" not in outcome.stderr and "= 0" not in outcome.stderr, outcome
    assert link(machine, "eth0", "c2")["ifalias"] == "a0"


def test_no_namespace_stays_open(machine: Machine) -> None:
    """The device is looked for in the namespace of each record that names it."""
    pid = str(machine.process.pid)
    containers = ("c1", "c2", "c3")
    for name in containers:
        attach(machine, {**A0, "name": name}, name)
        machine.run("sh", "-ec", f"ip -n {name} link set eth0 down netns {pid}; ip link set eth0 name a0 alias ''")
    machine.run("ip", "link", "delete", "a0")
    machine.container("c4")
    watched = ["strace", "-qq", "-y", "-e", "trace=openat,close", f"{machine.farm}/host-device"]
    outcome = machine.plugin("host-device", "ADD", A0, container_id="c4", netns="/run/netns/c4", program=watched)
    assert outcome.code == 999 and "no interface of the host is device a0" in outcome.json["msg"]
    calls = [line for line in outcome.stderr.splitlines() if "/run/netns/" in line]
    for name in containers:
        assert sum(f'"/run/netns/{name}"' in line for line in calls) == 1, outcome.stderr
        assert sum(line.startswith("close(") and f"</run/netns/{name}>" in line for line in calls) == 1, outcome.stderr
