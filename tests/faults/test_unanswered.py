"""What the kernel does not answer is unknown: it counts neither as absent nor as not done."""

from __future__ import annotations

import os
import posix
import re
import resource
from pathlib import Path
from typing import Any

import pytest

from cnibox.host import firewalld, nftables
from cnibox.host.journal import HostError
from cnibox.host.namespace import Machine as OwnMachine
from cnibox.host.process import Process
from cnibox.wiring.leases.on_disk import LeaseFiles
from tests.support.faulty import Agent, Run, difference
from tests.support.machine import Machine

LEASES = "/var/lib/cni/networks"
HOST_LOCAL = {"type": "host-local", "subnet": "10.7.0.0/28"}
PTP = {"cniVersion": "1.1.0", "name": "pair", "type": "ptp", "ipam": HOST_LOCAL}
SYSCTL = "net/ipv4/conf/lo/rp_filter"
TUNING: dict[str, Any] = {
    "cniVersion": "1.1.0",
    "name": "tuned",
    "type": "tuning",
    "sysctl": {SYSCTL.replace("/", "."): "2", "net.ipv4.conf.lo.log_martians": "1"},
    "prevResult": {"cniVersion": "1.1.0"},
}


class Injector:
    """Runs a plugin of the farm under strace(1)."""

    def __init__(self, agent: Agent, farm: str, log: Path) -> None:
        self.agent, self.farm, self.log = agent, farm, log

    def run(self, fault: str, verb: str, config: dict[str, Any], path: str = "", netns: str = "/run/netns/c1") -> Run:
        """`fault` as in `strace -e inject=`, at system calls that concern `path`, if that is given."""
        environ = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": "c1",
            "CNI_NETNS": netns,
            "CNI_IFNAME": "eth0",
            "CNI_PATH": self.farm,
            "PATH": os.environ["PATH"],
        }
        words = ["strace", "-o", str(self.log), *(["-P", path] if path else [])]
        words += ["-e", f"trace={fault.partition(':')[0]}", "-e", f"inject={fault}"]
        return self.agent.spawn([*words, f"{self.farm}/{config['type']}"], environ, config)

    @property
    def hit(self) -> bool:
        return "(INJECTED)" in self.log.read_text()


@pytest.fixture
def injector(farm: str, agent: Agent, tmp_path: Path) -> Injector:
    return Injector(agent, farm, tmp_path / "strace.log")


@pytest.mark.parametrize("error", ["EIO", "ENOMEM"])
def test_what_was_sent_without_an_answer_is_undone(injector: Injector, error: str) -> None:
    for warming in ("ADD", "DEL"):
        assert injector.agent.plugin("ptp", warming, PTP).status == 0
    before = injector.agent.snapshot()
    for number in range(1, 200):
        ended = injector.run(f"recvfrom:error={error}:when={number}", "ADD", PTP)
        if not injector.hit:
            break
        if ended.status == 0:
            assert injector.agent.plugin("ptp", "DEL", PTP).status == 0
        else:
            assert ended.json["msg"].count("receiving from the kernel"), ended
        assert difference(before, injector.agent.snapshot()) == "", f"recvfrom {number}: {ended}"
    assert number > 5


def test_tuning_undoes_what_it_has_set_when_it_cannot_leave_the_namespace(injector: Injector) -> None:
    machine = injector.agent.machine
    machine.run("ip", "netns", "exec", "c1", "sysctl", "-q", "net.ipv4.conf.lo.rp_filter=1")
    for number in range(1, 200):
        ended = injector.run(f"setns:error=ENOMEM:when={number}", "ADD", TUNING)
        if not injector.hit:
            break
        assert ended.status == 1, ended
        values = machine.run("ip", "netns", "exec", "c1", "cat", f"/proc/sys/{SYSCTL}").split()
        assert values == ["1"], f"setns {number}: {ended}"
    assert number > 3


