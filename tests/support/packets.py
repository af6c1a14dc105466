"""Real packets between namespaces: small programs for the far side, and what they saw."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

from tests.support.machine import Machine
from tests.support.network import attach, host_local

PYTHON = "/usr/bin/python3"
PORT = 4789
ETHERTYPE = 0x88B5  # for local experiments (IEEE 802)
OUTSIDE = {4: "192.0.2.2", 6: "2001:db8::2"}
HOST = {4: "192.0.2.1", 6: "2001:db8::1"}
"""The addresses of `outside_world`, and of the host on the link to it."""
ROUTER = "2001:db8:bad::"
"""The prefix that `advertise_router` announces."""

_LISTEN = """
import socket, sys
family = socket.AF_INET6 if sys.argv[1] == "6" else socket.AF_INET
s = socket.socket(family, socket.SOCK_DGRAM)
s.bind(("", int(sys.argv[2])))
if sys.argv[3]:
    group, own = map(socket.inet_aton, sys.argv[3:])
    s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group + own)
print("ready", flush=True)
s.settimeout(3)
print(s.recvfrom(100)[1][0], flush=True)
"""

_SEND = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
s = socket.socket(family, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 8)
s.sendto(b"x", (sys.argv[1], int(sys.argv[2])))
"""

_REFLECT = """
import socket, sys, time
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(int(sys.argv[2])))
s.bind((sys.argv[1], int(sys.argv[2])))
s.send(b"\\xff" * 6 + s.getsockname()[4] + int(sys.argv[2]).to_bytes(2, "big") + b"hello".ljust(46))
s.settimeout(0.5)
try:
    while s.recvfrom(100)[1][2] == 4:  # our own, on its way out
        pass
    print("true")
except TimeoutError:
    print("false")
"""

_FIRST_TAG = """
import socket, struct, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))  # ETH_P_ALL
s.bind((sys.argv[1], 3))
s.setsockopt(263, 8, 1)  # SOL_PACKET, PACKET_AUXDATA: the kernel has taken the tag out of the frame
s.settimeout(3)
print("ready", flush=True)
while True:
    frame, extra, _, sender = s.recvmsg(100, 100)
    if sender[2] != 4 and frame[12:14] == b"\\x08\\x06":  # not on its way out; ARP
        status, tag = struct.unpack_from("I12xH", extra[0][2])
        print(tag & 0xFFF if status & 16 else "untagged", flush=True)  # TP_STATUS_VLAN_VALID
        break
"""

_ADVERTISE = """
import socket, struct, sys, time
s = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, sys.argv[1].encode())
s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
advertisement = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)  # RFC 4861, 4.2
prefix = struct.pack("!BBBBIII16s", 3, 4, 64, 0xC0, 3600, 3600, 0, socket.inet_pton(socket.AF_INET6, sys.argv[2]))
index = socket.if_nametoindex(sys.argv[1])
own = next(line[:32] for line in open("/proc/net/if_inet6") if line[:4] == "fe80" and line.split()[5] == sys.argv[1])
for attempt in range(60):
    try:
        s.bind((socket.inet_ntop(socket.AF_INET6, bytes.fromhex(own)), 0, 0, index))
        s.sendto(advertisement + prefix, ("ff02::1", 0, 0, index))
        break
    except OSError:  # our link-local address is not usable yet
        time.sleep(0.05)
else:
    sys.exit("cannot send")
"""

_MULTICAST_ROUTER = """
import socket, struct, sys, time
source, group, way_in, way_out = sys.argv[1:]
s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_IGMP)
s.setsockopt(socket.IPPROTO_IP, 200, 1)  # MRT_INIT (linux/mroute.h)
for number, name in enumerate((way_in, way_out)):
    index = socket.if_nametoindex(name)
    s.setsockopt(socket.IPPROTO_IP, 202, struct.pack("=HBBIiI", number, 8, 1, 0, index, 0))  # MRT_ADD_VIF
addresses, ttls = map(socket.inet_aton, (source, group)), bytes((0, 1)).ljust(32, b"\\0")
forward = struct.pack("=4s4sH32s2xIIIi", *addresses, 0, ttls, 0, 0, 0, 0)
s.setsockopt(socket.IPPROTO_IP, 204, forward)  # MRT_ADD_MFC
print("ready", flush=True)
time.sleep(30)
"""


def _words(machine: Machine, inside: str, script: str, *arguments: str) -> list[str]:
    words = [PYTHON, "-IS", "-c", script, *arguments]
    return machine.enter(*(["ip", "netns", "exec", inside, *words] if inside else words))


