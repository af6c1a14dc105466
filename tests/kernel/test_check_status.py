"""CHECK finds each thing that is no longer as ADD made it, and nothing else; STATUS tells why an ADD cannot succeed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.machine import Machine
from tests.support.network import V4, V6, again, attach, bridge, host_local, layer2, ptp, state

DEFAULT = [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
STATIC = {"type": "static", "addresses": [{"address": "10.77.0.5/24"}, {"address": "fd77::5/64", "gateway": "fd77::1"}]}

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
    ],
)  # fmt: skip
def test_check_tolerates_what_others_add(machine: Machine, later: str) -> None:
    config = bridge(ipam=host_local(routes=DEFAULT[:1]))
    result = attach(machine, config)
    machine.run("sh", "-c", later)
    outcome = again(machine, "CHECK", config, result)
    assert outcome.status == 0, outcome


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
    (bridge(promiscMode=True), "ip link set cni0 promisc off", "promisc"),
    (bridge(), "rm /var/lib/cni/networks/mynet/10.77.0.2", "10.77.0.2"),
    (bridge(), "printf 'other\\r\\neth0' > /var/lib/cni/networks/mynet/10.77.0.2", "10.77.0.2"),
    (bridge(), "ip netns del c1", "/run/netns/c1"),
    (MASQ_IPTABLES, "iptables -t nat -F", "masquerad"),
    (MASQ_IPTABLES, "iptables -t nat -F POSTROUTING", "masquerad"),
    (MASQ_IPTABLES, "ip6tables -t nat -F", "masquerad"),
    (MASQ_NFTABLES, "nft flush chain inet cni_plugins_masquerade masq_checks", "masquerad"),
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
