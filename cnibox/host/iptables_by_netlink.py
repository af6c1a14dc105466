"""A table of iptables, read over netlink, with the lines that `iptables-save` would print.

iptables keeps its tables in nftables on most machines. Other software (Tailscale, an administrator's `nft`) may add
rules there that iptables cannot show. Then `iptables-save` shows nothing of the whole table, although every rule of
iptables is there and works.

What CNI plugins write is shown as `iptables-save` shows it. Any other rule is shown by `OPAQUE`: it keeps its place.
"""

from __future__ import annotations

import errno
import sys
from _socket import AF_INET, AF_INET6, inet_ntop

from .journal import HostError
from .namespace import require_host
from .netlink import nft
from .netlink.codec import attribute
from .netlink.socket import Netlink
from .nftables_listing import EVERYTHING

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .nftables import Expression

OPAQUE = '-m comment --comment "a rule that iptables cannot show"'
FAMILY = {4: nft.NFPROTO_IPV4, 6: nft.NFPROTO_IPV6}
PROTOCOLS = {6: "tcp", 17: "udp", 132: "sctp"}
VERDICTS = {nft.NF_ACCEPT: "-j ACCEPT", nft.NF_DROP: "-j DROP", nft.NFT_RETURN: "-j RETURN"}
JUMPS = {nft.NFT_JUMP: "-j", nft.NFT_GOTO: "-g"}
ADDRESSES = {4: {(12, 4): "-s", (16, 4): "-d"}, 6: {(8, 16): "-s", (24, 16): "-d"}}
HEAD = ("-s", "-d", "-i", "-o", "-p")
"""The order in which iptables-save prints what comes before the matches."""
INTERFACES = {nft.NFT_META_IIFNAME: "-i", nft.NFT_META_OIFNAME: "-o"}


class _Unknown(Exception):
    """No plugin writes this."""


def lines(version: int, table: str) -> list[str]:
    """The chains of a table, then its rules in order."""
    of_table = {"nfgen_family": FAMILY[version], "attrs": [("NFTA_RULE_TABLE", table)]}
    require_host()
    try:
        with Netlink(nft.FAMILY) as socket:
            chains = socket.dump(nft.NFT_MSG_GETCHAIN, {"nfgen_family": FAMILY[version], "attrs": []}, EVERYTHING)
            rules = socket.dump(nft.NFT_MSG_GETRULE, of_table, EVERYTHING)
    except OSError as error:
        say = f"nft list table {'ip' if version == 4 else 'ip6'} {table}"
        raise HostError(error.errno or errno.EIO, say, error.strerror or "") from None
    names = [each for each in chains if attribute(each, "NFTA_CHAIN_TABLE") == table]
    shown = [
        f":{attribute(each, 'NFTA_CHAIN_NAME')} {'ACCEPT' if attribute(each, 'NFTA_CHAIN_HOOK') else '-'} [0:0]"
        for each in names
    ]
    for rule in rules:
        if attribute(rule, "NFTA_RULE_TABLE") == table:
            words = _words(version, attribute(rule, "NFTA_RULE_EXPRESSIONS") or [])
            shown.append(f"-A {attribute(rule, 'NFTA_RULE_CHAIN')} {words}")
    return shown


def _words(version: int, expressions: list[Expression]) -> str:
    rule = _Rule(version)
    try:
        for each in expressions:
            rule.add(attribute(each, "NFTA_EXPR_NAME"), attribute(each, "NFTA_EXPR_DATA") or {"attrs": []})
    except (_Unknown, IndexError, ValueError):
        return OPAQUE
    return " ".join([*(rule.head[each] for each in HEAD if each in rule.head), *rule.matches, rule.target]).strip()


