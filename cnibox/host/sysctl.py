"""Sysctls: files under /proc/sys, those under net/ as the namespace has them that the process is in."""

from __future__ import annotations

import errno
import posix

from .. import log
from .journal import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .namespace import Namespace


def read(namespace: Namespace, key: str) -> str | None:
    """The value of "net/ipv4/ip_forward" without its newline; None where this kernel has no such key, or does not tell.

    Some can only be written (net/ipv4/route/flush), some cannot be read until they are set (stable_secret).
    """
    with namespace:
        try:
            fd = posix.open(f"/proc/sys/{key}", posix.O_RDONLY | posix.O_CLOEXEC)
        except (FileNotFoundError, PermissionError):
            return None
        try:
            return posix.read(fd, 4096).decode().rstrip("\n")
        except OSError:
            return None
        finally:
            posix.close(fd)


def exists(namespace: Namespace, key: str) -> bool:
    """Whether this kernel has such a key, with a value."""
    with namespace:
        try:
            return posix.stat(f"/proc/sys/{key}").st_mode & 0o170000 == 0o100000
        except OSError:
            return False


def write(namespace: Namespace, key: str, value: str, *, shared: bool = False, best_effort: bool = False) -> None:
    """Set a sysctl unless it has that value already; undone to what it was.

    HostError when the kernel refuses; with `best_effort` that is no error (no such key, /proc/sys read-only).
    """
    before = read(namespace, key)
    if before == value or (before is None and best_effort):
        return
    say = f"sysctl -w {key}={value}"
    if not namespace.is_host:
        say = f"ip netns exec {namespace.path} {say}"

    def undo() -> None:
        if before is not None:
            _put(namespace, key, before, say)

    try:
        namespace.machine.journal.run(say, lambda: _put(namespace, key, value, say), undo, shared=shared)
    except HostError as error:
        if not best_effort:
            raise
        log.info(str(error))


def _put(namespace: Namespace, key: str, value: str, say: str) -> None:
    with namespace:
        try:
            fd = posix.open(f"/proc/sys/{key}", posix.O_WRONLY | posix.O_CLOEXEC)
            try:
                posix.write(fd, value.encode() or b"\n")  # writing nothing would change nothing
            finally:
                posix.close(fd)
        except OSError as error:
            hint = "make /proc/sys writable here, or set it on the host" if error.errno == errno.EROFS else ""
            raise HostError(error.errno or 0, say, hint=hint) from None


class for_now:
    """`with for_now(namespace, key, value):` another value, as far as there is such a key and it can be written."""

    def __init__(self, namespace: Namespace, key: str, value: str) -> None:
        self.namespace = namespace
        self.key = key
        self.value = value
        self.before = read(namespace, key)

    def __enter__(self) -> None:
        if self.before is not None:
            self._put(self.value)

    def __exit__(self, *_: object) -> None:
        self._put(self.before)

    def _put(self, value: str | None) -> None:
        if value is None or self.before == self.value:
            return
        try:
            _put(self.namespace, self.key, value, f"sysctl -w {self.key}={value}")
        except HostError as error:
            log.info(str(error))
