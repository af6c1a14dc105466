"""Connection tracking: linux/netfilter/nfnetlink_conntrack.h.

Message types here contain the number of the subsystem. Numbers are in network order, but for the flags of a filter.
"""

from __future__ import annotations

from .codec import CONVERTERS, NLA_F_NESTED, Family

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NETLINK_NETFILTER = 12

_SUBSYSTEM = 1 << 8
IPCTNL_MSG_CT_NEW, IPCTNL_MSG_CT_GET, IPCTNL_MSG_CT_DELETE = _SUBSYSTEM, _SUBSYSTEM + 1, _SUBSYSTEM + 2

# Bits of a filter's flags: what of the tuple is compared (net/netfilter/nf_conntrack_netlink.c).
CTA_FILTER_F_CTA_IP_SRC, CTA_FILTER_F_CTA_IP_DST, CTA_FILTER_F_CTA_PROTO_NUM = 1 << 0, 1 << 1, 1 << 3
CTA_FILTER_F_CTA_PROTO_SRC_PORT, CTA_FILTER_F_CTA_PROTO_DST_PORT = 1 << 4, 1 << 5

TABLES: dict[str, Any] = {
    "connection": (
        (">BBH", ("nfgen_family", "version", "res_id")),
        {
            "CTA_TUPLE_ORIG": (1, "tuple"),
            "CTA_TUPLE_REPLY": (2, "tuple"),
            "CTA_STATUS": (3, "be32"),
            "CTA_ID": (12, "be32"),
            "CTA_ZONE": (18, "be16"),
            "CTA_FILTER": (25, "filter", NLA_F_NESTED),
        },
    ),
    "tuple": (
        (),
        {
            "CTA_TUPLE_IP": (1, "tuple_ip"),
            "CTA_TUPLE_PROTO": (2, "tuple_proto"),
        },
    ),
    "tuple_ip": (
        (),
        {
            "CTA_IP_V4_SRC": (1, "ipaddr"),
            "CTA_IP_V4_DST": (2, "ipaddr"),
            "CTA_IP_V6_SRC": (3, "ip6addr"),
            "CTA_IP_V6_DST": (4, "ip6addr"),
        },
    ),
    "tuple_proto": (
        (),
        {"CTA_PROTO_NUM": (1, "uint8"), "CTA_PROTO_SRC_PORT": (2, "be16"), "CTA_PROTO_DST_PORT": (3, "be16")},
    ),
    "filter": ((), {"CTA_FILTER_ORIG_FLAGS": (1, "uint32"), "CTA_FILTER_REPLY_FLAGS": (2, "uint32")}),
}

MESSAGES = dict.fromkeys((IPCTNL_MSG_CT_NEW, IPCTNL_MSG_CT_GET, IPCTNL_MSG_CT_DELETE), "connection")

FAMILY = Family(NETLINK_NETFILTER, MESSAGES, TABLES, {"ip6addr": CONVERTERS["ipaddr"]})
