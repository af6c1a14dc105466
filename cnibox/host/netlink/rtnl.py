"""Links, addresses, routes, rules, neighbours and namespace ids: linux/rtnetlink.h, if_link.h and others.

Names and numbers are the kernel's. Only what cnibox uses; others decode to their number and bytes.
"""

from __future__ import annotations

from _socket import inet_ntop, inet_pton
from _struct import pack, unpack_from

from .codec import NLA_F_NESTED, Family

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NETLINK_ROUTE = 0

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK = 16, 17, 18, 19
RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR = 20, 21, 22
RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE = 24, 25, 26
RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH = 28, 29, 30
RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE = 32, 33, 34
RTM_NEWNSID, RTM_DELNSID, RTM_GETNSID = 88, 89, 90
RTM_NEWLINKPROP, RTM_DELLINKPROP = 108, 109

# Groups to subscribe to.
RTNLGRP_LINK, RTNLGRP_NEIGH, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE = 1, 3, 5, 7
RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV6_RULE = 8, 9, 11, 19

AF_UNSPEC, AF_INET, AF_BRIDGE, AF_INET6 = 0, 2, 7, 10

# Links: flags and change of the header.
IFF_UP, IFF_BROADCAST, IFF_LOOPBACK, IFF_RUNNING, IFF_NOARP = 0x1, 0x2, 0x8, 0x40, 0x80
IFF_PROMISC, IFF_ALLMULTI, IFF_MULTICAST, IFF_LOWER_UP = 0x100, 0x200, 0x1000, 0x10000
ARPHRD_ETHER, ARPHRD_LOOPBACK = 1, 772

# IFLA_EXT_MASK: what a dump of links shall contain.
RTEXT_FILTER_VF, RTEXT_FILTER_BRVLAN, RTEXT_FILTER_BRVLAN_COMPRESSED, RTEXT_FILTER_SKIP_STATS = 1, 2, 4, 8

BRIDGE_FLAGS_MASTER, BRIDGE_FLAGS_SELF = 1, 2
BRIDGE_VLAN_INFO_MASTER, BRIDGE_VLAN_INFO_PVID, BRIDGE_VLAN_INFO_UNTAGGED = 1, 2, 4
BRIDGE_VLAN_INFO_RANGE_BEGIN, BRIDGE_VLAN_INFO_RANGE_END = 8, 16
BR_STATE_DISABLED, BR_STATE_LEARNING, BR_STATE_FORWARDING, BR_STATE_BLOCKING = 0, 2, 3, 4

MACVLAN_FLAG_NOPROMISC, MACVLAN_FLAG_NODST = 1, 2
IPVLAN_F_PRIVATE, IPVLAN_F_VEPA = 1, 2
VLAN_FLAG_REORDER_HDR, VLAN_FLAG_GVRP, VLAN_FLAG_LOOSE_BINDING, VLAN_FLAG_MVRP = 1, 2, 4, 8
IN6_ADDR_GEN_MODE_EUI64, IN6_ADDR_GEN_MODE_NONE = 0, 1

# Addresses: IFA_FLAGS (the header has the lowest eight only).
IFA_F_SECONDARY, IFA_F_NODAD, IFA_F_OPTIMISTIC, IFA_F_DADFAILED = 0x1, 0x2, 0x4, 0x8
IFA_F_HOMEADDRESS, IFA_F_DEPRECATED, IFA_F_TENTATIVE, IFA_F_PERMANENT = 0x10, 0x20, 0x40, 0x80
IFA_F_MANAGETEMPADDR, IFA_F_NOPREFIXROUTE, IFA_F_MCAUTOJOIN, IFA_F_STABLE_PRIVACY = 0x100, 0x200, 0x400, 0x800

RT_TABLE_UNSPEC, RT_TABLE_COMPAT, RT_TABLE_DEFAULT, RT_TABLE_MAIN, RT_TABLE_LOCAL = 0, 252, 253, 254, 255
RT_SCOPE_UNIVERSE, RT_SCOPE_SITE, RT_SCOPE_LINK, RT_SCOPE_HOST, RT_SCOPE_NOWHERE = 0, 200, 253, 254, 255
RTPROT_UNSPEC, RTPROT_REDIRECT, RTPROT_KERNEL, RTPROT_BOOT, RTPROT_STATIC, RTPROT_RA = 0, 1, 2, 3, 4, 9
RTN_UNSPEC, RTN_UNICAST, RTN_LOCAL, RTN_BROADCAST, RTN_ANYCAST, RTN_MULTICAST = 0, 1, 2, 3, 4, 5
RTN_BLACKHOLE, RTN_UNREACHABLE, RTN_PROHIBIT, RTN_THROW = 6, 7, 8, 9
RTNH_F_DEAD, RTNH_F_ONLINK, RTNH_F_LINKDOWN, RTM_F_CLONED, RTM_F_FIB_MATCH = 1, 4, 16, 0x200, 0x2000

