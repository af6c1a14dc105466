"""A link of its own in the container: what macvlan, ipvlan, vlan and dummy have in common."""

from __future__ import annotations

import time
from typing import Any

import pytest

from cnibox.host.namespace import Machine as Host
from cnibox.plugins.main.macvlan import Macvlan
from cnibox.spec.errors import CniError
from cnibox.spec.request import Request
from tests.support.machine import Machine, links
from tests.support.network import again, attach, host_local, state
from tests.support.uplink import STACKED, every, needing, network, uplink

# --- ADD


@every()
def test_life_of_an_attachment(machine: Machine, plugin: str) -> None:
    """The result tells what there is; CHECK and STATUS agree, and change nothing; DEL leaves nothing."""
    uplink(machine)
    machine.container()
    config = network(plugin, ipam=host_local(routes=[{"dst": "0.0.0.0/0"}]))
    before = state(machine)
    outcome = machine.plugin(plugin, "ADD", config)
    assert (outcome.status, outcome.stderr) == (0, ""), outcome
    result = outcome.json
    link = machine.ip("-d", "-n", "c1", "link", "show", "eth0")[0]
    own = {"mac": link["address"], "mtu": 1500, "name": "eth0", "sandbox": "/run/netns/c1"}
    assert result["interfaces"] == [own] and link["linkinfo"]["info_kind"] == plugin and link["mtu"] == 1500
    assert [(each["interface"], each["address"]) for each in result["ips"]] == [(0, "10.77.0.2/24"), (0, "fd77::2/64")]
    assert machine.ping("10.77.0.2", inside="c1") is False  # lo is down, and stays so
    added = state(machine)
    for _ in range(2):
        outcome = again(machine, "CHECK", config, result)
        assert (outcome.status, outcome.stdout, outcome.stderr) == (0, "", ""), outcome
        outcome = machine.plugin(plugin, "STATUS", config, container_id=None, netns=None, ifname=None)
        assert (outcome.status, outcome.stdout, outcome.stderr) == (0, "", ""), outcome
    assert state(machine) == added
    for _ in range(2):
        assert again(machine, "DEL", config, result).status == 0
    assert state(machine) == before


@every(*STACKED)
def test_name_of_the_master(machine: Machine, plugin: str) -> None:
    """An eth0 on top of an eth0, which older kernels do not make without a rename."""
    uplink(machine, "eth0")
    result = attach(machine, network(plugin, "eth0"))
    assert links(machine, "c1") == ["eth0", "lo"]
    assert again(machine, "CHECK", network(plugin, "eth0"), result).status == 0
    assert again(machine, "DEL", network(plugin, "eth0"), result).status == 0
    assert links(machine, "c1") == ["lo"]


@every("macvlan", "dummy")
def test_second_add_fails_and_leaves_the_first_alone(machine: Machine, plugin: str) -> None:
    uplink(machine)
    attach(machine, network(plugin))
    before = state(machine)
    outcome = machine.plugin(plugin, "ADD", network(plugin))
    assert outcome.status == 1 and "already has an interface eth0" in outcome.json["msg"]
    assert state(machine) == before


FAKE = {
    "error": """echo '{"code": 123, "msg": "no addresses today"}'; exit 1""",
    "empty": """echo '{"cniVersion": "1.0.0"}'""",
    "bad route": """echo '{"cniVersion": "1.0.0", "ips": [{"address": "10.77.0.2/24"}], "routes": [{"dst": "10.9.0.0/16", "gw": "10.8.0.1"}]}'""",
}


