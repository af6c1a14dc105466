"""firewall's rules: whose they are, what CHECK misses, what DEL takes away, and what comes back."""

from __future__ import annotations

import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.firewall import done, elements, made_up, network, rules, run, wall, wired
from tests.support.machine import GO, Machine
from tests.support.network import attach, state
from tests.support.rules import ruleset

BACKENDS = pytest.mark.parametrize("backend", ["iptables", "nftables"])
POLICIES = pytest.mark.parametrize("policy", ["open", "same-bridge", "isolated"])
HIDE_IPTABLES = ("mount", "-t", "tmpfs", "none", "/etc/alternatives")  # where Debian's symlinks lead
FLUSH = {
    "iptables -F": "iptables -F; ip6tables -F; nft flush table inet cni_firewall",
    "nft flush ruleset": "nft flush ruleset",
}


def address_rules(machine: Machine) -> list[str]:
    """What there is of single addresses, by either backend."""
    return [
        each for version in (4, 6) for each in rules(machine, version) if re.search(r"-[ds] \S+/(32|128) ", each)
    ] + elements(machine)


# --- whose rules they are


@BACKENDS
def test_an_address_in_use_again_keeps_its_rules(machine: Machine, backend: str) -> None:
    """c1 has not been deleted when c2 is given its address."""
    machine.container()
    config, result = wall(backend), made_up(2)
    done(machine, "ADD", config, result, "c1")
    one = address_rules(machine)
    done(machine, "ADD", config, result, "c2", netns="/run/netns/c1")
    done(machine, "DEL", config, result, "c1")
    done(machine, "DEL", config, result, "c1")  # once more, when there is no record any more
    done(machine, "CHECK", config, result, "c2")
    assert address_rules(machine) == one
    done(machine, "DEL", config, None, "c2", netns="")
    assert address_rules(machine) == []


@BACKENDS
def test_a_second_add_without_del(machine: Machine, backend: str) -> None:
    """Nothing is there twice, and of the address that it had nothing is left."""
    machine.container()
    config = wall(backend, ingressPolicy="same-bridge")
    done(machine, "ADD", config, made_up(2))
    before = ruleset(machine, table="filter")
    done(machine, "ADD", config, made_up(2))
    assert ruleset(machine, table="filter") == before
    done(machine, "ADD", config, made_up(3))
    found = address_rules(machine)
    assert len(found) == len(set(found)) and not [each for each in found if "10.77.1.2" in each]
    done(machine, "DEL", config, None)
    assert address_rules(machine) == []


@BACKENDS
@POLICIES
def test_del_needs_no_previous_result(machine: Machine, backend: str, policy: str) -> None:
    config = wall(backend, ingressPolicy=policy)
    wired(machine, wall(backend, 2), "c2", 2)
    before = state(machine)
    wired(machine, config)
    for again in range(2):
        done(
            machine,
            "DEL",
            {"cniVersion": "1.1.0", "name": "net1", "type": "firewall", "backend": "nonsense"},
            None,
            netns="",
        )
        assert not [
            line for line in ruleset(machine, table="filter").splitlines() if "10.77.1." in line or "br1" in line
        ], again
    # A word: a random name may have these letters in it.
    mine, left = (
        re.findall(r"^.*\bc2\b.*$", files, re.MULTILINE) for files in (before["files"], state(machine)["files"])
    )
    assert mine == left != []


@BACKENDS
def test_each_policy_of_a_bridge_goes_with_its_last_attachment(machine: Machine, backend: str) -> None:
    machine.container()
    one, other = wall(backend, ingressPolicy="isolated"), wall(backend, ingressPolicy="same-bridge")
    done(machine, "ADD", other, made_up(2), "c1")
    before = ruleset(machine, table="filter")
    done(machine, "ADD", one, made_up(3), "c2", netns="/run/netns/c1")
    done(machine, "DEL", one, None, "c2")
    assert ruleset(machine, table="filter") == before
    done(machine, "DEL", other, None, "c1")
    assert not [line for line in ruleset(machine, table="filter").splitlines() if "br1" in line]


