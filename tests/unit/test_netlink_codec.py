"""The tables against pyroute2, exhaustively: one message for each path, both ways, byte for byte.

Where pyroute2 differs from the kernel, the kernel is followed: DEVIATIONS lists each place with its reason
and, instead of the comparison, the payload that the kernel's headers describe. All numbers and named
constants are compared with the kernel's headers, too, where these are installed.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from pathlib import Path
from struct import calcsize
from types import ModuleType
from typing import Any

import pytest
from pyroute2.netlink import nla, nla_base_string, nlmsg
from pyroute2.netlink.nfnetlink import nfctsocket, nftsocket
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.nsidmsg import nsidmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from cnibox.host.netlink import conntrack, nft, rtnl, tc
from cnibox.host.netlink.codec import CONVERTERS, SCALARS, DecodeError, EncodeError, Family, attribute

Message = dict[str, Any]
Path_ = tuple[tuple[str, str], ...]  # (table, attribute or field), from the outermost

# Family, its module, and pyroute2's class for each table that is a whole message.
FAMILIES: list[tuple[ModuleType, dict[str, type[nlmsg]]]] = [
    (
        rtnl,
        {
            "ifinfmsg": ifinfmsg,
            "ifaddrmsg": ifaddrmsg,
            "rtmsg": rtmsg,
            "fibmsg": fibmsg,
            "ndmsg": ndmsg,
            "nsidmsg": nsidmsg,
        },
    ),
    (tc, {"tcmsg": tcmsg}),
    (
        nft,
        {
            "table": nftsocket.nft_table_msg,
            "chain": nftsocket.nft_chain_msg,
            "rule": nftsocket.nft_rule_msg,
            "set": nftsocket.nft_set_msg,
            "set_elements": nftsocket.nft_set_elem_list_msg,
            "generation": nftsocket.nft_gen_msg,
        },
    ),
    (conntrack, {"connection": nfctsocket.nfct_msg}),
]

# (table, attribute): its number, reason, a value, its payload by the kernel's headers.
DEVIATIONS: dict[tuple[str, str], tuple[int, str, Any, str]] = {
    ("ifinfmsg", "IFLA_NEW_NETNSID"): (45, "big-endian there", -1, "ffffffff"),
    ("ifinfmsg", "IFLA_TARGET_NETNSID"): (46, "its old name IFLA_IF_NETNSID there, unsigned", -1, "ffffffff"),
    ("ifinfmsg", "IFLA_PERM_ADDRESS"): (
        54,
        "cannot be encoded from its text there",
        "0a:00:00:00:00:01",
        "0a0000000001",
    ),
    ("ifinfmsg", "IFLA_GSO_IPV4_MAX_SIZE"): (63, "ends at IFLA_ALLMULTI", 65536, "00000100"),
    ("ifinfmsg", "IFLA_GRO_IPV4_MAX_SIZE"): (64, "ends at IFLA_ALLMULTI", 65536, "00000100"),
    ("linkinfo", "IFLA_INFO_SLAVE_DATA:vrf"): (
        5,
        "unknown there",
        [("IFLA_INFO_SLAVE_KIND", "vrf"), ("IFLA_INFO_SLAVE_DATA", {"attrs": [("IFLA_VRF_PORT_TABLE", 9)]})],
        "0800010009000000",
    ),
    ("macvlan", "IFLA_MACVLAN_BC_QUEUE_LEN"): (7, "missing", 1000, "e8030000"),
    ("macvlan", "IFLA_MACVLAN_BC_QUEUE_LEN_USED"): (8, "missing", 1000, "e8030000"),
    ("ipvlan", "IFLA_IPVLAN_MODE"): (
        1,
        "a number there; words as for macvlan are easier to read",
        "l3s",
        "0200",
    ),
    ("ipvlan", "IFLA_IPVLAN_FLAGS"): (2, "missing", 1, "0100"),
    ("af_bridge", "IFLA_BRIDGE_FLAGS"): (0, "has two names there", 2, "0200"),
    ("ifaddrmsg", "IFA_TARGET_NETNSID"): (10, "a string there", -1, "ffffffff"),
    ("rtmsg", "RTA_EXPIRES"): (23, "hexadecimal there", 60, "3c000000"),
    ("nsidmsg", "NETNSA_NSID"): (1, "unsigned there; -1 is NETNSA_NSID_NOT_ASSIGNED", -1, "ffffffff"),
    ("nsidmsg", "NETNSA_TARGET_NSID"): (4, "unsigned there", -1, "ffffffff"),
    ("nsidmsg", "NETNSA_CURRENT_NSID"): (5, "unsigned there", -1, "ffffffff"),
    ("tcmsg", "TCA_CHAIN"): (11, "ends at TCA_STAB", 1, "01000000"),
    ("tcmsg", "TCA_HW_OFFLOAD"): (12, "ends at TCA_STAB", 1, "01"),
    ("tcmsg", "TCA_INGRESS_BLOCK"): (13, "ends at TCA_STAB", 1, "01000000"),
    ("tcmsg", "TCA_EGRESS_BLOCK"): (14, "ends at TCA_STAB", 1, "01000000"),
    ("tbf", "TCA_TBF_PARMS"): (
        1,
        "computes a rate table, and cell_log and cell_align, which is not needed with linklayer set",
        {"rate": 1000000, "rate___reserved": tc.TC_LINKLAYER_ETHERNET, "limit": 225000, "buffer": 3125000},
        "000100000000000040420f00" + "00" * 12 + "e86e0300" + "08af2f00" + "00000000",
    ),
    ("tbf", "TCA_TBF_RATE64"): (4, "missing", 1 << 33, "0000000002000000"),
    ("tbf", "TCA_TBF_PRATE64"): (5, "missing", 1 << 33, "0000000002000000"),
    ("tbf", "TCA_TBF_BURST"): (6, "missing", 200000, "400d0300"),
    ("tbf", "TCA_TBF_PBURST"): (7, "missing", 200000, "400d0300"),
    ("u32", "TCA_U32_SEL"): (
        5,
        "takes keys as text and decides on the flags; compared below",
        {"flags": 1, "keys": [{"key_mask": 0xFFFF0000, "key_val": 0x0A010000, "key_off": 16}]},
        "0100010000000000" + "0000000000000000" + "ffff0000" + "0a010000" + "10000000" + "00000000",
    ),
    ("u32", "TCA_U32_FLAGS"): (11, "missing", 8, "08000000"),
    ("rule", "NFTA_RULE_COMPAT"): (
        5,
        "hexadecimal there",
        {"attrs": [("NFTA_RULE_COMPAT_PROTO", 6), ("NFTA_RULE_COMPAT_FLAGS", 0)]},
        "0800010000000006" + "0800020000000000",
    ),
    ("verdict", "NFTA_VERDICT_CHAIN_ID"): (3, "missing in the data of expressions", 7, "00000007"),
    ("set_description", "NFTA_SET_DESC_CONCAT"): (
        2,
        "one level of nesting too many, the lengths are lost",
        [{"attrs": [("NFTA_SET_FIELD_LEN", 4)]}, {"attrs": [("NFTA_SET_FIELD_LEN", 2)]}],
        "0c000100" + "0800010000000004" + "0c000100" + "0800010000000002",
    ),
}

# Different in form only: pyroute2 takes and gives another value for the same payload.
COMMENTS = {"NFTA_TABLE_USERDATA", "NFTA_CHAIN_USERDATA", "NFTA_RULE_USERDATA"}  # its text there, bytes here


@pytest.fixture(autouse=True, scope="module")
def plain_values() -> Iterator[None]:
    """Take from pyroute2's nftables its layout, not its names, which it decodes to but does not encode from.

    Among them are wrong ones: fib's result is a number, no set of flags (`fib daddr type` decodes as two
    flags there), fib's flags are a set, no number, and NFT_SET_ELEM_INTERVAL_END encodes to 0.
    """
    patch = pytest.MonkeyPatch()
    for kind in (nftsocket.nft_map_uint8, nftsocket.nft_flags_be32):
        patch.setattr(kind, "decode", nla.decode)
        patch.setattr(kind, "encode", nla.encode, raising=False)
    patch.setattr(nftsocket.nftnl_udata, "decode", nla_base_string.decode)
    yield
    patch.undo()


SAMPLES: dict[str, list[Any]] = {
    "uint8": [0xA1],
    "uint16": [0xA1B2],
    "uint32": [0xA1B2C3D4],
    "uint64": [0xA1B2C3D4E5F60718],
    "int32": [-2, 0x11223344],
    "be16": [0xA1B2],
    "be32": [0xA1B2C3D4],
    "be64": [0xA1B2C3D4E5F60718],
    "sbe32": [-2, 0x11223344],
    "asciiz": ["eth0", "veth1a2b3c4d5e6", "é"],
    "ip6addr": ["fd00:1:2::3"],
    "l2addr": ["0a:1b:2c:3d:4e:5f"],
    "binary": [b"\x01", b"\x0a\x01\x00\x02", b"\x00" * 5],
    "via": [{"family": 2, "addr": "10.1.2.3"}, {"family": 10, "addr": "fd00::3"}],
    "u32_selector": [{"flags": 1, "keys": [{"key_mask": 0xFF000000, "key_val": 0x0A000000, "key_off": 12}]}],
}
ADDRESSES = {2: "10.1.2.3", 10: "fd00:1:2::3"}


def values(family: Family, kind: str, ip: int, inside: tuple[str, ...]) -> Iterator[tuple[Any, Path_]]:
    """Values for an attribute of a kind, one for each path below it."""
    if kind == "ipaddr":
        yield ADDRESSES[ip], ()
    elif kind in SAMPLES:
        for sample in SAMPLES[kind]:
            yield sample, ()
    elif kind[0] in "*+":
        elements = list(messages(family, kind[1:], ip, inside))
        for element, path in elements:
            yield [element], path
        yield [elements[0][0], elements[-1][0]], elements[0][1] + elements[-1][1]
    elif isinstance(family.tables[kind][0], str):
        for word in family.tables[kind][1].values():
            yield word, ()
    else:
        yield from messages(family, kind, ip, inside)


def messages(family: Family, table: str, ip: int, inside: tuple[str, ...] = ()) -> Iterator[tuple[Message, Path_]]:
    """One message for each field and each path below each attribute; a veth's peer has no peer again."""
    header, attributes = family.tables[table]
    inside = (*inside, table)
    ip = 10 if table == "af_inet6" else ip
    base: Message = {"family": ip} if table == "rtmsg" else {}
    letters = re.sub(r"(\d+)(\w)", lambda match: int(match[1]) * match[2], header[0] if header else "")
    for letter, field in zip(re.sub("[^a-zA-Z]|x", "", letters), header[1] if header else (), strict=True):
        sample = {"B": 0xA1, "H": 0xA1B2, "I": 0xA1B2C3D4, "h": -2, "i": -2}[letter]
        message = {name: 0 for name in header[1]}
        yield {**message, **base, field: sample}, ((table, field),)
    for name, (_, kind, *_) in attributes.items():
        if kind in inside and table in inside[:-1]:
            continue
        if isinstance(kind, str):
            for value, path in values(family, kind, ip, inside):
                yield {**base, "attrs": [(name, value)]}, ((table, name), *path)
            continue
        selector, choices = kind
        for choice, chosen in choices.items():
            for value, path in values(family, chosen, ip, inside):
                path = ((table, name), (table, f"{name}:{choice}"), *path)
                if selector[0] == ".":
                    yield {selector[1:]: choice, "attrs": [(name, value)]}, path
                else:
                    yield {"attrs": [(selector, choice), (name, value)]}, path


