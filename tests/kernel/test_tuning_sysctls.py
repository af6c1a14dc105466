"""tuning's sysctls: what the kernel hands on to other interfaces, names and values in every spelling, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.machine import Machine, Outcome
from tests.support.network import attach, bridge, layer2, state

GIVEN = {"cniVersion": "1.1.0", "interfaces": [{"name": "net7", "sandbox": "/run/netns/c1"}]}
"""The result of a plugin that made no link: the device is one of user space."""


def run(machine: Machine, command: str, result: Any, environ: Any = None, **options: Any) -> Outcome:
    config = {"cniVersion": "1.1.0", "name": "mynet", "type": "tuning", "prevResult": result, **options}
    return machine.plugin("tuning", command, config, **(environ or {}))


def tuned(machine: Machine, before: Any, environ: Any = None, **options: Any) -> Any:
    outcome = run(machine, "ADD", before, environ, **options)
    assert (outcome.status, outcome.stderr) == (0, ""), outcome
    return outcome.json


def inside(machine: Machine, script: str) -> str:
    return machine.run("ip", "netns", "exec", "c1", "sh", "-ec", script)


def read(machine: Machine, path: str) -> str:
    return inside(machine, f"cat /proc/sys/net/{path}").strip()


def write(machine: Machine, **values: str) -> None:
    for path, value in values.items():
        inside(machine, f"echo {value} > /proc/sys/net/{path}")


def others(machine: Machine, family: str, name: str) -> dict[str, str]:
    """The value of a sysctl for each interface, for `all` and for `default`."""
    lines = inside(machine, f"cd /proc/sys/net/{family}/conf; grep '' */{name}").split()
    return dict(line.replace(f"/{name}", "").split(":", 1) for line in lines)


def every_sysctl(machine: Machine) -> str:
    """Those of IPv4 and IPv6, but stable_secret, which cannot be unset."""
    return inside(machine, "cd /proc/sys/net; grep -rs . ipv4 ipv6 | grep -v stable_secret | sort")


# --- `all` and `default`

HANDED_ON = ["disable_ipv6", "forwarding", "addr_gen_mode", "ignore_routes_with_linkdown"]


@pytest.mark.parametrize("name", HANDED_ON)
def test_all_is_written_though_it_has_that_value(machine: Machine, name: str) -> None:
    before = attach(machine, layer2())
    write(machine, **{f"ipv6/conf/eth0/{name}": "1"})
    assert others(machine, "ipv6", name) == {"all": "0", "default": "0", "eth0": "1", "lo": "0"}
    key = f"net.ipv6.conf.all.{name}"
    result = tuned(machine, before, sysctl={key: "0"})
    assert others(machine, "ipv6", name) == {"all": "0", "default": "0", "eth0": "0", "lo": "0"}
    assert run(machine, "CHECK", result, sysctl={key: "0"}).status == 0
    assert run(machine, "DEL", result).status == 0
    assert others(machine, "ipv6", name) == {"all": "0", "default": "0", "eth0": "1", "lo": "0"}


DIFFERING = """
ip link add name d1 type veth peer name d2; cd /proc/sys/net
for name in forwarding ignore_routes_with_linkdown addr_gen_mode; do echo 1 > ipv6/conf/d1/$name; done
echo 1 > ipv4/conf/d2/forwarding; echo 2 > ipv4/conf/d2/rp_filter; echo 1 > ipv6/conf/d2/disable_ipv6
echo 0 > ipv4/conf/d1/accept_redirects
"""
SPREADING = {
    "net.ipv6.conf.all.disable_ipv6": "1",
    "net.ipv6.conf.all.forwarding": "1",
    "net.ipv6.conf.all.addr_gen_mode": "3",
    "net/ipv6/conf/all/ignore_routes_with_linkdown": "1",
    "net.ipv6.conf.default.stable_secret": "fd00::2",
    "net.ipv4.conf.all.forwarding": "1",
    "net.ipv4.ip_forward": "1",
    "net.ipv4.conf.default.rp_filter": "1",
    "net.ipv4.conf.default.arp_notify": "1",
    "net.ipv4.neigh.IFNAME.unres_qlen": "7",
}


@pytest.mark.parametrize("sysctls", [*({key: value} for key, value in SPREADING.items()), SPREADING], ids=str)
@pytest.mark.parametrize("fails", [False, True])
def test_each_interface_is_put_back(machine: Machine, sysctls: dict[str, str], fails: bool) -> None:
    before = attach(machine, layer2())
    inside(machine, DIFFERING)
    untouched = every_sysctl(machine)
    options = {"sysctl": sysctls, **({"mtu": 70000} if fails else {})}
    assert run(machine, "ADD", before, **options).status == int(fails)
    assert fails or every_sysctl(machine) != untouched
    if not fails:
        assert run(machine, "DEL", before, **options).status == 0
    assert every_sysctl(machine).splitlines() == untouched.splitlines()


INVERSE = """
import os, sys; sys.path.insert(0, sys.argv[1])
from cnibox.host import sysctl
from cnibox.host.namespace import Machine
os.chdir("/proc/sys/net")

