"""portmap with real packets: from everywhere, by every protocol and backend, and what must pass untouched."""

from __future__ import annotations

import select
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.machine import Machine
from tests.support.network import again, attach, bridge, host_local, ptp
from tests.support.packets import HOST, OUTSIDE, outside_world
from tests.support.ports import PUBLISHED, UDP, ask, keep_sending, mapping, portmap, publish, run, serving

BACKENDS = ["iptables", "nftables"]
DEFAULT = [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
GATEWAY = {4: "10.77.0.1", 6: "fd77::1"}
CONTAINER = {4: "10.77.0.2", 6: "fd77::2"}
SEEN = {
    "outside": OUTSIDE,
    "host": HOST,
    "loopback": GATEWAY,  # 127.0.0.1 means nothing in the container
    "itself": GATEWAY,
    "neighbour": {4: "10.77.0.3", 6: "fd77::3"},
    "other bridge": {4: "10.78.0.2", 6: "fd78::2"},
}
"""From where a client calls -> the address that the container sees."""
INSIDE = {"outside": "outside", "host": "", "loopback": "", "itself": "c1", "neighbour": "c2", "other bridge": "c3"}

NETWORK = bridge(ipam=host_local(routes=DEFAULT), hairpinMode=True)
"""As podman and nerdctl write it: br_netfilter translates on the bridge, which must then send back by the same port."""
OTHER = bridge(name="other", bridge="br1", ipam=host_local("10.78.0.0/24", "fd78::/64", routes=DEFAULT))


def questions(where: str, version: int) -> list[tuple[str, str, int]]:
    address = "127.0.0.1" if where == "loopback" else HOST[version]
    return [(protocol, address, port) for protocol, port in PUBLISHED.items()]


class Place:
    """c1 publishes its ports; c2 is its neighbour, c3 on another bridge, and a server outside. All of them serve."""

    def __init__(self, machine: Machine, stack: ExitStack, config: dict[str, Any]) -> None:
        self.machine = machine
        outside_world(machine)
        self.config = publish(machine, NETWORK, config)
        publish(machine, NETWORK, portmap(mapping(1000, 10)), "c2")
        publish(machine, OTHER, portmap(mapping(1001, 10)), "c3")
        for name in ("c1", "c2", "c3", "outside"):
            stack.enter_context(serving(machine, name, (80, 8080), (53, 5353)))

    def seen(self, where: str, version: int) -> dict[str, str]:
        """Protocol -> what the published port answers there."""
        asked = questions(where, version)
        return dict(zip(PUBLISHED, ask(self.machine, INSIDE[where], asked), strict=True))


@pytest.fixture(scope="module", params=BACKENDS)
def place(request: pytest.FixtureRequest, farm: str) -> Iterator[Place]:
    with Machine(farm) as machine, ExitStack() as stack:
        yield Place(machine, stack, portmap(backend=request.param))


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("where", SEEN)
def test_published_port(place: Place, where: str, version: int) -> None:
    """By TCP, UDP and SCTP. Who needs no masquerading keeps its address: its neighbours on the bridge, too."""
    if (where, version) == ("loopback", 6):
        assert ask(place.machine, "", [("tcp", "::1", 8080)], 0.3) == [""]  # Linux routes ::1 nowhere else
    else:
        assert place.seen(where, version) == dict.fromkeys(PUBLISHED, f"c1 {SEEN[where][version]}")


@pytest.mark.parametrize("version", [4, 6])
def test_forwarded_flow_to_the_same_port_is_left_alone(place: Place, version: int) -> None:
    """CVE-2025-67499: what the host only forwards is not its own, from outside, from a neighbour, and from c1 itself."""
    third, outside = SEEN["other bridge"][version], OUTSIDE[version]
    asked = [("tcp", third, 8080), ("udp", third, 5353), ("sctp", third, 9999)]
    assert ask(place.machine, "outside", asked) == [f"c3 {outside}"] * 3
    asked = [("tcp", outside, 8080), ("udp", outside, 5353), ("sctp", outside, 9999)]
    for name in ("c1", "c2"):
        own = CONTAINER[version] if name == "c1" else SEEN["neighbour"][version]
        assert ask(place.machine, name, asked) == [f"outside {own}"] * 3


def test_container_port_is_reached_without_translation(place: Place) -> None:
    asked = [("tcp", CONTAINER[4], 80), ("tcp", CONTAINER[6], 80), ("udp", CONTAINER[4], 53)]
    seen = [f"c1 {SEEN['neighbour'][4]}", f"c1 {SEEN['neighbour'][6]}", f"c1 {SEEN['neighbour'][4]}"]
    assert ask(place.machine, "c2", asked) == seen


def test_unpublished_port_of_the_host_is_its_own(place: Place) -> None:
    with serving(place.machine, "", (8081,), (5354,)):
        asked = [("tcp", HOST[4], 8081), ("udp", HOST[6], 5354)]
        assert ask(place.machine, "outside", asked) == [f" {OUTSIDE[4]}", f" {OUTSIDE[6]}"]


# --- what options change


@pytest.mark.parametrize("backend", BACKENDS)
def test_neighbours_where_bridged_packets_are_not_translated(machine: Machine, backend: str) -> None:
    """Without br_netfilter the container's answer would go to its neighbour as it is: the whole subnet is masqueraded."""
    for name in ("iptables", "ip6tables"):
        machine.run("sysctl", "-qw", f"net.bridge.bridge-nf-call-{name}=0")
    with ExitStack() as stack:
        place = Place(machine, stack, portmap(backend=backend))
        for version in (4, 6):
            seen = dict.fromkeys(PUBLISHED, f"c1 {GATEWAY[version]}")
            assert place.seen("neighbour", version) == place.seen("itself", version) == seen
            assert place.seen("other bridge", version)["tcp"] == f"c1 {SEEN['other bridge'][version]}"


@pytest.mark.parametrize("backend", BACKENDS)
def test_options(machine: Machine, backend: str) -> None:
    """masqAll, snat, hostIP and conditions; of all others the address is kept, or they are refused."""
    outside_world(machine)
    machine.run("ip", "address", "add", "192.0.2.9/24", "dev", "uplink")
    words = {"iptables": ["-s", OUTSIDE[4]], "nftables": ["ip", "saddr", OUTSIDE[4]]}[backend]
    configs = {
        "c1": portmap(mapping(1001), backend=backend, masqAll=True),
        "c2": portmap(mapping(1002), backend=backend, snat=False),
        "c3": portmap(mapping(1003, host_ip="192.0.2.9"), mapping(1003, 8080, host_ip=HOST[4]), backend=backend),
        "c4": portmap(mapping(1004), backend=backend, conditionsV4=words),
        "c5": portmap(mapping(1005, host_ip="0.0.0.0"), mapping(1006, host_ip="::"), backend=backend),
        "c6": portmap(mapping(1007, host_ip="127.0.0.1"), backend=backend),
    }
    with ExitStack() as stack:
        for name, config in configs.items():
            config = publish(machine, NETWORK, config, name)
            assert run(machine, "CHECK", config, name).status == 0
            stack.enter_context(serving(machine, name, (80, 8080)))
        gone = ""
        asked = {
            ("outside", HOST[4], 1001): f"c1 {GATEWAY[4]}",
            ("outside", HOST[6], 1001): f"c1 {GATEWAY[6]}",
            ("outside", HOST[4], 1002): f"c2 {OUTSIDE[4]}",
            ("", HOST[4], 1002): f"c2 {HOST[4]}",
            ("", "127.0.0.1", 1002): gone,
            ("outside", "192.0.2.9", 1003): f"c3 {OUTSIDE[4]}",
            ("outside", HOST[4], 1003): f"c3 {OUTSIDE[4]}",
            ("outside", HOST[6], 1003): gone,
            ("", "127.0.0.1", 1003): gone,
            ("outside", HOST[4], 1004): f"c4 {OUTSIDE[4]}",
            ("outside", HOST[6], 1004): f"c4 {OUTSIDE[6]}",
            ("c1", HOST[4], 1004): gone,
            ("outside", HOST[4], 1005): f"c5 {OUTSIDE[4]}",
            ("outside", HOST[6], 1005): gone,
            ("outside", HOST[4], 1006): gone,
            ("outside", HOST[6], 1006): f"c5 {OUTSIDE[6]}",
            ("", "127.0.0.1", 1007): f"c6 {GATEWAY[4]}",
            ("outside", HOST[4], 1007): gone,
        }
        for where in ("outside", "", "c1"):
            mine = {key: seen for key, seen in asked.items() if key[0] == where}
            answers = ask(machine, where, [("tcp", address, port) for _, address, port in mine], 1)
            assert dict(zip(mine, answers, strict=True)) == mine


@pytest.mark.parametrize("backend", BACKENDS)
def test_published_by_a_point_to_point_network(machine: Machine, backend: str) -> None:
    """All of its packets are routed by the host: nobody but the container itself is masqueraded, br_netfilter or not."""
    machine.run("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0")
    outside_world(machine)
    network = ptp(ipam=host_local(routes=DEFAULT))
    publish(machine, network, portmap(backend=backend))
    publish(machine, network, portmap(mapping(1000, 10), backend=backend), "c2")
    asked = [("tcp", HOST[4], 8080), ("udp", HOST[6], 5353)]
    with serving(machine, "c1"):
        assert ask(machine, "outside", asked) == [f"c1 {OUTSIDE[4]}", f"c1 {OUTSIDE[6]}"]
        assert ask(machine, "c2", asked) == ["c1 10.77.0.3", "c1 fd77::3"]
        assert ask(machine, "c1", asked) == ["c1 10.77.0.1", "c1 fd77::1"]
        assert ask(machine, "", [("tcp", "127.0.0.1", 8080)]) == ["c1 10.77.0.1"]


# --- what is bound to 127.0.0.1 stays the host's own


SPOOF = """
ip address flush dev lo; echo 1 > /proc/sys/net/ipv4/conf/eth0/route_localnet
ip route add 127.0.0.1 via {gateway} dev eth0 onlink src {own}
"""
"""What a container, or a neighbour on the LAN, does to send packets for 127.0.0.1 to the host."""


def spoofed(machine: Machine, inside: str, gateway: str, own: str) -> str:
    machine.run("ip", "netns", "exec", inside, "sh", "-c", SPOOF.format(gateway=gateway, own=own), check=False)
    return ask(machine, inside, [("tcp", "127.0.0.1", 7070)], 0.5)[0]


@pytest.mark.parametrize("make", [bridge, ptp])
@pytest.mark.parametrize("backend", BACKENDS)
def test_container_does_not_reach_the_loopback_of_the_host(machine: Machine, backend: str, make: Any) -> None:
    config = publish(machine, make(ipam=host_local(routes=DEFAULT)), portmap(mapping(8080, 80), backend=backend))
    own = config["prevResult"]["ips"][0]["address"].partition("/")[0]
    with serving(machine, "", (7070,)), serving(machine, "c1"):
        assert ask(machine, "", [("tcp", "127.0.0.1", 8080)]) == ["c1 10.77.0.1"]
        assert spoofed(machine, "c1", "10.77.0.1", own) == ""
        machine.run("nft", "delete", "chain", "ip", "cni_hostport", "loopback_guard")
        assert spoofed(machine, "c1", "10.77.0.1", own) == f" {own}"  # so that the rule is what keeps it away
        failed = run(machine, "CHECK", config)
        assert failed.status == 1 and "127.0.0.0/8" in failed.json["msg"]
        machine.run(f"{machine.farm}/cnibox", "repair")
        assert run(machine, "CHECK", config).status == 0
        assert spoofed(machine, "c1", "10.77.0.1", own) == ""
        assert ask(machine, "", [("tcp", "127.0.0.1", 8080)]) == ["c1 10.77.0.1"]


@pytest.mark.parametrize("place", ["uplink", "bridge"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_neighbour_on_the_lan_does_not_reach_the_loopback_of_the_host(machine: Machine, backend: str, place: str) -> None:
    """Behind a macvlan is the uplink; an administrator's bridge has it as a port."""
    outside_world(machine)
    network = {"cniVersion": "1.1.0", "name": "mynet", "type": "macvlan", "master": "uplink", "ipam": host_local("192.0.2.128/25")}
    if place == "bridge":
        script = "ip link add lan0 type bridge; ip link set uplink master lan0; ip address flush dev uplink; ip link set lan0 up"
        machine.run("sh", "-ec", f"{script}; ip address add {HOST[4]}/24 dev lan0")
        network |= {"type": "bridge", "bridge": "lan0", "ipam": host_local("192.0.2.128/25", rangeStart="192.0.2.150")}
    way = {"uplink": "uplink", "bridge": "lan0"}[place]
    config = publish(machine, network, portmap(mapping(8080, 80), backend=backend))
    with serving(machine, "", (7070,)):
        assert machine.run("cat", f"/proc/sys/net/ipv4/conf/{way}/route_localnet") == "0\n"
        assert spoofed(machine, "outside", HOST[4], OUTSIDE[4]) == ""
    assert run(machine, "CHECK", config).status == 0
    assert run(machine, "DEL", config).status == 0
    assert machine.run("cat", f"/proc/sys/net/ipv4/conf/{way}/route_localnet") == "0\n"


@pytest.mark.parametrize("on_all", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_read_only_sysctls(machine: Machine, backend: str, on_all: bool) -> None:
    """A container engine's: `all` may be on. Where nothing is, all ports but those on 127.0.0.1 work."""
    result = attach(machine, NETWORK)
    if on_all:
        machine.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet")
    machine.run("sh", "-ec", "mount --bind /proc/sys /proc/sys; mount -o remount,ro,bind /proc/sys")
    config = {**portmap(mapping(8080, 80), backend=backend), "prevResult": result}
    added = again(machine, "ADD", config, result)
    assert added.status == 0 and bool(added.stderr) != on_all, added
    assert run(machine, "CHECK", config).status == 0
    with serving(machine, "c1"):
        assert ask(machine, "", [("tcp", "10.77.0.1", 8080)]) == ["c1 10.77.0.1"]
        assert ask(machine, "", [("tcp", "127.0.0.1", 8080)], 0.3) == (["c1 10.77.0.1"] if on_all else [""])
    on_loopback = portmap(mapping(8081, 80, "tcp", "127.0.0.1"), backend=backend)
    assert run(machine, "DEL", config).status == 0
    assert again(machine, "ADD", on_loopback, result).status == (0 if on_all else 1)


# --- a flow that outlives a container


TRACK = b"table inet track { chain c { type filter hook prerouting priority 0; ct state new accept; }; }"
"""Connections are tracked from the first such rule on, as on any host with a firewall."""


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize("backend", BACKENDS)
def test_udp_flow_across_a_replacement(machine: Machine, backend: str, version: int) -> None:
    """The client never stops, and never changes its port: neither before, while nor after nobody has the port."""
    outside_world(machine)
    machine.run("nft", "-f", "-", stdin=TRACK)
    config = portmap(mapping(5353, UDP, "udp"), backend=backend)
    flow = ["conntrack", "-L", "-f", f"ipv{version}", "-p", "udp", "--orig-port-dst", "5353"]
    with keep_sending(machine, "outside", HOST[version], 5353) as client:
        assert client.process.stdout is not None
        heard = select.poll()
        heard.register(client.process.stdout, select.POLLIN)
        assert machine.wait_until(lambda: "sport=4444" in machine.run(*flow, check=False))
        for name in ("c1", "c2"):
            config = publish(machine, NETWORK, config, name)
            with serving(machine, name):
                assert heard.poll(5000), f"{name} is not heard"
                assert client.process.stdout.readline() == f"{name}\n"
            result = config.pop("prevResult")
            assert run(machine, "DEL", config, name).status == 0
            own = result["ips"][version == 6]["address"].partition("/")[0]
            assert f"src={own} " not in machine.run(*flow, check=False)
            assert again(machine, "DEL", NETWORK, result, name).status == 0
            machine.run("ip", "netns", "delete", name)


@pytest.mark.parametrize("host_ip", ["", HOST[4]])
@pytest.mark.parametrize("backend", BACKENDS)
def test_flows_of_others_to_the_same_port_are_kept(machine: Machine, backend: str, host_ip: str) -> None:
    """Forwarded ones, and those to another address of the host than the mapping's."""
    outside_world(machine)
    machine.run("ip", "address", "add", "192.0.2.9/24", "dev", "uplink")
    other = publish(machine, OTHER, portmap(mapping(1000, 10)), "c3")["prevResult"]["ips"][0]["address"].split("/")[0]
    flows = {"forwarded": other, "another address": "192.0.2.9", "its own": HOST[4]}
    others = ["forwarded", "another address"] if host_ip else ["forwarded"]
    with serving(machine, "c3", (80,), (5353,)), serving(machine, "", (80,), (5353,)):
        ask(machine, "outside", [("udp", address, 5353) for address in flows.values()], 0.2)

        def kept() -> list[str]:
            listed = machine.run("conntrack", "-L", "-p", "udp", "--orig-port-dst", "5353", check=False)
            return [name for name, address in flows.items() if f" dst={address} sport" in listed]

        assert kept() == list(flows)
        config = publish(machine, NETWORK, portmap(mapping(5353, UDP, "udp", host_ip), backend=backend))
        assert kept() == others
        with serving(machine, "c1"):
            assert ask(machine, "outside", [("udp", HOST[4], 5353)]) == [f"c1 {OUTSIDE[4]}"]
        assert kept() == [*others, "its own"]
        assert run(machine, "DEL", config).status == 0
        assert kept() == others
