"""vrf with real packets, and what it does to links, tables, addresses and routes."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.chain import Chain, bridged
from tests.support.kernel import complaint
from tests.support.machine import Machine, links
from tests.support.network import attach, host_local, ptp

on_vrf_kernel = pytest.mark.kernel("vrf")
_NETWORK = """
ip -d link | sed 's/ qdisc [a-z]* / /'; ip address; ip rule; ip -6 rule; ip route show table all; ip -6 route show table all
grep -r . /proc/sys/net/ipv6/conf/*/dad_transmits /proc/sys/net/ipv6/conf/*/keep_addr_on_down
grep -r . /run/cnibox/attachments || true
"""


def network(machine: Machine, number: int, vrf: str = "red", *, ipam: Any = None, **options: Any) -> Chain:
    """That network's bridge, and vrf."""
    config = bridged(number, **({"ipam": ipam} if ipam else {}))
    return Chain(
        machine,
        config,
        {"type": "vrf", "vrfname": vrf, "name": config["name"], **options},
        ifname=f"eth{number}",
    )


def container(machine: Machine) -> None:
    """With what a namespace's first VRF leaves for good: the kernel's rules for VRFs."""
    machine.container()
    machine.run("ip", "-n", "c1", "link", "add", "t0", "type", "vrf", "table", "99")
    machine.run("ip", "-n", "c1", "link", "delete", "t0")


def link(machine: Machine, name: str) -> Any:
    return machine.ip("-d", "-n", "c1", "link", "show", name)[0]


def table(machine: Machine, vrf: str) -> int:
    return int(link(machine, vrf)["linkinfo"]["info_data"]["table"])


def routes(machine: Machine, number: object, version: int = 4) -> dict[str, Any]:
    """Unicast destination of that table -> gateway, or None."""
    every = machine.ip(f"-{version}", "-n", "c1", "route", "show", "table", "all", "type", "unicast")
    return {route["dst"]: route.get("gateway") for route in every if route.get("table", "main") == str(number)}


def addresses(machine: Machine, name: str = "eth1") -> list[str]:
    found = machine.ip("-n", "c1", "address", "show", "dev", name, "scope", "global")[0]["addr_info"]
    return sorted(f"{each['local']}/{each['prefixlen']}" for each in found if each)


def pings(machine: Machine, vrf: str, address: str) -> bool:
    words = ["ping", "-q", "-c", "1", "-W", "0.8", "-I", vrf, address]
    return " 1 received" in machine.run("ip", "netns", "exec", "c1", *words, check=False)


def settled(machine: Machine) -> list[str]:
    """The container's network and the records, once the kernel has done what it does by itself later."""
    seen = [_network(machine)]

    def rests() -> bool:
        seen.append(_network(machine))
        return seen[-1] == seen[-2] and not any("tentative" in line or "NO-CARRIER" in line for line in seen[-1])

    assert machine.wait_until(rests)
    return seen[-1]


def _network(machine: Machine) -> list[str]:
    lines = machine.run("ip", "netns", "exec", "c1", "sh", "-c", _NETWORK).splitlines()
    return [line for line in lines if not any(word in line for word in ("fe80:", "ff00:", "valid_lft forever"))]


# --- packets


@on_vrf_kernel
def test_same_addresses_in_two_networks(machine: Machine) -> None:
    """Each VRF of the container reaches its own network only: neighbours, and what is behind a gateway."""
    container(machine)
    for number, vrf in ((1, "red"), (2, "blue")):
        near = [{"address": "10.77.9.2/24"}, {"address": "fd77:9::2/64"}]
        ways = [{"dst": "10.99.0.0/16", "gw": f"10.77.9.{number + 2}"}]
        network(machine, number, vrf, ipam={"type": "static", "addresses": near, "routes": ways}).add()
        far = [{"address": f"10.77.9.{number + 2}/24"}, {"address": f"fd77:9::{number + 2}/64"}]
        attach(machine, {"cniVersion": "1.1.0", **bridged(number, isGateway=False)}
               | {"ipam": {"type": "static", "addresses": far}}, f"n{number}")  # fmt: skip
        machine.run("ip", "-n", f"n{number}", "address", "add", f"10.99.0.{number}/32", "dev", "eth0")
    assert addresses(machine, "eth1") == addresses(machine, "eth2") == ["10.77.9.2/24", "fd77:9::2/64"]
    for vrf, own, other in (("red", 1, 2), ("blue", 2, 1)):
        for pattern in ("10.77.9.{}", "fd77:9::{}"):
            assert pings(machine, vrf, pattern.format(own + 2))
            assert not pings(machine, vrf, pattern.format(other + 2))
        assert pings(machine, vrf, f"10.99.0.{own}")
        assert not pings(machine, vrf, f"10.99.0.{other}")


