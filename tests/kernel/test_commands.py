"""The operator's commands wherever a person may run them: none needs a cache, and none ends in a traceback."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machine import Machine
from tests.support.network import attach, bridge
from tests.support.rules import ruleset

CACHE = "/var/cache/cnibox"
LIST = "bridge       a veth between the container and a bridge of the host\n"
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
STRANGER = ["setpriv", "--reuid=54321", "--regid=54321", "--clear-groups"]


@pytest.fixture(scope="module")
def file(cnibox: Path, farm: str) -> Iterator[str]:
    """The installed file, where every user can read it."""
    folder = Path("/var/tmp/cnibox-test-commands")
    folder.mkdir()
    try:
        shutil.copy(f"{farm}/cnibox", folder / "cnibox")
        yield f"{folder}/cnibox"
    finally:
        shutil.rmtree(folder)


def run(*words: str, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, **more)  # type: ignore[call-overload,no-any-return]


def one_line(done: subprocess.CompletedProcess[str], said: str, status: int = 1) -> None:
    assert (done.returncode, done.stderr.count("\n")) == (status, 1), done
    assert said in done.stderr and "Traceback" not in done.stderr, done.stderr


# Where nothing can be unpacked


@pytest.mark.parametrize(
    "prepare",
    [
        pytest.param("mount -t tmpfs none /var/cache", id="empty"),
        pytest.param("mount -t tmpfs -o ro none /var/cache", id="read-only"),
        pytest.param("mount -t tmpfs -o size=8k none /var/cache", id="full"),
        pytest.param("mount -t tmpfs -o size=400k none /var/cache", id="full while it is unpacked"),
        pytest.param("mount -t tmpfs -o nr_inodes=1 none /var/cache", id="no inode"),
        pytest.param("mount -t tmpfs -o uid=5,mode=700 none /var/cache", id="of another user"),
        pytest.param("mount -t tmpfs none /var; mkdir /var/lib", id="missing"),
        pytest.param("mount -t tmpfs none /var; touch /var/cache", id="no folder"),
        pytest.param("mount --bind /dev/null /proc/self/uid_map; umount -l /proc", id="without /proc"),
    ],
)
def test_a_cache_is_not_needed(farm: str, prepare: str) -> None:
    """The second time, too."""
    for _ in range(2):
        script = f"{prepare}; {farm}/cnibox list && {farm}/cnibox help vrf && {farm}/cnibox list"
        done = run("unshare", "--mount", "sh", "-c", script)
        assert done.returncode == 0 and done.stdout.count(LIST) == 2 and done.stderr == "", done


def test_what_is_unpacked_and_broken_is_not_needed(farm: str) -> None:
    """As a power failure may leave it."""
    breaks = f"truncate -s 100 {CACHE}/cnibox_*/site-packages/click/core.py && find {CACHE} -name '*.pyc' -delete"
    script = f"mount -t tmpfs none /var/cache; {farm}/cnibox list && {breaks} && {farm}/cnibox list"
    done = run("unshare", "--mount", "sh", "-c", script)
    assert done.returncode == 0 and done.stdout.count(LIST) == 2 and done.stderr == "", done


@pytest.mark.parametrize(
    "prepare", ["ln -s /tmp {}", "mkdir {}; chmod 770 {}", "mkdir -m 700 {}; chown 1 {}", "touch {}"]
)
def test_an_unsafe_cache_is_not_used(farm: str, prepare: str) -> None:
    script = f"mount -t tmpfs tmpfs /var/cache; {prepare.format(CACHE, CACHE)}; {farm}/cnibox list; ls {CACHE}/"
    done = run("unshare", "--mount", "sh", "-c", script)
    assert done.stdout.startswith(LIST) and "cnibox_" not in done.stdout
    assert f"{CACHE} is not used" in done.stderr and "remove it" in done.stderr


@pytest.mark.parametrize("user", [NOBODY, STRANGER, []])
@pytest.mark.parametrize("ranges", [["0 {0} 1"], ["0 {0} 1", "1 200000 70000"], ["0 {0} 1", "5 300000 5", "70 400000 9"]])
def test_in_a_user_namespace(file: str, user: list[str], ranges: list[str]) -> None:
    """As rootless podman makes it: root's cache, there or not, belongs to a user that has no number here."""
    outside = "".join(user[1:2]).rpartition("=")[2] or "100000"
    script = f"read _; {file} list; {file} bridge; ls -ldn /var/cache"
    process = subprocess.Popen(
        [*user, "unshare", "--user", "--mount", "--net", "sh", "-c", script],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    own = os.readlink("/proc/self/ns/user")
    while os.readlink(f"/proc/{process.pid}/ns/user") == own:
        time.sleep(0.01)
    for kind in ("uid", "gid"):
        Path(f"/proc/{process.pid}/{kind}_map").write_text("\n".join(ranges).format(outside))
    output, errors = process.communicate("\n", timeout=30)
    assert output.startswith(LIST) and " 65534 65534 " in output, (output, errors)
    assert errors.startswith("CNI bridge plugin v") and errors.count("\n") == 2
    assert not Path("/nonexistent").exists()  # nobody's home, and nobody is who is not mapped


@pytest.mark.parametrize("user", [NOBODY, STRANGER])
def test_as_an_ordinary_user(file: str, user: list[str]) -> None:
    """Without a home, or not even in the user database."""
    done = run(*user, file, "list")
    assert done.returncode == 0 and done.stdout.startswith(LIST) and done.stderr == "", done


# What fails


def test_repair_as_an_ordinary_user(machine: Machine, file: str) -> None:
    attach(machine, bridge())
    done = run(*machine.enter(*STRANGER, file, "repair"))
    one_line(done, "cnibox repair: cannot read /run/cnibox/attachments: Permission denied; run it as root")


@pytest.mark.parametrize("folder", ["/var/lib/cni", "/var/lib/cni/networks"])
def test_leases_as_an_ordinary_user(machine: Machine, file: str, folder: str) -> None:
    """A folder that cannot be read is not an empty one."""
    machine.run("sh", "-c", f"mkdir -p /var/lib/cni/networks/n; echo c1 >/var/lib/cni/networks/n/10.1.0.2; chmod 700 {folder}")
    done = run(*machine.enter(*STRANGER, file, "leases"))
    one_line(done, "cnibox leases: /var/lib/cni/networks: Permission denied; run it as root")


def test_repair_with_a_full_disk(machine: Machine) -> None:
    """It writes nothing, and so it does its work."""
    attach(machine, bridge(ipMasq=True, ipMasqBackend="nftables"))
    before = ruleset(machine)
    machine.run("sh", "-c", "nft flush ruleset; mount -o remount,size=4k /run; dd if=/dev/zero of=/run/full 2>/dev/null; true")
    assert "masquerading of " in machine.run(f"{machine.farm}/cnibox", "repair")
    assert ruleset(machine) == before


@pytest.mark.parametrize("content", ["", "{", "[]", '"x"', "{}", "\\377\\376", '{"netns": 5}'])
def test_repair_names_a_garbled_record(machine: Machine, content: str) -> None:
    """And puts back the rules of the other containers."""
    for container in ("c1", "c2", "c3"):
        attach(machine, bridge(ipMasq=True, ipMasqBackend="nftables"), container)
    record = "/run/cnibox/attachments/c2/eth0:mynet:bridge"
    machine.run("sh", "-c", f"printf '{content}' >{record}; nft flush ruleset")
    done = run(*machine.enter(f"{machine.farm}/cnibox", "repair", "--quiet"))
    assert done.returncode == 1 and done.stdout.count(": masquerading of ") >= 2, done
    assert all(f"{name} eth0 (network mynet, bridge): masq" in done.stdout for name in ("c1", "c3"))
    first, second = done.stderr.splitlines()
    assert first.startswith("c2 eth0 (network mynet, bridge): its record ") and record in first and "attach" in first
    assert second == "cnibox repair: 1 attachment could not be repaired"


def test_repair_names_a_record_of_another_cnibox(machine: Machine) -> None:
    """A draft of a record, which a killed ADD leaves, is none."""
    folder = "/run/cnibox/attachments/c9"
    machine.run("sh", "-c", f"mkdir -p {folder}; echo '{{}}' >{folder}/eth0:n:bridge.new")
    assert machine.run(f"{machine.farm}/cnibox", "repair") == "no attachments are on record in /run/cnibox/attachments\n"
    machine.run("sh", "-c", f"echo '{{}}' >{folder}/eth0:n:wormhole")
    done = run(*machine.enter(f"{machine.farm}/cnibox", "repair"))
    said = f"c9 eth0 (network n, wormhole): this cnibox has no plugin wormhole: its record is {folder}/eth0:n:wormhole\n"
    assert done.returncode == 1 and done.stderr.startswith(said), done


def test_repair_survives_facts_of_the_wrong_type(machine: Machine) -> None:
    for container in ("c1", "c2"):
        attach(machine, bridge(ipMasq=True, ipMasqBackend="nftables"), container)
    record = "/run/cnibox/attachments/c1/eth0:mynet:bridge"
    script = f"""
import json
facts = json.load(open("{record}"))
json.dump({{key: value if key in ("netns", "namespace") else ["x"] for key, value in facts.items()}}, open("{record}", "w"))
"""
    machine.run("/usr/bin/python3", "-c", script)
    machine.run("nft", "flush", "ruleset")
    done = run(*machine.enter(f"{machine.farm}/cnibox", "repair"))
    assert "c2 eth0 (network mynet, bridge): masq" in done.stdout and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("prepare", "said"),
    [
        ("mkdir {0}; mount -t tmpfs -o size=100k none {0}", "installing {0}/cnibox: No space left on device; free some"),
        ("mkdir {0}; mount -t tmpfs -o nr_inodes=1 none {0}", "installing {0}/cnibox: No space left on device; free"),
        ("mkdir {0}; mount -t tmpfs -o nr_inodes=5 none {0}", "installing {0}/ipvlan: No space left on device; free"),
        ("mkdir {0}; mount -t tmpfs -o noexec none {0}", "{0} is on a file system mounted noexec"),
        ("mkdir {0}; mount -t tmpfs -o ro none {0}", "{0} is on a file system mounted read-only"),
        ("touch {0}", "{0} is not a directory"),
        ("ln -s /nowhere {0}", "{0} is not a directory"),
        ("mkdir {0} {0}/cnibox", "{0}/cnibox: a directory is in the way"),
        ("set -- --link /proc/x", "cnibox install: "),
        ("set -- --units /dev/null", "/dev/null is not a directory"),
    ],
)
def test_install_names_the_path(cnibox: Path, tmp_path: Path, prepare: str, said: str) -> None:
    target = tmp_path / "bin"
    done = run("unshare", "--mount", "sh", "-c", f'{prepare.format(target)}\n{cnibox} install {target} "$@"')
    one_line(done, said.format(target))
    assert done.stderr.startswith("cnibox install: ")
    assert not list(tmp_path.glob("**/.*"))


