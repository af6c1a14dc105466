"""Entering a network namespace, by each way that a Python has for it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.machine import Machine

REPOSITORY = str(Path(__file__).resolve().parents[2])
WAYS = {
    "shared object": "",
    "ctypes": "setns_elf.call = lambda fd: False",
    "memory files refused": "def refuse(*_): raise PermissionError(13, 'no')\nposix.memfd_create = refuse",
    "nothing": "setns_elf.call = lambda fd: False\nsys.modules['_ctypes'] = None",
}
SCRIPT = """
import os, posix, sys
sys.path.insert(0, sys.argv[1])
from cnibox.host import setns_elf
from cnibox.host.setns import setns
vars(posix).pop("setns", None)  # of Python 3.12 and newer
{way}
def inside():
    return os.stat("/proc/self/ns/net").st_ino
own, other, none = (os.open(path, os.O_RDONLY) for path in ("/proc/self/ns/net", "/run/netns/c1", "/dev/null"))
home = inside()
try:
    for _ in range(3):
        setns(other, "entering")
        assert inside() == os.fstat(other).st_ino != home
        setns(own, "going back")
        assert inside() == home
    setns(none, "entering no namespace")
except OSError as error:
    print(error, "_ctypes" in sys.modules, inside() == home)
"""


@pytest.mark.parametrize("way", WAYS)
def test_in_and_back(machine: Machine, way: str) -> None:
    machine.container()
    told = machine.run(sys.executable, "-c", SCRIPT.format(way=WAYS[way]), REPOSITORY)
    if way == "nothing":
        assert told.startswith("entering a network namespace: this Python has no way to call setns"), told
    else:
        needs_ctypes = way != "shared object"
        refused = "entering no namespace: the kernel refused setns(2); this needs CAP_SYS_ADMIN"
        assert told == f"{refused} {needs_ctypes} True\n"
