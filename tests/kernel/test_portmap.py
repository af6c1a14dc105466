"""portmap's rules: what ADD makes, what CHECK misses, what DEL, GC and repair leave; and whose a port is."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.machine import Machine
from tests.support.network import again, attach, bridge, host_local, state
from tests.support.ports import ALL, ask, mapping, portmap, publish, run, serving
from tests.support.rules import ruleset

BACKENDS = pytest.mark.parametrize("backend", ["iptables", "nftables"])
NETWORK = bridge()
HIDE_IPTABLES = ("mount", "-t", "tmpfs", "none", "/etc/alternatives")  # where Debian's symlinks lead
BREAK_IPTABLES = """cat >/run/broken <<'END'
#!/bin/sh
echo no such table >&2
exit 3
END
chmod +x /run/broken; mount --bind /run/broken /usr/sbin/xtables-nft-multi"""


def own(machine: Machine, container: str = "c1") -> list[str]:
    """The rules of a container's published ports, of both backends, and the files that reserve the ports."""
    script = "for each in ip ip6; do ${each}tables-save -t nat | sed s/^/$each:/; done"
    lines = machine.run("sh", "-c", script, check=False).splitlines()
    chains = {line.split()[-1] for line in lines if f'"dnat name: \\"mynet\\" id: \\"{container}\\""' in line}
    found = [line for line in lines if any(chain in line for chain in chains)]
    for family in ("ip", "ip6"):
        listed = machine.run("nft", "list", "table", family, "cni_hostport", check=False)
        found += [line.strip() for line in listed.splitlines() if f'comment "{container}"' in line]
    return found + machine.run("sh", "-c", f"ls /run/cnibox/ports | grep :{container}:", check=False).split()


def go_delete(machine: Machine, container: str) -> None:
    """What DEL of the reference 1.9 does in nftables: of these chains it deletes each rule whose comment is the ID."""
    for family in ("ip", "ip6"):
        for chain in ("hostports", "hostip_hostports", "masquerading"):
            listed = machine.run("nft", "-j", "list", "chain", family, "cni_hostport", chain, check=False)
            for entry in json.loads(listed)["nftables"] if listed else []:
                rule = entry.get("rule", {})
                if rule.get("comment") == container:
                    words = (family, "cni_hostport", chain, "handle", str(rule["handle"]))
                    machine.run("nft", "delete", "rule", *words)


# --- what ADD makes


def test_iptables_rules_are_those_of_the_reference(machine: Machine) -> None:
    """Mappings in the order given, entries by protocol with 15 ports at most, the mark's jump before ipMasq's rules."""
    mappings = [mapping(2000 + number, 80, "UDP" if number % 20 == 0 else "tcp") for number in range(18)]
    publish(machine, bridge(ipMasq=True), portmap(*mappings, mapping(99, 9, "sctp", "10.77.0.1")))
    lines = machine.run("iptables-save", "-t", "nat").splitlines()
    rules = {chain: [line for line in lines if line.startswith(f"-A {chain}")] for chain in ("POST", "PRE", "OUT")}
    to_dnat = "-m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT"
    assert rules["PRE"] == [f"-A PREROUTING {to_dnat}"] and rules["OUT"] == [f"-A OUTPUT {to_dnat}"]
    wanted = '-A POSTROUTING -m comment --comment "CNI portfwd requiring masquerade" -j CNI-HOSTPORT-MASQ'
    assert rules["POST"][0] == wanted and len(rules["POST"]) == 2
    chain = "CNI-DN-f0bca4ac77cde1bf2f3da"
    entries = [line for line in lines if line.startswith("-A CNI-HOSTPORT-DNAT")]
    of = 'comment --comment "dnat name: \\"mynet\\" id: \\"c1\\"" -m multiport --dports'
    tcp = [str(2000 + number) for number in range(1, 18)]
    assert entries == [
        f"-A CNI-HOSTPORT-DNAT -p sctp -m {of} 99 -j {chain}",
        f"-A CNI-HOSTPORT-DNAT -p tcp -m {of} {','.join(tcp[:15])} -j {chain}",
        f"-A CNI-HOSTPORT-DNAT -p tcp -m {of} {','.join(tcp[15:])} -j {chain}",
        f"-A CNI-HOSTPORT-DNAT -p udp -m {of} 2000 -j {chain}",
    ]
    assert [line for line in lines if line.startswith(f"-A {chain}")][-3:] == [
        f"-A {chain} -s 10.77.0.2/32 -d 10.77.0.1/32 -p sctp -m sctp --dport 99 -j CNI-HOSTPORT-SETMARK",
        f"-A {chain} -s 127.0.0.1/32 -d 10.77.0.1/32 -p sctp -m sctp --dport 99 -j CNI-HOSTPORT-SETMARK",
        f"-A {chain} -d 10.77.0.1/32 -p sctp -m sctp --dport 99 -j DNAT --to-destination 10.77.0.2:9",
    ]
    assert "99" not in machine.run("ip6tables-save", "-t", "nat")


