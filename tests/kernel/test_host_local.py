"""host-local on real files: what each verb does, and what it says when it cannot."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from cnibox.skel import report_status
from cnibox.spec import errors
from tests.support.leases import Rig, error

HALVES: dict[str, Any] = {"ranges": [[{"subnet": "10.1.2.0/29"}], [{"subnet": "fd00::/125"}]]}


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "networks", subnet="10.1.2.0/29")


def test_add_writes_what_the_reference_writes(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "a" / "networks", **HALVES)
    assert rig.add("c1") == ["10.1.2.2/29", "fd00::2/125"]
    assert rig.files() == {"10.1.2.2": "c1/eth0", "fd00::2": "c1/eth0"}
    assert (rig.leases / "last_reserved_ip.0").read_bytes() == b"10.1.2.2"
    assert (rig.leases / "last_reserved_ip.1").read_bytes() == b"fd00::2"
    modes = {each.name: each.stat().st_mode & 0o777 for each in rig.leases.iterdir()}
    leases = ("10.1.2.2", "fd00::2", "last_reserved_ip.0", "last_reserved_ip.1")
    assert modes == {"lock": 0o750} | dict.fromkeys(leases, 0o600)
    assert rig.leases.stat().st_mode & 0o777 == 0o755
    assert rig.indexed() == rig.files()


def test_the_result_has_gateway_routes_and_dns(tmp_path: Path) -> None:
    resolv_conf = tmp_path / "resolv.conf"
    resolv_conf.write_text(
        "# nameserver 9.9.9.9\n; x y\nnameserver 10.0.0.1 \n nameserver fd00::1\ndomain a\ndomain b\n"
        "search one two\nsearch three\noptions ndots:5\noptions rotate\nnameserver\nunknown thing\n"
    )
    routes = [{"dst": "0.0.0.0/0"}, {"dst": "10.9.0.1/16", "gw": "10.1.2.4", "mtu": 1400, "table": 7}]
    ipam: dict[str, Any] = {
        "subnet": "10.1.2.0/24",
        "gateway": "10.1.2.254",
        "routes": routes,
        "resolvConf": str(resolv_conf),
    }
    written = Rig(tmp_path, **ipam).plugin("ADD", "c1").add().to_object("1.1.0")
    assert written == {
        "cniVersion": "1.1.0",
        "dns": {
            "nameservers": ["10.0.0.1", "fd00::1"],
            "domain": "b",
            "search": ["one", "two", "three"],
            "options": ["ndots:5", "rotate"],
        },
        "ips": [{"address": "10.1.2.1/24", "gateway": "10.1.2.254"}],
        "routes": routes,
    }
    assert "open /none/x: no such file" in error(
        999, Rig(tmp_path / "b", **(ipam | {"resolvConf": "/none/x"})).add, "c1"
    )
    assert not (tmp_path / "b").exists()


def test_each_set_takes_one_request_and_all_must_be_taken(tmp_path: Path) -> None:
    rig = Rig(tmp_path, **HALVES)
    runtime: dict[str, Any] = {"runtimeConfig": {"ips": ["fd00::5/64"]}}
    assert rig.add("c1", args="IP=10.1.2.6", **runtime) == ["10.1.2.6/29", "fd00::5/125"]
    assert rig.add("c2", args="IP=10.1.2.5;MAC=02:00:00:00:00:01") == ["10.1.2.5/29", "fd00::6/125"]
    before = rig.files()
    rig.config["args"] = {"cni": {"ips": ["10.1.2.3", "10.1.2.4"]}}
    text = error(999, rig.add, "c3")
    del rig.config["args"]
    assert text.startswith("failed to allocate all requested IPs: 10.1.2.4: ")
    assert "requested ip 10.1.2.1 is subnet's gateway" in error(999, rig.add, "c3", args="IP=10.1.2.1")
    text = error(999, rig.add, "c3", args="IP=10.1.2.6")
    assert text.startswith(
        "failed to allocate for range 0: requested IP address 10.1.2.6 is not available in range set 10.1"
    )
    assert f"{rig.leases}/10.1.2.6, made 0 s ago, names container c1 with eth0" in text
    assert rig.files() == before


def test_a_second_add_names_file_age_and_holder(rig: Rig) -> None:
    rig.put("10.1.2.4", "c1")
    text = error(999, rig.add, "c1")
    assert text.startswith("failed to allocate for range 0: 10.1.2.4 has been allocated to c1, duplicate alloc")
    assert f"{rig.leases}/10.1.2.4, made " in text and "s ago, names container c1;" in text
    assert rig.add("c1", ifname="eth1", ipam=rig.config["ipam"] | {"subnet": "10.9.0.0/24"}) == ["10.9.0.2/24"]


def test_exhaustion_tells_by_whom_and_what_to_do(rig: Rig) -> None:
    for number in (2, 3):
        rig.put(f"10.1.2.{number}", f"old{number}\r\neth0")
    assert [rig.add("c1", ifname=f"eth{number}")[0] for number in range(3)] == [
        "10.1.2.4/29",
        "10.1.2.5/29",
        "10.1.2.6/29",
    ]
    text = error(999, rig.add, "c2")
    assert text.startswith(
        "failed to allocate for range 0: no IP addresses available in range set: 10.1.2.1-10.1.2.6: "
    )
    assert "5 addresses are held by 3 containers; " in text
    assert f"`cnibox leases net1 --data-dir {rig.data_dir}`" in text
    assert error(errors.PLUGIN_UNAVAILABLE, report_status, rig.plugin("STATUS")) == text.removeprefix(
        "failed to allocate for range 0: "
    )
    rig.delete("c1", "eth1")
    rig.plugin("STATUS").status()
    assert rig.add("c2") == ["10.1.2.5/29"]


@pytest.mark.parametrize("content", ["", "\0" * 20, "two words"])
def test_garbled_leases_are_nobodys_and_the_last_to_be_used(rig: Rig, content: str) -> None:
    rig.put("10.1.2.4", content)
    rig.add("c1")
    rig.delete("x")
    assert "10.1.2.4" in rig.files()
    for number in range(2, 5):
        rig.add(f"c{number}")
    rig.plugin("STATUS").status()
    assert rig.add("c9") == ["10.1.2.4/29"]
    assert rig.files()["10.1.2.4"] == "c9/eth0" and rig.indexed() == rig.files()


def test_check_wants_every_address_that_is_ours(tmp_path: Path) -> None:
    rig = Rig(tmp_path, **HALVES)
    error(999, rig.check, "c1", ["10.1.2.2/29"])
    given = rig.add("c1")
    rig.check("c1", given)
    rig.check("c1", [*given, "192.168.1.1/24"])
    rig.check("c1")
    assert "no file in" in error(999, rig.check, "c2", [])
    assert f"{tmp_path}/net1/10.1.2.2, made" in error(999, rig.check, "c2", given)
    (rig.leases / "fd00::2").unlink()
    text = error(999, rig.check, "c1", given)
    assert text.startswith("host-local: Failed to find address added by container c1: there is no file")
    rig.put("fd00::2", "c1")
    rig.check("c1", given)


def test_delete_is_total(rig: Rig) -> None:
    rig.delete("c1")
    assert not rig.data_dir.exists()
    rig.add("c1")
    rig.add("c1", ifname="eth1")
    rig.delete("c1", ipam={"type": "host-local", "dataDir": str(rig.data_dir), "ranges": "nonsense", "subnet": 5})
    assert rig.files() == {"10.1.2.3": "c1/eth1"}
    rig.delete("c1")
    rig.put("10.1.2.5", "c1\n")
    rig.delete("c1")
    assert rig.files() == {"10.1.2.3": "c1/eth1"}
    rig.plugin("DEL", "c1", ipam={"type": "host-local"}).leases.data_dir.endswith("/var/lib/cni/networks")


def test_container_ids_that_look_like_files_do_no_harm(rig: Rig) -> None:
    rig.add("c1")
    before = sorted(os.listdir(rig.leases))
    for name in ("10.1.2.2", "last_reserved_ip.0", "lock", "c1.", "cnibox-leases", "000000000000"):
        rig.delete(name)
        rig.add(name)
        rig.delete(name)
    assert sorted(os.listdir(rig.leases)) == before and rig.indexed() == {"10.1.2.2": "c1/eth0"}


def test_gc_keeps_what_is_valid_and_what_is_no_lease(rig: Rig) -> None:
    other = Rig(rig.data_dir, "net2", subnet="10.1.2.0/29")
    other.add("gone")
    for container in ("kept", "gone"):
        rig.add(container)
        rig.add(container, ifname="eth1")
    for address, content in {"10.8.0.1": "kept", "10.8.0.2": "gone", "10.8.0.3": "", "notes": "gone"}.items():
        rig.put(address, content)
    rig.plugin("GC").gc({("kept", "eth0")})
    assert rig.files() == {"10.1.2.2": "kept/eth0", "10.8.0.1": "kept", "notes": "gone"}
    assert {"lock", "last_reserved_ip.0"} < set(os.listdir(rig.leases))
    assert other.files() == {"10.1.2.2": "gone/eth0"}
    rig.plugin("GC").gc(set())
    assert rig.files() == {"notes": "gone"} and rig.indexed() == {}
    Rig(rig.data_dir, "net3").plugin("GC").gc(set())
    assert not (rig.data_dir / "net3").exists()
