"""What all attachments' iptables rules of portmap share: what it consists of, and what of it is there.

    -A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
    -A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
    -I POSTROUTING -m comment --comment "CNI portfwd requiring masquerade" -j CNI-HOSTPORT-MASQ
    -A CNI-HOSTPORT-SETMARK -m comment --comment "CNI portfwd masquerade mark" -j MARK --set-xmark 0x2000/0x2000
    -A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE

A chain is told here as ":CHAIN", a rule as iptables-save prints it without "-A".
"""

from __future__ import annotations

import sys

from ...host import iptables
from .mappings import SET_MARK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...host.namespace import Machine
    from ...host.nftables import Table
    from .mappings import Published

DNAT, MASQ = "CNI-HOSTPORT-DNAT", "CNI-HOSTPORT-MASQ"
PREROUTING, OUTPUT = (f"{chain} -m addrtype --dst-type LOCAL -j {DNAT}" for chain in ("PREROUTING", "OUTPUT"))
POSTROUTING = f'POSTROUTING -m comment --comment "CNI portfwd requiring masquerade" -j {MASQ}'


def wanted(published: Published) -> list[str]:
    """The chains and rules that an attachment's own need."""
    needed = [f":{DNAT}", PREROUTING, OUTPUT]
    if not published.snat or published.external_chain:
        return needed
    return [f":{SET_MARK}", _set_mark(published), f":{MASQ}", _masquerade(published), POSTROUTING, *needed]


def creation(missing: list[str]) -> list[str]:
    """The lines that make them. MASQ comes before what the interface plugins masquerade, and accept."""
    lines = []
    for each in missing:
        if each.startswith(":"):
            lines.append(f"-N {each[1:]}")  # which fails if another ADD was faster; ":CHAIN" would empty it
        else:
            lines.append(f"-{'I' if each == POSTROUTING else 'A'} {each}")
    return lines


def removal(made: list[str]) -> list[str]:
    """The lines that take them away again."""
    return [f"-X {each[1:]}" if each.startswith(":") else f"-D {each}" for each in reversed(made)]


def in_lines(lines: list[str]) -> set[str]:
    """All chains and rules in what iptables-save has printed."""
    rules = {line[3:] for line in lines if line.startswith("-A ")}
    return rules | {line.partition(" ")[0] for line in lines if line.startswith(":")}


def not_there(machine: Machine, version: int, published: Published, is_first: bool) -> list[str] | None:
    """What is missing of it, in order; None: only a program could tell. Before the first ADD all of it is."""
    if not iptables.is_on_nftables(version):
        return wanted(published) if is_first else None
    there = _by_netlink(machine, version, published)
    return [each for each in wanted(published) if each not in there]


def assertion(published: Published) -> list[str]:
    """The lines that fail, and with them all of an iptables-restore, unless it is there."""
    return [f"-C {each}" for each in wanted(published) if not each.startswith(":")]


def late(published: Published, lines: list[str]) -> list[str]:
    """The lines that put MASQ in front of what it must come before, in what iptables-save has printed."""
    rules = [line[3:] for line in lines if line.startswith("-A POSTROUTING ")]
    if POSTROUTING not in wanted(published) or POSTROUTING not in rules:
        return []
    before = rules[: rules.index(POSTROUTING)]
    return [f"-D {POSTROUTING}", f"-I {POSTROUTING}"] if any(_masquerades(rule) for rule in before) else []


def _masquerades(rule: str) -> bool:
    """Whether it leads to an interface plugin's chain: CNI- and 24 hexadecimal digits."""
    chain = rule.rpartition(" -j ")[2].partition(" ")[0]
    return chain.startswith("CNI-") and len(chain) == 28 and not chain[4:].strip("0123456789abcdef")


def table_of(machine: Machine, version: int) -> Table:
    """Table nat, where iptables keeps it in nftables."""
    from ...host.netlink.nft import NFPROTO_IPV4, NFPROTO_IPV6
    from ...host.nftables import Table

    return Table(machine.host, NFPROTO_IPV4 if version == 4 else NFPROTO_IPV6, "nat")


def _by_netlink(machine: Machine, version: int, published: Published) -> set[str]:
    """By looking at few chains and short ones only: there may be thousands of containers."""
    from ...host.nftables_nat import rules_in, uses_of

    table = table_of(machine, version)
    uses = {chain: uses_of(table, chain) for chain in (DNAT, MASQ, SET_MARK)}
    there = {f":{chain}" for chain, count in uses.items() if count >= 0}
    if uses[DNAT] > 0:
        for chain, rule in (("PREROUTING", PREROUTING), ("OUTPUT", OUTPUT)):
            if any(found.target == DNAT for found in rules_in(table, chain)):
                there.add(rule)
    mark = (1 << published.mark_bit).to_bytes(4, sys.byteorder)
    for chain, rule in ((SET_MARK, _set_mark(published)), (MASQ, _masquerade(published))):
        found_rules = rules_in(table, chain) if uses[chain] > 0 else []
        if any(mark in value for found in found_rules for value in found.values):
            there.add(rule)
        if chain == MASQ and uses[chain] > len(found_rules):  # somebody leads to it, which only POSTROUTING does
            there.add(POSTROUTING)
    return there


def _set_mark(published: Published) -> str:
    mark = f"{1 << published.mark_bit:#x}"
    return f'{SET_MARK} -m comment --comment "CNI portfwd masquerade mark" -j MARK --set-xmark {mark}/{mark}'


def _masquerade(published: Published) -> str:
    mark = f"{1 << published.mark_bit:#x}"
    return f"{MASQ} -m mark --mark {mark}/{mark} -j MASQUERADE"