REFERENCE = """
table {ip} cni_hostport {{
    chain hostports {{
        {ip} daddr {host} sctp dport 99 dnat to {target}:9 comment "c1"
        tcp dport 8080 dnat to {target}:80 comment "c1"
    }}
    chain hostip_hostports {{ }}
    chain hostports_all {{ jump hostip_hostports; jump hostports; }}
    chain prerouting {{ type nat hook prerouting priority -100; fib daddr type local jump hostports_all; }}
    chain output {{ type nat hook output priority -100; fib daddr type local jump hostports_all; }}
    chain masquerading {{
        type nat hook postrouting priority 100;
        {ip} saddr {address} {ip} daddr {address} masquerade comment "c1"
        {loopback}
    }}
}}
"""
"""As the reference 1.9 gives it to `nft -f`."""


def test_nftables_rules_are_those_of_the_reference(machine: Machine, farm: str) -> None:
    mappings = [mapping(99, 9, "sctp", "10.77.0.1"), mapping(99, 9, "sctp", "fd77::1"), mapping()]
    publish(machine, NETWORK, portmap(*mappings, backend="nftables"))
    loopback = 'ip saddr 127.0.0.1 ip daddr 10.77.0.2 masquerade comment "c1"'
    with Machine(farm) as other:
        four = {"ip": "ip", "host": "10.77.0.1", "target": "10.77.0.2", "address": "10.77.0.2", "loopback": loopback}
        six = {"ip": "ip6", "host": "fd77::1", "target": "[fd77::2]", "address": "fd77::2", "loopback": ""}
        for words in (four, six):
            other.run("nft", "-f", "-", stdin=REFERENCE.format(**words).encode())
            tables = [where.run("nft", "list", "table", words["ip"], "cni_hostport") for where in (machine, other)]
            tables[0] = re.sub(r"\n\tchain loopback_guard \{.*?\n\t\}\n", "", tables[0], flags=re.DOTALL)
            assert tables[0].replace('\tcomment "CNI portmap plugin"\n', "") == tables[1]


def test_no_mappings_no_change(machine: Machine) -> None:
    result = attach(machine, NETWORK)
    before = state(machine)
    for runtime in ({}, {"portMappings": []}, {"portMappings": None}):
        config = portmap(runtimeConfig=runtime)
        for command in ("ADD", "CHECK", "DEL"):
            outcome = again(machine, command, config, result)
            assert outcome.status == 0 and state(machine) == before
            assert command != "ADD" or outcome.json == result


@BACKENDS
def test_container_without_address(machine: Machine, backend: str) -> None:
    result = attach(machine, bridge(ipam={}))
    before = state(machine)
    assert again(machine, "ADD", portmap(backend=backend), result).json == result
    assert state(machine) == before


@BACKENDS
@pytest.mark.parametrize(
    ("ips", "mappings", "warnings"),
    [
        ([], [mapping()], ["no port is published: the previous result has no IP address of the container's interface"]),
        (["10.77.0.9/24"], [mapping(), mapping(8081, 80, "udp", "2001:db8::1")],
         ["port [2001:db8::1]:8081/udp is not published: the container has no address of that IP version"]),
        (["fd77::9/64"], [mapping(8080, 80, "tcp", "::1"), mapping(8081, 80, "tcp", "fe80::1"), mapping(8082, 80, "tcp", "::")],
         [f"port [{address}]:{port}/tcp cannot be reached: Linux forwards no packets for ::1 and fe80::/10"
          for address, port in (("::1", 8080), ("fe80::1", 8081))]),
        (["10.77.0.9/24", "fd77::9/64"], [mapping(), mapping(8081, 80, "udp", "0.0.0.0")], []),
    ],
)  # fmt: skip
def test_what_cannot_work_is_logged(machine: Machine, backend: str, ips: Any, mappings: Any, warnings: Any) -> None:
    machine.container()
    result = {"cniVersion": "1.1.0", "ips": [{"address": address} for address in ips]}
    outcome = again(machine, "ADD", portmap(*mappings, backend=backend), result)
    assert outcome.status == 0, outcome
    assert [line.partition("warning: ")[2] for line in outcome.stderr.splitlines()] == warnings
    assert again(machine, "DEL", portmap(*mappings, backend=backend), result).status == 0
    assert own(machine) == []


