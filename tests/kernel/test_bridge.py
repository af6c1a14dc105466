"""bridge with real packets: what its options promise is what the kernel does."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.machine import Machine, links
from tests.support.network import V4, V6, again, attach, bridge, host_local, layer2, state
from tests.support.packets import DIRECTIONS, advertise_router, first_packet, outside_world, own_broadcast_returns

ROUNDS = 10
ANY = [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]


def static(*addresses: str, **more: Any) -> dict[str, Any]:
    return {"type": "static", "addresses": [{"address": address} for address in addresses], **more}


def far_end(machine: Machine, container: str = "c1") -> Any:
    return machine.ip("-n", container, "-d", "link", "show", "eth0")[0]


def port(machine: Machine, result: Any) -> Any:
    """The host's end, as `ip -d link` shows it."""
    return machine.ip("-d", "link", "show", result["interfaces"][1]["name"])[0]


def addresses(machine: Machine, device: str, container: str = "") -> list[str]:
    """The global addresses of a device."""
    where = ["-n", container] if container else []
    found = machine.ip(*where, "address", "show", "dev", device, "scope", "global")
    known = [each for entry in found for each in entry.get("addr_info", ()) if each]  # filtered ones are {}
    return [f"{each['local']}/{each['prefixlen']}" for each in known]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_first_packet_is_delivered(machine: Machine, direction: str, version: int) -> None:
    """The first packet of all, on a bridge that this ADD has made, without a second try."""
    if "outside" in direction:
        outside_world(machine)
    for number in range(ROUNDS):
        assert first_packet(machine, bridge, direction, version, number), f"round {number}"


def test_result_tells_what_there_is(machine: Machine) -> None:
    result = attach(machine, bridge())
    near = result["interfaces"][1]["name"]
    assert result["interfaces"] == [
        {"mac": machine.ip("link", "show", "cni0")[0]["address"], "mtu": 1500, "name": "cni0"},
        {"mac": machine.ip("link", "show", near)[0]["address"], "mtu": 1500, "name": near},
        {"mac": far_end(machine)["address"], "mtu": 1500, "name": "eth0", "sandbox": "/run/netns/c1"},
    ]
    assert result["ips"] == [
        {"address": "10.77.0.2/24", "gateway": "10.77.0.1", "interface": 2},
        {"address": "fd77::2/64", "gateway": "fd77::1", "interface": 2},
    ]


def test_bridge_keeps_its_mac(machine: Machine) -> None:
    """The gateway's MAC address must not change with the ports that come and go."""
    config = bridge()
    attach(machine, config)
    before = machine.ip("link", "show", "cni0")[0]["address"]
    for name in ("c2", "c3", "c4"):
        attach(machine, config, name)
    machine.plugin("bridge", "DEL", config)
    assert machine.ip("link", "show", "cni0")[0]["address"] == before


# --- options of the port


def test_hairpin_mode(machine: Machine) -> None:
    """A frame comes back through the port that it came from, and only then."""
    attach(machine, bridge(), "plain")
    result = attach(machine, bridge(hairpinMode=True), "c1")
    assert port(machine, result)["linkinfo"]["info_slave_data"]["hairpin"] is True
    assert own_broadcast_returns(machine, "c1")
    assert not own_broadcast_returns(machine, "plain")


def test_hairpin_and_promiscuous_mode_exclude_each_other(machine: Machine) -> None:
    machine.container()
    before = state(machine)
    outcome = machine.plugin("bridge", "ADD", bridge(hairpinMode=True, promiscMode=True))
    assert (outcome.status, outcome.code) == (1, 7)
    assert "hairpin" in outcome.json["msg"] and "promisc" in outcome.json["msg"]
    assert state(machine) == before


