"""tap: made without any program, as each option says, and used by a process that may be nobody in particular."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from tests.support.machine import Machine, Outcome, links
from tests.support.network import again, attach, host_local, state
from tests.support.traces import nothing_left

MAC = "02:00:00:00:00:0a"
LEASES = host_local("10.77.0.0/24", routes=[{"dst": "10.9.0.0/16"}])


def tap(**options: Any) -> dict[str, Any]:
    return {"cniVersion": "1.1.0", "name": "mynet", "type": "tap", **options}


def link(machine: Machine, name: str = "eth0") -> dict[str, Any]:
    found: dict[str, Any] = machine.ip("-n", "c1", "-d", "link", "show", name)[0]
    return found


PLAIN = {"type": "tap", "pi": False, "vnet_hdr": False, "multi_queue": False, "persist": True}

CONFIGURATIONS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    # options, the kind's data, and more of the link
    "plain": ({}, PLAIN, {"mtu": 1500}),
    "multi-queue": (
        {"multiQueue": True},
        {**PLAIN, "multi_queue": True, "numqueues": 0, "numdisabled": 0},
        {"mtu": 1500},
    ),
    "owner": ({"owner": 54321, "mtu": 1400, "mac": MAC}, {**PLAIN, "user": 54321}, {"mtu": 1400, "address": MAC}),
    "group": ({"group": 54322, "mtu": 1400, "mac": MAC}, {**PLAIN, "group": 54322}, {"mtu": 1400, "address": MAC}),
    "owner-and-group": (
        {"owner": 0, "group": 4294967294, "mtu": 9000, "mac": MAC},
        {**PLAIN, "user": "root", "group": 4294967294},
        {"mtu": 9000, "address": MAC},
    ),
    "mac-args-cni": ({"mac": "02:00:00:00:00:01", "runtimeConfig": {"mac": MAC}}, PLAIN, {"address": MAC}),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_made_as_the_options_say(machine: Machine, name: str) -> None:
    options, data, more = CONFIGURATIONS[name]
    config = tap(**options)
    result = attach(machine, config)
    found = link(machine)
    assert found["linkinfo"] == {"info_kind": "tun", "info_data": data}
    assert {key: found[key] for key in more} == more
    assert "UP" in found["flags"]
    interface = {"name": "eth0", "mac": found["address"], "mtu": found["mtu"], "sandbox": "/run/netns/c1"}
    assert result == {"cniVersion": "1.1.0", "interfaces": [interface]}
    assert again(machine, "CHECK", config, result).status == 0
    assert again(machine, "DEL", config, result).status == 0
    assert links(machine, "c1") == ["lo"]
    assert nothing_left(machine)


@pytest.mark.parametrize(
    "args, runtime, mac",
    [("", "", 1), ("MAC=02:00:00:00:00:02", "", 2), ("MAC=02:00:00:00:00:02", "02:00:00:00:00:03", 3)],
)
def test_whose_mac_counts(machine: Machine, args: str, runtime: str, mac: int) -> None:
    config = tap(mac="02:00:00:00:00:01", runtimeConfig={"mac": runtime})
    attach(machine, config, CNI_ARGS=args)
    assert link(machine)["address"] == f"02:00:00:00:00:0{mac}"


def test_addresses(machine: Machine) -> None:
    config = tap(ipam=LEASES, dns={"domain": "example.org"})
    result = attach(machine, config)
    assert result["ips"] == [{"address": "10.77.0.2/24", "gateway": "10.77.0.1", "interface": 0}]
    assert result["dns"] == {"domain": "example.org"}
    address = machine.ip("-n", "c1", "-4", "address", "show", "eth0")[0]["addr_info"][0]
    assert (address["local"], address["prefixlen"]) == ("10.77.0.2", 24)
    assert [route["dst"] for route in machine.ip("-n", "c1", "route")] == ["10.9.0.0/16", "10.77.0.0/24"]
    assert again(machine, "CHECK", config, result).status == 0
    assert again(machine, "DEL", config, result).status == 0
    assert nothing_left(machine)


# --- a process at the other end

_USER = """
import fcntl, os, struct, sys
os.setgroups([]); os.setgid(int(sys.argv[1])); os.setuid(int(sys.argv[2]))
tap = os.open("/dev/net/tun", os.O_RDWR)
flags = 0x1002 | int(sys.argv[3])  # IFF_TAP, IFF_NO_PI
fcntl.ioctl(tap, 0x400454ca, struct.pack("16sH22x", b"eth0", flags))
print("ready", flush=True)
if sys.argv[4]:
    own, other, target = bytes.fromhex(sys.argv[4]), bytes.fromhex("02000000000b"), bytes([10, 77, 0, 1])
    while True:
        frame = os.read(tap, 2048)
        if frame[12:14] == b"\\x08\\x06" and frame[38:42] == target:  # ARP: who has 10.77.0.1?
            os.write(tap, own + other + frame[12:20] + b"\\0\\2" + other + target + own + frame[28:32])
        elif frame[12:14] == b"\\x08\\0" and frame[23] == 1 and frame[34] == 8:  # an echo request becomes the reply
            total = (~struct.unpack("!H", frame[36:38])[0] & 0xffff) - 0x0800
            sum_ = struct.pack("!H", ~(total % 0xffff) & 0xffff)
            os.write(tap, own + other + frame[12:26] + frame[30:34] + frame[26:30] + b"\\0\\0" + sum_ + frame[38:])
