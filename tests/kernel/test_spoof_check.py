"""macspoofchk: a container that gives itself another MAC address is heard by nobody."""

from __future__ import annotations

import re

import pytest

from tests.support.machine import Machine
from tests.support.network import again, attach, bridge, host_local, layer2

V4 = host_local("10.77.0.0/24")
SPOOFED = "02:00:00:00:be:ef"


def checked(**options: object) -> dict[str, object]:
    return bridge(macspoofchk=True, ipam=V4, **options)


def rules(machine: Machine) -> str:
    """Without handles; the base chain alone is what the reference leaves as well."""
    text = machine.run("nft", "list", "table", "bridge", "nat", check=False)
    return re.sub(r"\s+", " ", text)


EMPTY = "table bridge nat { chain PREROUTING { type filter hook prerouting priority dstnat; policy accept; } } "


def spoof(machine: Machine, mac: str = SPOOFED) -> None:
    """The address stays; the neighbours' knowledge of the old MAC address goes."""
    machine.run("ip", "-n", "c1", "link", "set", "eth0", "address", mac)
    machine.run("ip", "neigh", "flush", "all")
    machine.run("ip", "-n", "c1", "neigh", "flush", "all")


def test_only_the_given_address_passes(machine: Machine) -> None:
    attach(machine, checked(), "c1")
    attach(machine, checked(), "c2")
    assert machine.ping("10.77.0.2") and machine.ping("10.77.0.3", inside="c1")
    mac = machine.ip("-n", "c1", "link", "show", "eth0")[0]["address"]
    spoof(machine)
    assert not machine.ping("10.77.0.2") and not machine.ping("10.77.0.3", inside="c1")
    assert machine.ping("10.77.0.3")  # the neighbour is not touched
    spoof(machine, mac)
    assert machine.ping("10.77.0.2") and machine.ping("10.77.0.3", inside="c1")


def test_without_the_option_any_address_passes(machine: Machine) -> None:
    attach(machine, bridge(ipam=V4))
    spoof(machine)
    assert machine.ping("10.77.0.2")
    assert rules(machine) == ""


def test_rules_have_the_names_of_the_reference(machine: Machine) -> None:
    result = attach(machine, checked())
    near, far = (interface for interface in result["interfaces"] if interface["name"] != "cni0")
    comment = 'comment "macspoofchk-c1-eth0"'
    assert rules(machine) == (
        "table bridge nat { chain PREROUTING { type filter hook prerouting priority dstnat; policy accept; "
        f'iifname "{near["name"]}" jump cni-br-iface-c1-eth0 {comment} }} '
        f"chain cni-br-iface-c1-eth0 {{ jump cni-br-iface-c1-eth0-mac {comment} }} "
        f"chain cni-br-iface-c1-eth0-mac {{ ether saddr {far['mac']} return {comment} drop {comment} }} }} "
    )


@pytest.mark.parametrize("how", ["with everything", "without prevResult", "without netns", "namespace gone", "GC"])
def test_nothing_is_left(machine: Machine, how: str) -> None:
    config = checked()
    result = attach(machine, config)
    attach(machine, config, "c2")
    if how == "namespace gone":
        machine.run("ip", "netns", "delete", "c1")
    if how == "GC":
        valid = {"cni.dev/valid-attachments": [{"containerID": "c2", "ifname": "eth0"}]}
        ended = machine.plugin("bridge", "GC", {**config, **valid}, container_id="", netns="", ifname="")
    else:
        given = {**config, "prevResult": result} if how == "with everything" else config
        ended = machine.plugin("bridge", "DEL", given, netns="" if how == "without netns" else "/run/netns/c1")
    assert ended.status == 0, ended
    assert "c1-eth0" not in rules(machine) and "c2-eth0" in rules(machine)
    assert machine.ping("10.77.0.3")


def test_del_takes_away_what_the_go_plugin_made(machine: Machine) -> None:
    config = {**checked(), "cniVersion": "1.0.0"}
    machine.container("c1")
    added = machine.go("bridge", "ADD", config)
    assert added.status == 0 and "c1-eth0-mac" in rules(machine)
    assert again(machine, "DEL", config, added.json).status == 0
    assert rules(machine) == EMPTY


def test_the_go_plugin_takes_away_what_we_made(machine: Machine) -> None:
    config = {**checked(), "cniVersion": "1.0.0"}
    result = attach(machine, config)
    assert machine.go("bridge", "DEL", {**config, "prevResult": result}).status == 0
    assert rules(machine) == EMPTY


