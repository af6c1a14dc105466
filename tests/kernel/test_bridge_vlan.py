"""bridge with VLANs, with real packets: who reaches whom, what an existing bridge becomes, and the host's interface in a VLAN."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.machine import GO, Machine, links
from tests.support.network import again, attach, bridge, host_local, layer2, state
from tests.support.traces import traces

in_vlan = pytest.mark.kernel("bridge-vlan")

Membership = dict[int, str]


def static(address: str) -> dict[str, Any]:
    return {"type": "static", "addresses": [{"address": f"{address}/24"}]}


def access(address: str, vlan: int = 0, **options: Any) -> dict[str, Any]:
    """A network without a gateway whose containers send untagged frames in that VLAN."""
    return bridge(isGateway=False, ipam=static(address), vlan=vlan, **options)


def gateway(vlan: int, **options: Any) -> dict[str, Any]:
    """A dual-stack network of its own in that VLAN, with a gateway."""
    return bridge(
        name=f"net{vlan}", vlan=vlan, **{"ipam": host_local(f"10.{vlan}.0.0/24", f"fd{vlan:02}::/64"), **options}
    )


def membership(machine: Machine, port: str) -> Membership:
    """VLAN -> its flags, as `bridge vlan show` has them."""
    shown = json.loads(machine.run("bridge", "-json", "-compressvlans", "vlan", "show", "dev", port))
    return {
        vid: " ".join(entry.get("flags", ()))
        for entry in (shown[0]["vlans"] if shown else ())
        for vid in range(entry["vlan"], entry.get("vlanEnd", entry["vlan"]) + 1)
    }


def port_of(machine: Machine, name: str) -> str:
    """The other end of a pair on the host."""
    return str(machine.ip("link", "show", name)[0]["link"])


def addresses(machine: Machine, device: str) -> list[str]:
    found = machine.ip("address", "show", "dev", device, "scope", "global")
    return [f"{each['local']}/{each['prefixlen']}" for entry in found for each in entry.get("addr_info", ()) if each]


def filters(machine: Machine, name: str = "cni0") -> bool:
    return bool(machine.ip("-d", "link", "show", name)[0]["linkinfo"]["info_data"]["vlan_filtering"])


NATIVE = "PVID Egress Untagged"

# --- who reaches whom


@in_vlan
def test_vlans_are_separated(machine: Machine) -> None:
    result = attach(machine, access("10.77.0.2", 5), "c1")
    attach(machine, access("10.77.0.3", 5), "c2")
    attach(machine, access("10.77.0.4", 6), "c3")
    attach(machine, access("10.77.0.5"), "c4")
    assert len(result["interfaces"]) == 3
    assert membership(machine, result["interfaces"][1]["name"]) == {5: NATIVE}
    assert machine.ping("10.77.0.3", inside="c1")
    assert not machine.ping("10.77.0.4", inside="c1")
    assert not machine.ping("10.77.0.5", inside="c1")
    assert filters(machine)


TAGGED = """
for id in {ids}; do
    ip link add v$id link eth0 type vlan id $id; ip link set v$id up; ip address add 10.$id.0.9/24 dev v$id
