"""Errors of the kernel's, as strace(1) injects them into a plugin's system calls, and limits of a real machine.

Each is a command line that the plugin's own is appended to.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_CREATE = "ENOSPC EROFS EIO EACCES"
_REMOVE = "EROFS EIO EACCES"
_ERRORS = {
    "openat": "EMFILE ENFILE EIO EACCES ENOMEM",
    "read pread64": "EIO EINTR",
    "write pwrite64 ftruncate": "ENOSPC EIO",
    "mkdir mkdirat link linkat rename renameat2": _CREATE,
    "unlink unlinkat rmdir utimensat fchmod chmod": _REMOVE,
    "newfstatat stat lstat fstat statx": "EACCES EIO ENOMEM",
    "access faccessat2 readlink readlinkat": "EACCES EIO ENOMEM",
    "getdents64": "EIO ENOMEM",
    "flock": "EINTR ENOLCK",
    "socket": "EMFILE ENFILE ENOBUFS ENOMEM",
    "bind connect getsockname": "ENOBUFS ENOMEM",
    "setsockopt getsockopt": "ENOBUFS ENOMEM EACCES",
    "sendto sendmsg": "ENOBUFS ENOMEM EPERM EINTR",
    "recvfrom recvmsg": "ENOBUFS ENOMEM EINTR",
    "ioctl": "EPERM ENOMEM",
    "setns unshare": "ENOMEM EPERM",
    "dup dup2 dup3 fcntl": "EMFILE",
    "memfd_create pipe2": "EMFILE ENFILE ENOMEM",
    "clone clone3 vfork fork": "EAGAIN ENOMEM",
    "wait4 waitid poll ppoll select pselect6": "EINTR",
}
ERRORS = {call: errors.split() for calls, errors in _ERRORS.items() for call in calls.split()}
"""Those that real machines produce: full tables, memory, disks, a file system gone read-only, a security module, signals."""

LEFT_OUT = {
    "close, lseek, prctl, getpid, getrandom, rt_sig*, ioctl(FIOCLEX), exit_group and the like": "do not fail on machines that work",
    "mmap, mprotect, munmap, brk": "the interpreter's own memory: without it nobody can promise anything",
    "EINTR, again and again": "no kernel does that",
}


@dataclass(frozen=True)
class Fault:
    """A system call that fails: the plugin's `number`-th of that name, or every one from then on."""

    call: str
    error: str
    number: int
    lasting: bool = False

    def __str__(self) -> str:
        return f"{self.call}:error={self.error}:when={self.number}{'+' * self.lasting}"

    def words(self, log: str) -> list[str]:
        return ["strace", "-o", log, "-e", f"trace={self.call}", "-e", f"inject={self}"]


_REMOUNT = """
top=$1 options=$2; shift 2
mount -o remount,"$(eval echo "$options")" "$top"; "$@"; status=$?
mount -o remount,rw,size=1g,nr_inodes=100k "$top"; exit $status
"""
_STATES = {
    "read-only": "ro",
    "full": "size=$(df --output=used $top | tail -1)k",
    "out of inodes": "nr_inodes=$(df --output=iused $top | tail -1)",
}


@dataclass(frozen=True)
class Limit:
    """So many open files, or a folder's file system in one of _STATES."""

    name: str

    def __str__(self) -> str:
        return self.name

    def words(self, log: str) -> list[str]:
        what, _, state = self.name.partition(" ")
        if what == "nofile":
            return ["prlimit", f"--nofile={state}"]
        return ["sh", "-c", _REMOUNT, "sh", what, _STATES[state]]


LIMITS = [Limit(f"nofile {number}") for number in range(4, 25)]
LIMITS += [Limit(f"{top} {state}") for top in ("/run", "/var/lib/cni") for state in _STATES]


def parsed(text: str) -> Fault | Limit:
    """What one of the two says of itself."""
    if found := re.fullmatch(r"(\w+):error=(\w+):when=(\d+)(\+?)", text):
        return Fault(found[1], found[2], int(found[3]), bool(found[4]))
    return Limit(text)


def calls(log: str) -> list[tuple[str, int, str]]:
    """Of a whole trace: each call after the read of stdin that can fail, its number among those of its name, its line."""
    numbers: dict[str, int] = {}
    found, begun = [], False
    for line in log.splitlines():
        call = line.partition("(")[0]
        numbers[call] = numbers.get(call, 0) + 1
        if begun and call in ERRORS and "FIOCLEX" not in line:
            found.append((call, numbers[call], line))
        begun = begun or line.startswith('read(0, ""')
    return found


def faults_at(call: str, number: int, line: str) -> list[Fault]:
    errors = ERRORS[call] + (["ENOSPC", "EROFS"] if "O_CREAT" in line else [])
    once = [Fault(call, error, number) for error in errors]
    return once + [Fault(call, error, number, lasting=True) for error in errors if error != "EINTR"]
