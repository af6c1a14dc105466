"""nftables over netlink, without a binary: tables, chains and rules as data, one transaction an operation."""

from __future__ import annotations

import errno
import sys

from .files import Doing
from .journal import HostError, word
from .namespace import refusal
from .netlink import nft
from .netlink.codec import attribute
from .netlink.socket import NLM_F_APPEND, NLM_F_CREATE, Netlink, NetlinkError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .namespace import Namespace

    Holding = bytes | Callable[[bytes, int, int], bool]
    Request = tuple[int, int, dict[str, Any]]
    Expression = dict[str, Any]

RULE_WANTED = frozenset(("NFTA_RULE_HANDLE", "NFTA_RULE_USERDATA"))
CHAIN_WANTED = frozenset(("NFTA_CHAIN_TABLE", "NFTA_CHAIN_NAME"))
FAMILIES = {nft.NFPROTO_INET: "inet", nft.NFPROTO_IPV4: "ip", nft.NFPROTO_IPV6: "ip6", nft.NFPROTO_BRIDGE: "bridge"}
ABSENT = (errno.ENOENT, errno.EPROTONOSUPPORT, errno.EOPNOTSUPP, errno.EINVAL)
"""No such table; or a kernel without nftables, or without that family."""
IFNAMSIZ = 16  # linux/if.h
COMMENT_LIMIT = 128
"""Bytes of a rule's comment that nft(8) shows."""


def open_socket(namespace: Namespace) -> Netlink:
    """A socket for nftables inside the namespace; HostError where the kernel has no nftables."""
    with namespace:
        try:
            return Netlink(nft.FAMILY)
        except OSError as error:
            raise HostError(error.errno or errno.EIO, "opening a netlink socket for nftables") from None


def usable(namespace: Namespace) -> bool:
    """Whether this kernel has nftables, and lets us see it."""
    try:
        with open_socket(namespace) as socket, Doing("asking the kernel for nftables"):
            socket.run((nft.NFT_MSG_GETGEN, 0, {"attrs": []}))
    except HostError as error:
        if error.errno in (*ABSENT, errno.EPERM, errno.EACCES):
            return False
        raise
    return True


def say(*commands: str) -> str:
    """nft(8) with these commands, which it carries out as one transaction."""
    return f"nft {word('; '.join(commands))}"