def test_policies_of_go_attachments_stay(machine: Machine) -> None:
    """Rules of release 1.1.1 count as ours; they stay while the container stands that has no record."""
    config = wall("iptables", ingressPolicy="same-bridge", cniVersion="1.0.0")
    plain = {**network(), "cniVersion": "1.0.0"}
    first = attach(machine, plain, "c0")
    assert run(machine, "ADD", config, first, "c0", farm=GO).status == 0
    before = rules(machine)
    second = attach(machine, plain, "c1")
    done(machine, "ADD", config, second)
    assert [line for line in rules(machine) if "10.77.1.3" not in line] == before
    done(machine, "CHECK", config, second)
    done(machine, "DEL", config, second)
    assert rules(machine) == before
    done(machine, "DEL", config, first, "c0")
    assert not [line for line in rules(machine) if "10.77.1." in line]


# --- what CHECK misses


@pytest.mark.parametrize("policy, version", [("isolated", 4), ("same-bridge", 6), ("open", 4)])
def test_check_tells_each_missing_rule_of_iptables(machine: Machine, policy: str, version: int) -> None:
    result = wired(machine, wall("iptables", ingressPolicy=policy))
    config, program = wall("iptables", ingressPolicy=policy), "iptables" if version == 4 else "ip6tables"
    saved = machine.run(f"{program}-save", "-t", "filter").encode()
    there = rules(machine, version)
    assert len(there) == {"open": 4, "same-bridge": 9, "isolated": 10}[policy]
    for line in there:
        machine.run("sh", "-c", f"{program} {line.replace('-A', '-D', 1)}")
        before = ruleset(machine, table="filter")
        refused = run(machine, "CHECK", config, result)
        assert refused.code == 999 and f"{program} {line}" in refused.json["msg"]
        assert ruleset(machine, table="filter") == before
        machine.run(f"{program}-restore", stdin=saved)
    done(machine, "CHECK", config, result)


def test_check_tells_a_wrong_order(machine: Machine) -> None:
    """What CNI-FORWARD accepts is isolated no more."""
    config = wall("iptables", ingressPolicy="same-bridge")
    result = wired(machine, config)
    jump = next(line for line in rules(machine) if line.endswith("-j CNI-ISOLATION-STAGE-1")).partition(" FORWARD ")[2]
    machine.run("sh", "-c", f"iptables -D FORWARD {jump}; iptables -A FORWARD {jump}")
    refused = run(machine, "CHECK", config, result)
    assert refused.code == 999 and "too early" in refused.json["msg"]


CHANGES = [
    ("delete element inet cni_firewall ipv4 { 10.77.1.2 }", "ipv4 { 10.77.1.2 }"),
    ("delete element inet cni_firewall ipv6 { fd77:1::2 }", "ipv6 { fd77:1::2 }"),
    ("flush chain inet cni_firewall forward", "rule inet cni_firewall forward jump overrides"),
    ("flush chain inet cni_firewall overrides", "jump CNI-ADMIN"),
    ("flush chain inet cni_firewall isolation_1", "isolated br1"),
    ("flush chain inet cni_firewall isolation_2", 'oifname "br1" drop'),
    ("delete table inet cni_firewall", "forward"),
]


@pytest.mark.parametrize("change, told", CHANGES)
def test_check_tells_what_is_missing_of_nftables(machine: Machine, change: str, told: str) -> None:
    config = wall("nftables", ingressPolicy="isolated")
    result = wired(machine, config)
    done(machine, "CHECK", config, result)
    complete = ruleset(machine, table="filter")
    machine.run("nft", change)
    before = state(machine)
    refused = run(machine, "CHECK", config, result)
    assert refused.code == 999 and told in refused.json["msg"]
    assert state(machine) == before
    machine.run(f"{machine.farm}/cnibox", "repair")
    assert ruleset(machine, table="filter") == complete
    done(machine, "CHECK", config, result)


def neighbours(machine: Machine) -> None:
    """What sorts before and behind the rules of br1 and of CNI-ADMIN."""
    machine.container("other")
    for number, (bridge, admin) in enumerate([("br0", "A"), ("br2", "site")], 10):
        config = wall("nftables", 7, ingressPolicy="isolated", iptablesAdminChainName=admin)
        done(machine, "ADD", config, made_up(number, bridge=bridge), bridge, netns="/run/netns/other")


