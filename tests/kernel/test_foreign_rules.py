"""Other software writes rules to iptables' tables that iptables cannot show; then iptables-save shows nothing of them."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.firewall import network, run, wall
from tests.support.machine import GO, Machine, Outcome
from tests.support.network import attach, bridge, host_local, ptp, state
from tests.support.packets import HOST, OUTSIDE, outside_world, source_seen
from tests.support.ports import mapping, portmap

DEFAULT = [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
VERSIONS = pytest.mark.parametrize("version", [4, 6])
PLUGINS = pytest.mark.parametrize("plugin", ["bridge", "ptp", "portmap", "firewall"])
TABLES = {"bridge": "nat", "ptp": "nat", "portmap": "nat", "firewall": "filter"}
BASE = {"nat": "POSTROUTING", "filter": "FORWARD"}
RULES = {"nat": "oifname wg0 masquerade", "filter": "iifname wg0 ct state invalid drop"}
HOOKS = {"nat": "type nat hook postrouting priority 100;", "filter": "type filter hook forward priority 0;"}


def write_foreign_rule(machine: Machine, version: int, table: str, chain: str = "ts-postrouting") -> None:
    """As `nft` or Tailscale do; in a chain of its own, or between the rules of iptables."""
    place = f"{'ip' if version == 4 else 'ip6'} {table}"
    hook = f" {{ {HOOKS[table]} }}" if chain == BASE[table] else ""
    commands = f"add table {place}\nadd chain {place} {chain}{hook}\ninsert rule {place} {chain} {RULES[table]}\n"
    machine.run("nft", "-f", "-", stdin=commands.encode())
    program = "iptables-save" if version == 4 else "ip6tables-save"
    assert "incompatible" in machine.run(program, "-t", table)


class Attachment:
    """A dual-stack container; `plugin` writes rules for it, and is what the verbs are for."""

    def __init__(self, machine: Machine, plugin: str, backend: str = "", container: str = "c1") -> None:
        self.machine = machine
        self.plugin = plugin
        self.container = container
        make = ptp if plugin == "ptp" else bridge
        masquerading = plugin in ("bridge", "ptp")
        network = make(name="net1", ipMasq=masquerading, ipam=host_local(routes=DEFAULT), cniVersion="1.0.0")
        if masquerading:
            self.config = {**network, **({"ipMasqBackend": backend} if backend else {})}
            machine.container(container)
        else:
            self.previous = attach(machine, network, container)
            if plugin == "portmap":
                ports = mapping(8080), mapping(5353, 53, "udp"), mapping(99, 9, host_ip="192.0.2.7")
                self.config = portmap(*ports, backend=backend, name="net1", cniVersion="1.0.0")
            else:
                chosen = {"backend": backend} if backend else {}
                self.config = {"cniVersion": "1.0.0", "name": "net1", "type": "firewall", **chosen}
                self.config["ingressPolicy"] = "isolated"
            self.config["prevResult"] = self.previous

    def run(self, verb: str, **options: Any) -> Outcome:
        netns = f"/run/netns/{self.container}"
        config = {**self.config, **options.pop("config", {})}
        outcome = self.machine.plugin(
            self.plugin, verb, config, container_id=self.container, **{"netns": netns, **options}
        )
        if verb == "ADD" and outcome.status == 0:
            self.config["prevResult"] = outcome.json
        return outcome

    def done(self, verb: str, **options: Any) -> Outcome:
        outcome = self.run(verb, **options)
        assert outcome.status == 0, outcome
        return outcome


def rules(machine: Machine, version: int, table: str) -> list[str]:
    """The table's rules as nft lists them, in order, without counters and handles."""
    text = machine.run("nft", "list", "table", "ip" if version == 4 else "ip6", table, check=False)
    return re.sub(r"counter packets \d+ bytes \d+ ?|#.*", "", text).splitlines()


def of_containers(machine: Machine) -> list[str]:
    """What there is of single containers, whichever backend made it."""
    found = machine.run("nft", "list", "ruleset")
    return [line.strip() for line in found.splitlines() if re.search(r"CNI-(DN-)?[0-9a-f]{20}|10\.77\.|fd77:", line)]


# --- ADD and STATUS