class Table:
    """One table of nftables; `family` is nft.NFPROTO_INET and so on. The methods make requests for `commit`."""

    def __init__(self, namespace: Namespace, family: int, name: str) -> None:
        self.namespace = namespace
        self.family = family
        self.name = name

    def add(self, comment: str = "") -> Request:
        """The table itself; no error if it is there."""
        name = ("NFTA_TABLE_NAME", self.name)
        return self._request(nft.NFT_MSG_NEWTABLE, NLM_F_CREATE, name, *_comment("TABLE", comment))

    def delete(self) -> Request:
        return self._request(nft.NFT_MSG_DELTABLE, 0, ("NFTA_TABLE_NAME", self.name))

    def add_chain(self, name: str, hook: tuple[str, int, int] | None = None) -> Request:
        """A chain; a base chain with `hook` = (type, hook number, priority). No error if it is there."""
        based: list[tuple[str, Any]] = []
        if hook is not None:
            kind, number, priority = hook
            placed = {"attrs": [("NFTA_HOOK_HOOKNUM", number), ("NFTA_HOOK_PRIORITY", priority)]}
            based = [("NFTA_CHAIN_HOOK", placed), ("NFTA_CHAIN_POLICY", nft.NF_ACCEPT), ("NFTA_CHAIN_TYPE", kind)]
        names = (("NFTA_CHAIN_TABLE", self.name), ("NFTA_CHAIN_NAME", name))
        return self._request(nft.NFT_MSG_NEWCHAIN, NLM_F_CREATE, *names, *based)

    def add_rule(self, chain: str, expressions: list[Expression], comment: str = "") -> Request:
        """A rule at the end of a chain."""
        return self._request(
            nft.NFT_MSG_NEWRULE,
            NLM_F_CREATE | NLM_F_APPEND,
            *self._place(chain),
            ("NFTA_RULE_EXPRESSIONS", expressions),
            *_comment("RULE", comment),
        )

    def delete_chain(self, name: str) -> Request:
        """A chain with its rules; nothing may lead to it any more."""
        return self._request(nft.NFT_MSG_DELCHAIN, 0, ("NFTA_CHAIN_TABLE", self.name), ("NFTA_CHAIN_NAME", name))

    def flush_chain(self, chain: str) -> Request:
        """Every rule of a chain goes."""
        return self._request(nft.NFT_MSG_DELRULE, 0, *self._place(chain))

    def delete_rule(self, chain: str, handle: int) -> Request:
        return self._request(nft.NFT_MSG_DELRULE, 0, *self._place(chain), ("NFTA_RULE_HANDLE", handle))

    def comments(self, chain: str) -> list[tuple[int, str]]:
        """(handle, comment) of each rule of a chain; none without table or chain."""
        return [
            (attribute(rule, "NFTA_RULE_HANDLE"), nft.unpack_comment(attribute(rule, "NFTA_RULE_USERDATA") or b""))
            for rule in self._dump(nft.NFT_MSG_GETRULE, self._place(chain), RULE_WANTED, f"chain {chain}")
        ]

    def chains(self) -> set[str]:
        """The names of the table's chains; none without the table."""
        found = self._dump(nft.NFT_MSG_GETCHAIN, [("NFTA_CHAIN_TABLE", self.name)], CHAIN_WANTED, "chains")
        return {
            attribute(chain, "NFTA_CHAIN_NAME")
            for chain in found
            if attribute(chain, "NFTA_CHAIN_TABLE") == self.name  # kernels tell those of all the family's tables
        }

    def _dump(
        self, kind: int, attributes: list[tuple[str, Any]], wanted: frozenset[str], what: str, holding: Holding = b""
    ) -> list[Any]:
        body = {"nfgen_family": self.family, "attrs": attributes}
        try:
            with open_socket(self.namespace) as socket:
                return socket.dump(kind, body, wanted, holding=holding)
        except (NetlinkError, HostError) as error:
            if error.errno in ABSENT:
                return []
            say = f"nft list {what} of table {FAMILIES[self.family]} {self.name}"
            raise HostError(error.errno or errno.EIO, say) from None

    def commit(self, say: str, *requests: Request) -> None:
        """Carry them out all together or not at all; the kernel's refusal becomes a HostError that tells `say`."""
        with open_socket(self.namespace) as socket:
            for error in socket.transaction(*requests):
                raise refusal(say, error)

    def _place(self, chain: str) -> list[tuple[str, Any]]:
        return [("NFTA_RULE_TABLE", self.name), ("NFTA_RULE_CHAIN", chain)]

    def _request(self, kind: int, flags: int, *attributes: tuple[str, Any]) -> Request:
        return kind, flags, {"nfgen_family": self.family, "attrs": list(attributes)}


def _comment(of: str, text: str) -> list[tuple[str, bytes]]:
    return [(f"NFTA_{of}_USERDATA", nft.pack_comment(text))] if text else []


# --- expressions, each list what `nft` makes of a few words


def ip_version(version: int) -> list[Expression]:
    """meta nfproto ipv4, or ipv6."""
    proto = nft.NFPROTO_IPV4 if version == 4 else nft.NFPROTO_IPV6
    return [_meta(nft.NFT_META_NFPROTO), _compare(nft.NFT_CMP_EQ, bytes((proto,)))]


def source(packed: bytes, prefix: int = 128, *, negate: bool = False) -> list[Expression]:
    """ip saddr, or ip6 saddr: an address of 4 or 16 bytes, or the network that its first `prefix` bits are."""
    return _address(12 if len(packed) == 4 else 8, packed, prefix, negate)


def destination(packed: bytes, prefix: int = 128, *, negate: bool = False) -> list[Expression]:
    """ip daddr, or ip6 daddr."""
    return _address(16 if len(packed) == 4 else 24, packed, prefix, negate)


def ethernet_source(mac: bytes) -> list[Expression]:
    """ether saddr, in a table of family bridge."""
    return [_payload(6, len(mac), nft.NFT_PAYLOAD_LL_HEADER), _compare(nft.NFT_CMP_EQ, mac)]


def input_interface(name: str, *, negate: bool = False) -> list[Expression]:
    """iifname."""
    operator = nft.NFT_CMP_NEQ if negate else nft.NFT_CMP_EQ
    return [_meta(nft.NFT_META_IIFNAME), _compare(operator, name.encode().ljust(IFNAMSIZ, b"\0"))]


