"""nftables: expressions of address translation, each list what `nft` makes of a few words; and reading rules back."""

from __future__ import annotations

import errno
import sys
from _struct import pack

from . import nftables
from .journal import HostError
from .netlink import nft
from .netlink.codec import attribute
from .netlink.rtnl import RTN_LOCAL
from .netlink.socket import NetlinkError
from .nftables import Table, _bitwise, _compare, _expression, _meta, _value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import Any

    from .nftables import Expression

PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
_MULTIPORT, _MULTIPORT_REACH = b"multiport\0", 80  # its name, revision and struct, with their headers
IPS_DST_NAT = 1 << 5  # linux/netfilter/nf_conntrack_common.h

# --- expressions


def destination_port(protocol: str, port: int) -> list[Expression]:
    """tcp dport 80."""
    load = _expression(
        "payload",
        ("NFTA_PAYLOAD_DREG", nft.NFT_REG_1),
        ("NFTA_PAYLOAD_BASE", nft.NFT_PAYLOAD_TRANSPORT_HEADER),
        ("NFTA_PAYLOAD_OFFSET", 2),
        ("NFTA_PAYLOAD_LEN", 2),
    )
    return [
        _meta(nft.NFT_META_L4PROTO),
        _compare(nft.NFT_CMP_EQ, bytes((PROTOCOLS[protocol],))),
        load,
        _compare(nft.NFT_CMP_EQ, port.to_bytes(2, "big")),
    ]


def to_local_address() -> list[Expression]:
    """fib daddr type local."""
    kind = _expression(
        "fib",
        ("NFTA_FIB_DREG", nft.NFT_REG_1),
        ("NFTA_FIB_RESULT", nft.NFT_FIB_RESULT_ADDRTYPE),
        ("NFTA_FIB_FLAGS", nft.NFTA_FIB_F_DADDR),
    )
    return [kind, _compare(nft.NFT_CMP_EQ, RTN_LOCAL.to_bytes(4, sys.byteorder))]


def of_translated_connection() -> list[Expression]:
    """ct status dnat."""
    status = _expression("ct", ("NFTA_CT_DREG", nft.NFT_REG_1), ("NFTA_CT_KEY", nft.NFT_CT_STATUS))
    return [status, _bitwise(IPS_DST_NAT.to_bytes(4, sys.byteorder)), _compare(nft.NFT_CMP_NEQ, bytes(4))]


def translate_destination(packed: bytes, port: int) -> list[Expression]:
    """dnat to 10.1.2.3:80; the address as 4 or 16 bytes."""
    return [
        _immediate(nft.NFT_REG_1, packed),
        _immediate(nft.NFT_REG_2, port.to_bytes(2, "big")),
        _expression(
            "nat",
            ("NFTA_NAT_TYPE", nft.NFT_NAT_DNAT),
            ("NFTA_NAT_FAMILY", nft.NFPROTO_IPV4 if len(packed) == 4 else nft.NFPROTO_IPV6),
            ("NFTA_NAT_REG_ADDR_MIN", nft.NFT_REG_1),
            ("NFTA_NAT_REG_PROTO_MIN", nft.NFT_REG_2),
        ),
    ]


def _immediate(register: int, value: bytes) -> Expression:
    return _expression("immediate", ("NFTA_IMMEDIATE_DREG", register), ("NFTA_IMMEDIATE_DATA", _value(value)))


# --- reading


class Rule:
    """A rule: the values that its expressions compare with or load, in order. There may be 10,000 to be compared."""

    def __init__(self, expressions: list[Expression]) -> None:
        self.expressions = expressions
        self.values: list[bytes] = []
        for each in expressions:
            _add_values(each, self.values)

    @property
    def kinds(self) -> list[str]:
        """The names of its expressions."""
        return [attribute(each, "NFTA_EXPR_NAME") for each in self.expressions]

    @property
    def target(self) -> str:
        """The chain that it leads to, if any."""
        return next(_targets(self.expressions), "")

    @property
    def matches(self) -> dict[str, bytes]:
        """Name of an iptables match -> its struct, as linux/netfilter/xt_<name>.h has it."""
        return dict(_matches(self.expressions))

    @property
    def outline(self) -> tuple[list[str], list[bytes], str]:
        """In which two rules that do the same are equal."""
        return self.kinds, self.values, self.target

    def ending(self, count: int) -> tuple[str, tuple[bytes, ...]]:
        """Its last expression and values: equal in two rules that do the same besides conditions before them."""
        return attribute(self.expressions[-1], "NFTA_EXPR_NAME"), tuple(self.values[-count:])


def entries_of(table: Table, chain: str, ports: set[int]) -> list[Rule]:
    """Of a chain's rules those with iptables' multiport match of one of the ports; quick also among thousands.

    A port that another part of a rule happens to look like may be among them.
    """
    packed = [port.to_bytes(2, sys.byteorder) for port in ports]

    def may_match(data: bytes, start: int, stop: int) -> bool:
        at = data.find(_MULTIPORT, start, stop)
        return at >= 0 and any(data.find(port, at, min(stop, at + _MULTIPORT_REACH)) >= 0 for port in packed)

    place = table._place(chain)
    found = table._dump(nft.NFT_MSG_GETRULE, place, _EXPRESSIONS, f"chain {chain}", may_match)
    rules = [Rule(attribute(each, "NFTA_RULE_EXPRESSIONS") or []) for each in found]
    return [rule for rule in rules if not ports.isdisjoint(multiport(rule))]