@PLUGINS
@VERSIONS
def test_nftables_takes_the_place_of_iptables(machine: Machine, plugin: str, version: int) -> None:
    attachment = Attachment(machine, plugin)
    table = TABLES[plugin]
    write_foreign_rule(machine, version, table)
    before = rules(machine, version, table)
    attachment.done("STATUS", config={"cniVersion": "1.1.0"})
    outcome = attachment.done("ADD")
    assert "nftables takes its place" in outcome.stderr and f"table {table}" in outcome.stderr
    assert rules(machine, version, table) == before and of_containers(machine)
    attachment.done("CHECK")
    assert machine.run(f"{machine.farm}/cnibox", "repair") == "nothing was missing\n"
    attachment.done("DEL")
    assert of_containers(machine) == [] and rules(machine, version, table) == before


@PLUGINS
def test_iptables_that_was_chosen_is_refused_in_clear_words(machine: Machine, plugin: str) -> None:
    attachment = Attachment(machine, plugin, "iptables")
    table = TABLES[plugin]
    write_foreign_rule(machine, 4, table, BASE[table])
    before = state(machine)
    outcome = attachment.run("ADD")
    assert outcome.status == 1
    for words in (f"table {table} has rules that iptables cannot show", "Tailscale", "use the nftables backend"):
        assert words in outcome.json["msg"]
    assert state(machine) == before
    outcome = attachment.run("STATUS", config={"cniVersion": "1.1.0"})
    assert outcome.code == 50 and "cannot show" in outcome.json["msg"]


def test_rules_of_the_other_ip_version_do_not_matter(machine: Machine) -> None:
    machine.container()
    write_foreign_rule(machine, 6, "nat")
    config = bridge(ipMasq=True, ipMasqBackend="iptables", ipam=host_local("10.99.0.0/24"))
    outcome = machine.plugin("bridge", "ADD", config)
    assert (outcome.status, outcome.stderr) == (0, ""), outcome


def test_what_iptables_can_show_does_not_matter(machine: Machine) -> None:
    """A table of another name, and another base chain in its own."""
    machine.run("nft", "add table ip tailscale; add chain ip tailscale x; add rule ip tailscale x masquerade")
    machine.run("nft", "add table ip nat; add chain ip nat x { type nat hook postrouting priority 99; }")
    machine.run("nft", "add rule ip nat x masquerade")
    attach(machine, bridge(ipMasq=True))
    assert "CNI-" in machine.run("iptables-save", "-t", "nat")


def test_packets_pass_beside_foreign_rules(machine: Machine) -> None:
    outside_world(machine)
    for version in (4, 6):
        write_foreign_rule(machine, version, "nat")
    attachment = Attachment(machine, "bridge")
    attachment.done("ADD")
    for version in (4, 6):
        assert source_seen(machine, sender="c1", receiver="outside", address=OUTSIDE[version]) == HOST[version]


# --- reading


def shown(lines: list[str]) -> tuple[set[str], list[str]]:
    """Chains without counters, and the rules of each chain in order."""
    chains = {line.split()[0] for line in lines if line.startswith(":")}
    return chains, sorted((line for line in lines if line.startswith("-A ")), key=lambda line: line.split()[1])


@pytest.mark.parametrize("table", ["nat", "filter"])
@VERSIONS
def test_netlink_shows_what_iptables_save_shows(machine: Machine, version: int, table: str) -> None:
    """Prefixes of all kinds, every policy, marks, protocols, addresses of the host, and an administrator's rules."""
    options = {"ipMasq": True, "ipMasqBackend": "iptables"}
    subnets = host_local("10.0.0.0/9", "fd78::/61", "10.129.0.0/17", "fd79::/56", "192.168.0.0/16")
    result = attach(machine, ptp(name="net3", **options, ipam=subnets), "c3")
    more = {"name": "net3", "prevResult": result, "masqAll": True, "markMasqBit": 31}
    ports = [mapping(81, 8, host_ip="192.0.2.1"), mapping(82, 8, "udp", host_ip="fd00::1"), mapping(83, 9, "sctp")]
    where = {"container_id": "c3", "netns": "/run/netns/c3"}
    outcome = machine.plugin("portmap", "ADD", portmap(*ports, backend="iptables", **more), **where)
    assert outcome.status == 0, outcome
    for number, policy in ((1, "isolated"), (2, "same-bridge"), (4, "open")):
        result = attach(machine, network(number), f"w{number}")
        assert run(machine, "ADD", wall("iptables", number, ingressPolicy=policy), result, f"w{number}").status == 0
    program = "iptables" if version == 4 else "ip6tables"
    place = ("-t", table, "-A", BASE[table], *(["-i", "eth+"] if table == "filter" else []))
    machine.run(program, *place, "!", "-o", "br1", "-p", "tcp", "-m", "comment", "--comment", 'a "b" \\ c')
    saved = machine.run(f"{program}-save", "-t", table).splitlines()
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
    code += f"from cnibox.host.iptables_by_netlink import lines\nprint('\\n'.join(lines({version}, {table!r})))"
    chains, rules = shown(machine.run(sys.executable, "-c", code).splitlines())
    assert rules == shown(saved)[1] and len(rules) > 6
    assert shown(saved)[0] - chains <= {":PREROUTING", ":INPUT", ":OUTPUT"}  # chains that nobody has made yet