def output_interface(name: str, *, negate: bool = False) -> list[Expression]:
    """oifname."""
    operator = nft.NFT_CMP_NEQ if negate else nft.NFT_CMP_EQ
    return [_meta(nft.NFT_META_OIFNAME), _compare(operator, name.encode().ljust(IFNAMSIZ, b"\0"))]


def source_in(name: str, version: int) -> list[Expression]:
    """ip saddr, or ip6 saddr, is in the set of that name."""
    return [_payload(*((12, 4) if version == 4 else (8, 16))), _lookup(name)]


def destination_in(name: str, version: int) -> list[Expression]:
    """ip daddr, or ip6 daddr, is in the set of that name."""
    return [_payload(*((16, 4) if version == 4 else (24, 16))), _lookup(name)]


def of_connection() -> list[Expression]:
    """ct state established,related."""
    states = nft.NF_CT_STATE_ESTABLISHED | nft.NF_CT_STATE_RELATED
    state = _expression("ct", ("NFTA_CT_DREG", nft.NFT_REG_1), ("NFTA_CT_KEY", nft.NFT_CT_STATE))
    return [state, _bitwise(states.to_bytes(4, sys.byteorder)), _compare(nft.NFT_CMP_NEQ, bytes(4))]


def masquerade() -> list[Expression]:
    return [{"attrs": [("NFTA_EXPR_NAME", "masq")]}]


def verdict(code: int, chain: str = "") -> list[Expression]:
    """return (nft.NFT_RETURN), jump or goto a chain."""
    found: list[tuple[str, Any]] = [("NFTA_VERDICT_CODE", code)]
    if chain:
        found.append(("NFTA_VERDICT_CHAIN", chain))
    data = {"attrs": [("NFTA_DATA_VERDICT", {"attrs": found})]}
    return [_expression("immediate", ("NFTA_IMMEDIATE_DREG", nft.NFT_REG_VERDICT), ("NFTA_IMMEDIATE_DATA", data))]


def _address(offset: int, packed: bytes, prefix: int, negate: bool) -> list[Expression]:
    operator = nft.NFT_CMP_NEQ if negate else nft.NFT_CMP_EQ
    whole, bits = divmod(min(prefix, 8 * len(packed)), 8)
    if bits == 0 and whole:  # nft(8) loads only the bytes that count
        return [_payload(offset, whole), _compare(operator, packed[:whole])]
    length = len(packed)
    mask = (((1 << 8 * length) - 1) ^ ((1 << 8 * length - prefix) - 1)).to_bytes(length, "big")
    network = bytes(a & b for a, b in zip(packed, mask, strict=True))
    return [_payload(offset, length), _bitwise(mask), _compare(operator, network)]


def _payload(offset: int, length: int, base: int = nft.NFT_PAYLOAD_NETWORK_HEADER) -> Expression:
    return _expression(
        "payload",
        ("NFTA_PAYLOAD_DREG", nft.NFT_REG_1),
        ("NFTA_PAYLOAD_BASE", base),
        ("NFTA_PAYLOAD_OFFSET", offset),
        ("NFTA_PAYLOAD_LEN", length),
    )


def _lookup(name: str) -> Expression:
    return _expression("lookup", ("NFTA_LOOKUP_SREG", nft.NFT_REG_1), ("NFTA_LOOKUP_SET", name))


def _bitwise(mask: bytes) -> Expression:
    return _expression(
        "bitwise",
        ("NFTA_BITWISE_SREG", nft.NFT_REG_1),
        ("NFTA_BITWISE_DREG", nft.NFT_REG_1),
        ("NFTA_BITWISE_LEN", len(mask)),
        ("NFTA_BITWISE_MASK", _value(mask)),
        ("NFTA_BITWISE_XOR", _value(bytes(len(mask)))),
    )


def _meta(key: int) -> Expression:
    return _expression("meta", ("NFTA_META_DREG", nft.NFT_REG_1), ("NFTA_META_KEY", key))


def _compare(operator: int, value: bytes) -> Expression:
    return _expression(
        "cmp", ("NFTA_CMP_SREG", nft.NFT_REG_1), ("NFTA_CMP_OP", operator), ("NFTA_CMP_DATA", _value(value))
    )


def _value(value: bytes) -> dict[str, Any]:
    return {"attrs": [("NFTA_DATA_VALUE", value)]}


def _expression(name: str, *attributes: tuple[str, Any]) -> Expression:
    return {"attrs": [("NFTA_EXPR_NAME", name), ("NFTA_EXPR_DATA", {"attrs": list(attributes)})]}
