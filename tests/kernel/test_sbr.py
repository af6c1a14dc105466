"""sbr with real packets, and what it does to rules and tables."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.chain import Chain, bridged
from tests.support.machine import Machine
from tests.support.network import state
from tests.support.packets import Background, outside_world

_FIRST_REPLY = """
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))  # ETH_P_ALL
s.settimeout(3)
print("ready", flush=True)
while True:
    data, (dev, proto, direction, *_) = s.recvfrom(2000)
    v4 = proto == 0x800 and data[9] == 1 and data[20] == 0
    v6 = proto == 0x86DD and data[6] == 58 and data[40] == 129
    if direction == 4 and (v4 or v6):  # PACKET_OUTGOING
        print(dev, flush=True)
        break
"""
ADDRESSES = {(1, 4): "10.77.1.2", (1, 6): "fd77:1::2", (2, 4): "10.77.2.2", (2, 6): "fd77:2::2"}
SBR = {"type": "sbr"}


def network(machine: Machine, number: int, **options: Any) -> Chain:
    """That network's bridge, and sbr."""
    config = bridged(number)
    return Chain(machine, config, {**SBR, "name": config["name"], **options}, ifname=f"eth{number}")


def rules(machine: Machine, container: str = "c1") -> dict[str, int]:
    """Source address -> table."""
    found = machine.ip("-n", container, "rule") + machine.ip("-6", "-n", container, "rule")
    return {rule["src"]: int(rule["table"]) for rule in found if rule["src"] != "all"}


def routes(machine: Machine, table: object, version: int = 4, container: str = "c1") -> dict[str, Any]:
    """Destination -> gateway, or None."""
    every = machine.ip(
        f"-{version}", "-n", container, "route", "show", "table", "all"
    )  # one that is not there is an error
    found = [route for route in every if route.get("table", "main") == str(table)]
    return {route["dst"]: route.get("gateway") for route in found if route["dst"] != "multicast"}


def answers_by(machine: Machine, address: str) -> str:
    """The container's interface by which it answers a ping from the outside."""
    with Background(machine, "c1", _FIRST_REPLY) as capture:
        machine.ping(address, inside="outside")
        return capture.answer()


# --- packets


def attach_both(machine: Machine, *, sbr: bool) -> None:
    machine.container()
    for number in (1, 2):
        ipam = bridged(number)["ipam"]
        config = bridged(number) if sbr or number == 1 else bridged(number, ipam={**ipam, "routes": []})
        Chain(machine, config, *[{**SBR, "name": config["name"]}] * sbr, ifname=f"eth{number}").add()


@pytest.mark.parametrize("version", [4, 6])
def test_answers_leave_by_the_interface_that_the_question_came_by(machine: Machine, version: int) -> None:
    outside_world(machine)
    attach_both(machine, sbr=True)
    for number in (1, 2):
        assert answers_by(machine, ADDRESSES[number, version]) == f"eth{number}"


@pytest.mark.parametrize("version", [4, 6])
def test_without_sbr_they_do_not(machine: Machine, version: int) -> None:
    """Or the test before would show nothing."""
    outside_world(machine)
    attach_both(machine, sbr=False)
    assert answers_by(machine, ADDRESSES[2, version]) == "eth1"


@pytest.mark.parametrize("sbr", [True, False])
def test_a_router_that_takes_only_what_it_would_send_that_way(machine: Machine, sbr: bool) -> None:
    """RFC 3704's strict check: rp_filter=1."""
    outside_world(machine)
    attach_both(machine, sbr=sbr)
    machine.run("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1", "net.ipv4.conf.cni1.rp_filter=1")
    assert machine.ping(ADDRESSES[1, 4], inside="outside")
    assert machine.ping(ADDRESSES[2, 4], inside="outside") == sbr


# --- tables


