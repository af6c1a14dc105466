"""dummy: what only it has. Debian's plugins lack it: it is compared with what is known of the reference."""

from __future__ import annotations

import pytest

from tests.support.machine import Machine, links
from tests.support.network import attach, host_local
from tests.support.uplink import network

pytestmark = pytest.mark.kernel("dummy")


def test_link_and_addresses(machine: Machine) -> None:
    attach(machine, network("dummy", ipam=host_local(routes=[{"dst": "0.0.0.0/0"}])))
    link = machine.ip("-d", "-n", "c1", "address", "show", "eth0")[0]
    assert link["linkinfo"]["info_kind"] == "dummy" and {"UP", "NOARP"} <= set(link["flags"])
    addresses = {f"{each['local']}/{each['prefixlen']}" for each in link["addr_info"] if each["scope"] == "global"}
    assert addresses == {"10.77.0.2/24", "fd77::2/64"}
    assert machine.ip("-n", "c1", "route", "show", "default")[0]["gateway"] == "10.77.0.1"
    machine.run("ip", "-n", "c1", "link", "set", "lo", "up")
    assert machine.ping("10.77.0.2", inside="c1") and machine.ping("fd77::2", inside="c1")
    assert not machine.ping("10.77.0.3", inside="c1")


def test_host_has_a_link_of_that_name(machine: Machine) -> None:
    """It is made in the container (1.9.0), where there is none."""
    machine.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "eth1")
    attach(machine, network("dummy"))
    assert links(machine) == ["eth0", "eth1", "lo"] and links(machine, "c1") == ["eth0", "lo"]


@pytest.mark.parametrize("ipam", [None, {}, {"type": ""}])
def test_without_ipam(machine: Machine, ipam: object) -> None:
    machine.container()
    for command in ("ADD", "STATUS"):
        outcome = machine.plugin("dummy", command, network("dummy", ipam=ipam))
        assert outcome.code == 7 and "dummy needs an IPAM plugin" in outcome.json["msg"]
    assert links(machine, "c1") == ["lo"]
    assert machine.plugin("dummy", "DEL", network("dummy", ipam=ipam)).status == 0