@on_vrf_kernel
def test_neighbours_behind_ptp(machine: Machine) -> None:
    """ptp has taken the subnet's own route away, which the kernel makes again for an interface that gets a master."""
    container(machine)
    attach(machine, ptp(name="net1"), "n1")
    chain = Chain(machine, ptp(name="net1"), {"type": "vrf", "vrfname": "red", "name": "net1"})
    chain.result = chain.one("ADD", chain.configs[0]).json
    before = {version: routes(machine, "main", version) for version in (4, 6)}
    chain.one("ADD", chain.last)
    assert {version: routes(machine, 1, version) for version in (4, 6)} == before
    assert pings(machine, "red", "10.77.0.2") and pings(machine, "red", "fd77::2")


# --- the VRF


@on_vrf_kernel
def test_what_it_becomes(machine: Machine) -> None:
    container(machine)
    chain = network(machine, 1)
    result = chain.one("ADD", chain.configs[0]).json
    chain.result = result
    assert chain.one("ADD", chain.last).json == result
    assert (link(machine, "eth1")["master"], table(machine, "red")) == ("red", 1)
    assert "UP" in link(machine, "red")["flags"]
    assert addresses(machine) == ["10.77.1.2/24", "fd77:1::2/64"]
    assert routes(machine, 1) == {"default": "10.77.1.1", "10.77.1.0/24": None}
    assert routes(machine, 1, 6).items() >= {"default": "fd77:1::1", "fd77:1::/64": None}.items()
    assert routes(machine, "main") == routes(machine, "main", 6) == {}
    assert pings(machine, "red", "10.77.1.1") and pings(machine, "red", "fd77:1::1")
    assert chain.check().status == 0


@on_vrf_kernel
def test_lowest_table_that_nobody_uses(machine: Machine) -> None:
    """1 by a VRF, 2 by a rule, 3 by a route; sbr, which begins at 100, leaves those of VRFs alone."""
    container(machine)
    for words in (
        ["link", "set", "lo", "up"],
        ["link", "add", "one", "type", "vrf", "table", "1"],
        ["rule", "add", "from", "192.0.2.9", "table", "2"],
        ["route", "add", "192.0.2.0/24", "dev", "lo", "table", "3"],
        ["link", "add", "hundred", "type", "vrf", "table", "100"],
    ):
        machine.run("ip", "-n", "c1", *words)
    network(machine, 1).add()
    assert table(machine, "red") == 4
    Chain(machine, bridged(2), {"type": "sbr", "name": "net2"}, ifname="eth2").add()
    assert routes(machine, 101)["default"] == "10.77.2.1" and routes(machine, 100) == {}


@on_vrf_kernel
def test_tables_of_the_kernel_are_not_chosen(machine: Machine) -> None:
    container(machine)
    batch = "".join(f"rule add from 192.0.2.9 table {number}\n" for number in range(1, 253))
    machine.run("ip", "-n", "c1", "-batch", "-", stdin=batch.encode())
    network(machine, 1).add()
    assert table(machine, "red") == 256


@on_vrf_kernel
def test_interfaces_of_one_vrf_at_the_same_time(machine: Machine) -> None:
    """The VRF is made once; and two VRFs get two tables. It goes with its last port."""
    container(machine)
    chains = [network(machine, number, vrf) for number, vrf in ((1, "red"), (2, "red"), (3, "blue"), (4, "green"))]
    for chain in chains:
        chain.result = chain.one("ADD", chain.configs[0]).json
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda chain: chain.one("ADD", chain.last), chains))
    assert sorted(table(machine, vrf) for vrf in ("red", "blue", "green")) == [1, 2, 3]
    assert [link(machine, f"eth{n}")["master"] for n in (1, 2, 3, 4)] == ["red", "red", "blue", "green"]
    chains[0].one("DEL", chains[0].last)
    assert "red" in links(machine, "c1")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda chain: chain.one("DEL", chain.last), chains[1:]))
    assert links(machine, "c1") == ["eth1", "eth2", "eth3", "eth4", "lo"]


