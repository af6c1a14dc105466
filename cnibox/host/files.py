"""Files: whole or absent, never through a symlink that somebody put where we write; and locks."""

from __future__ import annotations

import errno
import fcntl
import posix
import time

from .journal import UNCHANGED, HostError, word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .journal import Journal

SAFE = posix.O_NOFOLLOW | posix.O_CLOEXEC
LOCK_LIMIT = 30.0
"""Seconds for which a lock is waited for: all that is done under one takes milliseconds."""


class Doing:
    """`with Doing("writing /x"):` an OSError inside becomes a HostError that says so."""

    __slots__ = ("hint", "what")

    def __init__(self, what: str, hint: str = "") -> None:
        self.what = what
        self.hint = hint

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError) and not isinstance(error, HostError):
            raise HostError(error.errno or 0, self.what, hint=self.hint) from None


def is_absence(error: OSError) -> bool:
    """Whether the error says that there is no such file, or that there can be none: its name is too long."""
    return error.errno in (errno.ENOENT, errno.ENAMETOOLONG)


def read(path: str, dir_fd: int | None = None) -> bytes | None:
    """The whole file, None when there is none; HostError when it cannot be read."""
    with Doing(f"reading {path}"):
        try:
            fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC, dir_fd=dir_fd)
        except OSError as error:
            if is_absence(error):
                return None
            raise
        try:
            parts = []
            while part := posix.read(fd, 1 << 16):
                parts.append(part)
            return b"".join(parts)
        finally:
            posix.close(fd)


def exists(path: str, dir_fd: int | None = None, *, follow_symlinks: bool = True) -> bool:
    """Whether there is a file of that name, or one that a symlink leads to; HostError when it cannot be told."""
    with Doing(f"looking for {path}"):
        try:
            posix.stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)
        except OSError as error:
            if is_absence(error) or error.errno == errno.ENOTDIR:
                return False
            raise
    return True


def require_writable(path: str) -> None:
    """HostError where no file can be made in that folder: EACCES, EROFS, or ENOSPC. A missing one is made by an ADD."""
    while path and not exists(path):
        path = path.rpartition("/")[0]
    path, doing = path or "/", f"looking for room in {path or '/'}"
    with Doing(doing):
        room = posix.statvfs(path)
    free = room.f_bfree if posix.geteuid() == 0 else room.f_bavail
    if room.f_flag & posix.ST_RDONLY:
        raise HostError(errno.EROFS, doing)
    if (room.f_blocks and not free) or (room.f_files and not room.f_ffree):
        raise HostError(errno.ENOSPC, doing)
    if not posix.access(path, posix.W_OK | posix.X_OK):
        raise HostError(errno.EACCES, doing, "it cannot be written to")


def replace(path: str, data: bytes, mode: int = 0o600) -> None:
    """Write a file, over the one that is there: readers see the old or the new one. Its draft is `path` with ".new"."""
    with Doing(f"writing {path}"):
        write_new(f"{path}.new", data, mode)
        try:
            posix.rename(f"{path}.new", path)
        except OSError:
            posix.unlink(f"{path}.new")
            raise


def make_directory(journal: Journal, path: str, mode: int = 0o700) -> None:
    """Make a folder and those above it that are missing. Undone as far as they are empty by then."""
    missing: list[str] = []
    while path and not _is_directory(path):
        missing.append(path)
        path = path.rpartition("/")[0]
    for folder in reversed(missing):
        journal.run(f"mkdir -m {mode:o} {word(folder)}", _mkdir(folder, mode), _rmdir(folder))


