"""The bridge of an ingress policy: its ports, and who else needs its rules."""

from __future__ import annotations

from ... import record
from ...host import links
from ...spec import errors
from ...spec.errors import CniError
from ...spec.jsontext import quoted
from ...spec.request import interface_name_fault
from .part import ISOLATED, SAME_BRIDGE, part_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...host.links import Link
    from ...host.namespace import Machine
    from ...record import Record
    from ...spec.result import Result
    from .part import Part


def bridge_of(result: Result, policy: str) -> str:
    """The first interface of the previous result, as in the reference; CniError 7 if it cannot be one."""
    if not result.interfaces:
        text = f"interface needs to be set for ingress policy {quoted(policy)}"
        raise CniError(errors.INVALID_CONFIG, text, 'make sure to chain "firewall" plugin with "bridge"')
    name = result.interfaces[0].name
    if not is_plain(name):
        text = f"prevResult's first interface, {quoted(name)}, cannot be the bridge of ingress policy {quoted(policy)}"
        raise CniError(errors.INVALID_CONFIG, text)
    return name


def is_plain(name: str) -> bool:
    """Whether a rule can have that interface name: one that ends in + means many, quotes and - mean something else."""
    return not interface_name_fault(name)[0] and not set(name) & set("\"'\\+!") and name[0] != "-"


def host_interfaces(result: Result) -> list[str]:
    return [each.name for each in result.interfaces if not each.sandbox and is_plain(each.name)]


def ports_among(machine: Machine, bridge: str, names: list[str]) -> list[Link]:
    """Those of the interfaces that are ports of the bridge."""
    master = links.find(machine.host, bridge) if names else None
    if master is None:
        return []
    found = [links.find(machine.host, name) for name in names]
    return [link for link in found if link is not None and link.master == master.index]


def others_of(mine: Record) -> Iterator[Record]:
    """The same plugin's records of all other attachments."""
    return (found for found in record.each(mine.plugin) if found.path != mine.path)


def policies_of_others(machine: Machine, part: Part, mine: Record, ports: list[str], backend: str) -> set[str]:
    """The ingress policies of the part's bridge that other attachments need by that backend.

    By iptables, whose rules are of one IP version, only attachments with an address of the part's versions count.
    ports: the names of the attachment's own host interfaces
    """
    found: set[str] = set()
    recorded = [each for each in others_of(mine) if str(each.facts.get("filter") or "iptables") == backend]
    for other in map(part_of, recorded):
        same_version = backend != "iptables" or not set(part.versions).isdisjoint(other.versions)
        if other.bridge == part.bridge and same_version:
            found.add(other.policy)
            if part.policy in found:
                return found  # nothing can go
    # Of what a Go plugin made there is no record, but a port of the bridge, and rules by iptables.
    if backend == "iptables" and _has_other_ports(machine, part.bridge, ports):
        from . import iptables

        held = [*part.addresses, *(address for other in others_of(mine) for address in part_of(other).accepted)]
        if iptables.accepts_others(part.versions, held):
            return {SAME_BRIDGE, ISOLATED}
    return found


def _has_other_ports(machine: Machine, bridge: str, ports: list[str]) -> bool:
    link = links.find(machine.host, bridge)
    return link is not None and any(port.name not in ports for port in links.ports(machine.host, link))