def listed(machine: Machine) -> list[tuple[str, str, str]]:
    """(chain, rule, handle) of the nftables backend."""
    found, chain = [], ""
    for line in machine.run("nft", "-a", "list", "table", "inet", "cni_firewall").splitlines():
        words, _, handle = line.strip().partition(" # handle ")
        chain = words.split()[1] if words.startswith("chain ") else chain
        if chain and re.match("jump|ip6? |iifname|oifname", words):
            found.append((chain, words, handle))
    return found


def of_br1(machine: Machine) -> list[tuple[str, str, str]]:
    return [each for each in listed(machine) if not re.search('"br[02]"|jump (A|site)', each[1])]


@POLICIES
def test_check_tells_each_missing_rule_of_nftables(machine: Machine, policy: str) -> None:
    neighbours(machine)
    config = wall("nftables", ingressPolicy=policy)
    result = wired(machine, config)
    complete = ruleset(machine, table="filter")
    there = [(chain, rule) for chain, rule, _ in of_br1(machine)]
    assert len(there) == {"open": 7, "same-bridge": 9, "isolated": 10}[policy]
    for chain, rule in there:
        handle = next(handle for *other, handle in listed(machine) if other == [chain, rule])
        machine.run("nft", "delete", "rule", "inet", "cni_firewall", chain, "handle", handle)
        before = ruleset(machine, table="filter")
        refused = run(machine, "CHECK", config, result)
        assert (
            refused.code == 999 and refused.json["msg"] == f"firewall: missing: rule inet cni_firewall {chain} {rule}"
        )
        assert ruleset(machine, table="filter") == before
        told = machine.run(f"{machine.farm}/cnibox", "repair")
        assert told.count("nft add") == 1 and f": nft add rule inet cni_firewall {chain} {rule}\n" in told
        assert ruleset(machine, table="filter") == complete
        done(machine, "CHECK", config, result)


REPLACEMENTS = [
    ("forward", "jump isolation_1", "jump isolation_2"),
    ("forward", "jump overrides", "ip protocol tcp accept"),
    ("forward", "ip saddr @ipv4 accept", "ip daddr @ipv4 accept"),
    ("forward", "ip saddr @ipv4 accept", "ip saddr @ipv4 drop"),
    ("forward", "ip saddr @ipv4 accept", "ip saddr != @ipv4 accept"),
    ("forward", "ip6 daddr @ipv6 ct state established,related accept", "ip6 daddr @ipv6 ct state new accept"),
    ("overrides", 'jump CNI-ADMIN comment "CNI-ADMIN"', 'jump A comment "CNI-ADMIN"'),
    ("isolation_1", 'iifname "br1" oifname "br1" drop comment "isolated br1"', 'iifname "br1" oifname "br1" accept comment "isolated br1"'),
    ("isolation_1", 'iifname "br1" oifname != "br1" jump isolation_2 comment "isolated br1"', 'iifname "br1" oifname "br1" jump isolation_2 comment "isolated br1"'),
    ("isolation_2", 'oifname "br1" drop comment "br1"', 'oifname "br3" drop comment "br1"'),
]  # fmt: skip


@pytest.mark.parametrize("chain, rule, foreign", REPLACEMENTS)
def test_check_tells_a_rule_that_does_something_else(machine: Machine, chain: str, rule: str, foreign: str) -> None:
    """Which stays: whoever put it there may have had reasons."""
    neighbours(machine)
    config = wall("nftables", ingressPolicy="isolated")
    result = wired(machine, config)
    complete = ruleset(machine, table="filter")
    handle = next(handle for *other, handle in listed(machine) if other == [chain, rule])
    machine.run("nft", f"replace rule inet cni_firewall {chain} handle {handle} {foreign}")
    refused = run(machine, "CHECK", config, result)
    assert refused.code == 999 and refused.json["msg"] == f"firewall: missing: rule inet cni_firewall {chain} {rule}"
    machine.run(f"{machine.farm}/cnibox", "repair")
    done(machine, "CHECK", config, result)
    assert (chain, foreign, handle) in listed(machine)
    machine.run("nft", "delete", "rule", "inet", "cni_firewall", chain, "handle", handle)
    assert ruleset(machine, table="filter") == complete