@BACKENDS
@pytest.mark.parametrize("addresses", [("", "::"), ("", "127.0.0.1"), ("0.0.0.0", "192.0.2.1", ""), ("::", "::", "")])
def test_one_port_twice_to_one_port_of_the_container(machine: Machine, backend: str, addresses: tuple[str, ...]) -> None:
    config = portmap(*(mapping(8443, 443, protocol, ip) for ip in addresses for protocol in ("tcp", "udp")), backend=backend)
    config = publish(machine, NETWORK, config)
    assert run(machine, "CHECK", config).status == 0
    with serving(machine, "c1", (443,), (443,)):
        asked = [("tcp", "127.0.0.1", 8443), ("udp", "10.77.0.1", 8443), ("tcp", "fd77::1", 8443)]
        assert all(answer.startswith("c1 ") for answer in ask(machine, "", asked))
    assert machine.plugin("portmap", "STATUS", config, netns="").status == 0
    assert run(machine, "DEL", config).status == 0
    assert own(machine) == []


@BACKENDS
def test_only_the_containers_own_addresses(machine: Machine, backend: str) -> None:
    """The first of each version that is of CNI_IFNAME in the container, or of no interface in particular."""
    machine.container()
    interfaces = [{"name": "eth0"}, {"name": "eth1", "sandbox": "/x"}, {"name": "eth0", "sandbox": "/x"}]
    numbers: list[int | None] = [0, 1, 2, None, 9]
    ips = [{"address": f"10.77.0.{n}/24", "interface": index} for n, index in enumerate(numbers)]
    result = {"cniVersion": "1.1.0", "interfaces": interfaces, "ips": ips}
    config = portmap(backend=backend)
    assert again(machine, "ADD", config, result).status == 0
    assert "10.77.0.2:80" in str(own(machine)) and "10.77.0.3" not in ruleset(machine)
    assert again(machine, "CHECK", config, result).status == 0
    assert again(machine, "DEL", config, result).status == 0
    assert own(machine) == []


@BACKENDS
def test_second_add_replaces(machine: Machine, backend: str) -> None:
    """Of the first one's ports and address nothing is left, nor is anything there twice."""
    config = publish(machine, NETWORK, portmap(mapping(1000), mapping(1001, 80, "udp"), backend=backend))
    result = config.pop("prevResult")
    result["ips"][0]["address"] = "10.77.0.9/24"
    config = {**config, **portmap(mapping(1001, 81, "udp"), mapping(1002), backend=backend)}
    assert again(machine, "ADD", config, result).status == 0
    found = own(machine)
    assert not [line for line in found if "1000" in line or "10.77.0.2" in line]
    assert len(found) == len(set(found)) and "10.77.0.9:81" in str(found) and "tcp:1002:c1:eth0" in found
    first = state(machine)
    assert again(machine, "ADD", config, result).status == 0
    assert state(machine) == first
    assert again(machine, "CHECK", config, result).status == 0
    other = {**config, "backend": "iptables" if backend == "nftables" else "nftables"}
    assert again(machine, "ADD", other, result).status == 0
    kinds = "--to-destination" in str(own(machine)), "dnat to" in str(own(machine))
    assert kinds == (other["backend"] == "iptables", other["backend"] == "nftables")
    assert again(machine, "DEL", other, result).status == 0
    assert own(machine) == []


@BACKENDS
def test_failed_second_add_leaves_the_first(machine: Machine, backend: str) -> None:
    config = publish(machine, NETWORK, portmap(backend=backend))
    before = own(machine), state(machine)["files"]
    program = ["sh", "-c", f"exec {machine.farm}/portmap >/dev/full"]
    netns = "/run/netns/c1"
    changed = {**config, **portmap(mapping(1), backend=backend)}
    assert machine.plugin("portmap", "ADD", changed, netns=netns, program=program).status == 1
    assert (sorted(own(machine)), state(machine)["files"]) == (sorted(before[0]), before[1])
    assert run(machine, "CHECK", config).status == 0


# --- whose a port is


