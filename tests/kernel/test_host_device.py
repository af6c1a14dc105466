"""host-device: a device of the host is lent to a container, found by whatever names it, and given back whatever happens.

The devices are ends of veth pairs. Those found in sysfs are in a tree of our own making: neither kernel that the tests run on
has a network device on a PCI or auxiliary bus to spare.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.machine import GO, Machine, Outcome, links
from tests.support.network import again, attach, host_local, state
from tests.support.traces import nothing_left

MAC = "02:00:00:00:00:0a"
LEASES = host_local("10.77.0.0/24")


def host_device(**options: Any) -> dict[str, Any]:
    return {"cniVersion": "1.1.0", "name": "mynet", "type": "host-device", "ipam": LEASES, **options}


def layer2(**options: Any) -> dict[str, Any]:
    return {"cniVersion": "1.1.0", "name": "mynet", "type": "host-device", **options}


A0 = host_device(device="a0")


@pytest.fixture
def machine(machine: Machine) -> Machine:
    """With a device a0, wired to b0, which has an address."""
    script = f"""
    mount -t sysfs sysfs /sys
    sysctl -qw net.ipv6.conf.default.addr_gen_mode=1
    ip link add a0 address {MAC} type veth peer name b0; ip link set b0 up; ip address add 10.77.0.1/24 dev b0
    """
    machine.run("sh", "-ec", script)
    return machine


def link(machine: Machine, name: str, namespace: str = "") -> dict[str, Any]:
    found: dict[str, Any] = machine.ip("-d", *(["-n", namespace] if namespace else []), "link", "show", name)[0]
    return found


def is_up(found: dict[str, Any]) -> bool:
    return "UP" in found["flags"]


def delete(machine: Machine, config: dict[str, Any] = A0, **options: Any) -> Outcome:
    return machine.plugin("host-device", "DEL", config, **options)


def assert_given_back(machine: Machine, name: str = "a0") -> None:
    found = link(machine, name)
    assert found["address"] == MAC and "ifalias" not in found
    assert nothing_left(machine)


# --- ADD and DEL


@pytest.mark.parametrize("up", [False, True])
def test_lent_and_given_back(machine: Machine, up: bool) -> None:
    machine.run("ip", "link", "set", "a0", "mtu", "1400", *(["up"] if up else []))
    result = attach(machine, A0)
    assert result["interfaces"] == [{"name": "eth0", "mac": MAC, "mtu": 1400, "sandbox": "/run/netns/c1"}]
    assert links(machine) == ["b0", "lo"]
    found = link(machine, "eth0", "c1")
    assert found["ifalias"] == "a0" and is_up(found)
    assert machine.ping("10.77.0.1", inside="c1")
    assert again(machine, "CHECK", A0, result).status == 0
    assert again(machine, "DEL", A0, result).status == 0
    assert_given_back(machine)
    assert is_up(link(machine, "a0")) == up and link(machine, "a0")["mtu"] == 1400
    assert links(machine, "c1") == ["lo"]


def test_without_addresses(machine: Machine) -> None:
    config = layer2(device="a0", dns={"domain": "example.org"})
    result = attach(machine, config)
    assert "ips" not in result and result["dns"] == {"domain": "example.org"}
    assert is_up(link(machine, "eth0", "c1"))
    assert again(machine, "CHECK", config, result).status == 0
    assert delete(machine, config).status == 0
    assert_given_back(machine)


def test_name_that_is_taken_on_the_other_side(machine: Machine) -> None:
    """The host has an eth0, too; the container an a0. Neither is in the way."""
    netns = machine.container()
    machine.run("sh", "-ec", "ip link add eth0 type veth peer name x0; ip -n c1 link add a0 type veth peer name x1")
    assert machine.plugin("host-device", "ADD", A0, netns=netns).status == 0
    assert links(machine, "c1") == ["a0", "eth0", "lo", "x1"]
    assert delete(machine).status == 0
    assert links(machine) == ["a0", "b0", "eth0", "lo", "x0"] and links(machine, "c1") == ["a0", "lo", "x1"]
    assert_given_back(machine)


def test_nobody_on_the_host_sees_the_containers_name(machine: Machine) -> None:
    """udev and NetworkManager would act on it."""
    seen = machine.run(
        "sh",
        "-ec",
        f"""
        ip netns add c1; timeout 60 ip monitor link > /run/seen & monitor=$!
        until grep -q ready /run/seen; do ip link add ready type veth && ip link delete ready; done
        export CNI_CONTAINERID=c1 CNI_NETNS=/run/netns/c1 CNI_IFNAME=eth0 CNI_PATH={machine.farm}
        for verb in ADD DEL; do
            echo '{{"cniVersion": "1.1.0", "name": "n", "type": "host-device", "device": "a0"}}' |
                CNI_COMMAND=$verb {machine.farm}/host-device > /dev/null
        done
        ip link add end type veth; until grep -q ' end' /run/seen; do :; done; kill $monitor; cat /run/seen
        """,
    )
    assert " a0@" in seen and " eth0" not in seen


# --- which device


@pytest.mark.parametrize("hwaddr", [MAC, MAC.upper(), MAC.replace(":", "-"), "0200.0000.000a"])
def test_by_hardware_address(machine: Machine, hwaddr: str) -> None:
    config = host_device(hwaddr=hwaddr)
    assert attach(machine, config)["interfaces"][0]["mac"] == MAC
    assert delete(machine, config).status == 0
    assert_given_back(machine)


def test_by_alternative_name(machine: Machine) -> None:
    machine.run("ip", "link", "property", "add", "dev", "a0", "altname", "enx02000000000a-long")
    attach(machine, host_device(device="enx02000000000a-long"))
    assert link(machine, "eth0", "c1")["ifalias"] == "a0"
    assert delete(machine).status == 0
    assert_given_back(machine)


def test_by_kernel_path(machine: Machine) -> None:
    """The kernel's own tree: the first interface in a folder's `net`. All virtual ones are in one, and a0 is the first."""
    config = host_device(kernelpath="/sys/devices/virtual")
    attach(machine, config)
    assert link(machine, "eth0", "c1")["ifalias"] == "a0"
    assert delete(machine, config).status == 0
    assert_given_back(machine)


def pci_device(machine: Machine, address: str, folder: str = "net/a0", driver: str = "virtio-pci") -> None:
    """A PCI device in sysfs; `folder` is that of its interface, below its own."""
    machine.run(
        "sh",
        "-ec",
        f"""
        mountpoint -q /sys/bus/pci || mount -t tmpfs none /sys/bus/pci
        mkdir -p /sys/bus/pci/devices/{address}/{folder} /sys/bus/pci/drivers/{driver or "none"}
        {f"ln -s ../../drivers/{driver} /sys/bus/pci/devices/{address}/driver" if driver else ""}
        """,
    )


@pytest.mark.parametrize("folder", ["net/a0", "virtio2/net/a0"])
@pytest.mark.parametrize("how", ["pciBusID", "deviceID"])
def test_by_pci_address(machine: Machine, folder: str, how: str) -> None:
    pci_device(machine, "0000:00:05.0", folder)
    options = {"pciBusID": "0000:00:05.0"}
    if how == "deviceID":
        options = {"pciBusID": "0000:00:09.9", "runtimeConfig": {"deviceID": "0000:00:05.0"}}  # type: ignore[dict-item]
    attach(machine, host_device(**options))
    assert link(machine, "eth0", "c1")["ifalias"] == "a0"
    machine.run("umount", "/sys/bus/pci")  # DEL needs none of it
    assert delete(machine, host_device(**options)).status == 0
    assert_given_back(machine)


def test_by_name_on_the_auxiliary_bus(machine: Machine) -> None:
    machine.run("sh", "-ec", "mount -t tmpfs none /sys/bus; mkdir -p /sys/bus/auxiliary/devices/mlx5_core.sf.4/net/a0")
    config = host_device(pciBusID="0000:00:05.0", runtimeConfig={"deviceID": "mlx5_core.sf.4"})
    attach(machine, config)
    assert link(machine, "eth0", "c1")["ifalias"] == "a0"
    assert delete(machine, config).status == 0
    assert_given_back(machine)


def test_priority(machine: Machine) -> None:
    machine.run("sh", "-ec", "for name in p q r; do ip link add ${name}0 type veth peer name ${name}1; done")
    pci_device(machine, "0000:00:05.0", "net/p0")
    mac = link(machine, "q0")["address"]
    everything = {"device": "a0", "hwaddr": mac, "kernelpath": "/sys/devices/none", "pciBusID": "0000:00:05.0"}
    for name, without in (("a0", ""), ("q0", "device"), ("p0", "hwaddr")):
        everything.pop(without, None)
        if name == "p0":
            del everything["kernelpath"]
        attach(machine, layer2(**everything), name)
        assert link(machine, "eth0", name)["ifalias"] == name


def test_pci_address_in_the_result(machine: Machine) -> None:
    machine.run(
        "sh",
        "-ec",
        "mount -t tmpfs none /sys/class/net; ln -s ../../devices/pci0000:00/0000:00:05.0/virtio2/net/a0 /sys/class/net",
    )
    assert attach(machine, A0)["interfaces"][0]["pciID"] == "0000:00:05.0"
    result = attach(machine, {**layer2(hwaddr=link(machine, "b0")["address"])}, "c2")
    assert "pciID" not in result["interfaces"][0]


@pytest.mark.parametrize("driver", ["vfio-pci", "uio_pci_generic", "igb_uio"])
def test_dpdk(machine: Machine, driver: str) -> None:
    pci_device(machine, "0000:00:05.0", "", driver)
    config = host_device(pciBusID="0000:00:05.0")
    result = attach(machine, config)
    assert result["interfaces"] == [{"name": "eth0", "sandbox": "/run/netns/c1", "pciID": "0000:00:05.0"}]
    assert result["ips"][0]["address"] == "10.77.0.2/24"
    assert links(machine, "c1") == ["lo"]
    assert again(machine, "CHECK", config, result).status == 0
    assert machine.plugin("host-device", "CHECK", config).code == 999
    machine.run("rm", "/var/lib/cni/networks/mynet/10.77.0.2")
    assert again(machine, "CHECK", config, result).code == 999
    assert status(machine, config).status == 0
    assert delete(machine, config).status == 0
    assert nothing_left(machine)


# --- errors

WRONG = [
    ({}, 7, 'specify either "device", "hwaddr", "kernelpath" or "pciBusID"'),
    ({"device": ""}, 7, "specify either"),
    ({"device": 5}, 7, '"device"'),
    ({"hwaddr": "nonsense"}, 7, '"hwaddr"'),
    ({"hwaddr": "zz:00:00:00:00:01"}, 7, '"hwaddr"'),
    ({"kernelpath": "/etc"}, 7, "/sys/devices/"),
    ({"pciBusID": "../../../etc"}, 7, "pciBusID"),
    ({"device": "nosuch"}, 999, "no interface of the host is device nosuch"),
    ({"device": "no/such"}, 999, "no interface of the host is device no/such"),
    ({"device": "a-name-that-is-much-too-long"}, 999, "a-name-that-is-much-too-long"),
    ({"device": "lo"}, 999, "lo"),
    ({"hwaddr": "02:00:00:00:00:77"}, 999, "02:00:00:00:00:77"),
    ({"kernelpath": "/sys/devices/nosuch"}, 999, "/sys/devices/nosuch"),
    ({"pciBusID": "0000:99:00.0"}, 999, "0000:99:00.0"),
    ({"runtimeConfig": {"deviceID": "0000:99:00.0"}}, 999, "DeviceID 0000:99:00.0 not found"),
    ({"runtimeConfig": {"deviceID": "../../../../etc"}}, 999, "not found"),
    ({"device": "a0", "ipam": {"type": "nosuch"}}, 999, "nosuch"),
]


@pytest.mark.parametrize("options, code, text", WRONG, ids=[str(options) for options, _, _ in WRONG])
def test_wrong(machine: Machine, options: dict[str, Any], code: int, text: str) -> None:
    """And the DEL that follows finds nothing to do."""
    machine.container()
    before = state(machine)
    config = host_device(**options)
    outcome = machine.plugin("host-device", "ADD", config)
    assert outcome.code == code and text in outcome.json["msg"] + outcome.json.get("details", ""), outcome
    assert state(machine) == before
    if options.get("ipam") is None:
        assert delete(machine, config).status == 0
    assert state(machine) == before


def test_pci_device_without_a_driver(machine: Machine) -> None:
    pci_device(machine, "0000:00:05.0", "net", driver="")
    machine.container()
    outcome = machine.plugin("host-device", "ADD", host_device(pciBusID="0000:00:05.0"))
    assert outcome.code == 999 and "bound to no driver" in outcome.json["msg"]


def test_container_has_such_an_interface(machine: Machine) -> None:
    machine.container()
    machine.run("ip", "-n", "c1", "link", "add", "eth0", "type", "veth", "peer", "name", "x")
    before = state(machine)
    outcome = machine.plugin("host-device", "ADD", A0)
    assert outcome.code == 999 and "already has an interface eth0" in outcome.json["msg"]
    assert state(machine) == before
    assert delete(machine).status == 0  # which is not ours to take
    assert state(machine) == before


def test_device_is_in_another_container(machine: Machine) -> None:
    attach(machine, A0)
    machine.container("c2")
    for config in (A0, host_device(hwaddr=MAC), {**A0, "name": "other"}):
        outcome = machine.plugin("host-device", "ADD", config, container_id="c2", netns="/run/netns/c2")
        assert outcome.code == 999 and "is already in container c1, as eth0" in outcome.json["msg"], outcome
        assert machine.plugin("host-device", "DEL", config, container_id="c2", netns="/run/netns/c2").status == 0
    assert link(machine, "eth0", "c1")["ifalias"] == "a0"
    assert delete(machine).status == 0
    assert_given_back(machine)


def test_failed_add_gives_everything_back(machine: Machine) -> None:
    """Up, with its addresses, routes and bridge: all that a move takes away."""
    machine.container()
    machine.run(
        "sh",
        "-ec",
        """
        ip link add br0 type bridge; ip link set a0 master br0 up
        ip address add 192.0.2.1/24 brd + dev a0; ip address add 192.0.2.7/32 dev a0
        ip address add 2001:db8::1/64 dev a0 nodad; ip address add fd01::1/64 dev a0 nodad noprefixroute
        ip route add 10.5.0.0/16 dev a0 scope link; ip route add 10.6.0.0/16 via 10.5.0.9 metric 77 mtu 1300
        ip route add default via 192.0.2.254 table 500; ip route add fd09::/64 via 2001:db8::9
        ip route add 10.7.0.0/16 via 192.0.2.9 src 192.0.2.7 proto static
        """,
    )
    before = lines(machine)
    unreachable = {"dst": "10.9.0.0/16", "gw": "10.99.0.1"}
    ipam = {"type": "static", "addresses": [{"address": "10.1.0.2/24"}], "routes": [unreachable]}
    outcome = machine.plugin("host-device", "ADD", layer2(device="a0", ipam=ipam))
    assert outcome.code == 999 and "10.9.0.0/16" in outcome.json["msg"] and outcome.stderr == "", outcome
    assert lines(machine) == before


def lines(machine: Machine) -> dict[str, list[str]]:
    """The state, in whatever order the kernel tells it."""
    return {name: sorted(text.splitlines()) for name, text in state(machine).items()}


def test_name_that_is_taken_at_the_last_moment(machine: Machine) -> None:
    """The kernel moves first, and renames then: a device that it could not rename does not stay in there."""
    machine.container()
    machine.run(
        "sh",
        "-ec",
        "ip -n c1 link add eth0 index 80 type veth peer name x index 81; ip link set a0 up; ip address add 192.0.2.1/24 dev a0",
    )
    before = lines(machine)
    script = """
