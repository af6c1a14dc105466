"""What is left of attachments outside their containers."""

from __future__ import annotations

from tests.support.machine import Machine, links


def traces(machine: Machine, container: str = "") -> list[str]:
    """Host interfaces, rules, leases and records; with `container` the rules, leases and records that name it."""
    rules = machine.run("sh", "-c", "iptables-save -t nat; ip6tables-save -t nat").splitlines()
    rules += machine.run(
        "nft", "list", "chain", "inet", "cni_plugins_masquerade", "masq_checks", check=False
    ).splitlines()
    found = [line.strip() for line in rules if "id: " in line or line.startswith(":CNI-")]
    found = [line for line in found if not line.startswith(":CNI-HOSTPORT-")]  # all containers' together, and stay
    script = "cd /; find run/cnibox/attachments -mindepth 1; grep -r . var/lib/cni/networks/*/[0-9a-f]*[.:]* /dev/null"
    found += machine.run("sh", "-c", f"({script}) 2>/dev/null", check=False).replace("\r", "").splitlines()
    if container:
        return [line for line in found if container in line]
    return found + [name for name in links(machine) if name.startswith("veth")]


def nothing_left(machine: Machine) -> bool:
    """The kernel needs a moment to take the host's ends of a deleted namespace away."""
    machine.wait_until(lambda: not traces(machine), 2)
    assert traces(machine) == []
    return True
