"""The netlink layer against this machine's kernel, each test in a network namespace of its own."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

import pytest

from cnibox.host.netlink import nft, rtnl, tc
from cnibox.host.netlink.codec import attribute
from cnibox.host.netlink.socket import (
    NLM_F_APPEND,
    NLM_F_CREATE,
    NLM_F_EXCL,
    NLM_F_REQUEST,
    Netlink,
    NetlinkError,
)

CLONE_NEWNET = 0x40000000
NEW = NLM_F_CREATE | NLM_F_EXCL
UP = {"flags": rtnl.IFF_UP, "change": rtnl.IFF_UP}
INET = {"nfgen_family": nft.NFPROTO_INET}

_libc = ctypes.CDLL(None, use_errno=True)


def in_own_namespace(test: Callable[[], None]) -> Callable[[], None]:
    """Run a test in a child with a network namespace that ends with it."""

    @functools.wraps(test)
    def run() -> None:
        readable, writable = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                enter_new_namespace()
                test()
            except BaseException:
                os.write(writable, traceback.format_exc().encode())
            finally:
                sys.stdout.flush()
                os._exit(0)
        os.close(writable)
        with os.fdopen(readable) as report:
            failure = report.read()
        os.waitpid(child, 0)
        if failure:
            pytest.fail(failure, pytrace=False)

    return run


def enter_new_namespace() -> None:
    if _libc.unshare(CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")


def enter(namespace: int) -> None:
    if _libc.setns(namespace, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def output(command: str) -> str:
    return subprocess.run(command.split(), capture_output=True, text=True, check=True).stdout


def link(name: str, kind: str, *data: tuple[str, Any], attrs: Any = (), **header: int) -> Any:
    info: list[tuple[str, Any]] = [("IFLA_INFO_KIND", kind)]
    if data:
        info.append(("IFLA_INFO_DATA", {"attrs": list(data)}))
    return (
        rtnl.RTM_NEWLINK,
        NEW,
        {**header, "attrs": [("IFLA_IFNAME", name), *attrs, ("IFLA_LINKINFO", {"attrs": info})]},
    )


def get(name: str) -> Any:
    return rtnl.RTM_GETLINK, 0, {"attrs": [("IFLA_IFNAME", name)]}


@in_own_namespace
def test_batch_goes_on_after_a_failure() -> None:
    with Netlink(rtnl.FAMILY) as netlink:
        results = netlink.request(
            link("br0", "bridge", ("IFLA_BR_FORWARD_DELAY", 200), index=50, **UP),
            link("br0", "bridge"),
            link(
                "veth0",
                "veth",
                ("VETH_INFO_PEER", {"attrs": [("IFLA_IFNAME", "veth1")]}),
                attrs=[("IFLA_MASTER", 50)],
            ),
            get("br0"),
            get("nowhere"),
        )
        assert [results[0], results[2]] == [[], []]
        assert isinstance(results[1], NetlinkError) and results[1].errno == errno.EEXIST and results[1].index == 1
        assert isinstance(results[4], NetlinkError) and results[4].errno == errno.ENODEV
        assert isinstance(results[3], list) and results[3][0]["index"] == 50
        assert attribute(results[3][0], "IFLA_LINKINFO", "IFLA_INFO_DATA", "IFLA_BR_FORWARD_DELAY") == 200
        [[veth]] = netlink.run(get("veth0"), wanted=("IFLA_MASTER",))
        assert veth["attrs"] == [("IFLA_MASTER", 50)]
        with pytest.raises(NetlinkError, match="File exists") as raised:
            netlink.run(link("eth2", "veth"), link("br0", "bridge"), link("eth4", "veth"))
        assert raised.value.index == 1
        names = [attribute(found, "IFLA_IFNAME") for found in netlink.dump(rtnl.RTM_GETLINK, {}, {"IFLA_IFNAME"})]
        assert {"lo", "br0", "veth0", "veth1", "eth2", "eth4"} <= set(names)


@in_own_namespace
def test_more_requests_than_fit_the_buffers() -> None:
    with Netlink(rtnl.FAMILY) as netlink:
        index = 1
        netlink.run((rtnl.RTM_NEWLINK, 0, {"index": index, **UP}))
        addresses = [f"10.0.{number // 250}.{number % 250 + 1}" for number in range(1500)]
        requests = [
            (
                rtnl.RTM_NEWADDR,
                NEW,
                {"family": 2, "prefixlen": 32, "index": index, "attrs": [("IFA_LOCAL", text)]},
            )
            for text in [*addresses, addresses[0]]
        ]
        results = netlink.request(*requests)
        assert results[:-1] == [[]] * 1500
        assert isinstance(results[-1], NetlinkError) and results[-1].index == 1500
        found = netlink.dump(rtnl.RTM_GETADDR, {"family": 2, "index": index}, {"IFA_LOCAL"})
        assert {attribute(message, "IFA_LOCAL") for message in found} == {*addresses, "127.0.0.1"}


@in_own_namespace
def test_veth_into_another_namespace() -> None:
    host = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    with Netlink(rtnl.FAMILY) as outside:
        enter_new_namespace()
        container = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        with Netlink(rtnl.FAMILY) as inside:
            enter(host)
            peer = {"attrs": [("IFLA_IFNAME", "eth0"), ("IFLA_NET_NS_FD", container), ("IFLA_MTU", 1400)]}
            outside.run(
                link("br0", "bridge", index=50, **UP),
                link("veth0", "veth", ("VETH_INFO_PEER", peer), attrs=[("IFLA_MASTER", 50)], **UP),
            )
            [[there]] = inside.run(get("eth0"))
            [[here]] = outside.run(get("veth0"))
            assert attribute(here, "IFLA_LINK") == there["index"]
            assert attribute(here, "IFLA_LINK_NETNSID") is not None
            assert attribute(here, "IFLA_MASTER") == 50 and here["flags"] & rtnl.IFF_UP
            assert attribute(there, "IFLA_MTU") == 1400
            assert attribute(there, "IFLA_OPERSTATE") == "DOWN"
            set_up_addresses_and_routes(inside, there["index"])
            [[nsid]] = outside.run((rtnl.RTM_GETNSID, 0, {"attrs": [("NETNSA_FD", container)]}))
            assert attribute(nsid, "NETNSA_NSID") == attribute(here, "IFLA_LINK_NETNSID")
            [[nsid]] = inside.run((rtnl.RTM_GETNSID, 0, {"attrs": [("NETNSA_FD", container)]}))
            assert attribute(nsid, "NETNSA_NSID") == rtnl.NETNSA_NSID_NOT_ASSIGNED


def set_up_addresses_and_routes(netlink: Netlink, index: int) -> None:
    v4 = {"family": rtnl.AF_INET, "index": index, "prefixlen": 24}
    v6 = {"family": rtnl.AF_INET6, "index": index, "prefixlen": 64}
    route = {"family": rtnl.AF_INET, "proto": rtnl.RTPROT_BOOT, "type": rtnl.RTN_UNICAST}
    metrics = {"attrs": [("RTAX_MTU", 1300), ("RTAX_ADVMSS", 1200)]}
    hops = [{"oif": index, "hops": 2, "attrs": [("RTA_GATEWAY", "10.1.2.1")]}, {"oif": index, "attrs": []}]
    netlink.run(
        (rtnl.RTM_NEWLINK, 0, {"index": index, **UP}),
        (
            rtnl.RTM_NEWADDR,
            NEW,
            {**v4, "attrs": [("IFA_LOCAL", "10.1.2.3"), ("IFA_BROADCAST", "10.1.2.255")]},
        ),
        (rtnl.RTM_NEWADDR, NEW, {**v6, "attrs": [("IFA_LOCAL", "fd00::3"), ("IFA_FLAGS", rtnl.IFA_F_NODAD)]}),
        (
            rtnl.RTM_NEWROUTE,
            NEW,
            {
                **route,
                "table": rtnl.RT_TABLE_MAIN,
                "attrs": [
                    ("RTA_OIF", index),
                    ("RTA_GATEWAY", "10.1.2.1"),
                    ("RTA_PRIORITY", 7),
                    ("RTA_METRICS", metrics),
                ],
            },
        ),
        (
            rtnl.RTM_NEWROUTE,
            NEW,
            {
                **route,
                "dst_len": 16,
                "attrs": [("RTA_TABLE", 1000), ("RTA_DST", "10.9.0.0"), ("RTA_MULTIPATH", hops)],
            },
        ),
        (
            rtnl.RTM_NEWRULE,
            NEW,
            {
                "family": rtnl.AF_INET,
                "src_len": 32,
                "action": rtnl.FR_ACT_TO_TBL,
                "attrs": [("FRA_SRC", "10.1.2.3"), ("FRA_TABLE", 1000), ("FRA_PRIORITY", 99)],
            },
        ),
        (
            rtnl.RTM_NEWNEIGH,
            NEW,
            {
                "family": rtnl.AF_INET,
                "ifindex": index,
                "state": rtnl.NUD_PERMANENT,
                "attrs": [("NDA_DST", "10.1.2.1"), ("NDA_LLADDR", "0a:00:00:00:00:01")],
            },
        ),
    )
    [address] = netlink.dump(rtnl.RTM_GETADDR, {"family": rtnl.AF_INET, "index": index})
    assert attribute(address, "IFA_BROADCAST") == "10.1.2.255" and address["prefixlen"] == 24
    found = netlink.dump(rtnl.RTM_GETADDR, {"family": rtnl.AF_INET6, "index": index})
    [address] = [message for message in found if attribute(message, "IFA_ADDRESS") == "fd00::3"]
    assert not attribute(address, "IFA_FLAGS") & rtnl.IFA_F_TENTATIVE
    main = netlink.dump(rtnl.RTM_GETROUTE, {"family": rtnl.AF_INET, "table": rtnl.RT_TABLE_MAIN})
    [default] = [message for message in main if message["dst_len"] == 0]
    assert attribute(default, "RTA_GATEWAY") == "10.1.2.1" and attribute(default, "RTA_PRIORITY") == 7
    assert attribute(default, "RTA_METRICS") == metrics
    [multipath] = netlink.dump(rtnl.RTM_GETROUTE, {"family": rtnl.AF_INET, "attrs": [("RTA_TABLE", 1000)]})
    first, second = attribute(multipath, "RTA_MULTIPATH")
    assert first["hops"] == 2 and attribute(first, "RTA_GATEWAY") == "10.1.2.1" and second["oif"] == index
    rules = netlink.dump(rtnl.RTM_GETRULE, {"family": rtnl.AF_INET})
    assert [attribute(rule, "FRA_SRC") for rule in rules if attribute(rule, "FRA_PRIORITY") == 99] == ["10.1.2.3"]
    [neighbour] = netlink.dump(
        rtnl.RTM_GETNEIGH, {"family": rtnl.AF_INET, "ifindex": 0, "attrs": [("NDA_IFINDEX", index)]}
    )
    assert attribute(neighbour, "NDA_LLADDR") == "0a:00:00:00:00:01"


@in_own_namespace
def test_kinds_of_links() -> None:
    with Netlink(rtnl.FAMILY) as netlink:
        netlink.run(link("eth0", "veth", index=50, **UP))
        under = [("IFLA_LINK", 50)]
        macvlan = [("IFLA_MACVLAN_MODE", "bridge"), ("IFLA_MACVLAN_BC_QUEUE_LEN", 1500)]
        ipvlan = [("IFLA_IPVLAN_MODE", "l3s"), ("IFLA_IPVLAN_FLAGS", rtnl.IPVLAN_F_PRIVATE)]
        vlan = [("IFLA_VLAN_ID", 5), ("IFLA_VLAN_PROTOCOL", 0x8100)]
        wished = {
            "macvlan": macvlan,
            "ipvlan": ipvlan,
            "vlan": vlan,
            "vrf": [("IFLA_VRF_TABLE", 1000)],
            "dummy": [],
        }
        for kind, data in wished.items():
            [created] = netlink.request(link(f"{kind}0", kind, *data, attrs=under if kind != "dummy" else []))
            if isinstance(created, NetlinkError):
                assert created.errno == errno.EOPNOTSUPP, kind  # not in this kernel
                continue
            [[made]] = netlink.run(get(f"{kind}0"))
            assert attribute(made, "IFLA_LINKINFO", "IFLA_INFO_KIND") == kind
            for name, value in data:
                assert attribute(made, "IFLA_LINKINFO", "IFLA_INFO_DATA", name) == value


@in_own_namespace
def test_bridge_port() -> None:
    port = {"attrs": [("IFLA_BRPORT_MODE", 1), ("IFLA_BRPORT_ISOLATED", 1), ("IFLA_BRPORT_LEARNING", 0)]}
    slave = {"attrs": [("IFLA_INFO_SLAVE_KIND", "bridge"), ("IFLA_INFO_SLAVE_DATA", port)]}
    properties = {"attrs": [("IFLA_ALT_IFNAME", "another-name-for-the-port")]}
    with Netlink(rtnl.FAMILY) as netlink:
        netlink.run(
            link("br0", "bridge", index=50),
            link("port0", "veth", attrs=[("IFLA_MASTER", 50)], index=51),
            (rtnl.RTM_NEWLINK, 0, {"index": 51, "attrs": [("IFLA_LINKINFO", slave)]}),
            (rtnl.RTM_NEWLINKPROP, NEW, {"index": 51, "attrs": [("IFLA_PROP_LIST", properties)]}),
        )
        [[made]] = netlink.run(get("port0"))
        found = attribute(made, "IFLA_LINKINFO", "IFLA_INFO_SLAVE_DATA")["attrs"]
        assert set(port["attrs"]) <= {pair for pair in found if isinstance(pair[0], str)}
        assert attribute(made, "IFLA_PROP_LIST") == properties
        bridge = netlink.dump(rtnl.RTM_GETLINK, {"family": rtnl.AF_BRIDGE}, {"IFLA_PROTINFO", "IFLA_BRPORT_MODE"})
        assert [message["attrs"] for message in bridge if message["index"] == 51] == [
            [("IFLA_PROTINFO", {"attrs": [("IFLA_BRPORT_MODE", 1)]})]
        ]


@in_own_namespace
def test_errors_say_what_the_kernel_says() -> None:
    with Netlink(rtnl.FAMILY) as netlink:
        address = {"family": rtnl.AF_INET, "index": 1, "prefixlen": 40, "attrs": [("IFA_LOCAL", "10.0.0.1")]}
        with pytest.raises(NetlinkError, match="Invalid argument: ipv4: Invalid prefix length"):
            netlink.run((rtnl.RTM_NEWADDR, NEW, address))
        with pytest.raises(NetlinkError) as raised:
            netlink.run((rtnl.RTM_NEWLINK, 0, {"index": 1, "attrs": [("IFLA_MTU", b"\x01")]}))
        assert raised.value.attribute == "IFLA_MTU" and "(IFLA_MTU)" in str(raised.value)
        with pytest.raises(NetlinkError, match="not supported for link dumps"):
            netlink.dump(rtnl.RTM_GETLINK, {"index": 1})
        with pytest.raises(NetlinkError) as raised:
            netlink.dump(rtnl.RTM_GETADDR, {"index": 99})
        assert raised.value.errno == errno.ENODEV
        assert netlink.dump(rtnl.RTM_GETLINK, {}, {"IFLA_IFNAME"}) != []


@in_own_namespace
def test_dump_begins_again() -> None:
    with Netlink(rtnl.FAMILY) as netlink:
        once = netlink._dump_once
        attempts = []

        def interrupted(*arguments: Any) -> Any:
            attempts.append(once(*arguments))
            if len(attempts) < 3:
                raise NetlinkError(errno.EINTR)
            return attempts[-1]

        netlink._dump_once = interrupted  # type: ignore[method-assign]
        assert len(netlink.dump(rtnl.RTM_GETLINK, {}, {"IFLA_IFNAME"})) >= 1
        assert len(attempts) == 3


@in_own_namespace
def test_dump_of_many() -> None:
    with Netlink(rtnl.FAMILY) as netlink:
        before = len(netlink.dump(rtnl.RTM_GETLINK, {}, ()))
        netlink.run(*[link(f"v{number}", "veth", ("VETH_INFO_PEER", {"attrs": []})) for number in range(60)])
        assert len(netlink.dump(rtnl.RTM_GETLINK, {}, ())) == before + 120


@in_own_namespace
def test_traffic_control() -> None:
    parms = {"rate": 1000000, "rate___reserved": tc.TC_LINKLAYER_ETHERNET, "limit": 225000, "buffer": 3125000}
    mirred = {"action": tc.TC_ACT_STOLEN, "eaction": tc.TCA_EGRESS_REDIR, "ifindex": 50}
    action = [("TCA_ACT_KIND", "mirred"), ("TCA_ACT_OPTIONS", {"attrs": [("TCA_MIRRED_PARMS", mirred)]})]
    selector = {"flags": tc.TC_U32_TERMINAL, "keys": [{"key_mask": 0, "key_val": 0, "key_off": 0}]}
    options = [
        ("TCA_U32_CLASSID", 0x10001),
        ("TCA_U32_SEL", selector),
        ("TCA_U32_ACT", {"attrs": [("TCA_ACT_PRIO_1", {"attrs": action})]}),
    ]
    with Netlink(rtnl.FAMILY, tc.FAMILY) as netlink:
        netlink.run(
            link("eth0", "veth", index=50),
            (
                tc.RTM_NEWQDISC,
                NEW,
                {
                    "index": 50,
                    "handle": 0x10000,
                    "parent": tc.TC_H_ROOT,
                    "attrs": [("TCA_KIND", "tbf"), ("TCA_OPTIONS", {"attrs": [("TCA_TBF_PARMS", parms)]})],
                },
            ),
            (
                tc.RTM_NEWQDISC,
                NEW,
                {
                    "index": 50,
                    "handle": tc.INGRESS_HANDLE,
                    "parent": tc.TC_H_INGRESS,
                    "attrs": [("TCA_KIND", "ingress")],
                },
            ),
            (
                tc.RTM_NEWTFILTER,
                NEW,
                {
                    "index": 50,
                    "parent": tc.INGRESS_HANDLE,
                    "info": tc.filter_info(1, tc.ETH_P_ALL),
                    "attrs": [("TCA_KIND", "u32"), ("TCA_OPTIONS", {"attrs": options})],
                },
            ),
        )
        shown = output("tc qdisc show dev eth0")
        assert "qdisc tbf 1: root" in shown and "rate 8Mbit burst 200000b lat 25ms" in shown
        assert "qdisc ingress ffff:" in shown
        shown = output("tc filter show dev eth0 ingress")
        assert "filter parent ffff: protocol all pref 1 u32" in shown and "flowid 1:1" in shown
        assert "mirred (Egress Redirect to device eth0) stolen" in shown
        qdiscs = netlink.dump(tc.RTM_GETQDISC, {"index": 50})
        [tbf] = [found for found in qdiscs if attribute(found, "TCA_KIND") == "tbf"]
        assert parms.items() <= attribute(tbf, "TCA_OPTIONS", "TCA_TBF_PARMS").items()
        filters = netlink.dump(tc.RTM_GETTFILTER, {"index": 50, "parent": tc.INGRESS_HANDLE})
        path = ("TCA_OPTIONS", "TCA_U32_ACT", "TCA_ACT_PRIO_1", "TCA_ACT_OPTIONS", "TCA_MIRRED_PARMS")
        assert mirred.items() <= attribute(filters[-1], *path).items()
        assert attribute(filters[-1], "TCA_OPTIONS", "TCA_U32_SEL")["keys"][0]["key_mask"] == 0


def expression(name: str, *data: tuple[str, Any]) -> Any:
    return {"attrs": [("NFTA_EXPR_NAME", name), ("NFTA_EXPR_DATA", {"attrs": list(data)})]}


def value(data: bytes) -> Any:
    return {"attrs": [("NFTA_DATA_VALUE", data)]}


def rule(chain: str, *expressions: Any, comment: str = "") -> Any:
    attrs: list[tuple[str, Any]] = [("NFTA_RULE_TABLE", "cnibox"), ("NFTA_RULE_CHAIN", chain)]
    attrs.append(("NFTA_RULE_EXPRESSIONS", list(expressions)))
    if comment:
        attrs.append(("NFTA_RULE_USERDATA", nft.pack_comment(comment)))
    return nft.NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, {**INET, "attrs": attrs}


TABLE = (nft.NFT_MSG_NEWTABLE, NLM_F_CREATE, {**INET, "attrs": [("NFTA_TABLE_NAME", "cnibox")]})
HOOK = {"attrs": [("NFTA_HOOK_HOOKNUM", nft.NF_INET_POST_ROUTING), ("NFTA_HOOK_PRIORITY", nft.PRIORITY_SRCNAT)]}
CHAIN = (
    nft.NFT_MSG_NEWCHAIN,
    NLM_F_CREATE,
    {
        **INET,
        "attrs": [
            ("NFTA_CHAIN_TABLE", "cnibox"),
            ("NFTA_CHAIN_NAME", "post"),
            ("NFTA_CHAIN_HOOK", HOOK),
            ("NFTA_CHAIN_TYPE", "nat"),
            ("NFTA_CHAIN_POLICY", nft.NF_ACCEPT),
            ("NFTA_CHAIN_USERDATA", nft.pack_comment("of cnibox")),
        ],
    },
)
IPV4 = (
    expression("meta", ("NFTA_META_KEY", nft.NFT_META_NFPROTO), ("NFTA_META_DREG", nft.NFT_REG_1)),
    expression("cmp", ("NFTA_CMP_SREG", 1), ("NFTA_CMP_OP", nft.NFT_CMP_EQ), ("NFTA_CMP_DATA", value(b"\x02"))),
)
SOURCE = (
    expression(
        "payload",
        ("NFTA_PAYLOAD_DREG", nft.NFT_REG_1),
        ("NFTA_PAYLOAD_BASE", nft.NFT_PAYLOAD_NETWORK_HEADER),
        ("NFTA_PAYLOAD_OFFSET", 12),
        ("NFTA_PAYLOAD_LEN", 4),
    ),
    expression(
        "bitwise",
        ("NFTA_BITWISE_SREG", nft.NFT_REG_1),
        ("NFTA_BITWISE_DREG", nft.NFT_REG_1),
        ("NFTA_BITWISE_LEN", 4),
        ("NFTA_BITWISE_MASK", value(b"\xff\xff\xfe\x00")),
        ("NFTA_BITWISE_XOR", value(bytes(4))),
    ),
    expression("cmp", ("NFTA_CMP_SREG", 1), ("NFTA_CMP_OP", nft.NFT_CMP_NEQ), ("NFTA_CMP_DATA", value(b"\x0a\1\2\0"))),
)


@in_own_namespace
def test_nftables_transaction() -> None:
    with Netlink(nft.FAMILY) as netlink:
        masquerade = rule("post", *IPV4, *SOURCE, expression("counter"), expression("masq"), comment='net: "é"')
        [error] = netlink.transaction(masquerade)
        assert (error.errno, error.index) == (errno.ENOENT, 0)
        assert netlink.transaction(TABLE, CHAIN, masquerade) == []
        shown = output("nft list ruleset")
        assert "type nat hook postrouting priority srcnat; policy accept;" in shown
        assert "ip saddr != 10.1.2.0/23 counter packets 0 bytes 0 masquerade" in shown
        assert 'comment "of cnibox"' in shown and "é" in shown
        [found] = netlink.dump(nft.NFT_MSG_GETRULE, {**INET, "attrs": [("NFTA_RULE_TABLE", "cnibox")]})
        assert nft.unpack_comment(attribute(found, "NFTA_RULE_USERDATA")) == 'net: "é"'
        names = [attribute(item, "NFTA_EXPR_NAME") for item in attribute(found, "NFTA_RULE_EXPRESSIONS")]
        assert names == ["meta", "cmp", "payload", "bitwise", "cmp", "counter", "masq"]
        [[generation]] = netlink.run((nft.NFT_MSG_GETGEN, 0, {}))

        missing = rule("nowhere", expression("masq"))
        errors = netlink.transaction(masquerade, missing, masquerade, missing)
        assert [(error.errno, error.index) for error in errors] == [(errno.ENOENT, 1), (errno.ENOENT, 3)]
        with pytest.raises(NetlinkError) as raised:
            netlink.commit(masquerade, missing)
        assert raised.value.index == 1
        assert len(netlink.dump(nft.NFT_MSG_GETRULE, INET, ())) == 1
        [[after]] = netlink.run((nft.NFT_MSG_GETGEN, 0, {}))
        assert attribute(after, "NFTA_GEN_ID") == attribute(generation, "NFTA_GEN_ID")

        handle = attribute(found, "NFTA_RULE_HANDLE")
        place = [("NFTA_RULE_TABLE", "cnibox"), ("NFTA_RULE_CHAIN", "post"), ("NFTA_RULE_HANDLE", handle)]
        netlink.commit((nft.NFT_MSG_DELRULE, 0, {**INET, "attrs": place}))
        assert netlink.dump(nft.NFT_MSG_GETRULE, INET, ()) == []


@in_own_namespace
def test_large_transaction() -> None:
    """More answers, and more to send, than the default buffers hold."""
    with Netlink(nft.FAMILY) as netlink:
        rules = [rule("post", *IPV4, expression("masq"), comment=f"{number} {'x' * 100}") for number in range(2000)]
        assert netlink.transaction(TABLE, CHAIN, *rules) == []
        assert len(netlink.dump(nft.NFT_MSG_GETRULE, INET, ())) == 2000


@in_own_namespace
def test_a_refused_transaction() -> None:
    """Errors that answer the transaction as a whole: without the capability, and of the commit."""
    capset = b"\x22\x05\x08\x20" + bytes(4)  # _LINUX_CAPABILITY_VERSION_3, this process; then no capability
    with Netlink(nft.FAMILY) as netlink:
        assert _libc.capset(capset, bytes(24)) == 0
        [error] = netlink.transaction(TABLE, CHAIN)
        assert (error.errno, error.index) == (errno.EPERM, -1)


@in_own_namespace
def test_nftables_chains_sets_and_maps() -> None:
    """What portmap needs: a set of address . port, `fib daddr type local jump`, `dnat to address:port`."""
    prerouting = {
        "attrs": [("NFTA_HOOK_HOOKNUM", nft.NF_INET_PRE_ROUTING), ("NFTA_HOOK_PRIORITY", nft.PRIORITY_DSTNAT)]
    }
    ip = {"nfgen_family": nft.NFPROTO_IPV4}
    fields = [{"attrs": [("NFTA_SET_FIELD_LEN", 4)]}, {"attrs": [("NFTA_SET_FIELD_LEN", 2)]}]
    jump = {"attrs": [("NFTA_VERDICT_CODE", nft.NFT_JUMP), ("NFTA_VERDICT_CHAIN", "ports")]}
    in_table = ("NFTA_CHAIN_TABLE", "cnibox")
    base = [in_table, ("NFTA_CHAIN_NAME", "pre"), ("NFTA_CHAIN_HOOK", prerouting), ("NFTA_CHAIN_TYPE", "nat")]
    concatenated = [
        ("NFTA_SET_TABLE", "cnibox"),
        ("NFTA_SET_NAME", "services"),
        ("NFTA_SET_FLAGS", nft.NFT_SET_CONCAT),
        ("NFTA_SET_KEY_TYPE", 7 << 6 | 13),  # ipv4_addr . inet_service
        ("NFTA_SET_KEY_LEN", 8),
        ("NFTA_SET_ID", 1),
        ("NFTA_SET_DESC", {"attrs": [("NFTA_SET_DESC_CONCAT", fields)]}),
        ("NFTA_SET_USERDATA", nft.pack_comment("services of cnibox", nft.SET_COMMENT)),
    ]
    element = {"attrs": [("NFTA_SET_ELEM_KEY", value(b"\x0a\1\2\3\0\x50\0\0"))]}
    elements = [
        ("NFTA_SET_ELEM_LIST_TABLE", "cnibox"),
        ("NFTA_SET_ELEM_LIST_SET", "services"),
        ("NFTA_SET_ELEM_LIST_SET_ID", 1),
        ("NFTA_SET_ELEM_LIST_ELEMENTS", [element]),
    ]
    local = expression(
        "fib",
        ("NFTA_FIB_DREG", nft.NFT_REG_1),
        ("NFTA_FIB_RESULT", nft.NFT_FIB_RESULT_ADDRTYPE),
        ("NFTA_FIB_FLAGS", nft.NFTA_FIB_F_DADDR),
    )
    is_local = expression("cmp", ("NFTA_CMP_SREG", 1), ("NFTA_CMP_OP", 0), ("NFTA_CMP_DATA", value(b"\2\0\0\0")))
    go = expression(
        "immediate",
        ("NFTA_IMMEDIATE_DREG", 0),
        ("NFTA_IMMEDIATE_DATA", {"attrs": [("NFTA_DATA_VERDICT", jump)]}),
    )
    address, port = value(b"\x0a\1\2\3"), value(b"\x1f\x90")
    nat = (
        expression("immediate", ("NFTA_IMMEDIATE_DREG", 1), ("NFTA_IMMEDIATE_DATA", address)),
        expression("immediate", ("NFTA_IMMEDIATE_DREG", 2), ("NFTA_IMMEDIATE_DATA", port)),
        expression(
            "nat",
            ("NFTA_NAT_TYPE", nft.NFT_NAT_DNAT),
            ("NFTA_NAT_FAMILY", nft.NFPROTO_IPV4),
            ("NFTA_NAT_REG_ADDR_MIN", nft.NFT_REG_1),
            ("NFTA_NAT_REG_PROTO_MIN", nft.NFT_REG_2),
        ),
    )
    tcp = (
        expression("meta", ("NFTA_META_KEY", nft.NFT_META_L4PROTO), ("NFTA_META_DREG", 1)),
        expression("cmp", ("NFTA_CMP_SREG", 1), ("NFTA_CMP_OP", 0), ("NFTA_CMP_DATA", value(b"\6"))),
    )
    with Netlink(nft.FAMILY) as netlink:
        requests = [
            (nft.NFT_MSG_NEWTABLE, NLM_F_CREATE, {"attrs": [("NFTA_TABLE_NAME", "cnibox")]}),
            (nft.NFT_MSG_NEWCHAIN, NLM_F_CREATE, {"attrs": [in_table, ("NFTA_CHAIN_NAME", "ports")]}),
            (nft.NFT_MSG_NEWCHAIN, NLM_F_CREATE, {"attrs": base}),
            (nft.NFT_MSG_NEWSET, NLM_F_CREATE, {"attrs": concatenated}),
            (nft.NFT_MSG_NEWSETELEM, NLM_F_CREATE, {"attrs": elements}),
            rule("ports", *tcp, *nat),
            rule("pre", local, is_local, go),
        ]
        netlink.commit(*[(kind, flags, {**body, **ip}) for kind, flags, body in requests])
        shown = output("nft list ruleset")
        assert "fib daddr type local jump ports" in shown
        assert "ip protocol tcp dnat to 10.1.2.3:8080" in shown or "meta l4proto tcp dnat to 10.1.2.3:8080" in shown
        assert "type ipv4_addr . inet_service" in shown and "elements = { 10.1.2.3 . 80 }" in shown
        in_set = {
            **ip,
            "attrs": [("NFTA_SET_ELEM_LIST_TABLE", "cnibox"), ("NFTA_SET_ELEM_LIST_SET", "services")],
        }
        # The last of the kernel's messages may be empty.
        parts = netlink.dump(nft.NFT_MSG_GETSETELEM, in_set)
        listed = [item for part in parts for item in attribute(part, "NFTA_SET_ELEM_LIST_ELEMENTS")]
        assert listed == [element]
        [described] = netlink.dump(nft.NFT_MSG_GETSET, {**ip, "attrs": [("NFTA_SET_TABLE", "cnibox")]})
        assert attribute(described, "NFTA_SET_DESC", "NFTA_SET_DESC_CONCAT") == fields
        assert nft.unpack_comment(attribute(described, "NFTA_SET_USERDATA"), nft.SET_COMMENT) == "services of cnibox"
        rules = netlink.dump(
            nft.NFT_MSG_GETRULE, {**ip, "attrs": [("NFTA_RULE_TABLE", "cnibox"), ("NFTA_RULE_CHAIN", "pre")]}
        )
        [fib, _, immediate] = attribute(rules[-1], "NFTA_RULE_EXPRESSIONS")
        assert set(fib["attrs"][1][1]["attrs"]) == set(local["attrs"][1][1]["attrs"])
        assert attribute(immediate, "NFTA_EXPR_DATA", "NFTA_IMMEDIATE_DATA", "NFTA_DATA_VERDICT") == jump


@in_own_namespace
def test_rules_of_iptables_are_readable() -> None:
    if "nf_tables" not in output("iptables --version"):
        return
    command = "iptables -t nat -A POSTROUTING -s 10.1.0.0/16 -m comment --comment hello -j MASQUERADE"
    subprocess.run(command.split(), check=True)
    with Netlink(nft.FAMILY) as netlink:
        [found] = netlink.dump(nft.NFT_MSG_GETRULE, {"nfgen_family": nft.NFPROTO_IPV4})
        by_name = {attribute(item, "NFTA_EXPR_NAME"): item for item in attribute(found, "NFTA_RULE_EXPRESSIONS")}
        assert attribute(by_name["match"], "NFTA_EXPR_DATA", "NFTA_MATCH_NAME") == "comment"
        assert attribute(by_name["match"], "NFTA_EXPR_DATA", "NFTA_MATCH_INFO").startswith(b"hello\0")


@in_own_namespace
def test_what_the_kernel_dumps_survives_decoding() -> None:
    """What is decoded and encoded again says the same, for every object that ip, tc and nft can show here."""
    for command in (
        "ip link add br0 type bridge",
        "ip link add v0 type veth peer name v1",
        "ip link set v0 master br0 up",
        "ip link set v1 up",
        "ip link set lo up",
        "ip address add 10.1.2.3/24 dev v1",
        "ip route add 10.9.0.0/16 via 10.1.2.1",
        "tc qdisc add dev v1 root tbf rate 8mbit burst 20000 latency 25ms",
        "nft add table inet t",
        "nft add chain inet t c { type filter hook input priority 0 ; }",
        "nft add rule inet t c ct state established,related counter accept",
        "nft add rule inet t c tcp dport { 22, 80 } iifname lo drop",
    ):
        subprocess.run(command.split(), check=True)
    dumps = [
        (rtnl.FAMILY, rtnl.RTM_GETLINK),
        (rtnl.FAMILY, rtnl.RTM_GETADDR),
        (rtnl.FAMILY, rtnl.RTM_GETROUTE),
        (rtnl.FAMILY, rtnl.RTM_GETRULE),
        (rtnl.FAMILY, rtnl.RTM_GETNEIGH),
        (tc.FAMILY, tc.RTM_GETQDISC),
        (nft.FAMILY, nft.NFT_MSG_GETTABLE),
        (nft.FAMILY, nft.NFT_MSG_GETCHAIN),
        (nft.FAMILY, nft.NFT_MSG_GETRULE),
        (nft.FAMILY, nft.NFT_MSG_GETSET),
    ]
    for family, kind in dumps:
        with Netlink(family) as netlink:
            found = netlink.dump(kind, {})
        assert found or kind == rtnl.RTM_GETNEIGH
        for message in found:
            table = family.messages[kind]
            assert family.decode(table, family.encode(table, message)) == message


@in_own_namespace
def test_events() -> None:
    with Netlink(rtnl.FAMILY) as netlink, Netlink(rtnl.FAMILY) as watch:
        watch.subscribe(rtnl.RTNLGRP_LINK, rtnl.RTNLGRP_IPV6_IFADDR)
        assert watch.events(0) == []
        began = time.monotonic()
        assert watch.events(0.05) == []
        assert 0.04 < time.monotonic() - began < 1
        netlink.run(link("eth0", "veth", index=50, **UP))
        seen = []
        while not any(kind == rtnl.RTM_NEWLINK and message["index"] == 50 for kind, message in seen):
            events = watch.events(1, {"IFLA_IFNAME"})
            assert events
            seen += events
        netlink.run((rtnl.RTM_DELLINK, 0, {"index": 50}))
        while not any(kind == rtnl.RTM_DELLINK and message["index"] == 50 for kind, message in seen):
            events = watch.events(1)
            assert events
            seen += events


@in_own_namespace
def test_lost_events() -> None:
    with Netlink(rtnl.FAMILY) as netlink, Netlink(rtnl.FAMILY) as watch:
        watch.subscribe(rtnl.RTNLGRP_LINK)
        watch._socket.setsockopt(1, 8, 2048)  # SO_RCVBUF
        netlink.run(*[link(f"v{number}", "veth") for number in range(10)])
        seen = [watch.events(0) for _ in range(10)]
        assert None in seen


@in_own_namespace
def test_messages_of_other_processes_are_ignored() -> None:
    with Netlink(rtnl.FAMILY) as netlink, Netlink(rtnl.FAMILY) as other:
        for socket in (netlink, other):
            socket._socket.bind((0, 0))
        forged = netlink._sequence + 1
        header = (
            (20).to_bytes(4, "little") + (2).to_bytes(2, "little") + bytes(2) + forged.to_bytes(4, "little") + bytes(4)
        )
        other._socket.sendto(header + bytes(4), (netlink._socket.getsockname()[0], 0))
        [[lo]] = netlink.run((rtnl.RTM_GETLINK, NLM_F_REQUEST, {"index": 1}))
        assert attribute(lo, "IFLA_IFNAME") == "lo"