done"""


@pytest.mark.kernel("bridge-vlan", "8021q")
@pytest.mark.parametrize("native", [0, 5])
def test_trunk(machine: Machine, native: int) -> None:
    """It carries the tagged frames of its VLANs and of no others, and untagged ones of its native VLAN, 1 by default."""
    trunk = [{"minID": 20, "maxID": 22}, {"id": 10}]
    result = attach(machine, layer2(vlan=native, vlanTrunk=trunk), "trunk")
    expected = {native or 1: NATIVE, 10: "", 20: "", 21: "", 22: ""}
    assert membership(machine, result["interfaces"][1]["name"]) == expected
    script = TAGGED.format(ids="10 21 30") + f"; ip address add 10.{native}.0.9/24 dev eth0"
    machine.run("ip", "netns", "exec", "trunk", "sh", "-ec", script)
    for vlan in (10, 21, 30, native):
        attach(machine, access(f"10.{vlan}.0.2", vlan), f"c{vlan}")
    reached = {vlan: machine.ping(f"10.{vlan}.0.2", inside="trunk") for vlan in (10, 21, 30, native)}
    assert reached == {10: True, 21: True, 30: False, native: True}


@in_vlan
def test_native_vlan_inside_the_trunk(machine: Machine) -> None:
    """The reference makes it tagged, and untagged frames are lost."""
    result = attach(machine, access("10.77.0.2", 5, vlanTrunk=[{"minID": 4, "maxID": 6}]), "c1")
    attach(machine, access("10.77.0.3", 5), "c2")
    assert membership(machine, result["interfaces"][1]["name"]) == {4: "", 5: NATIVE, 6: ""}
    assert machine.ping("10.77.0.3", inside="c1")


@in_vlan
def test_whole_trunk_and_default_vlan(machine: Machine) -> None:
    """All VLANs, in two messages; no trunk at all, with which the bridge filters; the default VLAN is kept when asked for."""
    everything = attach(machine, layer2(vlanTrunk=[{"minID": 1, "maxID": 4094}]), "c1")["interfaces"][1]["name"]
    assert membership(machine, everything) == {1: NATIVE, **dict.fromkeys(range(2, 4095), "")}
    nothing = attach(machine, layer2(bridge="br1", vlanTrunk=[]), "c2")["interfaces"][1]["name"]
    assert membership(machine, nothing) == {1: NATIVE} and filters(machine, "br1")
    kept = attach(machine, layer2(vlan=5, vlanTrunk=[{"id": 7}], preserveDefaultVlan=True), "c3")["interfaces"][1][
        "name"
    ]
    assert membership(machine, kept) == {1: "Egress Untagged", 5: NATIVE, 7: ""}


@in_vlan
def test_plain_bridge_does_not_filter(machine: Machine) -> None:
    attach(machine, layer2(vlan=0, vlanTrunk=None))
    assert not filters(machine)


# --- a bridge that is there


@in_vlan
def test_existing_bridge_begins_to_filter(machine: Machine) -> None:
    """Who is there already stays in the default VLAN; a failed ADD switches it off again, a DEL does not."""
    attach(machine, access("10.77.0.2"), "c1")
    attach(machine, access("10.77.0.3"), "c2")
    machine.container("c3")
    before = state(machine)
    broken = access("10.77.0.4", 5) | {
        "ipam": static("10.77.0.4") | {"routes": [{"dst": "10.1.0.0/16", "gw": "203.0.113.1"}]}
    }
    assert machine.plugin("bridge", "ADD", broken, container_id="c3", netns="/run/netns/c3").status == 1
    assert state(machine) == before and not filters(machine)

    config = access("10.77.0.4", 5)
    assert machine.plugin("bridge", "ADD", config, container_id="c3", netns="/run/netns/c3").status == 0
    assert filters(machine)
    assert machine.ping("10.77.0.3", inside="c1")
    assert not machine.ping("10.77.0.4", inside="c1")
    assert machine.plugin("bridge", "DEL", config, container_id="c3", netns="/run/netns/c3").status == 0
    assert filters(machine) and machine.ping("10.77.0.3", inside="c1")


@in_vlan
def test_existing_bridge_whose_ports_would_be_cut_off(machine: Machine) -> None:
    machine.run("ip", "link", "add", "cni0", "type", "bridge", "vlan_default_pvid", "0")
    attach(machine, access("10.77.0.2"), "c1")
    machine.container("c2")
    before = state(machine)
    outcome = machine.plugin("bridge", "ADD", access("10.77.0.3", 5), container_id="c2", netns="/run/netns/c2")
    assert outcome.code == 999 and "bridge cni0" in outcome.json["msg"] and "cut off" in outcome.json["msg"]
    assert state(machine) == before


# --- the gateway


@in_vlan
def test_gateway_of_each_vlan(machine: Machine) -> None:
    """From the first packet on; it is not reached from another VLAN, even with an address of its subnet."""
    result = attach(machine, gateway(5, mtu=1400), "c1")
    for address in ("10.5.0.1", "fd05::1"):
        assert machine.ping(address, inside="c1")
    for address in ("10.5.0.2", "fd05::2"):
        assert machine.ping(address)
    link = machine.ip("link", "show", "cni0.5")[0]
    assert result["interfaces"][3] == {"name": "cni0.5", "mac": link["address"], "mtu": 1400}
    assert [each["name"] for each in result["interfaces"]][::2] == ["cni0", "eth0"]
    assert [each["interface"] for each in result["ips"]] == [2, 2]
    assert addresses(machine, "cni0.5") == ["10.5.0.1/24", "fd05::1/64"] and addresses(machine, "cni0") == []
    assert membership(machine, port_of(machine, "cni0.5")) == {5: NATIVE}
    for name in ("cni0.5", port_of(machine, "cni0.5")):
        assert machine.run("cat", f"/proc/sys/net/ipv6/conf/{name}/accept_ra") == "0\n"

    attach(machine, gateway(6), "c2")
    assert machine.ping("10.6.0.1", inside="c2")
    attach(machine, gateway(6, isGateway=False, ipam=static("10.5.0.77")), "c3")
    assert not machine.ping("10.5.0.1", inside="c3")
    assert not machine.ping("10.5.0.2", inside="c3")

    before = links(machine)
    attach(machine, gateway(5, mtu=1400), "c4")
    assert len(links(machine)) == len(before) + 1
    assert machine.ping("10.5.0.1", inside="c4") and machine.ping("10.5.0.2", inside="c4")


@in_vlan
def test_gateway_of_a_trunk_is_the_bridge(machine: Machine) -> None:
    result = attach(machine, bridge(vlanTrunk=[{"id": 10}]))
    assert len(result["interfaces"]) == 3 and addresses(machine, "cni0") == ["10.77.0.1/24", "fd77::1/64"]
    assert machine.ping("10.77.0.1", inside="c1") and machine.ping("fd77::1", inside="c1")


@in_vlan
def test_gateway_stays_and_goes(machine: Machine) -> None:
    """As the bridge does: DEL leaves it, a failed ADD takes it back if it has made it."""
    machine.container("c1")
    before = state(machine)
    routes = [{"dst": "10.1.0.0/16", "gw": "203.0.113.1"}]
    broken = gateway(5, ipam=host_local("10.5.0.0/24", routes=routes))
    assert machine.plugin("bridge", "ADD", broken).status == 1
    full = ["sh", "-c", f"exec {machine.farm}/bridge >/dev/full"]
    assert machine.plugin("bridge", "ADD", gateway(5), program=full).status == 1
    assert state(machine) == before

    assert machine.plugin("bridge", "ADD", gateway(5)).status == 0
    assert machine.plugin("bridge", "DEL", gateway(5)).status == 0
    assert [name for name in links(machine) if not name.startswith("veth")] == ["cni0", "cni0.5", "lo"]
    assert len(links(machine)) == 4 and addresses(machine, "cni0.5") == ["10.5.0.1/24", "fd05::1/64"]


@in_vlan
def test_another_address_on_the_gateway_interface(machine: Machine) -> None:
    attach(machine, gateway(5, ipam=host_local("10.9.0.0/24")), "c1")
    machine.container("c2")
    outcome = machine.plugin("bridge", "ADD", gateway(5), container_id="c2", netns="/run/netns/c2")
    assert "cni0.5 already has an IP address different from 10.5.0.1/24" in outcome.json["msg"]
    attach(machine, gateway(5, forceAddress=True), "c3")
    assert addresses(machine, "cni0.5") == ["10.5.0.1/24", "fd05::1/64"]


@in_vlan
def test_half_made_gateway_interface_is_completed(machine: Machine) -> None:
    """An ADD was killed when it had made the pair, and nothing else."""
    machine.run("ip", "link", "add", "cni0", "address", "02:00:00:00:00:01", "type", "bridge", "vlan_filtering", "1")
    machine.run("ip", "link", "add", "veth1", "master", "cni0", "type", "veth", "peer", "name", "cni0.5")
    attach(machine, gateway(5))
    assert membership(machine, "veth1") == {5: NATIVE}
    assert machine.ping("10.5.0.1", inside="c1")


@in_vlan
def test_name_of_something_else(machine: Machine) -> None:
    machine.run("ip", "link", "add", "cni0.5", "type", "veth", "peer", "name", "other")
    machine.container()
    before = state(machine)
    outcome = machine.plugin("bridge", "ADD", gateway(5))
    assert outcome.code == 999 and "cni0.5 is there, and is not plugged into bridge cni0" in outcome.json["msg"]
    assert state(machine) == before


@in_vlan
def test_first_attachments_at_once(machine: Machine) -> None:
    """Whoever loses the race to make the interface uses it only when it is whole. Every third undoes itself."""
    names = [f"c{number}" for number in range(9)]
    for name in names:
        machine.container(name)

    def run(name: str) -> int:
        full = ["sh", "-c", f"exec {machine.farm}/bridge >/dev/full"] if name in names[::3] else None
        return machine.plugin(
            "bridge", "ADD", gateway(5), container_id=name, netns=f"/run/netns/{name}", program=full
        ).status

    with ThreadPoolExecutor(len(names)) as pool:
        assert list(pool.map(run, names)) == [int(name in names[::3]) for name in names]
    assert [name for name in links(machine) if name.startswith("cni0")] == ["cni0", "cni0.5"]
    assert len(links(machine)) == 4 + 6
    assert membership(machine, port_of(machine, "cni0.5")) == {5: NATIVE}
    assert all(machine.ping("10.5.0.1", inside=name) for name in names if name not in names[::3])


def test_name_of_the_gateway_interface_must_fit(machine: Machine) -> None:
    machine.container()
    before = state(machine)
    outcome = machine.plugin("bridge", "ADD", gateway(4000, bridge="elevenbytes", ipam=host_local()))
    assert outcome.code == 7 and "elevenbytes.4000: interface name is too long" in outcome.json["msg"]
    assert state(machine) == before
    assert machine.plugin("bridge", "DEL", gateway(4000, bridge="elevenbytes", ipam=host_local())).status == 0


@pytest.mark.parametrize("options", [{"vlan": 4095}, {"vlanTrunk": [{"minID": 5}]}])
def test_wrong_vlans(machine: Machine, options: dict[str, Any]) -> None:
    """Nothing is made; what has become of the configuration since ADD is no matter for DEL."""
    machine.container()
    before = state(machine)
    assert machine.plugin("bridge", "ADD", bridge(**options)).code == 7
    assert state(machine) == before
    assert machine.plugin("bridge", "DEL", bridge(**options)).status == 0


# --- CHECK

TRUNK = [
    ("ip link set cni0 type bridge vlan_filtering {}", 0, 1, "bridge cni0 does not filter VLANs"),
    (
        "bridge vlan {} dev {near} vid 5 pvid untagged",
        "del",
        "add",
        "VLAN 5 of port {near} is absent, not native (untagged)",
    ),
    (
        "bridge vlan add dev {near} vid 5 pvid {}",
        "",
        "untagged",
        "VLAN 5 of port {near} is native (tagged), not native (untagged)",
    ),
    (
        "bridge vlan add dev {near} vid 5 untagged {}",
        "",
        "pvid",
        "VLAN 5 of port {near} is untagged, not native (untagged)",
    ),
    ("bridge vlan {} dev {near} vid 25", "del", "add", "VLAN 25 of port {near} is absent, not tagged"),
    ("bridge vlan add dev {near} vid 25 {}", "untagged", "", "VLAN 25 of port {near} is untagged, not tagged"),
    ("bridge vlan {} dev {near} vid 1", "add", "del", "port {near} is also in VLAN 1"),
    ("ip link set {near} type bridge_slave hairpin {}", "on", "off", "hairpinMode of port {near} is on"),
    ("ip link set {near} type bridge_slave isolated {}", "on", "off", "portIsolation of port {near} is on"),
]
GATEWAY = [
    ("ip address {} 10.5.0.1/24 dev cni0.5", "del", "add", "the gateway's address 10.5.0.1/24 is not on cni0.5"),
    ("bridge vlan {} dev {gateway} vid 5 pvid untagged", "del", "add", "VLAN 5 of port {gateway} is absent"),
    ("ip link set {gateway} {}", "down", "up", "port {gateway} of cni0.5 is down"),
    ("ip link set {gateway} {}", "nomaster", None, "not plugged into bridge cni0"),
    ("ip link set cni0.5 {}", "down", None, "interface cni0.5 is down"),
    ("ip link del cni0.5{}", "", None, "interface cni0.5 of VLAN 5 is not there"),
]  # fmt: skip
"""(what happens, with which word, the word that mends it, what CHECK says); the last of a list are not mended."""


@in_vlan
@pytest.mark.parametrize(
    "config, mutations", [(layer2(vlan=5, vlanTrunk=[{"minID": 20, "maxID": 30}]), TRUNK), (gateway(5), GATEWAY)],
    ids=["trunk", "gateway"],
)  # fmt: skip
def test_check_names_what_is_different(machine: Machine, config: Any, mutations: Any) -> None:
    result = attach(machine, config)
    names = {"near": result["interfaces"][1]["name"]}
    if len(result["interfaces"]) == 4:
        names["gateway"] = port_of(machine, "cni0.5")
    before = state(machine)
    assert again(machine, "CHECK", config, result).status == 0
    assert state(machine) == before
    for command, word, mended, named in mutations:
        machine.run("sh", "-ec", command.format(word, **names))
        outcome = again(machine, "CHECK", config, result)
        assert outcome.code == 999 and named.format(**names) in outcome.json["msg"], outcome
        if mended is not None:
            machine.run("sh", "-ec", command.format(mended, **names))


@in_vlan
def test_check_tolerates_the_default_vlan_only_when_it_is_kept(machine: Machine) -> None:
    config = layer2(vlan=5, preserveDefaultVlan=True)
    result = attach(machine, config)
    assert again(machine, "CHECK", config, result).status == 0
    outcome = again(machine, "CHECK", layer2(vlan=5), result)
    assert outcome.code == 999 and "is also in VLAN 1" in outcome.json["msg"]


def test_check_of_the_mtu_at_the_host(machine: Machine) -> None:
    config = bridge(mtu=1400)
    result = attach(machine, config)
    near = result["interfaces"][1]["name"]
    machine.run("ip", "link", "set", near, "mtu", "1300")
    outcome = again(machine, "CHECK", config, result)
    assert outcome.code == 999 and f"{near} has MTU 1300, not 1400" in outcome.json["msg"]


# --- together with Go's plugins


def left(machine: Machine, container: str) -> list[str]:
    """What an attachment may change outside its container: links, their VLANs and addresses, files, rules."""
    shown = machine.run("ip", "-4", "-o", "address") + machine.run("bridge", "vlan", "show")
    return [*links(machine), *shown.splitlines(), *traces(machine, container)]


@in_vlan
@pytest.mark.parametrize("go_adds", [True, False])
def test_go_and_ours_delete_what_the_other_made(machine: Machine, go_adds: bool) -> None:
    """And use the other's gateway interface."""
    config = gateway(5, cniVersion="1.0.0")
    theirs, ours = (GO, machine.farm) if go_adds else (machine.farm, GO)
    attach(machine, config, "c1", farm=ours)
    machine.container("c2")
    before = left(machine, "c2")
    names: dict[str, Any] = {"container_id": "c2", "netns": "/run/netns/c2"}
    added = machine.plugin("bridge", "ADD", config, farm=theirs, **names)
    assert added.status == 0, added
    assert machine.ping("10.5.0.1", inside="c2") and machine.ping("10.5.0.2", inside="c2")
    if not go_adds:
        assert again(machine, "CHECK", config, added.json, "c2").status == 0
    deleted = machine.plugin("bridge", "DEL", {**config, "prevResult": added.json}, farm=ours, **names)
    assert deleted.status == 0, deleted
    machine.plugin("bridge", "DEL", config, **names)  # ours forgets what it has written down
    assert left(machine, "c2") == before