"""


def user(machine: Machine, uid: int, gid: int, flags: int = 0, mac: str = "") -> subprocess.Popen[bytes]:
    words = ["ip", "netns", "exec", "c1", "/usr/bin/python3", "-c", _USER, str(gid), str(uid), str(flags), mac]
    machine.run("chmod", "666", "/dev/net/tun")
    return subprocess.Popen(machine.enter(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.fixture
def machine(machine: Machine) -> Machine:
    """With a /dev of its own, in which anybody may open what makes taps."""
    machine.run(
        "sh",
        "-ec",
        "mount -t tmpfs dev /dev; mkdir /dev/net; mknod /dev/net/tun c 10 200; mknod -m 666 /dev/null c 1 3; mknod -m 444 /dev/urandom c 1 9",
    )
    return machine


@pytest.mark.parametrize("queues", [False, True])
def test_its_owner_exchanges_packets(machine: Machine, queues: bool) -> None:
    """A process of that user, and of no other rights, answers the container's ping."""
    attach(machine, tap(owner=1234, group=5678, mac=MAC, multiQueue=queues, ipam=LEASES))
    process = user(machine, 1234, 5678, 0x100 if queues else 0, MAC.replace(":", ""))
    try:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        assert machine.wait_until(lambda: "LOWER_UP" in link(machine)["flags"])
        assert machine.ping("10.77.0.1", inside="c1", count=2)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    "options, uid, gid",
    [({"owner": 1234}, 1235, 5678), ({"group": 5678}, 1234, 5679), ({"owner": 1234, "group": 5678}, 1234, 5679)],
)
def test_others_may_not(machine: Machine, options: dict[str, Any], uid: int, gid: int) -> None:
    attach(machine, tap(**options))
    _, said = user(machine, uid, gid).communicate(timeout=10)
    assert b"Operation not permitted" in said


# --- bridge


def test_in_a_bridge_of_the_container(machine: Machine) -> None:
    netns = machine.container()
    machine.run("sh", "-ec", "ip -n c1 link add br0 type bridge; ip link add br0 type bridge")
    outcome = machine.plugin("tap", "ADD", tap(bridge="br0", mac=MAC), netns=netns)
    assert link(machine)["master"] == "br0"
    config = tap(bridge="br0", mac=MAC, prevResult=outcome.json)
    assert machine.plugin("tap", "CHECK", config).status == 0
    machine.run("ip", "-n", "c1", "link", "set", "eth0", "nomaster")
    outcome = machine.plugin("tap", "CHECK", config)
    assert outcome.code == 999 and "not plugged into br0" in outcome.json["msg"]