import sys; sys.path.insert(0, sys.argv[1])
from cnibox.host import lending, links
from cnibox.host.namespace import Machine
machine = Machine("")
try:
    lending.lend(machine.host, links.get(machine.host, "a0"), machine.open("/run/netns/c1"), "eth0", "a0")
except OSError as error:
    print(error)
"""
    said = machine.run("python3", "-c", script, f"{machine.farm}/cnibox")
    assert "File exists" in said
    assert lines(machine) == before


# --- DEL is total


@pytest.mark.parametrize("netns", ["", None, "/run/netns/none"])
def test_delete_without_the_namespace(machine: Machine, netns: str | None) -> None:
    """The record knows where the device is."""
    attach(machine, A0)
    assert delete(machine, netns=netns).status == 0
    assert_given_back(machine)


@pytest.mark.parametrize(
    "config", [A0, layer2(device="a0"), layer2(), {**A0, "name": "renamed"}, layer2(device="gone")]
)
def test_delete_needs_no_option(machine: Machine, config: dict[str, Any]) -> None:
    attach(machine, A0)
    for _ in range(2):
        assert delete(machine, {**config, "ipam": A0["ipam"]}).status == 0
    assert_given_back(machine)


def test_delete_twice_and_never_added(machine: Machine) -> None:
    assert delete(machine, netns=machine.container()).status == 0
    assert machine.plugin("host-device", "ADD", A0).status == 0
    for netns in ("/run/netns/c1", "/run/netns/c1", "", "/run/netns/none"):
        assert delete(machine, netns=netns).status == 0
        assert_given_back(machine)


def test_namespace_gone_with_a_virtual_device(machine: Machine) -> None:
    attach(machine, A0)
    machine.run("ip", "netns", "delete", "c1")
    assert machine.wait_until(lambda: links(machine) == ["lo"])
    assert delete(machine).status == 0
    assert nothing_left(machine)


@pytest.mark.parametrize("brought_back_as", ["eth0", "dev7"])
def test_namespace_gone_with_hardware(machine: Machine, brought_back_as: str) -> None:
    """The kernel brings it back under the container's name, or its own choice, with its alias. Here we do it for the kernel."""
    machine.run("ip", "link", "set", "a0", "up")
    attach(machine, A0)
    pid = str(machine.process.pid)
    machine.run("sh", "-ec", f"ip -n c1 link set eth0 down; ip -n c1 link set eth0 name {brought_back_as}")
    machine.run("ip", "-n", "c1", "link", "set", brought_back_as, "netns", pid)
    machine.run("ip", "netns", "delete", "c1")
    assert links(machine) == sorted(["b0", "lo", brought_back_as])
    assert delete(machine).status == 0
    assert_given_back(machine)
    assert is_up(link(machine, "a0"))