def theirs(cls: type[nlmsg], message: Message) -> bytes:
    packet = cls()
    packet.setvalue(for_pyroute2(message))
    packet.encode()
    return bytes(packet.data[16:])


def for_pyroute2(value: Any) -> Any:
    if isinstance(value, dict):
        changed = {key: for_pyroute2(item) for key, item in value.items() if key != "attrs"}
        if "attrs" in value:
            changed["attrs"] = [(name, for_pyroute2(inner)) for name, inner in value["attrs"]]
        return changed
    return [for_pyroute2(item) for item in value] if isinstance(value, list) else value


def decoded_by_pyroute2(cls: type[nlmsg], data: bytes) -> Message:
    header = (len(data) + 16).to_bytes(4, "little") + bytes(12)
    packet = cls(data=header + data)
    packet.decode()
    return plain(packet)


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        result = {
            key: item
            for key, item in value.items()
            if key not in ("header", "attrs", "event", "pad1", "pad2") and key[0] != "_"
        }
        if value.__class__ is ifinfmsg:
            del result["state"]
        if "attrs" in value:
            result["attrs"] = [(slot[0], plain(slot[1])) for slot in value["attrs"]]
        return result
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def for_comparison(value: Any) -> Any:
    """Ours, in the form in which pyroute2 gives it."""
    if isinstance(value, dict):
        changed = {key: for_comparison(item) for key, item in value.items() if key != "attrs"}
        if "attrs" in value:
            changed["attrs"] = [
                (name, as_hexadecimal(inner) if name in HEXADECIMAL else for_comparison(inner))
                for name, inner in value["attrs"]
            ]
        return changed
    return [for_comparison(item) for item in value] if isinstance(value, list) else value


