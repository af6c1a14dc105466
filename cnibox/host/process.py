"""A program started without a shell, whose output is read when it has ended."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import posix

from .files import Doing, write_all
from .namespace import require_host

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class Process:
    """A running program. `finish()` waits for it.

    Its standard files are memory files instead of pipes: nothing can fill up, and a daemon that inherits them holds
    nobody up.
    `interruptible`: whether SIGTERM and its like reach it, which this process itself may be holding back.
    `inherited`: a descriptor that it gets, too, such as a lock's, which is then held until it ends.
    """

    def __init__(
        self,
        arguments: list[str],
        stdin: bytes,
        environ: Mapping[bytes, bytes],
        *,
        interruptible: bool = False,
        inherited: int = -1,
    ) -> None:
        self.program = arguments[0]
        self.files: list[int] = []
        self.status: int | None = None
        self.output: tuple[bytes, bytes] | None = None
        with Doing(f"running {self.program}"):
            try:
                for name in ("stdin", "stdout", "stderr"):
                    self.files.append(posix.memfd_create(name, posix.MFD_CLOEXEC))
                write_all(self.files[0], stdin)
                posix.lseek(self.files[0], 0, 0)
                actions = [(posix.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(self.files)]
                if inherited >= 0:
                    actions.append((posix.POSIX_SPAWN_DUP2, inherited, 3))
                held = () if interruptible else _signal.pthread_sigmask(_signal.SIG_BLOCK, ())
                require_host()  # the kernel is asked again where a way back from a container's namespace has failed
                self.pid = posix.posix_spawn(
                    self.program,
                    arguments,
                    environ,
                    file_actions=actions,
                    setsigmask=held,
                    setsigdef=(_signal.SIGPIPE,),  # which Python ignores
                )
            except OSError:
                self._close()
                raise

    def finish(self) -> tuple[int, bytes, bytes]:
        """Exit status (negative: the signal that ended it), stdout and stderr; the same at every further call."""
        if self.status is None:
            with Doing(f"waiting for {self.program}"):
                self.status = posix.waitstatus_to_exitcode(posix.waitpid(self.pid, 0)[1])
        if self.output is None:
            with Doing(f"reading what {self.program} has printed"):
                output, complaint = (posix.pread(fd, posix.fstat(fd).st_size, 0) for fd in self.files[1:])
            self.output = output, complaint
            self._close()
        return self.status, *self.output

    def _close(self) -> None:
        for fd in self.files:
            posix.close(fd)