@BACKENDS
def test_port_of_a_living_container_is_refused(machine: Machine, backend: str) -> None:
    publish(machine, NETWORK, portmap(mapping(8080), mapping(53, 53, "udp", "10.77.0.1"), backend=backend))
    result = attach(machine, NETWORK, "c2")
    before = state(machine)
    other = {"iptables": "nftables", "nftables": "iptables"}[backend]
    refused = [
        (mapping(8080, 81), "8080/tcp"),
        (mapping(8080, host_ip="10.77.0.1"), "10.77.0.1:8080/tcp"),
        (mapping(8080, host_ip="fd77::1"), "[fd77::1]:8080/tcp"),
        (mapping(53, 5, "udp"), "53/udp"),
    ]
    for wanted, words in refused:
        outcome = again(machine, "ADD", portmap(wanted, backend=other), result, "c2")
        holder = "is taken by container c1 (network mynet, interface eth0)"
        assert outcome.status == 1 and f"host port {words} {holder}" in outcome.json["msg"], outcome
        assert state(machine) == before
    config = portmap(
        mapping(8080, 80, "udp"), mapping(53, 53), mapping(53, 53, "udp", "10.77.0.9"), mapping(53, 53, "udp", "::")
    )
    assert again(machine, "ADD", config, result, "c2").status == 0


@BACKENDS
def test_port_of_a_dead_container_is_free(machine: Machine, backend: str) -> None:
    """Its namespace is gone, or a Go plugin's DEL has taken its interface away. What it left would come first."""
    config = portmap(backend=backend)
    publish(machine, NETWORK, config, "c1")
    machine.run("ip", "netns", "delete", "c1")
    publish(machine, NETWORK, config, "c2")
    assert own(machine, "c1") == []
    machine.run("ip", "-n", "c2", "link", "delete", "eth0")
    publish(machine, NETWORK, config, "c3")
    assert own(machine, "c2") == [] and own(machine, "c3") != []
    machine.run("ip", "netns", "delete", "c3")
    machine.container("c3")  # another namespace by the same path
    publish(machine, NETWORK, config, "c4")
    assert own(machine, "c3") == []
    assert machine.run("ls", "/run/cnibox/attachments/c4").split() == ["eth0:mynet:bridge", "eth0:mynet:portmap"]


def test_one_port_for_many_at_once(machine: Machine) -> None:
    """Only one of them gets it; the others are told who, and leave nothing."""
    names = [f"c{number}" for number in range(20)]
    results = {name: attach(machine, bridge(ipam=host_local("10.77.0.0/24")), name) for name in names}
    with ThreadPoolExecutor(20) as pool:
        config = portmap()
        ended = list(pool.map(lambda name: again(machine, "ADD", config, results[name], name), names))
    winners = [name for name, each in zip(names, ended, strict=True) if each.status == 0]
    assert len(winners) == 1
    text = f"8080/tcp is taken by container {winners[0]}"
    assert all(text in each.json["msg"] for each in ended if each.status)
    assert {name for name in names if own(machine, name)} == set(winners)


@BACKENDS
def test_many_at_once(machine: Machine, backend: str) -> None:
    """50 ADDs and then 50 DELs, each of another port: no rule is lost, none is there twice, none is left."""
    names = [f"c{number}" for number in range(50)]
    network = bridge(ipam=host_local("10.77.0.0/24"))
    configs = {
        name: portmap(mapping(1000 + n), mapping(n + 1, 5, "udp"), backend=backend) for n, name in enumerate(names)
    }

    def add(name: str) -> Any:
        return again(machine, "ADD", configs[name], attach(machine, network, name), name)

    with ThreadPoolExecutor(50) as pool:
        ended = list(pool.map(add, names))
        assert all(each.status == 0 and not each.stderr for each in ended), [each for each in ended if each.status]
        checked = pool.map(
            lambda pair: again(machine, "CHECK", configs[pair[0]], pair[1].json, pair[0]),
            zip(names, ended, strict=True),
        )
        assert [each for each in checked if each.status] == []
        rules = ruleset(machine)
        if backend == "iptables":
            jumps = [
                line for line in rules.splitlines() if line.startswith("-A") and line.split()[-1].startswith("CNI-HOST")
            ]
            assert len([line for line in jumps if line.startswith(("-A PRE", "-A OUT", "-A POST"))]) == 3
            assert rules.count("--to-destination") == 100
        else:
            assert rules.count("dnat to") == 100 and rules.count("jump hostports\n") == 1
        deleted = list(pool.map(lambda name: run(machine, "DEL", configs[name], name), names))
    assert all((each.status, each.stderr) == (0, "") for each in deleted)
    assert [line for name in names for line in own(machine, name)] == []
    assert machine.run("ls", "/run/cnibox/ports") == ""


# --- CHECK and repair


def broken(machine: Machine, script: str) -> None:
    machine.run("sh", "-c", script)