@pytest.mark.parametrize(
    "setup, said",
    [("ip link add br0 type bridge", "not in /run/netns/c1"), ("ip -n c1 link add br0 type veth", "br0 is a veth")],
)
def test_no_bridge(machine: Machine, setup: str, said: str) -> None:
    machine.container()
    machine.run("sh", "-ec", setup)
    assert_refused(machine, tap(bridge="br0", ipam=LEASES), 999, said)


# --- errors


def assert_refused(machine: Machine, config: dict[str, Any], code: int, said: str) -> None:
    before = state(machine)
    outcome = machine.plugin("tap", "ADD", config)
    assert outcome.code == code and said in outcome.json["msg"] + outcome.json.get("details", ""), outcome
    assert outcome.stderr == "" and state(machine) == before
    assert machine.plugin("tap", "DEL", config).status == 0
    assert state(machine) == before


@pytest.mark.parametrize(
    "options, code, said",
    [
        ({"owner": -1}, 7, '"owner"'),
        ({"owner": 1 << 32}, 7, '"owner"'),
        ({"owner": "root"}, 7, '"owner"'),
        ({"group": 4294967295}, 7, '"group"'),
        ({"mac": "nonsense"}, 7, '"mac"'),
        ({"mtu": 65536}, 7, '"mtu"'),
        ({"mtu": 65535}, 999, "mtu 65535"),
        ({"mtu": 10}, 999, "mtu 10"),
        ({"mac": "01:00:00:00:00:01"}, 999, "address 01:00:00:00:00:01"),
        ({"bridge": "no/name"}, 7, '"bridge"'),
        ({"multiQueue": "yes"}, 7, '"multiQueue"'),
        ({"ipam": {"type": "nosuch"}}, 999, "nosuch"),
    ],
    ids=str,
)
def test_wrong(machine: Machine, options: dict[str, Any], code: int, said: str) -> None:
    machine.container()
    if "ipam" not in options:
        assert_refused(machine, tap(**options, ipam=LEASES), code, said)
    else:
        assert machine.plugin("tap", "ADD", tap(**options)).code == code
        assert links(machine, "c1") == ["lo"]


def test_container_has_such_an_interface(machine: Machine) -> None:
    """Above all not a tap, to which the kernel would attach instead of making one."""
    machine.container()
    machine.run("ip", "-n", "c1", "tuntap", "add", "eth0", "mode", "tap")
    outcome = machine.plugin("tap", "ADD", tap())
    assert outcome.code == 999 and "already has an interface eth0" in outcome.json["msg"]
    assert links(machine, "c1") == ["eth0", "lo"]


def status(machine: Machine, config: dict[str, Any]) -> Outcome:
    before = state(machine)
    outcome = machine.plugin("tap", "STATUS", config, container_id=None, netns=None, ifname=None)
    assert state(machine) == before
    return outcome


def test_status(machine: Machine) -> None:
    assert status(machine, tap()).status == 0
    assert status(machine, tap(bridge="in-container", ipam=LEASES)).status == 0
    assert status(machine, tap(ipam={"type": "nosuch"})).code == 50


@pytest.mark.parametrize("script", ["rm /dev/net/tun", "rm /dev/net/tun; mknod /dev/net/tun c 10 253"])
def test_without_the_device(machine: Machine, script: str) -> None:
    machine.container()
    machine.run("sh", "-ec", script)
    assert_refused(machine, tap(ipam=LEASES), 999, "modprobe tun")
    outcome = status(machine, tap())
    assert outcome.code == 50 and "modprobe tun" in outcome.json["msg"]


def test_selinux_context_where_selinux_is_not_on(machine: Machine) -> None:
    machine.container()
    machine.run("mount", "-t", "tmpfs", "none", "/sys/fs")
    config = tap(selinuxContext="system_u:system_r:container_t:s0", ipam=LEASES)
    assert_refused(machine, config, 999, "SELinux is not on")
    assert status(machine, config).code == 50


def test_selinux_context_that_the_kernel_refuses(machine: Machine) -> None:
    """A child asks for it: what it is told must come through."""
    machine.container()
    machine.run("sh", "-ec", "mount -t tmpfs none /sys/fs; mkdir /sys/fs/selinux; touch /sys/fs/selinux/enforce")
    said = "taking the SELinux context nonsense: Invalid argument"
    assert_refused(machine, tap(selinuxContext="nonsense", ipam=LEASES), 999, said)