@on_vrf_kernel
def test_administrator_s_vrf_stays(machine: Machine) -> None:
    container(machine)
    machine.run("ip", "-n", "c1", "link", "add", "red", "type", "vrf", "table", "7")
    chain = network(machine, 1, table=7)
    chain.add()
    assert routes(machine, 7)["default"] == "10.77.1.1" and "UP" in link(machine, "red")["flags"]
    chain.delete()
    assert links(machine, "c1") == ["lo", "red"]


# --- again, and back


@on_vrf_kernel
def test_second_add_changes_nothing_and_delete_brings_everything_back(machine: Machine) -> None:
    container(machine)
    chain = network(machine, 1)
    chain.result = chain.one("ADD", chain.configs[0]).json
    before = settled(machine)
    chain.one("ADD", chain.last)
    added = settled(machine)
    chain.one("ADD", chain.last)
    assert settled(machine) == added
    for _ in range(2):
        chain.one("DEL", chain.last)
        assert settled(machine) == before


@on_vrf_kernel
def test_addresses_that_the_kernel_drops(machine: Machine) -> None:
    """Those with a lifetime, whatever the sysctls say; and all where sysctls cannot be written."""
    container(machine)
    chain = network(machine, 1)
    chain.result = chain.one("ADD", chain.configs[0]).json
    words = ["fd77:1::9/64", "dev", "eth1", "valid_lft", "900", "preferred_lft", "600", "nodad"]
    machine.run("ip", "-n", "c1", "address", "add", *words)
    keep = "echo 0 > /proc/sys/net/ipv6/conf/eth1/keep_addr_on_down"
    machine.run("ip", "netns", "exec", "c1", "sh", "-c", keep)
    machine.run("mount", "--bind", "-o", "ro", "/proc/sys", "/proc/sys")
    machine.run("mount", "-o", "remount,ro,bind", "/proc/sys")
    chain.one("ADD", chain.last)
    assert addresses(machine) == ["10.77.1.2/24", "fd77:1::2/64", "fd77:1::9/64"]
    found = machine.ip("-n", "c1", "address", "show", "dev", "eth1", "dynamic")[0]["addr_info"]
    assert 800 < next(each["valid_life_time"] for each in found if each) <= 900
    assert pings(machine, "red", "fd77:1::1")


@on_vrf_kernel
@pytest.mark.parametrize("how", ["interface gone", "vrf gone", "namespace gone", "empty", "without name"])
def test_delete_whatever_is_still_there(machine: Machine, how: str) -> None:
    container(machine)
    chain = network(machine, 1)
    chain.add()
    names, config = {}, chain.last
    if how in ("interface gone", "vrf gone"):
        machine.run("ip", "-n", "c1", "link", "delete", "eth1" if how == "interface gone" else "red")
    elif how == "without name":
        config = {key: value for key, value in config.items() if key != "vrfname"}
    else:
        names = {"netns": "" if how == "empty" else "/run/netns/gone"}
    for _ in range(2):
        chain.one("DEL", config, **names)
    if not names:
        assert "red" not in links(machine, "c1")


@on_vrf_kernel
@pytest.mark.parametrize("go_adds", [True, False])
def test_with_the_go_plugin(machine: Machine, go_adds: bool) -> None:
    container(machine)
    chain = network(machine, 1, ipam=host_local("10.77.1.0/24"))
    chain.add(go_last=go_adds)
    if go_adds:
        assert chain.check().status == 0
    chain.one("DEL", chain.last, go=not go_adds)
    assert links(machine, "c1") == ["eth1", "lo"] and "master" not in link(machine, "eth1")
    chain.one("DEL", chain.configs[0])
    assert links(machine, "c1") == ["lo"] and routes(machine, 1) == {}


@on_vrf_kernel
def test_gc_of_a_living_container(machine: Machine) -> None:
    container(machine)
    chain = network(machine, 1)
    chain.result = chain.one("ADD", chain.configs[0]).json
    before = settled(machine)
    chain.one("ADD", chain.last)
    chain.one("GC", {**chain.last, "cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth1"}]})
    assert link(machine, "eth1")["master"] == "red"
    chain.one("GC", {**chain.last, "cni.dev/valid-attachments": []})
    assert settled(machine) == before