class Lock:
    """`with Lock(path):` an exclusive flock(2) on a file, made if need be, as the Go plugins take it.

    HostError EAGAIN, naming who holds it, when it is not to be had within `limit` seconds.
    `dir_fd`: the folder that `path` is in, already open.
    """

    def __init__(self, path: str, mode: int = 0o600, limit: float = LOCK_LIMIT, dir_fd: int | None = None) -> None:
        self.path = path
        self.mode = mode
        self.limit = limit
        self.dir_fd = dir_fd
        self.fd = -1

    def acquire(self) -> Lock:
        """Wait for the lock; it is held until `release`, or the end of this process."""
        with Doing(f"locking {self.path}"):
            self.fd = self._open()
            try:
                self._wait()
            except BaseException:
                self.release()
                raise
        return self

    def release(self) -> None:
        posix.close(self.fd)

    def __enter__(self) -> Lock:
        return self.acquire()

    def __exit__(self, *unused: object) -> None:
        self.release()

    def _open(self) -> int:
        name = self.path if self.dir_fd is None else self.path.rpartition("/")[2]
        try:
            # Reading is enough for flock: a DEL that finds nothing succeeds on a read-only file system, too.
            return posix.open(name, posix.O_RDONLY | SAFE, dir_fd=self.dir_fd)
        except FileNotFoundError:
            return posix.open(name, posix.O_RDWR | posix.O_CREAT | SAFE, self.mode, dir_fd=self.dir_fd)

    def _wait(self) -> None:
        lock_open(self.fd, self.path, self.limit)


def lock_open(fd: int, path: str, limit: float = LOCK_LIMIT) -> None:
    """The same lock on a file that is open already; it is held until that is closed, or this process ends."""
    deadline = time.monotonic() + limit
    pause = 0.0005
    while True:
        try:
            with Doing(f"locking {path}"):
                return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except HostError as error:
            if error.errno != errno.EAGAIN:
                raise
            if time.monotonic() > deadline:
                reason = f"not to be had for {limit:g} s"
                raise HostError(errno.EAGAIN, f"locking {path}", reason, _holder(fd)) from None
        time.sleep(pause)
        pause = min(2 * pause, 0.02)


def _holder(fd: int) -> str:
    """Who holds a lock on that file, from /proc/locks ("1: FLOCK ADVISORY WRITE 4711 08:01:5678 0 EOF")."""
    inode = str(posix.fstat(fd).st_ino)
    for line in (read("/proc/locks") or b"").decode(errors="replace").splitlines():
        fields = line.split()
        if fields[1] == "FLOCK" and fields[5].rpartition(":")[2] == inode:
            name = (read(f"/proc/{fields[4]}/comm") or b"?").decode(errors="replace").strip()
            return f"held by process {fields[4]} ({name})"
    return "held by a process outside this PID namespace"


def write_new(name: str, data: bytes, mode: int, dir_fd: int | None = None) -> None:
    """Write a file of our own making; one that is there is a dead process's.

    That one is removed, never truncated: it may be the second name of a file that link() put in its place.
    """
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | SAFE
    try:
        fd = posix.open(name, flags, mode, dir_fd=dir_fd)
    except FileExistsError:
        posix.unlink(name, dir_fd=dir_fd)
        fd = posix.open(name, flags, mode, dir_fd=dir_fd)
    try:
        write_all(fd, data)
    except OSError:
        posix.unlink(name, dir_fd=dir_fd)
        raise
    finally:
        posix.close(fd)


def write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[posix.write(fd, data) :]


def _is_directory(path: str) -> bool:
    with Doing(f"opening folder {path}"):
        try:
            if posix.stat(path).st_mode & 0o170000 == 0o040000:
                return True
        except FileNotFoundError:
            return False
    raise HostError(errno.ENOTDIR, f"making folder {path}", "something else has that name")


def _mkdir(path: str, mode: int) -> Callable[[], object]:
    def do() -> object:
        with Doing(f"making folder {path}"):
            try:
                posix.mkdir(path, mode)
            except FileExistsError:
                return UNCHANGED  # another process's first ADD made it meanwhile
        return None

    return do


def _rmdir(path: str) -> Callable[[], None]:
    def undo() -> None:
        try:
            posix.rmdir(path)
        except OSError:
            pass  # somebody uses it by now, or it has gone

    return undo
