"""A root file system with python3-minimal and what that depends on, read-only but for the state folders.

No iptables, nft or ip; of Python's library neither json nor ctypes, nor any extension module that is a file. What the
plugins have made there is looked at from outside.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cnibox.registry import PLUGINS
from tests.support.machine import Machine, Outcome, farm_in
from tests.support.network import bridge, ptp, state

WEAK = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
DEPENDS = ["apt-cache", "depends", "--recurse", *(f"--no-{kind}" for kind in WEAK)]
MOUNT = """
mount --bind {root} {root} && mount -o remount,bind,ro {root}
mount --rbind /proc {root}/proc; mount --rbind /run {root}/run; mount --bind /var/lib/cni {root}/var/lib/cni
"""


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory, cnibox: Path) -> Path:
    """The file system, with a stamped farm in /opt/cni/bin and a plain one in /opt/cni/plain."""
    folder = tmp_path_factory.mktemp("minimal")
    root, packages = folder / "root", folder / "packages"
    root.mkdir()
    packages.mkdir()
    listed = subprocess.run([*DEPENDS, "python3-minimal"], check=True, capture_output=True, text=True).stdout
    names = sorted({line for line in listed.splitlines() if line[:1].isalnum()})
    assert "python3-minimal" in names and "libc6" in names
    subprocess.run(["apt-get", "-qq", "download", *names], cwd=packages, check=True, capture_output=True)
    for package in packages.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", str(package), str(root)], check=True)
    for name in ("proc", "run", "var/lib/cni", "opt/cni/bin", "opt/cni/plain"):
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("lib", "lib64", "bin", "sbin"):  # base-files makes these, which is no dependency
        if not (root / name).exists() and (root / "usr" / name).exists():
            (root / name).symlink_to(f"usr/{name}")
    farm_in(root / "opt/cni/bin", cnibox)
    shutil.copy(cnibox, root / "opt/cni/plain/cnibox")
    for name in PLUGINS:
        (root / "opt/cni/plain" / name).symlink_to("cnibox")
    return root


class Minimal:
    """A machine whose plugins live in that root."""

    def __init__(self, machine: Machine, root: Path, farm: str) -> None:
        self.machine = machine
        self.root = root
        self.farm = farm
        machine.run("sh", "-ec", MOUNT.format(root=root))

    def plugin(self, name: str, command: str, config: Any, **options: Any) -> Outcome:
        program = ["chroot", str(self.root), f"{self.farm}/{name}"]
        return self.machine.plugin(name, command, config, program=program, CNI_PATH=self.farm, **options)


@pytest.fixture(params=["bin", "plain"])
def minimal(request: pytest.FixtureRequest, machine: Machine, root: Path) -> Minimal:
    machine.container("c1")
    return Minimal(machine, root, f"/opt/cni/{request.param}")


def test_it_is_what_it_says(minimal: Minimal) -> None:
    script = """
import sys
for name in ("json", "_json", "ctypes", "_ctypes", "click"):
    try:
        __import__(name)
    except ImportError:
        continue
    sys.exit(name)
try:
    open("/opt/cni/file", "w")
except OSError as error:
    sys.exit(error.errno != 30)
"""
    minimal.machine.run("chroot", str(minimal.root), "/usr/bin/python3", "-IS", "-c", script)
    for folder, _, files in os.walk(minimal.root / "usr"):
        assert not {"iptables", "nft", "ip", "iptables-restore"} & set(files), folder


@pytest.mark.parametrize("backend", ["nftables", None])
def test_bridge_and_host_local(minimal: Minimal, backend: str | None) -> None:
    """Without iptables, nftables is what an unset backend means."""
    machine, config = minimal.machine, bridge(ipMasq=True, ipMasqBackend=backend)
    machine.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    before = state(machine)
    added = minimal.plugin("bridge", "ADD", config)
    assert (added.status, added.stderr) == (0, ""), added
    for address in ("10.77.0.1", "fd77::1"):
        assert machine.ping(address, inside="c1")
    assert machine.run("nft", "list", "ruleset").count(" masquerade comment ") == 2
    config["prevResult"] = added.json
    for command in ("CHECK", "STATUS", "DEL", "DEL"):
        outcome = minimal.plugin("bridge", command, config)
        assert (outcome.status, outcome.stdout, outcome.stderr) == (0, "", ""), outcome
    machine.run("ip", "link", "delete", "cni0")
    machine.run("nft", "delete", "table", "inet", "cni_plugins_masquerade")
    assert state(machine) == before


def test_ptp_and_loopback(minimal: Minimal) -> None:
    config: dict[str, Any] = ptp(ipMasq=True)
    added = minimal.plugin("ptp", "ADD", config)
    assert added.status == 0, added
    assert minimal.machine.ping("fd77::2") and minimal.machine.ping("10.77.0.1", inside="c1")
    config["prevResult"] = added.json
    assert minimal.plugin("ptp", "CHECK", config).status == 0
    assert minimal.plugin("ptp", "DEL", config).status == 0
    loopback = {"cniVersion": "1.1.0", "name": "lo", "type": "loopback"}
    assert minimal.plugin("loopback", "ADD", loopback, ifname="lo").status == 0
    assert minimal.machine.ping("::1", inside="c1")


def test_errors_are_told(minimal: Minimal) -> None:
    wrong = minimal.plugin("bridge", "ADD", bridge(isGateway="yes"))
    assert (wrong.status, wrong.code, wrong.stderr) == (1, 7, "")
    missing = minimal.plugin("bridge", "ADD", bridge(ipMasq=True, ipMasqBackend="iptables"))
    assert missing.status == 1 and "iptables-restore" in missing.json["msg"]
    garbled = minimal.plugin("bridge", "ADD", b"{")
    assert (garbled.code, garbled.stderr) == (6, "")


def test_version(minimal: Minimal) -> None:
    assert minimal.plugin("bridge", "VERSION", {}).json["cniVersion"] == "1.1.0"


def test_the_commands_say_what_they_need(minimal: Minimal) -> None:
    done = minimal.machine.plugin("cnibox", None, {}, program=["chroot", str(minimal.root), f"{minimal.farm}/cnibox", "list"])
    assert (done.status, done.stdout, done.stderr.count("\n")) == (1, "", 1), done
    assert "apt install python3" in done.stderr and done.stderr.startswith("cnibox: ")
