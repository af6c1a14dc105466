"""The state of a machine as a flat table, path -> value, in which two machines with the same state are equal.

What the kernel or a plugin makes up at random is replaced: host veth names by veth-1, veth-2 in the order of their
creation, MAC addresses by "random" unless the request names them; interface indexes and timers are left out.
"""

from __future__ import annotations

import json
import re
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.support.machine import Machine

SETTLED_LIMIT = 4.0
"""Seconds for carriers and tentative addresses to settle: the kernel reports a carrier at most once a second."""

_SCRIPT = """
printf 'link\\naddress\\nroute show table all\\nrule\\n' | ip -d -j -batch -
ip -6 -j rule
nft list tables
tc -d qdisc show | grep -v ' noqueue ' | sed 's/^/qdisc: /'
for dev in $(tc qdisc show | sed -n 's/^qdisc ingress .* dev \\([^ ]*\\) .*/\\1/p'); do
    tc -d filter show dev $dev ingress | sed "s/^/filter $dev: /"
done
bridge -json vlan show | sed 's/^/vlans: /'
cd /proc/sys/net && grep -r . ipv4/conf ipv6/conf ipv4/ip_forward 2>/dev/null || true
"""
# Of a link: what tells nothing, or tells it a second time, or counts time.
_DROPPED = re.compile(
    r"ifindex|link_index|link_netnsid|link_netns|broadcast|promiscuity|allmulti|(bridge|root)_id|designated_.*|\w*_timer|"
    r"topology_change\w*|addr_info|group"
)
_MAC = re.compile(r"\b(?:[0-9a-f]{2}:){5}[0-9a-f]{2}\b")
_LINK_LOCAL = re.compile(r"\bfe80::[0-9a-f:]+")
_VETH = re.compile(r"\bveth[0-9a-f]{8}\b")

State = dict[str, str]


class Observer:
    """Observes one machine; keeps the names that it gave to random ones. The MACs in `request` are not random."""

    def __init__(self, machine: Machine, request: str = "", containers: tuple[str, ...] = ("c1",)) -> None:
        self.machine = machine
        self.containers = containers
        self.asked = set(_MAC.findall(request.lower()))
        self.names: dict[str, str] = {}

    def network(self) -> State:
        """Links, addresses, routes, rules, packet filter and sysctls of the machine and its containers; files."""
        state = self.files()
        for name in ("", *self.containers):
            place = f"in {name}" if name else "host"
            state |= {f"{place}: {path}": value for path, value in self._settled(name).items()}
        for program in ("iptables", "ip6tables"):  # with nftables beneath: whether containers have rules, nft tells
            rules = self.machine.run(f"{program}-save")
            state |= {f"host: {program} {path}": value for path, value in _rules(rules)}
        return state

    def files(self, pattern: str = "") -> State:
        """Everything below /var/lib/cni and /run/cni whose path there matches: modes and contents."""
        state: State = {}
        root = Path(f"/proc/{self.machine.process.pid}/root")
        found = [(path, top) for top in (root / "var/lib/cni", root / "run/cni") for path in top.rglob("*")]
        for path, top in found:
            name = str(path.relative_to(top))
            if re.search(pattern, name):
                mode = path.lstat().st_mode
                state[f"file {name}"] = stat.filemode(mode)
                if stat.S_ISREG(mode):
                    state[f"file {name} content"] = self.text(repr(path.read_bytes()))
        return state

    def text(self, text: str) -> str:
        """A text with what is random in it replaced."""
        text = _VETH.sub(lambda found: self.names.setdefault(found[0], f"veth-{len(self.names) + 1}"), text)
        text = _LINK_LOCAL.sub("fe80::random", text)
        return _MAC.sub(lambda found: found[0] if found[0] in self.asked or len(set(found[0])) < 4 else "random", text)

    def _settled(self, name: str) -> State:
        """Of one namespace, once carriers have been reported, and no address is tentative any more."""
        words = ["nsenter", f"--net=/run/netns/{name}"] if name else []
        deadline = time.monotonic() + SETTLED_LIMIT
        while True:
            lines = self.text(self.machine.run(*words, "sh", "-c", _SCRIPT)).splitlines()
            documents = [json.loads(line) for line in lines if line[0] == "["]
            if _is_settled(documents[0], documents[1]) or time.monotonic() > deadline:
                return dict(_parse(documents, [line for line in lines if line[0] != "["]))
            time.sleep(0.1)


