"""Policy routing: rules that say which table routes a packet, by its source address."""

from __future__ import annotations

import errno

from .journal import HostError
from .namespace import attempt
from .netlink import rtnl
from .netlink.rtnl import AF_INET, AF_INET6, AF_UNSPEC, FR_ACT_TO_TBL
from .netlink.socket import NLM_F_CREATE, NLM_F_EXCL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .namespace import Namespace

_PLAIN = frozenset(("FRA_SRC", "FRA_TABLE", "FRA_PRIORITY", "FRA_PROTOCOL", "FRA_SUPPRESS_PREFIXLEN"))
_NOT_SUPPRESSED = 0xFFFFFFFF


class Rule:
    """A rule as the kernel tells it. `source` is "10.1.2.3/32", empty when it is not by the source address alone."""

    def __init__(self, message: dict[str, Any]) -> None:
        found = dict(message["attrs"])
        self.table: int = found.get("FRA_TABLE", message["table"])
        self.priority: int = found.get("FRA_PRIORITY", 0)
        self.is_of_vrfs = bool(found.get("FRA_L3MDEV"))
        plain = found.keys() <= _PLAIN and found.get("FRA_SUPPRESS_PREFIXLEN", _NOT_SUPPRESSED) == _NOT_SUPPRESSED
        plain = plain and message["action"] == FR_ACT_TO_TBL and not (message["tos"] or message["flags"])
        self.source = f"{found['FRA_SRC']}/{message['src_len']}" if plain and "FRA_SRC" in found else ""


def of(namespace: Namespace) -> list[Rule]:
    """The rules of both IP versions, those that are asked first in front."""
    body = {"family": AF_UNSPEC, "attrs": []}
    return [Rule(message) for message in namespace.dump(f"{namespace.ip} rule show", rtnl.RTM_GETRULE, body)]


def known(namespace: Namespace) -> bool:
    """Whether the kernel has rules for IPv4 (CONFIG_IP_MULTIPLE_TABLES)."""
    try:
        namespace.dump(f"{namespace.ip} rule show", rtnl.RTM_GETRULE, {"family": AF_INET, "attrs": []})
    except HostError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EAFNOSUPPORT):
            return False
        raise
    return True


def add(namespace: Namespace, source: str, table: int) -> None:
    """Packets from that address are routed by that table, before all that have been added earlier; undone."""
    message = (rtnl.RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL, _body(source, table, 0))
    say = f"{_ip(namespace, source)} rule %s from {source} table {table}"
    taking_back = (rtnl.RTM_DELRULE, 0, _body(source, table, 0))

    def undo() -> None:
        attempt(lambda: namespace.send(say % "delete", taking_back), errno.ENOENT)

    namespace.change(say % "add", message, undo)


def remove(namespace: Namespace, rule: Rule) -> None:
    """Remove a rule by its source address; it may be gone already."""
    say = f"{_ip(namespace, rule.source)} rule delete from {rule.source} table {rule.table} priority {rule.priority}"
    message = (rtnl.RTM_DELRULE, 0, _body(rule.source, rule.table, rule.priority))
    attempt(lambda: namespace.change(say, message), errno.ENOENT)


def _ip(namespace: Namespace, source: str) -> str:
    """`ip rule` does not tell the IP version by the address."""
    return f"{namespace.ip} -6" if ":" in source else namespace.ip


def _body(source: str, table: int, priority: int) -> dict[str, Any]:
    address, _, length = source.partition("/")
    attributes: list[tuple[str, Any]] = [("FRA_SRC", address)]
    attributes += [("FRA_TABLE", table)] * (table > 255) + [("FRA_PRIORITY", priority)] * bool(priority)
    return {
        "family": AF_INET6 if ":" in address else AF_INET,
        "src_len": int(length),
        "table": table if table <= 255 else 0,
        "action": FR_ACT_TO_TBL,
        "attrs": attributes,
    }
