"""Ranges, the order in which they are used, what is wrong with them; the texts of lease files; ages."""

from __future__ import annotations

import os
import time
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from cnibox.spec.errors import CniError
from cnibox.spec.request import Request
from cnibox.wiring import leases
from cnibox.wiring.ipam import require_representable
from cnibox.wiring.leases.index import HEADER, PART, Index
from cnibox.wiring.leases.on_disk import is_address, parse
from cnibox.wiring.leases.ranges import RANGE_SETS, RangeSet, range_sets
from cnibox.wiring.leases.stale import boot_time


def sets(*given: list[dict[str, Any]]) -> list[RangeSet]:
    return range_sets(RANGE_SETS.parse(list(given)))


def order(ranges: RangeSet, after: str = "") -> list[str]:
    return [address for address, _ in ranges.after(after)]


def test_defaults() -> None:
    v4, v6 = sets([{"subnet": "10.1.2.0/29"}], [{"subnet": "fd00::/126"}])
    assert (str(v4), v4.size, order(v4)) == ("10.1.2.1-10.1.2.6", 5, [f"10.1.2.{n}" for n in range(2, 7)])
    assert (str(v6), v6.size, order(v6)) == ("fd00::1-fd00::3", 2, ["fd00::2", "fd00::3"])
    (huge,) = sets([{"subnet": "fd00::/8", "rangeStart": "fd00::"}])
    assert list(islice(order_of(huge), 3)) == ["fd00::", "fd00::2", "fd00::3"]


def order_of(ranges: RangeSet) -> Any:
    return (address for address, _ in ranges.after(""))


def test_once_round_all_ranges_from_behind_the_last_one() -> None:
    first = {"subnet": "10.1.0.0/16", "rangeStart": "10.1.0.0", "rangeEnd": "10.1.0.2"}
    second = {
        "subnet": "10.2.0.0/16",
        "rangeStart": "10.2.0.4",
        "rangeEnd": "10.2.0.6",
        "gateway": "10.2.0.5",
    }
    (ranges,) = sets([first, second])
    all_of_them = ["10.1.0.0", "10.1.0.2", "10.2.0.4", "10.2.0.6"]
    assert order(ranges) == order(ranges, "10.3.0.0") == order(ranges, "garbled") == all_of_them
    assert order(ranges, "10.1.0.0") == ["10.1.0.2", "10.2.0.4", "10.2.0.6", "10.1.0.0"]
    assert order(ranges, "10.1.0.2") == ["10.2.0.4", "10.2.0.6", "10.1.0.0", "10.1.0.2"]
    assert order(ranges, "10.2.0.6") == all_of_them
    assert ranges.size == 4 and ranges.has("10.2.0.6") and not ranges.has("10.2.0.5") and not ranges.has("x")


WRONG: list[tuple[list[list[dict[str, Any]]], str]] = [
    ([[]], "invalid range set 0: empty range set"),
    ([[{"rangeStart": "10.0.0.1"}]], "invalid range set 0: a range needs a subnet"),
    ([[{"subnet": "10.0.0.1/24"}]], "Network 10.0.0.1/24 has host bits set: it must be 10.0.0.0/24"),
    ([[{"subnet": "10.0.0.0/31"}]], "Network 10.0.0.0/31 too small to allocate from"),
    ([[{"subnet": "fd00::/127"}]], "Network fd00::/127 too small to allocate from"),
    ([[{"subnet": "10.0.0.0/24", "rangeStart": "10.0.1.0"}]], "10.0.1.0 not in network 10.0.0.0/24"),
    ([[{"subnet": "10.0.0.0/24", "rangeEnd": "fd00::1"}]], "fd00::1 not in network 10.0.0.0/24"),
    (
        [[{"subnet": "10.0.0.0/24", "rangeStart": "10.0.0.9", "rangeEnd": "10.0.0.8"}]],
        "10.0.0.8 is in network 10.0.0.0/24 but before start 10.0.0.9",
    ),
    ([[{"subnet": "10.0.0.0/24", "gateway": "fd00::1"}]], "gateway fd00::1 is of another family"),
    ([[{"subnet": "10.0.0.0/24"}, {"subnet": "fd00::/64"}]], "mixed address families"),
    (
        [[{"subnet": "10.0.0.0/24"}, {"subnet": "10.0.0.0/25"}]],
        "invalid range set 0: subnets 10.0.0.1-10.0.0.254 and",
    ),
    ([[{"subnet": "10.0.0.0/24"}], [{"subnet": "10.0.0.0/8"}]], "range set 0 overlaps with 1"),
]