# --- errors


@pytest.mark.parametrize(
    "setup, options, code, words",
    [
        ("", {"vrfname": ""}, 7, "expected to have a valid vrf name"),
        ("", {"vrfname": "a name"}, 7, "expected to have a valid vrf name"),
        ("", {"vrfname": "x" * 16}, 7, "expected to have a valid vrf name"),
        ("", {"vrfname": None}, 7, '"vrfname" of vrf: is required'),
        ("", {"table": -1}, 7, "table"),
        ("", {"vrfname": "eth1"}, 999, "Netlink eth1 is not a VRF"),
        pytest.param(
            "link add red type vrf table 7",
            {"table": 8},
            999,
            "VRF red already exist with different routing table 7",
            marks=on_vrf_kernel,
        ),
        pytest.param(
            "link add blue type vrf table 5;link set eth1 master blue",
            {},
            999,
            "interface eth1 has already a master set: blue",
            marks=on_vrf_kernel,
        ),
    ],
)
def test_errors_change_nothing(machine: Machine, setup: str, options: Any, code: int, words: str) -> None:
    machine.container()
    chain = network(machine, 1)
    chain.result = chain.one("ADD", chain.configs[0]).json
    for line in filter(None, setup.split(";")):
        machine.run("ip", "-n", "c1", *line.split())
    before = settled(machine)
    outcome = chain.attempt("ADD", {**chain.last, **options})
    assert outcome.code == code and words in outcome.json["msg"], outcome
    assert settled(machine) == before


def test_master_of_another_kind(machine: Machine) -> None:
    """Seen before a VRF is made."""
    machine.container()
    chain = network(machine, 1)
    chain.result = chain.one("ADD", chain.configs[0]).json
    machine.run("ip", "-n", "c1", "link", "add", "br0", "type", "bridge")
    machine.run("ip", "-n", "c1", "link", "set", "eth1", "master", "br0")
    outcome = chain.attempt("ADD", chain.last)
    assert outcome.code == 999 and "interface eth1 has already a master set: br0" in outcome.json["msg"]
    assert links(machine, "c1") == ["br0", "eth1", "lo"]


def test_what_an_earlier_plugin_must_give(machine: Machine) -> None:
    machine.container()
    chain = network(machine, 1)
    assert "must be called as a chained plugin" in chain.attempt("ADD", chain.last).json["msg"]
    chain.result = {"cniVersion": "1.1.0"}
    assert "interface eth1 is not in" in chain.attempt("ADD", chain.last).json["msg"]


@on_vrf_kernel
def test_failed_add_undoes_everything(machine: Machine) -> None:
    """Its result cannot be written."""
    container(machine)
    chain = network(machine, 1)
    chain.result = chain.one("ADD", chain.configs[0]).json
    before = settled(machine)
    program = ["sh", "-c", f"exec {machine.farm}/vrf >/dev/full"]
    outcome = chain.attempt("ADD", chain.last, program=program)
    assert outcome.status == 1
    assert settled(machine) == before


@on_vrf_kernel
@pytest.mark.parametrize(
    "damage, words",
    [
        ("link set eth1 nomaster", "failed to find eth1 associated to vrf red"),
        ("link set red down", "VRF red is down"),
        ("address delete fd77:1::2/64 dev eth1", "address fd77:1::2/64 is not on eth1"),
        ("route add 192.0.2.0/24 dev eth1 table main", "route 192.0.2.0/24 dev eth1 is in the main table"),
    ],
)
def test_check_sees(machine: Machine, damage: str, words: str) -> None:
    container(machine)
    chain = network(machine, 1)
    chain.add()
    machine.run("ip", "-n", "c1", *damage.split())
    outcome = chain.check()
    assert outcome.code == 999 and words in outcome.json["msg"], outcome
    assert chain.check(vrfname="blue").code == 999


def test_status(machine: Machine) -> None:
    config = {"cniVersion": "1.1.0", "name": "mynet", "type": "vrf", "vrfname": "red"}
    outcome = machine.plugin("vrf", "STATUS", config)
    if complaint("vrf"):
        assert outcome.code == 50 and "no links of type vrf" in outcome.json["msg"]
    else:
        assert outcome.status == 0, outcome
    assert machine.plugin("vrf", "STATUS", {**config, "vrfname": ""}).code == 7