def test_a_name_that_cannot_be_printed(farm: str, tmp_path: Path) -> None:
    """Neither does it control the terminal."""
    name = os.fsencode(tmp_path) + b"/\xff\x1b[2J"
    os.close(os.open(name, os.O_CREAT))
    done = subprocess.run([f"{farm}/cnibox".encode(), b"install", name], capture_output=True, text=True)
    one_line(done, f"cnibox install: {tmp_path}/??[2J is not a directory")


def test_install_as_an_ordinary_user(file: str) -> None:
    done = run(*STRANGER, file, "install", "/opt/cnibox-test/bin")
    one_line(done, "cnibox install: /opt: permission denied; run it as root")


def test_click_is_missing() -> None:
    """As in a clone, with a Python that has nothing installed."""
    root = Path(__file__).parent.parent.parent
    done = run(sys.executable, "-S", "-m", "cnibox", "list", cwd=root)
    one_line(done, "cnibox: No module named 'click'; run dist/cnibox, which packaging/build makes")


def test_a_fault_of_cnibox(farm: str, tmp_path: Path) -> None:
    """One line; where it arose with CNIBOX_DEBUG=1."""
    shutil.copytree(Path(__file__).parent.parent.parent / "cnibox", tmp_path / "cnibox")
    with open(tmp_path / "cnibox/registry.py", "a") as module:
        module.write("\n\nclass Odd(dict):\n    def items(self):\n        return 1 / 0\n\n\nPLUGINS = Odd(PLUGINS)\n")
    words = [sys.executable, "-m", "cnibox", "list"]
    said = "cnibox list: internal error: ZeroDivisionError: division by zero: this is a fault of cnibox; CNIBOX_DEBUG=1"
    one_line(run(*words, cwd=tmp_path), said)
    done = run(*words, cwd=tmp_path, env={**os.environ, "CNIBOX_DEBUG": "1"})
    assert "Traceback" in done.stderr and "registry.py" in done.stderr and done.stderr.splitlines()[-1].startswith(said)


