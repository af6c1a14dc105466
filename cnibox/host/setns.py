"""setns(2): make a network namespace this process's own.

`os.setns` exists from Python 3.12 on. Before, a shared object of our own making makes the call (`setns_elf`), 0.4 ms
faster than ctypes, which Debian's python3-minimal lacks besides. ctypes is for where that object cannot be run.
"""

from __future__ import annotations

import errno
import posix

from .files import Doing
from .journal import HostError

CLONE_NEWNET = 0x40000000  # linux/sched.h


def setns(fd: int, doing: str) -> None:
    """Enter the network namespace that `fd` refers to; HostError when the kernel refuses."""
    if hasattr(posix, "setns"):
        try:
            posix.setns(fd, CLONE_NEWNET)
        except OSError as error:
            raise HostError(error.errno or errno.EINVAL, doing) from None
        return
    with Doing(doing):
        _call(fd)
        # Neither way of calling hands back errno: where we are now says whether it worked.
        has_entered = posix.stat("/proc/self/ns/net").st_ino == posix.fstat(fd).st_ino
    if not has_entered:
        raise HostError(errno.EPERM, doing, "the kernel refused setns(2)", "this needs CAP_SYS_ADMIN")


def _call(fd: int) -> None:
    from .setns_elf import call

    if call(fd):
        return
    try:
        import _ctypes
    except ImportError:
        raise HostError(
            errno.ENOSYS,
            "entering a network namespace",
            f"this Python has no way to call setns on {posix.uname().machine}",
            "use Python 3.12 or newer, or install the full standard library (Debian: libpython3-stdlib)",
        ) from None
    function = _ctypes.dlsym(_ctypes.dlopen(None, 0), "setns")  # type: ignore[arg-type]
    _ctypes.call_function(function, (fd, CLONE_NEWNET))