def test_renamed_in_the_container(machine: Machine) -> None:
    attach(machine, A0)
    machine.run(
        "sh",
        "-ec",
        "ip -n c1 link set eth0 down; ip -n c1 link set eth0 name wan; ip -n c1 link add eth0 type veth peer name x",
    )
    assert delete(machine).status == 0
    assert_given_back(machine)
    assert links(machine, "c1") == ["eth0", "lo", "x"]


def test_name_is_taken_on_return(machine: Machine) -> None:
    """The device is not lost with its container, the address is free, and the error comes once."""
    attach(machine, A0)
    machine.run("ip", "link", "add", "a0", "type", "veth", "peer", "name", "x")
    outcome = delete(machine)
    assert outcome.code == 999 and "a0 is back on the host as dev" in outcome.json["msg"], outcome
    assert nothing_leased(machine)
    there = next(name for name in links(machine) if name.startswith("dev"))
    assert link(machine, there)["address"] == MAC and link(machine, there)["ifalias"] == "a0"
    assert delete(machine).status == 0
    assert link(machine, there)["address"] == MAC
    assert nothing_left(machine)


def nothing_leased(machine: Machine) -> bool:
    return not any(name.startswith("10.") for name in machine.run("ls", "/var/lib/cni/networks/mynet").split())


