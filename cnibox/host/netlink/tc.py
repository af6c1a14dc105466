"""Queueing disciplines, filters and actions: linux/pkt_sched.h, pkt_cls.h, tc_act/tc_mirred.h.

For tbf no rate table (TCA_TBF_RTAB) is needed: the kernel does without if the rate's linklayer, the low bits
of rate___reserved, is TC_LINKLAYER_ETHERNET.
"""

from __future__ import annotations

from _struct import pack, unpack_from

from .codec import NLA_F_NESTED, Family

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NETLINK_ROUTE = 0

RTM_NEWQDISC, RTM_DELQDISC, RTM_GETQDISC = 36, 37, 38
RTM_NEWTFILTER, RTM_DELTFILTER, RTM_GETTFILTER = 44, 45, 46

# Handles are major << 16 | minor.
TC_H_ROOT, TC_H_INGRESS, TC_H_CLSACT = 0xFFFFFFFF, 0xFFFFFFF1, 0xFFFFFFF1
TC_H_MIN_INGRESS, TC_H_MIN_EGRESS = 0xFFF2, 0xFFF3
INGRESS_HANDLE = 0xFFFF0000

TC_LINKLAYER_ETHERNET = 1
TC_U32_TERMINAL = 1
TC_ACT_UNSPEC, TC_ACT_OK, TC_ACT_SHOT, TC_ACT_PIPE, TC_ACT_STOLEN = -1, 0, 2, 3, 4
TCA_EGRESS_REDIR, TCA_EGRESS_MIRROR, TCA_INGRESS_REDIR, TCA_INGRESS_MIRROR = 1, 2, 3, 4
ETH_P_ALL, ETH_P_IP, ETH_P_IPV6 = 0x0003, 0x0800, 0x86DD


def filter_info(priority: int, protocol: int) -> int:
    """The `info` of a filter's header: its priority, and its protocol (ETH_P_*) in network order."""
    return priority << 16 | protocol >> 8 | (protocol & 0xFF) << 8


# struct tc_u32_sel: network order for two of the fields, native for the others, then keys.
_SELECTOR = ("flags", "offshift", "nkeys", "offmask", "off", "offoff", "hoff", "hmask")
_KEY = ("key_mask", "key_val", "key_off", "key_offmask")


def _pack_selector(selector: dict[str, Any]) -> bytes:
    keys = selector.get("keys", ())
    for name in selector:
        if name not in _SELECTOR and name != "keys":
            raise ValueError(f"unknown field {name!r}")
    parts = [
        pack("BBBx", selector.get("flags", 0), selector.get("offshift", 0), len(keys)),
        pack(">H", selector.get("offmask", 0)),
        pack("Hhh", selector.get("off", 0), selector.get("offoff", 0), selector.get("hoff", 0)),
        pack(">I", selector.get("hmask", 0)),
    ]
    for key in keys:
        parts.append(pack(">II", key["key_mask"], key["key_val"]))
        parts.append(pack("ii", key["key_off"], key.get("key_offmask", 0)))
    return b"".join(parts)


def _unpack_selector(data: bytes) -> dict[str, Any]:
    values = unpack_from("BBBx", data) + unpack_from(">H", data, 4) + unpack_from("Hhh", data, 6)
    selector: dict[str, Any] = dict(zip(_SELECTOR, values + unpack_from(">I", data, 12), strict=True))
    selector["keys"] = [
        dict(zip(_KEY, unpack_from(">II", data, at) + unpack_from("ii", data, at + 8), strict=True))
        for at in range(16, 16 + 16 * selector["nkeys"], 16)
    ]
    return selector


TABLES: dict[str, Any] = {
    "tcmsg": (
        ("BxxxiIII", ("family", "index", "handle", "parent", "info")),
        {
            "TCA_KIND": (1, "asciiz"),
            "TCA_OPTIONS": (2, ("TCA_KIND", {"tbf": "tbf", "fq_codel": "fq_codel", "u32": "u32"})),
            "TCA_CHAIN": (11, "uint32"),
            "TCA_HW_OFFLOAD": (12, "uint8"),
            "TCA_INGRESS_BLOCK": (13, "uint32"),
            "TCA_EGRESS_BLOCK": (14, "uint32"),
        },
    ),
    "tbf": (
        (),
        {
            "TCA_TBF_PARMS": (1, "tbf_parms"),
            "TCA_TBF_RATE64": (4, "uint64"),
            "TCA_TBF_PRATE64": (5, "uint64"),
            "TCA_TBF_BURST": (6, "uint32"),
            "TCA_TBF_PBURST": (7, "uint32"),
        },
    ),
    # struct tc_tbf_qopt: two struct tc_ratespec, in bytes/s; limit in bytes, buffer and mtu in ticks.
    "tbf_parms": (
        (
            "BBHhHIBBHhHIIII",
            (
                "rate_cell_log",
                "rate___reserved",
                "rate_overhead",
                "rate_cell_align",
                "rate_mpu",
                "rate",
                "peak_cell_log",
                "peak___reserved",
                "peak_overhead",
                "peak_cell_align",
                "peak_mpu",
                "peak",
                "limit",
                "buffer",
                "mtu",
            ),
        ),
        {},
    ),
    "fq_codel": (
        (),
        {
            "TCA_FQ_CODEL_TARGET": (1, "uint32"),
            "TCA_FQ_CODEL_LIMIT": (2, "uint32"),
            "TCA_FQ_CODEL_INTERVAL": (3, "uint32"),
            "TCA_FQ_CODEL_ECN": (4, "uint32"),
            "TCA_FQ_CODEL_FLOWS": (5, "uint32"),
            "TCA_FQ_CODEL_QUANTUM": (6, "uint32"),
        },
    ),
    "u32": (
        (),
        {
            "TCA_U32_CLASSID": (1, "uint32"),
            "TCA_U32_HASH": (2, "uint32"),
            "TCA_U32_DIVISOR": (4, "uint32"),
            "TCA_U32_SEL": (5, "u32_selector"),
            "TCA_U32_ACT": (7, "actions"),
            "TCA_U32_FLAGS": (11, "uint32"),
        },
    ),
    # At most 32 actions; they are numbered by their order.
    "actions": ((), {f"TCA_ACT_PRIO_{number}": (number, "action") for number in range(1, 5)}),
    "action": (
        (),
        {
            "TCA_ACT_KIND": (1, "asciiz"),
            "TCA_ACT_OPTIONS": (2, ("TCA_ACT_KIND", {"mirred": "mirred"}), NLA_F_NESTED),
        },
    ),
    "mirred": ((), {"TCA_MIRRED_PARMS": (2, "mirred_parms")}),
    "mirred_parms": (
        ("IIiiiiI", ("index", "capab", "action", "refcnt", "bindcnt", "eaction", "ifindex")),
        {},
    ),
}

MESSAGES = dict.fromkeys(
    (RTM_NEWQDISC, RTM_DELQDISC, RTM_GETQDISC, RTM_NEWTFILTER, RTM_DELTFILTER, RTM_GETTFILTER), "tcmsg"
)

FAMILY = Family(NETLINK_ROUTE, MESSAGES, TABLES, {"u32_selector": (_pack_selector, _unpack_selector)})
