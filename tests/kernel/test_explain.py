"""--explain: its lines are commands that do the same, and say nothing that has not happened."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kernel.test_repair import FLUSH
from tests.support.machine import Machine, Outcome
from tests.support.network import host_local

ROUTES = [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
PORTS = [
    {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
    {"hostPort": 5353, "containerPort": 53, "protocol": "udp", "hostIP": "192.0.2.9"},
]
MAC = "02:00:00:00:00:17"
COMMANDS = {"ip", "bridge", "tc", "nft", "iptables", "ip6tables", "sysctl", "mkdir", "printf", "cat", "touch", "rm", "nsenter"}  # fmt: skip


FAMILIES = ("ip", "ip6", "inet", "bridge")


def interface(kind: str, **options: Any) -> dict[str, Any]:
    ipam = host_local("10.77.0.0/28", "fd77::/80", routes=ROUTES)
    return {"cniVersion": "1.1.0", "name": "mynet", "type": kind, "ipam": ipam, **options}


def behind_bridge(kind: str, **options: Any) -> list[dict[str, Any]]:
    bridge = interface("bridge", bridge="br7", isGateway=True)
    return [bridge, {"cniVersion": "1.1.0", "name": "mynet", "type": kind, **options}]


CASES = {
    **{
        f"{name}-{backend}": configs
        for backend in ("iptables", "nftables")
        for name, configs in {
            "bridge": [interface("bridge", bridge="br7", ipMasq=True, ipMasqBackend=backend, isGateway=True, mtu=1400)],
            "ptp": [interface("ptp", ipMasq=True, ipMasqBackend=backend, mtu=1300)],
            "portmap": behind_bridge("portmap", backend=backend, runtimeConfig={"portMappings": PORTS}),
            "firewall": behind_bridge("firewall", backend=backend),
            "firewall-same-bridge": behind_bridge("firewall", backend=backend, ingressPolicy="same-bridge"),
            "firewall-isolated": behind_bridge("firewall", backend=backend, ingressPolicy="isolated"),
        }.items()
    },
    "bridge-hairpin": [interface("bridge", hairpinMode=True, mac=MAC)],
    "bridge-isolation": [interface("bridge", portIsolation=True, promiscMode=True, enabledad=True, isDefaultGateway=True)],
    "bridge-macspoofchk": [interface("bridge", macspoofchk=True)],
    "macvlan": [interface("macvlan", master="up0", mode="private", mtu=1300, mac=MAC, bcqueuelen=500)],
    "host-device": [interface("host-device", device="up0")],
    "tap": [interface("tap", mtu=1300, mac=MAC, multiQueue=True, owner=7, group=8)],
    "loopback": [{"cniVersion": "1.1.0", "name": "mynet", "type": "loopback"}],
    "tuning": behind_bridge(
        "tuning", mac=MAC, mtu=1300, promisc=True, allmulti=True, txQLen=50,
        sysctl={"net.ipv4.conf.IFNAME.arp_filter": "1", "net.ipv4.ip_local_port_range": "2000 3000"},
    ),
    "bandwidth": behind_bridge(
        "bandwidth", ingressRate=3_000_000, ingressBurst=7_000_000, egressRate=11_000_000_000, egressBurst=30_000_000_000
    ),
    "sbr": behind_bridge("sbr"),
}  # fmt: skip
CASES |= {
    "bridge-vlans": [interface("bridge", bridge="br7", vlan=17, vlanTrunk=[{"minID": 20, "maxID": 29}, {"id": 40}])],
    "vlan": [interface("vlan", master="up0", vlanId=17, mtu=1300)],
    "ipvlan": [interface("ipvlan", master="up0", mode="l3s", mtu=1300)],
    "dummy": [interface("dummy")],
    "vrf": behind_bridge("vrf", vrfname="blue"),
}
NEEDED = {"bridge-vlans": ["bridge-vlan"], "vlan": ["8021q"], "ipvlan": ["ipvlan"], "dummy": ["dummy"], "vrf": ["vrf"],
          "macvlan": ["macvlan"], "tap": ["tun"], "bandwidth": ["ifb", "tbf", "ingress", "u32", "mirred"]}  # fmt: skip
"""Case -> the kernel features that it needs."""
ALL = [pytest.param(case, marks=pytest.mark.kernel(*NEEDED[case])) if case in NEEDED else case for case in CASES]
RULES = ["bridge-iptables", "bridge-nftables", "ptp-iptables", "ptp-nftables", "portmap-iptables", "portmap-nftables",
         "firewall-isolated-iptables", "firewall-isolated-nftables", "firewall-iptables", "firewall-nftables"]  # fmt: skip


@pytest.fixture
def container(machine: Machine) -> Machine:
    return prepared(machine)


@pytest.fixture
def other(farm: str) -> Iterator[Machine]:
    with Machine(farm) as machine:
        yield prepared(machine)


def prepared(machine: Machine) -> Machine:
    machine.container()
    machine.run("sh", "-c", "ip link add up0 type veth peer name up1; ip link set up0 up; ip link set up1 up")
    return machine


def explained(machine: Machine, command: str, config: dict[str, Any], **options: Any) -> Outcome:
    outcome = machine.plugin(
        config["type"], command, config, program=[f"{machine.farm}/{config['type']}", "--explain"], **options
    )
    assert outcome.status == 0, outcome
    return outcome


def attach(machine: Machine, configs: list[dict[str, Any]]) -> tuple[list[str], list[dict[str, Any]]]:
    """ADD of all; the lines that explain it, and the configurations for the DEL."""
    lines: list[str] = []
    completed: list[dict[str, Any]] = []
    result: dict[str, Any] = {}
    for config in configs:
        completed.append({**config, **result})
        outcome = explained(machine, "ADD", completed[-1])
        lines += outcome.stderr.splitlines()
        result = {"prevResult": outcome.json}
    return lines, completed


def detach(machine: Machine, configs: list[dict[str, Any]], **options: Any) -> list[str]:
    """DEL of all; the lines, but for the folder of the lock that firewall takes."""
    return [line for config in reversed(configs) for line in explained(machine, "DEL", config, **options).stderr.splitlines()
            if "mkdir -m 700 /run/cnibox " not in line]  # fmt: skip


def state(machine: Machine, lines: list[str]) -> dict[str, Any]:
    """What plugins change, but for names and numbers that the kernel chooses."""
    explanation = "\n".join(lines)
    found: dict[str, Any] = {}
    for name, words in (("host", ()), ("c1", ("-n", "c1"))):
        inside = ("ip", "netns", "exec", "c1") if words else ()
        for link in machine.ip(*words, "-d", "addr"):
            told = {key: link.get(key) for key in ("flags", "mtu", "master", "qdisc", "txqlen", "ifalias", "promiscuity", "operstate")}
            told["mac"] = link["address"] if f"address {link['address']}" in explanation else "the kernel's"
            told["addresses"] = [
                {key: each.get(key) for key in ("local", "prefixlen", "broadcast", "scope", "tentative")}
                for each in link["addr_info"]
                if not each["local"].startswith("fe80:")
            ]
            info = link.get("linkinfo", {})
            port = info.get("info_slave_data", {})
            told["kind"] = info.get("info_kind"), port.get("hairpin"), port.get("isolated"), port.get("state")
            if info.get("info_kind") in ("macvlan", "tun"):
                told["data"] = info["info_data"]
            found[f"{name} {link['ifname']}"] = told
        for version in ("-4", "-6"):
            routes = machine.run("ip", *words, version, "route", "show", "table", "all")
            found[f"{name} routes {version}"] = sorted(re.findall(r"(?m)^(?!.*(?:fe80:|ff00:)).*", routes))
            found[f"{name} rules {version}"] = machine.run("ip", *words, version, "rule")
        found[f"{name} queues"] = machine.run(*inside, "tc", "qdisc", "show")
        pattern = r"net\.(ipv[46]\.conf\..*|ipv4\.ip_forward|ipv4\.ip_local_port_range)"
        settings = machine.run(*inside, "sysctl", "-a", "--pattern", pattern).splitlines()
        found[f"{name} sysctls"] = {line for line in settings if "stable_secret" not in line}
    found["vlans"] = {each["ifname"]: each["vlans"] for each in json.loads(machine.run("bridge", "-json", "vlan"))}
    ports = [name for name in machine.run("ls", "/sys/class/net").split() if name.startswith("veth")]
    found["filters"] = [machine.run("tc", "filter", "show", "dev", name, "ingress", check=False) for name in ports]
    # In the order of their names: iptables may be faster or slower than netlink.
    rulesets = (machine.run("nft", "list", "ruleset", family, check=False) for family in FAMILIES)
    found["ruleset"] = [sorted(map(str.strip, re.split(r"(?m)^(?=table )", text))) for text in rulesets]
    files = machine.run("sh", "-c", "find /run/cnibox /run/cni /var/lib/cni -printf '%p %m\\n'", check=False)
    found["files"] = sorted(re.findall(r"(?m)^(?!.*(?:lock|last_reserved|\.index)).*", files))
    found["leases"] = machine.run("sh", "-c", "head /var/lib/cni/networks/mynet/[1f]*", check=False)
    return found


def require_same(replayed: Machine, original: Machine, lines: list[str]) -> None:
    """Once the kernel has made the routes of new IPv6 addresses."""
    replayed.wait_until(lambda: state(replayed, lines) == state(original, lines))
    assert state(replayed, lines) == state(original, lines)


def replay(machine: Machine, lines: list[str]) -> None:
    for line in lines:
        has_flows = line.startswith("conntrack -D ")  # not on this machine: conntrack ends with 1
        machine.run("sh", "-c" if has_flows else "-ec", f"umask 077; {line}", check=not has_flows)


@pytest.mark.parametrize("case", ALL)
def test_the_lines_are_commands_that_do_the_same(container: Machine, other: Machine, case: str) -> None:
    lines, configs = attach(container, CASES[case])
    for line in lines:
        assert shlex.split(line, comments=True)[0] in COMMANDS and "  # " in line, line
    replay(other, lines)
    require_same(other, container, lines)
    deletions = detach(container, configs)
    replay(other, deletions)
    require_same(other, container, lines)


@pytest.mark.parametrize("case", ALL)
def test_a_del_that_finds_nothing_explains_nothing(container: Machine, case: str) -> None:
    assert detach(container, CASES[case]) == []
    _, configs = attach(container, CASES[case])
    assert detach(container, configs)
    assert detach(container, configs) == []
    assert detach(container, CASES[case], netns="") == []
    assert detach(container, CASES[case], container_id="nobody") == []


@pytest.mark.parametrize("case", RULES)
def test_rules_that_have_gone_are_not_said_to_be_deleted(container: Machine, case: str) -> None:
    _, configs = attach(container, CASES[case])
    container.run("sh", "-c", FLUSH)
    assert [line for line in detach(container, configs) if re.match("nft|ip6?tables", line)] == []


@pytest.mark.parametrize("case", ["bridge-iptables", "portmap-iptables", "firewall-iptables"])
def test_of_rules_of_which_one_has_gone_the_others_are(container: Machine, case: str) -> None:
    _, configs = attach(container, CASES[case])
    table, chain = {"bridge": ("nat", "POSTROUTING"), "portmap": ("nat", "CNI-HOSTPORT-DNAT"), "firewall": ("filter", "CNI-FORWARD")}[case.partition("-")[0]]
    rules = container.run("iptables", "-t", table, "-S", chain).splitlines()
    [number] = [at for at, rule in enumerate(rules) if "10.77.0.2/32 -j CNI" in rule or "--dports 8080" in rule or "-s 10.77.0.2" in rule]
    container.run("iptables", "-t", table, "-D", chain, str(number))
    deleted = [line for line in detach(container, configs) if line.startswith("iptables")]
    assert len(deleted) == 1 and f"{rules[number]}".replace("-A", "-D", 1)[:40] not in deleted[0], deleted


def test_a_device_whose_name_is_taken_comes_back_under_another(container: Machine, other: Machine) -> None:
    lines, configs = attach(container, CASES["host-device"])
    replay(other, lines)
    for machine in (container, other):
        machine.run("ip", "link", "add", "up0", "type", "bridge")
    program = [f"{container.farm}/host-device", "--explain"]
    deletion = container.plugin("host-device", "DEL", configs[0], program=program)
    assert deletion.status == 1 and "its name is taken there" in deletion.json["msg"]
    replay(other, [line for line in deletion.stderr.splitlines() if line.startswith("ip ")])
    for machine in (container, other):
        assert [link["ifalias"] for link in machine.ip("link") if link.get("ifalias")] == ["up0"]
        assert [link["ifname"] for link in machine.ip("-n", "c1", "link")] == ["lo"]


def test_names_for_a_shell_are_quoted(container: Machine) -> None:
    """A folder with a blank, and a namespace that has no name."""
    container.run("sh", "-c", "mkdir '/run/my ns'; mv /run/netns/c1 /run/c1 2>/dev/null; touch '/run/my ns/c 1'; mount --bind /run/netns/c1 '/run/my ns/c 1'")
    config = interface("macvlan", master="up0")
    config["ipam"]["dataDir"] = "/run/le ases"
    lines = explained(container, "ADD", config, netns="/run/my ns/c 1").stderr.splitlines()
    assert any(line.startswith("nsenter --net='/run/my ns/c 1' ip link set eth0 up ") for line in lines)
    assert any(shlex.split(line, comments=True)[-1] == "/run/le ases/mynet/10.77.0.2" for line in lines)
    other_folder = [line.replace("le ases", "le ases 2") for line in lines if "le ases" in line]
    replay(container, other_folder)
    assert container.run("cat", "/run/le ases 2/mynet/10.77.0.2") == "c1\r\neth0"


def test_an_undone_add_says_what_is_undone_in_comments(container: Machine) -> None:
    config = interface("macvlan", master="up0")
    config["ipam"]["ranges"][0][0]["gateway"] = "10.77.0.14"
    config["ipam"]["routes"] = [{"dst": "192.0.2.0/24", "gw": "198.51.100.1"}]
    outcome = container.plugin("macvlan", "ADD", config, program=[f"{container.farm}/macvlan", "--explain"])
    assert outcome.status == 1 and json.loads(outcome.stdout)["code"]
    undone = [line for line in outcome.stderr.splitlines() if "undo" in line]
    assert undone and all(line.startswith("# undo: ") for line in undone)
