"""`cnibox help`: it fits the terminal, knows every name, and its examples can be pasted and run."""

from __future__ import annotations

import os
import pty
import re
import struct
import subprocess
from fcntl import ioctl
from pathlib import Path
from termios import TIOCSWINSZ

import pytest

from cnibox.registry import PLUGINS
from tests.support.machine import Machine

COMMANDS = ["help", "install", "leases", "list", "reclaim", "repair"]
KERNEL = {
    "macvlan": ["macvlan"],
    "ipvlan": ["ipvlan"],
    "vlan": ["8021q"],
    "dummy": ["dummy"],
    "tap": ["tun"],
    "vrf": ["vrf"],
    "bandwidth": ["ifb", "tbf", "ingress", "u32", "mirred"],
}
RUNNABLE = [pytest.param(name, marks=pytest.mark.kernel(*KERNEL.get(name, ()))) for name in PLUGINS]


def cnibox_says(farm: str, *words: str, columns: int | None = None) -> str:
    """The output in a pipe, or in a terminal of so many columns."""
    command = [f"{farm}/cnibox", *words]
    environment = {"PATH": os.environ["PATH"]}
    if columns is None:
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    ours, theirs = pty.openpty()
    ioctl(theirs, TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(command, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    data = b""
    try:
        while part := os.read(ours, 4096):
            data += part
    except OSError:  # EIO: the other end is closed
        pass
    os.close(ours)
    assert process.wait() == 0
    return data.decode().replace("\r\n", "\n")


def widest(text: str) -> int:
    return max(map(len, text.splitlines()))


@pytest.mark.parametrize("name", [*COMMANDS, *PLUGINS])
def test_it_fits_the_terminal(farm: str, name: str) -> None:
    at_80 = cnibox_says(farm, "help", name, columns=80)
    at_132 = cnibox_says(farm, "help", name, columns=132)
    assert widest(at_80.partition("To try it")[0]) <= 80
    assert widest(at_132.partition("To try it")[0]) <= 132
    assert len(at_132.splitlines()) <= len(at_80.splitlines())
    if name in ("bridge", "portmap", "install", "repair"):
        assert widest(at_132) > 80 and len(at_132.splitlines()) < len(at_80.splitlines())
    assert cnibox_says(farm, "help", name) == at_80


def test_the_table_of_names_fits_the_terminal(farm: str) -> None:
    text = cnibox_says(farm, columns=80)
    assert widest(text) <= 80 and "..." not in text.partition("Commands:")[2]
    assert text == cnibox_says(farm, "help", columns=80) == cnibox_says(farm, "--help", columns=80)


@pytest.mark.parametrize("name", COMMANDS)
def test_of_a_command(farm: str, name: str) -> None:
    assert cnibox_says(farm, "help", name) == cnibox_says(farm, name, "--help")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["brigde"], "cnibox: there is no command or plugin 'brigde'; did you mean bridge?; see: cnibox help"),
        (["lease"], "cnibox: there is no command or plugin 'lease'; did you mean leases?; see: cnibox help"),
        (["help", "hostlocal"], "cnibox help: there is no command or plugin 'hostlocal'; did you mean host-local?; "),
        (["help", "instal"], "cnibox help: there is no command or plugin 'instal'; did you mean install?; "),
        (["xyzzy"], "cnibox: there is no command or plugin 'xyzzy'; see: cnibox help"),
        (["repair", "--quite"], "cnibox repair: No such option '--quite'. Did you mean '--quiet'?; "),
        (["reclaim"], "cnibox reclaim: Missing argument 'NETWORK'; see: cnibox help reclaim"),
    ],
)
def test_a_misspelt_name(farm: str, words: list[str], said: str) -> None:
    done = subprocess.run([f"{farm}/cnibox", *words], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith(said), done.stderr


@pytest.mark.parametrize("name", ["static", "vrf", "host-local"])
def test_a_required_option_has_no_default(farm: str, name: str) -> None:
    text = " ".join(cnibox_says(farm, "help", name).split())
    assert re.search(r"; required\)", text) and "default required" not in text


@pytest.mark.parametrize("name", RUNNABLE)
def test_a_plugins_example_can_be_pasted(machine: Machine, name: str) -> None:
    """ADD makes what the last command with DEL takes away. The names of interfaces are the examples' own."""
    for device in ("eth0", "enp1s0f1"):
        machine.run("ip", "link", "add", "name", device, "type", "veth", "peer", "name", f"{device}-peer")
        machine.run("ip", "link", "set", device, "up")
    text = cnibox_says(machine.farm, "help", name)
    pasted = "ip netns add demo" + text.partition("\nip netns add demo")[2]
    rest = pasted.rpartition("CNI_COMMAND=ADD")[2]
    environment = {"PATH": f"{os.environ['PATH']}:{machine.farm}"}
    assert '"cniVersion": "1.1.0"' in machine.run("sh", "-e", stdin=pasted.encode(), env=environment)
    records = machine.run("sh", "-c", "ls -R /run/cnibox/attachments; ls -R /var/lib/cni/networks", check=False)
    assert "demo" in records or name in ("static", "loopback", "tuning"), records
    last = f"CNI_COMMAND=DEL{rest.replace('$result', 'null')}"
    machine.run("sh", "-e", stdin=last.encode(), env=environment)
    assert machine.run("sh", "-c", f"find /run/cnibox -name '*:{name}'", check=False) == ""


@pytest.mark.parametrize("name", COMMANDS)
def test_a_commands_example_can_be_pasted(machine: Machine, cnibox: Path, name: str) -> None:
    text = cnibox_says(machine.farm, "help", name)
    examples = re.findall(r"(?m)^ *(cnibox .*)$", text.partition("Example:")[2])
    assert examples or name != "install"
    machine.run("sh", "-ec", "for i in /opt /usr/local/bin /etc/systemd; do mount -t tmpfs none $i; done")
    for example in examples:
        machine.run("sh", "-ec", example.replace("cnibox", str(cnibox), 1))
        assert machine.run("/usr/local/bin/cnibox", "list").startswith("bridge ")
        assert "/opt/cni/bin/cnibox" in machine.run("cat", "/etc/systemd/system/cnibox-repair@.service")
