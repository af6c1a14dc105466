"""The index of a network's leases: one file to be read to find an owner, instead of all of theirs.

A header, then a line for each lease: "10.1.2.3 <container ID> <interface>". Old leases have no interface: the
third word is empty. A garbled one has neither. A line that is no longer true is overwritten with "#".

The index is a cache. It is believed only in the boot in which it was written (it is never fsynced: after a
power failure its parts may be of different ages), and only while the folder's own mtime is what we set it to
after our last change: whoever makes or removes a lease file changes that. We set it to the nanosecond,
because the kernel's own timestamps are as coarse as a tick, in which a change of somebody else's would look
like ours. On a file system with coarser timestamps another value comes back than we set: the index is never
believed, which is slow and right.
"""

from __future__ import annotations

import posix
import time

from ...host import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MAGIC = b"cnibox-leases 1"
HEADER = len(MAGIC) + 1 + 36 + 1 + 20 + 1 + 12 + 1 + 12 + 1
"""Its length: magic, boot ID, the folder's mtime in ns, the size of this file, how much of it is dead."""
PART = 1 << 16
"""Bytes read at a time: that much memory is at hand; fresh memory for all costs more than reading."""


class Index:
    """The file, open from `load` or `rebuild` to `close`.

    Lines are changed in it at once. That is safe as long as the folder is changed before: the header does not
    hold from then on, until `seal`. Where the file cannot be written, an anonymous one stands in for it.
    """

    def __init__(self, dir_fd: int, name: str) -> None:
        self.dir_fd = dir_fd
        self.name = name
        self.boot = (files.read("/proc/sys/kernel/random/boot_id") or b"-").strip()[:36].ljust(36)
        self.fd = -1
        self.size = HEADER
        self.dead = 0
        self.kept = False
        self.places: dict[str, int] = {}  # where the lines of these addresses were found

    def load(self, writable: bool) -> int | None:
        """Open the file; the mtime of the folder that it tells of, None if it is not to be believed."""
        try:
            mode = posix.O_RDWR if writable else posix.O_RDONLY
            self.fd = posix.open(self.name, mode | files.SAFE, dir_fd=self.dir_fd)
            header, length = posix.pread(self.fd, HEADER, 0), posix.fstat(self.fd).st_size
        except OSError:  # whatever the reason: the leases themselves are read then
            return None
        self.kept = writable
        start = b"%b %b " % (MAGIC, self.boot)
        words = header[len(start) :].split()
        if not header.startswith(start) or len(words) != 3 or not all(word.isdigit() for word in words):
            return None
        stamp, self.size, self.dead = (int(word) for word in words)
        return stamp if self.size == length else None

    def rebuild(self, leases: list[tuple[str, bytes, bytes]], writable: bool) -> None:
        """Begin anew with these (address, container ID, interface)."""
        lines = b"".join(b"%b %b %b\n" % (name.encode(), container, ifname) for name, container, ifname in leases)
        self.close()
        if writable:
            try:
                flags = posix.O_RDWR | posix.O_CREAT | files.SAFE
                self.fd = posix.open(self.name, flags, 0o600, dir_fd=self.dir_fd)
                self.kept = True
                return self._write(lines)
            except OSError:  # a full disk, say
                self.close()
        self.kept = False
        with files.Doing("keeping the list of leases in memory"):
            self.fd = posix.memfd_create("leases", posix.MFD_CLOEXEC)
            self._write(lines)

    def close(self) -> None:
        if self.fd >= 0:
            posix.close(self.fd)
        self.fd = -1

    def add(self, address: str, container: bytes, ifname: bytes) -> None:
        line = b"%b %b %b\n" % (address.encode(), container, ifname)
        self._put(line, self.size)
        self.size += len(line)

    def remove(self, address: str) -> None:
        try:
            start = self.places.get(address)
            if start is None:
                prefix = b"%b " % address.encode()
                start = next((at for at, line in self._lines_with(prefix) if line.startswith(prefix)), None)
            if start is not None:
                length = posix.pread(self.fd, PART, start).find(b"\n")
                self._put(b"#" * length, start)
                self.dead += length + 1
        except OSError:  # the line cannot be found: the index is not sealed, and read again
            self.kept = False

    def of(self, container: bytes) -> list[tuple[str, bytes]]:
        """The (address, interface) of that container's leases. 20,000 leases are searched in 0.5 ms."""
        found = []
        for at, line in self._lines_with(b" %b " % container):
            words = line.split(b" ")
            address = words[0].decode()
            found.append((address, words[2]))
            self.places[address] = at
        return found

    def all(self) -> list[tuple[str, str, str]]:
        """Every (address, container ID, interface)."""
        found = []
        for at, part in self._parts():
            for line in part.split(b"\n"):
                words = line.decode(errors="surrogateescape").split(" ")
                if len(words) == 3:
                    found.append((words[0], words[1], words[2]))
                    self.places[words[0]] = at
                at += len(line) + 1
        return found

    def addresses(self) -> set[str]:
        found: set[bytes] = set()
        for _, part in self._parts():
            found.update([line.partition(b" ")[0] for line in part.split(b"\n")])
        return {each.decode() for each in found}

    def at_most(self) -> int:
        """No more leases than this; quicker than to count them."""
        return sum(part.count(b"\n") for _, part in self._parts())

    def seal(self, folder: int) -> None:
        """Say that the lines are those of that folder as it is now, by setting its mtime. OSError."""
        if not self.kept:
            return
        if 2 * self.dead > self.size:
            lines = b"".join(part for _, part in self._parts()).splitlines(keepends=True)
            self._write(b"".join(line for line in lines if not line.startswith(b"#")))
        stamp = time.time_ns()
        posix.utime(folder, ns=(stamp, stamp))
        posix.pwrite(self.fd, b"%b %b %020d %012d %012d\n" % (MAGIC, self.boot, stamp, self.size, self.dead), 0)

    def _write(self, lines: bytes) -> None:
        """All anew, with a header that does not hold."""
        posix.ftruncate(self.fd, 0)
        files.write_all(self.fd, bytes(HEADER - 1) + b"\n" + lines)
        self.size, self.dead, self.places = HEADER + len(lines), 0, {}

    def _put(self, data: bytes, at: int) -> None:
        try:
            whole = posix.pwrite(self.fd, data, at) == len(data)
        except OSError:
            whole = False
        self.kept = self.kept and whole

    def _parts(self) -> Iterator[tuple[int, bytes]]:
        """The lines as (offset, some whole lines)."""
        at = HEADER
        while at < self.size:
            with files.Doing(f"reading the index {self.name}"):
                part = posix.pread(self.fd, PART, at)
            part = part[: part.rfind(b"\n") + 1]
            if not part:
                return
            yield at, part
            at += len(part)

    def _lines_with(self, needle: bytes) -> Iterator[tuple[int, bytes]]:
        """Every (offset, line) that contains these bytes."""
        for start, part in self._parts():
            at = part.find(needle)
            while at >= 0:
                begin, end = part.rfind(b"\n", 0, at) + 1, part.find(b"\n", at)
                yield start + begin, part[begin:end]
                at = part.find(needle, end)
