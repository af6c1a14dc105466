"""The files of one network's leases, in the reference's own format, as the Go plugins read and write them.

<dataDir>/<network>/10.1.2.3             "<container ID>\\r\\n<interface>"; made before 2018: the ID alone
<dataDir>/<network>/last_reserved_ip.0   the address that range set 0 gave last
<dataDir>/<network>/lock                 under flock(2) while anything is read or changed

What is ours lies beside that folder, because the Go plugins read every file in it, and begins with a dot, as
no network's name does:

<dataDir>/.<network>.lease               a file that is being written
<dataDir>/.<network>.index               see index

A lease appears whole or not at all: it is written beside the folder, and then linked to its address. Nothing
is fsynced: a power failure ends the containers too, so their leases need not outlive it. An empty file that
one leaves behind, or a Go plugin that dies between creating and writing it, is *garbled*: nobody's.
"""

from __future__ import annotations

import errno
import posix
from _socket import AF_INET, AF_INET6, inet_pton

from ...host import files
from ...host.files import SAFE, Doing
from ...host.journal import HostError

UNPRINTABLE = bytes(range(33)) + b"\x7f"
GARBLED = (b"", b"")
UNREADABLE = (b"?", b"?")
"""The owner of what is named like an address but is no file; "?" is no container ID."""
NO_FILE = (errno.ELOOP, errno.ENXIO, errno.EISDIR)
"""What the kernel answers for a symlink, a socket and a folder."""


ADVICE = 'or let "dataDir" of "ipam" name another folder'
HINTS = {
    **dict.fromkeys((errno.EACCES, errno.EPERM), f"run it as root, {ADVICE}"),
    errno.EROFS: f"make it writable, {ADVICE}",
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), f"free some space, {ADVICE}"),
}


