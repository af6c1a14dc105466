"""setns(2) for a Python before 3.12, by a shared object of our own making.

The interpreter can load one kind of foreign code by itself: an extension module. So a shared object is written into a
memory file, whose initialisation function makes the one system call, and is imported. That function returns no module;
the interpreter's complaint about this is expected. Layout: ELF gABI chapters 4 and 5; System V hash table.
"""

from __future__ import annotations

import _imp
import posix
from _struct import pack

PAGE = 0x1000
NAME = "cnibox_setns"
_made: list[tuple[int, int]] = []
"""Once they are: the shared object's memory file, and the descriptor that its call is always for.

The file is kept open: the dynamic linker knows the object by its path.
"""


class _Spec:
    name = NAME

    def __init__(self, origin: str) -> None:
        self.origin = origin


def call(fd: int) -> bool:
    """Call setns(fd, CLONE_NEWNET); the caller looks whether it worked.

    False where this cannot be done: the machine is not an x86-64, or must not run what memory files hold.
    """
    if posix.uname().machine != "x86_64":
        return False
    try:
        if not _made:
            _made.append(_make())
    except OSError:
        return False
    memory, slot = _made[0]
    posix.dup2(fd, slot, inheritable=False)
    try:
        _imp.create_dynamic(_Spec(f"/proc/self/fd/{memory}"), None)  # type: ignore[arg-type]
    except SystemError:
        return True  # "initialization failed without raising an exception": it has made its call
    except ImportError:
        pass
    posix.dup2(memory, slot, inheritable=False)  # what it stood for must not be kept alive
    return False


def _make() -> tuple[int, int]:
    memory = posix.memfd_create(NAME, posix.MFD_CLOEXEC)
    slot = posix.dup(memory)
    posix.write(memory, _shared_object(slot))
    return memory, slot


def _shared_object(fd: int) -> bytes:
    code = (
        b"\xbf" + pack("<I", fd)  # mov edi, fd
        + b"\xbe\x00\x00\x00\x40"  # mov esi, CLONE_NEWNET
        + b"\xb8\x34\x01\x00\x00"  # mov eax, 308 (setns)
        + b"\x0f\x05\x31\xc0\xc3"  # syscall; xor eax, eax; ret
    )  # fmt: skip
    strings = b"\0PyInit_" + NAME.encode() + b"\0"
    text = 64 + 3 * 56  # the file header and three program headers come first
    hashes = text + len(code) + -len(code) % 8
    symbols = hashes + 5 * 4 + 4
    names = symbols + 2 * 24

    header = b"\x7fELF\2\1\1" + bytes(9) + pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 3, 64, 0, 0)
    tags = ((4, hashes), (5, names), (6, symbols), (10, len(strings)), (11, 24), (0, 0))
    dynamic = b"".join(pack("<QQ", tag, value) for tag, value in tags)
    programs = (
        pack("<IIQQQQQQ", 1, 5, 0, 0, 0, names + len(strings), names + len(strings), PAGE)  # PT_LOAD, R X
        + pack("<IIQQQQQQ", 1, 6, PAGE, PAGE, PAGE, len(dynamic), len(dynamic), PAGE)  # PT_LOAD, R W
        + pack("<IIQQQQQQ", 2, 6, PAGE, PAGE, PAGE, len(dynamic), len(dynamic), 8)  # PT_DYNAMIC
    )
    hash_table = pack("<IIIII", 1, 2, 1, 0, 0)  # one bucket, two symbols: the second is ours
    symbol_table = bytes(24) + pack("<IBBHQQ", 1, 0x12, 0, 1, text, len(code))  # STB_GLOBAL, STT_FUNC
    first_page = b"".join((header, programs, code, bytes(-len(code) % 8), hash_table, bytes(4), symbol_table, strings))
    return first_page.ljust(PAGE, b"\0") + dynamic