def _is_settled(links: list[Any], addresses: list[Any]) -> bool:
    masters = {link.get("master") for link in links if "UP" in link["flags"]}
    for link in links:
        kind, is_up = link.get("linkinfo", {}).get("info_kind"), link["operstate"] == "UP"
        if kind == "bridge" and "UP" in link["flags"] and is_up != (link["ifname"] in masters):
            return False
        if kind == "veth" and "LOWER_UP" in link["flags"] and "UP" in link["flags"] and not is_up:
            return False
    return not any(address.get("tentative") for link in addresses for address in link["addr_info"])


def _parse(documents: list[Any], lines: list[str]) -> Iterator[tuple[str, str]]:
    links, addresses, routes, *rules = documents
    for link in links:
        yield from _flat(f"link {link['ifname']}", link)
    for link in addresses:
        for address in link["addr_info"]:
            path = f"address {link['ifname']} {address.pop('local')}/{address.pop('prefixlen')}"
            yield from _flat(path, address)
    yield from _numbered("route", [routes], ("table", "dst", "metric", "dev"))
    yield from _numbered("rule", rules, ("priority", "table"))
    seen: dict[str, int] = {}
    for line in lines:
        if line.startswith("vlans: "):
            for port in json.loads(line.removeprefix("vlans: ")):
                yield from (
                    (f"vlan {port['ifname']} {vlan['vlan']}", json.dumps(vlan.get("flags"))) for vlan in port["vlans"]
                )
        elif line.startswith("table "):
            yield f"nft {line}", "there"
        elif line.startswith(("qdisc: ", "filter ")):
            key, _, value = line.partition(": ")
            seen[key] = seen.get(key, 0) + 1
            yield f"{key} #{seen[key]}", value.strip()
        else:
            key, _, value = line.partition(":")
            yield f"sysctl {key}", value


def _flat(path: str, value: Any) -> Iterator[tuple[str, str]]:
    """(path, value) for each leaf of nested objects; an empty object or list is one, too."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            if not _DROPPED.fullmatch(key):
                yield from _flat(f"{path} {key}", item)
    else:
        yield path, json.dumps(value, sort_keys=True)


def _numbered(kind: str, lists: list[Any], keys: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Routes and rules; of those that differ in other things than `keys`, the order matters."""
    seen: dict[str, int] = {}
    for item in (item for items in lists for item in items):
        name = f"{kind} " + " ".join(str(item.pop(key, "-")) for key in keys)
        seen[name] = seen.get(name, 0) + 1
        yield f"{name} #{seen[name]}", json.dumps(item, sort_keys=True)


def _rules(text: str) -> Iterator[tuple[str, str]]:
    """What iptables-save prints: chains, and the rules of each with their places."""
    table = ""
    seen: dict[str, int] = {}
    for line in text.splitlines():
        words = line.split(" ")
        if line[0] == "*":
            table = line[1:]
        elif line[0] == ":":
            yield f"{table} chain {words[0][1:]}", words[1]
        elif line[0] == "-":
            path = f"{table} {words[1]}"
            seen[path] = seen.get(path, 0) + 1
            yield f"{path} rule {seen[path]}", line


def flat_result(value: Any, path: str = "") -> State:
    """A decoded result or error, flat, without the empty "dns" that old versions print."""
    if isinstance(value, dict):
        items = [(str(key), item) for key, item in value.items() if not (key == "dns" and item == {})]
    elif isinstance(value, list):
        items = [(str(index), item) for index, item in enumerate(value)]
    else:
        return {path: json.dumps(value)}
    found: State = {}
    for key, item in items:
        found |= flat_result(item, f"{path}.{key}" if path else key)
    return found or {path: "empty"}
