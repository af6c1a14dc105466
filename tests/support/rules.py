"""The packet filters' rules as their programs print them."""

from __future__ import annotations

import re

from tests.support.machine import Machine


def ruleset(machine: Machine, *, table: str = "") -> str:
    """Without counters, dates and handles; of iptables that table, by default all.

    nftables is asked for one family after the other: iptables-restore makes the tables of both IP versions at once.
    """
    only = f" -t {table}" if table else ""
    families = "for family in ip ip6 inet bridge; do nft list ruleset $family; done"
    text = machine.run("sh", "-c", f"iptables-save{only}; ip6tables-save{only}; {families}", check=False)
    return re.sub(r"(?m)^#.*\n| \[\d+:\d+\]|(?<=packets )\d+|(?<=bytes )\d+", "", text)
