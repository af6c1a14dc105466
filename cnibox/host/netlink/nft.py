"""nftables: linux/netfilter/nf_tables.h.

Message types here contain the number of the subsystem. Numbers are in network order; what a register is
loaded with or compared to is bytes: in the packet's order, for most of `meta` and `ct` in the host's.
"""

from __future__ import annotations

from .codec import Family

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NETLINK_NETFILTER = 12

_SUBSYSTEM = 10 << 8
NFT_MSG_NEWTABLE, NFT_MSG_GETTABLE, NFT_MSG_DELTABLE = _SUBSYSTEM, _SUBSYSTEM + 1, _SUBSYSTEM + 2
NFT_MSG_NEWCHAIN, NFT_MSG_GETCHAIN, NFT_MSG_DELCHAIN = _SUBSYSTEM + 3, _SUBSYSTEM + 4, _SUBSYSTEM + 5
NFT_MSG_NEWRULE, NFT_MSG_GETRULE, NFT_MSG_DELRULE = _SUBSYSTEM + 6, _SUBSYSTEM + 7, _SUBSYSTEM + 8
NFT_MSG_NEWSET, NFT_MSG_GETSET, NFT_MSG_DELSET = _SUBSYSTEM + 9, _SUBSYSTEM + 10, _SUBSYSTEM + 11
NFT_MSG_NEWSETELEM, NFT_MSG_GETSETELEM, NFT_MSG_DELSETELEM = _SUBSYSTEM + 12, _SUBSYSTEM + 13, _SUBSYSTEM + 14
NFT_MSG_NEWGEN, NFT_MSG_GETGEN = _SUBSYSTEM + 15, _SUBSYSTEM + 16

NFPROTO_INET, NFPROTO_IPV4, NFPROTO_BRIDGE, NFPROTO_IPV6 = 1, 2, 7, 10

# Hooks of ip, ip6, inet and bridge, and the priorities by their names in nft(8).
NF_INET_PRE_ROUTING, NF_INET_LOCAL_IN, NF_INET_FORWARD = 0, 1, 2
NF_INET_LOCAL_OUT, NF_INET_POST_ROUTING = 3, 4
NF_BR_PRE_ROUTING = 0
PRIORITY_MANGLE, PRIORITY_DSTNAT, PRIORITY_FILTER, PRIORITY_SRCNAT = -150, -100, 0, 100
PRIORITY_BRIDGE_DSTNAT, PRIORITY_BRIDGE_FILTER = -300, -200

NF_DROP, NF_ACCEPT = 0, 1
NFT_CONTINUE, NFT_BREAK, NFT_JUMP, NFT_GOTO, NFT_RETURN = -1, -2, -3, -4, -5

# Registers: of 16 bytes, and the same in parts of 4 from NFT_REG32_00.
NFT_REG_VERDICT, NFT_REG_1, NFT_REG_2, NFT_REG_3, NFT_REG_4, NFT_REG32_00 = 0, 1, 2, 3, 4, 8

NFT_PAYLOAD_LL_HEADER, NFT_PAYLOAD_NETWORK_HEADER, NFT_PAYLOAD_TRANSPORT_HEADER = 0, 1, 2
NFT_CMP_EQ, NFT_CMP_NEQ, NFT_CMP_LT, NFT_CMP_LTE, NFT_CMP_GT, NFT_CMP_GTE = 0, 1, 2, 3, 4, 5

NFT_META_PROTOCOL, NFT_META_MARK, NFT_META_IIF, NFT_META_OIF = 1, 3, 4, 5
NFT_META_IIFNAME, NFT_META_OIFNAME, NFT_META_IIFTYPE = 6, 7, 8
NFT_META_NFPROTO, NFT_META_L4PROTO, NFT_META_BRI_IIFNAME, NFT_META_BRI_OIFNAME = 15, 16, 17, 18

NFT_CT_STATE, NFT_CT_DIRECTION, NFT_CT_STATUS, NFT_CT_MARK = 0, 1, 2, 3
NF_CT_STATE_INVALID, NF_CT_STATE_ESTABLISHED, NF_CT_STATE_RELATED, NF_CT_STATE_NEW = 1, 2, 4, 8