def test_foreign_rules_of_nftables_stay(machine: Machine) -> None:
    """In front of ours and behind them, in every chain; ours alone are what it was without them."""
    config = wall("nftables", ingressPolicy="isolated")
    result = wired(machine, config)
    ours = ruleset(machine, table="filter")
    foreign = [
        (chain, f'tcp dport {port} counter packets 0 bytes 0 accept comment "{comment}"')
        for chain in ("forward", "overrides", "isolation_1", "isolation_2")
        for port, comment in ((1, "A"), (2, "zone"))
    ]

    def stay() -> bool:
        return [line.strip() for line in ruleset(machine, table="filter").splitlines() if "dport" in line] == [
            rule.replace("packets 0 bytes 0", "packets  bytes ") for _, rule in sorted(foreign, key=lambda each: order.index(each[0]))
        ]  # fmt: skip

    order = list(dict.fromkeys(chain for chain, *_ in listed(machine)))
    for chain, rule in foreign:
        machine.run("nft", f"{'insert' if 'dport 1 ' in rule else 'add'} rule inet cni_firewall {chain} {rule}")
    done(machine, "CHECK", config, result)
    assert machine.run(f"{machine.farm}/cnibox", "repair") == "nothing was missing\n"
    neighbours(machine)
    assert stay()
    handles = [(chain, handle) for chain, rule, handle in of_br1(machine)]
    machine.run("nft", "; ".join(f"delete rule inet cni_firewall {chain} handle {handle}" for chain, handle in handles))
    assert run(machine, "CHECK", config, result).code == 999 and stay()
    machine.run(f"{machine.farm}/cnibox", "repair")
    done(machine, "CHECK", config, result)
    assert stay()
    for bridge in ("br0", "br2"):
        done(machine, "DEL", wall("nftables", 7), None, bridge)
    kept = [line for line in ruleset(machine, table="filter").splitlines() if "dport" not in line and not re.search(r"chain (A|site)|jump (A|site)", line)]  # fmt: skip
    assert [line for line in kept if line.strip() not in ("", "}")] == [line for line in ours.splitlines() if line.strip() not in ("", "}")]  # fmt: skip
    done(machine, "DEL", config, None)
    assert stay() and not [each for each in listed(machine) if "br1" in each[1]]


def test_a_ruleset_that_nft_has_saved_is_complete(machine: Machine) -> None:
    """nft's own encoding of the rules, and counters that the administrator adds, do the same."""
    config = wall("nftables", ingressPolicy="isolated")
    result = wired(machine, config)
    saved = machine.run("nft", "list", "ruleset").replace(" accept\n", " counter accept\n")
    machine.run("nft", "-f", "-", stdin=b"flush ruleset\n" + saved.encode())
    done(machine, "CHECK", config, result)
    assert machine.run(f"{machine.farm}/cnibox", "repair") == "nothing was missing\n"


def test_a_wrong_order_of_nftables(machine: Machine) -> None:
    """What is accepted is isolated no more."""
    config = wall("nftables", ingressPolicy="isolated")
    result = wired(machine, config)
    complete = ruleset(machine, table="filter")
    handle = next(handle for _, rule, handle in listed(machine) if rule == "jump isolation_1")
    place = "rule inet cni_firewall forward"
    machine.run("nft", f"delete {place} handle {handle}; add {place} jump isolation_1")
    assert run(machine, "CHECK", config, result).code == 999
    machine.run(f"{machine.farm}/cnibox", "repair")
    assert ruleset(machine, table="filter") == complete


def test_a_failed_add_by_nftables_leaves_what_it_found(machine: Machine) -> None:
    """Also where it had to complete what others have, and the administrator's rules."""
    neighbours(machine)
    config = wall("nftables", ingressPolicy="isolated", iptablesAdminChainName="mine")
    table = "inet cni_firewall"
    machine.run("nft", f"add chain {table} mine; add rule {table} mine tcp dport 1 drop; flush chain {table} overrides")
    handle = next(handle for _, rule, handle in listed(machine) if rule == "ip saddr @ipv4 accept")
    machine.run("nft", f"delete rule {table} forward handle {handle}")
    before = ruleset(machine, table="filter")
    machine.container()
    program = ["sh", "-c", f"exec {machine.farm}/firewall >/dev/full"]
    assert run(machine, "ADD", config, made_up(2), program=program).status == 1
    assert ruleset(machine, table="filter") == before


