"""host-local where something is in its way: locks, symlinks, damaged files, wrong folders."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from cnibox.host import files
from cnibox.host.journal import HostError
from cnibox.skel import report_status
from cnibox.spec import errors
from tests.support.leases import Rig, error
from tests.support.machine import Machine


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path / "networks", subnet="10.1.2.0/29")


def test_status_makes_nothing_and_waits_for_nobody(rig: Rig, tmp_path: Path) -> None:
    rig.plugin("STATUS").status()
    assert not rig.data_dir.exists()
    rig.add("c1")
    before = {each: each.stat().st_mtime_ns for each in rig.data_dir.rglob("*")}
    with files.Lock(str(rig.leases / "lock")):
        rig.plugin("STATUS").status()
    rig.put("10.1.2.5", "c5")
    rig.plugin("STATUS").status()
    (rig.leases / "10.1.2.5").unlink()
    assert {
        each: each.stat().st_mtime_ns for each in rig.data_dir.rglob("*") if each != rig.leases
    }.items() <= before.items()
    (tmp_path / "file").write_text("")
    text = error(50, report_status, Rig(tmp_path / "file", subnet="10.0.0.0/24").plugin("STATUS"))
    assert str(tmp_path / "file") in text


def test_a_lock_that_is_held_is_told_with_its_holder(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.add("c1")
    monkeypatch.setattr(files.Lock.__init__, "__defaults__", (0o600, 0.2, None))
    with subprocess.Popen(["flock", "--no-fork", rig.leases / "lock", "sleep", "9"]) as holder:
        try:
            while f" {holder.pid} " not in Path("/proc/locks").read_text():
                time.sleep(0.01)
            text = error(errors.TRY_AGAIN_LATER, rig.add, "c2")
        finally:
            holder.kill()
    assert text.startswith(f"locking {rig.leases}/lock: not to be had for 0.2 s; held by process {holder.pid} (sleep)")


def test_nothing_is_written_through_symlinks(rig: Rig, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"c1\r\neth0")
    rig.leases.mkdir(parents=True)
    for name in ("10.1.2.2", "last_reserved_ip.0"):
        (rig.leases / name).symlink_to(victim)
    for name in (".net1.lease", ".net1.index"):
        (rig.data_dir / name).symlink_to(victim)
    assert rig.add("c1") == ["10.1.2.3/29"]
    rig.delete("c1")
    assert victim.read_bytes() == b"c1\r\neth0"
    elsewhere = Rig(tmp_path / "other", subnet="10.1.2.0/29")
    elsewhere.data_dir.mkdir()
    elsewhere.leases.symlink_to(rig.leases)
    with pytest.raises(HostError, match="not a symlink"):
        elsewhere.add("c1")
    (tmp_path / "link").symlink_to(elsewhere.data_dir)
    assert Rig(tmp_path / "link", "net2", subnet="10.1.2.0/29").add("c1") == ["10.1.2.2/29"]


def test_the_folder_of_leases_must_be_absolute(rig: Rig) -> None:
    rig.config["ipam"]["dataDir"] = "var/lib"
    assert 'must be an absolute path, not "var/lib"' in error(errors.INVALID_CONFIG, rig.plugin, "ADD", "c1")


def test_leases_that_the_index_does_not_show_are_found(rig: Rig) -> None:
    rig.add("c1")
    stamp = rig.leases.stat().st_mtime_ns
    rig.put("10.1.2.2", "c7\r\neth0")  # in place: the folder's mtime stays
    assert rig.leases.stat().st_mtime_ns == stamp
    rig.delete("c1")
    assert rig.files() == {"10.1.2.2": "c7/eth0"} == rig.indexed()
    index = rig.data_dir / ".net1.index"
    for damage in (
        b"",
        b"x",
        index.read_bytes()[:-3],
        index.read_bytes() + b"y\n",
        index.read_bytes().replace(b"1 ", b"2 "),
    ):
        index.write_bytes(damage)
        rig.delete("c7")
        rig.add("c7", ipam=rig.config["ipam"] | {"subnet": "10.7.0.0/24"})
        assert rig.indexed() == rig.files()


@pytest.mark.parametrize(
    ("prepare", "reason", "advice"),
    [
        ("mount -o remount,ro /var/lib/cni", "Read-only file system", "make it writable"),
        ("umount /var/lib/cni; mount -t tmpfs -o nr_inodes=1 x /var/lib/cni", "No space left", "free some space"),
        ("umount /var/lib/cni; mount -t tmpfs -o nr_inodes=4 x /var/lib/cni", "No space left", "free some space"),
    ],
)
def test_leases_that_cannot_be_written(machine: Machine, prepare: str, reason: str, advice: str) -> None:
    machine.run("sh", "-c", prepare)
    ipam = {"type": "host-local", "subnet": "10.7.0.0/24"}
    config = {"cniVersion": "1.1.0", "name": "net7", "type": "host-local", "ipam": ipam}
    outcome = machine.plugin("host-local", "ADD", config)
    assert outcome.code == 999, outcome
    assert f": {reason}" in outcome.json["msg"] and "/var/lib/cni/networks" in outcome.json["msg"]
    assert f'; {advice}, or let "dataDir" of "ipam" name another folder' in outcome.json["msg"]
    assert machine.plugin("host-local", "DEL", config).status == 0
    if reason == "Read-only file system":
        outcome = machine.plugin("host-local", "STATUS", config)
        assert outcome.code == 50 and advice in outcome.json["details"]
    elsewhere = {**config, "ipam": {**ipam, "dataDir": "/run/leases"}}
    assert machine.plugin("host-local", "ADD", elsewhere).status == 0


def test_a_lease_that_cannot_be_released(machine: Machine) -> None:
    ipam = {"type": "host-local", "subnet": "10.7.0.0/24"}
    config = {"cniVersion": "1.1.0", "name": "net7", "type": "host-local", "ipam": ipam}
    assert machine.plugin("host-local", "ADD", config).status == 0
    machine.run("mount", "-o", "remount,ro", "/var/lib/cni")
    outcome = machine.plugin("host-local", "DEL", config)
    assert outcome.code == 999 and "Read-only file system; make it writable, or let " in outcome.json["msg"], outcome
    machine.run("mount", "-o", "remount,rw", "/var/lib/cni")
    assert machine.plugin("host-local", "DEL", config).status == 0