# --- CHECK, repair, DEL and GC, when the foreign rules came later


@PLUGINS
@VERSIONS
@pytest.mark.parametrize("between", [False, True], ids=["own-chain", "between-ours"])
def test_the_table_is_read_all_the_same(machine: Machine, plugin: str, version: int, between: bool) -> None:
    attachment = Attachment(machine, plugin, "iptables")
    attachment.done("ADD")
    table = TABLES[plugin]
    write_foreign_rule(machine, version, table, BASE[table] if between else "ts-chain")
    before = rules(machine, version, table)
    attachment.done("CHECK")
    assert machine.run(f"{machine.farm}/cnibox", "repair") == "nothing was missing\n"
    assert rules(machine, version, table) == before
    attachment.done("DEL")
    assert of_containers(machine) == []
    assert any(RULES[table] in line.replace('"', "") for line in rules(machine, version, table))


@PLUGINS
@VERSIONS
def test_a_missing_rule_is_found_and_put_back(machine: Machine, plugin: str, version: int) -> None:
    attachment = Attachment(machine, plugin, "iptables")
    attachment.done("ADD")
    table, program = TABLES[plugin], "iptables" if version == 4 else "ip6tables"
    saved = machine.run(f"{program}-save", "-t", table).splitlines()
    mine = [line for line in saved if re.search(r"CNI-(DN-)?[0-9a-f]{20}|10\.77\.|fd77:", line) and line[0] == "-"]
    write_foreign_rule(machine, version, table)
    before = rules(machine, version, table)
    assert len(mine) >= 2
    for line in mine:
        script = f"*{table}\n{line.replace('-A', '-D', 1)}\nCOMMIT\n"
        machine.run(f"{program}-restore", "--noflush", stdin=script.encode())
        assert attachment.run("CHECK").status == 1, line
        assert "nothing was missing" not in machine.run(f"{machine.farm}/cnibox", "repair")
        attachment.done("CHECK")
        assert sorted(rules(machine, version, table)) == sorted(before), line
    attachment.done("DEL")
    assert of_containers(machine) == []


@PLUGINS
@pytest.mark.parametrize("verb", ["DEL", "GC"])
def test_what_a_go_plugin_made_is_removed(machine: Machine, plugin: str, verb: str) -> None:
    """There is no record of it. GC cannot know it of the firewall's rules, which name no container."""
    attachment = Attachment(machine, plugin, "iptables")
    if plugin == "firewall":
        del attachment.config["ingressPolicy"]
    attachment.done("ADD", farm=GO)
    assert of_containers(machine)
    write_foreign_rule(machine, 4, TABLES[plugin])
    collected = {"cniVersion": "1.1.0", "cni.dev/valid-attachments": []}
    attachment.done(verb, config=collected if verb == "GC" else {})
    assert (of_containers(machine) == []) == (plugin != "firewall" or verb == "DEL")


def test_a_neighbour_of_an_unreadable_table_keeps_its_rules(machine: Machine) -> None:
    """Two interfaces of one container share a chain; the second DEL takes it."""
    first, second = Attachment(machine, "bridge", "iptables"), Attachment(machine, "bridge", "iptables", "c2")
    for each in (first, second):
        each.done("ADD")
    first.done("ADD", ifname="eth1")
    write_foreign_rule(machine, 4, "nat", "POSTROUTING")
    before = len(of_containers(machine))
    first.done("DEL", ifname="eth1")
    assert 0 < len(of_containers(machine)) < before
    second.done("CHECK")
    first.done("DEL")
    second.done("CHECK")
    second.done("DEL")
    assert of_containers(machine) == []
