"""What one exec of a plugin may cost: modules imported, processes started, files written, memory, the file's size."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.machine import Machine, Outcome
from tests.support.network import bridge, host_local, ptp
from tests.support.ports import mapping, portmap
from tests.support.uplink import KERNEL as MAIN_KERNEL
from tests.support.uplink import network

INTERPRETER = {"_socket", "_struct", "errno", "fcntl", "gc", "select"}
"""Built into Debian's interpreter: importing one reads no file. Every plugin has these, beyond a bare start."""
HASH = {"_sha512"}  # of the names of rules

LOOPBACK = {"cniVersion": "1.1.0", "name": "mynet", "type": "loopback"}
LEASES = {"cniVersion": "1.1.0", "name": "mynet", "type": "host-local", "ipam": host_local()}
HOST_DEVICE = {"cniVersion": "1.1.0", "name": "mynet", "type": "host-device", "device": "a0", "ipam": host_local()}
TAP = {"cniVersion": "1.1.0", "name": "mynet", "type": "tap", "owner": 107, "group": 107, "ipam": host_local()}
MACVLAN, IPVLAN, VLAN = (network(plugin, "a0") for plugin in ("macvlan", "ipvlan", "vlan"))
DUMMY = network("dummy")
GIVEN = {"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "sandbox": "/run/netns/c1"}]}
SBR = {"cniVersion": "1.1.0", "name": "mynet", "type": "sbr",
       "prevResult": {**GIVEN, "ips": [{"address": "10.77.0.5/24", "gateway": "10.77.0.1", "interface": 0}]}}  # fmt: skip
VRF = {**SBR, "type": "vrf", "vrfname": "red"}
KERNEL = {**MAIN_KERNEL, "vrf": ("vrf",)}
TUNING = {"cniVersion": "1.1.0", "name": "mynet", "type": "tuning", "prevResult": GIVEN, "mtu": 1400,
          "sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "1"}}  # fmt: skip
BANDWIDTH = {"cniVersion": "1.1.0", "name": "mynet", "type": "bandwidth", "prevResult": GIVEN,
             "egressRate": 80000, "egressBurst": 80000}  # fmt: skip
IPTABLES = bridge(ipMasq=True, ipMasqBackend="iptables")
NFTABLES = bridge(ipMasq=True, ipMasqBackend="nftables")
ADDRESSED = {"cniVersion": "1.1.0", "ips": [{"address": "10.77.0.5/24"}, {"address": "fd77::5/64"}]}
PORTMAP = portmap(mapping(), prevResult=ADDRESSED)
PORTMAP_UDP = portmap(mapping(), mapping(53, 53, "udp"), prevResult=ADDRESSED, backend="nftables")

_TELL_MODULES = """
import posix, sys
_stop = posix._exit
def _exit(status):
    of_ours = [name for name in sys.modules if name.startswith("cnibox")]
    waiting = [name for name in of_ours if "__getattr__" in vars(sys.modules[name])]
    run = sys.modules.keys() - set(waiting)
    posix.write(2, b"MODULES " + " ".join(run).encode())
    _stop(status)
posix._exit = _exit
"""


def shebang(farm: str) -> tuple[str, str]:
    """The interpreter of a stamped file, and the code that its first line gives it."""
    with open(f"{farm}/cnibox", "rb") as file:
        interpreter, code = file.readline().decode().removeprefix("#!").rstrip("\n").split(" -ISc", 1)
    return interpreter, code


def modules(machine: Machine, plugin: str, command: str, config: Any, **options: Any) -> set[str]:
    """What has been run by the end of an exec, and had not at its beginning; a stamp runs modules when they are used."""
    interpreter, code = shebang(machine.farm)
    program = [interpreter, "-ISc", _TELL_MODULES + code, f"{machine.farm}/{plugin}"]
    outcome = machine.plugin(plugin, command, config, program=program, **options)
    assert outcome.status == 0, outcome
    bare = subprocess.run(
        [interpreter, "-ISc", "import sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    ).stdout
    return set(outcome.stderr.partition("MODULES ")[2].split()) - set(bare.split())


def ours(found: set[str]) -> set[str]:
    return {name.removeprefix("cnibox.") for name in found if name.startswith("cnibox.")}


PORTMAP_IPTABLES = {f"wiring.portmap.iptables{part}" for part in ("", "_rules", "_shared", "_taken")}
PORTMAP_NFTABLES = {"wiring.portmap.nftables", "wiring.portmap.nftables_shared"}
CONNTRACK = "host.netlink.conntrack"
BRIDGE = {"plugins.main.bridge", "plugins.ipam.host_local"}
SCENARIOS = [
    ("bridge", "VERSION", {}, set(), set()),
    ("host-local", "ADD", LEASES, set(), {"plugins.ipam.host_local"}),
    ("host-local", "DEL", LEASES, set(), {"plugins.ipam.host_local"}),
    ("loopback", "ADD", LOOPBACK, set(), {"plugins.main.loopback"}),
    ("loopback", "DEL", LOOPBACK, set(), {"plugins.main.loopback"}),
    ("bridge", "ADD", bridge(), HASH, BRIDGE),
    ("bridge", "ADD", IPTABLES, HASH, BRIDGE | {"wiring.masquerade.iptables"}),
    ("bridge", "ADD", NFTABLES, HASH, BRIDGE | {"wiring.masquerade.nftables"}),
    ("bridge", "DEL", bridge(), HASH, BRIDGE),
    ("macvlan", "ADD", MACVLAN, set(), {"plugins.main.macvlan", "plugins.ipam.host_local"}),
    ("macvlan", "DEL", MACVLAN, set(), {"plugins.main.macvlan", "plugins.ipam.host_local"}),
    ("ipvlan", "ADD", IPVLAN, set(), {"plugins.main.ipvlan", "plugins.ipam.host_local"}),
    ("ipvlan", "DEL", IPVLAN, set(), {"plugins.main.ipvlan", "plugins.ipam.host_local"}),
    ("vlan", "ADD", VLAN, set(), {"plugins.main.vlan", "plugins.ipam.host_local"}),
    ("vlan", "DEL", VLAN, set(), {"plugins.main.vlan", "plugins.ipam.host_local"}),
    ("dummy", "ADD", DUMMY, set(), {"plugins.main.dummy", "plugins.ipam.host_local"}),
    ("dummy", "DEL", DUMMY, set(), {"plugins.main.dummy", "plugins.ipam.host_local"}),
    ("host-device", "ADD", HOST_DEVICE, set(), {"plugins.main.host_device", "plugins.ipam.host_local"}),
    ("host-device", "DEL", HOST_DEVICE, set(), {"plugins.main.host_device", "plugins.ipam.host_local"}),
    ("tap", "ADD", TAP, set(), {"plugins.main.tap", "plugins.ipam.host_local"}),
    ("tap", "DEL", TAP, set(), {"plugins.main.tap", "plugins.ipam.host_local"}),
    ("tuning", "ADD", TUNING, set(), {"plugins.meta.tuning"}),
    ("tuning", "DEL", TUNING, set(), {"plugins.meta.tuning"}),
    ("bandwidth", "ADD", BANDWIDTH, HASH, {"plugins.meta.bandwidth"}),
    ("bandwidth", "DEL", BANDWIDTH, HASH, {"plugins.meta.bandwidth"}),
    ("portmap", "ADD", {**PORTMAP, "runtimeConfig": {}}, HASH, {"plugins.meta.portmap"}),
    ("portmap", "ADD", PORTMAP, HASH, {"plugins.meta.portmap", *PORTMAP_IPTABLES}),
    ("portmap", "ADD", PORTMAP_UDP, HASH, {"plugins.meta.portmap", *PORTMAP_NFTABLES, CONNTRACK}),
    ("ptp", "ADD", ptp(), HASH, {"plugins.main.ptp", "plugins.ipam.host_local"}),
    ("ptp", "DEL", ptp(), HASH, {"plugins.main.ptp", "plugins.ipam.host_local"}),
    ("sbr", "ADD", SBR, set(), {"plugins.meta.sbr"}),
    ("sbr", "DEL", SBR, set(), {"plugins.meta.sbr"}),
    ("vrf", "ADD", VRF, set(), {"plugins.meta.vrf"}),
    ("vrf", "DEL", VRF, set(), {"plugins.meta.vrf"}),
]


def marked(plugin: str, *values: Any, name: str) -> Any:
    """A test's parameters, with the mark that the plugin needs."""
    return pytest.param(*values, marks=pytest.mark.kernel(*KERNEL.get(plugin, ())), id=name)


def make_what_an_earlier_plugin_does(machine: Machine, plugin: str) -> None:
    if plugin in ("tuning", "bandwidth", "sbr", "vrf"):
        machine.run("ip", "link", "add", "near0", "up", "type", "veth", "peer", "name", "eth0", "netns", "c1")
        machine.run("ip", "-n", "c1", "link", "set", "eth0", "up")
        machine.run("ip", "-n", "c1", "address", "add", "10.77.0.5/24", "dev", "eth0")


@pytest.mark.parametrize(
    "plugin, command, config, library, parts",
    [marked(row[0], *row, name=f"{row[0]}-{row[1]}-{row[2].get('ipMasqBackend', '')}") for row in SCENARIOS],
)
def test_modules_imported(
    machine: Machine, plugin: str, command: str, config: Any, library: set[str], parts: set[str]
) -> None:
    """Nothing but the interpreter's own modules and ourselves; of our plugins and backends only those asked for."""
    machine.container("c1")
    machine.run("ip", "link", "add", "a0", "up", "type", "veth", "peer", "name", "b0")
    make_what_an_earlier_plugin_does(machine, plugin)
    found = modules(machine, plugin, command, config)
    foreign = {name for name in found if name.partition(".")[0] != "cnibox"}
    assert foreign <= INTERPRETER | library and foreign >= INTERPRETER
    chosen = {
        name
        for name in ours(found)
        if re.match(r"plugins\.\w+\.|wiring\.(masquerade|portmap)\.(ip|nf)tables|host\.netlink\.conntrack", name)
    }
    assert chosen == parts
    assert not {name for name in ours(found) if name.startswith(("cli", "runtime"))}
    assert not {"wiring.leases.report", "wiring.vlans", "spec.described", "host.vlans"} & ours(found)
    assert ("host.netlink.tc" in ours(found)) == (plugin == "bandwidth")


# --- processes and files


def strace(machine: Machine, tmp_path: Path, events: str, plugin: str, command: str, config: Any) -> list[str]:
    """The system calls of a plugin and of what it starts, as strace writes them; its ADD or DEL must succeed."""
    log = tmp_path / "strace"
    program = ["strace", "-f", "-qq", "-o", str(log), "-e", f"trace={events}", "-s", "300", f"{machine.farm}/{plugin}"]
    outcome = machine.plugin(plugin, command, config, program=program)
    assert outcome.status == 0, outcome
    return log.read_text().splitlines()


def started(lines: list[str]) -> list[str]:
    """The programs that were executed besides the first."""
    executed = [line.split('"')[1] for line in lines if ' execve("' in line and " = -1 " not in line]
    return [path.rpartition("/")[2] for path in executed[1:]]


def plugin_processes(machine: Machine, tmp_path: Path, command: str, config: Any) -> tuple[list[str], int]:
    """(programs executed, processes and threads created) by one exec."""
    lines = strace(machine, tmp_path, "execve,clone,clone3,fork,vfork", config["type"], command, config)
    created = [line for line in lines if re.search(r"\b(clone3?|v?fork)\(", line) and "resumed" not in line]
    return started(lines), len(created)


V4_ONLY = host_local("10.77.0.0/24")
BOTH, ONLY_V4 = ["ip6tables-restore", "iptables-restore"], ["iptables-restore"]
PROCESSES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "bridge": (bridge(), []),
    "ptp": (ptp(), []),
    "nftables": (NFTABLES, []),
    "tap": (TAP, []),
    "host-device": (HOST_DEVICE, []),
    "macvlan": (MACVLAN, []),
    "ipvlan": (IPVLAN, []),
    "vlan": (VLAN, []),
    "dummy": (DUMMY, []),
    "loopback": (LOOPBACK, []),
    "host-local": (LEASES, []),
    "tuning": (TUNING, []),
    "bandwidth": (BANDWIDTH, []),
    "sbr": (SBR, []),
    "vrf": (VRF, []),
    "iptables": (IPTABLES, BOTH),
    "iptables-v4": ({**IPTABLES, "ipam": V4_ONLY}, ONLY_V4),
    "default": (bridge(ipMasq=True), BOTH),
    "portmap": (PORTMAP, BOTH),
    "portmap-v4": ({**PORTMAP, "runtimeConfig": {"portMappings": [mapping(host_ip="0.0.0.0")]}}, ONLY_V4),
    "portmap-none": ({**PORTMAP, "runtimeConfig": {}}, []),
    "portmap-nftables": (PORTMAP_UDP, []),
}


@pytest.mark.parametrize(
    "config, expected",
    [marked(config["type"], config, programs, name=name) for name, (config, programs) in PROCESSES.items()],
)
@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_processes_started(machine: Machine, tmp_path: Path, command: str, config: Any, expected: list[str]) -> None:
    """One process, and one for each IP version's rules by iptables.

    A tap with `selinuxContext`, which is not here, forks once: there is no way back from that context (host/tuntap.py).
    """
    machine.container("c1")
    machine.run("ip", "link", "add", "a0", "up", "type", "veth", "peer", "name", "b0")
    make_what_an_earlier_plugin_does(machine, config["type"])
    if command == "DEL":
        assert machine.plugin(config["type"], "ADD", config).status == 0
    programs, count = plugin_processes(machine, tmp_path, command, config)
    assert sorted(programs) == expected
    assert count == len(expected)


STATE = ("/run/cnibox/", "/var/lib/cni/networks/", "/proc/sys/net/")


@pytest.mark.parametrize("config", [bridge(), ptp(), NFTABLES], ids=["bridge", "ptp", "nftables"])
def test_files_written(machine: Machine, tmp_path: Path, config: Any) -> None:
    """Only state, and sysctls: no cache of bytecode, nothing in /tmp, nothing beside the file itself."""
    machine.container("c1")
    calls = "open,openat,creat,mkdir,mkdirat,/rename,/^(sym)?link(at)?$,unlink,unlinkat,truncate"
    written = set()
    for command in ("ADD", "DEL"):
        for line in strace(machine, tmp_path, calls, config["type"], command, config):
            reads = re.search(r"\bopen(at)?\(", line) and not re.search(r"O_(WRONLY|RDWR|CREAT|TRUNC)", line)
            if not reads and " = -1 " not in line:
                written.update(path for path in re.findall(r'"([^"]*)"', line) if path.startswith("/"))
    folders = {folder.rstrip("/") for folder in STATE} | {"/run/cnibox", "/var/lib/cni", "/dev/null"}
    assert not {path for path in written if not path.startswith(STATE) and path not in folders}


# --- memory and size


_MEASURE = """
import os, sys
process = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
print(os.wait4(process, 0)[2].ru_maxrss, file=sys.stderr)
"""


@pytest.mark.parametrize("config", [IPTABLES, NFTABLES, bridge()], ids=["iptables", "nftables", "none"])
def test_peak_memory_of_a_bridge_add(machine: Machine, config: Any) -> None:
    """At most 16 MB, and of that more than half the interpreter's own."""
    machine.container("c1")
    program = ["/usr/bin/python3", "-ISc", _MEASURE, f"{machine.farm}/bridge"]
    outcome = machine.plugin("bridge", "ADD", config, program=program)
    assert outcome.json["ips"], outcome
    assert peak(outcome) <= 16 * 1024


def peak(outcome: Outcome) -> int:
    """In KiB, as wait4(2) tells it."""
    return int(outcome.stderr.split()[-1])


def test_size_of_the_file(cnibox: Path, farm: str) -> None:
    assert cnibox.stat().st_size <= 1_500_000
    assert Path(farm, "cnibox").stat().st_size <= 1_750_000  # with the plugins compiled, and not compressed
