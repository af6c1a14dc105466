"""The log: CNIBOX_LOG, CNIBOX_LOG_FILE, and the line about an operation that failed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.machine import Machine

LOOPBACK = {"cniVersion": "1.1.0", "name": "blue-net", "type": "loopback"}
LEASES = {
    "cniVersion": "1.1.0",
    "name": "blue-net",
    "type": "host-local",
    "ipam": {"type": "host-local", "subnet": "10.77.3.0/30"},
}
VLAN = {"cniVersion": "1.1.0", "name": "blue-net", "type": "macvlan", "master": "nic9"}
KNOWN = "network=blue-net container=c1 interface=eth0 netns=/run/netns/c1 "
STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d "


@pytest.fixture
def container(machine: Machine) -> Machine:
    machine.container()
    return machine


@pytest.mark.parametrize(
    ("plugin", "verb", "config", "environ", "facts", "code", "words"),
    [
        ("macvlan", "ADD", VLAN, {}, KNOWN, 999, "nic9"),
        ("macvlan", "CHECK", VLAN, {}, KNOWN, 7, "prevResult"),
        ("macvlan", "STATUS", VLAN, {}, KNOWN, 50, "nic9"),
        ("host-local", "DEL", {**LEASES, "ipam": {"type": "host-local", "dataDir": 7}}, {}, KNOWN, 7, "dataDir"),
        ("bridge", "GC", {**LOOPBACK, "cni.dev/valid-attachments": 7}, {}, KNOWN, 7, "valid-attachments"),
        ("loopback", "ADD", LOOPBACK, {"ifname": None}, "container=c1 netns=/run/netns/c1 ", 4, "CNI_IFNAME"),
        ("loopback", "ADD", LOOPBACK, {"netns": "/nowhere"}, KNOWN.replace("/run/netns/c1", "/nowhere"), 8, "/nowhere"),
        ("loopback", "SING", LOOPBACK, {}, KNOWN, 4, "unknown CNI_COMMAND: SING"),
        ("loopback", "ADD", {**LOOPBACK, "cniVersion": "7.0"}, {}, KNOWN, 1, "7.0"),
        ("loopback", "ADD", b'{"name": "blue-net", ', {}, KNOWN.replace("network=blue-net ", ""), 6, "line 1"),
        ("static", "ADD", b"\xff\n\x1b", {}, KNOWN.replace("network=blue-net ", ""), 6, ""),
    ],
)  # fmt: skip
def test_a_failed_operation_is_in_the_log(
    container: Machine, tmp_path: Path, plugin: str, verb: str, config: Any, environ: dict[str, Any], facts: str, code: int, words: str
) -> None:  # fmt: skip
    file = tmp_path / "log"
    done = container.plugin(plugin, verb, config, CNIBOX_LOG_FILE=str(file), **environ)
    assert (done.status, done.json["code"], done.stderr) == (1, code, "")
    line, end = file.read_text().split("\n")
    expected = rf"{STAMP}{plugin}\[\d+\] error: {verb} failed after \d+\.\d ms: {facts}code={code}: "
    assert re.match(expected, line) and words in line and end == "", line
    assert done.json["msg"].splitlines()[0] in line
    assert file.stat().st_mode & 0o7777 == 0o600


def test_a_message_is_one_line_whatever_is_in_the_configuration(container: Machine, tmp_path: Path) -> None:
    file = tmp_path / "log"
    for value in ("nic\n9 error: forged", "nic\x1b[2J", "nic\ud800", "nic\x9b"):
        done = container.plugin("macvlan", "ADD", {**VLAN, "master": value}, CNIBOX_LOG_FILE=str(file))
        assert done.status == 1 and done.json["code"] and done.stderr == "", done
    lines = file.read_text().split("\n")
    assert len(lines) == 5 and all(line.isprintable() for line in lines)


def test_a_misspelt_plugin_is_in_the_log(container: Machine, tmp_path: Path) -> None:
    (tmp_path / "loopbakc").symlink_to(f"{container.farm}/cnibox")
    file = tmp_path / "log"
    done = container.plugin("loopbakc", "ADD", LOOPBACK, farm=str(tmp_path), CNIBOX_LOG_FILE=str(file))
    assert done.code == 7 and done.stderr == ""
    assert 'loopbakc[' in file.read_text() and 'code=7: cnibox has no plugin "loopbakc"' in file.read_text()


@pytest.mark.parametrize(
    ("level", "in_log", "ok_too"), [("error", 1, 0), ("warning", 1, 0), ("debug", 1, 1), ("loud", 2, 1)]
)
def test_levels_on_stderr(container: Machine, level: str, in_log: int, ok_too: int) -> None:
    """A failure's error is on stdout; without a log that somebody has asked for, it is not printed a second time."""
    assert container.plugin("macvlan", "ADD", VLAN).stderr == ""
    assert container.plugin("loopback", "ADD", LOOPBACK).stderr == ""
    failed = container.plugin("macvlan", "ADD", VLAN, CNIBOX_LOG=level).stderr.splitlines()
    assert len(failed) == in_log and " error: ADD failed after " in failed[-1], failed
    container.run("ip", "-n", "c1", "link", "set", "lo", "down")
    assert (container.plugin("loopback", "ADD", LOOPBACK, CNIBOX_LOG=level).stderr != "") == ok_too


