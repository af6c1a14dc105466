"""host-local after a reboot: leases that the containers of the boot before have left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cnibox import record
from cnibox.skel import report_status
from cnibox.spec import errors
from tests.support.leases import Rig, error
from tests.support.machine import Machine
from tests.support.network import attach, bridge, host_local

BOTH: dict[str, Any] = {"ranges": [[{"subnet": "10.6.0.0/29"}], [{"subnet": "fd06::/125"}]]}


@pytest.fixture
def rig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Rig:
    monkeypatch.setattr(record, "ATTACHMENTS", str(tmp_path / "attachments"))
    return Rig(tmp_path / "networks", **BOTH)


def age_all(rig: Rig) -> None:
    for name, content in rig.files().items():
        rig.put(name, content.replace("/", "\r\n"), age=1)


def test_a_container_gets_its_addresses_again(rig: Rig, capfd: pytest.CaptureFixture[str]) -> None:
    rig.add("other")
    addresses = rig.add("c1", ifname="net3")
    age_all(rig)
    assert rig.add("c1", ifname="net3") == addresses == ["10.6.0.3/29", "fd06::3/125"]
    logged = capfd.readouterr().err
    assert f"warning: taking over {rig.leases}/10.6.0.3, made " in logged and f"{rig.leases}/fd06::3" in logged
    assert "before this boot, names container c1 with net3" in logged
    rig.check("c1", addresses, ifname="net3")
    assert rig.indexed() == rig.files() and len(rig.files()) == 4
    # They are leases of this boot by now.
    assert "duplicate allocation" in error(999, rig.add, "c1", ifname="net3")
    rig.delete("c1", ifname="net3")
    assert rig.files() == {"10.6.0.2": "other/eth0", "fd06::2": "other/eth0"}


def test_a_lease_without_interface_is_the_containers_own(rig: Rig) -> None:
    rig.put("10.6.0.5", "c7", age=1)
    assert rig.add("c7") == ["10.6.0.5/29", "fd06::2/125"]
    assert rig.files()["10.6.0.5"] == "c7/eth0"


def test_the_container_may_be_on_record_already(rig: Rig, tmp_path: Path) -> None:
    (tmp_path / "attachments" / "c2").mkdir(parents=True)
    rig.put("10.6.0.6", "c2\r\neth0", age=1)
    assert rig.add("c2")[0] == "10.6.0.6/29"


def test_leases_of_others_are_the_last_to_be_used(rig: Rig, capfd: pytest.CaptureFixture[str]) -> None:
    for number in (2, 3, 4):
        rig.put(f"10.6.0.{number}", f"old{number}\r\neth0", age=1)
    assert [rig.add(f"new{number}")[0] for number in (1, 2)] == ["10.6.0.5/29", "10.6.0.6/29"]
    assert capfd.readouterr().err == ""
    (rig.leases / "10.6.0.3").unlink()
    rig.put("10.6.0.3", "")
    rig.plugin("STATUS").status()
    assert rig.add("new3")[0] == "10.6.0.3/29", "the garbled one first"
    taken = {rig.add("new4")[0], rig.add("new5")[0]}
    assert taken == {"10.6.0.2/29", "10.6.0.4/29"}
    assert "names container old4 with eth0" in capfd.readouterr().err
    text = error(999, rig.add, "new6")
    assert "no IP addresses available" in text and "5 addresses are held by 5 containers" in text
    assert error(errors.PLUGIN_UNAVAILABLE, report_status, rig.plugin("STATUS"))
    assert rig.indexed() == rig.files()


def test_an_old_lease_whose_container_is_on_record_is_kept(rig: Rig, tmp_path: Path) -> None:
    """As when the clock was set forward: the container lives, and its lease only looks old."""
    for number in range(2, 7):
        rig.put(f"10.6.0.{number}", f"c{number}\r\neth0", age=1)
        (tmp_path / "attachments" / f"c{number}").mkdir(parents=True)
    assert "no IP addresses available" in error(999, rig.add, "new")
    assert "not available in range set" in error(999, rig.add, "new", args="IP=10.6.0.4")
    (tmp_path / "attachments" / "c4").rmdir()
    assert rig.add("new")[0] == "10.6.0.4/29"


def test_a_requested_address_that_a_dead_container_held(rig: Rig, capfd: pytest.CaptureFixture[str]) -> None:
    rig.put("10.6.0.4", "gone\r\neth0", age=1)
    rig.put("fd06::5", "c1\r\neth0", age=1)
    runtime: dict[str, Any] = {"runtimeConfig": {"ips": ["10.6.0.4", "fd06::5"]}}
    assert rig.add("c1", **runtime) == ["10.6.0.4/29", "fd06::5/125"]
    logged = capfd.readouterr().err
    assert "names container gone with eth0" in logged and "names container c1 with eth0" in logged
    assert rig.files() == {"10.6.0.4": "c1/eth0", "fd06::5": "c1/eth0"} == rig.indexed()
    assert "not available" in error(999, rig.add, "c2", **runtime)


def test_a_failed_add_takes_no_lease_over(rig: Rig) -> None:
    rig.put("10.6.0.4", "c1\r\neth0", age=1)
    rig.put("fd06::4", "living\r\neth0")
    before = rig.files()
    error(999, rig.add, "c1", runtimeConfig={"ips": ["fd06::4"]})
    assert rig.files() == before


def test_what_only_looks_like_a_lease_is_left(rig: Rig) -> None:
    for number in range(2, 6):
        rig.put(f"10.6.0.{number}", f"c{number}\r\neth0")
    victim = rig.leases / "10.6.0.6"
    victim.symlink_to("/nonexistent")
    assert "no IP addresses available" in error(999, rig.add, "new")
    assert victim.is_symlink()


def test_a_bridge_network_after_a_reboot(machine: Machine) -> None:
    config = bridge(name="net5", ipam=host_local("10.66.0.0/30"))
    leases = "/var/lib/cni/networks/net5"
    attach(machine, config, "c1")
    # What a reboot takes away: /run, namespaces and links.
    machine.run("sh", "-c", f"rm -r /run/cnibox; ip netns del c1; ip link del cni0; touch -d @4000 {leases}/10.*")
    machine.container("c1")
    outcome = machine.plugin("bridge", "ADD", config)
    assert outcome.status == 0 and outcome.json["ips"][0]["address"] == "10.66.0.2/30", outcome
    assert "warning: taking over" in outcome.stderr
    machine.run("sh", "-c", f"rm -r /run/cnibox; ip netns del c1; ip link del cni0; touch -d @4000 {leases}/10.*")
    netns = machine.container("c8")
    outcome = machine.plugin("bridge", "ADD", config, container_id="c8", netns=netns)
    assert outcome.status == 0 and outcome.json["ips"][0]["address"] == "10.66.0.2/30", outcome
    assert machine.run("cat", f"{leases}/10.66.0.2") == "c8\r\neth0"