def test_each_address_has_a_table_of_its_own_version(machine: Machine) -> None:
    machine.container()
    chain = network(machine, 1)
    result = chain.add()
    assert result["ips"][0]["address"] == "10.77.1.2/24"
    assert rules(machine) == {"10.77.1.2": 100, "fd77:1::2": 101}
    assert routes(machine, 100) == {"default": "10.77.1.1", "10.77.1.0/24": None}
    assert routes(machine, 100, 6) == {}
    assert routes(machine, 101, 6) == {"default": "fd77:1::1", "fd77:1::/64": None, "fe80::/64": None}
    assert routes(machine, "main") == routes(machine, "main", 6) == {}


def test_tables_that_somebody_uses_are_left_to_him(machine: Machine) -> None:
    """100 by a rule, 101 by a route, 102 by one that is no unicast."""
    machine.container()
    for words in (
        ["rule", "add", "from", "192.0.2.9", "table", "100"],
        ["route", "add", "192.0.2.0/24", "dev", "lo", "table", "101"],
        ["-6", "route", "add", "unreachable", "default", "table", "102"],
    ):
        machine.run("ip", "-n", "c1", "link", "set", "lo", "up")
        machine.run("ip", "-n", "c1", *words)
    network(machine, 1).add()
    assert sorted(rules(machine).values()) == [100, 103, 104]


def test_gateways_win_over_the_network_s_own(machine: Machine) -> None:
    machine.container()
    network(machine, 1, gateways=["10.77.1.9", "fd77:1::9"]).add()
    assert routes(machine, 100)["default"] == "10.77.1.9"
    assert routes(machine, 101, 6)["default"] == "fd77:1::9"


def test_route_of_the_network_wins_over_the_gateway_of_its_address(machine: Machine) -> None:
    machine.container()
    config = bridged(1)
    ipam = {**config["ipam"], "routes": [{"dst": "0.0.0.0/0", "gw": "10.77.1.7"}]}
    Chain(machine, {**config, "ipam": ipam}, SBR).add()
    assert routes(machine, 100)["default"] == "10.77.1.7"
    assert routes(machine, 101, 6)["default"] == "fd77:1::1"


def test_other_version_is_left_alone(machine: Machine) -> None:
    """No rule would lead to its routes any more; the reference moves them to the IPv4 address's table."""
    machine.container()
    config = bridged(1)
    config["ipam"] = {"type": "static", "addresses": [{"address": "10.77.1.5/24"}]}
    chain = Chain(machine, config, SBR)
    chain.result = chain.one("ADD", chain.configs[0]).json
    machine.run("ip", "-n", "c1", "address", "add", "fd77:5::5/64", "dev", "eth0", "nodad")
    before = routes(machine, "main", 6)
    chain.one("ADD", SBR | chain.last)
    assert routes(machine, "main", 6) == before and "fd77:5::/64" in before
    assert routes(machine, "main") == {} and routes(machine, 100, 6) == {}


def test_route_outside_every_subnet_is_not_lost(machine: Machine) -> None:
    machine.container()
    chain = network(machine, 1)
    chain.result = chain.one("ADD", chain.configs[0]).json
    for words in (["10.8.0.0/16", "via", "192.0.2.1", "onlink"], ["-6", "fd08::/64", "via", "fe80::1"]):
        family = [word for word in words if word == "-6"]
        rest = [word for word in words if word != "-6"]
        machine.run("ip", *family, "-n", "c1", "route", "add", *rest, "dev", "eth1")
    chain.one("ADD", chain.last)
    assert routes(machine, 100)["10.8.0.0/16"] == "192.0.2.1"
    assert routes(machine, 101, 6)["fd08::/64"] == "fe80::1"


def test_two_routes_to_one_destination(machine: Machine) -> None:
    machine.container()
    config = bridged(1)
    ways = [{"dst": "10.9.0.0/16", "gw": f"10.77.1.{last}"} for last in (8, 9)]
    Chain(machine, {**config, "ipam": {**config["ipam"], "routes": ways}}, SBR).add()
    found = machine.ip("-n", "c1", "route", "show", "10.9.0.0/16", "table", "100")
    # The kernel lists the one first that was added last; their order is kept.
    assert [route["gateway"] for route in found] == ["10.77.1.9", "10.77.1.8"]