@BACKENDS
def test_check_tells_a_port_that_is_not_isolated(machine: Machine, backend: str) -> None:
    config = wall(backend, ingressPolicy="isolated")
    result = wired(machine, config)
    port = result["interfaces"][1]["name"]
    machine.run("bridge", "link", "set", "dev", port, "isolated", "off")
    refused = run(machine, "CHECK", config, result)
    assert refused.code == 999 and f"isolation of port {port}" in refused.json["msg"]


# --- what comes back


@BACKENDS
@pytest.mark.parametrize("flush", FLUSH)
def test_repair(machine: Machine, backend: str, flush: str) -> None:
    """The ruleset is what it was, byte for byte, whatever came and went before."""
    machine.container()
    for number, (name, bridge, policy) in enumerate(
        [("c1", "br5", "isolated"), ("c2", "br3", "same-bridge"), ("c3", "br5", "isolated"), ("c4", "br3", "open")]
    ):
        config = wall(backend, ingressPolicy=policy, iptablesAdminChainName="site" if name == "c3" else "CNI-ADMIN")
        done(machine, "ADD", config, made_up(number + 2, bridge=bridge), name, netns="/run/netns/c1")
    done(machine, "DEL", wall(backend), None, "c1")
    before = ruleset(machine, table="filter")
    machine.run("sh", "-c", FLUSH[flush], check=False)
    assert ruleset(machine, table="filter") != before
    machine.run(f"{machine.farm}/cnibox", "repair")
    assert ruleset(machine, table="filter") == before
    assert machine.run(f"{machine.farm}/cnibox", "repair") == "nothing was missing\n"


def test_the_policy_of_nftables_chain_is_the_administrators(machine: Machine) -> None:
    machine.container()
    config = wall("nftables")
    done(machine, "ADD", config, made_up(2))
    machine.run("nft", "chain", "inet", "cni_firewall", "forward", "{ policy drop; }")
    machine.run("nft", "flush", "chain", "inet", "cni_firewall", "forward")
    done(
        machine,
        "ADD",
        wall("nftables", 2, ingressPolicy="isolated", iptablesAdminChainName="site"),
        made_up(3),
        "c2",
        netns="/run/netns/c1",
    )
    listed = machine.run("nft", "list", "chain", "inet", "cni_firewall", "forward")
    assert "policy drop" in listed and listed.count(" accept") == 4
    machine.run("nft", "flush", "chain", "inet", "cni_firewall", "forward")
    there = elements(machine)
    program = ["sh", "-c", f"exec {machine.farm}/firewall >/dev/full"]
    assert run(machine, "ADD", config, made_up(4), "c3", netns="/run/netns/c1", program=program).status == 1
    assert elements(machine) == there and len(there) == 4


# --- what is refused


@pytest.mark.parametrize(
    "options, told",
    [
        ({"backend": "pf"}, "backend"),
        ({"ingressPolicy": "closed"}, "ingressPolicy"),
        ({"iptablesAdminChainName": "-j ACCEPT"}, "iptablesAdminChainName"),
        ({"iptablesAdminChainName": "x" * 29}, "iptablesAdminChainName"),
        ({"iptablesAdminChainName": "ACCEPT"}, "iptablesAdminChainName"),
        ({"ingressPolicy": "same-bridge", "interfaces": []}, "chain"),
        ({"ingressPolicy": "same-bridge", "interfaces": [{"name": ""}]}, "cannot be the bridge"),
        ({"ingressPolicy": "isolated", "interfaces": [{"name": "br+"}]}, "cannot be the bridge"),
        ({"ingressPolicy": "isolated", "interfaces": [{"name": 'br"1'}]}, "cannot be the bridge"),
    ],
)
def test_what_is_wrong_is_refused_before_any_change(machine: Machine, options: dict[str, Any], told: str) -> None:
    machine.container()
    result = made_up(2)
    options = dict(options)
    if "interfaces" in options:
        result["interfaces"] = options.pop("interfaces")
        result["ips"] = [{"address": "10.77.1.2/24"}]
    before = machine.snapshot()
    refused = run(machine, "ADD", wall(**{"backend": "nftables", **options}), result)
    assert refused.code == 7 and told in refused.stdout
    assert machine.snapshot() == before