FR_ACT_TO_TBL, FIB_RULE_INVERT = 1, 2

NUD_REACHABLE, NUD_STALE, NUD_FAILED, NUD_NOARP, NUD_PERMANENT = 0x2, 0x4, 0x20, 0x40, 0x80
NTF_SELF, NTF_MASTER, NTF_PROXY = 0x2, 0x4, 0x8

NETNSA_NSID_NOT_ASSIGNED = -1


def _pack_via(via: dict[str, Any]) -> bytes:
    return pack("H", via["family"]) + inet_pton(via["family"], via["addr"])


def _unpack_via(data: bytes) -> dict[str, Any]:
    family: int = unpack_from("H", data)[0]
    return {"family": family, "addr": inet_ntop(family, data[2:])}


TABLES: dict[str, Any] = {
    "ifinfmsg": (
        ("BxHiII", ("family", "ifi_type", "index", "flags", "change")),
        {
            "IFLA_ADDRESS": (1, "l2addr"),
            "IFLA_BROADCAST": (2, "l2addr"),
            "IFLA_IFNAME": (3, "asciiz"),
            "IFLA_MTU": (4, "uint32"),
            "IFLA_LINK": (5, "uint32"),
            "IFLA_QDISC": (6, "asciiz"),
            "IFLA_MASTER": (10, "uint32"),
            "IFLA_PROTINFO": (12, (".family", {AF_BRIDGE: "bridge_slave"})),
            "IFLA_TXQLEN": (13, "uint32"),
            "IFLA_OPERSTATE": (16, "operstate"),
            "IFLA_LINKMODE": (17, "uint8"),
            "IFLA_LINKINFO": (18, "linkinfo"),
            "IFLA_NET_NS_PID": (19, "uint32"),
            "IFLA_IFALIAS": (20, "asciiz"),
            "IFLA_AF_SPEC": (26, (".family", {AF_UNSPEC: "af_spec", AF_BRIDGE: "af_bridge"})),
            "IFLA_GROUP": (27, "uint32"),
            "IFLA_NET_NS_FD": (28, "uint32"),
            "IFLA_EXT_MASK": (29, "uint32"),
            "IFLA_PROMISCUITY": (30, "uint32"),
            "IFLA_NUM_TX_QUEUES": (31, "uint32"),
            "IFLA_NUM_RX_QUEUES": (32, "uint32"),
            "IFLA_CARRIER": (33, "uint8"),
            "IFLA_LINK_NETNSID": (37, "int32"),
            "IFLA_PHYS_PORT_NAME": (38, "asciiz"),
            "IFLA_PROTO_DOWN": (39, "uint8"),
            "IFLA_GSO_MAX_SEGS": (40, "uint32"),
            "IFLA_GSO_MAX_SIZE": (41, "uint32"),
            "IFLA_EVENT": (44, "uint32"),
            "IFLA_NEW_NETNSID": (45, "int32"),
            "IFLA_TARGET_NETNSID": (46, "int32"),
            "IFLA_NEW_IFINDEX": (49, "uint32"),
            "IFLA_MIN_MTU": (50, "uint32"),
            "IFLA_MAX_MTU": (51, "uint32"),
            "IFLA_PROP_LIST": (52, "link_properties", NLA_F_NESTED),
            "IFLA_ALT_IFNAME": (53, "asciiz"),
            "IFLA_PERM_ADDRESS": (54, "l2addr"),
            "IFLA_PARENT_DEV_NAME": (56, "asciiz"),
            "IFLA_PARENT_DEV_BUS_NAME": (57, "asciiz"),
            "IFLA_GRO_MAX_SIZE": (58, "uint32"),
            "IFLA_TSO_MAX_SIZE": (59, "uint32"),
            "IFLA_TSO_MAX_SEGS": (60, "uint32"),
            "IFLA_ALLMULTI": (61, "uint32"),
            "IFLA_GSO_IPV4_MAX_SIZE": (63, "uint32"),
            "IFLA_GRO_IPV4_MAX_SIZE": (64, "uint32"),
        },
    ),
    "operstate": (
        "uint8",
        {0: "UNKNOWN", 1: "NOTPRESENT", 2: "DOWN", 3: "LOWERLAYERDOWN", 4: "TESTING", 5: "DORMANT", 6: "UP"},
    ),
    "link_properties": ((), {"IFLA_ALT_IFNAME": (53, "asciiz")}),
    "linkinfo": (
        (),
        {
            "IFLA_INFO_KIND": (1, "asciiz"),
            "IFLA_INFO_DATA": (
                2,
                (
                    "IFLA_INFO_KIND",
                    {
                        "bridge": "bridge",
                        "ipvlan": "ipvlan",
                        "macvlan": "macvlan",
                        "tun": "tun",
                        "veth": "veth",
                        "vlan": "vlan",
                        "vrf": "vrf",
                    },
                ),
            ),
            "IFLA_INFO_SLAVE_KIND": (4, "asciiz"),
            "IFLA_INFO_SLAVE_DATA": (
                5,
                ("IFLA_INFO_SLAVE_KIND", {"bridge": "bridge_slave", "vrf": "vrf_slave"}),
            ),
        },
    ),
    "veth": ((), {"VETH_INFO_PEER": (1, "ifinfmsg")}),
    "bridge": (
        (),
        {
            "IFLA_BR_FORWARD_DELAY": (1, "uint32"),
            "IFLA_BR_HELLO_TIME": (2, "uint32"),
            "IFLA_BR_MAX_AGE": (3, "uint32"),
            "IFLA_BR_AGEING_TIME": (4, "uint32"),
            "IFLA_BR_STP_STATE": (5, "uint32"),
            "IFLA_BR_PRIORITY": (6, "uint16"),
            "IFLA_BR_VLAN_FILTERING": (7, "uint8"),
            "IFLA_BR_VLAN_PROTOCOL": (8, "be16"),
            "IFLA_BR_GROUP_FWD_MASK": (9, "uint16"),
            "IFLA_BR_GROUP_ADDR": (20, "l2addr"),
            "IFLA_BR_MCAST_ROUTER": (22, "uint8"),
            "IFLA_BR_MCAST_SNOOPING": (23, "uint8"),
            "IFLA_BR_MCAST_QUERIER": (25, "uint8"),
            "IFLA_BR_NF_CALL_IPTABLES": (36, "uint8"),
            "IFLA_BR_NF_CALL_IP6TABLES": (37, "uint8"),
            "IFLA_BR_NF_CALL_ARPTABLES": (38, "uint8"),
            "IFLA_BR_VLAN_DEFAULT_PVID": (39, "uint16"),
            "IFLA_BR_VLAN_STATS_ENABLED": (41, "uint8"),
        },
    ),
    "bridge_slave": (
        (),
        {
            "IFLA_BRPORT_STATE": (1, "uint8"),
            "IFLA_BRPORT_PRIORITY": (2, "uint16"),
            "IFLA_BRPORT_COST": (3, "uint32"),
            "IFLA_BRPORT_MODE": (4, "uint8"),
            "IFLA_BRPORT_GUARD": (5, "uint8"),
            "IFLA_BRPORT_PROTECT": (6, "uint8"),
            "IFLA_BRPORT_FAST_LEAVE": (7, "uint8"),
            "IFLA_BRPORT_LEARNING": (8, "uint8"),
            "IFLA_BRPORT_UNICAST_FLOOD": (9, "uint8"),
            "IFLA_BRPORT_PROXYARP": (10, "uint8"),
            "IFLA_BRPORT_MULTICAST_ROUTER": (25, "uint8"),
            "IFLA_BRPORT_MCAST_FLOOD": (27, "uint8"),
            "IFLA_BRPORT_MCAST_TO_UCAST": (28, "uint8"),
            "IFLA_BRPORT_VLAN_TUNNEL": (29, "uint8"),
            "IFLA_BRPORT_BCAST_FLOOD": (30, "uint8"),
            "IFLA_BRPORT_GROUP_FWD_MASK": (31, "uint16"),
            "IFLA_BRPORT_NEIGH_SUPPRESS": (32, "uint8"),
            "IFLA_BRPORT_ISOLATED": (33, "uint8"),
            "IFLA_BRPORT_LOCKED": (39, "uint8"),
        },
    ),
    "macvlan": (
        (),
        {
            "IFLA_MACVLAN_MODE": (1, "macvlan_mode"),
            "IFLA_MACVLAN_FLAGS": (2, "uint16"),
            "IFLA_MACVLAN_MACADDR_MODE": (3, "macvlan_macaddr_mode"),
            "IFLA_MACVLAN_MACADDR": (4, "l2addr"),
            "IFLA_MACVLAN_MACADDR_DATA": (5, "macvlan_addresses"),
            "IFLA_MACVLAN_MACADDR_COUNT": (6, "uint32"),
            "IFLA_MACVLAN_BC_QUEUE_LEN": (7, "uint32"),
            "IFLA_MACVLAN_BC_QUEUE_LEN_USED": (8, "uint32"),
        },
    ),
    "macvlan_mode": ("uint32", {1: "private", 2: "vepa", 4: "bridge", 8: "passthru", 16: "source"}),
    "macvlan_macaddr_mode": ("uint32", {0: "add", 1: "del", 2: "flush", 3: "set"}),
    "macvlan_addresses": ((), {"IFLA_MACVLAN_MACADDR": (4, "l2addr")}),
    "ipvlan": ((), {"IFLA_IPVLAN_MODE": (1, "ipvlan_mode"), "IFLA_IPVLAN_FLAGS": (2, "uint16")}),
    "ipvlan_mode": ("uint16", {0: "l2", 1: "l3", 2: "l3s"}),
    "vlan": (
        (),
        {
            "IFLA_VLAN_ID": (1, "uint16"),
            "IFLA_VLAN_FLAGS": (2, "vlan_flags"),
            "IFLA_VLAN_PROTOCOL": (5, "be16"),
        },
    ),
    "vlan_flags": (("II", ("flags", "mask")), {}),
    "vrf": ((), {"IFLA_VRF_TABLE": (1, "uint32")}),
    "vrf_slave": ((), {"IFLA_VRF_PORT_TABLE": (1, "uint32")}),
    "tun": (
        (),
        {
            "IFLA_TUN_OWNER": (1, "uint32"),
            "IFLA_TUN_GROUP": (2, "uint32"),
            "IFLA_TUN_TYPE": (3, "uint8"),
            "IFLA_TUN_PI": (4, "uint8"),
            "IFLA_TUN_VNET_HDR": (5, "uint8"),
            "IFLA_TUN_PERSIST": (6, "uint8"),
            "IFLA_TUN_MULTI_QUEUE": (7, "uint8"),
            "IFLA_TUN_NUM_QUEUES": (8, "uint32"),
            "IFLA_TUN_NUM_DISABLED_QUEUES": (9, "uint32"),
        },
    ),
    "af_spec": ((), {"AF_INET6": (AF_INET6, "af_inet6")}),
    "af_inet6": (
        (),
        {
            "IFLA_INET6_FLAGS": (1, "uint32"),
            "IFLA_INET6_TOKEN": (7, "ipaddr"),
            "IFLA_INET6_ADDR_GEN_MODE": (8, "uint8"),
        },
    ),
    "af_bridge": (
        (),
        {
            "IFLA_BRIDGE_FLAGS": (0, "uint16"),
            "IFLA_BRIDGE_MODE": (1, "uint16"),
            "IFLA_BRIDGE_VLAN_INFO": (2, "bridge_vlan_info"),
        },
    ),
    "bridge_vlan_info": (("HH", ("flags", "vid")), {}),
    "ifaddrmsg": (
        ("BBBBI", ("family", "prefixlen", "flags", "scope", "index")),
        {
            "IFA_ADDRESS": (1, "ipaddr"),
            "IFA_LOCAL": (2, "ipaddr"),
            "IFA_LABEL": (3, "asciiz"),
            "IFA_BROADCAST": (4, "ipaddr"),
            "IFA_CACHEINFO": (6, "address_lifetime"),
            "IFA_FLAGS": (8, "uint32"),
            "IFA_RT_PRIORITY": (9, "uint32"),
            "IFA_TARGET_NETNSID": (10, "int32"),
            "IFA_PROTO": (11, "uint8"),
        },
    ),
    "address_lifetime": (("IIII", ("ifa_preferred", "ifa_valid", "cstamp", "tstamp")), {}),
    "rtmsg": (
        ("8BI", ("family", "dst_len", "src_len", "tos", "table", "proto", "scope", "type", "flags")),
        {
            "RTA_DST": (1, "ipaddr"),
            "RTA_SRC": (2, "ipaddr"),
            "RTA_IIF": (3, "uint32"),
            "RTA_OIF": (4, "uint32"),
            "RTA_GATEWAY": (5, "ipaddr"),
            "RTA_PRIORITY": (6, "uint32"),
            "RTA_PREFSRC": (7, "ipaddr"),
            "RTA_METRICS": (8, "route_metrics"),
            "RTA_MULTIPATH": (9, "+nexthop"),
            "RTA_FLOW": (11, "uint32"),
            "RTA_CACHEINFO": (12, "route_cacheinfo"),
            "RTA_TABLE": (15, "uint32"),
            "RTA_MARK": (16, "uint32"),
            "RTA_VIA": (18, "via"),
            "RTA_PREF": (20, "uint8"),
            "RTA_EXPIRES": (23, "uint32"),
        },
    ),
    # struct rtnexthop; its first field, the length, belongs to the list.
    "nexthop": (("=BBi", ("flags", "hops", "oif")), {"RTA_GATEWAY": (5, "ipaddr"), "RTA_VIA": (18, "via")}),
    "route_metrics": (
        (),
        {
            "RTAX_LOCK": (1, "uint32"),
            "RTAX_MTU": (2, "uint32"),
            "RTAX_WINDOW": (3, "uint32"),
            "RTAX_ADVMSS": (8, "uint32"),
            "RTAX_HOPLIMIT": (10, "uint32"),
            "RTAX_INITCWND": (11, "uint32"),
            "RTAX_QUICKACK": (15, "uint32"),
        },
    ),
    "route_cacheinfo": (
        (
            "IIiIIIII",
            (
                "rta_clntref",
                "rta_lastuse",
                "rta_expires",
                "rta_error",
                "rta_used",
                "rta_id",
                "rta_ts",
                "rta_tsage",
            ),
        ),
        {},
    ),
    "fibmsg": (
        ("8BI", ("family", "dst_len", "src_len", "tos", "table", "res1", "res2", "action", "flags")),
        {
            "FRA_DST": (1, "ipaddr"),
            "FRA_SRC": (2, "ipaddr"),
            "FRA_IIFNAME": (3, "asciiz"),
            "FRA_GOTO": (4, "uint32"),
            "FRA_PRIORITY": (6, "uint32"),
            "FRA_FWMARK": (10, "uint32"),
            "FRA_SUPPRESS_IFGROUP": (13, "uint32"),
            "FRA_SUPPRESS_PREFIXLEN": (14, "uint32"),
            "FRA_TABLE": (15, "uint32"),
            "FRA_FWMASK": (16, "uint32"),
            "FRA_OIFNAME": (17, "asciiz"),
            "FRA_L3MDEV": (19, "uint8"),
            "FRA_PROTOCOL": (21, "uint8"),
            "FRA_IP_PROTO": (22, "uint8"),
        },
    ),
    "ndmsg": (
        ("BxxxiHBB", ("family", "ifindex", "state", "flags", "ndm_type")),
        {
            "NDA_DST": (1, "ipaddr"),
            "NDA_LLADDR": (2, "l2addr"),
            "NDA_CACHEINFO": (3, "neighbour_cacheinfo"),
            "NDA_PROBES": (4, "uint32"),
            "NDA_VLAN": (5, "uint16"),
            "NDA_IFINDEX": (8, "uint32"),
            "NDA_MASTER": (9, "uint32"),
            "NDA_PROTOCOL": (12, "uint8"),
            "NDA_FLAGS_EXT": (15, "uint32"),
        },
    ),
    "neighbour_cacheinfo": (("IIII", ("ndm_confirmed", "ndm_used", "ndm_updated", "ndm_refcnt")), {}),
    "nsidmsg": (
        ("Bxxx", ("rtgen_family",)),
        {
            "NETNSA_NSID": (1, "int32"),
            "NETNSA_PID": (2, "uint32"),
            "NETNSA_FD": (3, "uint32"),
            "NETNSA_TARGET_NSID": (4, "int32"),
            "NETNSA_CURRENT_NSID": (5, "int32"),
        },
    ),
}

MESSAGES = {
    **dict.fromkeys((RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK, RTM_SETLINK), "ifinfmsg"),
    **dict.fromkeys((RTM_NEWLINKPROP, RTM_DELLINKPROP), "ifinfmsg"),
    **dict.fromkeys((RTM_NEWADDR, RTM_DELADDR, RTM_GETADDR), "ifaddrmsg"),
    **dict.fromkeys((RTM_NEWROUTE, RTM_DELROUTE, RTM_GETROUTE), "rtmsg"),
    **dict.fromkeys((RTM_NEWNEIGH, RTM_DELNEIGH, RTM_GETNEIGH), "ndmsg"),
    **dict.fromkeys((RTM_NEWRULE, RTM_DELRULE, RTM_GETRULE), "fibmsg"),
    **dict.fromkeys((RTM_NEWNSID, RTM_DELNSID, RTM_GETNSID), "nsidmsg"),
}

FAMILY = Family(NETLINK_ROUTE, MESSAGES, TABLES, {"via": (_pack_via, _unpack_via)})