def test_addresses_of_two_subnets(machine: Machine) -> None:
    machine.container()
    config = bridged(1, isGateway=False)
    both = [{"address": f"10.77.{n}.5/24", "gateway": f"10.77.{n}.1"} for n in (3, 4)]
    Chain(machine, {**config, "ipam": {"type": "static", "addresses": both}}, SBR).add()
    for number, table in ((3, 100), (4, 101)):
        assert routes(machine, table) == {"default": f"10.77.{number}.1", f"10.77.{number}.0/24": None}


def test_table_of_somebody_else(machine: Machine) -> None:
    """Only rules: whoever names a table fills it."""
    machine.container()
    chain = network(machine, 1, table=4000)
    chain.result = chain.one("ADD", chain.configs[0]).json
    before = routes(machine, "main"), routes(machine, "main", 6)
    chain.one("ADD", chain.last)
    assert rules(machine) == {"10.77.1.2": 4000, "fd77:1::2": 4000}
    assert (routes(machine, "main"), routes(machine, "main", 6)) == before
    assert chain.check().status == 0
    chain.one("ADD", chain.last)
    assert len(rules(machine)) == 2
    machine.run("ip", "-n", "c1", "rule", "del", "from", "10.77.1.2")
    assert "there is no rule from 10.77.1.2/32 for table 4000" in chain.check().json["msg"]
    chain.one("DEL", chain.last)
    assert rules(machine) == {}


def test_source_hints(machine: Machine) -> None:
    """Who names no source address still reaches the subnet, and with the right one."""
    machine.container()
    chain = network(machine, 1, addSourceHints=True)
    chain.result = chain.one("ADD", chain.configs[0]).json
    before = state(machine)
    for _ in range(2):
        chain.one("ADD", chain.last)
        assert routes(machine, "main") == {"10.77.1.0/24": None}
        assert routes(machine, "main", 6) == {"fd77:1::/64": None}
        for version, gateway, own in ((4, "10.77.1.1", "10.77.1.2"), (6, "fd77:1::1", "fd77:1::2")):
            route = machine.ip(f"-{version}", "-n", "c1", "route", "get", gateway)[0]
            assert (route["dev"], route["prefsrc"]) == ("eth1", own)
            assert machine.ping(gateway, inside="c1")
        assert len(routes(machine, 101, 6)) == 3
    assert chain.check().status == 0
    chain.one("DEL", chain.last)
    assert state(machine) == before


# --- again, together, and back


@pytest.mark.parametrize("options", [{}, {"gateways": ["10.77.1.9"]}, {"addSourceHints": True}, {"table": 9}])
def test_second_add_changes_nothing(machine: Machine, options: Any) -> None:
    machine.container()
    chain = network(machine, 1, **options)
    result = chain.add()
    before = state(machine)
    assert chain.one("ADD", chain.last).json == result
    assert state(machine) == before


def test_second_add_after_a_go_plugin_s(machine: Machine) -> None:
    machine.container()
    chain = network(machine, 1)
    chain.add(go_last=True)
    before = rules(machine)
    chain.one("ADD", chain.last)
    assert rules(machine) == before and len(before) == 2


def test_delete_brings_everything_back(machine: Machine) -> None:
    machine.container()
    chain = network(machine, 1)
    chain.result = chain.one("ADD", chain.configs[0]).json
    before = state(machine)
    chain.one("ADD", chain.last)
    for _ in range(2):
        chain.one("DEL", chain.last)
        assert state(machine) == before


def test_delete_of_an_interface_that_is_gone(machine: Machine) -> None:
    """The reference leaves the rules, which lead the address's next owner into a table without routes."""
    machine.container()
    chain = network(machine, 1)
    chain.add()
    machine.run("ip", "-n", "c1", "link", "delete", "eth1")
    assert rules(machine)
    chain.one("DEL", chain.last)
    assert rules(machine) == {}


@pytest.mark.parametrize("netns", ["", "/run/netns/gone", "/run/netns/plain"])
def test_delete_without_the_namespace_makes_no_file(machine: Machine, netns: str) -> None:
    machine.container()
    machine.run("touch", "/run/netns/plain")
    chain = network(machine, 1)
    chain.add()
    before = machine.run("find", "/run/netns")
    chain.one("DEL", chain.last, netns=netns)
    assert machine.run("find", "/run/netns") == before


