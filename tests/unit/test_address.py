"""Addresses and prefixes read, print and count as in Go and in Python's ipaddress."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnibox.spec.address import Address, Cidr

PACKED = st.binary(min_size=4, max_size=4) | st.binary(min_size=16, max_size=16)
# With runs of zeros, where the notation of IPv6 is difficult.
SPARSE = st.lists(st.sampled_from([0, 0, 0, 1, 0xFFFF, 0xAB]), min_size=8, max_size=8).map(
    lambda words: b"".join(word.to_bytes(2, "big") for word in words)
)
MAPPED = bytes(10) + b"\xff\xff"


@given(PACKED | SPARSE)
def test_an_address_prints_as_rfc_5952_says(packed: bytes) -> None:
    expected = ipaddress.ip_address(packed)
    mapped = packed.startswith(MAPPED) and len(packed) == 16
    shown = (
        f"::ffff:{expected.ipv4_mapped}" if isinstance(expected, ipaddress.IPv6Address) and mapped else str(expected)
    )
    assert str(Address.of(packed)) == shown


@given((PACKED | SPARSE).filter(lambda packed: not packed.startswith(MAPPED)))
def test_an_address_survives_printing_and_reading(packed: bytes) -> None:
    address = Address.of(packed)
    again = Address.parse(str(address))
    assert (again, hash(again), again.packed) == (address, hash(address), packed)
    assert int(address) == int.from_bytes(packed, "big")
    assert address.version == (4 if len(packed) == 4 else 6)


@given(st.text(max_size=30) | st.text("0123456789abcdef:./%", max_size=30))
def test_any_text_is_an_address_to_us_only_if_it_is_to_python(text: str) -> None:
    for ours, theirs in ((Address.parse, ipaddress.ip_address), (Cidr.parse, ipaddress.ip_interface)):
        try:
            ours(text)
        except ValueError:
            continue
        assert theirs(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", '"" is not an IP address'),
        ("10.1.2.256", '"10.1.2.256" is not an IP address'),
        ("10.1.2", '"10.1.2" is not an IP address'),
        ("10.1.2.03", "leading zeros"),
        ("::ffff:10.1.2.03", "leading zeros"),
        ("10.1.2.3/24", "must not have a prefix length"),
        ("fe80::1%eth0", "must not have a zone"),
        ("fe80::12345", "is not an IP address"),
        ("1::2::3", "is not an IP address"),
        (" 10.1.2.3", "is not an IP address"),
        ("10.1.2.3\0", "is not an IP address"),
        ("\uff11\uff10.1.2.3", "is not an IP address"),
        ("\udcff", "is not an IP address"),
        ("x" * 1000, "x..."),
    ],
)
def test_what_is_no_address_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError) as caught:
        Address.parse(text)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "lacks the prefix length"),
        ("10.1.2.3", "lacks the prefix length"),
        ("10.1.2.3/", "must be 0 to 32"),
        ("10.1.2.3/33", "must be 0 to 32"),
        ("10.1.2.3/-1", "must be 0 to 32"),
        ("10.1.2.3/+8", "must be 0 to 32"),
        ("10.1.2.3/24/24", "must be 0 to 32"),
        ("10.1.2.3/255.255.255.0", "must be 0 to 32"),
        ("10.1.2.3/\u0663", "must be 0 to 32"),
        ("fd00::/129", "must be 0 to 128"),
        ("10.1.2/24", '"10.1.2" is not an IP address'),
        ("::ffff:10.1.2.3/24", "96 to 128"),
    ],
)
def test_what_is_no_prefix_is_refused_with_the_reason(text: str, reason: str) -> None:
    with pytest.raises(ValueError) as caught:
        Cidr.parse(text)
    assert reason in str(caught.value)


def test_an_ipv4_mapped_address_is_the_ipv4_address() -> None:
    assert Address.parse("::ffff:10.1.2.3") == Address.parse("10.1.2.3")
    assert Cidr.parse("::ffff:10.1.2.3/120") == Cidr.parse("10.1.2.3/24")


@given(PACKED | SPARSE, st.integers(0, 128), PACKED | SPARSE)
def test_a_prefix_reckons_as_python_does(packed: bytes, prefix: int, other: bytes) -> None:
    prefix %= 8 * len(packed) + 1
    cidr = Cidr(Address.of(packed), prefix)
    expected = ipaddress.ip_interface((packed, prefix))
    network = expected.network
    assert cidr.version == network.version
    assert cidr.address.packed == packed
    assert cidr.first.packed == network.network_address.packed
    assert cidr.last.packed == network.broadcast_address.packed
    assert cidr.network == Cidr(cidr.first, prefix)
    assert cidr.host == Cidr(cidr.address, 8 * len(packed))
    assert cidr.is_network == (network.network_address == expected.ip)
    assert cidr.contains(Address.of(other)) == (ipaddress.ip_address(other) in network)
    assert cidr.contains(cidr.first) and cidr.contains(cidr.last)
    if not packed.startswith(MAPPED):
        assert Cidr.parse(str(cidr)) == cidr


def test_host_bits_are_kept() -> None:
    assert str(Cidr.parse("10.1.2.3/24")) == "10.1.2.3/24"
    assert str(Cidr.parse("10.1.2.3/24").network) == "10.1.2.0/24"
    assert str(Cidr.parse("FD00:0::03/64")) == "fd00::3/64"


@pytest.mark.parametrize(
    ("text", "count", "expected"),
    [
        ("10.0.0.255", 1, "10.0.1.0"),
        ("10.0.1.0", -1, "10.0.0.255"),
        ("0.0.0.0", 1, "0.0.0.1"),
        ("::", 1, "::1"),
        ("fd00::ffff", 1, "fd00::1:0"),
        ("255.255.255.255", 1, None),
        ("0.0.0.0", -1, None),
        ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 1, None),
    ],
)
def test_counting_addresses(text: str, count: int, expected: str | None) -> None:
    if expected is None:
        with pytest.raises(ValueError, match="there is no IPv"):
            Address.parse(text).plus(count)
    else:
        assert str(Address.parse(text).plus(count)) == expected


def test_addresses_of_both_families_are_never_equal() -> None:
    assert Address.parse("0.0.0.1") != Address.parse("::1")
    assert Cidr.parse("0.0.0.0/0") != Cidr.parse("::/0")
    assert not Cidr.parse("::/0").contains(Address.parse("10.1.2.3"))
    assert len({Address.parse("10.1.2.3"), Address.of(b"\x0a\1\2\3"), Cidr.parse("10.1.2.3/32")}) == 2


@pytest.mark.parametrize("length", [0, 3, 5, 15, 17])
def test_an_address_has_4_or_16_bytes(length: int) -> None:
    with pytest.raises(ValueError):
        Address.of(bytes(length))
    with pytest.raises(ValueError):
        Cidr(Address.of(bytes(4)), 33 + length)
