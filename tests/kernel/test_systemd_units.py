"""The units of `cnibox install --units` by a real systemd, a manager of the machine's own.

What a firewall takes away comes back. The command is where it was installed, and nowhere else.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.support.firewall import running_firewalld, sources, wall, wired
from tests.support.machine import Machine
from tests.support.network import attach, bridge
from tests.support.rules import ruleset

INSTALLED = "/run/cni-1.0+x/bin"
"""A folder that is missing, and not the one that packaging/systemd names."""
NFTABLES = """
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=test ! -e /run/broken
ExecStart=nft flush ruleset
ExecReload=sh -c "sleep 0.3; nft flush ruleset"
ExecStop=nft flush ruleset
"""
"""Like Debian's, with a reload that is slow: what is repaired before it is done is taken away by it."""
FIREWALLD = "[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart=true\n"
"""Stands for the one that runs."""
SETUP = """
mount -t tmpfs bin /usr/local/bin
mkdir -p /run/systemd/system /run/home
"$0/cnibox" install "$1" --units /run/units >&2
printf %s "$2" >/run/units/nftables.service; printf %s "$3" >/run/units/firewalld.service
mount -t cgroup2 cgroup /sys/fs/cgroup
"""
"""/run/systemd/system tells systemd that it is at home."""
MANAGER = """
mkdir /sys/fs/cgroup/$0; echo $$ >/sys/fs/cgroup/$0/cgroup.procs
exec /lib/systemd/systemd --user --unit=basic.target
"""
HOME = ["env", "XDG_RUNTIME_DIR=/run/home", "HOME=/run/home", "SYSTEMD_UNIT_PATH=/run/units:"]


@pytest.fixture
def units(machine: Machine) -> Machine:
    """The machine with the units, beside firewalls, in /run/units."""
    machine.run("sh", "-ec", SETUP, machine.farm, INSTALLED, NFTABLES, FIREWALLD)
    return machine


@pytest.fixture
def systemd(units: Machine) -> Iterator[Machine]:
    """The same, where systemd runs, as a user's manager."""
    group = f"cnibox-test-{units.process.pid}"
    words = units.enter(*HOME, "sh", "-ec", MANAGER, group)
    manager = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert units.wait_until(lambda: systemctl(units, "is-active", "basic.target", check=False) == "active\n")
        yield units
    finally:
        units.run("sh", "-c", f"echo 1 >/sys/fs/cgroup/{group}/cgroup.kill")
        manager.communicate()
        remove = f"find /sys/fs/cgroup/{group} -depth -type d -exec rmdir {{}} + 2>&1"
        assert units.wait_until(lambda: not units.run("sh", "-c", remove, check=False))


def systemctl(machine: Machine, *words: str, check: bool = True) -> str:
    return machine.run(*HOME, "systemctl", "--user", *words, check=check)


def test_they_are_valid(units: Machine) -> None:
    files = units.run("sh", "-c", "cd /run/units && ls cnibox-*").split()
    assert files == ["cnibox-repair-firewalld.service", "cnibox-repair@.service"]
    names = [name.replace("@", "@nftables") for name in files]
    machine_says = units.run(*HOME, "sh", "-c", f"systemd-analyze verify --man=no {' '.join(names)} 2>&1")
    assert machine_says == ""


def test_a_firewall_that_loads_rules(systemd: Machine) -> None:
    """Each of its starts and reloads is followed by a repair, whatever went before."""
    systemctl(systemd, "enable", "cnibox-repair@nftables")
    systemctl(systemd, "daemon-reload")
    attach(systemd, bridge(ipMasq=True, ipMasqBackend="nftables"))
    before = ruleset(systemd)

    def repaired_after(*words: str) -> None:
        systemctl(systemd, *words, "nftables")
        assert systemd.wait_until(lambda: ruleset(systemd) == before), words

    for _ in range(2):
        repaired_after("start")  # the first, and one after a stop
        repaired_after("reload")
        repaired_after("restart")
        repaired_after("try-reload-or-restart")
        systemctl(systemd, "stop", "nftables")
        assert ruleset(systemd) == ""
    systemd.run("touch", "/run/broken")
    systemctl(systemd, "start", "nftables", check=False)
    assert systemctl(systemd, "is-active", "cnibox-repair@nftables", check=False) == "inactive\n"
    systemd.run("rm", "/run/broken")
    repaired_after("start")


def test_a_repair_that_fails_takes_the_next_reload(systemd: Machine) -> None:
    attach(systemd, bridge(ipMasq=True, ipMasqBackend="nftables"))
    before = ruleset(systemd)
    systemctl(systemd, "start", "nftables")
    systemd.run("mv", f"{INSTALLED}/cnibox", "/run/cnibox-away")
    systemctl(systemd, "start", "cnibox-repair@nftables")
    systemd.run("mv", "/run/cnibox-away", f"{INSTALLED}/cnibox")
    assert ruleset(systemd) == ""
    systemctl(systemd, "reload", "nftables")
    assert systemd.wait_until(lambda: ruleset(systemd) == before)


def test_no_firewall_is_started(systemd: Machine) -> None:
    systemctl(systemd, "start", "cnibox-repair@nftables", check=False)
    assert systemctl(systemd, "is-active", "nftables", check=False) == "inactive\n"


def test_firewalld(systemd: Machine) -> None:
    """With the real one, on a bus: whose reload systemd does not see."""
    systemctl(systemd, "enable", "cnibox-repair-firewalld")
    systemctl(systemd, "daemon-reload")
    with running_firewalld(systemd):
        wired(systemd, wall())
        before = sources(systemd)
        assert len(before) == 2
        systemd.run("firewall-cmd", "--reload")
        assert sources(systemd) == []
        systemctl(systemd, "start", "firewalld")
        assert systemd.wait_until(lambda: sources(systemd) == before)
        for _ in range(2):
            systemd.run("firewall-cmd", "--reload")
            assert systemd.wait_until(lambda: sources(systemd) == before)
        systemctl(systemd, "stop", "firewalld")
        assert systemctl(systemd, "is-active", "cnibox-repair-firewalld", check=False) == "inactive\n"