CHAIN = "CNI-DN-f0bca4ac77cde1bf2f3da"
BREAKAGES = {
    "iptables": [
        ("iptables -t nat -D PREROUTING 1", "-A PREROUTING -m addrtype"),
        ("iptables -t nat -D OUTPUT 1", "-A OUTPUT -m addrtype"),
        ("ip6tables -t nat -D PREROUTING 1", "ip6tables -t nat -A PREROUTING"),
        ("iptables -t nat -D POSTROUTING 1", "-I POSTROUTING -m comment"),
        ("iptables -t nat -F CNI-HOSTPORT-MASQ", "-A CNI-HOSTPORT-MASQ -m mark"),
        ("iptables -t nat -F CNI-HOSTPORT-SETMARK", "-A CNI-HOSTPORT-SETMARK -m comment"),
        ("iptables -t nat -S CNI-HOSTPORT-DNAT | sed -n s/-A/-D/p | grep 8080 | sed 's/^/iptables -t nat /' | sh", "--dports 8080"),
        (f"iptables -t nat -D {CHAIN} 1", "-s 10.77.0.2/32 -p tcp"),
        (f"iptables -t nat -D {CHAIN} 3", "--to-destination 10.77.0.2:80"),
        (f"ip6tables -t nat -F {CHAIN}", "--to-destination [fd77::2]:80"),
        ("iptables -t nat -F; iptables -t nat -X", "-N CNI-HOSTPORT-DNAT"),
    ],
    "nftables": [
        ("nft flush chain ip cni_hostport prerouting", "prerouting: jump hostports_all"),
        ("nft flush chain ip6 cni_hostport output", "ip6 cni_hostport output: jump hostports_all"),
        ("nft flush chain ip cni_hostport hostports_all", "hostports_all: jump hostports"),
        ("nft flush chain ip cni_hostport masquerading", "ip saddr 127.0.0.1"),
        ("nft flush chain ip6 cni_hostport hostports", "tcp dport 8080 dnat to [fd77::2]:80"),
        ("nft delete rule ip cni_hostport hostports handle $(nft -a list chain ip cni_hostport hostports | sed -n 's/.*udp.*# handle //p')",
         "udp dport 5353 dnat to 10.77.0.2:53"),
        ("nft flush chain ip cni_hostport hostports; nft add rule ip cni_hostport hostports tcp dport 8080 dnat to 10.77.0.2:81 comment c1",
         "tcp dport 8080 dnat to 10.77.0.2:80"),
    ],
}  # fmt: skip
BREAKAGES = {name: [*pairs, ("nft flush ruleset", "8080"), ("sysctl -qw net.ipv4.conf.cni0.route_localnet=0", "route_localnet=1")]
             for name, pairs in BREAKAGES.items()}  # fmt: skip


@BACKENDS
def test_check_tells_what_is_missing_and_repair_puts_it_back(machine: Machine, backend: str) -> None:
    config = publish(machine, NETWORK, portmap(backend=backend))
    publish(
        machine,
        NETWORK,
        portmap(mapping(1000), backend=backend, markMasqBit=13 if backend == "iptables" else None),
        "c2",
    )
    complete = ruleset(machine)
    for script, words in BREAKAGES[backend]:
        broken(machine, script)
        before = ruleset(machine)
        outcome = run(machine, "CHECK", config)
        assert outcome.status == 1 and words in outcome.json["msg"], (script, outcome)
        assert ruleset(machine) == before
        machine.run("/usr/bin/python3", f"{machine.farm}/cnibox", "repair")
        assert run(machine, "CHECK", config).status == 0, script
        if "flush ruleset" in script or "-X" in script or "sysctl" in script:
            assert ruleset(machine) == complete, script
        else:
            now, then = sorted(ruleset(machine).splitlines()), sorted(complete.splitlines())
            assert now == then, script


def test_check_without_previous_result(machine: Machine) -> None:
    machine.container()
    outcome = machine.plugin("portmap", "CHECK", portmap())
    assert outcome.json["msg"] == "Required prevResult missing" and outcome.code == 7


# --- DEL and GC


@BACKENDS
@pytest.mark.parametrize("changed", [
    {"runtimeConfig": {}}, {"runtimeConfig": {"portMappings": [mapping(1)]}}, {"backend": "other"}, {"backend": 5},
    {"prevResult": None}, {"prevResult": {"cniVersion": "9"}}, {"prevResult": 7}, {"name": "renamed"}, {"runtimeConfig": 3},
], ids=str)  # fmt: skip
def test_delete_with_another_configuration(machine: Machine, backend: str, changed: dict[str, Any]) -> None:
    config = publish(machine, NETWORK, portmap(backend=backend, snat=False))
    other = {"iptables": "nftables", "nftables": "iptables"}[backend]
    config = {**config, **{key: other if value == "other" else value for key, value in changed.items()}}
    netns = "" if "prevResult" in changed else "/run/netns/c1"
    for _ in range(2):
        outcome = run(machine, "DEL", config, netns=netns)
        assert (outcome.status, outcome.stdout, outcome.stderr) == (0, "", "")
        assert own(machine) == []