@pytest.mark.parametrize("go_adds", [True, False])
def test_with_the_go_plugin(machine: Machine, go_adds: bool) -> None:
    """What one has made, the other takes away, and nothing is left."""
    machine.container()
    network(machine, 2).add()
    before = {key: value for key, value in state(machine).items() if key != "files"}
    chain = network(machine, 1)
    chain.add(go_last=go_adds)
    if go_adds:
        assert chain.check().status == 0
    chain.delete(go_last=not go_adds)
    assert rules(machine) == {"10.77.2.2": 100, "fd77:2::2": 101}
    machine.run("ip", "link", "delete", "cni1")
    assert {key: value for key, value in state(machine).items() if key != "files"} == before


def test_interfaces_that_are_attached_at_the_same_time(machine: Machine) -> None:
    """Each has tables of its own, though all the processes look for one at once."""
    numbers = range(1, 9)
    machine.container()
    chains = [network(machine, number) for number in numbers]
    for chain in chains:
        chain.result = chain.one("ADD", chain.configs[0]).json
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda chain: chain.one("ADD", chain.last), chains))
    found = rules(machine)
    assert sorted(found.values()) == list(range(100, 116))
    for number in numbers:
        assert routes(machine, found[f"10.77.{number}.2"])["default"] == f"10.77.{number}.1"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda chain: chain.one("DEL", chain.last), chains))
    assert rules(machine) == {}


def test_lock_of_the_go_plugin_is_waited_for(machine: Machine) -> None:
    """flock(2) on the namespace's file, in which meanwhile the table is taken."""
    machine.container()
    chain = network(machine, 1)
    chain.result = chain.one("ADD", chain.configs[0]).json
    holder = "echo ready; sleep 0.5; ip -n c1 rule add from 192.0.2.9 table 100"
    words = machine.enter("flock", "/run/netns/c1", "sh", "-c", holder)
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        chain.one("ADD", chain.last)
    assert rules(machine) == {"192.0.2.9": 100, "10.77.1.2": 101, "fd77:1::2": 102}


def test_failed_add_undoes_everything(machine: Machine) -> None:
    """The last of the gateways is not reachable."""
    machine.container()
    chain = network(machine, 1, gateways=["10.77.1.9", "fd99::1"])
    chain.result = chain.one("ADD", chain.configs[0]).json
    before = state(machine)
    outcome = chain.attempt("ADD", chain.last)
    assert outcome.code == 999 and "fd99::1" in outcome.json["msg"]
    assert state(machine) == before


def test_gc_of_a_living_container(machine: Machine) -> None:
    machine.container()
    chain = network(machine, 1)
    chain.result = chain.one("ADD", chain.configs[0]).json
    before = state(machine)
    chain.one("ADD", chain.last)
    valid = [{"containerID": "c1", "ifname": "eth1"}]
    chain.one("GC", {**chain.last, "cni.dev/valid-attachments": valid})
    assert rules(machine)
    chain.one("GC", {**chain.last, "cni.dev/valid-attachments": []})
    assert state(machine) == before


# --- errors


@pytest.mark.parametrize(
    "options, code, words",
    [
        ({"gateways": ["10.0.0.1", "10.0.0.2"]}, 7, "multiple IPv4 addresses: 10.0.0.1 and 10.0.0.2"),
        ({"gateways": ["fd00::1", "10.0.0.2", "fd00::2"]}, 7, "multiple IPv6 addresses: fd00::1 and fd00::2"),
        ({"gateways": ["10.0.0.1/24"]}, 7, "gateways[0]"),
        ({"table": 0}, 7, "table"),
        ({"table": -1}, 7, "table"),
        ({"addSourceHints": "yes"}, 7, "addSourceHints"),
    ],
)
def test_wrong_options_change_nothing(machine: Machine, options: Any, code: int, words: str) -> None:
    machine.container()
    chain = network(machine, 1, **options)
    chain.result = chain.one("ADD", chain.configs[0]).json
    before = state(machine)
    for verb in ("ADD", "CHECK", "STATUS"):
        outcome = chain.attempt(verb, chain.last)
        assert outcome.code == code and words in outcome.json["msg"], outcome
    assert state(machine) == before