def test_name_is_free_again_at_the_second_delete(machine: Machine) -> None:
    attach(machine, A0)
    machine.run("ip", "link", "add", "a0", "type", "veth", "peer", "name", "x")
    assert delete(machine).status == 1
    machine.run("ip", "link", "delete", "a0")
    assert delete(machine).status == 0
    assert_given_back(machine)


def test_gc(machine: Machine) -> None:
    attach(machine, A0)
    for valid, there in (([{"containerID": "c1", "ifname": "eth0"}], ["b0", "lo"]), ([], ["a0", "b0", "lo"])):
        config = {**A0, "cni.dev/valid-attachments": valid}
        outcome = machine.plugin("host-device", "GC", config, container_id=None, netns=None, ifname=None)
        assert outcome.status == 0, outcome
        assert links(machine) == there
    assert_given_back(machine)


# --- with the Go plugin


def test_go_deletes_what_we_made(machine: Machine) -> None:
    config = {**A0, "cniVersion": "1.0.0"}
    result = attach(machine, config)
    assert again(machine, "CHECK", config, result, farm=GO).status == 0
    assert again(machine, "DEL", config, result, farm=GO).status == 0
    assert link(machine, "a0")["address"] == MAC
    assert delete(machine, config).status == 0  # which forgets the attachment
    assert nothing_left(machine)


