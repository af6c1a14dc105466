"""Attachments of a bridge with a firewall behind it, and a firewalld of the machine's own."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from tests.support.machine import Machine, Outcome
from tests.support.network import attach, bridge, host_local

DEFAULT = [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
BUS = """
<busconfig>
  <type>system</type><listen>unix:path=/run/dbus/system_bus_socket</listen><auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/>
  </policy>
</busconfig>
"""
HAS_OWNER = "dbus-send --system --print-reply --dest=org.freedesktop.DBus / org.freedesktop.DBus.NameHasOwner"


def network(number: int = 1) -> dict[str, Any]:
    """A dual-stack bridge network with default routes: br1 with 10.77.1.0/24 and fd77:1::/64, and so on."""
    ipam = host_local(f"10.77.{number}.0/24", f"fd77:{number}::/64", routes=DEFAULT)
    return bridge(name=f"net{number}", bridge=f"br{number}", ipam=ipam)


def wall(backend: str = "", number: int = 1, **options: Any) -> dict[str, Any]:
    """The firewall's configuration in that network."""
    chosen = {"backend": backend} if backend else {}
    return {"cniVersion": "1.1.0", "name": f"net{number}", "type": "firewall", **chosen, **options}


def run(
    machine: Machine, verb: str, config: dict[str, Any], previous: Any, container: str = "c1", **more: Any
) -> Outcome:
    config = {**config, "prevResult": previous} if previous is not None else config
    return machine.plugin(
        "firewall", verb, config, **{"container_id": container, "netns": f"/run/netns/{container}", **more}
    )


def done(
    machine: Machine, verb: str, config: dict[str, Any], previous: Any, container: str = "c1", **more: Any
) -> Outcome:
    """The same, which must succeed without a word."""
    outcome = run(machine, verb, config, previous, container, **more)
    assert (outcome.status, outcome.stderr) == (0, ""), outcome
    return outcome


def wired(machine: Machine, config: dict[str, Any], container: str = "c1", number: int = 1) -> Any:
    """ADD of bridge and firewall; the result."""
    result = attach(machine, network(number), container)
    assert done(machine, "ADD", config, result, container).json == result
    return result


def made_up(number: int, *addresses: str, bridge: str = "br1") -> dict[str, Any]:
    """A previous result without a network behind it: for what only counts rules."""
    addresses = addresses or (f"10.77.1.{number}/24", f"fd77:1::{number:x}/64")
    interfaces = [{"name": bridge}, {"name": "eth0", "sandbox": "/run/netns/c1"}]
    return {
        "cniVersion": "1.1.0",
        "interfaces": interfaces,
        "ips": [{"address": each, "interface": 1} for each in addresses],
    }


def reached(machine: Machine, *ways: tuple[str, str]) -> list[bool]:
    """Of each (address, container from which it is pinged) whether it answers; all at once, as no answer takes long."""
    with ThreadPoolExecutor(len(ways)) as pool:
        return list(pool.map(lambda way: machine.ping(way[0], inside=way[1] or None), ways))


@contextmanager
def running_firewalld(machine: Machine) -> Iterator[None]:
    """firewalld on a system bus of its own."""
    machine.run("sh", "-c", "mkdir -p /run/dbus; cat >/run/bus.conf; mount -t tmpfs log /var/log", stdin=BUS.encode())
    daemons = [start(machine, "dbus-daemon", "--config-file=/run/bus.conf", "--nofork")]
    try:
        assert machine.wait_until(lambda: "system_bus_socket" in machine.run("ls", "/run/dbus"))
        daemons.append(start(machine, "firewalld", "--nofork", "--nopid"))
        assert machine.wait_until(lambda: owned(machine), 20)
        yield
    finally:
        for daemon in reversed(daemons):
            daemon.kill()
            daemon.communicate()


def start(machine: Machine, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(machine.enter(*words), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def owned(machine: Machine) -> bool:
    """Whether firewalld has its name on the bus."""
    return "boolean true" in machine.run("sh", "-c", f"{HAS_OWNER} string:org.fedoraproject.FirewallD1", check=False)


def ask_firewalld(machine: Machine, method: str, *arguments: str) -> list[str]:
    """A method of firewalld's interface for zones, and the strings of its answer; firewall-cmd takes half a second."""
    words = [
        "dbus-send",
        "--system",
        "--print-reply",
        "--dest=org.fedoraproject.FirewallD1",
        "/org/fedoraproject/FirewallD1",
    ]
    answer = machine.run(
        *words, f"org.fedoraproject.FirewallD1.zone.{method}", *(f"string:{each}" for each in arguments)
    )
    return re.findall(r'string "(.*)"', answer)


def sources(machine: Machine, zone: str = "trusted") -> list[str]:
    return ask_firewalld(machine, "getSources", zone)


def rules(machine: Machine, version: int = 4) -> list[str]:
    """The rules of table filter as iptables-save prints them."""
    program = "iptables-save" if version == 4 else "ip6tables-save"
    return [line for line in machine.run(program, "-t", "filter").splitlines() if line.startswith("-A ")]


def elements(machine: Machine) -> list[str]:
    """The addresses in the nftables backend's sets."""
    found = []
    for name in ("ipv4", "ipv6"):
        text = machine.run("nft", "-j", "list", "set", "inet", "cni_firewall", name, check=False) or "{}"
        for entry in json.loads(text).get("nftables", ()):
            found += [each["elem"]["val"] for each in entry.get("set", {}).get("elem", ())]
    return found
