"""CHECK finds each thing that is no longer as ADD made it, and nothing else; STATUS tells why an ADD cannot succeed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.chain import Chain, bridged
from tests.support.machine import Machine
from tests.support.network import V4, V6, again, attach, bridge, host_local, layer2, ptp, state
from tests.support.rules import ruleset

DEFAULT = [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
STATIC = {"type": "static", "addresses": [{"address": "10.77.0.5/24"}, {"address": "fd77::5/64", "gateway": "fd77::1"}]}

ROUTES = host_local(routes=DEFAULT)
MACVLAN = {"type": "macvlan", "master": "up0", "mtu": 1400}

# --- CHECK succeeds

CONFIGURATIONS: dict[str, Any] = {
    "bridge": bridge(),
    "bridge-0.4.0": bridge(cniVersion="0.4.0"),
    "bridge-1.0.0": bridge(cniVersion="1.0.0"),
    "bridge-layer-2": layer2(),
    "bridge-interface-down": layer2(disableContainerInterface=True),
    "bridge-default-gateway": bridge(isDefaultGateway=True),
    "bridge-no-gateway": bridge(isGateway=False, ipam=host_local(routes=DEFAULT)),
    "bridge-hairpin": bridge(hairpinMode=True),
    "bridge-promisc": bridge(promiscMode=True),
    "bridge-isolated": bridge(portIsolation=True),
    "bridge-mtu": bridge(mtu=1400),
    "bridge-mac": bridge(runtimeConfig={"mac": "02:00:00:00:00:AB"}),
    "bridge-masq-iptables": bridge(ipMasq=True, ipMasqBackend="iptables"),
    "bridge-masq-nftables": bridge(ipMasq=True, ipMasqBackend="nftables"),
    "bridge-two-ranges": bridge(ipam=host_local(V4, "10.78.0.0/24", V6, routes=DEFAULT)),
    "bridge-host-prefix": bridge(isGateway=False, ipam={"type": "static", "addresses": [{"address": "10.77.0.5/32"}]}),
    "bridge-point-to-point-prefix": bridge(ipam={"type": "static", "addresses": [{"address": "10.77.0.4/31"}]}),
    "bridge-static": bridge(ipam=STATIC),
    "bridge-routes": bridge(
        ipam=host_local(
            routes=[
                {"dst": "10.1.2.3/16", "mtu": 1300},
                {"dst": "10.3.0.0/16", "table": 1000},
                {"dst": "10.4.0.0/16", "scope": 253},
                {"dst": "10.5.0.0/16", "gw": "10.77.0.9"},
                {"dst": "10.6.0.0/16", "gw": "10.77.0.8"},
                {"dst": "10.6.0.0/16", "gw": "10.77.0.9"},
                {"dst": "fd99::1/64"},
                {"dst": "fd98::/64", "gw": "fd77::8"},
                {"dst": "fd98::/64", "gw": "fd77::9"},
            ]
        )
    ),
    "ptp": ptp(),
    "ptp-0.4.0": ptp(cniVersion="0.4.0"),
    "ptp-mtu": ptp(mtu=1400),
    "ptp-routes": ptp(ipam=host_local(routes=DEFAULT)),
    "ptp-masq-iptables": ptp(ipMasq=True, ipMasqBackend="iptables"),
    "ptp-masq-nftables": ptp(ipMasq=True, ipMasqBackend="nftables"),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_check_succeeds_after_add(machine: Machine, name: str) -> None:
    """Silently, as often as it is asked, and without any change."""
    config = CONFIGURATIONS[name]
    result = attach(machine, config)
    before = state(machine)
    for _ in range(2):
        outcome = again(machine, "CHECK", config, result)
        assert (outcome.status, outcome.stdout, outcome.stderr) == (0, "", "")
    assert state(machine) == before


@pytest.mark.parametrize(
    "later",
    [
        "ip -n c1 address add 10.99.0.1/24 dev eth0",
        "ip -n c1 address add 10.77.0.77/24 dev eth0",
        "ip -n c1 -6 address add fd99::1/64 dev eth0",
        "ip -n c1 route add 10.88.0.0/16 via 10.77.0.1",
        "ip -n c1 link add dummy type veth peer name other; ip -n c1 link set other up",
        "ip netns exec c1 sysctl -qw net.ipv4.conf.eth0.rp_filter=2",
        # sbr moves routes into a table of its own, and adds rules
        "ip -n c1 route add default via 10.77.0.1 table 100; ip -n c1 route del default; ip -n c1 rule add table 100",
        # somebody looks at the packets
        "timeout 1 tcpdump -ni cni0 -w /dev/null -c 1 & sleep 0.2; true",
        "ip link set cni0 promisc on",
        "ip link set cni0 mtu 1300",
    ],
)  # fmt: skip
def test_check_tolerates_what_others_add(machine: Machine, later: str) -> None:
    config = bridge(ipam=host_local(routes=DEFAULT[:1]))
    result = attach(machine, config)
    machine.run("sh", "-c", later)
    outcome = again(machine, "CHECK", config, result)
    assert outcome.status == 0, outcome


@pytest.mark.parametrize("version", ["1.1.0", "1.0.0"])
@pytest.mark.parametrize(
    "first",
    [bridge(mtu=1400), ptp(mtu=1400), pytest.param(MACVLAN, marks=pytest.mark.kernel("macvlan"))],
    ids=lambda config: config["type"],
)  # fmt: skip
def test_check_follows_an_mtu_that_tuning_has_changed(machine: Machine, first: Any, version: str) -> None:
    """From 1.1.0 on it is in the result; before, tuning's record tells that it did, and tuning's CHECK compares."""
    machine.container()
    machine.run("sh", "-ec", "ip link add up0 type veth peer name up1; ip link set up0 up; ip link set up1 up")
    chain = Chain(machine, *({**each, "cniVersion": version} for each in (first, {"type": "tuning", "mtu": 1300})))
    result = chain.add()
    told = [each.get("mtu") for each in result["interfaces"] if each["name"] == "eth0"]
    assert told == [1300 if version == "1.1.0" else None]
    for config in chain.configs:
        chain.one("CHECK", config)
    machine.run("ip", "-n", "c1", "link", "set", "eth0", "mtu", "1350")
    assert "mtu of eth0 is 1350, not 1300" in chain.check().json["msg"]
    if version == "1.0.0":  # without tuning's record nobody may have changed it
        machine.run("rm", "/run/cnibox/attachments/c1/eth0:mynet:tuning", "/run/cni/tuning/c1_eth0.json")
    wanted = 1300 if version == "1.1.0" else 1400
    assert f"MTU 1350, not {wanted}" in chain.attempt("CHECK", chain.configs[0]).json["msg"]


def test_check_follows_an_mtu_that_the_go_tuning_has_changed(machine: Machine) -> None:
    """It has no word of it in the result; its backup tells that it did."""
    machine.container()
    chain = Chain(machine, bridge(), {"type": "tuning", "mtu": 1300})
    chain.add(go_last=True)
    chain.result["cniVersion"] = "1.1.0"
    chain.result["interfaces"][2]["mtu"] = 1500  # which the reference's newest release keeps
    chain.one("CHECK", chain.configs[0])
    machine.run("rm", "/run/cni/tuning/c1_eth0.json")
    assert "MTU 1300, not 1500" in chain.attempt("CHECK", chain.configs[0]).json["msg"]


@pytest.mark.parametrize("backend", ["iptables", "nftables"])
def test_check_follows_an_isolation_that_firewall_has_made(machine: Machine, backend: str) -> None:
    machine.container()
    chain = Chain(machine, bridge(), {"type": "firewall", "backend": backend, "ingressPolicy": "isolated"})
    chain.add()
    for config in chain.configs:
        chain.one("CHECK", config)


@pytest.mark.parametrize("first", [bridge(isDefaultGateway=True), bridge(ipam=ROUTES)])
def test_check_follows_a_default_route_that_sbr_has_replaced(machine: Machine, first: Any) -> None:
    """By one with a gateway of its own (`gateways`), in a table of its own."""
    machine.container()
    chain = Chain(machine, first, {"type": "sbr", "gateways": ["10.77.0.9", "fd77::9"]})
    chain.add()
    for config in chain.configs:
        chain.one("CHECK", config)
    machine.run("ip", "-n", "c1", "route", "del", "default", "table", "100")
    assert "0.0.0.0/0" in chain.attempt("CHECK", chain.configs[0]).json["msg"]


def test_check_wants_a_default_route_of_the_interface_itself(machine: Machine) -> None:
    """Not one that sbr has given to another."""
    config = bridge(isDefaultGateway=True)
    result = attach(machine, config)
    other = bridged(1)
    other["ipam"]["routes"] = []  # sbr makes them
    Chain(machine, other, {"type": "sbr", "name": other["name"]}, ifname="eth1").add()
    machine.run("ip", "-n", "c1", "route", "del", "default")
    outcome = again(machine, "CHECK", config, result)
    assert outcome.status == 1 and "route 0.0.0.0/0 via 10.77.0.1 is not in" in outcome.json["msg"]


def test_check_follows_a_mac_that_a_later_plugin_has_changed(machine: Machine) -> None:
    """tuning changes it in the namespace and in the result."""
    result = attach(machine, bridge())
    machine.run("ip", "-n", "c1", "link", "set", "eth0", "address", "02:00:00:00:00:77")
    result["interfaces"][2]["mac"] = "02:00:00:00:00:77"
    assert again(machine, "CHECK", bridge(), result).status == 0


# --- CHECK fails

MASQ_IPTABLES = bridge(ipMasq=True, ipMasqBackend="iptables")
MASQ_NFTABLES = bridge(ipMasq=True, ipMasqBackend="nftables")
ROUTED = bridge(ipam=host_local(routes=DEFAULT))
TABLE = "inet cni_plugins_masquerade"


def without(chain: str, rule: str) -> str:
    """The command that deletes the one rule of that chain that begins so."""
    handle = f"$(nft -a list chain {TABLE} {chain} | sed -n 's|^[[:space:]]*{rule}.* handle ||p')"
    return f"nft delete rule {TABLE} {chain} handle {handle}"


def again_with(edit: str) -> str:
    """The command that reads the table back as sed has changed it."""
    return f"(echo flush table {TABLE}; nft list table {TABLE} | sed '{edit}') >/run/rules; nft -f /run/rules"


OTHER_MAC = "02:00:00:00:00:99"
MUTATIONS = [
    (bridge(), "ip -n c1 address del 10.77.0.2/24 dev eth0", "10.77.0.2/24"),
    (bridge(), "ip -n c1 address del fd77::2/64 dev eth0", "fd77::2/64"),
    (bridge(), "ip -n c1 address flush dev eth0; ip -n c1 address add 10.77.0.2/16 dev eth0", "10.77.0.2/24"),
    (ROUTED, "ip -n c1 route del default", "0.0.0.0/0"),
    (ROUTED, "ip -n c1 -6 route del default", "::/0"),
    (ROUTED, "ip -n c1 route replace default dev eth0", "0.0.0.0/0"),
    (bridge(ipam=host_local(routes=[{"dst": "10.9.0.0/16", "gw": "10.77.0.9"}])),
     "ip -n c1 route replace 10.9.0.0/16 via 10.77.0.8", "10.9.0.0/16"),
    (bridge(ipam=host_local(routes=[{"dst": "10.9.0.0/16", "table": 100}])),
     "ip -n c1 route flush table 100", "10.9.0.0/16"),
    (bridge(isDefaultGateway=True), "ip -n c1 route replace default via 10.77.0.9", "0.0.0.0/0"),
    (bridge(), "ip -n c1 link set eth0 down", "eth0"),
    (layer2(), "ip -n c1 link set eth0 down", "eth0"),
    (bridge(), "ip link set {near} down", "{near}"),
    (bridge(), f"ip -n c1 link set eth0 address {OTHER_MAC}", OTHER_MAC),
    (bridge(), f"ip link set {{near}} address {OTHER_MAC}", OTHER_MAC),
    (bridge(), f"ip link set cni0 address {OTHER_MAC}", OTHER_MAC),
    (bridge(mtu=1400), "ip -n c1 link set eth0 mtu 1300", "1300"),
    (bridge(), "ip -n c1 link set eth0 mtu 1300", "eth0 has MTU 1300, not 1500"),
    (bridge(), "ip link set {near} mtu 1400", "{near} has MTU 1400, not 1500"),
    (layer2(), "ip -n c1 link set eth0 mtu 9000", "eth0 has MTU 9000, not 1500"),
    (bridge(mtu=1400, cniVersion="1.0.0"), "ip -n c1 link set eth0 mtu 1300", "1300"),
    (bridge(), "ip link set {near} nomaster", "{near}"),
    (bridge(), "ip link add br9 type bridge; ip link set {near} master br9", "{near}"),
    (bridge(), "ip link del cni0", "cni0"),
    (bridge(), "ip link del cni0; ip link add cni0 type bridge; ip link set {near} master cni0", "cni0"),
    (bridge(), "ip link set cni0 down", "cni0"),
    (bridge(), "ip address del 10.77.0.1/24 dev cni0", "10.77.0.1/24"),
    (bridge(), "ip address del fd77::1/64 dev cni0", "fd77::1/64"),
    (bridge(), "ip -n c1 link del eth0", "eth0"),
    (bridge(), "ip -n c1 link del eth0; ip -n c1 link add eth0 type bridge", "eth0"),
    (bridge(hairpinMode=True), "bridge link set dev {near} hairpin off", "hairpinMode"),
    (bridge(portIsolation=True), "bridge link set dev {near} isolated off", "portIsolation"),
    (bridge(), "bridge link set dev {near} isolated on", "portIsolation of port {near} is on"),
    (bridge(promiscMode=True), "ip link set cni0 promisc off", "promisc"),
    (bridge(), "rm /var/lib/cni/networks/mynet/10.77.0.2", "10.77.0.2"),
    (bridge(), "printf 'other\\r\\neth0' > /var/lib/cni/networks/mynet/10.77.0.2", "10.77.0.2"),
    (bridge(), "ip netns del c1", "/run/netns/c1"),
    (MASQ_IPTABLES, "iptables -t nat -F", "masquerad"),
    (MASQ_IPTABLES, "iptables -t nat -F POSTROUTING", "masquerad"),
    (MASQ_IPTABLES, "ip6tables -t nat -F", "masquerad"),
    (MASQ_IPTABLES, "iptables-save -t nat | sed -n '/-d 10.77.0.0.24 /s/^-A/iptables -t nat -D/p' | sh", "-d 10.77.0.0/24 -j ACCEPT"),
    (MASQ_IPTABLES, "ip6tables-save -t nat | sed -n '/-d fd77::.64 /s/^-A/ip6tables -t nat -D/p' | sh", "-d fd77::/64 -j ACCEPT"),
    (MASQ_IPTABLES, "iptables-save -t nat | sed -n '/-j MASQUERADE/s/^-A/iptables -t nat -D/p' | sh", "! -d 224.0.0.0/4 -j MASQUERADE"),
    (MASQ_IPTABLES, "iptables-save -t nat | sed -n '/-s 10.77.0.2.32/s/^-A/iptables -t nat -D/p' | sh", "-s 10.77.0.2/32"),
    (MASQ_IPTABLES, "iptables-save -t nat | sed -n 's|-d 10.77.0.0/24|-d 10.78.0.0/24|; /^[*C]/p; /^-A CNI/p; /^:CNI/p' | iptables-restore -n", "-d 10.77.0.0/24 -j ACCEPT"),
    (MASQ_NFTABLES, "nft flush chain inet cni_plugins_masquerade masq_checks", "masquerad"),
    (MASQ_NFTABLES, without("postrouting", "goto masq_checks"), "postrouting goto masq_checks"),
    (MASQ_NFTABLES, without("postrouting", "ip daddr 224.0.0.0/4"), "missing: nft add rule inet cni_plugins_masquerade postrouting ip daddr 224.0.0.0/4 return"),
    (MASQ_NFTABLES, without("postrouting", "ip6 daddr ff00::/8"), "ip6 daddr ff00::/8 return"),
    (MASQ_NFTABLES, without("masq_checks", "ip saddr 10.77.0.2"), "ip saddr 10.77.0.2"),
    (MASQ_NFTABLES, without("masq_checks", "ip6 saddr fd77::2"), "ip6 saddr fd77::2"),
    (MASQ_NFTABLES, again_with("s|daddr != 10.77.0.0/24|daddr 10.77.0.0/24|"), "ip daddr != 10.77.0.0/24"),
    (MASQ_NFTABLES, again_with("s|daddr != fd77::/64|daddr != fd78::/64|"), "ip6 daddr != fd77::/64"),
    (MASQ_NFTABLES, again_with("s/saddr 10.77.0.2/saddr 10.77.0.3/"), "ip saddr 10.77.0.2"),
    (MASQ_NFTABLES, again_with("/saddr 10.77.0.2/s/ masquerade/ accept/"), "ip saddr 10.77.0.2"),
    (MASQ_NFTABLES, again_with("s|224.0.0.0/4|224.0.0.0/5|"), "ip daddr 224.0.0.0/4 return"),
    (MASQ_NFTABLES, "nft flush chain inet cni_plugins_masquerade postrouting", "masquerad"),
    (MASQ_NFTABLES, "nft flush ruleset", "masquerad"),
    (ptp(), "ip -n c1 address del 10.77.0.2/24 dev eth0", "10.77.0.2/24"),
    (ptp(ipam=host_local(routes=DEFAULT)), "ip -n c1 route del default", "0.0.0.0/0"),
    (ptp(), f"ip -n c1 link set eth0 address {OTHER_MAC}", OTHER_MAC),
    (ptp(), "ip -n c1 link set eth0 down", "eth0"),
    (ptp(), "ip link set {near} down", "{near}"),
    (ptp(), "ip route del 10.77.0.2", "10.77.0.2"),
    (ptp(), "ip -6 route del fd77::2", "fd77::2"),
    (ptp(), "ip address del 10.77.0.1/32 dev {near}", "10.77.0.1"),
    (ptp(mtu=1400), "ip -n c1 link set eth0 mtu 1300", "1300"),
    (ptp(), "ip -n c1 link set eth0 mtu 1280", "eth0 has MTU 1280, not 1500"),
    (ptp(), "ip link set {near} mtu 1501", "{near} has MTU 1501, not 1500"),
    (ptp(ipMasq=True), "iptables -t nat -F", "masquerad"),
]  # fmt: skip


@pytest.mark.parametrize(
    "config, mutation, named", MUTATIONS, ids=lambda value: value if isinstance(value, str) else value["type"]
)
def test_check_names_what_is_different(machine: Machine, config: Any, mutation: str, named: str) -> None:
    result = attach(machine, config)
    near = result["interfaces"][1 if config["type"] == "bridge" else 0]["name"]
    machine.run("sh", "-ec", mutation.format(near=near))
    outcome = again(machine, "CHECK", config, result)
    assert outcome.status == 1, outcome
    said = outcome.json["msg"] + outcome.json.get("details", "")
    assert outcome.code in (8, 999) and named.format(near=near) in said, outcome
    assert outcome.stderr == ""


@pytest.mark.parametrize(
    "config, mutation", [(config, mutation) for config, mutation, _ in MUTATIONS if "ipMasq" in config],
    ids=lambda value: value if isinstance(value, str) else value["type"],
)  # fmt: skip
def test_repair_puts_the_same_rule_back(machine: Machine, config: Any, mutation: str) -> None:
    """Also beside a container whose rules are as they were, and an interface that shares the first one's chain."""
    result = attach(machine, config)
    attach(machine, config, "c2")
    eth1 = machine.plugin(config["type"], "ADD", config, ifname="eth1")
    assert eth1.status == 0, eth1
    before = set(ruleset(machine).splitlines())
    machine.run("sh", "-ec", mutation)
    assert set(ruleset(machine).splitlines()) != before
    assert "masquerading of 10.77.0.2, fd77::2" in machine.run(f"{machine.farm}/cnibox", "repair")
    assert set(ruleset(machine).splitlines()) == before
    assert machine.run(f"{machine.farm}/cnibox", "repair") == "nothing was missing\n"
    assert again(machine, "CHECK", config, result).status == 0
    assert again(machine, "CHECK", config, eth1.json, ifname="eth1").status == 0