@pytest.mark.parametrize(("given", "text"), WRONG)
def test_wrong_ranges(given: list[list[dict[str, Any]]], text: str) -> None:
    with pytest.raises(CniError) as caught:
        sets(*given)
    assert caught.value.code == 7 and text in str(caught.value)


@pytest.mark.parametrize(
    ("version", "families", "is_representable"),
    [("0.2.0", [4, 4], False), ("", [6, 4, 6], False), ("0.3.0", [4, 4], True), ("", [4, 6], True), ("0.2.0", [], True)],
)
def test_old_versions_have_one_address_of_each_family(version: str, families: list[int], is_representable: bool) -> None:
    config: dict[str, object] = {"cniVersion": version} if version else {}
    request = Request("ADD", config=config, version=version or "0.1.0")
    if is_representable:
        return require_representable(families, request)
    with pytest.raises(CniError, match=r"CNI version 0.[12].0 does not support more than 1 address per family") as caught:
        require_representable(families, request)
    assert ('has no "cniVersion", which means 0.1.0' in caught.value.details) == (not version)


def test_lease_texts() -> None:
    assert parse(b"c1\r\neth0") == parse(b" c1\r\neth0\n") == (b"c1", b"eth0")
    assert parse(b"c1") == parse(b"c1\n") == (b"c1", b"")
    for garbled in (b"", b"\n", b"\0\0", b"two words", b"c1\r\neth0\r\nmore", b"c1\neth0"):
        assert parse(garbled) == (b"", b"")
    assert [
        each for each in ("10.1.2.3", "fd00::1", "lock", "last_reserved_ip.0", "10.1.2", "1.2.3.4 ") if is_address(each)
    ] == [
        "10.1.2.3",
        "fd00::1",
    ]


@pytest.fixture
def index(tmp_path: Path) -> Any:
    folder = os.open(tmp_path, os.O_RDONLY)
    yield Index(folder, ".net1.index")
    os.close(folder)


def test_an_index_of_many_parts(index: Any, tmp_path: Path) -> None:
    folder = index.dir_fd
    names = [f"10.1.{n >> 8}.{n & 255}" for n in range(4000)]
    index.rebuild([(name, name.encode() * 6, b"eth0") for name in names], writable=True)
    assert index.size > 3 * PART
    assert all(index.of(name.encode() * 6) == [(name, b"eth0")] for name in names)
    assert index.of(b"10.1.0.1") == [] and index.at_most() == 4000
    for name in names[1::2]:
        index.remove(name)
    index.add("10.9.9.9", b"c1", b"")
    left = [*names[::2], "10.9.9.9"]
    assert [address for address, *_ in index.all()] == left and index.at_most() > 2000
    index.seal(folder)
    assert index.size == (tmp_path / ".net1.index").stat().st_size
    again = Index(folder, ".net1.index")
    assert again.load(writable=True) == tmp_path.stat().st_mtime_ns
    assert [address for address, *_ in again.all()] == left and again.of(b"c1") == [("10.9.9.9", b"")]
    for name in names[::4]:
        again.remove(name)
    again.seal(folder)
    assert again.dead == 0 and again.at_most() == 1001 and again.size < index.size
    index.close()
    again.close()


def test_an_index_that_cannot_be_written_works_and_is_not_believed(index: Any, tmp_path: Path) -> None:
    (tmp_path / ".net1.index").mkdir()
    index.rebuild([("10.1.2.3", b"c1", b"eth0")], writable=True)
    index.add("10.1.2.4", b"c1", b"eth1")
    assert index.of(b"c1") == [("10.1.2.3", b"eth0"), ("10.1.2.4", b"eth1")]
    index.seal(index.dir_fd)
    index.close()
    assert Index(index.dir_fd, ".net1.index").load(writable=True) is None


def test_an_index_of_another_boot_is_not_believed(index: Any) -> None:
    index.rebuild([], writable=True)
    assert index.load(writable=True) is None, "not sealed"
    index.seal(index.dir_fd)
    assert index.load(writable=True) and index.size == HEADER
    index.boot = b"x" * 36
    assert index.load(writable=True) is None
    index.close()


def test_ages_and_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time()
    ages = {5: "5 s", 119: "119 s", 125: "2 minutes", 3600 * 5: "5 hours", 86400 * 9: "9 days", -9: "0 s"}
    assert {seconds: leases.ago(now - seconds) for seconds in ages} == ages
    up = time.clock_gettime(time.CLOCK_BOOTTIME)
    assert boot_time() <= now - up + 1
    monkeypatch.setattr(time, "time", lambda: now + 10**9)  # a clock that was set right after boot
    assert boot_time() <= now