def test_port_isolation(machine: Machine) -> None:
    """Isolated containers do not reach each other; the gateway, and who is not isolated, they do."""
    config = bridge(portIsolation=True)
    result = attach(machine, config, "c1")
    attach(machine, config, "c2")
    attach(machine, bridge(), "plain")
    assert port(machine, result)["linkinfo"]["info_slave_data"]["isolated"] is True
    for gateway in ("10.77.0.1", "fd77::1"):
        assert machine.ping(gateway, inside="c1")
        assert machine.ping(gateway, inside="c2")
    assert not machine.ping("10.77.0.3", inside="c1")
    assert not machine.ping("fd77::3", inside="c1")
    assert machine.ping("10.77.0.4", inside="c1")


def test_promiscuous_mode(machine: Machine) -> None:
    attach(machine, bridge(promiscMode=True))
    assert "PROMISC" in machine.ip("link", "show", "cni0")[0]["flags"]


def test_container_interface_stays_down_when_asked(machine: Machine) -> None:
    result = attach(machine, layer2(disableContainerInterface=True))
    assert "UP" not in far_end(machine)["flags"]
    assert len(result["interfaces"]) == 3 and "ips" not in result


def test_container_interface_without_addresses_is_up(machine: Machine) -> None:
    attach(machine, layer2(), "c1")
    attach(machine, layer2(), "c2")
    assert far_end(machine)["operstate"] == "UP"
    for number in (1, 2):
        machine.run("ip", "-n", f"c{number}", "address", "add", f"10.1.1.{number}/24", "dev", "eth0")
    assert machine.ping("10.1.1.2", inside="c1")


def test_disabled_interface_with_ipam_is_refused(machine: Machine) -> None:
    machine.container()
    outcome = machine.plugin("bridge", "ADD", bridge(disableContainerInterface=True))
    assert outcome.code == 7 and "disableContainerInterface" in outcome.json["details"]
    assert links(machine) == ["lo"]


def test_mtu_at_both_ends_and_in_the_result(machine: Machine) -> None:
    result = attach(machine, bridge(mtu=1400))
    assert [each["mtu"] for each in result["interfaces"]] == [1400, 1400, 1400]
    assert machine.ip("link", "show", "cni0")[0]["mtu"] == 1400
    assert port(machine, result)["mtu"] == 1400
    assert far_end(machine)["mtu"] == 1400


@pytest.mark.parametrize("version, shown", [("1.0.0", False), ("1.1.0", True)])
def test_mtu_is_told_since_1_1_0(machine: Machine, version: str, shown: bool) -> None:
    result = attach(machine, bridge(cniVersion=version))
    assert [("mtu" in each) for each in result["interfaces"]] == [shown] * 3


ARGS, CONVENTION, RUNTIME = "02:00:00:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03"


@pytest.mark.parametrize(
    "given, expected",
    [({"args"}, ARGS), ({"args", "convention"}, CONVENTION), ({"args", "convention", "runtime"}, RUNTIME)],
)
def test_mac_and_who_has_the_last_word(machine: Machine, given: set[str], expected: str) -> None:
    more: dict[str, Any] = {}
    if "convention" in given:
        more["args"] = {"cni": {"mac": CONVENTION}}
    if "runtime" in given:
        more["runtimeConfig"] = {"mac": RUNTIME}
    result = attach(machine, bridge(**more), CNI_ARGS=f"IgnoreUnknown=1;MAC={ARGS}")
    assert far_end(machine)["address"] == expected
    assert result["interfaces"][2]["mac"] == expected
    assert machine.ping("10.77.0.1", inside="c1")


# --- addresses and routes


@pytest.mark.parametrize("routes", [[], ANY, [{"dst": "0.0.0.0/0", "gw": "10.77.0.9"}]])
def test_default_gateway(machine: Machine, routes: list[dict[str, str]]) -> None:
    """With the reference a default route of IPAM's without gw meets a second one, and ADD fails (EEXIST)."""
    result = attach(machine, bridge(isGateway=False, isDefaultGateway=True, ipam=host_local(routes=routes)))
    wanted = {"0.0.0.0/0": routes[0].get("gw", "10.77.0.1") if routes else "10.77.0.1", "::/0": "fd77::1"}
    assert {route["dst"]: route["gw"] for route in result["routes"]} == wanted
    assert [route["gateway"] for route in machine.ip("-n", "c1", "route", "show", "default")] == [wanted["0.0.0.0/0"]]
    assert [route["gateway"] for route in machine.ip("-n", "c1", "-6", "route", "show", "default")] == ["fd77::1"]
    assert addresses(machine, "cni0") == ["10.77.0.1/24", "fd77::1/64"]


