"""What all attachments' nftables rules of portmap share: table, chains, and the jumps that lead to the rules."""

from __future__ import annotations

from ...host import nftables
from ...host.netlink.nft import (
    NF_INET_LOCAL_OUT,
    NF_INET_POST_ROUTING,
    NF_INET_PRE_ROUTING,
    NFPROTO_IPV4,
    NFPROTO_IPV6,
    NFT_JUMP,
    PRIORITY_DSTNAT,
    PRIORITY_SRCNAT,
)
from ...host.nftables import Table
from ...host.nftables_nat import Rule, rules_in, to_local_address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...host.namespace import Machine
    from ...host.nftables import Expression, Request

NAME = "cni_hostport"
TABLE_COMMENT = "CNI portmap plugin"
HOSTPORTS, OLD_HOSTPORTS, ALL = "hostports", "hostip_hostports", "hostports_all"
PREROUTING, OUTPUT, MASQUERADING = "prerouting", "output", "masquerading"


def table_of(machine: Machine, version: int) -> Table:
    return Table(machine.host, NFPROTO_IPV4 if version == 4 else NFPROTO_IPV6, NAME)


def masquerading(table: Table) -> Request:
    return table.add_chain(MASQUERADING, ("nat", NF_INET_POST_ROUTING, PRIORITY_SRCNAT))


def jumps_missing(table: Table) -> list[str]:
    """The jumps that are not there, or have the conditions of an attachment that a Go plugin made."""
    found = {chain: [rule.outline for rule in rules_in(table, chain)] for chain in (ALL, PREROUTING, OUTPUT)}
    return [
        f"{chain}: jump {target}"
        for chain, target, expressions in _jumps()
        if Rule(expressions).outline not in found[chain]
    ]


def set_up(table: Table, snat: bool) -> list[Request]:
    """Make all of it; the chains with the jumps are filled anew, so that several first ADDs at once do no harm."""
    return [
        table.add(TABLE_COMMENT),
        table.add_chain(HOSTPORTS),
        table.add_chain(OLD_HOSTPORTS),
        table.add_chain(ALL),
        table.add_chain(PREROUTING, ("nat", NF_INET_PRE_ROUTING, PRIORITY_DSTNAT)),
        table.add_chain(OUTPUT, ("nat", NF_INET_LOCAL_OUT, PRIORITY_DSTNAT)),
        *([masquerading(table)] if snat else []),
        *(table.flush_chain(chain) for chain in (ALL, PREROUTING, OUTPUT)),
        *(table.add_rule(chain, expressions) for chain, _, expressions in _jumps()),
    ]


def set_up_commands(ip: str, snat: bool) -> list[str]:
    """The same for nft(8); `ip`: the table's family."""
    based = [(PREROUTING, "prerouting", "dstnat"), (OUTPUT, "output", "-100")]  # nft knows no dstnat there
    based += [(MASQUERADING, "postrouting", "srcnat")] * snat
    jumps = [f"{chain} {'fib daddr type local ' * (chain != ALL)}jump {target}" for chain, target, _ in _jumps()]
    return [
        f'add table {ip} {NAME} {{ comment "{TABLE_COMMENT}"; }}',
        *(f"add chain {ip} {NAME} {chain}" for chain in (HOSTPORTS, OLD_HOSTPORTS, ALL)),
        *(
            f"add chain {ip} {NAME} {chain} {{ type nat hook {hook} priority {priority}; policy accept; }}"
            for chain, hook, priority in based
        ),
        *(f"flush chain {ip} {NAME} {chain}" for chain in (ALL, PREROUTING, OUTPUT)),
        *(f"add rule {ip} {NAME} {jump}" for jump in jumps),
    ]


def delete_unused(table: Table) -> None:
    """Take it back, unless somebody has rules there by now; it may not have been made."""
    if table.chains() and not any(table.comments(chain) for chain in (HOSTPORTS, OLD_HOSTPORTS, MASQUERADING)):
        table.commit(f"nft delete table {nftables.FAMILIES[table.family]} {NAME}", table.delete())


def _jumps() -> list[tuple[str, str, list[Expression]]]:
    """(chain, target, rule): what is sent to the host itself is translated, never what it forwards (CVE-2025-67499)."""
    to_all = to_local_address() + nftables.verdict(NFT_JUMP, ALL)
    return [
        (ALL, OLD_HOSTPORTS, nftables.verdict(NFT_JUMP, OLD_HOSTPORTS)),
        (ALL, HOSTPORTS, nftables.verdict(NFT_JUMP, HOSTPORTS)),
        (PREROUTING, ALL, to_all),
        (OUTPUT, ALL, to_all),
    ]