# Streams and signals


@pytest.mark.parametrize("words", ["list", "--help", "repair"])
@pytest.mark.parametrize(
    ("streams", "status", "said"),
    [
        (">/dev/full", 1, "cannot write to stdout: No space left on device\n"),
        (">&-", 1, "cannot write to stdout: Bad file descriptor\n"),
        (">&- 2>&-", 1, ""),
        (">&- 2>&- <&-", 1, ""),
        ("2>&-", 0, ""),
        ("2>/dev/full", 0, ""),
        ("<&-", 0, ""),
    ],
)
def test_streams_that_are_closed_or_full(
    machine: Machine, words: str, streams: str, status: int, said: str
) -> None:
    done = run(*machine.enter("sh", "-c", f"{machine.farm}/cnibox {words} {streams}"))
    assert done.returncode == status and done.stderr.count("\n") == bool(said) and done.stderr.endswith(said), done
    assert bool(done.stdout) == (status == 0)


def test_an_error_without_stderr(farm: str) -> None:
    for streams in ("2>&-", "2>/dev/full"):
        done = run("sh", "-c", f"{farm}/cnibox nonsense {streams}")
        assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


def test_nobody_reads_on(machine: Machine) -> None:
    """The command does all of its work, and says nothing about the pipe."""
    for container in ("c1", "c2", "c3"):
        attach(machine, bridge(ipMasq=True, ipMasqBackend="nftables"), container)
    before = ruleset(machine)
    machine.run("nft", "flush", "ruleset")
    reader, writer = os.pipe()
    os.close(reader)
    words = machine.enter(f"{machine.farm}/cnibox", "repair")
    done = subprocess.run(words, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, "")
    assert ruleset(machine) == before


def test_ctrl_c(machine: Machine) -> None:
    """While `reclaim` waits for the lock that a plugin has."""
    folder = "/var/lib/cni/networks/n"
    machine.run("sh", "-c", f"mkdir -p {folder}; echo c1 >{folder}/10.1.0.2")
    holder = subprocess.Popen(machine.enter("flock", f"{folder}/lock", "sleep", "60"))
    assert machine.wait_until(lambda: machine.run("sh", "-c", f"flock -n {folder}/lock true || echo held") == "held\n")
    words = machine.enter(f"{machine.farm}/cnibox", "reclaim", "n")
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=10)
    holder.kill()
    holder.wait()
    assert (process.returncode, output, errors) == (130, "", "\ncnibox reclaim: interrupted\n")


def test_ctrl_c_at_any_time(farm: str) -> None:
    """Also while modules are being imported: no traceback."""
    for delay in range(0, 120, 10):
        process = subprocess.Popen([f"{farm}/cnibox", "list"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(0.02 + delay / 1000)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=10)
        assert "Traceback" not in errors and process.returncode in (0, 130, -signal.SIGINT), errors