def test_check_needs_the_previous_result(machine: Machine) -> None:
    attach(machine, bridge())
    outcome = machine.plugin("bridge", "CHECK", bridge())
    assert outcome.code == 7 and "prevResult" in outcome.json["msg"]


def test_check_of_another_interface(machine: Machine) -> None:
    result = attach(machine, bridge())
    outcome = again(machine, "CHECK", bridge(), result, ifname="eth1")
    assert outcome.status == 1 and "eth1" in outcome.json["msg"]


# --- STATUS


def status(machine: Machine, config: Any, **options: Any) -> Any:
    """The answer; STATUS has neither container nor interface, and changes nothing."""
    before = state(machine)
    outcome = machine.plugin(config["type"], "STATUS", config, container_id=None, netns=None, ifname=None, **options)
    assert state(machine) == before
    assert outcome.stderr == ""
    return outcome


@pytest.mark.parametrize("name", [name for name in CONFIGURATIONS if not name.endswith((".4.0", ".0.0"))])
def test_status_is_silent_when_add_would_succeed(machine: Machine, name: str) -> None:
    for _ in range(2):
        outcome = status(machine, CONFIGURATIONS[name])
        assert (outcome.status, outcome.stdout) == (0, "")
        if not machine.ip("netns", "list"):
            attach(machine, CONFIGURATIONS[name])


