"""Kernel features that tests need: `@pytest.mark.kernel("ipvlan", "vrf")`, and whether the running kernel has them."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

import pytest

IN_UML = "User Mode Linux" in Path("/proc/cpuinfo").read_text()

_VETH = "ip link add name v0 type veth peer name v1"
_U32 = "tc qdisc add dev lo ingress; tc filter add dev lo parent ffff: protocol all prio 1 u32 match u32 0 0"
PROBES = {
    "8021q": f"{_VETH}; ip link add name t0 link v0 type vlan id 5",
    "bridge-vlan": "ip link add name t0 type bridge vlan_filtering 1",
    "dummy": "ip link add name t0 type dummy",
    "ifb": "ip link add name t0 type ifb",
    "ingress": "tc qdisc add dev lo ingress",
    "ipvlan": f"{_VETH}; ip link add name t0 link v0 type ipvlan",
    "macvlan": f"{_VETH}; ip link add name t0 link v0 type macvlan",
    "mirred": f"{_U32} action mirred egress redirect dev lo",
    "selinux": "grep -q selinuxfs /proc/filesystems",
    "tbf": "tc qdisc add dev lo root tbf rate 1mbit burst 10kb latency 25ms",
    "tun": "ip tuntap add name t0 mode tap",
    "u32": f"{_U32} flowid 1:1",
    "uml": "grep -q 'User Mode Linux' /proc/cpuinfo",  # a kernel of the tests' own, from which modules can be taken
    "vrf": "ip link add name t0 type vrf table 10",
}
"""Feature -> shell commands that only a kernel with it carries out, in a network namespace of their own."""


@functools.cache
def complaint(feature: str) -> str:
    """What the attempt to use the feature says; empty if the running kernel has it."""
    done = subprocess.run(["unshare", "--net", "sh", "-ec", PROBES[feature]], capture_output=True, text=True)
    return (done.stderr.strip() or f"exit {done.returncode}") if done.returncode else ""


def missing(item: pytest.Item) -> list[str]:
    """The features that a test needs and the running kernel lacks."""
    needed = {feature for mark in item.iter_markers("kernel") for feature in mark.args}
    if unknown := needed - PROBES.keys():
        raise pytest.UsageError(
            f"{item.nodeid}: unknown kernel features {sorted(unknown)}: see tests/support/kernel.py"
        )
    return sorted(feature for feature in needed if complaint(feature))