HEXADECIMAL = {"NFTA_MATCH_INFO", "NFTA_TARGET_INFO"}


def as_hexadecimal(data: bytes) -> str:
    return data.hex(":")


CASES = [
    (module, classes[table], table, message, path)
    for module, classes in FAMILIES
    for table in classes
    for ip in ((2, 10) if module is rtnl else (2,))
    for message, path in messages(module.FAMILY, table, ip)
]
COMPARED = [case for case in CASES if not any(place in DEVIATIONS or place[1] in COMMENTS for place in case[4])]


def test_every_message_type_has_a_class() -> None:
    for module, classes in FAMILIES:
        assert set(module.MESSAGES.values()) == set(classes)


def test_every_table_is_reached() -> None:
    for module, _ in FAMILIES:
        reached = {table for case in CASES if case[0] is module for table, _ in case[4]}
        layouts = {name for name, (header, _) in module.TABLES.items() if not isinstance(header, str)}
        assert reached == layouts
        for table in layouts:
            attributes = module.TABLES[table][1]
            assert {name for case in CASES for place, name in case[4] if place == table} >= set(attributes)


def test_encodes_as_pyroute2() -> None:
    for module, cls, table, message, path in COMPARED:
        assert module.FAMILY.encode(table, message) == theirs(cls, message), path