def test_without_a_previous_result(machine: Machine) -> None:
    machine.container()
    for verb in ("ADD", "CHECK"):
        refused = run(machine, verb, wall(), None)
        assert refused.code == 7 and "chained" in refused.json["msg"]
    done(machine, "DEL", wall(), None)
    empty = {"cniVersion": "1.1.0", "interfaces": [{"name": "br1"}]}
    before = machine.snapshot()
    assert done(machine, "ADD", wall(), empty).json == empty
    done(machine, "CHECK", wall(), empty)
    assert machine.snapshot() == before


def test_a_family_without_its_program(machine: Machine) -> None:
    """It is needed only for addresses of that family; if it is missing then, nothing of the other one is left."""
    machine.container()
    machine.run("sh", "-c", "mount -t tmpfs none /etc/alternatives; ln -s /usr/sbin/xtables-nft-multi /etc/alternatives/iptables-restore; "
                "ln -s /usr/sbin/xtables-nft-multi /etc/alternatives/iptables-save; ln -s /usr/sbin/xtables-nft-multi /etc/alternatives/iptables")  # fmt: skip
    config, v4 = wall("iptables"), made_up(2, "10.77.1.2/24")
    before = state(machine)["files"]
    refused = run(machine, "ADD", config, made_up(2))
    assert refused.status == 1 and "ip6tables" in refused.json["msg"], refused
    assert not [line for line in machine.run("iptables-save").splitlines() if "CNI" in line]
    assert state(machine)["files"].replace("/run/cnibox/firewall.lock f 600", "").split() == before.split()
    done(machine, "ADD", config, v4)
    done(machine, "CHECK", config, v4)
    done(machine, "DEL", config, v4)


def test_without_iptables_nftables_takes_its_place(machine: Machine) -> None:
    machine.container()
    machine.run(*HIDE_IPTABLES)
    done(machine, "STATUS", wall(), None)
    assert run(machine, "STATUS", wall("iptables"), None).code == 50
    done(machine, "ADD", wall(), made_up(2))
    assert elements(machine) == ["10.77.1.2", "fd77:1::2"]
    done(machine, "CHECK", wall(), made_up(2))
    done(machine, "DEL", wall(), made_up(2))
    assert elements(machine) == []


def test_unusable_iptables_is_replaced(machine: Machine) -> None:
    machine.container()
    script = "cat >/run/broken <<'END'\n#!/bin/sh\necho no such table >&2\nexit 3\nEND\nchmod +x /run/broken"
    machine.run("sh", "-c", f"{script}; mount --bind /run/broken /usr/sbin/xtables-nft-multi")
    outcome = run(machine, "ADD", wall(), made_up(2))
    assert outcome.status == 0 and "nftables takes its place" in outcome.stderr, outcome
    assert elements(machine) == ["10.77.1.2", "fd77:1::2"]
    done(machine, "DEL", wall(), None)
    assert elements(machine) == []


# --- GC