def test_what_an_earlier_plugin_must_give(machine: Machine) -> None:
    machine.container()
    chain = network(machine, 1)
    assert chain.attempt("ADD", chain.last).code == 7
    chain.result = {"cniVersion": "1.1.0", "ips": [{"address": "10.77.1.2/24"}]}
    outcome = chain.attempt("ADD", chain.last)
    assert outcome.code == 999 and "eth1 is not in" in outcome.json["msg"]
    chain.result = {"cniVersion": "1.1.0"}
    assert "No IP addresses supplied on interface: eth1" in chain.attempt("ADD", chain.last).json["msg"]
    chain.result = {
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "eth0", "sandbox": "/run/netns/c1"}],
        "ips": [{"address": "10.77.1.2/24", "interface": 0}],
    }
    assert "No IP addresses supplied on interface: eth1" in chain.attempt("ADD", chain.last).json["msg"]


@pytest.mark.parametrize(
    "damage, words",
    [
        ("rule del from 10.77.1.2", "no rule from 10.77.1.2/32"),
        ("-6 rule del from fd77:1::2", "no rule from fd77:1::2/128"),
        ("route del default table 100", "table 100 has no default route via 10.77.1.1 dev eth1"),
        ("-6 route del default table 101", "table 101 has no default route via fd77:1::1 dev eth1"),
        ("route del 10.77.1.0/24 table 100", "route 10.77.1.0/24 src 10.77.1.2 table 100 dev eth1 is gone"),
        ("-6 route del fd77:1::/64 table 101", "route fd77:1::/64 table 101 metric 256 dev eth1 is gone"),
        ("route replace default via 10.77.1.9 table 100", "table 100 has no default route via 10.77.1.1 dev eth1"),
        ("-6 route replace default via fd77:1::9 table 101", "table 101 has no default route via fd77:1::1 dev eth1"),
        ("route add 10.77.1.0/24 dev eth1", "route 10.77.1.0/24 dev eth1 is in the main table"),
        ("-6 route add fd77:1::/64 dev eth1", "is in the main table"),
    ],
)
def test_check_sees(machine: Machine, damage: str, words: str) -> None:
    machine.container()
    chain = network(machine, 1)
    chain.add()
    assert chain.check().status == 0
    family, *rest = damage.split() if damage[0] == "-" else ("-4", *damage.split())
    machine.run("ip", family, "-n", "c1", *rest)
    outcome = chain.check()
    assert outcome.code == 999 and words in outcome.json["msg"], outcome


def test_check_of_what_go_made_sees_another_gateway(machine: Machine) -> None:
    """Without a record the gateway is the address's."""
    machine.container()
    chain = network(machine, 1)
    chain.add(go_last=True)
    assert chain.check().status == 0
    table = rules(machine)["10.77.1.2"]
    machine.run("ip", "-n", "c1", "route", "replace", "default", "via", "10.77.1.9", "table", str(table))
    assert f"table {table} has no default route via 10.77.1.1 dev eth1" in chain.check().json["msg"]


def test_check_after_other_gateways(machine: Machine) -> None:
    """Those of the first ADD are no longer asked for; nor are they by a third."""
    machine.container()
    chain = network(machine, 1)
    chain.add()
    for last in (8, 9, 8):
        config = {**chain.last, "gateways": [f"10.77.1.{last}", f"fd77:1::{last}"]}
        chain.one("ADD", config)
        chain.one("CHECK", config)
        assert "has no default route via 10.77.1.1" in chain.check(gateways=["10.77.1.1"]).json["msg"]


def test_status(machine: Machine) -> None:
    outcome = machine.plugin("sbr", "STATUS", {"cniVersion": "1.1.0", "name": "mynet", **SBR})
    assert outcome.status == 0, outcome
