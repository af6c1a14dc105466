"""Entries in iptables' dispatch chain that lead a port to a container of which there is no record: see taken.py.

-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \"mynet\" id: \"c1\"" -m multiport --dports 8080
    -j CNI-DN-9f9f5e1e1cbd6a3f1ff0e
-A CNI-DN-9f9f5e1e1cbd6a3f1ff0e -d 192.0.2.1/32 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.1.2.3:80
"""

from __future__ import annotations

from ... import log
from ...host import iptables
from ...host.journal import HostError
from ...spec.address import Address
from . import ports
from .iptables_rules import chain_of
from .iptables_shared import DNAT, table_of
from .mappings import Mapping
from .taken import Lead, refuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...host.namespace import Machine
    from .mappings import Published

ALWAYS_READ = 100
"""So many entries take the kernel half a millisecond to tell. More are read only if records explain fewer of them."""
JUMPS = 2  # of PREROUTING and OUTPUT


def worth_reading(machine: Machine, published: Published) -> list[int]:
    """The IP versions whose entries may name strangers. Of legacy iptables only the first: it takes a process."""
    found: list[int] = []
    for version in published.versions:
        if not iptables.is_on_nftables(version):
            return found or [version]
        uses = _uses(machine, version)
        if uses > 0 and (uses <= ALWAYS_READ or uses - JUMPS > ports.entries_of_others(published.owner)):
            found.append(version)
    return found


def require_free(machine: Machine, published: Published, version: int) -> None:
    """CniError 999 when an entry that no record explains leads one of the ports to another container."""
    own_chain = chain_of(published.owner)
    try:
        if iptables.is_on_nftables(version):
            leads = list(_by_netlink(machine, published, version, own_chain))
        else:
            leads = list(_in_lines(iptables.rules(version, "nat"), version, own_chain))
    except HostError as error:
        log.warning(f"whether somebody else has the ports is not known: {error}")
        return
    refuse(published, version, leads)


def _uses(machine: Machine, version: int) -> int:
    from ...host.nftables_nat import uses_of

    return uses_of(table_of(machine, version), DNAT)


def _by_netlink(machine: Machine, published: Published, version: int, own_chain: str) -> Iterator[Lead]:
    from ...host.nftables_nat import PROTOCOLS, destination_of, entries_of, rules_in

    names = {number: name for name, number in PROTOCOLS.items()}
    table, wanted = table_of(machine, version), {each.host_port for each in published.of(version)}
    for entry in entries_of(table, DNAT, wanted):
        if entry.target == own_chain:
            continue
        comment = (entry.matches.get("comment") or b"").partition(b"\0")[0].decode(errors="replace")
        for rule in rules_in(table, entry.target):
            protocol, port, packed = destination_of(rule)
            if not rule.target:  # else it sets the mark
                address = Address(packed) if packed else None
                yield _lead(comment, Mapping(names.get(protocol, ""), port, 0, address), version, entry.target)


def _in_lines(lines: list[str], version: int, own_chain: str) -> Iterator[Lead]:
    """The same from what iptables-save has printed."""
    comments = {}
    for line in lines:
        chain = line.rpartition(" -j ")[2]
        if line.startswith(f"-A {DNAT} ") and chain != own_chain:
            comments[chain] = line.replace('\\"', '"')
    for line in lines:
        words = line.split()
        if len(words) > 2 and words[0] == "-A" and words[1] in comments and " -j DNAT " in line:
            destination = _behind("-d", words).partition("/")[0]
            port = _behind("--dport", words)
            address = Address.parse(destination) if destination else None
            mapping = Mapping(_behind("-p", words), int(port) if port.isdigit() else 0, 0, address)
            yield _lead(comments[words[1]], mapping, version, words[1])


def _behind(flag: str, words: list[str]) -> str:
    return words[words.index(flag) + 1] if flag in words else ""


def _lead(comment: str, mapping: Mapping, version: int, chain: str) -> Lead:
    network, _, rest = comment.partition('name: "')[2].partition('" id: "')
    show = f"{iptables.NAMES[version]} -t nat -S {DNAT} | grep {chain}"
    return Lead(rest.partition('"')[0], network, mapping, f"`{show}` shows its rules, which -D for -A takes away")