@pytest.mark.parametrize(
    "broken", ["flush chain bridge nat PREROUTING", "flush chain bridge nat cni-br-iface-c1-eth0-mac"]
)
def test_check_misses_a_rule_and_repair_puts_it_back(machine: Machine, broken: str) -> None:
    config = checked()
    result = attach(machine, config)
    assert again(machine, "CHECK", config, result).status == 0
    before = rules(machine)
    machine.run("nft", *broken.split())
    ended = again(machine, "CHECK", config, result)
    assert ended.status == 1 and "macspoofchk" in ended.json["msg"], ended
    assert "MAC-spoof check" in machine.run(f"{machine.farm}/cnibox", "repair")
    assert rules(machine) == before
    assert again(machine, "CHECK", config, result).status == 0


JUMP, CHAIN, MAC_CHAIN = "PREROUTING", "cni-br-iface-c1-eth0", "cni-br-iface-c1-eth0-mac"
REPLACEMENTS = [
    (JUMP, 0, 'iifname "other" jump cni-br-iface-c1-eth0 comment "macspoofchk-c1-eth0"'),
    (JUMP, 0, 'iifname "other" jump cni-br-iface-c1-eth0'),
    (JUMP, 0, 'accept comment "macspoofchk-c1-eth0"'),
    (CHAIN, 0, "jump cni-br-iface-c2-eth0-mac"),
    (MAC_CHAIN, 0, f"ether saddr {SPOOFED} return"),
    (MAC_CHAIN, 0, f"ether daddr {SPOOFED} return"),
    (MAC_CHAIN, 1, "accept"),
    *((chain, number, "") for chain, number in ((JUMP, 0), (CHAIN, 0), (MAC_CHAIN, 0), (MAC_CHAIN, 1))),
]


@pytest.mark.parametrize("chain, number, other", REPLACEMENTS)
def test_each_rule_deleted_or_replaced(machine: Machine, chain: str, number: int, other: str) -> None:
    config = checked()
    result = attach(machine, config)
    before = rules(machine)
    attach(machine, config, "c2")
    both = rules(machine)
    text = machine.run("nft", "-a", "list", "chain", "bridge", "nat", chain)
    handle = re.findall(r"(?m)comment.*# handle (\d+)$", text)[number]
    change = "replace" if other else "delete"
    machine.run("nft", f"{change} rule bridge nat {chain} handle {handle} {other}")
    broken = rules(machine)
    ended = again(machine, "CHECK", config, result)
    assert ended.status == 1 and "macspoofchk" in ended.json["msg"], ended
    assert rules(machine) == broken != both
    assert machine.run(f"{machine.farm}/cnibox", "repair").count("MAC-spoof check") == 1
    assert sorted(rules(machine).split()) == sorted(both.split())
    assert again(machine, "CHECK", config, result).status == 0
    assert machine.ping("10.77.0.2")
    machine.plugin("bridge", "DEL", config, container_id="c2", netns="/run/netns/c2")
    assert rules(machine) == before


def test_check_tells_a_wrong_order(machine: Machine) -> None:
    """Everything is dropped."""
    config = checked()
    result = attach(machine, config)
    text = machine.run("nft", "-a", "list", "chain", "bridge", "nat", MAC_CHAIN)
    rule, handle = re.findall(r"(ether .*) # handle (\d+)", text)[0]
    place = f"rule bridge nat {MAC_CHAIN}"
    machine.run("nft", f"delete {place} handle {handle}; add {place} {rule}")
    assert not machine.ping("10.77.0.2")
    assert again(machine, "CHECK", config, result).status == 1
    machine.run(f"{machine.farm}/cnibox", "repair")
    assert machine.ping("10.77.0.2") and again(machine, "CHECK", config, result).status == 0


def test_what_the_go_plugin_made_is_complete(machine: Machine) -> None:
    config = {**checked(), "cniVersion": "1.0.0"}
    machine.container("c1")
    added = machine.go("bridge", "ADD", config)
    assert added.status == 0
    ended = again(machine, "CHECK", config, added.json)
    assert ended.status == 0, ended


def test_layer_2(machine: Machine) -> None:
    """Without IPAM, too; the container's own configuration of addresses comes later."""
    config = layer2(macspoofchk=True, mac="02:00:00:00:00:01")
    result = attach(machine, config)
    assert "ether saddr 02:" in rules(machine) or result["interfaces"][2]["mac"] in rules(machine)
    assert again(machine, "DEL", config, result).status == 0
    assert rules(machine) == EMPTY