NFT_FIB_RESULT_OIF, NFT_FIB_RESULT_OIFNAME, NFT_FIB_RESULT_ADDRTYPE = 1, 2, 3
NFTA_FIB_F_SADDR, NFTA_FIB_F_DADDR, NFTA_FIB_F_MARK, NFTA_FIB_F_IIF, NFTA_FIB_F_OIF = 1, 2, 4, 8, 16

NFT_NAT_SNAT, NFT_NAT_DNAT = 0, 1
NF_NAT_RANGE_MAP_IPS, NF_NAT_RANGE_PROTO_SPECIFIED, NF_NAT_RANGE_PROTO_RANDOM = 1, 2, 4
NF_NAT_RANGE_PROTO_RANDOM_FULLY = 16

NFT_SET_ANONYMOUS, NFT_SET_CONSTANT, NFT_SET_INTERVAL, NFT_SET_MAP, NFT_SET_CONCAT = 1, 2, 4, 8, 128
NFT_SET_ELEM_INTERVAL_END = 1
NFT_DATA_VERDICT = 0xFFFFFF00
NFT_LOOKUP_F_INV = 1

# Types of user data; it is a sequence of type (1 byte), length (1), value.
_COMMENT = 0  # of a rule, chain, table or set element
SET_COMMENT = 7


def pack_comment(text: str, kind: int = _COMMENT) -> bytes:
    """User data with a comment, as nft(8) writes and shows it (nft: at most 128 bytes, with the NUL)."""
    data = text.encode() + b"\0"
    return bytes((kind, len(data))) + data


def unpack_comment(data: bytes, kind: int = _COMMENT) -> str:
    """The comment in user data, "" if there is none."""
    start = 0
    while start + 2 <= len(data):
        end = start + 2 + data[start + 1]
        if data[start] == kind:
            return data[start + 2 : end].rstrip(b"\0").decode("utf-8", "replace")
        start = end
    return ""


_REGISTER = "be32"