def multiport(rule: Rule) -> list[int]:
    """The ports of iptables' multiport match: struct xt_multiport_v1 of u8 flags, u8 count, u16 ports[15], ..."""
    info = rule.matches.get("multiport") or bytes(2)
    return [int.from_bytes(info[at : at + 2], sys.byteorder) for at in range(2, 2 + 2 * info[1], 2)]


def destination_of(rule: Rule) -> tuple[int, int, bytes]:
    """(protocol, port, address) that an iptables rule matches packets to; 0 and empty where it does not say."""
    protocol = port = 0
    address = b""
    for value in rule.values:
        if value in rule.matches.values():
            continue
        if len(value) == 1:
            protocol = value[0]
        elif len(value) == 2:  # iptables 1.8.8 and newer, for tcp and udp
            port = int.from_bytes(value, "big")
        elif len(value) in (4, 16):
            address = value
    for name, at in (("tcp", 4), ("udp", 4), ("sctp", 0)):  # u16 spts[2], dpts[2]; sctp has dpts first
        if name in rule.matches:
            port = int.from_bytes(rule.matches[name][at : at + 2], sys.byteorder)
    return protocol, port, address


def rules_with(table: Table, chain: str, comment: str, ports: Collection[int]) -> list[tuple[int, str, Rule]]:
    """(handle, comment, rule) of the rules that have just that comment, or compare a value of 2 bytes with a port.

    Quick also in a chain of thousands of others.
    """
    own, packed = nft.pack_comment(comment), {port.to_bytes(2, "big") for port in ports}
    # As the kernel tells a comparison: struct nlattr of NFTA_CMP_DATA (3), in it that of NFTA_DATA_VALUE (1).
    comparison = pack("HHHH", 12, 3, 6, 1)

    def may_match(data: bytes, start: int, stop: int) -> bool:
        if data.find(own, start, stop) >= 0:
            return True
        at = data.find(comparison, start, stop) if packed else -1
        while at >= 0 and data[at + 8 : at + 10] not in packed:
            at = data.find(comparison, at + 8, stop)
        return at >= 0

    wanted = _EXPRESSIONS | nftables.RULE_WANTED
    found = table._dump(nft.NFT_MSG_GETRULE, table._place(chain), wanted, f"chain {chain}", may_match)
    return [
        (
            attribute(each, "NFTA_RULE_HANDLE"),
            nft.unpack_comment(attribute(each, "NFTA_RULE_USERDATA") or b""),
            Rule(attribute(each, "NFTA_RULE_EXPRESSIONS") or []),
        )
        for each in found
    ]


def rules_in(table: Table, chain: str) -> list[Rule]:
    """The rules of a short chain, all of which are decoded; none without table or chain."""
    return [
        Rule(attribute(found, "NFTA_RULE_EXPRESSIONS") or [])
        for found in table._dump(nft.NFT_MSG_GETRULE, table._place(chain), _EXPRESSIONS, f"chain {chain}")
    ]


def uses_of(table: Table, chain: str) -> int:
    """How many rules a chain has, and how many lead to it, added up; -1 without that chain."""
    found = _get(table, nft.NFT_MSG_GETCHAIN, [("NFTA_CHAIN_TABLE", table.name), ("NFTA_CHAIN_NAME", chain)])
    return -1 if found is None else int(attribute(found, "NFTA_CHAIN_USE") or 0)


_EXPRESSIONS = frozenset(
    ("NFTA_RULE_EXPRESSIONS", "NFTA_EXPR_NAME", "NFTA_EXPR_DATA", "NFTA_CMP_DATA", "NFTA_BITWISE_MASK")
    + ("NFTA_IMMEDIATE_DATA", "NFTA_DATA_VALUE", "NFTA_DATA_VERDICT", "NFTA_VERDICT_CHAIN")
    + ("NFTA_MATCH_NAME", "NFTA_MATCH_INFO", "NFTA_TARGET_INFO")
)


def _get(table: Table, kind: int, attributes: list[tuple[str, Any]]) -> dict[str, Any] | None:
    with nftables.open_socket(table.namespace) as socket:
        try:
            return socket.ask((kind, 0, {"nfgen_family": table.family, "attrs": attributes}))
        except NetlinkError as error:
            if error.errno == errno.ENOENT:
                return None
            raise HostError(error.errno or errno.EIO, f"reading table {table.name} of nftables") from None


_CONTENTS = frozenset(("NFTA_DATA_VALUE", "NFTA_MATCH_INFO", "NFTA_TARGET_INFO"))
_AROUND = frozenset(("NFTA_EXPR_DATA", "NFTA_CMP_DATA", "NFTA_BITWISE_MASK", "NFTA_IMMEDIATE_DATA"))


def _add_values(message: dict[str, Any], values: list[bytes]) -> None:
    """Add what is compared with or loaded, in order, and the contents of iptables' own matches and targets."""
    for name, value in message["attrs"]:
        if name in _CONTENTS:
            values.append(value)
        elif name in _AROUND and value.__class__ is dict:
            _add_values(value, values)


def _matches(expressions: list[Expression]) -> Iterator[tuple[str, bytes]]:
    for each in expressions:
        if attribute(each, "NFTA_EXPR_NAME") == "match":
            data = attribute(each, "NFTA_EXPR_DATA") or {}
            yield attribute(data, "NFTA_MATCH_NAME") or "", attribute(data, "NFTA_MATCH_INFO") or b""


def _targets(expressions: list[Expression]) -> Iterator[str]:
    for each in expressions:
        chain = attribute(each, "NFTA_EXPR_DATA", "NFTA_IMMEDIATE_DATA", "NFTA_DATA_VERDICT", "NFTA_VERDICT_CHAIN")
        if chain:
            yield chain
