"""What attachments use together (a bridge, its address, forwarding) is undone only while nobody else relies on it."""

from __future__ import annotations

import fcntl
import posix
import time

from ..host import files
from ..record import STATE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host.namespace import Machine


class Hold:
    """Tells every other ADD, until this process ends, that what is shared is in use.

    A failed ADD may take back what it added to shared things only if no other runs now (it gets the lock for itself),
    and none that ran beside it has succeeded (the lock file has the time that it had before): they found those things
    there, and would lose them.
    """

    def __init__(self, machine: Machine) -> None:
        files.make_directory(machine.journal, STATE)
        path = f"{STATE}/lock"
        with files.Doing(f"locking {path}"):
            self._fd = posix.open(path, posix.O_RDWR | posix.O_CREAT | files.SAFE, 0o600)
            fcntl.flock(self._fd, fcntl.LOCK_SH)  # held for itself alone only by an undo, which takes milliseconds
            self._seen = posix.fstat(self._fd).st_mtime_ns
        machine.journal.alone = self._alone

    def succeeded(self) -> None:
        """This ADD has; from now on it relies on what it found."""
        now = time.time_ns()
        if posix.fstat(self._fd).st_mtime_ns == self._seen:
            self._seen = now  # its own undo may still follow, if the result cannot be written
        posix.utime(self._fd, ns=(now, now))

    def _alone(self) -> bool:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return posix.fstat(self._fd).st_mtime_ns == self._seen