def test_a_file_alone_takes_warnings_and_errors(container: Machine, tmp_path: Path) -> None:
    file = tmp_path / "log"
    assert container.plugin("loopback", "ADD", LOOPBACK, CNIBOX_LOG_FILE=str(file)).status == 0
    assert file.read_text() == ""
    for container_id in ("a", "b", "c"):  # a /30 has one address besides the gateway
        container.plugin("host-local", "ADD", LEASES, container_id=container_id, CNIBOX_LOG_FILE=str(file))
    assert [re.search("container=(.)", line)[1] for line in file.read_text().splitlines()] == ["b", "c"]  # type: ignore[index]


@pytest.mark.parametrize(
    ("prepare", "reason"),
    [
        ("ln -s {0}.target {0}", "it is a symlink"),
        ("touch {0}.target; chmod 666 {0}.target; ln -s {0}.target {0}", "it is a symlink"),
        ("mkdir {0}", "Is a directory"),
        ("mkfifo {0}", "No such device or address"),
        ("touch {0}; mount --bind -o ro {0} {0}; mount -o remount,bind,ro {0}", "Read-only file system"),
        ("ln -s /nowhere/at/all {0}", "it is a symlink"),
    ],
)
def test_a_log_that_cannot_be_written_fails_nothing(
    container: Machine, tmp_path: Path, prepare: str, reason: str
) -> None:
    file, target = tmp_path / "log", tmp_path / "log.target"
    container.run("sh", "-c", prepare.format(file))
    for verb in ("ADD", "DEL"):
        done = container.plugin("host-local", verb, LEASES, CNIBOX_LOG_FILE=str(file))
        assert done.status == 0, done
        assert f"CNIBOX_LOG_FILE={file} cannot be opened for writing: {reason}" in done.stderr
    assert not target.exists() or target.read_bytes() == b""
    failed = container.plugin("macvlan", "ADD", VLAN, CNIBOX_LOG_FILE=str(file))
    assert failed.json["code"] == 999 and " error: ADD failed after " in failed.stderr


def test_a_full_disk_fails_nothing(container: Machine) -> None:
    for path in ("/dev/full", "/run/full/log"):
        container.run("sh", "-c", "mkdir -p /run/full; mount -t tmpfs -o size=4k full /run/full; head -c 4096 /dev/zero > /run/full/log")
        for level in ("debug", "error"):
            assert container.plugin("loopback", "ADD", LOOPBACK, CNIBOX_LOG=level, CNIBOX_LOG_FILE=path).status == 0
        assert container.plugin("macvlan", "ADD", VLAN, CNIBOX_LOG_FILE=path).json["code"] == 999