def tree():
    found = {}
    for folder in ("ipv4", "ipv6"):
        for place, _, names in os.walk(folder):
            for name in names:
                try:
                    with open(f"{place}/{name}") as file:
                        found[f"net/{place}/{name}"] = file.read()
                except OSError:
                    pass
    return found

machine, tried = Machine(""), 0
namespace = machine.host
for key in tree():
    before = tree()
    number = before[key].strip()
    if not number.isdigit():
        continue
    for other in (int(number) + 1, int(number) - 1):
        try:
            sysctl.write(namespace, key, str(other))
        except OSError:
            continue
        tried += 1
        machine.journal.undo()
        after = tree()
        for path in before:
            if before[path] != after[path]:
                print(key, "to", other, "leaves", path, before[path].strip(), after[path].strip())
        break
print(tried > 300)
"""


def test_undo_of_every_sysctl(machine: Machine) -> None:
    """Of all that this kernel has for IPv4 and IPv6, in turn: afterwards each other one is as it was."""
    machine.container()
    inside(machine, DIFFERING)
    found = machine.run("ip", "netns", "exec", "c1", "python3", "-c", INVERSE, f"{machine.farm}/cnibox")
    assert found == "True\n"


def test_forwarding_of_the_host_is_put_back_for_each_interface(machine: Machine) -> None:
    """bridge switches it on; when its ADD fails, each interface of the host is as it was."""
    machine.run("sh", "-ec", DIFFERING)
    machine.container()
    forwarding = "cd /proc/sys/net; grep . ipv4/ip_forward ipv[46]/conf/*/forwarding"
    before = machine.run("sh", "-c", forwarding)
    unread = ["sh", "-c", f"exec {machine.farm}/bridge --explain > /dev/full"]
    explained = machine.plugin("bridge", "ADD", bridge(), program=unread)
    assert explained.status == 1 and "sysctl -w net/ipv4/ip_forward=1" in explained.stderr
    assert machine.run("sh", "-c", forwarding) == before


@pytest.mark.parametrize("fails", [False, True])
def test_ipv6_of_other_interfaces_is_not_switched_off(machine: Machine, fails: bool) -> None:
    """A runtime starts namespaces without IPv6; then plugins switch it on for what they make, and for lo."""
    machine.container()
    inside(machine, "ip link set lo up; echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6")
    first, second = ({**bridge(), "name": name, "bridge": name} for name in ("one", "two"))
    before = machine.plugin("bridge", "ADD", first).json
    assert machine.plugin("bridge", "ADD", second, ifname="eth1").status == 0
    address = inside(machine, "ip -6 -br address show dev eth1 scope global")
    untouched = others(machine, "ipv6", "disable_ipv6")
    assert untouched == {"all": "1", "default": "1", "eth0": "0", "eth1": "0", "lo": "0"}
    options = {"sysctl": {"net.ipv6.conf.all.disable_ipv6": "0"}, **({"mtu": 70000} if fails else {})}
    assert run(machine, "ADD", before, **options).status == int(fails)
    if not fails:
        assert run(machine, "DEL", before).status == 0
    assert others(machine, "ipv6", "disable_ipv6") == untouched | {"all": "0"}  # writing it would take the addresses
    assert inside(machine, "ip -6 -br address show dev eth1 scope global") == address
    assert machine.ping("::1", inside="c1")


def test_lo_keeps_ipv6_when_one_attachment_ends(machine: Machine) -> None:
    """An interface that has come since relies on it."""
    machine.container()
    inside(machine, "ip link set lo up; echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6")
    before = machine.plugin("bridge", "ADD", layer2()).json
    tuned(machine, before, sysctl={"net/ipv6/conf/all/disable_ipv6": "0"})
    result = machine.plugin("bridge", "ADD", {**bridge(), "name": "two", "bridge": "two"}, ifname="eth1").json
    assert run(machine, "DEL", before).status == 0
    found = others(machine, "ipv6", "disable_ipv6")
    assert (found["lo"], found["eth1"], found["eth0"], found["default"]) == ("0", "0", "1", "1")
    [address] = [each["address"].partition("/")[0] for each in result["ips"] if ":" in each["address"]]
    assert machine.ping(address) and machine.ping(address, inside="c1")


def test_what_is_for_one_interface_wins(machine: Machine) -> None:
    """In whatever order they are written down."""
    before = attach(machine, layer2())
    for sysctls in (
        {"net.ipv6.conf.IFNAME.forwarding": "0", "net.ipv6.conf.all.forwarding": "1"},
        {"net.ipv6.conf.all.forwarding": "1", "net.ipv6.conf.IFNAME.forwarding": "0"},
    ):
        result = tuned(machine, before, sysctl=sysctls)
        found = others(machine, "ipv6", "forwarding")
        assert (found["all"], found["lo"], found["eth0"]) == ("1", "1", "0")
        assert run(machine, "CHECK", result, sysctl=sysctls).status == 0
        assert run(machine, "DEL", result).status == 0


# --- without an interface

NET7 = {"ifname": "net7"}


def test_sysctls_need_no_interface(machine: Machine) -> None:
    machine.container()
    untouched = state(machine)
    options = {"sysctl": {"net.core.somaxconn": "600", "net.ipv6.conf.lo.forwarding": "1"}}
    assert run(machine, "STATUS", None, {"ifname": None, "netns": None, "container_id": None}, **options).status == 0
    assert tuned(machine, GIVEN, NET7, **options) == GIVEN
    assert (read(machine, "core/somaxconn"), read(machine, "ipv6/conf/lo/forwarding")) == ("600", "1")
    assert run(machine, "CHECK", GIVEN, NET7, **options).status == 0
    write(machine, **{"core/somaxconn": "601"})
    assert run(machine, "CHECK", GIVEN, NET7, **options).code == 999
    tuned(machine, GIVEN, NET7, sysctl={"net.core.somaxconn": "700"})  # the first value stays recorded
    for _ in range(2):
        assert run(machine, "DEL", GIVEN, NET7, **options).status == 0
    assert state(machine) == untouched


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"mtu": 1400}, "interface net7"),
        ({"promisc": True, "sysctl": {"net.core.somaxconn": "600"}}, "interface net7"),
        ({"sysctl": {"net.core.somaxconn": "600", "net.ipv4.conf.IFNAME.arp_filter": "1"}}, "net.ipv4.conf.net7.arp_filter"),
    ],
)  # fmt: skip
def test_what_needs_an_interface(machine: Machine, options: dict[str, Any], text: str) -> None:
    machine.container()
    untouched = state(machine)
    outcome = run(machine, "ADD", GIVEN, NET7, **options)
    assert outcome.status == 1 and text in outcome.json["msg"], outcome
    assert run(machine, "CHECK", GIVEN, NET7, **options).status == 1
    assert run(machine, "DEL", GIVEN, NET7, **options).status == 0
    assert state(machine) == untouched


# --- spelling

VALUES = [
    ("net.ipv4.ip_local_reserved_ports", "7003,7001,7002", "7001-7003"),
    ("net.ipv4.ip_local_reserved_ports", "9001,9000-9000", "9000-9001"),
    ("net.ipv6.conf.IFNAME.stable_secret", "fd00::abcd", "fd00:0000:0000:0000:0000:0000:0000:abcd"),
    ("net.core.somaxconn", "0x1ff", "511"),
    ("net.core.somaxconn", "0777", "511"),
    ("net.ipv4.ip_local_port_range", "0x8000  61000", "32768\t61000"),
]


@pytest.mark.parametrize(("key", "value", "answer"), VALUES)
def test_check_compares_with_what_the_kernel_answered(machine: Machine, key: str, value: str, answer: str) -> None:
    before = attach(machine, layer2())
    path = key.removeprefix("net.").replace(".", "/").replace("IFNAME", "eth0")
    tuned(machine, before, sysctl={key: value})
    assert read(machine, path) == answer
    assert run(machine, "CHECK", before, sysctl={key: value}).status == 0
    other = {"ip_local_reserved_ports": "7001", "stable_secret": "fd00::7", "ip_local_port_range": "32768 60999"}
    write(machine, **{path: f"'{other.get(path.rpartition('/')[2], '512')}'"})
    outcome = run(machine, "CHECK", before, sysctl={key: value})
    assert outcome.code == 999 and key.replace("IFNAME", "eth0") in outcome.json["msg"], outcome


def test_check_of_a_value_that_was_changed_in_the_configuration(machine: Machine) -> None:
    before = attach(machine, layer2())
    tuned(machine, before, sysctl={"net.core.somaxconn": "0x200"})
    assert run(machine, "CHECK", before, sysctl={"net.core.somaxconn": "01000"}).status == 0
    assert run(machine, "CHECK", before, sysctl={"net.core.somaxconn": "513"}).code == 999


NAMES = [
    "net/ipv4/conf/net1.100/arp_filter",
    "net.ipv4.conf.net1/100.arp_filter",
    "net.ipv4.conf.net1.100.arp_filter",
    "/net/ipv4/conf/IFNAME/arp_filter",
    "net.ipv4/conf.IFNAME.arp_filter",
    "net/ipv4/conf/IFNAME.arp_filter",
]
DOTTED = {"ifname": "net1.100"}


@pytest.mark.parametrize("key", NAMES)
def test_name_of_an_interface_with_dots(machine: Machine, key: str) -> None:
    machine.container()
    before = machine.plugin("bridge", "ADD", layer2(), **DOTTED).json
    result = tuned(machine, before, DOTTED, sysctl={key: "1"})
    assert read(machine, "ipv4/conf/net1.100/arp_filter") == "1"
    assert run(machine, "CHECK", result, DOTTED, sysctl={key: "1"}).status == 0
    write(machine, **{"ipv4/conf/net1.100/arp_filter": "0"})
    outcome = run(machine, "CHECK", result, DOTTED, sysctl={key: "1"})
    assert "sysctl net.ipv4.conf.net1/100.arp_filter is" in outcome.json["msg"]
    write(machine, **{"ipv4/conf/net1.100/arp_filter": "1"})
    assert run(machine, "DEL", result, DOTTED, sysctl={key: "1"}).status == 0
    assert read(machine, "ipv4/conf/net1.100/arp_filter") == "0"


def test_vlan_on_top_of_the_interface(machine: Machine) -> None:
    """IFNAME may be a part of a name; and a name may have several dots."""
    before = attach(machine, layer2())
    inside(machine, "ip link add name eth0.5 type veth peer name a..b")
    sysctls = {"net.ipv4.conf.IFNAME/5.arp_filter": "1", "net/ipv6/neigh/a..b/ucast_solicit": "5"}
    tuned(machine, before, sysctl=sysctls)
    assert (read(machine, "ipv4/conf/eth0.5/arp_filter"), read(machine, "ipv6/neigh/a..b/ucast_solicit")) == ("1", "5")


def test_two_spellings_of_one_sysctl(machine: Machine) -> None:
    machine.container()
    before = machine.plugin("bridge", "ADD", layer2(), **DOTTED).json
    text = "duplicated sysctl keys are not allowed"
    outcome = run(machine, "ADD", before, DOTTED, sysctl={NAMES[0]: "1", NAMES[1]: "0"})
    assert (outcome.code, outcome.json["msg"]) == (7, text)
    args = {"cni": {"sysctl": {NAMES[1]: "0"}}}
    tuned(machine, before, DOTTED, sysctl={NAMES[0]: "1"}, args=args)
    assert read(machine, "ipv4/conf/net1.100/arp_filter") == "0"


@pytest.mark.parametrize(
    "key",
    [
        "net/../kernel/core_pattern",
        "net/ipv4/../../kernel/core_pattern",
        "net/ipv4/conf/../../../kernel/core_pattern",
        "net.ipv4.conf.//////kernel.core_pattern",
        "net/ipv4/conf/../all/arp_filter",
        "net/ipv4/conf/IFNAME/../../arp_filter",
        "net.ipv4.conf.IFNAME/////kernel.core_pattern",
        "net/ipv4/neigh/./ucast_solicit",
        "net/ipv4/neigh/../ucast_solicit",
        "kernel/core_pattern",
        "../sys/net/core/somaxconn",
        "net",
        "...",
    ],
)
def test_no_way_out_of_net(machine: Machine, key: str) -> None:
    before = attach(machine, layer2())
    untouched, pattern = state(machine), machine.run("cat", "/proc/sys/kernel/core_pattern")
    outcome = run(machine, "ADD", before, sysctl={key: "1"})
    assert outcome.code == 7 and "sysctl" in outcome.json["msg"], outcome
    assert state(machine) == untouched and machine.run("cat", "/proc/sys/kernel/core_pattern") == pattern


# --- a read-only /proc/sys

READ_ONLY = "mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys"


def test_read_only(machine: Machine) -> None:
    """What is as wanted already needs no write, also for `all`, and in another spelling."""
    before = attach(machine, layer2())
    write(machine, **{"core/somaxconn": "511", "ipv4/conf/eth0/arp_filter": "1"})
    machine.run("sh", "-ec", READ_ONLY)
    untouched = state(machine)
    sysctls = {
        "net.core.somaxconn": "0777",
        "net.ipv4.conf.IFNAME.arp_filter": "1",
        "net.ipv6.conf.all.disable_ipv6": "0",
        "net.ipv4.ip_forward": "0",
    }
    result = tuned(machine, before, sysctl=sysctls)
    assert run(machine, "CHECK", result, sysctl=sysctls).status == 0
    for key, value in (("net.core.somaxconn", "512"), ("net.ipv4.conf.all.forwarding", "1")):
        outcome = run(machine, "ADD", before, sysctl={**sysctls, key: value})
        assert outcome.status == 1 and "/proc/sys is mounted read-only" in json.dumps(outcome.json), outcome
        assert key.replace(".", "/") in outcome.json["msg"]
    assert run(machine, "DEL", result, sysctl=sysctls).status == 0
    assert state(machine) == untouched
