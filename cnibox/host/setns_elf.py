"""setns(2) for a Python before 3.12, by a shared object of our own making.

The interpreter can load one kind of foreign code by itself: an extension module. So a shared object is written into a
memory file, whose initialisation function makes the one system call, and is imported. That function returns no module;
the interpreter's complaint about this is expected. Layout: ELF gABI chapters 4 and 5, with the System V hash table, and
for PT_GNU_STACK the Linux Standard Base.
"""

from __future__ import annotations

import _imp
import posix
from _struct import pack

from .files import write_all

PAGE = 0x1000
PT_LOAD, PT_DYNAMIC, PT_GNU_STACK = 1, 2, 0x6474E551  # elf.h, as all of these
PF_X, PF_W, PF_R = 1, 2, 4
DT_HASH, DT_STRTAB, DT_SYMTAB, DT_STRSZ, DT_SYMENT, DT_NULL = 4, 5, 6, 10, 11, 0
ET_DYN, EM_X86_64, EV_CURRENT = 3, 62, 1
STB_GLOBAL_FUNC = 0x12  # ELF64_ST_INFO(STB_GLOBAL, STT_FUNC)
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
    write_all(memory, _shared_object(slot))  # a part of it would end this process by SIGBUS
    return memory, slot


def _shared_object(fd: int) -> bytes:
    code = (
        b"\xbf" + pack("<I", fd)  # mov edi, fd
        + b"\xbe\x00\x00\x00\x40"  # mov esi, CLONE_NEWNET
        + b"\xb8\x34\x01\x00\x00"  # mov eax, 308 (setns)
        + b"\x0f\x05\x31\xc0\xc3"  # syscall; xor eax, eax; ret
    )  # fmt: skip
    strings = b"\0PyInit_" + NAME.encode() + b"\0"
    text = 64 + 4 * 56  # the file header and four program headers come first
    hashes = text + len(code) + -len(code) % 8
    symbols = hashes + 5 * 4 + 4
    names = symbols + 2 * 24
    end = names + len(strings)

    file_header = b"\x7fELF\2\1\1" + bytes(9)  # 64 bits, little endian, version 1
    file_header += pack("<HHIQQQIHHHHHH", ET_DYN, EM_X86_64, EV_CURRENT, 0, 64, 0, 0, 64, 56, 4, 64, 0, 0)
    tags = ((DT_HASH, hashes), (DT_STRTAB, names), (DT_SYMTAB, symbols), (DT_STRSZ, len(strings)), (DT_SYMENT, 24))
    dynamic = b"".join(pack("<QQ", tag, value) for tag, value in (*tags, (DT_NULL, 0)))
    program_headers = (
        pack("<IIQQQQQQ", PT_LOAD, PF_R | PF_X, 0, 0, 0, end, end, PAGE)
        + pack("<IIQQQQQQ", PT_LOAD, PF_R | PF_W, PAGE, PAGE, PAGE, len(dynamic), len(dynamic), PAGE)
        + pack("<IIQQQQQQ", PT_DYNAMIC, PF_R | PF_W, PAGE, PAGE, PAGE, len(dynamic), len(dynamic), 8)
        # Without it glibc makes the stack of the process executable, or refuses the object (2.41, SELinux).
        + pack("<IIQQQQQQ", PT_GNU_STACK, PF_R | PF_W, 0, 0, 0, 0, 0, 16)
    )
    hash_table = pack("<IIIII", 1, 2, 1, 0, 0)  # one bucket, two symbols: the second is ours
    symbol_table = bytes(24) + pack("<IBBHQQ", 1, STB_GLOBAL_FUNC, 0, 1, text, len(code))
    first_page = b"".join(
        (file_header, program_headers, code, bytes(-len(code) % 8), hash_table, bytes(4), symbol_table, strings)
    )
    return first_page.ljust(PAGE, b"\0") + dynamic
