"""One table parses a plugin's options, tells what is wrong with them, and describes them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnibox.spec.address import Address, Cidr
from cnibox.spec.errors import CniError
from cnibox.spec.jsontext import encode
from cnibox.spec.options import (
    Bool,
    Int,
    Ip,
    IpOrPrefix,
    Kind,
    ListOf,
    Mac,
    Mapping,
    OneOf,
    Option,
    Options,
    Prefix,
    Record,
    Text,
    Values,
)
from cnibox.spec.request import Request

RANGE = Record(Options(Option("subnet", Prefix, required=True), Option("gateway", Ip, help="of the range")))
KINDS: dict[str, Kind] = {
    "text": Text,
    "bool": Bool,
    "int": Int(0, 65535),
    "word": OneOf("iptables", "nftables"),
    "mac": Mac,
    "ip": Ip,
    "prefix": Prefix,
    "ipOrPrefix": IpOrPrefix,
    "mapping": Mapping,
    "ints": ListOf(Int(1, 3)),
    "ranges": ListOf(ListOf(RANGE)),
    "record": RANGE,
}


def parse(kind: Kind, value: object) -> Any:
    return Options(Option("it", kind, "the default")).parse(Request("ADD", config={"it": value})).it


def fault(options: Options, config: dict[str, object], args: str = "") -> CniError:
    with pytest.raises(CniError) as caught:
        options.parse(Request("ADD", config=config, args=args))
    return caught.value


@pytest.mark.parametrize(
    ("kind", "value", "parsed"),
    [
        ("text", "cni0", "cni0"),
        ("text", "", ""),
        ("bool", True, True),
        ("bool", False, False),
        ("int", 0, 0),
        ("int", 65535, 65535),
        ("word", "nftables", "nftables"),
        ("mac", "02:AB:00:00:00:01", "02:ab:00:00:00:01"),
        ("mac", "02-ab-00-00-00-01", "02:ab:00:00:00:01"),
        ("mac", "02ab.0000.0001", "02:ab:00:00:00:01"),
        ("ip", "10.1.2.3", Address.parse("10.1.2.3")),
        ("ip", "FD00::1", Address.parse("fd00::1")),
        ("prefix", "10.1.2.3/24", Cidr.parse("10.1.2.3/24")),
        ("ipOrPrefix", "10.1.2.3/24", Cidr.parse("10.1.2.3/24")),
        ("ipOrPrefix", "10.1.2.3", Cidr.parse("10.1.2.3/32")),
        ("ipOrPrefix", "fd00::1", Cidr.parse("fd00::1/128")),
        ("mapping", {"a": "1", "b": ""}, {"a": "1", "b": ""}),
        ("ints", [], []),
        ("ints", [3, 1], [3, 1]),
        ("record", {"subnet": "10.1.0.0/16"}, Values({"subnet": Cidr.parse("10.1.0.0/16"), "gateway": None})),
    ],
)
def test_values_become_what_a_plugin_works_with(kind: str, value: object, parsed: object) -> None:
    assert parse(KINDS[kind], value) == parsed


@pytest.mark.parametrize("kind", ["word", "mac", "ip", "ipOrPrefix"])
def test_an_empty_string_is_unset_where_it_cannot_be_a_value(kind: str) -> None:
    assert parse(KINDS[kind], "") == "the default"


@pytest.mark.parametrize("kind", KINDS)
def test_null_is_unset(kind: str) -> None:
    assert parse(KINDS[kind], None) == "the default"


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("text", 5, "must be a string, not 5"),
        ("text", "a\0", 'must be a string, not "a\\u0000"'),
        ("bool", "yes", 'must be true or false, not "yes"'),
        ("bool", 1, "must be true or false, not 1"),
        ("bool", "true", 'must be true or false, not "true"'),
        ("int", 1.0, "must be a whole number from 0 to 65535, not 1"),
        ("int", "1", 'must be a whole number from 0 to 65535, not "1"'),
        ("int", True, "must be a whole number from 0 to 65535, not true"),
        ("int", -1, "must be a whole number from 0 to 65535, not -1"),
        ("int", 65536, "must be a whole number from 0 to 65535, not 65536"),
        ("word", "ipfw", 'must be "iptables" or "nftables", not "ipfw"'),
        ("word", ["nftables"], 'must be "iptables" or "nftables", not ["nftables"]'),
        ("mac", "02:00:00:00:00", 'must be a MAC address such as 02:00:00:00:00:01, not "02:00:00:00:00"'),
        ("mac", "02:00:00:00:00:0g", "must be a MAC address"),
        ("mac", "02:00-00:00:00:01", "must be a MAC address"),
        ("mac", "+2:00:00:00:00:01", "must be a MAC address"),
        ("ip", "10.1.2.3/24", 'must be an IP address such as 10.1.2.3 or fd00::1, not "10.1.2.3/24"'),
        (
            "prefix",
            "10.1.2.3",
            "must be an address with prefix length such as 10.1.2.0/24 or fd00::/64, not ",
        ),
        ("prefix", "", "must be an address with prefix length"),
        ("mapping", ["a"], 'must be an object whose values are strings, not ["a"]'),
        ("ints", 1, "must be a list, each item a whole number from 1 to 3, not 1"),
        ("record", [], "must be an object, not []"),
        ("text", ["x" * 99], 'must be a string, not ["' + "x" * 55 + "..."),
    ],
)
def test_the_error_names_the_key_what_was_given_and_what_is_allowed(kind: str, value: object, message: str) -> None:
    error = fault(Options(Option("it", KINDS[kind])), {"it": value, "type": "bridge"})
    assert error.code == 7
    assert error.msg.startswith(f'option "it" of bridge: {message}')


def test_details_tell_what_is_easily_overlooked() -> None:
    error = fault(Options(Option("gateway", Ip)), {"gateway": "10.1.2.03"})
    assert error.details == '"10.1.2.03" is not an IP address (its parts must not have leading zeros)'


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        (
            [[{"subnet": "10.1.0.0/16"}, {"subnet": 5}]],
            'option "ipam.ranges[0][1].subnet" of host-local: must be ',
        ),
        (
            [[{"subnet": "10.1.0.0/16", "gateway": "x"}]],
            'option "ipam.ranges[0][0].gateway" of host-local: must be ',
        ),
        ([[], [{}]], 'option "ipam.ranges[1][0].subnet" of host-local: is required'),
        ([[{"subnet": None}]], 'option "ipam.ranges[0][0].subnet" of host-local: is required'),
        ([None], 'option "ipam.ranges[0]" of host-local: must be a list, each item an object, not null'),
        ([{}], 'option "ipam.ranges[0]" of host-local: must be a list, each item an object, not {}'),
    ],
)
def test_an_error_deep_inside_is_told_with_its_path(ranges: object, message: str) -> None:
    options = Options(Option("ranges", KINDS["ranges"]), section="ipam")
    error = fault(options, {"type": "bridge", "ipam": {"type": "host-local", "ranges": ranges}})
    assert error.code == 7
    assert error.msg.startswith(message)


def test_a_mapping_tells_which_value_is_no_string() -> None:
    error = fault(Options(Option("sysctl", Mapping)), {"sysctl": {"net.core.somaxconn": 500}})
    assert error.msg == 'option "sysctl.net.core.somaxconn": must be a string, not 500'


@pytest.mark.parametrize("kind", ["ip", "mac", "word"])
def test_a_list_has_no_unset_items(kind: str) -> None:
    for item in ("", None):
        error = fault(Options(Option("them", ListOf(KINDS[kind]))), {"them": [item]})
        assert error.msg.startswith('option "them[0]": must be ')


MAC = Option("mac", Mac, config=False, cni_arg="MAC", args_cni="hw", capability="mac")
A, B, C = "02:00:00:00:00:0a", "02:00:00:00:00:0b", "02:00:00:00:00:0c"


@pytest.mark.parametrize(
    ("args", "config", "mac"),
    [
        ("", {}, None),
        ("", {"mac": A}, None),
        (f"MAC={A}", {}, A),
        ("MAC=", {}, None),
        (f"MAC={A}", {"args": {"cni": {"hw": B}}}, B),
        (f"MAC={A}", {"args": {"cni": {"hw": None}}}, A),
        (f"MAC={A}", {"args": {"cni": {"hw": B}}, "runtimeConfig": {"mac": C}}, C),
        (f"MAC={A}", {"runtimeConfig": {"mac": ""}}, A),
    ],
)
def test_later_sources_win(args: str, config: dict[str, object], mac: str | None) -> None:
    assert Options(MAC).parse(Request("ADD", config=config, args=args)).mac == mac


def test_the_configuration_is_the_first_source() -> None:
    options = Options(Option("mac", Mac, cni_arg="MAC"))
    assert options.parse(Request("ADD", config={"mac": A})).mac == A
    assert options.parse(Request("ADD", config={"mac": A}, args=f"MAC={B}")).mac == B


def test_gathered_lists_are_added_up_in_order() -> None:
    ips = Option("ips", ListOf(Ip), cni_arg="IP", args_cni="ips", capability="ips", gather=True)
    options = Options(ips, section="ipam")
    config: dict[str, object] = {
        "ipam": {"ips": ["10.0.0.1"]},
        "args": {"cni": {"ips": ["10.0.0.4"]}},
        "runtimeConfig": {"ips": ["10.0.0.5"]},
    }
    parsed = options.parse(Request("ADD", config=config, args="IP=10.0.0.2,10.0.0.3"))
    assert [str(ip) for ip in parsed.ips] == [f"10.0.0.{n}" for n in range(1, 6)]
    assert options.parse(Request("ADD")).ips == []


def test_a_required_option_may_come_from_any_source() -> None:
    options = Options(Option("mac", Mac, cni_arg="MAC", required=True))
    assert options.parse(Request("ADD", args=f"MAC={A}")).mac == A
    assert fault(options, {}).msg == 'option "mac": is required'


@pytest.mark.parametrize(
    ("kind", "text", "parsed"),
    [
        ("bool", "1", True),
        ("bool", "TRUE", True),
        ("bool", "0", False),
        ("int", "1500", 1500),
        ("ints", "1,3", [1, 3]),
        ("ints", "", []),
        ("text", "a b", "a b"),
        ("prefix", "10.1.2.3/8", Cidr.parse("10.1.2.3/8")),
    ],
)
def test_cni_args_are_text(kind: str, text: str, parsed: object) -> None:
    options = Options(Option("it", KINDS[kind], cni_arg="IT"))
    assert options.parse(Request("ADD", args=f"IT={text}")).it == parsed


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        (
            "mac",
            "zz",
            'ARGS: error parsing value of pair "IT=zz": must be a MAC address such as 02:00:00:00:00:01',
        ),
        ("int", "1_0", 'ARGS: error parsing value of pair "IT=1_0": must be a whole number from 0 to 65535'),
        (
            "int",
            "99999",
            'ARGS: error parsing value of pair "IT=99999": must be a whole number from 0 to 65535',
        ),
        ("bool", "on", 'ARGS: error parsing value of pair "IT=on": must be true or false'),
        ("ints", "1,9", 'ARGS: error parsing value of pair "IT=1,9": must be a whole number from 1 to 3'),
        (
            "mapping",
            "a",
            'ARGS: error parsing value of pair "IT=a": must be an object whose values are strings',
        ),
    ],
)
def test_a_wrong_text_in_cni_args_is_an_error_of_the_environment(kind: str, text: str, message: str) -> None:
    error = fault(Options(Option("it", KINDS[kind], cni_arg="IT")), {}, f"IT={text}")
    assert (error.code, error.msg) == (4, message)


@pytest.mark.parametrize(
    "args",
    [
        "",
        f"MAC={A}",
        f"MAC={A};IP=10.1.2.3;GATEWAY=10.1.2.1",
        "X=1;IgnoreUnknown=1",
        "IgnoreUnknown=TRUE;X=1",
        "IgnoreUnknown=false;IP=x",
    ],
)
def test_arguments_of_the_standard_plugins_are_never_unknown(args: str) -> None:
    Options(MAC).parse(Request("ADD", args=args))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ("K8S_POD_NAME=a;MAC=;X=1", 'ARGS: unknown args ["K8S_POD_NAME=a" "X=1"]'),
        ("mac=1", 'ARGS: unknown args ["mac=1"]'),
        ("X=1;IgnoreUnknown=0", 'ARGS: unknown args ["X=1"]'),
        (
            "IgnoreUnknown=y",
            'ARGS: error parsing value of pair "IgnoreUnknown=y": boolean unmarshal error: invalid input y',
        ),
        ("MAC", 'ARGS: invalid pair "MAC"'),
    ],
)
def test_unknown_cni_args_are_refused_in_the_references_words(args: str, message: str) -> None:
    error = fault(Options(MAC), {}, args)
    assert (error.code, error.msg) == (4, message)


def test_a_plugin_without_cni_args_never_reads_them() -> None:
    assert Options(Option("mtu", Int())).parse(Request("ADD", args="!;=;")).mtu is None


@pytest.mark.parametrize(
    ("config", "mtu"),
    [
        ({"MTU": 1}, 1),
        ({"MTU": 1, "mtu": 2}, 2),
        ({"mtu": 2, "MTU": 1}, 2),
        ({"Mtu": 1, "MTU": 3}, 3),
        ({"unknown": [{}], "mtus": 5}, None),
    ],
)
def test_keys_match_whatever_their_case_and_unknown_ones_are_ignored(
    config: dict[str, object], mtu: int | None
) -> None:
    assert Options(Option("mtu", Int())).parse(Request("ADD", config=config)).mtu == mtu


def test_a_section_is_that_object_of_the_configuration() -> None:
    options = Options(Option("dataDir", Text, "/var/lib/cni/networks"), section="ipam")
    assert options.parse(Request("ADD", config={"ipam": {"dataDir": "/x"}, "dataDir": "/y"})).dataDir == "/x"
    assert options.parse(Request("ADD", config={"ipam": None})).dataDir == "/var/lib/cni/networks"
    assert fault(options, {"ipam": "host-local"}).msg == 'option "ipam": must be an object, not "host-local"'


@pytest.mark.parametrize("place", ["args", "runtimeConfig"])
def test_sources_of_the_wrong_shape_are_refused(place: str) -> None:
    assert fault(Options(MAC), {place: 5}).msg == f'option "{place}": must be an object, not 5'


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20)
    | st.sampled_from(["10.1.2.3", "fd00::/64", "02:00:00:00:00:01", "nftables", "", "\ud800", "\0"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["subnet", "gateway", "a", "é"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.mark.parametrize("name", KINDS)
@given(value=JSON, text=st.text(max_size=12))
@settings(deadline=None, max_examples=60)
def test_no_value_of_any_kind_raises_anything_but_cni_error(name: str, value: object, text: str) -> None:
    options = Options(Option(name, KINDS[name], cni_arg="IT", args_cni=name, capability=name, required=True))
    sources: list[tuple[dict[str, object], str]] = [
        ({name: value}, ""),
        ({"args": {"cni": {name: value}}}, ""),
        ({"runtimeConfig": {name: value}, "type": value}, ""),
        ({}, f"IT={text}"),
        ({"args": value, "runtimeConfig": value}, ""),
    ]
    for config, args in sources:
        try:
            options.parse(Request("ADD", config=config, args=args))
        except CniError as error:
            assert error.code in (2, 4, 7)
            assert len(error.msg) < 300
            encode(error.as_object(), indent=4).encode()


TABLE = Options(
    Option("bridge", Text, "cni0", "name of the bridge"),
    Option("isGateway", Bool, False),
    Option("mtu", Int(0, 65535), 0, "0: the kernel's default", capability="mtu"),
    Option("mac", Mac, config=False, cni_arg="MAC", capability="mac", help="of the container's end"),
    Option("ranges", KINDS["ranges"], help="pools", required=True),
    Option("servers", ListOf(Text), ["a"]),
    Option("gateway", Ip, Address.parse("10.1.2.1")),
    section="ipam",
)


def test_the_table_describes_itself_in_rows() -> None:
    prefix = "address with prefix length such as 10.1.2.0/24 or fd00::/64"
    ip = "IP address such as 10.1.2.3 or fd00::1"
    assert TABLE.rows() == [
        ("ipam.bridge", "string", "cni0", "name of the bridge"),
        ("ipam.isGateway", "true or false", "false", ""),
        ("ipam.mtu", "whole number from 0 to 65535", "0", "0: the kernel's default (also runtimeConfig.mtu)"),
        (
            "runtimeConfig.mac",
            "MAC address such as 02:00:00:00:00:01",
            "",
            "of the container's end (also CNI_ARGS MAC)",
        ),
        ("ipam.ranges", "list, each item a list, each item an object", "required", "pools"),
        ("ipam.ranges[][].subnet", prefix, "required", ""),
        ("ipam.ranges[][].gateway", ip, "", "of the range"),
        ("ipam.servers", "list, each item a string", '["a"]', ""),
        ("ipam.gateway", ip, "10.1.2.1", ""),
    ]


def test_the_table_describes_itself_as_json_schema() -> None:
    schema = TABLE.schema()
    assert encode(schema)  # JSON throughout
    ipam = schema["properties"]["ipam"]
    assert ipam["required"] == ["ranges"]
    assert "mac" not in ipam["properties"]
    assert ipam["properties"]["bridge"] == {
        "type": "string",
        "description": "name of the bridge",
        "default": "cni0",
    }
    assert ipam["properties"]["mtu"]["maximum"] == 65535
    assert ipam["properties"]["gateway"]["default"] == "10.1.2.1"
    record = ipam["properties"]["ranges"]["items"]["items"]
    assert (record["type"], record["required"]) == ("object", ["subnet"])
    assert set(schema["properties"]["runtimeConfig"]["properties"]) == {"mtu", "mac"}
    assert "args" not in schema["properties"]


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        ("mac", "02:00:00:00:00:01", "02:00"),
        ("ip", "fd00::1", "fd00::1/64"),
        ("prefix", "10.1.2.0/24", "10.1.2.0"),
        ("ipOrPrefix", "10.1.2.3", "x"),
    ],
)
def test_patterns_of_the_schema_take_what_the_kind_takes(name: str, good: str, bad: str) -> None:
    pattern = KINDS[name].schema()["pattern"]
    assert re.search(pattern, good) and not re.search(pattern, bad)
    assert parse(KINDS[name], good) != "the default"


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_describes_itself(name: str) -> None:
    assert KINDS[name].describe()
    assert encode(KINDS[name].schema())


def test_another_kind_is_an_instance_of_kind() -> None:
    def even(value: Any) -> int:
        if not isinstance(value, int) or value % 2:
            raise ValueError("odd numbers are taken")
        return value

    kind = Kind("an even number", {"multipleOf": 2}, even, lambda text: even(int(text)))
    assert parse(kind, 4) == 4
    error = fault(Options(Option("it", kind)), {"it": 3})
    assert (error.msg, error.details) == (
        'option "it": must be an even number, not 3',
        "odd numbers are taken",
    )