@every()
@pytest.mark.parametrize("answer", FAKE)
def test_nothing_stays_when_ipam_fails(machine: Machine, plugin: str, answer: str) -> None:
    """One that is run by exec, after the link was made."""
    uplink(machine)
    machine.container()
    script = f"#!/bin/sh\necho $CNI_COMMAND >>/run/said\n[ $CNI_COMMAND = ADD ] || exit 0\n{FAKE[answer]}\n"
    machine.run("sh", "-c", "mkdir /run/fake; cat >/run/fake/fake; chmod +x /run/fake/fake", stdin=script.encode())
    before = state(machine)
    outcome = machine.plugin(plugin, "ADD", network(plugin, ipam={"type": "fake"}), CNI_PATH="/run/fake")
    assert outcome.status == 1 and outcome.code == {"error": 123}.get(answer, 999), outcome
    assert machine.run("cat", "/run/said") == "ADD\nDEL\n"
    assert state(machine) == before


@every(*STACKED)
@pytest.mark.parametrize(
    "options, code, words",
    [
        ({"master": "up9"}, 999, "master interface up9 is not in the host's namespace"),
        ({"master": "no/name"}, 7, "/ or :"),
        ({"mtu": 1501}, 7, "invalid MTU 1501: the MTU of its master up0 is 1500"),
        ({"mtu": -1}, 7, "mtu"),
        ({"linkInContainer": True}, 999, "master interface up0 is not in /run/netns/c1"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_does_not_fit_the_master(machine: Machine, plugin: str, options: Any, code: int, words: str) -> None:
    """Told before any change, even of a lease."""
    uplink(machine)
    machine.container()
    outcome = machine.plugin(plugin, "ADD", network(plugin, **options))
    assert outcome.code == code and words in outcome.json["msg"], outcome
    assert machine.run("find", "/var/lib/cni", "/run/cnibox", "-type", "f", check=False) == ""
    assert links(machine, "c1") == ["lo"]
    assert machine.plugin(plugin, "DEL", network(plugin, **options)).status == 0


@every(*STACKED)
def test_mtu(machine: Machine, plugin: str) -> None:
    uplink(machine, mtu="1450")
    result = attach(machine, network(plugin, mtu=1400))
    assert result["interfaces"][0]["mtu"] == machine.ip("-n", "c1", "link", "show", "eth0")[0]["mtu"] == 1400
    assert again(machine, "CHECK", network(plugin, mtu=1400), result).status == 0
    assert attach(machine, network(plugin, vlanId=6), "c2")["interfaces"][0]["mtu"] == 1450


@every(*STACKED)
def test_master_in_the_container(machine: Machine, plugin: str) -> None:
    uplink(machine)
    machine.container()
    machine.run("ip", "link", "set", "up0", "netns", "c1")
    machine.run("ip", "-n", "c1", "link", "set", "up0", "up")
    config = network(plugin, linkInContainer=True)
    outcome = machine.plugin(plugin, "ADD", config)
    assert outcome.status == 0, outcome
    assert machine.ip("-n", "c1", "link", "show", "eth0")[0]["link"] == "up0"
    assert again(machine, "CHECK", config, outcome.json).status == 0
    for _ in range(2):
        assert again(machine, "DEL", config, outcome.json).status == 0
    assert links(machine, "c1") == ["lo", "up0"]


@every("macvlan")
def test_dns(machine: Machine, plugin: str) -> None:
    """IPAM's, unless the configuration has its own."""
    uplink(machine)
    ipam = {"type": "static", "addresses": [{"address": "10.77.0.9/24"}], "dns": {"domain": "ipam.example"}}
    result = attach(machine, network(plugin, ipam=ipam))
    assert result["dns"] == {"domain": "ipam.example"}
    assert again(machine, "DEL", network(plugin, ipam=ipam), result).status == 0
    own = {"nameservers": ["10.77.0.1"]}
    outcome = machine.plugin(plugin, "ADD", network(plugin, ipam=ipam, dns=own))
    assert outcome.json["dns"] == own


# --- the default route's interface


@every("macvlan", "ipvlan")
@pytest.mark.parametrize(
    "route", ["default via 192.0.2.2", "-6 default via fe80::2", "default nexthop via 192.0.2.2 nexthop via 192.0.2.3"]
)
def test_master_of_the_default_route(machine: Machine, plugin: str, route: str) -> None:
    """Once attached, the container does not depend on it."""
    uplink(machine)
    machine.run("ip", "address", "add", "192.0.2.1/24", "dev", "up0")
    six = ["-6"] if route.startswith("-6") else []
    words = route.removeprefix("-6 ").split()
    machine.run("ip", *six, "route", "add", *words, *(["dev", "up0"] if six else []))
    config = network(plugin, master=None)
    result = attach(machine, config)
    machine.run("ip", *six, "route", "delete", "default")
    assert (
        machine.ip("-n", "c1", "link", "show", "eth0")[0]["link_index"]
        == machine.ip("link", "show", "up0")[0]["ifindex"]
    )
    assert again(machine, "CHECK", config, result).status == 0
    assert again(machine, "DEL", config, result).status == 0
    assert links(machine, "c1") == ["lo"]
    outcome = machine.plugin(plugin, "ADD", config)
    assert outcome.status == 1 and "no default route in the host's namespace" in outcome.json["msg"]
    outcome = machine.plugin(plugin, "STATUS", config, container_id=None, netns=None, ifname=None)
    assert outcome.code == 50 and "no default route" in outcome.json["msg"]


# --- IPv6


def slow_dad_container(machine: Machine) -> None:
    """One in which duplicate address detection takes at least four seconds."""
    machine.container()
    machine.run("ip", "netns", "exec", "c1", "sysctl", "-qw", "net.ipv6.conf.default.dad_transmits=4")


@every()
def test_addresses_are_usable_after_add(machine: Machine, plugin: str) -> None:
    """Duplicate address detection has ended, where the link has any."""
    uplink(machine)
    attach(machine, network(plugin, ipam=host_local()))
    found = machine.ip("-n", "c1", "-6", "address", "show", "dev", "eth0")[0]["addr_info"]
    assert {each["scope"] for each in found} == {"global", "link"}
    assert not any(each.get("tentative") or each.get("nodad") for each in found)


@pytest.mark.parametrize(
    "plugin, options",
    [needing("ipvlan", {"mode": "l3"}), needing("ipvlan", {"mode": "l3s"}, name="ipvlan-l3s"), needing("dummy", {})],
)
def test_no_wait_where_nobody_could_answer(machine: Machine, plugin: str, options: Any) -> None:
    """Links without ARP and neighbour discovery: their addresses are usable at once."""
    uplink(machine)
    slow_dad_container(machine)
    started = time.monotonic()
    outcome = machine.plugin(plugin, "ADD", network(plugin, ipam=host_local(), **options))
    assert outcome.status == 0 and time.monotonic() - started < 3, outcome
    assert "tentative" not in str(machine.ip("-n", "c1", "-6", "address", "show", "dev", "eth0"))


@every("macvlan", "ipvlan")
def test_no_wait_without_a_carrier(machine: Machine, plugin: str) -> None:
    uplink(machine)
    machine.run("ip", "-n", "wire", "link", "set", "wire0", "down")
    assert machine.wait_until(lambda: "LOWER_UP" not in machine.ip("link", "show", "up0")[0]["flags"])
    slow_dad_container(machine)
    started = time.monotonic()
    outcome = machine.plugin(plugin, "ADD", network(plugin, ipam=host_local()))
    assert outcome.status == 0 and time.monotonic() - started < 3, outcome


@every("macvlan", "ipvlan")
def test_an_address_that_another_host_has(machine: Machine, plugin: str) -> None:
    uplink(machine)
    machine.container()
    before = state(machine)
    ipam = {"type": "static", "addresses": [{"address": "fd77::1/64"}]}
    outcome = machine.plugin(plugin, "ADD", network(plugin, ipam=ipam))
    assert outcome.status == 1 and "another host on this network has that address" in outcome.json["msg"]
    assert state(machine) == before


# --- CHECK

OTHER_MAC = "02:00:00:00:00:99"
OF_ALL = [
    ("ip -n c1 link set eth0 down", "eth0 is down"),
    ("ip -n c1 link delete eth0", "eth0 is not in"),
    ("ip -n c1 link delete eth0; ip -n c1 link add eth0 up type bridge", "is a bridge"),
    ("ip -n c1 address flush dev eth0", "10.77.0.2/24 is not on eth0"),
    ("ip -n c1 route delete 10.9.0.0/16", "route 10.9.0.0/16"),
]
OF_STACKED = [("ip -n c1 link set eth0 mtu 1300", "MTU 1300, not 1400")]
OF_ONE = {
    "macvlan": [
        (f"ip -n c1 link set eth0 address {OTHER_MAC}", OTHER_MAC),
        ("ip -n c1 link set eth0 type macvlan mode vepa", "mode of eth0 is vepa, not private"),
        ("ip -n c1 link set eth0 type macvlan bcqueuelen 7", "bcqueuelen of eth0 is 7, not 3000"),
    ],
    "ipvlan": [("ip -n c1 link set eth0 type ipvlan mode l2", "mode of eth0 is l2, not l3")],
    "vlan": [],
    "dummy": [(f"ip -n c1 link set eth0 address {OTHER_MAC}", OTHER_MAC)],
}
OPTIONS: dict[str, dict[str, Any]] = {
    "macvlan": {"mode": "private", "mtu": 1400, "bcqueuelen": 3000},
    "ipvlan": {"mode": "l3", "mtu": 1400},
    "vlan": {"mtu": 1400},
    "dummy": {},
}


@every()
def test_check_names_what_is_different(machine: Machine, plugin: str) -> None:
    """Each difference in a container of its own."""
    uplink(machine)
    config = network(plugin, **OPTIONS[plugin])
    config["ipam"] = host_local("10.77.0.0/24", routes=[{"dst": "10.9.0.0/16"}])
    for mutation, named in OF_ALL + (OF_STACKED if plugin in STACKED else []) + OF_ONE[plugin]:
        result = attach(machine, config)
        assert again(machine, "CHECK", config, result).status == 0
        machine.run("sh", "-ec", mutation)
        outcome = again(machine, "CHECK", config, result)
        assert outcome.status == 1 and named in outcome.json["msg"], (mutation, outcome)
        assert again(machine, "DEL", config, result).status == 0
        machine.run("sh", "-c", "ip netns delete c1; rm -r /var/lib/cni/networks")


@every(*STACKED)
def test_check_with_other_options_than_add(machine: Machine, plugin: str) -> None:
    """What is not as the configuration says; also on top of another master, of the same kind."""
    uplink(machine)
    machine.run("sh", "-ec", "ip link add up1 type veth peer name up2; ip link set up1 up")
    config = network(plugin)
    result = attach(machine, config)
    others = {"macvlan": {"mode": "vepa"}, "ipvlan": {"mode": "l3s"}, "vlan": {"vlanId": 6}}[plugin]
    for options, named in (
        (others, str(next(iter(others.values())))),
        ({"master": "up1"}, "not on top of up1"),
        ({"master": "up9"}, "up9"),
    ):
        outcome = again(machine, "CHECK", network(plugin, **options), result)
        assert outcome.status == 1 and named in outcome.json["msg"], outcome


# --- DEL and GC


@every()
@pytest.mark.parametrize("gone", ["nothing", "ip link delete up0", "ip netns delete c1", "CNI_NETNS"])
def test_delete_needs_nothing(machine: Machine, plugin: str, gone: str) -> None:
    """Neither the namespace, nor the master, nor options that make sense, nor prevResult."""
    uplink(machine)
    attach(machine, network(plugin))
    if gone.startswith("ip"):
        machine.run(*gone.split())
    wrong = network(plugin, "up9", mode="nonsense", vlanId=9999, mtu="big")
    for _ in range(2):
        outcome = machine.plugin(plugin, "DEL", wrong, netns="" if gone == "CNI_NETNS" else "/run/netns/c1")
        assert (outcome.status, outcome.stdout) == (0, ""), outcome
    folders = "/var/lib/cni/networks", "/run/cnibox/attachments"
    assert machine.run("find", *folders, "-name", "10.77.*", "-o", "-name", "eth0*") == ""
    assert gone not in ("nothing", "CNI_NETNS") or links(machine, "c1") == ["lo"]


@every("macvlan", "ipvlan")
def test_delete_of_what_was_never_added(machine: Machine, plugin: str) -> None:
    machine.container()
    before = state(machine)
    assert machine.plugin(plugin, "DEL", network(plugin)).status == 0
    assert machine.plugin(plugin, "DEL", network(plugin), netns="/run/netns/none").status == 0
    assert state(machine) == before


@every("macvlan", "vlan")
def test_gc(machine: Machine, plugin: str) -> None:
    uplink(machine)
    config = network(plugin)
    attach(machine, config)
    before = state(machine)
    attach(machine, {**config, "vlanId": 6}, "c2")
    valid = [{"containerID": "c1", "ifname": "eth0"}]
    outcome = machine.plugin(
        plugin, "GC", {**config, "cni.dev/valid-attachments": valid}, container_id=None, netns=None, ifname=None
    )
    assert (outcome.status, outcome.stdout) == (0, ""), outcome
    assert links(machine, "c2") == ["lo"] and links(machine, "c1") == ["eth0", "lo"]
    machine.run("ip", "netns", "delete", "c2")
    assert state(machine) == before


# --- STATUS


@every("macvlan", "vlan")
def test_status_names_the_missing_master(machine: Machine, plugin: str) -> None:
    for config in (network(plugin, "up7"), network(plugin, "up7", linkInContainer=True)):
        outcome = machine.plugin(plugin, "STATUS", config, container_id=None, netns=None, ifname=None)
        if "linkInContainer" in config:  # which container's, STATUS is not told
            assert outcome.status == 0, outcome
        else:
            assert outcome.code == 50 and "up7" in outcome.json["msg"], outcome


def test_status_names_the_missing_kind() -> None:
    class Unknown(Macvlan):
        kind = "nosuch"

    config: dict[str, object] = {"type": "macvlan", "linkInContainer": True}
    with pytest.raises(CniError) as raised:
        Unknown("macvlan", Request("STATUS", config=config), Host("")).status()
    assert raised.value.code == 50 and "no links of type nosuch" in raised.value.msg
    assert "modprobe nosuch" in raised.value.details


# --- MTU


@every()
def test_check_compares_the_mtu_of_the_result(machine: Machine, plugin: str) -> None:
    """Which the configuration does not name."""
    uplink(machine)
    config = network(plugin)
    result = attach(machine, config)
    machine.run("ip", "-n", "c1", "link", "set", "eth0", "mtu", "1300")
    outcome = again(machine, "CHECK", config, result)
    assert outcome.status == 1 and "eth0 has MTU 1300, not 1500" in outcome.json["msg"]
    machine.run("ip", "-n", "c1", "link", "set", "eth0", "mtu", "1500")
    assert again(machine, "CHECK", config, result).status == 0


@every(*STACKED)
@pytest.mark.parametrize("own", [0, 1279], ids=["master's", "own"])
def test_mtu_too_small_for_ipv6(machine: Machine, plugin: str, own: int) -> None:
    """The master's or one that the configuration names; IPv4 can do with it."""
    uplink(machine, mtu="1500" if own else "1200")
    machine.container()
    before = state(machine)
    outcome = machine.plugin(plugin, "ADD", network(plugin, mtu=own, ipam=host_local("10.77.0.0/24", "fd77::/64")))
    said = "eth0 has 1279" if own else "master up0 has 1200"
    assert outcome.code == 7 and "MTU of at least 1280" in outcome.json["msg"] and said in outcome.json["msg"]
    assert state(machine) == before
    assert machine.plugin(plugin, "ADD", network(plugin, mtu=own)).status == 0
