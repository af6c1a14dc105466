"""Servers that say who they are and from where they were called, and clients that ask many of them at once.

SCTP is spoken here by itself, an INIT and its INIT ACK with raw sockets (RFC 9260): many kernels have no sockets for it,
and translate its packets all the same.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from typing import Any

from tests.support.machine import Machine
from tests.support.network import again, attach
from tests.support.packets import Background, _words

_SCTP = """
import socket, struct
def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
def sctp(source, target, kind, text=""):
    data = text.encode().ljust(60)
    chunk = struct.pack("!BBHIIHHI", kind, 0, 20 + len(data), 7, 65536, 1, 1, 1) + data
    head = struct.pack("!HHI", source, target, 0 if kind == 1 else 7)
    return head + struct.pack("<I", crc32c(head + bytes(4) + chunk)) + chunk
def parsed(family, packet):
    if family == socket.AF_INET:
        packet = packet[packet[0] % 16 * 4:]
    source, target = struct.unpack_from("!HH", packet)
    return source, target, packet[12], packet[32:].decode(errors="replace").strip()
"""

_SERVE = (
    _SCTP
    + """
import select, sys
name, tcp, udp = sys.argv[1], sys.argv[2].split(","), sys.argv[3].split(",")
def listening(kind, port):
    s = socket.socket(socket.AF_INET6, kind)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("", int(port)))
    return s
streams = [listening(socket.SOCK_STREAM, port) for port in tcp]
for s in streams:
    s.listen(50)
datagrams = [listening(socket.SOCK_DGRAM, port) for port in udp]
raw = [socket.socket(family, socket.SOCK_RAW, 132) for family in (socket.AF_INET, socket.AF_INET6)]
print("ready", flush=True)
while True:
    for s in select.select(streams + datagrams + raw, [], [])[0]:
        try:
            if s in streams:
                connection, peer = s.accept()
                connection.sendall(f"{name} {peer[0].removeprefix('::ffff:')}".encode())
                connection.close()
            elif s in datagrams:
                _, peer = s.recvfrom(2000)
                s.sendto(f"{name} {peer[0].removeprefix('::ffff:')}".encode(), peer)
            else:
                packet, peer = s.recvfrom(2000)
                source, target, kind, _ = parsed(s.family, packet)
                if kind == 1:
                    s.sendto(sctp(target, source, 2, f"{name} {peer[0]}"), (peer[0], 0))
        except OSError:
            pass
"""
)

_ASK = (
    _SCTP
    + """
import json, random, sys, threading
def ask(protocol, address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    if protocol == "tcp":
        s = socket.create_connection((address, port), LIMIT)
        return s.recv(100).decode()
    if protocol == "udp":
        s = socket.socket(family, socket.SOCK_DGRAM)
        s.settimeout(LIMIT)
        s.connect((address, port))
        s.send(b"x")
        return s.recv(100).decode()
    s = socket.socket(family, socket.SOCK_RAW, 132)
    s.settimeout(LIMIT)
    s.connect((address, 0))
    own = random.randrange(20000, 60000)
    s.send(sctp(own, port, 1))
    while True:
        source, target, kind, text = parsed(family, s.recv(2000))
        if (source, target, kind) == (port, own, 2):
            return text
def one(index, question):
    try:
        answers[index] = ask(*question)
    except OSError as error:
        answers[index] = ""
questions, LIMIT = json.loads(sys.argv[1]), float(sys.argv[2])
answers = [""] * len(questions)
threads = [threading.Thread(target=one, args=pair) for pair in enumerate(questions)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps(answers))
"""
)

_KEEP_SENDING = """
import socket, sys, time
s = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("", 4444))
s.connect((sys.argv[1], int(sys.argv[2])))
s.settimeout(0.02)
print("ready", flush=True)
last = ""
while True:
    try:
        s.send(b"x")
        answer = s.recv(100).decode().split()[0]
        if answer != last:
            print(answer, flush=True)
        last = answer
    except OSError:
        pass
    time.sleep(0.01)
"""

LEGACY = """mount -t tmpfs none /etc/alternatives
for each in iptables ip6tables; do for suffix in "" -save -restore; do
    ln -s /usr/sbin/$each-legacy$suffix /etc/alternatives/$each$suffix
done; done"""

TCP, UDP, SCTP = 80, 53, 99
"""The container's ports."""
PUBLISHED = {"tcp": 8080, "udp": 5353, "sctp": 9999}
"""Protocol -> the host's port."""


def mapping(host: int = 8080, container: int = 80, protocol: str = "tcp", host_ip: str = "") -> dict[str, Any]:
    found = {"hostPort": host, "containerPort": container, "protocol": protocol}
    return {**found, "hostIP": host_ip} if host_ip else found


ALL = [mapping(), mapping(5353, UDP, "udp"), mapping(9999, SCTP, "sctp")]


def portmap(*mappings: dict[str, Any], backend: str = "", **options: Any) -> dict[str, Any]:
    """portmap's configuration, of the network that network.bridge() makes; `options` replace or add."""
    more = {"backend": backend} if backend else {}
    runtime = {"runtimeConfig": {"portMappings": list(mappings or ALL)}}
    return {"cniVersion": "1.1.0", "name": "mynet", "type": "portmap", **more, **runtime, **options}


def publish(
    machine: Machine, network: dict[str, Any], config: dict[str, Any], container: str = "c1", **options: Any
) -> dict[str, Any]:
    """ADD of the network and of portmap for a new container; portmap's configuration with its prevResult."""
    result = attach(machine, network, container, **options)
    same = {"name": network["name"], "cniVersion": network["cniVersion"], "prevResult": result}
    outcome = again(machine, "ADD", {**config, **same}, result, container, **options)
    assert outcome.status == 0, outcome
    assert outcome.json["ips"] == result["ips"]
    return {**config, **same}


def run(machine: Machine, command: str, config: dict[str, Any], container: str = "c1", **options: Any) -> Any:
    """CHECK or DEL of what `publish` gave."""
    netns = options.pop("netns", f"/run/netns/{container}")
    return machine.plugin("portmap", command, config, container_id=container, netns=netns, **options)


def legacy(machine: Machine) -> None:
    """From now on iptables keeps its tables in the kernel's older ones, for everybody on the machine."""
    machine.run("sh", "-c", LEGACY)
    assert "legacy" in machine.run("iptables-restore", "--version")


def serving(machine: Machine, name: str, tcp: Iterable[int] = (TCP,), udp: Iterable[int] = (UDP,)) -> Background:
    """A server in namespace `name` on these ports, and on all of SCTP's; it answers with its name and the client's address."""
    return Background(machine, name, _SERVE, name, *(",".join(map(str, ports)) for ports in (tcp, udp)))


def ask(machine: Machine, inside: str, questions: list[tuple[str, str, int]], limit: float = 2) -> list[str]:
    """What servers answer to (protocol, address, port), all at once; "" where none does within `limit` seconds."""
    words = _words(machine, inside, _ASK, json.dumps(questions), str(limit))
    done = subprocess.run(words, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout)
    return found


def keep_sending(machine: Machine, inside: str, address: str, port: int) -> Background:
    """A client that never changes its port, and tells each time when another server answers."""
    return Background(machine, inside, _KEEP_SENDING, address, str(port))