@BACKENDS
@pytest.mark.parametrize("changed", [{}, {"runtimeConfig": {}}, {"prevResult": None}], ids=str)
def test_delete_without_record(machine: Machine, backend: str, changed: dict[str, Any]) -> None:
    """As of an attachment that a Go plugin made; others of the container and of the network keep theirs."""
    config = publish(machine, NETWORK, portmap(backend=backend))
    second = bridge(name="second", bridge="br2", ipam=host_local("10.78.0.0/24", "fd78::/64"))
    result = machine.plugin("bridge", "ADD", second, ifname="eth1").json
    more = portmap(mapping(1000), name="second", backend=backend)
    assert again(machine, "ADD", more, result, ifname="eth1").status == 0
    publish(machine, NETWORK, portmap(mapping(1001), backend=backend), "c2")
    before = own(machine, "c2"), [line for line in ruleset(machine).splitlines() if "1000" in line]
    machine.run("rm", "/run/cnibox/attachments/c1/eth0:mynet:portmap")
    for _ in range(2):
        assert run(machine, "DEL", {**config, **changed}).status == 0
        assert not [line for line in own(machine) if "8080" in line or "5353" in line]
        assert before == (own(machine, "c2"), [line for line in ruleset(machine).splitlines() if "1000" in line])


@BACKENDS
def test_two_interfaces_in_one_network(machine: Machine, backend: str) -> None:
    """The reference gives both the same names: with iptables they share a chain, which stays for the other one."""
    config = publish(machine, NETWORK, portmap(mapping(1000), backend=backend))
    one = sorted(own(machine))
    result = machine.plugin("bridge", "ADD", NETWORK, ifname="eth1").json
    more = portmap(mapping(1001), backend=backend)
    assert again(machine, "ADD", more, result, ifname="eth1").status == 0
    assert run(machine, "CHECK", config).status == 0
    assert again(machine, "CHECK", more, result, ifname="eth1").status == 0
    assert again(machine, "DEL", more, result, ifname="eth1").status == 0
    assert sorted(own(machine)) == one
    assert again(machine, "ADD", more, result, ifname="eth1").status == 0
    assert run(machine, "DEL", config).status == 0
    assert again(machine, "CHECK", more, result, ifname="eth1").status == 0
    assert "1000" not in str(own(machine))
    assert again(machine, "DEL", more, result, ifname="eth1").status == 0
    assert own(machine) == []


@BACKENDS
def test_the_references_delete_clears_ours(machine: Machine, backend: str) -> None:
    """Of iptables by Debian's; of nftables as the reference 1.9 would, which is not at hand."""
    config = publish(machine, NETWORK, portmap(backend=backend))
    publish(machine, NETWORK, portmap(mapping(1000), backend=backend), "c2")
    other = own(machine, "c2")
    if backend == "iptables":
        four = {**config, "cniVersion": "1.0.0", "prevResult": {**config["prevResult"], "cniVersion": "1.0.0"}}
        four.pop("backend")
        outcome = machine.go("portmap", "DEL", four)
        assert outcome.status == 0, outcome
    else:
        go_delete(machine, "c1")
    assert [line for line in own(machine) if "eth0" not in line] == [] and own(machine, "c2") == other
    for _ in range(2):  # what it does not know of, our own DEL takes away, as does the next ADD for that port
        assert run(machine, "DEL", config).status == 0
        assert own(machine) == [] and own(machine, "c2") == other


@pytest.mark.parametrize("again_by_us", [False, True])
def test_ours_clears_what_the_reference_made(machine: Machine, again_by_us: bool) -> None:
    """CHECK of its rules succeeds, and an ADD of ours replaces them, should a runtime come without a DEL between."""
    old = portmap(mapping(1000), mapping(53, 53, "udp"), cniVersion="1.0.0")
    config = publish(machine, bridge(cniVersion="1.0.0"), old)
    assert run(machine, "DEL", config).status == 0  # what all attachments share is there
    before = ruleset(machine)
    assert machine.go("portmap", "ADD", config).status == 0
    assert run(machine, "CHECK", config).status == 0
    assert "--dports 1000" in ruleset(machine) != before
    if again_by_us:
        assert again(machine, "ADD", config, config["prevResult"]).status == 0
        assert run(machine, "CHECK", config).status == 0
        assert ruleset(machine).count("--to-destination 10.77.0.2:80") == 1
    assert run(machine, "DEL", {**config, "prevResult": None}, netns="").status == 0
    assert ruleset(machine) == before and own(machine) == []


