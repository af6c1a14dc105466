"""portmap among what a Go plugin has published, and its rules in the kernel's older tables."""

from __future__ import annotations

import json
import select
from typing import Any

import pytest

from tests.support.machine import Machine
from tests.support.network import again, attach, bridge, host_local, state
from tests.support.packets import HOST, OUTSIDE, outside_world
from tests.support.ports import UDP, ask, keep_sending, legacy, mapping, portmap, publish, run, serving
from tests.support.rules import ruleset

NETWORK = bridge(cniVersion="1.0.0", ipam=host_local(routes=[{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]), hairpinMode=True)
OWN = [mapping(8080), mapping(53, 53, "udp", "10.77.0.1"), mapping(99, 9, "sctp", "fd77::1")]
OWN += [mapping(1000 + number) for number in range(16)]  # more than one entry can match
REFUSED = [
    (mapping(8080, 81), "8080/tcp"),
    (mapping(8080, host_ip="10.77.0.9"), "10.77.0.9:8080/tcp"),
    (mapping(8080, host_ip="fd77::9"), "[fd77::9]:8080/tcp"),
    (mapping(53, 5, "udp"), "53/udp"),
    (mapping(53, 5, "udp", "10.77.0.1"), "10.77.0.1:53/udp"),
    (mapping(99, 5, "sctp", "::"), "[::]:99/sctp"),
    (mapping(1015, 5), "1015/tcp"),
]
FREE = [mapping(8080, 80, "udp"), mapping(8080, 80, "sctp"), mapping(53, 53), mapping(53, 53, "udp", "10.77.0.9")]
FREE += [mapping(99, 9, "sctp", "0.0.0.0"), mapping(53, 53, "udp", "::"), mapping(1016), mapping(80, 8080)]

TABLE = """
table {family} cni_hostport {{
    chain hostports {{ }}
    chain hostip_hostports {{ }}
    chain hostports_all {{ jump hostip_hostports; jump hostports; }}
    chain prerouting {{ type nat hook prerouting priority -100; fib daddr type local jump hostports_all; }}
    chain output {{ type nat hook output priority -100; fib daddr type local jump hostports_all; }}
    chain masquerading {{ type nat hook postrouting priority 100; {family} saddr {address} {family} daddr {address} masquerade comment "c1"; }}
}}
"""


def go_publish(machine: Machine, *mappings: dict[str, Any], container: str = "c1") -> dict[str, Any]:
    """As `publish`, with portmap's rules made by the Go plugin."""
    result = attach(machine, NETWORK, container)
    config = {**portmap(*mappings, cniVersion="1.0.0"), "prevResult": result}
    outcome = machine.go("portmap", "ADD", config, container_id=container, netns=f"/run/netns/{container}")
    assert outcome.status == 0, outcome
    return config


def nft_publish(machine: Machine) -> None:
    """The same as the reference 1.9 gives it to `nft -f`."""
    for family, address, target in (("ip", "10.77.0.2", "10.77.0.2"), ("ip6", "fd77::2", "[fd77::2]")):
        rules = []
        for each in OWN:
            host = each.get("hostIP", "")
            if not host or (":" in host) == (family == "ip6"):
                words = f"{family} daddr {host} " if host else ""
                words += f"{each['protocol']} dport {each['hostPort']} dnat to {target}:{each['containerPort']}"
                rules.append(f'add rule {family} cni_hostport hostports {words} comment "c1"\n')
        machine.run("nft", "-f", "-", stdin=(TABLE.format(family=family, address=address) + "".join(rules)).encode())


def require_refusals(machine: Machine, config: dict[str, Any], holder: str, refused: Any = REFUSED) -> None:
    result = attach(machine, NETWORK, "c2")
    before = state(machine)
    for wanted, words in refused:
        config["runtimeConfig"] = {"portMappings": [mapping(7), wanted]}
        outcome = again(machine, "ADD", config, result, "c2")
        assert outcome.code == 999 and f"host port {words} is taken by {holder}" in outcome.json["msg"], outcome
        assert state(machine) == before, wanted
    config["runtimeConfig"] = {"portMappings": FREE}
    outcome = again(machine, "ADD", config, result, "c2")
    assert outcome.status == 0 and outcome.stderr == "", outcome
    assert again(machine, "CHECK", config, result, "c2").status == 0
    assert again(machine, "DEL", config, result, "c2").status == 0


@pytest.mark.parametrize("older", [False, True], ids=["nft", "legacy"])
def test_port_that_a_go_plugin_has_published_is_refused(machine: Machine, older: bool) -> None:
    """With iptables-nft by netlink, with its older sibling from one process, which only tells of IPv4."""
    if older:
        legacy(machine)
    config = go_publish(machine, *OWN)
    refused = [each for each in REFUSED if not older or ":" not in each[0].get("hostIP", "")]
    holder = "container c1 (network mynet), of which there are rules, but no record"
    require_refusals(machine, portmap(), holder, refused)
    assert run(machine, "ADD", config).status == 0  # the same container: a runtime without a DEL between
    assert run(machine, "DEL", config).status == 0
    assert again(machine, "ADD", portmap(), attach(machine, NETWORK, "c3"), "c3").status == 0


def test_port_that_a_go_plugin_has_published_by_nftables_is_refused(machine: Machine) -> None:
    attach(machine, NETWORK)
    nft_publish(machine)
    require_refusals(machine, portmap(backend="nftables"), "container c1, of which there are rules, but no record")


def test_another_network_of_the_same_container(machine: Machine) -> None:
    """podman publishes the same ports with each network of a container."""
    go_publish(machine, mapping())
    second = bridge(name="second", bridge="br2", ipam=host_local("10.78.0.0/24", "fd78::/64"))
    result = machine.plugin("bridge", "ADD", second, ifname="eth1").json
    outcome = again(machine, "ADD", portmap(mapping(), name="second"), result, ifname="eth1")
    assert outcome.status == 0, outcome


@pytest.mark.parametrize("backend", ["iptables", "nftables"])
def test_advice_about_a_container_that_is_gone(machine: Machine, backend: str) -> None:
    if backend == "iptables":
        go_publish(machine, mapping(host_ip="10.77.0.1"))
    else:
        attach(machine, NETWORK)
        nft_publish(machine)
    config, result = portmap(mapping(host_ip="10.77.0.1"), backend=backend), attach(machine, NETWORK, "c2")
    advice = again(machine, "ADD", config, result, "c2").json["details"].partition("if it is gone: ")[2]
    if backend == "iptables":
        advice = f"{advice.split('`')[1]} | sed 's/^-A/iptables -t nat -D/' | sh"
    machine.run("sh", "-c", advice)
    assert again(machine, "ADD", config, result, "c2").status == 0


def test_among_very_many_entries(machine: Machine) -> None:
    """Beyond some hundred entries they are read only if there are more than the records explain."""
    publish(machine, NETWORK, portmap(mapping(7)))
    lines = [f":CNI-DN-{number} - [0:0]" for number in range(300)]
    for number in range(300):
        comment, port = f'dnat name: \\"mynet\\" id: \\"x{number}\\"', 10000 + number
        lines.append(
            f'-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "{comment}" -m multiport --dports {port} -j CNI-DN-{number}'
        )
        lines.append(f"-A CNI-DN-{number} -p tcp -m tcp --dport {port} -j DNAT --to-destination 10.77.0.200:80")
    machine.run("iptables-restore", "--noflush", stdin="\n".join(("*nat", *lines, "COMMIT", "")).encode())
    outcome = again(machine, "ADD", portmap(mapping(10299)), attach(machine, NETWORK, "c2"), "c2")
    assert outcome.status == 1 and "10299/tcp is taken by container x299" in outcome.json["msg"], outcome


# --- iptables on the kernel's older tables


def test_legacy_iptables(machine: Machine) -> None:
    """All it takes is one iptables-restore for each IP version, and one look at what is there."""
    legacy(machine)
    outside_world(machine)
    configs = {}
    for number, name in enumerate(("c1", "c2", "c3")):
        configs[name] = publish(
            machine, NETWORK, portmap(mapping(1000 + number), mapping(1000 + number, UDP, "udp")), name
        )
        assert run(machine, "CHECK", configs[name], name).status == 0
    chains = [line.split()[1] for line in machine.run("nft", "list", "ruleset").splitlines() if "chain" in line]
    assert chains == ["loopback_guard"]  # the kernel has nftables, too
    with serving(machine, "c2"):
        asked = [("tcp", HOST[4], 1001), ("udp", HOST[6], 1001)]
        assert ask(machine, "outside", asked) == [f"c2 {OUTSIDE[4]}", f"c2 {OUTSIDE[6]}"]
    for name, config in configs.items():
        assert run(machine, "DEL", config, name).status == 0
    assert "10.77.0" not in ruleset(machine) and "fd77:" not in ruleset(machine)


def test_legacy_iptables_completes_what_is_shared(machine: Machine) -> None:
    """Where a part of it is missing nothing is lost."""
    legacy(machine)
    publish(machine, NETWORK, portmap(mapping(1000)))
    complete = ruleset(machine)
    for script in ("iptables -t nat -F OUTPUT", "ip6tables -t nat -F POSTROUTING", "iptables -t nat -F CNI-HOSTPORT-MASQ",
                   "iptables -t nat -F; iptables -t nat -X"):  # fmt: skip
        machine.run("sh", "-c", script)
        config = publish(machine, NETWORK, portmap(mapping(1001)), "c2")
        assert run(machine, "CHECK", config, "c2").status == 0
        assert (
            run(machine, "DEL", config, "c2").status
            == again(machine, "DEL", NETWORK, config["prevResult"], "c2").status
            == 0
        )
        machine.run("ip", "netns", "delete", "c2")
        machine.run("/usr/bin/python3", f"{machine.farm}/cnibox", "repair")
        assert sorted(ruleset(machine).splitlines()) == sorted(complete.splitlines()), script


# --- a flow that outlives a Go plugin's container


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(
    "changed", [{}, {"runtimeConfig": {"portMappings": [{"hostPort": "x"}]}}], ids=["told", "garbled"]
)
def test_udp_flow_after_our_delete_of_a_go_container(machine: Machine, version: int, changed: dict[str, Any]) -> None:
    """Nothing that belongs to DEL comes to harm where the mappings cannot be read."""
    outside_world(machine)
    with keep_sending(machine, "outside", HOST[version], 5353) as client:
        assert client.process.stdout is not None
        heard = select.poll()
        heard.register(client.process.stdout, select.POLLIN)
        config = go_publish(machine, mapping(5353, UDP, "udp"))
        with serving(machine, "c1"):
            assert heard.poll(5000)
            assert client.process.stdout.readline() == "c1\n"
        outcome = run(machine, "DEL", {**config, **changed})
        assert (outcome.status, outcome.stdout, outcome.stderr) == (0, "", "")
        listed = machine.run(
            "conntrack", "-L", "-f", f"ipv{version}", "-p", "udp", "--orig-port-dst", "5353", check=False
        )
        own = config["prevResult"]["ips"][version == 6]["address"].partition("/")[0]
        assert (f"src={own} " in listed) == bool(changed)
        if not changed:
            go_publish(machine, mapping(5353, UDP, "udp"), container="c2")
            with serving(machine, "c2"):
                assert heard.poll(5000), "c2 is not heard"
                assert client.process.stdout.readline() == "c2\n"


# --- order, and STATUS


@pytest.mark.parametrize("version", ["iptables", "ip6tables"])
def test_masquerading_behind_what_accepts(machine: Machine, version: str) -> None:
    """Behind an interface plugin's rules, which accept what stays in the subnet, hairpin is no longer masqueraded."""
    config = publish(machine, bridge(ipMasq=True, ipMasqBackend="iptables"), portmap(mapping(1000)))
    before = ruleset(machine)
    move = f"{version} -t nat -S POSTROUTING | sed -n '/HOSTPORT-MASQ/{{s/-A/-D/p;s/-D/-A/p}}' | sed 's/^/{version} -t nat /' | sh"
    machine.run("sh", "-c", move)
    assert ruleset(machine) != before
    outcome = run(machine, "CHECK", config)
    assert (
        outcome.status == 1
        and "-I POSTROUTING -m comment" in outcome.json["msg"]
        and "(too late)" in outcome.json["msg"]
    )
    machine.run("/usr/bin/python3", f"{machine.farm}/cnibox", "repair")
    assert run(machine, "CHECK", config).status == 0 and ruleset(machine) == before
    machine.run("iptables", "-t", "nat", "-I", "POSTROUTING", "-s", "192.0.2.1", "-j", "ACCEPT")  # somebody else's
    assert run(machine, "CHECK", config).status == 0


def test_status_with_words_of_the_other_backend(machine: Machine) -> None:
    def status(**options: Any) -> Any:
        return machine.plugin("portmap", "STATUS", portmap(**options), container_id=None, netns=None, ifname=None)

    for backend, options in (
        ("nftables", {"externalSetMarkChain": "X"}), ("nftables", {"conditionsV4": ["-s", "10.0.0.1"]}),
        ("iptables", {"conditionsV6": ["ip6", "saddr", "::1"]}),
    ):  # fmt: skip
        outcome = status(backend=backend, runtimeConfig={}, **options)
        assert outcome.code == 7 and "specific options" in outcome.json["msg"], outcome
    assert status(backend="iptables", conditionsV4=["-s", "10.0.0.1"]).status == 0
    outcome = status(externalSetMarkChain="X")
    assert outcome.code == 50 and 'no chain "X"' in outcome.json["msg"]
    machine.run("iptables", "-t", "nat", "-N", "X")
    assert status(externalSetMarkChain="X").status == 0
    assert json.loads(status(externalSetMarkChain="X").stdout or "{}") == {}