@pytest.mark.kernel("selinux", "tun")
def test_selinux_context(machine: Machine) -> None:
    """Before a policy is loaded there are the contexts with which the kernel begins; this is one of them."""
    machine.run("mount", "-t", "selinuxfs", "none", "/sys/fs/selinux")
    config = tap(selinuxContext="unlabeled", owner=1234, ipam=LEASES)
    result = attach(machine, config)
    assert link(machine)["linkinfo"]["info_data"] == {**PLAIN, "user": 1234}
    assert again(machine, "CHECK", config, result).status == 0
    assert status(machine, config).status == 0
    assert again(machine, "DEL", config, result).status == 0
    assert nothing_left(machine)


# --- DEL, CHECK


@pytest.mark.parametrize("netns", ["", None, "/run/netns/none", "/run/netns/c1"])
def test_delete_is_total(machine: Machine, netns: str | None) -> None:
    attach(machine, tap(ipam=LEASES))
    for _ in range(2):
        assert machine.plugin("tap", "DEL", tap(ipam=LEASES), netns=netns).status == 0
    assert nothing_left(machine)


def test_delete_after_the_namespace(machine: Machine) -> None:
    attach(machine, tap(ipam=LEASES))
    machine.run("ip", "netns", "delete", "c1")
    assert machine.plugin("tap", "DEL", tap(ipam=LEASES)).status == 0
    assert nothing_left(machine)


def test_delete_while_it_is_open(machine: Machine) -> None:
    attach(machine, tap(owner=1234))
    process = user(machine, 1234, 5678, 0, MAC.replace(":", ""))
    try:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        assert machine.plugin("tap", "DEL", tap(owner=1234)).status == 0
        assert links(machine, "c1") == ["lo"]
    finally:
        process.kill()
        process.communicate()


MUTATIONS = [
    ("link set eth0 mtu 1300", "1300"),
    ("link set eth0 address 02:00:00:00:00:99", "02:00:00:00:00:99"),
    ("link set eth0 down", "eth0 is down"),
    ("address flush dev eth0", "10.77.0.2/24"),
    ("route delete 10.9.0.0/16", "10.9.0.0/16"),
    ("link delete eth0", "eth0"),
    ("link delete eth0; ip -n c1 tuntap add eth0 mode tun; ip -n c1 link set eth0 up", "a tun, not a tap"),
    (f"link delete eth0; ip -n c1 link add eth0 address {MAC} type veth", "veth, not a tun"),
    (f"link delete eth0; ip -n c1 tuntap add eth0 mode tap; ip -n c1 link set eth0 address {MAC} up", "owner of eth0"),
]


@pytest.mark.parametrize("mutation, named", MUTATIONS, ids=[mutation for mutation, _ in MUTATIONS])
def test_check_names_what_is_different(machine: Machine, mutation: str, named: str) -> None:
    config = tap(mtu=1400, mac=MAC, owner=107, ipam=LEASES)
    result = attach(machine, config)
    if "tun;" in mutation:
        result["interfaces"][0].pop("mac")  # a tun has none
    machine.run("sh", "-ec", f"ip -n c1 {mutation}")
    outcome = again(machine, "CHECK", config, result)
    assert outcome.code == 999 and named in outcome.json["msg"], outcome


def test_check_compares_only_what_the_configuration_has(machine: Machine) -> None:
    """Whoever may open it, and with how many queues, is another's affair then; the MTU is the result's."""
    result = attach(machine, tap(owner=0, group=0, multiQueue=True))
    assert again(machine, "CHECK", tap(), result).status == 0
    for options, word in (({"owner": 1}, "owner"), ({"group": 7}, "group")):
        outcome = again(machine, "CHECK", tap(**options), result)
        assert outcome.status == 1 and word in outcome.json["msg"]
    machine.run("ip", "-n", "c1", "link", "set", "eth0", "mtu", "1300")
    assert "eth0 has MTU 1300, not 1500" in again(machine, "CHECK", tap(), result).json["msg"]