class _Rule:
    """The words of one rule, expression by expression."""

    def __init__(self, version: int) -> None:
        self.version = version
        self.head: dict[str, str] = {}
        self.matches: list[str] = []
        self.target = ""
        self._loaded: tuple[str, int, int] = ("", 0, 0)
        self._mask = b""
        self._protocol = ""

    def add(self, name: str, data: Any) -> None:
        if name == "counter":
            return
        if name == "payload":
            base = {nft.NFT_PAYLOAD_NETWORK_HEADER: "network", nft.NFT_PAYLOAD_TRANSPORT_HEADER: "transport"}
            place = base.get(attribute(data, "NFTA_PAYLOAD_BASE"), "")
            self._load(place, attribute(data, "NFTA_PAYLOAD_OFFSET") or 0, attribute(data, "NFTA_PAYLOAD_LEN"))
        elif name == "meta":
            self._load("meta", attribute(data, "NFTA_META_KEY") or 0, 0)
        elif name == "bitwise":
            self._mask = attribute(data, "NFTA_BITWISE_MASK", "NFTA_DATA_VALUE") or b""
        elif name == "cmp":
            self._compare(attribute(data, "NFTA_CMP_OP") or 0, attribute(data, "NFTA_CMP_DATA", "NFTA_DATA_VALUE"))
        elif name == "match":
            self.matches.append(self._match(attribute(data, "NFTA_MATCH_NAME"), attribute(data, "NFTA_MATCH_INFO")))
        elif name == "target":
            kind, revision = attribute(data, "NFTA_TARGET_NAME"), attribute(data, "NFTA_TARGET_REV") or 0
            self.target = self._target(kind, revision, attribute(data, "NFTA_TARGET_INFO"))
        elif name == "immediate":
            self._verdict(attribute(data, "NFTA_IMMEDIATE_DATA", "NFTA_DATA_VERDICT"))
        elif name == "masq" and not data["attrs"]:
            self.target = "-j MASQUERADE"
        else:
            raise _Unknown

    def _load(self, place: str, offset: int, length: int) -> None:
        self._loaded, self._mask = (place, offset, length), b""

    def _compare(self, operator: int, value: bytes) -> None:
        if operator not in (nft.NFT_CMP_EQ, nft.NFT_CMP_NEQ):
            raise _Unknown
        negated = "! " if operator == nft.NFT_CMP_NEQ else ""
        place, offset, length = self._loaded
        if place == "meta" and offset in INTERFACES:
            name, end, _ = value.partition(b"\0")
            option, text = INTERFACES[offset], name.decode() + ("" if end or len(name) >= 15 else "+")
        elif (place, offset) == ("meta", nft.NFT_META_L4PROTO) or (self.version, place, offset) == (4, "network", 9):
            option, text = "-p", PROTOCOLS.get(value[0], str(value[0]))
            self._protocol = text
        elif (place, offset, length) == ("transport", 2, 2) and not self._mask:
            self.matches.append(f"-m {self._protocol} {negated}--dport {int.from_bytes(value, 'big')}")
            return
        elif (place, offset) == ("meta", nft.NFT_META_MARK):
            mask = int.from_bytes(self._mask, sys.byteorder) if self._mask else 0xFFFFFFFF
            self.matches.append(f"-m mark {negated}--mark {_marked(int.from_bytes(value, sys.byteorder), mask)}")
            return
        elif place == "network":
            option, text = self._address(offset, value)
        else:
            raise _Unknown
        self.head[option] = f"{negated}{option} {text}"

    def _address(self, offset: int, value: bytes) -> tuple[str, str]:
        """-s or -d: a prefix is a mask, or (of whole bytes) a shorter value."""
        for (start, size), option in ADDRESSES[self.version].items():
            if offset == start and len(value) <= size:
                mask = self._mask or b"\xff" * len(value)
                prefix = bin(int.from_bytes(mask, "big")).count("1")
                family = AF_INET if self.version == 4 else AF_INET6
                return option, f"{inet_ntop(family, value.ljust(size, bytes(1)))}/{prefix}"
        raise _Unknown

    def _verdict(self, verdict: Any) -> None:
        code = attribute(verdict, "NFTA_VERDICT_CODE") if verdict else None
        if code in JUMPS:
            self.target = f"{JUMPS[code]} {attribute(verdict, 'NFTA_VERDICT_CHAIN')}"
        elif code in VERDICTS:
            self.target = VERDICTS[code]
        else:
            raise _Unknown

    def _match(self, name: str, info: bytes) -> str:
        """The structures are those of linux/netfilter/xt_<name>.h."""
        if name == "comment":
            text = info.partition(b"\0")[0].decode(errors="replace")
            escaped = text.replace("\\", "\\\\").replace('"', '\\"')
            return f'-m comment --comment "{escaped}"'
        if name == "multiport" and info[0] == 1 and not any(info[32:48]):  # only destinations, no ranges
            return f"-m multiport --dports {','.join(str(_u16(info, 2 + 2 * at)) for at in range(info[1]))}"
        if name == "addrtype" and info[:8] == _packed(0, 2) + _packed(4, 2) + _packed(0, 4):
            return "-m addrtype --dst-type LOCAL"
        if name == "conntrack" and info[146:152] == _packed(1, 2) + _packed(0, 2) + _packed(6, 2):
            return "-m conntrack --ctstate RELATED,ESTABLISHED"
        if name in ("tcp", "udp") and info[:4] == _packed(0, 2) + _packed(65535, 2) and not any(info[8:12]):
            if info[4:6] == info[6:8]:
                return f"-m {name} --dport {_u16(info, 4)}"
        if name == "sctp" and info[:2] == info[2:4]:
            return f"-m sctp --dport {_u16(info, 0)}"
        if name == "mark" and not info[8]:
            return f"-m mark --mark {_marked(_u32(info, 0), _u32(info, 4))}"
        raise _Unknown

    def _target(self, name: str, revision: int, info: bytes) -> str:
        if name == "MARK" and revision == 2:
            return f"-j MARK --set-xmark {_u32(info, 0):#x}/{_u32(info, 4):#x}"
        compat = self.version == 4 and (name == "MASQUERADE" or revision == 0)  # struct nf_nat_ipv4_multi_range_compat
        flags = _u32(info, 4 if compat else 0)
        if name == "MASQUERADE" and not flags:
            return "-j MASQUERADE"
        if name == "DNAT" and flags == nft.NF_NAT_RANGE_MAP_IPS | nft.NF_NAT_RANGE_PROTO_SPECIFIED:
            start, port = (8, 16) if compat else (4, 36)
            family, size = (AF_INET, 4) if self.version == 4 else (AF_INET6, 16)
            address = inet_ntop(family, info[start : start + size])
            shown = address if self.version == 4 else f"[{address}]"
            return f"-j DNAT --to-destination {shown}:{int.from_bytes(info[port : port + 2], 'big')}"
        raise _Unknown


def _marked(mark: int, mask: int) -> str:
    return f"{mark:#x}" if mask == 0xFFFFFFFF else f"{mark:#x}/{mask:#x}"


def _packed(number: int, size: int) -> bytes:
    return number.to_bytes(size, sys.byteorder)


def _u16(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2], sys.byteorder)


def _u32(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], sys.byteorder)
