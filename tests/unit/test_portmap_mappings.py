"""portmap's mappings as data: what overlaps, what is refused, and that a record holds all of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cnibox.host.iptables import quoted
from cnibox.plugins.meta.portmap import MAPPING
from cnibox.record import Record
from cnibox.spec.address import Address, Cidr
from cnibox.spec.errors import CniError
from cnibox.wiring.owner import Owner
from cnibox.wiring.portmap.iptables_rules import entries, rules
from cnibox.wiring.portmap.mappings import Mapping, Published, read


def given(*mappings: dict[str, Any]) -> list[Mapping]:
    return read([MAPPING.parse_sources([("", each, "key")]) for each in mappings])


def mapping(host_ip: str, port: int = 80, protocol: str = "tcp") -> Mapping:
    return Mapping(protocol, port, 80, Address.parse(host_ip) if host_ip else None)


@pytest.mark.parametrize(
    ("mine", "theirs", "four", "six"),
    [
        (mapping(""), mapping(""), True, True),
        (mapping(""), mapping("192.0.2.1"), True, False),
        (mapping("0.0.0.0"), mapping(""), True, False),
        (mapping("0.0.0.0"), mapping("::"), False, False),
        (mapping("0.0.0.0"), mapping("192.0.2.1"), True, False),
        (mapping("::"), mapping("2001:db8::1"), False, True),
        (mapping("192.0.2.1"), mapping("192.0.2.1"), True, False),
        (mapping("192.0.2.1"), mapping("192.0.2.2"), False, False),
        (mapping("192.0.2.1"), mapping("::ffff:192.0.2.1"), True, False),
        (mapping(""), mapping("", 81), False, False),
        (mapping(""), mapping("", 80, "udp"), False, False),
    ],
    ids=str,
)
def test_overlap(mine: Mapping, theirs: Mapping, four: bool, six: bool) -> None:
    assert (mine.overlaps(theirs, 4), mine.overlaps(theirs, 6)) == (four, six)
    assert (theirs.overlaps(mine, 4), theirs.overlaps(mine, 6)) == (four, six)


def test_read() -> None:
    one = {"hostPort": 65535, "containerPort": 1, "protocol": "SCTP", "hostIP": "FD00::1"}
    (found,) = given(one, one)  # the very same twice does no harm
    assert str(found) == "[fd00::1]:65535/sctp"
    assert [str(each) for each in (mapping(""), mapping("192.0.2.1"))] == ["80/tcp", "192.0.2.1:80/tcp"]


@pytest.mark.parametrize("port", [0, -1, 65536, 10**30])
def test_ports_that_there_are_not(port: int) -> None:
    good = {"hostPort": 1, "containerPort": 1, "protocol": "tcp"}
    for words, key in (("host port", "hostPort"), ("container port", "containerPort")):
        try:
            given({**good, key: port})
        except CniError as error:
            assert error.code == 7 and error.msg == f"Invalid {words} number: {port}"
        except ValueError as error:  # no number that JSON's readers have
            assert port == 10**30 and "whole number" in str(error)
        else:
            raise AssertionError(port)


def test_the_record_holds_all_that_rules_are_made_of() -> None:
    published = Published(
        Owner("net", "c1", "eth0"),
        [Cidr.parse("10.1.2.3/24"), Cidr.parse("fd00::3/64"), Cidr.parse("10.9.9.9/24")],
        [mapping("192.0.2.1", 1), mapping("", 2, "udp"), mapping("::", 3, "sctp")],
        masquerade_all=False,
        mark_bit=7,
        external_chain="X",
        conditions={4: ["-m", "mark"], 6: []},
        whole_subnet=[6],
    )
    facts = json.loads(json.dumps(published.facts()))
    again = Published.recorded(Record("c1", "eth0", "net", "portmap", facts))
    assert again.facts() == published.facts()
    for version in (4, 6):
        assert rules(again, version) == rules(published, version) != []
        assert entries(again, version) == entries(published, version) != []
    assert "10.9.9.9" not in str(rules(again, 4)) and "-s fd00::/64 " in str(rules(again, 6))


@pytest.mark.parametrize(
    "facts", [{}, {"addresses": 5}, {"addresses": ["x"], "mappings": []}, {"mappings": [[]]}], ids=str
)
def test_unreadable_record_holds_nothing(facts: dict[str, Any]) -> None:
    assert Published.recorded(Record("c1", "eth0", "net", "portmap", facts)).versions == []


@pytest.mark.parametrize(
    ("token", "line"),
    [
        ("--dport", "--dport"),
        ("!", "!"),
        ("10.0.0.0/8,192.0.2.1", "10.0.0.0/8,192.0.2.1"),
        ("a b", '"a b"'),
        ('say "x"', '"say \\"x\\""'),
        ("back\\slash", '"back\\\\slash"'),
        ("#no-comment", '"#no-comment"'),
        ("é", '"é"'),
    ],
)
def test_quoted(token: str, line: str) -> None:
    assert quoted(token) == line


@pytest.mark.parametrize("token", ["", "a\nb", "a\0", "\t", "\x7f"])
def test_what_no_line_can_hold(token: str) -> None:
    with pytest.raises(ValueError):
        quoted(token)


def test_long_names_are_cut_in_the_comment() -> None:
    published = Published(Owner("n" * 200, "c" * 200, "eth0"), [Cidr.parse("10.1.2.3/24")], [mapping("")])
    (entry,) = entries(published, 4)
    assert len(entry.partition('--comment "')[2].partition('" -m')[0].replace('\\"', '"')) == 255 and "..." in entry
