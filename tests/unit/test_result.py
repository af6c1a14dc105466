"""Results are read from and written as every version of the specification, as the reference does it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnibox.spec.address import Address, Cidr
from cnibox.spec.errors import CniError
from cnibox.spec.jsontext import encode
from cnibox.spec.result import Dns, Interface, IpConfig, Result, Route
from cnibox.spec.versions import SUPPORTED

FULL = Result(
    interfaces=[
        Interface("cni0", mac="02:00:00:00:00:01", mtu=1500),
        Interface("eth0", "02:00:00:00:00:02", "/run/netns/x", 1500, "/run/vhost.sock", "0000:00:1f.6"),
    ],
    ips=[
        IpConfig(Cidr.parse("10.1.2.3/24"), Address.parse("10.1.2.1"), 1),
        IpConfig(Cidr.parse("10.9.9.9/24")),
        IpConfig(Cidr.parse("fd00::3/64"), None, 0),
    ],
    routes=[
        Route(Cidr.parse("0.0.0.0/0"), Address.parse("10.1.2.1"), 1400, 1360, 10, 0, 0),
        Route(Cidr.parse("fd00:1::/64")),
    ],
    dns=Dns(["10.1.2.1"], "example.org", ["a", "b"], ["ndots:1"]),
)


def test_1_1_0_is_written_with_everything_sorted_at_every_level() -> None:
    assert encode(FULL.to_object("1.1.0")) == (
        '{"cniVersion":"1.1.0",'
        '"dns":{"domain":"example.org","nameservers":["10.1.2.1"],"options":["ndots:1"],"search":["a","b"]},'
        '"interfaces":[{"mac":"02:00:00:00:00:01","mtu":1500,"name":"cni0"},'
        '{"mac":"02:00:00:00:00:02","mtu":1500,"name":"eth0","pciID":"0000:00:1f.6","sandbox":"/run/netns/x",'
        '"socketPath":"/run/vhost.sock"}],'
        '"ips":[{"address":"10.1.2.3/24","gateway":"10.1.2.1","interface":1},'
        '{"address":"10.9.9.9/24"},{"address":"fd00::3/64","interface":0}],'
        '"routes":[{"advmss":1360,"dst":"0.0.0.0/0","gw":"10.1.2.1","mtu":1400,"priority":10,"scope":0,"table":0},'
        '{"dst":"fd00:1::/64"}]}'
    )


def test_1_0_0_lacks_what_came_with_1_1_0() -> None:
    assert encode(FULL.to_object("1.0.0")) == (
        '{"cniVersion":"1.0.0",'
        '"dns":{"domain":"example.org","nameservers":["10.1.2.1"],"options":["ndots:1"],"search":["a","b"]},'
        '"interfaces":[{"mac":"02:00:00:00:00:01","name":"cni0"},'
        '{"mac":"02:00:00:00:00:02","name":"eth0","sandbox":"/run/netns/x"}],'
        '"ips":[{"address":"10.1.2.3/24","gateway":"10.1.2.1","interface":1},'
        '{"address":"10.9.9.9/24"},{"address":"fd00::3/64","interface":0}],'
        '"routes":[{"dst":"0.0.0.0/0","gw":"10.1.2.1"},{"dst":"fd00:1::/64"}]}'
    )


@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0"])
def test_0_3_and_0_4_have_the_order_of_the_references_structures_and_the_version_of_each_address(
    version: str,
) -> None:
    assert encode(FULL.to_object(version)) == (
        f'{{"cniVersion":"{version}",'
        '"interfaces":[{"name":"cni0","mac":"02:00:00:00:00:01"},'
        '{"name":"eth0","mac":"02:00:00:00:00:02","sandbox":"/run/netns/x"}],'
        '"ips":[{"version":"4","interface":1,"address":"10.1.2.3/24","gateway":"10.1.2.1"},'
        '{"version":"4","address":"10.9.9.9/24"},{"version":"6","interface":0,"address":"fd00::3/64"}],'
        '"routes":[{"dst":"0.0.0.0/0","gw":"10.1.2.1"},{"dst":"fd00:1::/64"}],'
        '"dns":{"nameservers":["10.1.2.1"],"domain":"example.org","search":["a","b"],"options":["ndots:1"]}}'
    )


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0"])
def test_0_1_and_0_2_have_one_address_of_each_family_with_its_routes(version: str) -> None:
    assert encode(FULL.to_object(version)) == (
        f'{{"cniVersion":"{version}",'
        '"ip4":{"ip":"10.1.2.3/24","gateway":"10.1.2.1","routes":[{"dst":"0.0.0.0/0","gw":"10.1.2.1"}]},'
        '"ip6":{"ip":"fd00::3/64","routes":[{"dst":"fd00:1::/64"}]},'
        '"dns":{"nameservers":["10.1.2.1"],"domain":"example.org","search":["a","b"],"options":["ndots:1"]}}'
    )


@pytest.mark.parametrize(
    ("version", "text"),
    [
        ("0.3.1", '{"cniVersion":"0.3.1","dns":{}}'),
        ("0.4.0", '{"cniVersion":"0.4.0","dns":{}}'),
        ("1.0.0", '{"cniVersion":"1.0.0"}'),
        ("1.1.0", '{"cniVersion":"1.1.0"}'),
    ],
)
def test_an_empty_result_has_dns_only_in_0_x(version: str, text: str) -> None:
    assert encode(Result().to_object(version)) == text


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0"])
def test_0_1_and_0_2_cannot_say_a_result_without_address(version: str) -> None:
    result = Result(interfaces=[Interface("eth0")], routes=[Route(Cidr.parse("0.0.0.0/0"))])
    with pytest.raises(CniError) as caught:
        result.to_object(version)
    assert (caught.value.code, caught.value.msg) == (999, "cannot convert: no valid IP addresses")


def test_routes_of_a_family_without_address_are_lost_in_0_2() -> None:
    result = Result(ips=[IpConfig(Cidr.parse("fd00::3/64"))], routes=[Route(Cidr.parse("0.0.0.0/0"))])
    assert encode(result.to_object("0.2.0")) == '{"cniVersion":"0.2.0","ip6":{"ip":"fd00::3/64"},"dns":{}}'


def test_0_2_becomes_addresses_without_interface_v4_first() -> None:
    given = {
        "cniVersion": "0.2.0",
        "ip6": {"ip": "fd00::3/64", "routes": [{"dst": "::/0", "gw": "fd00::1"}]},
        "ip4": {"ip": "10.1.2.3/24", "gateway": "10.1.2.1", "routes": [{"dst": "0.0.0.0/0"}]},
        "dns": {"nameservers": ["10.1.2.1"]},
    }
    assert Result.from_object(given, "1.0.0") == Result(
        [],
        [IpConfig(Cidr.parse("10.1.2.3/24"), Address.parse("10.1.2.1")), IpConfig(Cidr.parse("fd00::3/64"))],
        [Route(Cidr.parse("0.0.0.0/0")), Route(Cidr.parse("::/0"), Address.parse("fd00::1"))],
        Dns(["10.1.2.1"]),
    )


@pytest.mark.parametrize("said", [{}, {"cniVersion": ""}, {"cniVersion": None}])
def test_a_result_without_version_is_of_the_given_one(said: dict[str, Any]) -> None:
    old = {"ip4": {"ip": "10.1.2.3/24"}}
    new = {"ips": [{"address": "10.1.2.3/24"}]}
    expected = Result(ips=[IpConfig(Cidr.parse("10.1.2.3/24"))])
    assert Result.from_object({**old, **said}, "0.1.0") == expected
    assert Result.from_object({**new, **said}, "0.3.0") == expected
    assert Result.from_object({**new, **said}, "0.1.0") == Result()


def test_null_is_an_empty_result() -> None:
    assert Result.from_object(None, "1.0.0") == Result()


def test_an_interface_index_of_minus_one_means_none() -> None:
    result = Result.from_object({"ips": [{"address": "10.1.2.3/24", "interface": -1}]}, "0.3.0")
    assert result.ips[0].interface is None


def test_an_interface_index_of_zero_is_not_none() -> None:
    assert Result.from_object({"ips": [{"address": "10.1.2.3/24", "interface": 0}]}, "0.3.0").ips[0].interface == 0


def test_null_and_empty_fields_are_unset_and_unknown_ones_dropped() -> None:
    given: dict[str, object] = {
        "cniVersion": "1.0.0",
        "interfaces": None,
        "ips": [{"address": "10.1.2.3/24", "gateway": "", "interface": None, "more": 1}],
        "routes": [{"dst": "0.0.0.0/0", "gw": None, "table": None, "more": 1}],
        "dns": None,
        "more": {},
    }
    assert Result.from_object(given, "1.0.0") == Result(
        ips=[IpConfig(Cidr.parse("10.1.2.3/24"))], routes=[Route(Cidr.parse("0.0.0.0/0"))]
    )


def test_keys_match_whatever_their_case() -> None:
    given = {"CNIVersion": "1.0.0", "IPs": [{"Address": "10.1.2.3/24"}], "DNS": {"Domain": "x"}}
    assert Result.from_object(given, "0.1.0") == Result(ips=[IpConfig(Cidr.parse("10.1.2.3/24"))], dns=Dns(domain="x"))


def test_fields_of_1_1_0_are_read_from_older_results() -> None:
    given = {"cniVersion": "0.4.0", "routes": [{"dst": "0.0.0.0/0", "mtu": 1400, "scope": 0}]}
    assert Result.from_object(given, "0.4.0").routes == [Route(Cidr.parse("0.0.0.0/0"), mtu=1400, scope=0)]


ADDRESS = {"address": "10.1.2.3/24"}
IP4 = {"ip": "10.1.2.3/24"}


@pytest.mark.parametrize(
    ("given", "version", "message"),
    [
        ([], "1.0.0", "result: must be an object, not []"),
        ({"cniVersion": 1}, "1.0.0", "cniVersion: must be a string, not 1"),
        ({"cniVersion": "1.2.0"}, "1.0.0", 'unsupported CNI result version "1.2.0"'),
        ({"interfaces": {}}, "1.0.0", "interfaces: must be a list, not {}"),
        ({"interfaces": ["eth0"]}, "1.0.0", 'interfaces[0]: must be an object, not "eth0"'),
        ({"interfaces": [{}, {"name": 5}]}, "1.0.0", "interfaces[1].name: must be a string, not 5"),
        (
            {"interfaces": [{"mtu": "x"}]},
            "1.1.0",
            'interfaces[0].mtu: must be a whole number of 64 bits, not "x"',
        ),
        ({"ips": [None]}, "1.0.0", "ips[0]: must be an object, not null"),
        ({"ips": [{}]}, "1.0.0", 'ips[0].address: "" lacks the prefix length behind a slash, such as /24'),
        ({"ips": [{"address": "10.1.2.3"}]}, "1.0.0", 'ips[0].address: "10.1.2.3" lacks the prefix length'),
        (
            {"ips": [ADDRESS, {**ADDRESS, "gateway": "x"}]},
            "1.0.0",
            'ips[1].gateway: "x" is not an IP address',
        ),
        ({"ips": [{**ADDRESS, "interface": True}]}, "1.0.0", "ips[0].interface: must be a whole number"),
        ({"ips": [{**ADDRESS, "interface": 0.5}]}, "1.0.0", "ips[0].interface: must be a whole number"),
        ({"ips": [{**ADDRESS, "interface": 1 << 63}]}, "1.0.0", "ips[0].interface: must be a whole number"),
        ({"ips": [{**ADDRESS, "version": 4}]}, "0.4.0", "ips[0].version: must be a string, not 4"),
        ({"routes": [{"gw": "10.1.2.1"}]}, "1.0.0", 'routes[0].dst: "" lacks the prefix length'),
        (
            {"routes": [{"dst": "0.0.0.0/0", "table": "main"}]},
            "1.1.0",
            "routes[0].table: must be a whole number",
        ),
        ({"dns": []}, "1.0.0", "dns: must be an object, not []"),
        ({"dns": {"search": "x"}}, "1.0.0", 'dns.search: must be a list, not "x"'),
        ({"dns": {"nameservers": ["10.1.2.1", 5]}}, "1.0.0", "dns.nameservers[1]: must be a string, not 5"),
        ({"ip4": {}}, "0.2.0", 'ip4.ip: "" lacks the prefix length'),
        ({"ip6": 5}, "0.2.0", "ip6: must be an object, not 5"),
        ({"ip4": {**IP4, "routes": [{"dst": 1}]}}, "0.1.0", "ip4.routes[0].dst: must be a string, not 1"),
    ],
)
def test_the_wrong_shape_is_a_decoding_failure_that_names_the_path(given: object, version: str, message: str) -> None:
    with pytest.raises(CniError) as caught:
        Result.from_object(given, version)
    assert caught.value.code == 6
    assert caught.value.msg.startswith(message)


def test_an_unknown_version_cannot_be_written() -> None:
    with pytest.raises(CniError) as caught:
        FULL.to_object("1.2.0")
    assert caught.value.code == 1


def test_results_are_compared_by_value() -> None:
    again = Result.from_object(FULL.to_object("1.1.0"), "1.1.0")
    assert again == FULL
    again.interfaces[0].mac = "02:00:00:00:00:03"
    assert again != FULL
    assert "mac='02:00:00:00:00:03'" in repr(again)
    assert Interface("a") != Dns()
    assert Result().interfaces is not Result().interfaces


ADDRESSES = (st.binary(min_size=4, max_size=4) | st.just(bytes(15) + b"\1") | st.just(b"\xfd" + bytes(15))).map(
    Address.of
)
CIDRS = st.builds(Cidr, ADDRESSES, st.integers(0, 32))
TEXTS = st.text(max_size=5)
LISTS = st.lists(TEXTS, max_size=2)
SIZES = st.integers(0, (1 << 63) - 1)
RESULTS = st.builds(
    Result,
    st.lists(st.builds(Interface, TEXTS, TEXTS, TEXTS, SIZES, TEXTS, TEXTS), max_size=3),
    st.lists(st.builds(IpConfig, CIDRS, st.none() | ADDRESSES, st.none() | SIZES), max_size=3),
    st.lists(
        st.builds(Route, CIDRS, st.none() | ADDRESSES, SIZES, SIZES, SIZES, st.none() | SIZES, st.none() | SIZES),
        max_size=3,
    ),
    st.builds(Dns, LISTS, TEXTS, LISTS, LISTS),
)


@given(RESULTS)
@settings(deadline=None)
def test_a_result_survives_1_1_0_as_text(result: Result) -> None:
    assert Result.from_object(json.loads(encode(result.to_object("1.1.0"), indent=4)), "1.1.0") == result


@given(RESULTS, st.sampled_from(SUPPORTED))
@settings(deadline=None)
def test_converting_twice_loses_no_more_than_once(result: Result, version: str) -> None:
    try:
        written = result.to_object(version)
    except CniError as error:
        assert (version[:3] in ("0.1", "0.2"), result.ips, error.code) == (True, [], 999)
        return
    assert Result.from_object(written, version).to_object(version) == written
    assert Result.from_object(written, "0.3.0" if version < "0.3" else "0.1.0").to_object(version) == written


@given(RESULTS, st.sampled_from(["1.0.0", "1.1.0"]))
@settings(deadline=None)
def test_keys_of_1_x_are_sorted_throughout(result: Result, version: str) -> None:
    text = encode(result.to_object(version))
    assert text == encode(json.loads(json.dumps(json.loads(text), sort_keys=True)))


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
KEYS = [
    "cniVersion", "ips", "ip4", "ip6", "ip", "routes", "interfaces", "dns", "address", "gateway",
    "interface", "version", "dst", "gw", "mtu", "table", "name", "mac", "nameservers", "domain",
]  # fmt: skip
JSON = st.recursive(
    SCALARS | st.sampled_from(["10.1.2.3/24", "10.1.2.1", "", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@given(JSON, st.sampled_from(SUPPORTED))
@settings(deadline=None, max_examples=300)
def test_whatever_is_given_only_decoding_failures_come_back(given: object, version: str) -> None:
    try:
        Result.from_object(given, version)
    except CniError as error:
        assert error.code == 6
        encode(error.as_object()).encode()