def test_decodes_as_pyroute2() -> None:
    for module, cls, table, message, path in COMPARED:
        data = module.FAMILY.encode(table, message)
        assert for_comparison(module.FAMILY.decode(table, data)) == decoded_by_pyroute2(cls, data), path


def test_decodes_what_it_encoded() -> None:
    for module, _, table, message, path in CASES:
        data = module.FAMILY.encode(table, message)
        decoded = module.FAMILY.decode(table, data)
        assert decoded.get("attrs", []) == with_defaults(module.FAMILY, table, message).get("attrs", []), path
        assert module.FAMILY.encode(table, decoded) == data, path


def with_defaults(family: Family, table: str, message: Message) -> Message:
    """The message with the header fields that were left out, at all levels."""
    again = family.decode(table, family.encode(table, {key: v for key, v in message.items() if key != "attrs"}))
    result: Message = {**again, **{key: value for key, value in message.items() if key != "attrs"}}
    if "attrs" not in message:
        return result
    result["attrs"] = []
    for name, value in message["attrs"]:
        kind = family.tables[table][1][name][1]
        if isinstance(kind, tuple):
            kind = family._select(kind, message)
        if kind == "u32_selector":
            zeros = dict.fromkeys(("flags", "offshift", "nkeys", "offmask", "off", "offoff", "hoff", "hmask"), 0)
            keys = [{"key_offmask": 0, **key} for key in value["keys"]]
            value = {**zeros, **value, "nkeys": len(keys), "keys": keys}
        elif kind[0] in "*+":
            value = [with_defaults(family, kind[1:], element) for element in value]
        elif kind in family.tables and isinstance(value, dict):
            value = with_defaults(family, kind, value)
        result["attrs"].append((name, value))
    if family.tables[table][1]:
        return result
    return {key: value for key, value in result.items() if key != "attrs"}