TABLES: dict[str, Any] = {
    "table": (
        (">BBH", ("nfgen_family", "version", "res_id")),
        {
            "NFTA_TABLE_NAME": (1, "asciiz"),
            "NFTA_TABLE_FLAGS": (2, "be32"),
            "NFTA_TABLE_USE": (3, "be32"),
            "NFTA_TABLE_HANDLE": (4, "be64"),
            "NFTA_TABLE_USERDATA": (6, "binary"),
        },
    ),
    "chain": (
        (">BBH", ("nfgen_family", "version", "res_id")),
        {
            "NFTA_CHAIN_TABLE": (1, "asciiz"),
            "NFTA_CHAIN_HANDLE": (2, "be64"),
            "NFTA_CHAIN_NAME": (3, "asciiz"),
            "NFTA_CHAIN_HOOK": (4, "hook"),
            "NFTA_CHAIN_POLICY": (5, "be32"),
            "NFTA_CHAIN_USE": (6, "be32"),
            "NFTA_CHAIN_TYPE": (7, "asciiz"),
            "NFTA_CHAIN_COUNTERS": (8, "counter"),
            "NFTA_CHAIN_FLAGS": (10, "be32"),
            "NFTA_CHAIN_ID": (11, "be32"),
            "NFTA_CHAIN_USERDATA": (12, "binary"),
        },
    ),
    "hook": (
        (),
        {
            "NFTA_HOOK_HOOKNUM": (1, "be32"),
            "NFTA_HOOK_PRIORITY": (2, "sbe32"),
            "NFTA_HOOK_DEV": (3, "asciiz"),
        },
    ),
    "rule": (
        (">BBH", ("nfgen_family", "version", "res_id")),
        {
            "NFTA_RULE_TABLE": (1, "asciiz"),
            "NFTA_RULE_CHAIN": (2, "asciiz"),
            "NFTA_RULE_HANDLE": (3, "be64"),
            "NFTA_RULE_EXPRESSIONS": (4, "*expression"),
            "NFTA_RULE_COMPAT": (5, "rule_compat"),
            "NFTA_RULE_POSITION": (6, "be64"),
            "NFTA_RULE_USERDATA": (7, "binary"),
            "NFTA_RULE_ID": (9, "be32"),
            "NFTA_RULE_POSITION_ID": (10, "be32"),
            "NFTA_RULE_CHAIN_ID": (11, "be32"),
        },
    ),
    "rule_compat": ((), {"NFTA_RULE_COMPAT_PROTO": (1, "be32"), "NFTA_RULE_COMPAT_FLAGS": (2, "be32")}),
    "expression": (
        (),
        {
            "NFTA_EXPR_NAME": (1, "asciiz"),
            "NFTA_EXPR_DATA": (
                2,
                (
                    "NFTA_EXPR_NAME",
                    {
                        "bitwise": "bitwise",
                        "cmp": "cmp",
                        "counter": "counter",
                        "ct": "ct",
                        "fib": "fib",
                        "immediate": "immediate",
                        "lookup": "lookup",
                        "masq": "masq",
                        "match": "match",
                        "meta": "meta",
                        "nat": "nat",
                        "payload": "payload",
                        "target": "target",
                    },
                ),
            ),
        },
    ),
    "data": ((), {"NFTA_DATA_VALUE": (1, "binary"), "NFTA_DATA_VERDICT": (2, "verdict")}),
    "verdict": (
        (),
        {
            "NFTA_VERDICT_CODE": (1, "sbe32"),
            "NFTA_VERDICT_CHAIN": (2, "asciiz"),
            "NFTA_VERDICT_CHAIN_ID": (3, "be32"),
        },
    ),
    "bitwise": (
        (),
        {
            "NFTA_BITWISE_SREG": (1, _REGISTER),
            "NFTA_BITWISE_DREG": (2, _REGISTER),
            "NFTA_BITWISE_LEN": (3, "be32"),
            "NFTA_BITWISE_MASK": (4, "data"),
            "NFTA_BITWISE_XOR": (5, "data"),
            "NFTA_BITWISE_OP": (6, "be32"),
            "NFTA_BITWISE_DATA": (7, "data"),
        },
    ),
    "cmp": (
        (),
        {"NFTA_CMP_SREG": (1, _REGISTER), "NFTA_CMP_OP": (2, "be32"), "NFTA_CMP_DATA": (3, "data")},
    ),
    "counter": ((), {"NFTA_COUNTER_BYTES": (1, "be64"), "NFTA_COUNTER_PACKETS": (2, "be64")}),
    "ct": (
        (),
        {
            "NFTA_CT_DREG": (1, _REGISTER),
            "NFTA_CT_KEY": (2, "be32"),
            "NFTA_CT_DIRECTION": (3, "uint8"),
            "NFTA_CT_SREG": (4, _REGISTER),
        },
    ),
    "fib": (
        (),
        {"NFTA_FIB_DREG": (1, _REGISTER), "NFTA_FIB_RESULT": (2, "be32"), "NFTA_FIB_FLAGS": (3, "be32")},
    ),
    "immediate": ((), {"NFTA_IMMEDIATE_DREG": (1, _REGISTER), "NFTA_IMMEDIATE_DATA": (2, "data")}),
    "lookup": (
        (),
        {
            "NFTA_LOOKUP_SET": (1, "asciiz"),
            "NFTA_LOOKUP_SREG": (2, _REGISTER),
            "NFTA_LOOKUP_DREG": (3, _REGISTER),
            "NFTA_LOOKUP_SET_ID": (4, "be32"),
            "NFTA_LOOKUP_FLAGS": (5, "be32"),
        },
    ),
    "masq": (
        (),
        {
            "NFTA_MASQ_FLAGS": (1, "be32"),
            "NFTA_MASQ_REG_PROTO_MIN": (2, _REGISTER),
            "NFTA_MASQ_REG_PROTO_MAX": (3, _REGISTER),
        },
    ),
    # iptables' own matches and targets; the contents are the structures of the xtables module.
    "match": (
        (),
        {"NFTA_MATCH_NAME": (1, "asciiz"), "NFTA_MATCH_REV": (2, "be32"), "NFTA_MATCH_INFO": (3, "binary")},
    ),
    "target": (
        (),
        {
            "NFTA_TARGET_NAME": (1, "asciiz"),
            "NFTA_TARGET_REV": (2, "be32"),
            "NFTA_TARGET_INFO": (3, "binary"),
        },
    ),
    "meta": (
        (),
        {"NFTA_META_DREG": (1, _REGISTER), "NFTA_META_KEY": (2, "be32"), "NFTA_META_SREG": (3, _REGISTER)},
    ),
    "nat": (
        (),
        {
            "NFTA_NAT_TYPE": (1, "be32"),
            "NFTA_NAT_FAMILY": (2, "be32"),
            "NFTA_NAT_REG_ADDR_MIN": (3, _REGISTER),
            "NFTA_NAT_REG_ADDR_MAX": (4, _REGISTER),
            "NFTA_NAT_REG_PROTO_MIN": (5, _REGISTER),
            "NFTA_NAT_REG_PROTO_MAX": (6, _REGISTER),
            "NFTA_NAT_FLAGS": (7, "be32"),
        },
    ),
    "payload": (
        (),
        {
            "NFTA_PAYLOAD_DREG": (1, _REGISTER),
            "NFTA_PAYLOAD_BASE": (2, "be32"),
            "NFTA_PAYLOAD_OFFSET": (3, "be32"),
            "NFTA_PAYLOAD_LEN": (4, "be32"),
            "NFTA_PAYLOAD_SREG": (5, _REGISTER),
            "NFTA_PAYLOAD_CSUM_TYPE": (6, "be32"),
            "NFTA_PAYLOAD_CSUM_OFFSET": (7, "be32"),
            "NFTA_PAYLOAD_CSUM_FLAGS": (8, "be32"),
        },
    ),
    "set": (
        (">BBH", ("nfgen_family", "version", "res_id")),
        {
            "NFTA_SET_TABLE": (1, "asciiz"),
            "NFTA_SET_NAME": (2, "asciiz"),
            "NFTA_SET_FLAGS": (3, "be32"),
            "NFTA_SET_KEY_TYPE": (4, "be32"),
            "NFTA_SET_KEY_LEN": (5, "be32"),
            "NFTA_SET_DATA_TYPE": (6, "be32"),
            "NFTA_SET_DATA_LEN": (7, "be32"),
            "NFTA_SET_POLICY": (8, "be32"),
            "NFTA_SET_DESC": (9, "set_description"),
            "NFTA_SET_ID": (10, "be32"),
            "NFTA_SET_USERDATA": (13, "binary"),
            "NFTA_SET_HANDLE": (16, "be64"),
        },
    ),
    "set_description": (
        (),
        {"NFTA_SET_DESC_SIZE": (1, "be32"), "NFTA_SET_DESC_CONCAT": (2, "*set_field")},
    ),
    "set_field": ((), {"NFTA_SET_FIELD_LEN": (1, "be32")}),
    "set_elements": (
        (">BBH", ("nfgen_family", "version", "res_id")),
        {
            "NFTA_SET_ELEM_LIST_TABLE": (1, "asciiz"),
            "NFTA_SET_ELEM_LIST_SET": (2, "asciiz"),
            "NFTA_SET_ELEM_LIST_ELEMENTS": (3, "*set_element"),
            "NFTA_SET_ELEM_LIST_SET_ID": (4, "be32"),
        },
    ),
    "set_element": (
        (),
        {
            "NFTA_SET_ELEM_KEY": (1, "data"),
            "NFTA_SET_ELEM_DATA": (2, "data"),
            "NFTA_SET_ELEM_FLAGS": (3, "be32"),
            "NFTA_SET_ELEM_USERDATA": (6, "binary"),
            "NFTA_SET_ELEM_KEY_END": (10, "data"),
        },
    ),
    "generation": (
        (">BBH", ("nfgen_family", "version", "res_id")),
        {
            "NFTA_GEN_ID": (1, "be32"),
            "NFTA_GEN_PROC_PID": (2, "be32"),
            "NFTA_GEN_PROC_NAME": (3, "asciiz"),
        },
    ),
}

MESSAGES = {
    **dict.fromkeys((NFT_MSG_NEWTABLE, NFT_MSG_GETTABLE, NFT_MSG_DELTABLE), "table"),
    **dict.fromkeys((NFT_MSG_NEWCHAIN, NFT_MSG_GETCHAIN, NFT_MSG_DELCHAIN), "chain"),
    **dict.fromkeys((NFT_MSG_NEWRULE, NFT_MSG_GETRULE, NFT_MSG_DELRULE), "rule"),
    **dict.fromkeys((NFT_MSG_NEWSET, NFT_MSG_GETSET, NFT_MSG_DELSET), "set"),
    **dict.fromkeys((NFT_MSG_NEWSETELEM, NFT_MSG_GETSETELEM, NFT_MSG_DELSETELEM), "set_elements"),
    **dict.fromkeys((NFT_MSG_NEWGEN, NFT_MSG_GETGEN), "generation"),
}

FAMILY = Family(NETLINK_NETFILTER, MESSAGES, TABLES, {})
