"""`cnibox leases` and `cnibox reclaim` on real leases."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from cnibox.cli.leases import leases, reclaim
from tests.support.leases import Rig
from tests.support.machine import Machine


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    rig = Rig(tmp_path / "networks", ranges=[[{"subnet": "10.1.2.0/24"}], [{"subnet": "fd00::/64"}]])
    rig.add("c1")
    rig.put("10.1.2.9", "c9", age=1)
    rig.put("10.1.2.10", "c10\r\neth0", age=1)
    rig.put("10.1.2.11", "")
    return rig


def run(rig: Rig, command: click.Command, *words: str) -> Result:
    return CliRunner().invoke(command, [*words, "--data-dir", str(rig.data_dir)])


def table(result: Result) -> list[list[str]]:
    assert result.exit_code == 0, result.output
    return [line.split() for line in result.output.splitlines()]


def test_the_list(rig: Rig) -> None:
    Rig(rig.data_dir, "net2", subnet="10.2.0.0/24").add("c2")
    head, *rows = table(run(rig, leases))
    assert head == ["ADDRESS", "NETWORK", "CONTAINER", "INTERFACE", "AGE"]
    assert [" ".join(row[:4] + row[6:]) for row in rows] == [
        "10.1.2.2 net1 c1 eth0",
        "10.1.2.9 net1 c9 ? before this boot",
        "10.1.2.10 net1 c10 eth0 before this boot",
        "10.1.2.11 net1 ? ? garbled",
        "fd00::2 net1 c1 eth0",
        "10.2.0.2 net2 c2 eth0",
    ]
    assert len(table(run(rig, leases, "net2"))) == 2


@pytest.mark.parametrize("words", [["leases"], ["leases", "--data-dir", "/var/lib/cni/networks"]])
def test_a_fresh_machine_has_none(machine: Machine, words: list[str]) -> None:
    assert machine.run(f"{machine.farm}/cnibox", *words) == "no leases in /var/lib/cni/networks\n"


def test_container_ids_are_cut_to_what_is_unique(rig: Rig) -> None:
    """But to no less than 12 characters; interfaces and networks are whole."""
    for number, container in enumerate(("a" * 64, "a" * 40 + "b" * 24, "0123456789abcdef", "f" * 12, "f" * 64)):
        rig.put(f"10.1.2.{30 + number}", f"{container}\r\neth{number}", age=1)
    shown = {row[0]: (row[2], row[3]) for row in table(run(rig, leases))}
    assert shown["10.1.2.30"] == ("a" * 41, "eth0") and shown["10.1.2.31"] == ("a" * 40 + "b", "eth1")
    assert shown["10.1.2.32"] == ("0123456789ab", "eth2")
    assert shown["10.1.2.33"] == ("f" * 12, "eth3") and shown["10.1.2.34"] == ("f" * 13, "eth4")
    assert f"of container {'f' * 13} eth4," in run(rig, reclaim, "net1", "--dry-run").output


def test_reclaim(rig: Rig) -> None:
    before = rig.files()
    result = run(rig, reclaim, "net1", "--dry-run")
    assert "would release 10.1.2.9 of container c9, made " in result.output
    assert "would release 10.1.2.11 of no container, made 0 s ago: garbled" in result.output
    assert result.output.endswith("3 to release, 2 left\n") and rig.files() == before
    result = run(rig, reclaim, "net1")
    assert "released 10.1.2.10 of container c10 eth0, made " in result.output
    assert result.output.endswith("3 released, 2 left\n")
    assert rig.files() == {"10.1.2.2": "c1/eth0", "fd00::2": "c1/eth0"} == rig.indexed()
    assert run(rig, reclaim, "net1").output == "0 released, 2 left\n"


def test_errors_say_what_to_do(rig: Rig, tmp_path: Path) -> None:
    for words, text in (
        ("net9", "no leases of network net9 in"),
        ("../x", "cannot be the name of a network"),
    ):
        result = run(rig, reclaim, words)
        assert result.exit_code == 1 and text in result.output
    result = CliRunner().invoke(leases, ["--data-dir", str(tmp_path / "none")])
    assert result.exit_code == 1 and "No such file or directory (--data-dir says" in result.output