@pytest.mark.parametrize("place", DEVIATIONS, ids=":".join)
def test_deviations_follow_the_kernel(place: tuple[str, str]) -> None:
    table, name = place
    number, _, value, payload = DEVIATIONS[place]
    (family,) = [module.FAMILY for module, _ in FAMILIES if table in module.TABLES]
    if isinstance(value, list) and isinstance(value[0], tuple):
        name, attrs = value[-1][0], value
    else:
        attrs = [(name, value)]
    data = family.encode(table, {"attrs": attrs})
    expected = (len(payload) // 2 + 4).to_bytes(2, "little") + number.to_bytes(2, "little") + bytes.fromhex(payload)
    assert data.endswith(expected + bytes(-len(expected) & 3))
    decoded = family.decode(table, data)
    assert family.encode(table, decoded) == data
    if not isinstance(value, dict | list):
        assert decoded["attrs"] == attrs


def test_u32_keys_as_pyroute2() -> None:
    key = {"key_mask": 0xFFFF0000, "key_val": 0x0A010000, "key_off": 16}
    ours = {"TCA_U32_SEL": {"flags": 1, "keys": [key]}}
    message = {"attrs": [("TCA_KIND", "u32"), ("TCA_OPTIONS", {"attrs": list(ours.items())})]}
    text = {"keys": ["0x0a010000/0xffff0000+16"]}
    their = {"attrs": [("TCA_KIND", "u32"), ("TCA_OPTIONS", {"attrs": [("TCA_U32_SEL", text)]})]}
    assert tc.FAMILY.encode("tcmsg", message) == theirs(tcmsg, their)


@pytest.mark.parametrize("name", sorted(COMMENTS))
def test_comments_as_pyroute2(name: str) -> None:
    table = name.split("_")[1].lower()
    cls = FAMILIES[2][1][table]
    ours = nft.FAMILY.encode(table, {"attrs": [(name, nft.pack_comment("net: é"))]})
    assert ours == theirs(cls, {"attrs": [(name, "net: é")]})
    assert nft.unpack_comment(attribute(nft.FAMILY.decode(table, ours), name)) == "net: é"


def test_comment_after_other_user_data() -> None:
    assert nft.unpack_comment(b"\x01\x04\0\0\0\0" + nft.pack_comment("x")) == "x"
    assert nft.unpack_comment(nft.pack_comment("x", nft.SET_COMMENT), nft.SET_COMMENT) == "x"
    for data in (b"", b"\0", b"\x05\xff\0", nft.pack_comment("x", nft.SET_COMMENT)):
        assert nft.unpack_comment(data) == ""


def header_numbers() -> dict[str, int]:
    """The enumerators and macros of the kernel's headers that are plain numbers."""
    names = ("if_link", "if_addr", "if", "rtnetlink", "fib_rules", "neighbour", "net_namespace", "if_bridge")
    names += (
        "pkt_sched",
        "pkt_cls",
        "tc_act/tc_mirred",
        "netfilter_bridge",
        "netlink",
        "if_ether",
        "if_tun",
        "if_vlan",
        "if_arp",
    )
    names += (
        "netfilter/nf_tables",
        "netfilter/nf_tables_compat",
        "netfilter/nf_nat",
        "netfilter/nfnetlink_conntrack",
        "netfilter",
        "veth",
        "if_packet",
    )
    numbers: dict[str, int] = {}
    for name in names:
        path = Path(f"/usr/include/linux/{name}.h")
        text = re.sub(r"/\*.*?\*/|//[^\n]*", " ", path.read_text(), flags=re.S).replace("\\\n", " ")
        for macro, value in re.findall(r"^[ \t]*#[ \t]*define[ \t]+(\w+)[ \t]+(\S.*)$", text, flags=re.M):
            set_number(numbers, macro, value)
        for body in re.findall(r"\benum\b[^{;()]*\{(.*?)\}", re.sub(r"^\s*#.*$", "", text, flags=re.M), flags=re.S):
            following: int | None = 0
            for entry in filter(None, map(str.strip, body.split(","))):
                enumerator, _, value = map(str.strip, entry.partition("="))
                following = set_number(numbers, enumerator, value or str(following))
                following = None if following is None else following + 1
        for macro, value in re.findall(r"^[ \t]*#[ \t]*define[ \t]+(\w+)[ \t]+(\S.*)$", text, flags=re.M):
            set_number(numbers, macro, value)
    return numbers


def set_number(numbers: dict[str, int], name: str, text: str) -> int | None:
    try:
        value = eval(re.sub(r"\b(0x[0-9a-fA-F]+|\d+)[uUlL]+\b", r"\1", text), {}, numbers)
    except Exception:
        return None
    if isinstance(value, int):
        numbers[name] = value
        return value
    return None


NOT_IN_HEADERS = {
    *("AF_UNSPEC", "AF_INET", "AF_BRIDGE", "AF_INET6"),  # the C library's
    *("IFLA_GSO_IPV4_MAX_SIZE", "IFLA_GRO_IPV4_MAX_SIZE"),  # from Linux 6.3
    *(f"TCA_ACT_PRIO_{number}" for number in range(1, 5)),  # pyroute2's names for positions
    *("NF_CT_STATE_INVALID", "NF_CT_STATE_ESTABLISHED", "NF_CT_STATE_RELATED", "NF_CT_STATE_NEW"),  # computed
    # Names of nft(8), and our own.
    *("PRIORITY_MANGLE", "PRIORITY_DSTNAT", "PRIORITY_FILTER", "PRIORITY_SRCNAT"),
    *("PRIORITY_BRIDGE_DSTNAT", "PRIORITY_BRIDGE_FILTER", "INGRESS_HANDLE", "TYPE_CHECKING"),
    *("_SUBSYSTEM", "_COMMENT", "SET_COMMENT"),
    *("CTA_FILTER_F_CTA_IP_SRC", "CTA_FILTER_F_CTA_IP_DST", "CTA_FILTER_F_CTA_PROTO_NUM"),
    *("CTA_FILTER_F_CTA_PROTO_SRC_PORT", "CTA_FILTER_F_CTA_PROTO_DST_PORT"),  # the kernel's, but in no header of its API
}


def test_numbers_are_the_kernels() -> None:
    kernel = header_numbers()
    missing = set()
    for module, _ in FAMILIES:
        for name, (header, attributes) in module.TABLES.items():
            if isinstance(header, str):
                continue
            for attribute_name, (number, *_) in attributes.items():
                if attribute_name not in kernel:
                    missing.add(attribute_name)
                else:
                    assert kernel[attribute_name] == number, (name, attribute_name)
        for constant, value in vars(module).items():
            if isinstance(value, int) and constant in kernel:
                subsystem = module._SUBSYSTEM if constant.startswith(("NFT_MSG_", "IPCTNL_MSG_")) else 0
                assert kernel[constant] + subsystem == value, constant
            elif isinstance(value, int):
                missing.add(constant)
    assert sorted(missing - NOT_IN_HEADERS) == []


def test_unknown_names_raise() -> None:
    encode = rtnl.FAMILY.encode
    with pytest.raises(EncodeError, match="ifinfmsg has no attribute 'IFLA_NAME'"):
        encode("ifinfmsg", {"attrs": [("IFLA_NAME", "eth0")]})
    with pytest.raises(EncodeError, match="ifinfmsg has no field 'ifindex'"):
        encode("ifinfmsg", {"ifindex": 3})
    with pytest.raises(EncodeError, match="linkinfo has no attribute"):
        encode("ifinfmsg", {"attrs": [("IFLA_LINKINFO", {"attrs": [("KIND", "veth")]})]})
    data = ("IFLA_INFO_DATA", {"attrs": [("IFLA_VRF_TABLE", 1)]})
    for kind in ([], [("IFLA_INFO_KIND", "dummy")]):
        with pytest.raises(EncodeError, match="IFLA_INFO_DATA"):
            encode("linkinfo", {"attrs": [*kind, data]})
    with pytest.raises(EncodeError, match="vrf has no attribute 'IFLA_BR_PRIORITY'"):
        data = ("IFLA_INFO_DATA", {"attrs": [("IFLA_BR_PRIORITY", 1)]})
        encode("linkinfo", {"attrs": [("IFLA_INFO_KIND", "vrf"), data]})


@pytest.mark.parametrize(
    "message",
    [
        {"index": "eth0"},
        {"index": 1 << 32},
        {"attrs": [("IFLA_MTU", -1)]},
        {"attrs": [("IFLA_MTU", "1500")]},
        {"attrs": [("IFLA_IFNAME", 3)]},
        {"attrs": [("IFLA_ADDRESS", "0a:xx")]},
        {"attrs": [("IFLA_OPERSTATE", "SIDEWAYS")]},
        {"attrs": [("IFLA_LINKINFO", "veth")]},
        {"attrs": [("IFLA_LINKINFO", None)]},
    ],
    ids=str,
)
def test_wrong_values_raise(message: Message) -> None:
    with pytest.raises(EncodeError):
        rtnl.FAMILY.encode("ifinfmsg", message)


def test_unknown_and_short_attributes_are_bytes() -> None:
    family = rtnl.FAMILY
    message = {"attrs": [(999, b"\x01\x02\x03"), ("IFLA_MTU", b"\x05"), ("IFLA_LINKINFO", b"\x07")]}
    data = family.encode("ifinfmsg", message)
    decoded = family.decode("ifinfmsg", data)
    assert decoded["attrs"][:2] == message["attrs"][:2]
    assert family.encode("ifinfmsg", {"attrs": decoded["attrs"][:2]}) == data[: len(data) - 8]
    address = {"attrs": [("IFA_ADDRESS", b"\x01\x02"), ("IFA_CACHEINFO", b"\x00" * 15), ("IFA_LABEL", b"\xff\x00")]}
    assert family.decode("ifaddrmsg", family.encode("ifaddrmsg", address))["attrs"] == address["attrs"]


def test_wanted() -> None:
    data = {"attrs": [("IFLA_BR_FORWARD_DELAY", 5), ("IFLA_BR_PRIORITY", 6)]}
    info = {"attrs": [("IFLA_INFO_KIND", "bridge"), ("IFLA_INFO_DATA", data)]}
    encoded = rtnl.FAMILY.encode("ifinfmsg", {"index": 3, "attrs": [("IFLA_MTU", 9), ("IFLA_LINKINFO", info)]})

    def wanted(*names: str) -> Any:
        return rtnl.FAMILY.decode("ifinfmsg", encoded, wanted=names)["attrs"]

    assert wanted() == []
    assert wanted("IFLA_MTU", "IFLA_IFNAME") == [("IFLA_MTU", 9)]
    assert wanted("IFLA_LINKINFO") == [("IFLA_LINKINFO", {"attrs": []})]
    nested = rtnl.FAMILY.decode("ifinfmsg", encoded, wanted={"IFLA_LINKINFO", "IFLA_INFO_DATA", "IFLA_BR_PRIORITY"})
    assert attribute(nested, "IFLA_LINKINFO", "IFLA_INFO_DATA") == {"attrs": [("IFLA_BR_PRIORITY", 6)]}
    assert attribute(nested, "IFLA_LINKINFO", "IFLA_INFO_KIND") == "bridge"
    assert attribute(nested, "IFLA_MTU") is None
    assert attribute(nested, "IFLA_LINKINFO", "IFLA_INFO_KIND", "IFLA_MTU") is None


def test_name_at() -> None:
    info = {"attrs": [("IFLA_INFO_KIND", "dummy")]}
    data = rtnl.FAMILY.encode("ifinfmsg", {"attrs": [("IFLA_MTU", 9), ("IFLA_LINKINFO", info)]})
    names = {offset: rtnl.FAMILY.name_at("ifinfmsg", data, offset) for offset in (0, 16, 24, 28, 30, 99)}
    assert names == {
        0: "",
        16: "IFLA_MTU",
        24: "IFLA_LINKINFO",
        28: "IFLA_INFO_KIND",
        30: "IFLA_INFO_KIND",
        99: "",
    }


def test_truncated_and_broken_messages() -> None:
    """Whatever comes: a message, or DecodeError."""
    source = random.Random(7)
    for module, _, table, message, path in CASES:
        data = module.FAMILY.encode(table, message)
        broken = bytearray(data)
        broken[source.randrange(len(data))] = source.randrange(256)
        for attempt in (data[: source.randrange(len(data))], bytes(broken), source.randbytes(len(data))):
            try:
                decoded = module.FAMILY.decode(table, attempt)
            except DecodeError:
                assert len(attempt) < calcsize(module.TABLES[table][0][0]), path
            else:
                assert isinstance(decoded, dict)


def test_sizes_of_the_scalars() -> None:
    assert {name: scalar.size * 8 for name, scalar in SCALARS.items()} == {
        name: int(name.strip("sbeuint")) for name in SCALARS
    }
    assert set(SAMPLES) | {"ipaddr"} >= set(SCALARS) | set(CONVERTERS)