@BACKENDS
def test_gc(machine: Machine, backend: str) -> None:
    config = portmap(backend=backend)
    for number, name in enumerate(("c1", "c2", "c3")):
        publish(machine, NETWORK, portmap(mapping(1000 + number), mapping(number + 1, 5, "udp"), backend=backend), name)
    second = bridge(name="second", bridge="br2", ipam=host_local("10.78.0.0/24"))
    publish(machine, second, portmap(mapping(2000), backend=backend), "c4")
    kept = own(machine, "c1"), ruleset(machine).count("2000")
    valid = {"cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}]}
    if backend == "iptables":
        machine.run("rm", "/run/cnibox/attachments/c3/eth0:mynet:portmap")  # as if a Go plugin had made it
    outcome = machine.plugin("portmap", "GC", {**config, **valid}, container_id=None, netns=None, ifname=None)
    assert outcome.status == 0, outcome
    assert own(machine, "c2") == [] and [line for line in own(machine, "c3") if "eth0" not in line] == []
    assert kept == (own(machine, "c1"), ruleset(machine).count("2000"))


# --- backends


def test_without_iptables_nftables_takes_its_place(machine: Machine) -> None:
    machine.run(*HIDE_IPTABLES)
    config = publish(machine, NETWORK, portmap())
    assert len([line for line in own(machine) if "dnat to" in line]) == 6
    assert run(machine, "CHECK", config).status == 0
    assert run(machine, "DEL", config).status == 0
    assert own(machine) == []


def test_unusable_iptables_is_replaced(machine: Machine) -> None:
    result = attach(machine, NETWORK)
    machine.run("sh", "-c", BREAK_IPTABLES)
    outcome = again(machine, "ADD", portmap(), result)
    assert outcome.status == 0 and "nftables takes its place" in outcome.stderr, outcome
    assert len([line for line in own(machine) if "dnat to" in line]) == 6
    outcome = again(machine, "DEL", portmap(), result)
    assert outcome.status == 0 and own(machine) == []


def test_status(machine: Machine) -> None:
    def status(**options: Any) -> Any:
        return machine.plugin("portmap", "STATUS", portmap(**options), container_id=None, netns=None, ifname=None)

    assert [status(backend=name).status for name in ("iptables", "nftables", "")] == [0, 0, 0]
    machine.run("sh", "-c", BREAK_IPTABLES)
    assert status().status == 0 and status(backend="iptables").code == 50
    machine.run(*HIDE_IPTABLES)
    assert status(backend="nftables").status == status().status == 0
    assert status(backend="iptables").code == 50


def test_options_of_one_backend_choose_it(machine: Machine) -> None:
    """Nobody has asked for the other one."""
    machine.run(*HIDE_IPTABLES)
    result = attach(machine, NETWORK)
    outcome = again(machine, "ADD", portmap(externalSetMarkChain="PLEASE-MARK"), result)
    assert outcome.status == 1 and "no iptables-restore" in outcome.json["msg"] and "requested" not in outcome.stdout
    both = portmap(externalSetMarkChain="X", conditionsV4=["ip", "saddr", "10.0.0.0/8"])
    outcome = again(machine, "ADD", both, result)
    assert (outcome.code, outcome.json["msg"]) == (
        7,
        "nftables is in use, but the configuration contains iptables-specific options [externalSetMarkChain]",
    )
    assert again(machine, "ADD", portmap(conditionsV4=["ip", "saddr", "10.0.0.0/8"]), result).status == 0


def test_external_set_mark_chain(machine: Machine) -> None:
    machine.run("iptables", "-t", "nat", "-N", "PLEASE-MARK")
    machine.run("ip6tables", "-t", "nat", "-N", "PLEASE-MARK")
    config = publish(machine, NETWORK, portmap(externalSetMarkChain="PLEASE-MARK"))
    rules = ruleset(machine)
    assert "--dport 8080 -j PLEASE-MARK" in rules and "SETMARK" not in rules and "HOSTPORT-MASQ" not in rules
    assert run(machine, "CHECK", config).status == 0
    assert run(machine, "DEL", config).status == 0 and own(machine) == []


def test_other_mark_bit(machine: Machine) -> None:
    first = publish(machine, NETWORK, portmap(mapping(1000)))
    second = publish(machine, NETWORK, portmap(mapping(1001), markMasqBit=20), "c2")
    assert "--set-xmark 0x100000/0x100000" in ruleset(machine)
    assert run(machine, "CHECK", first).status == run(machine, "CHECK", second, "c2").status == 0


# --- what is refused


INVALID = [
    ({"runtimeConfig": {"portMappings": [mapping(0)]}}, "Invalid host port number: 0"),
    ({"runtimeConfig": {"portMappings": [mapping(65536)]}}, "Invalid host port number: 65536"),
    ({"runtimeConfig": {"portMappings": [mapping(80, -1)]}}, "Invalid container port number: -1"),
    ({"runtimeConfig": {"portMappings": [mapping(0, 0)]}}, "Invalid container port number: 0"),
    ({"runtimeConfig": {"portMappings": [{"hostPort": 80, "protocol": "tcp"}]}}, "Invalid container port number: 0"),
    ({"runtimeConfig": {"portMappings": [mapping(80, 80, "")]}}, 'Invalid protocol: ""'),
    ({"runtimeConfig": {"portMappings": [mapping(80, 80, "icmp")]}}, 'Invalid protocol: "icmp"'),
    ({"runtimeConfig": {"portMappings": [mapping(80, 80, "tcp\n-A")]}}, "Invalid protocol"),
    ({"runtimeConfig": {"portMappings": [mapping(host_ip="nonsense")]}}, "portMappings[0].hostIP"),
    ({"runtimeConfig": {"portMappings": [mapping(), mapping(8080, 81)]}}, "host port 8080/tcp is mapped to container port 81, and 8080/tcp to 80"),
    ({"runtimeConfig": {"portMappings": [mapping(), mapping(8080, 81, "tcp", "::1")]}}, "host port [::1]:8080/tcp"),
    ({"runtimeConfig": {"portMappings": {"hostPort": 1}}}, "portMappings"),
    ({"runtimeConfig": {"portMappings": [7]}}, "portMappings[0]"),
    ({"runtimeConfig": {"portMappings": [{**mapping(), "hostPort": "80"}]}}, "portMappings[0].hostPort"),
    ({"markMasqBit": 32}, "MasqMarkBit must be between 0 and 31"),
    ({"markMasqBit": -1}, "MasqMarkBit must be between 0 and 31"),
    ({"markMasqBit": 13, "externalSetMarkChain": "X"}, "Cannot specify externalSetMarkChain and markMasqBit"),
    ({"backend": "pf"}, '"backend"'),
    ({"backend": "nftables", "externalSetMarkChain": "X"}, "nftables backend was requested but configuration contains iptables-specific options [externalSetMarkChain]"),
    ({"backend": "nftables", "conditionsV4": ["!", "-s", "10.0.0.1"]}, "iptables-specific options [conditionsV4]"),
    ({"backend": "iptables", "conditionsV6": ["ip6", "saddr", "::1"]}, "iptables backend was requested but configuration contains nftables-specific options [conditionsV6]"),
    ({"conditionsV4": ["-s", "10.0.0.1\n-A POSTROUTING -j DROP"]}, "conditionsV4"),
    ({"conditionsV4": ["-s", ""]}, "conditionsV4"),
    ({"backend": "nftables", "conditionsV4": ["tcp", "sport", "1; flush ruleset"]}, "conditionsV4"),
    ({"externalSetMarkChain": "X\nCOMMIT"}, "externalSetMarkChain"),
    ({"prevResult": None}, "must be called as a chained plugin"),
]  # fmt: skip


def test_invalid_configurations_change_nothing(machine: Machine) -> None:
    result = attach(machine, NETWORK)
    before = state(machine)
    for changed, words in INVALID:
        config = {**portmap(), "prevResult": result, **changed}
        outcome = machine.plugin("portmap", "ADD", config)
        assert outcome.code == 7 and words in outcome.json["msg"], (changed, outcome)
    for changed, words in [
        ({"conditionsV4": ["-s", "no address"]}, "iptables-restore"),
        ({"conditionsV4": ["-m", 'quoted"back\\slash $(x) `y`']}, "iptables-restore"),
        ({"externalSetMarkChain": "MISSING"}, "MISSING"),
        ({"backend": "nftables", "conditionsV4": ["ip", "saddr", "nowhere at all"]}, "rule ip cni_hostport"),
    ]:
        outcome = machine.plugin("portmap", "ADD", {**portmap(), "prevResult": result, **changed})
        assert outcome.code == 999 and words in outcome.stdout, (changed, outcome)
        assert state(machine) == before, changed
    assert len(ALL) == 3


def test_quoted_conditions(machine: Machine) -> None:
    """Every character that is special to iptables-restore arrives as it was written."""
    text = "a \"b\" \\c 'd' $e `f` #g ;h"
    config = publish(machine, NETWORK, portmap(conditionsV4=["-m", "comment", "--comment", text]))
    assert run(machine, "CHECK", config).status == 0
    listed = machine.run("iptables-save", "-t", "nat")
    assert '\\"b\\" \\\\c' in listed
    assert run(machine, "DEL", config).status == 0 and own(machine) == []