@pytest.mark.parametrize("plugin", ["loopback", "static"])
def test_status_of_the_others(machine: Machine, plugin: str) -> None:
    config = {"cniVersion": "1.1.0", "name": "mynet", "type": plugin, "ipam": {"type": "static"}}
    assert status(machine, config).status == 0


def test_status_when_the_range_is_full(machine: Machine) -> None:
    config = bridge(ipam=host_local("10.77.0.0/30"))
    attach(machine, config)
    outcome = status(machine, config)
    assert outcome.code == 50
    assert "10.77.0.2" in outcome.stdout or "10.77.0.0/30" in outcome.stdout


def test_status_without_the_ipam_plugin(machine: Machine) -> None:
    outcome = status(machine, bridge(ipam={"type": "no-such"}))
    assert outcome.code == 50 and 'failed to find plugin "no-such"' in outcome.json["msg"]


def test_status_when_the_bridge_is_none(machine: Machine) -> None:
    machine.run("ip", "link", "add", "cni0", "type", "veth", "peer", "name", "other")
    outcome = status(machine, bridge())
    assert outcome.code == 50 and "cni0 is a veth, not a bridge" in outcome.json["msg"]


def test_status_without_the_packet_filter_asked_for(machine: Machine) -> None:
    machine.run("mount", "-t", "tmpfs", "none", "/etc/alternatives")  # where Debian's symlinks lead
    outcome = status(machine, bridge(ipMasq=True, ipMasqBackend="iptables"))
    assert outcome.code == 50 and "iptables-restore" in outcome.json["msg"] and "nftables" in outcome.json["details"]
    assert status(machine, bridge(ipMasq=True)).status == 0


def test_status_with_a_read_only_state_folder(machine: Machine) -> None:
    machine.run("mount", "-o", "remount,ro", "/var/lib/cni")
    outcome = status(machine, bridge())
    assert outcome.code == 50 and "/var/lib/cni" in outcome.json["msg"]


@pytest.mark.parametrize("options", [{"hairpinMode": True, "promiscMode": True}, {"mtu": "big"}, {"bridge": "no/name"}])
def test_status_of_a_wrong_configuration(machine: Machine, options: dict[str, Any]) -> None:
    assert status(machine, bridge(**options)).code == 7