@BACKENDS
def test_gc(machine: Machine, backend: str) -> None:
    """What is not valid goes, of this network only; by nftables also what is not recorded."""
    machine.container()
    config, other = wall(backend, ingressPolicy="same-bridge"), wall(backend, 2)
    for number, (name, of) in enumerate([("c1", config), ("c2", config), ("c3", other)], 2):
        done(machine, "ADD", of, made_up(number), name, netns="/run/netns/c1")
    if backend == "nftables":
        machine.run("rm", "-r", "/run/cnibox/attachments/c2")
    done(machine, "GC", {**config, "cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}]}, None)
    done(machine, "CHECK", config, made_up(2), "c1")
    done(machine, "CHECK", other, made_up(4), "c3")
    assert not [each for each in address_rules(machine) if "10.77.1.3" in each or "fd77:1::3" in each]
    done(machine, "GC", {**config, "cni.dev/valid-attachments": []}, None)
    assert not [line for line in ruleset(machine, table="filter").splitlines() if "10.77.1.2" in line or "br1" in line]
    done(machine, "CHECK", other, made_up(4), "c3")


# --- many at once


@BACKENDS
def test_fifty_at_once(machine: Machine, backend: str) -> None:
    """On a pristine machine: no chain, jump or rule is there twice, none is lost; every fifth ADD fails and is undone."""
    machine.container()
    config = wall(backend, ingressPolicy="same-bridge")
    names = {f"c{number}": made_up(number, bridge=f"br{number % 3}") for number in range(2, 52)}
    failing = [name for number, name in enumerate(names) if number % 5 == 0]

    def add(name: str) -> int:
        into = "/dev/full" if name in failing else "/dev/null"
        program = ["sh", "-c", f"exec {machine.farm}/firewall >{into}"]
        return run(machine, "ADD", config, names[name], name, netns="/run/netns/c1", program=program).status

    with ThreadPoolExecutor(50) as pool:
        ended = dict(zip(names, pool.map(add, names), strict=True))
        assert [name for name, status in ended.items() if status] == failing
        each = address_rules(machine)
        assert len(each) == len(set(each)) == 40 * (4 if backend == "iptables" else 2)
        for version in (4, 6) if backend == "iptables" else ():
            there = rules(machine, version)  # 3 jumps, 2 rules an address, 2 rules a bridge, 2 RETURNs
            assert len(there) == len(set(there)) == 3 + 2 * 40 + 2 * 3 + 2
        if backend == "nftables":
            listed = machine.run("nft", "list", "table", "inet", "cni_firewall")
            assert (listed.count(" drop "), listed.count(" jump "), listed.count(" accept")) == (3, 3, 5)
        for name in set(names) - set(failing):
            done(machine, "CHECK", config, names[name], name, netns="/run/netns/c1")
        assert not [
            out for out in pool.map(lambda name: run(machine, "DEL", config, names[name], name), names) if out.status
        ]
    assert address_rules(machine) == []
    assert not [
        line
        for line in ruleset(machine, table="filter").splitlines()
        if "br0" in line or "br1" in line or "br2" in line
    ]


def test_beside_the_go_plugin(machine: Machine) -> None:
    """Both take turns on one machine; each finds the other's chains, and what each adds it takes away."""
    machine.container()
    config = wall("iptables", cniVersion="1.0.0")
    results = {f"c{number}": {**made_up(number), "cniVersion": "1.0.0"} for number in range(2, 22)}
    machine.go("firewall", "ADD", {**config, "prevResult": {**made_up(99), "cniVersion": "1.0.0"}})
    before = rules(machine)

    def take_turn(verb: str, name: str) -> int:
        farm = GO if int(name[1:]) % 2 else machine.farm
        return run(machine, verb, config, results[name], name, netns="/run/netns/c1", farm=farm).status

    with ThreadPoolExecutor(4) as pool:
        assert not any(pool.map(lambda name: take_turn("ADD", name), results))
        assert len(rules(machine)) == len(before) + 40
        assert not any(pool.map(lambda name: take_turn("DEL", name), results))
    assert rules(machine) == before


def test_legacy_iptables(machine: Machine) -> None:
    """The same lines do the same in the kernel's older tables."""
    assert subprocess.run(machine.enter("iptables-legacy", "-S"), capture_output=True).returncode == 0
    machine.run("mount", "--bind", "/usr/sbin/xtables-legacy-multi", "/usr/sbin/xtables-nft-multi")
    machine.container()
    config = wall("iptables", ingressPolicy="isolated")
    done(machine, "ADD", config, made_up(2), "c1")
    done(machine, "ADD", config, made_up(3), "c2", netns="/run/netns/c1")
    done(machine, "ADD", config, made_up(4, bridge="br2"), "c3", netns="/run/netns/c1")
    done(machine, "CHECK", config, made_up(3), "c2", netns="/run/netns/c1")
    assert len(rules(machine)) == 3 + 6 + 2 + 2 * 3 and "cni_firewall" not in machine.run("nft", "list", "ruleset")
    for name in ("c1", "c2", "c3"):
        done(machine, "DEL", config, None, name)
    assert not [line for line in rules(machine) if "10.77." in line or "br" in line.split()[3]]
