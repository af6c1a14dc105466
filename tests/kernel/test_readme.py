"""The commands of README.md, pasted in order on a machine that has nothing of cnibox."""

from __future__ import annotations

import re
from pathlib import Path

from tests.support.machine import Machine

REPOSITORY = Path(__file__).parent.parent.parent
FRESH = "for folder in /opt /usr/local/bin /etc/systemd /var/cache; do mount -t tmpfs none $folder; done"


def pasted() -> list[str]:
    """The blocks of commands in the section Use."""
    text = (REPOSITORY / "README.md").read_text()
    section = text.partition("\n## Use\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"(?m)(?:^    .*\n)+", section)
    return [re.sub(r"(?m)^    ", "", block) for block in blocks]


def test_its_commands_can_be_pasted(machine: Machine, cnibox: Path) -> None:
    machine.run("sh", "-c", FRESH)
    install, attach = pasted()
    build, install = install.split("\n", 1)
    assert build.startswith("packaging/build ") and cnibox.exists()  # the fixture ran it; the machine has no network
    shell = f"cd {REPOSITORY}\n"
    machine.run("sh", "-e", stdin=f"{shell}{install}".encode())
    units = machine.run("sh", "-c", "cat /etc/systemd/system/cnibox-repair*")
    assert units.count("/opt/cni/bin/cnibox repair") == 3
    output = machine.run("sh", "-e", stdin=f"{shell}{attach}".encode())
    assert '"address": "10.88.0.2/24"' in output and re.search(r"10\.88\.0\.2 +demo +blue +eth0 ", output)
    assert machine.ping("10.88.0.2")
    assert machine.run("cnibox", "repair") == "nothing was missing\n"
    assert machine.run("sh", "-c", "bridge link").count("master cni0") == 1  # iproute2's


def test_it_names_every_command_and_option_of_install(machine: Machine) -> None:
    text = (REPOSITORY / "README.md").read_text()
    commands = machine.run(f"{machine.farm}/cnibox", "--help").partition("Commands:")[2].partition("Plugins:")[0]
    for name in re.findall(r"(?m)^  (\S+)", commands):
        assert f"`cnibox {name}" in text, name
    for option in re.findall(r"--\w+", machine.run(f"{machine.farm}/cnibox", "help", "install")):
        assert option in text or option == "--help", option