def test_two_ranges_of_one_family_with_gateways(machine: Machine) -> None:
    """Both gateways live on the bridge; in the reference the second is in conflict with the first."""
    config = bridge(ipam=host_local(V4, "10.78.0.0/24"))
    attach(machine, config, "c1")
    attach(machine, config, "c2")
    assert addresses(machine, "cni0") == ["10.77.0.1/24", "10.78.0.1/24"]
    for address in ("10.77.0.1", "10.78.0.1", "10.77.0.2", "10.78.0.2"):
        assert machine.ping(address, inside="c2")


@pytest.mark.parametrize("there, subnet", [("10.99.0.1/24", V4), ("fd77::9/64", V6)])
def test_another_address_on_the_bridge(machine: Machine, there: str, subnet: str) -> None:
    """Another IPv4 address, or an overlapping IPv6 one, is refused, and replaced only by force."""
    machine.run("ip", "link", "add", "cni0", "type", "bridge")
    machine.run("ip", "address", "add", there, "dev", "cni0", *(["nodad"] if ":" in there else []))
    machine.container("c1")
    before = addresses(machine, "cni0")
    outcome = machine.plugin("bridge", "ADD", bridge(ipam=host_local(subnet)))
    assert outcome.status == 1
    assert "already has an IP address different from" in outcome.json["msg"] and there in outcome.json["msg"]
    assert "forceAddress" in outcome.json["details"]
    assert addresses(machine, "cni0") == before
    assert links(machine, "c1") == ["lo"]

    attach(machine, bridge(ipam=host_local(subnet), forceAddress=True), "c2")
    assert addresses(machine, "cni0") == ["fd77::1/64" if ":" in there else "10.77.0.1/24"]


def test_unrelated_ipv6_address_on_the_bridge_is_no_conflict(machine: Machine) -> None:
    machine.run("ip", "link", "add", "cni0", "type", "bridge")
    machine.run("ip", "address", "add", "fd99::1/64", "dev", "cni0", "nodad")
    attach(machine, bridge())
    assert sorted(addresses(machine, "cni0")) == ["10.77.0.1/24", "fd77::1/64", "fd99::1/64"]


def test_existing_bridge_is_used_as_it_is(machine: Machine) -> None:
    machine.run("ip", "link", "add", "cni0", "mtu", "1450", "address", "02:00:00:00:00:99", "type", "bridge")
    result = attach(machine, bridge(mtu=1400))
    assert result["interfaces"][0] == {"mac": "02:00:00:00:00:99", "mtu": 1400, "name": "cni0"}
    assert machine.ping("10.77.0.1", inside="c1")
    assert machine.ping("fd77::2")


def test_name_of_something_else_is_refused(machine: Machine) -> None:
    machine.run("ip", "link", "add", "cni0", "type", "veth", "peer", "name", "other")
    machine.container()
    before = state(machine)
    outcome = machine.plugin("bridge", "ADD", bridge())
    assert outcome.code == 7 and "cni0 is a veth, not a bridge" in outcome.json["msg"]
    assert state(machine) == before


def test_several_addresses(machine: Machine) -> None:
    ipam = static("10.77.0.5/24", "10.77.0.6/24", "fd77::5/64", "fd77::6/64")
    result = attach(machine, bridge(ipam=ipam))
    assert [each["address"] for each in result["ips"]] == [each["address"] for each in ipam["addresses"]]
    for address in ("10.77.0.5", "10.77.0.6", "fd77::5", "fd77::6"):
        assert machine.ping(address)