class Writing(Doing):
    """The same where leases are written; the error says what to do."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            refusal = error if isinstance(error, HostError) else HostError(error.errno or 0, self.what)
            refusal.hint = refusal.hint or HINTS.get(refusal.errno or 0, "")
            raise refusal from None


class LeaseFiles:
    """`open` before, `close` after anything else. HostError when the machine refuses.

    The folders are reached by descriptors, and no symlink in them is followed. Addresses are text.
    """

    def __init__(self, network: str, data_dir: str) -> None:
        self.network = network
        self.data_dir = data_dir
        self.path = f"{data_dir}/{network}"
        self.draft = f".{network}.lease"
        self.beside = self.folder = -1

    def exist(self) -> bool:
        with Doing(f"opening {self.path}"):
            try:
                posix.lstat(self.path)
            except OSError as error:
                if files.is_absence(error):
                    return False
                raise
        return True

    def open(self) -> None:
        flags = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_CLOEXEC
        with Doing(f"opening {self.data_dir}"):
            self.beside = posix.open(self.data_dir, flags)
        try:
            with Doing(f"opening {self.path}"):
                self.folder = posix.open(self.network, flags | posix.O_NOFOLLOW, dir_fd=self.beside)
        except HostError as error:
            posix.close(self.beside)
            if error.errno in (errno.ENOTDIR, errno.ELOOP):
                error.hint = "it must be a folder, and not a symlink to one"
            raise

    def close(self) -> None:
        posix.close(self.folder)
        posix.close(self.beside)

    def lock(self) -> files.Lock:
        return files.Lock(f"{self.path}/lock", 0o750, dir_fd=self.folder)

    def stamp(self) -> int:
        """The folder's mtime in ns: another one whenever somebody has made or removed a file in it."""
        with Doing(f"looking at {self.path}"):
            return posix.fstat(self.folder).st_mtime_ns

    def owner(self, address: str) -> tuple[bytes, bytes] | None:
        """Container ID and interface that a lease names; None: there is no such file.

        HostError when it cannot be read: whose the address is stays unknown then.
        """
        with Doing(f"reading {self.path}/{address}"):
            try:
                fd = posix.open(address, posix.O_RDONLY | posix.O_NONBLOCK | SAFE, dir_fd=self.folder)
                try:
                    return parse(posix.read(fd, 4096))
                finally:
                    posix.close(fd)
            except FileNotFoundError:
                return None
            except OSError as error:
                if error.errno not in NO_FILE:
                    raise
                return UNREADABLE

    def owners(self) -> list[tuple[str, bytes, bytes]]:
        """Every (address, container ID, interface). Reads all of them: 6 µs each."""
        found = []
        with Doing(f"reading {self.path}"):
            names = posix.listdir(self.folder)
        for name in names:
            owner = self.owner(name) if is_address(name) else None
            if owner is not None:
                found.append((name, *owner))
        return found

    def is_taken(self, address: str) -> bool:
        """A symlink in that place is in the way, too."""
        return files.exists(address, self.folder, follow_symlinks=False)

    def made(self, address: str) -> float | None:
        """When that lease was made, in seconds since 1970; None if it has gone meanwhile."""
        with Doing(f"looking at {self.path}/{address}"):
            try:
                return posix.lstat(f"{self.path}/{address}").st_mtime
            except FileNotFoundError:
                return None

    def last_reserved(self, number: int) -> str:
        """The address that range set `number` gave last; "" if there is none."""
        found = files.read(f"last_reserved_ip.{number}", dir_fd=self.folder) or b""
        return found.decode(errors="replace").strip()

    def reserve(self, address: str, owner: tuple[bytes, bytes], number: int) -> None:
        """Make a lease, whole or not at all. HostError EEXIST if that address has one."""
        last = f"last_reserved_ip.{number}"
        with Writing(f"reserving {self.path}/{address}"):
            # In this order, a crash in between moves the round robin on, and loses no address.
            self._note(last, address.encode())
            self._write_draft(b"%b\r\n%b" % owner)
            try:
                posix.link(self.draft, address, src_dir_fd=self.beside, dst_dir_fd=self.folder, follow_symlinks=False)
            finally:
                self._discard_draft()

    def release(self, address: str) -> bool:
        """Remove a lease; False when it is gone already."""
        with Writing(f"releasing {self.path}/{address}"):
            try:
                posix.unlink(address, dir_fd=self.folder)
            except FileNotFoundError:
                return False
        return True

    def _note(self, name: str, data: bytes) -> None:
        """Write a hint, in place: ext4 starts writing to disk when a file is renamed over another, which takes 0.4 ms.

        A garbled hint only starts the round robin anew.
        """
        try:
            fd = posix.open(name, posix.O_WRONLY | posix.O_CREAT | SAFE, 0o600, dir_fd=self.folder)
        except OSError:  # a symlink, which is replaced, never written through
            self._write_draft(data)
            posix.rename(self.draft, name, src_dir_fd=self.beside, dst_dir_fd=self.folder)
            return
        try:
            posix.ftruncate(fd, posix.write(fd, data))
        finally:
            posix.close(fd)

    def _discard_draft(self) -> None:
        try:
            posix.unlink(self.draft, dir_fd=self.beside)
        except OSError:
            pass  # the next lease's draft replaces it; the lease itself is there

    def _write_draft(self, data: bytes) -> None:
        files.write_new(self.draft, data, 0o600, dir_fd=self.beside)


def parse(content: bytes) -> tuple[bytes, bytes]:
    """Container ID and interface from a lease's content; an old one has no interface, a garbled one none."""
    container, _, ifname = content.strip().partition(b"\r\n")
    words = container + ifname
    if not container or len(words.translate(None, UNPRINTABLE)) != len(words):
        return GARBLED
    return container, ifname


def is_address(name: str) -> bool:
    try:
        inet_pton(AF_INET6 if ":" in name else AF_INET, name)
    except (OSError, ValueError):
        return False
    return True