def test_we_delete_what_go_made(machine: Machine) -> None:
    config = {**A0, "cniVersion": "1.0.0"}
    result = attach(machine, config, farm=GO)
    assert again(machine, "CHECK", config, result).status == 0
    for _ in range(2):
        assert again(machine, "DEL", config, result).status == 0
    assert_given_back(machine)


def test_alias_that_is_no_name(machine: Machine) -> None:
    """Without a record it is believed, and may have been changed in the container."""
    attach(machine, {**A0, "cniVersion": "1.0.0"}, farm=GO)
    machine.run("ip", "-n", "c1", "link", "set", "eth0", "alias", "no/name")
    outcome = delete(machine)
    assert outcome.code == 999 and "no/name" in outcome.json["msg"]
    assert nothing_leased(machine)


# --- CHECK

MUTATIONS = [
    ("link set eth0 alias other", "other"),
    ("link set eth0 alias ''", "alias"),
    ("link set eth0 address 02:00:00:00:00:99", "02:00:00:00:00:99"),
    ("link set eth0 down", "eth0 is down"),
    ("address flush dev eth0", "10.77.0.2/24"),
    ("route delete 10.9.0.0/16", "10.9.0.0/16"),
    ("link delete eth0", "eth0"),
]


@pytest.mark.parametrize("mutation, named", MUTATIONS, ids=[mutation for mutation, _ in MUTATIONS])
def test_check_names_what_is_different(machine: Machine, mutation: str, named: str) -> None:
    config = host_device(device="a0", ipam=host_local("10.77.0.0/24", routes=[{"dst": "10.9.0.0/16"}]))
    result = attach(machine, config)
    machine.run("sh", "-ec", f"ip -n c1 {mutation}")
    outcome = again(machine, "CHECK", config, result)
    assert outcome.code == 999 and named in outcome.json["msg"], outcome


# --- STATUS


def status(machine: Machine, config: dict[str, Any]) -> Outcome:
    before = state(machine)
    outcome = machine.plugin("host-device", "STATUS", config, container_id=None, netns=None, ifname=None)
    assert state(machine) == before
    return outcome


def test_status(machine: Machine) -> None:
    assert status(machine, A0).status == 0
    attach(machine, A0)
    assert status(machine, A0).status == 0  # in use, as it should be: the node is not unfit for that
    machine.run("ip", "-n", "c1", "link", "delete", "eth0")
    outcome = status(machine, A0)
    assert outcome.code == 50 and "device a0" in outcome.json["msg"]


@pytest.mark.parametrize(
    "options, code",
    [
        ({"device": "nosuch"}, 50),
        ({"hwaddr": "02:00:00:00:00:77"}, 50),
        ({"pciBusID": "0000:99:00.0"}, 50),
        ({"device": "a0", "ipam": {"type": "nosuch"}}, 50),
        ({}, 7),
        ({"capabilities": {"deviceID": True}}, 0),  # which the runtime will choose
    ],
    ids=str,
)
def test_status_tells_why_not(machine: Machine, options: dict[str, Any], code: int) -> None:
    assert status(machine, host_device(**options)).code == code