def test_addresses_are_announced(machine: Machine) -> None:
    """The kernel tells the neighbours of a new address, so that those who knew another MAC address forget it."""
    attach(machine, bridge())
    value = machine.run("ip", "netns", "exec", "c1", "cat", "/proc/sys/net/ipv4/conf/eth0/arp_notify")
    assert value == "1\n"


def test_ipv4_broadcast_address(machine: Machine) -> None:
    attach(machine, bridge(ipam=host_local("10.77.4.0/22")))
    found = machine.ip("-n", "c1", "-4", "address", "show", "dev", "eth0")[0]["addr_info"][0]
    assert (found["local"], found["broadcast"]) == ("10.77.4.2", "10.77.7.255")


def test_forwarding_is_switched_on_per_family(machine: Machine) -> None:
    keys = ("/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding")
    machine.run("sysctl", "-qw", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0")
    attach(machine, bridge(ipam=host_local(V4)))
    assert machine.run("cat", *keys) == "1\n0\n"


def test_ipv6_disabled_beforehand_is_enabled(machine: Machine) -> None:
    """`docker run --net=none` starts namespaces so."""
    machine.container("c1")
    machine.run("ip", "netns", "exec", "c1", "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
    machine.run("ip", "netns", "exec", "c1", "sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
    outcome = machine.plugin("bridge", "ADD", bridge())
    assert outcome.status == 0, outcome
    assert machine.ping("fd77::1", inside="c1")


def test_ipv6_disabled_on_the_host_is_told(machine: Machine) -> None:
    machine.run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
    machine.container()
    before = state(machine)
    outcome = machine.plugin("bridge", "ADD", bridge())
    assert outcome.status == 1
    assert "fd77::1/64" in outcome.json["msg"] and "disable_ipv6" in outcome.stdout
    assert state(machine) == before


def test_route_options(machine: Machine) -> None:
    """mtu, advmss, priority, table and scope of specification 1.1."""
    given = [
        {"dst": "10.1.0.0/16", "mtu": 1300, "advmss": 1200},
        {"dst": "10.2.0.0/16", "priority": 77},
        {"dst": "10.3.0.0/16", "table": 1000},
        {"dst": "10.4.0.0/16", "scope": 253},
        {"dst": "fd99::/64", "mtu": 1300, "priority": 5},
    ]
    result = attach(machine, bridge(ipam=host_local(routes=given)))
    assert result["routes"] == given

    def route(dst: str, *words: str) -> Any:
        return machine.ip("-n", "c1", *(["-6"] if ":" in dst else []), "route", "show", *words, dst)[0]

    first = route("10.1.0.0/16")
    assert (first["gateway"], first["metrics"]) == ("10.77.0.1", [{"mtu": 1300, "advmss": 1200}])
    assert route("10.2.0.0/16")["metric"] == 77
    assert route("10.3.0.0/16", "table", "1000")["gateway"] == "10.77.0.1"
    fourth = route("10.4.0.0/16")
    assert fourth["scope"] == "link" and "gateway" not in fourth
    last = route("fd99::/64")
    assert (last["metric"], last["metrics"]) == (5, [{"mtu": 1300}])


# --- duplicate addresses


def test_duplicate_address_is_detected_and_named(machine: Machine) -> None:
    """With enabledad ADD waits for the kernel's verdict, and takes everything back when it is bad."""
    attach(machine, bridge(ipam=static("fd77::5/64")))
    machine.container("c2")
    before = state(machine)
    config = bridge(ipam=static("fd77::5/64"), enabledad=True)
    outcome = machine.plugin("bridge", "ADD", config, container_id="c2", netns="/run/netns/c2")
    assert outcome.status == 1
    assert "duplicate address detection of fd77::5/64" in outcome.json["msg"]
    assert state(machine) == before


def test_duplicate_address_detection_takes_its_time_only_when_asked_for(machine: Machine) -> None:
    def seconds(container: str, **options: Any) -> float:
        machine.container(container)
        started = time.monotonic()
        outcome = machine.plugin(
            "bridge", "ADD", bridge(**options), container_id=container, netns=f"/run/netns/{container}"
        )
        assert outcome.status == 0, outcome
        return time.monotonic() - started

    assert seconds("c1") < 0.5
    assert 0.9 < seconds("c2", enabledad=True) < 4
    found = machine.ip("-n", "c2", "-6", "address", "show", "dev", "eth0")[0]["addr_info"]
    assert not [each for each in found if each.get("tentative")]
    assert machine.ping("fd77::1", inside="c2")


# --- the host is protected


@pytest.mark.parametrize("existing", [False, True])
def test_container_does_not_configure_the_host(machine: Machine, existing: bool) -> None:
    """CVE-2020-10749: a host that takes router advertisements must not take those of a container."""
    machine.run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=0", "net.ipv6.conf.default.accept_ra=1")
    if existing:
        machine.run("ip", "link", "add", "cni0", "type", "bridge")
    attach(machine, layer2())
    assert machine.wait_until(lambda: "fe80" in machine.run("ip", "-6", "address", "show", "dev", "cni0", "-tentative"))

    def configured() -> bool:
        return any("2001:db8:bad" in machine.run("ip", "-6", *words) for words in (("address",), ("route",)))

    advertise_router(machine, "c1")
    time.sleep(0.3)
    assert not configured()
    # What would have happened otherwise: the test sends what a host believes.
    machine.run("sysctl", "-qw", "net.ipv6.conf.cni0.accept_ra=1")
    advertise_router(machine, "c1")
    assert machine.wait_until(configured)


def test_second_add_fails_and_leaves_the_first_alone(machine: Machine) -> None:
    config = bridge(ipMasq=True, ipMasqBackend="nftables")
    result = attach(machine, config)
    before = state(machine)
    outcome = machine.plugin("bridge", "ADD", config)
    assert outcome.status == 1
    assert "already has an interface eth0" in outcome.json["msg"] and "DEL" in outcome.json["details"]
    assert state(machine) == before
    assert again(machine, "CHECK", config, result).status == 0
    assert machine.ping("10.77.0.1", inside="c1")


def test_failed_add_leaves_nothing(machine: Machine) -> None:
    """A route that the kernel refuses comes late: bridge, pair, addresses, lease and rules are there by then."""
    machine.container()
    before = state(machine)
    routes = [{"dst": "10.1.0.0/16", "gw": "203.0.113.1"}]
    outcome = machine.plugin("bridge", "ADD", bridge(ipMasq=True, ipam=host_local(routes=routes)))
    assert outcome.status == 1
    assert "ip -n c1 route add 10.1.0.0/16 via 203.0.113.1" in outcome.json["msg"]
    assert state(machine) == before


SLOW_REFUSAL = """
cat >/run/slow <<'END'
#!/bin/sh
case $0 in *-restore) sleep 1.5; exit 1;; esac
END
chmod +x /run/slow; mount --bind /run/slow /usr/sbin/xtables-nft-multi
"""


def test_failed_add_leaves_what_another_relies_on(machine: Machine) -> None:
    """One ADD makes the bridge and the gateway, and fails a second later; one that ran in the meantime found them."""
    machine.run("sysctl", "-qw", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0")
    machine.run("sh", "-ec", SLOW_REFUSAL)
    machine.container("c1")
    failing = bridge(promiscMode=True, ipMasq=True, ipMasqBackend="iptables")
    with ThreadPoolExecutor() as pool:
        first = pool.submit(machine.plugin, "bridge", "ADD", failing)
        assert machine.wait_until(lambda: "fd77::1/64" in machine.run("ip", "address"))
        attach(machine, bridge(name="other"), "c2")
        assert not first.done()
        outcome = first.result()
    assert outcome.status == 1 and "iptables" in outcome.json["msg"]
    assert links(machine, "c1") == ["lo"]
    assert machine.run("cat", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding") == "1\n1\n"
    assert addresses(machine, "cni0") == ["10.77.0.1/24", "fd77::1/64"]
    assert machine.ping("fd77::1", inside="c2") and machine.ping("10.77.0.1", inside="c2")
