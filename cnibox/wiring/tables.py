"""Routing tables of a container: which of them nobody uses."""

from __future__ import annotations

from ..host.netlink.rtnl import RT_TABLE_DEFAULT, RT_TABLE_LOCAL, RT_TABLE_MAIN, RT_TABLE_UNSPEC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host.namespace import Namespace
    from ..host.routes import Route
    from ..host.rules import Rule

RESERVED = frozenset((RT_TABLE_UNSPEC, RT_TABLE_DEFAULT, RT_TABLE_MAIN, RT_TABLE_LOCAL))


def in_use(sandbox: Namespace, rules: list[Rule], routes: list[Route]) -> set[int]:
    """The numbers of those that are reserved, or that one of all the rules, routes and VRFs of a namespace names."""
    found = {*RESERVED, *(rule.table for rule in rules), *(route.table for route in routes)}
    if any(rule.is_of_vrfs for rule in rules):  # the kernel makes such a rule with a namespace's first VRF
        from ..host import vrfs  # which few containers have

        found.update(map(vrfs.table_of, vrfs.of(sandbox)))
    return found


def lowest_free(first: int, used: set[int]) -> int:
    """The lowest number from `first` on that is not used."""
    while first in used:
        first += 1
    return first
