"""Entering a network namespace, by each way that a Python has for it."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest

from cnibox.host import setns_elf
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
print(next(line.split()[1] for line in open("/proc/self/maps") if line.endswith("[stack]\\n")))
"""


@pytest.mark.parametrize("way", WAYS)
def test_in_and_back(machine: Machine, way: str) -> None:
    machine.container()
    answer, stack = machine.run(sys.executable, "-c", SCRIPT.format(way=WAYS[way]), REPOSITORY).splitlines()
    assert stack == "rw-p"  # the dynamic linker gives it x for an object that does not say that it needs none
    if way == "nothing":
        assert answer.startswith("entering a network namespace: this Python has no way to call setns"), answer
    else:
        needs_ctypes = way != "shared object"
        refused = "entering no namespace: the kernel refused setns(2); this needs CAP_SYS_ADMIN"
        assert answer == f"{refused} {needs_ctypes} True"


def test_the_shared_object_asks_for_no_executable_stack_and_has_no_writable_code() -> None:
    """glibc 2.41 and SELinux refuse an object without PT_GNU_STACK: entering would fall back to ctypes."""
    data = setns_elf._shared_object(7)
    offset, size, count = struct.unpack_from("<Q", data, 32)[0], *struct.unpack_from("<HH", data, 54)  # Elf64_Ehdr
    flags_of = [struct.unpack_from("<II", data, offset + number * size) for number in range(count)]
    assert [flags for kind, flags in flags_of if kind == 0x6474E551] == [6]  # PT_GNU_STACK: PF_R | PF_W
    assert not [kind for kind, flags in flags_of if flags & 3 == 3]  # PF_X | PF_W