class Background:
    """A program of ours that runs on while the test does something; it has said that it is ready."""

    def __init__(self, machine: Machine, inside: str, script: str, *arguments: str) -> None:
        self.process = subprocess.Popen(_words(machine, inside, script, *arguments), stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None and self.process.stdout.readline() == "ready\n"

    def __enter__(self) -> Background:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def answer(self) -> str:
        """What else it said, when it has ended."""
        return self.process.communicate(timeout=10)[0].strip()


def _python(machine: Machine, inside: str, script: str, *arguments: str) -> str:
    done = subprocess.run(_words(machine, inside, script, *arguments), capture_output=True, text=True, timeout=10)
    assert done.returncode == 0, done.stderr
    return done.stdout


def source_seen(
    machine: Machine, *, sender: str, receiver: str, address: str, group: tuple[str, str] = ("", "")
) -> str:
    """The source address of one datagram that namespace `sender` sends to an address of namespace `receiver`.

    group: the multicast group to join, and the receiver's own address on the link where it joins.
    """
    version = "6" if ":" in address else "4"
    with Background(machine, receiver, _LISTEN, version, str(PORT), *group) as listener:
        _python(machine, sender, _SEND, address, str(PORT))
        return listener.answer().removeprefix("::ffff:")


def own_broadcast_returns(machine: Machine, inside: str, ifname: str = "eth0") -> bool:
    """Whether a broadcast frame comes back through the port that it was sent through (hairpin)."""
    return bool(json.loads(_python(machine, inside, _REFLECT, ifname, str(ETHERTYPE))))


def advertise_router(machine: Machine, inside: str, ifname: str = "eth0") -> None:
    """Send a router advertisement, with a default route and the prefix ROUTER, to all nodes of the link."""
    _python(machine, inside, _ADVERTISE, ifname, ROUTER)


def vlan_of_first_arp(machine: Machine, inside: str, ifname: str) -> Background:
    """Listens until an ARP packet has come in; its answer is the VLAN of that one, "5", or "untagged"."""
    return Background(machine, inside, _FIRST_TAG, ifname)


def multicast_router(machine: Machine, source: str, group: str, way_in: str, way_out: str) -> Background:
    """Let the machine forward a group's packets of one source, while the answer lasts."""
    return Background(machine, "", _MULTICAST_ROUTER, source, group, way_in, way_out)


def outside_world(machine: Machine, *, name: str = "outside") -> None:
    """A namespace beyond the host, with the addresses OUTSIDE; its default routes lead to the host."""
    machine.container(name)
    machine.run("ip", "link", "add", "uplink", "type", "veth", "peer", "name", "eth0", "netns", name)
    machine.run("sysctl", "-qw", "net.ipv6.conf.uplink.accept_dad=0")
    machine.run("ip", "netns", "exec", name, "sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=0")
    for where, link, own in (((), "uplink", HOST), (("-n", name), "eth0", OUTSIDE)):
        machine.run("ip", *where, "address", "add", f"{own[4]}/24", "dev", link)
        machine.run("ip", *where, "address", "add", f"{own[6]}/64", "dev", link)
        machine.run("ip", *where, "link", "set", link, "up")
    for gateway in HOST.values():
        machine.run("ip", "-n", name, "route", "add", "default", "via", gateway)
    for address in HOST.values():  # both ends have found each other before the test's own first packet
        assert machine.wait_until(lambda address=address: machine.ping(address, inside=name))  # type: ignore[misc]


DIRECTIONS = ["to gateway", "from host", "to container", "to outside", "from outside"]


def first_packet(machine: Machine, network: Callable[..., Any], direction: str, version: int, number: int) -> bool:
    """Whether the first packet of a new container on a new network is answered; `network` makes the configuration."""
    subnet = f"10.77.{number}." if version == 4 else f"fd77:{number}::"
    route = {"dst": "0.0.0.0/0" if version == 4 else "::/0"}
    ipam = host_local(f"{subnet}0/24" if version == 4 else f"{subnet}/64", routes=[route])
    config = network(name=f"net{number}", bridge=f"br{number}", ipam=ipam)
    first, second = f"a{number}", f"b{number}"
    attach(machine, config, first)
    if direction == "to gateway":
        return machine.ping(f"{subnet}1", inside=first)
    if direction == "from host":
        return machine.ping(f"{subnet}2")
    if direction == "to container":
        attach(machine, config, second)
        return machine.ping(f"{subnet}2", inside=second)
    if direction == "to outside":
        return machine.ping(OUTSIDE[version], inside=first)
    return machine.ping(f"{subnet}2", inside="outside")
