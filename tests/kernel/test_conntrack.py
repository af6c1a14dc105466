"""Tracked UDP flows are deleted by address, port and server; all others stay."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.support.machine import Machine

REPOSITORY = str(Path(__file__).resolve().parents[2])
PREPARE = """
ip address add 10.5.0.1/32 dev lo; ip address add 10.5.0.2/32 dev lo
ip address add fd05::1/128 dev lo nodad; ip address add fd05::2/128 dev lo nodad
nft -f - <<END
table inet track { chain c { type filter hook prerouting priority 0; ct state new accept; }; }
END
"""
SCRIPT = """
import itertools, socket, sys
sys.path.insert(0, sys.argv[1])
from cnibox.host import conntrack, namespace
from cnibox.host.netlink.socket import Netlink, NetlinkError

def talk(family, address, port):
    client, server = socket.socket(family, socket.SOCK_DGRAM), socket.socket(family, socket.SOCK_DGRAM)
    server.bind((address, port))
    client.connect((address, port))
    client.send(b"question")
    server.sendto(b"reply", server.recvfrom(9)[1])

version, way = int(sys.argv[2]), sys.argv[3]
prefix = {4: "10.5.0.", 6: "fd05::"}[version]
for host, port in itertools.product("12", (53, 54)):
    talk({4: socket.AF_INET, 6: socket.AF_INET6}[version], prefix + host, port)
if way == "before Linux 5.8":
    conntrack._forget_by_filter = lambda socket, flows: False
if way == "many":
    conntrack.FEW = 0
if way == "no ctnetlink":
    def refuse(*_):
        raise NetlinkError(22)
    Netlink._send = refuse
if way in ("no netfilter netlink", "not permitted"):
    number = {"no netfilter netlink": 93, "not permitted": 1}[way]  # EPROTONOSUPPORT, EPERM
    def refuse_socket(*_):
        raise OSError(number, "refused")
    conntrack.Netlink = refuse_socket
server = (prefix + "1", 53) if "server" in sys.argv else None
flows = conntrack.UdpFlows(53, "" if server else prefix + "1", server)
conntrack.forget(namespace.Machine("x").host, version, [flows])
"""


def tracked(machine: Machine, version: int) -> list[str]:
    """The address and port of the host that each tracked flow began with."""
    listing = machine.run("conntrack", "-L", "-f", f"ipv{version}", "-p", "udp", check=False)
    flows = re.findall(r"^udp .*? dst=(\S+) sport=\d+ dport=(\d+)", listing, re.MULTILINE)
    return sorted(f"{address} {port}" for address, port in flows)


@pytest.mark.parametrize("by", ["address", "server"])
@pytest.mark.parametrize("way", ["now", "before Linux 5.8", "many"])
@pytest.mark.parametrize(("version", "prefix"), [(4, "10.5.0."), (6, "fd05::")])
def test_only_the_flows_that_were_named(machine: Machine, version: int, prefix: str, way: str, by: str) -> None:
    machine.run("sh", "-ec", PREPARE)
    machine.run(sys.executable, "-c", SCRIPT, REPOSITORY, str(version), way, by)
    assert tracked(machine, version) == [f"{prefix}1 54", f"{prefix}2 53", f"{prefix}2 54"]


@pytest.mark.parametrize("way", ["no ctnetlink", "no netfilter netlink"])
@pytest.mark.parametrize("version", [4, 6])
def test_kernel_that_cannot_list_connections(machine: Machine, version: int, way: str) -> None:
    machine.run("sh", "-ec", PREPARE)
    machine.run(sys.executable, "-c", SCRIPT, REPOSITORY, str(version), way, "address")
    assert len(tracked(machine, version)) == 4


def test_refusal_is_an_error(machine: Machine) -> None:
    """EPERM does not mean that the kernel cannot do it."""
    machine.run("sh", "-ec", PREPARE)
    with pytest.raises(AssertionError, match="HostError"):
        machine.run(sys.executable, "-c", SCRIPT, REPOSITORY, "4", "not permitted", "address")