@pytest.mark.parametrize("call", ["openat:error=EACCES", "read:error=EIO", "newfstatat:error=ENOMEM"])
def test_a_sysctl_that_cannot_be_read_is_not_one_without_a_value(injector: Injector, call: str) -> None:
    ended = injector.run(f"{call}:when=1", "ADD", TUNING, path=f"/proc/sys/{SYSCTL}")
    assert injector.hit
    assert ended.status == 1, ended
    assert re.fullmatch(rf"(reading|looking for) /proc/sys/{SYSCTL}: \w.*", ended.json["msg"])


def test_delete_does_not_take_the_hosts_namespace_for_the_containers(injector: Injector) -> None:
    injector.agent.machine.run("sh", "-c", "touch /run/netns/gone; mount --bind /proc/self/ns/net /run/netns/gone")
    ended = injector.run("newfstatat:error=ENOMEM:when=1", "DEL", PTP, "/run/netns/gone", "/run/netns/gone")
    assert injector.hit
    assert ended.status == 1, ended
    assert ended.json["msg"] == "looking at network namespace /run/netns/gone: Cannot allocate memory"


def test_a_delegate_that_cannot_be_looked_for_is_not_missing(injector: Injector) -> None:
    path = f"{injector.farm}/host-local"  # a symlink: strace also counts what concerns its target
    messages = []
    for number in range(1, 20):
        ended = injector.run(f"newfstatat:error=EIO:when={number}", "ADD", PTP, path)
        if not injector.hit:
            break
        if ended.status == 0:
            assert injector.agent.plugin("ptp", "DEL", PTP).status == 0
        else:
            messages.append(ended.json["msg"])
    assert messages == [f'looking for plugin "host-local" in {injector.farm}: Input/output error']


def test_leases_are_found_without_an_index_that_cannot_be_read(injector: Injector) -> None:
    assert injector.agent.plugin("ptp", "ADD", PTP).status == 0
    ended = injector.run("pread64:error=EIO:when=1", "DEL", PTP, f"{LEASES}/.pair.index")
    assert injector.hit
    assert ended.status == 0, ended
    assert "10.7.0.2" not in injector.agent.machine.run("ls", f"{LEASES}/pair").split()


def test_an_address_that_cannot_be_looked_at_is_not_free(tmp_path: Path) -> None:
    leases = LeaseFiles("net", str(tmp_path))
    leases.folder = posix.open(tmp_path, posix.O_RDONLY)
    posix.close(leases.folder)
    with pytest.raises(HostError, match=r"looking for 10\.7\.0\.9: Bad file descriptor"):
        leases.is_taken("10.7.0.9")


def test_without_descriptors_nftables_and_firewalld_are_not_missing() -> None:
    host = OwnMachine("cnibox").host
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
    try:
        with pytest.raises(HostError, match=r"^opening a netlink socket for nftables: Too many open files$"):
            nftables.usable(host)
        with pytest.raises(HostError, match=r"^asking the system bus whether firewalld runs: Too many open files$"):
            firewalld.is_running()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_program_that_cannot_be_started_is_named() -> None:
    with pytest.raises(HostError, match=r"^running /no/such/program: No such file or directory"):
        Process(["/no/such/program"], b"words", {})


@pytest.mark.parametrize(
    "options, reason",
    [("ro", "Read-only file system"), ("size=4k", "No space left on device"), ("nr_inodes=1", "No space left on device")],
)
def test_status_looks_for_room_where_an_add_writes(agent: Agent, options: str, reason: str) -> None:
    machine: Machine = agent.machine
    for folder, plugin, config in (("/run/cnibox", "ptp", PTP), (LEASES, "host-local", {**PTP, "type": "host-local"})):
        machine.run("sh", "-c", f"mkdir -p {folder}; mount -t tmpfs -o {options} tmpfs {folder}")
        machine.run("sh", "-c", f"head -c 4096 /dev/zero > {folder}/filling || true")
        ended = agent.plugin(plugin, "STATUS", config)
        machine.run("umount", folder)
        assert ended.json["code"] == 50, ended
        assert f"looking for room in {folder}: {reason}" in ended.json["msg"]
        assert agent.plugin(plugin, "STATUS", config).status == 0
