"""Network namespaces, and the machine that holds them: where every change begins."""

from __future__ import annotations

import errno
import fcntl
import posix
import time

from .files import Doing
from .journal import HostError, Journal, word
from .netlink import rtnl
from .netlink.socket import Netlink, NetlinkError
from .setns import CLONE_NEWNET, setns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    from .journal import Undo

    T = TypeVar("T")

    Message = tuple[int, int, dict[str, Any]]
    Change = tuple[str, Message, Undo | None, bool, str]  # the last is the journal's `why`

OWN = "/proc/self/ns/net"
NS_GET_NSTYPE = 0xB703  # linux/nsfs.h


class Machine:
    """The machine as one exec sees it: its own network namespace, those that it opens, and the journal of its changes.

    `program` is the file that runs. `current` is the namespace that the process is in; None: the kernel refused to
    change it, and it is not known. `with namespace:` then asks the kernel again, also for the host's namespace.
    """

    own: Machine | None = None
    """The machine of this process, for `require_host`."""

    def __init__(self, program: str) -> None:
        Machine.own = self
        self.program = program
        self.journal = Journal()
        self.host = Namespace(self, OWN)
        self.current: Namespace | None = self.host

    def open(self, path: str) -> Namespace:
        """Open the namespace at a path; HostError ENOENT when it is not there, EINVAL when it is none."""
        return Namespace(self, path)


class Namespace:
    """One network namespace: its netlink socket, and the one gate for changes by netlink.

    `with namespace:` makes it the process's own for the time of the block: sysctls are reached in no other way.
    """

    def __init__(self, machine: Machine, path: str) -> None:
        self.machine = machine
        self.path = path
        self.fd = _open(path)
        self._netlink: Netlink | None = None
        self._queue: list[Change] | None = None
        self._entered_from: list[Namespace] = []

    @property
    def is_host(self) -> bool:
        return self is self.machine.host

    @property
    def place(self) -> str:
        """What an error calls it."""
        return "the host's namespace" if self.is_host else self.path

    @property
    def identity(self) -> int:
        """The namespace's cookie, which the kernel gives to no other one; its inode number before Linux 5.14.

        The kernel gives a free inode number to the next namespace. HostError when the number cannot be read.
        """
        with Doing(f"identifying {self.place}"):
            try:
                return self.netlink.cookie()
            except OSError as error:
                if error.errno != errno.ENOPROTOOPT:
                    raise
            return posix.fstat(self.fd).st_ino

    @property
    def ip(self) -> str:
        """How an `ip` command for this namespace begins. `ip -n` takes a name in /run/netns, no path."""
        if self.is_host:
            return "ip"
        return f"ip -n {self._name}" if self._name else f"{self.inside}ip"

    @property
    def inside(self) -> str:
        """What comes before a command that is to run in this namespace."""
        if self.is_host:
            return ""
        return f"ip netns exec {self._name} " if self._name else f"nsenter --net={word(self.path)} "

    @property
    def _name(self) -> str:
        """Its name for `ip netns`, "" without one."""
        folder, _, name = self.path.rpartition("/")
        return word(name) if folder in ("/run/netns", "/var/run/netns") else ""

    @property
    def netlink(self) -> Netlink:
        """A route netlink socket inside the namespace; it stays in there."""
        if self._netlink is None:
            with self, Doing(f"opening a netlink socket in {self.place}"):
                self._netlink = Netlink(rtnl.FAMILY)
        return self._netlink

    def __enter__(self) -> Namespace:
        before = self.machine.current or self.machine.host
        self._move(self)
        self._entered_from.append(before)
        return self

    def __exit__(self, *_: object) -> None:
        self._move(self._entered_from.pop())

    def _move(self, to: Namespace) -> None:
        if to is not self.machine.current:
            self.machine.current = None
            setns(to.fd, f"entering network namespace {to.path}")
            self.machine.current = to

    def change(self, say: str, message: Message, undo: Undo | None = None, *, shared: bool = False) -> None:
        """Change something by one netlink message; inside `with namespace.batch():` together with the others."""
        if self._queue is not None:
            self._queue.append((say, message, undo, shared, self.machine.journal.why))
        else:
            self.machine.journal.run(say, lambda: self.send(say, message), undo, shared=shared)

    def send(self, say: str, message: Message, wanted: frozenset[str] | None = None) -> list[Any]:
        """Send one message and return the answers; the kernel's refusal becomes a HostError that tells `say`.

        `wanted`: the attributes to decode of them, by default all.
        """
        try:
            return self.netlink.run(message, wanted=wanted)[0]
        except NetlinkError as error:
            raise refusal(say, error) from None

    def ask(self, say: str, message: Message, wanted: frozenset[str] | None = None) -> dict[str, Any]:
        """As `send`, for a message that the kernel answers with one object: that object."""
        try:
            return self.netlink.ask(message, wanted)
        except NetlinkError as error:
            raise refusal(say, error) from None

    def dump(
        self, say: str, kind: int, body: dict[str, Any], wanted: frozenset[str] | None = None
    ) -> list[dict[str, Any]]:
        """All objects that match, as `Netlink.dump` gives them; an error tells `say`."""
        try:
            return self.netlink.dump(kind, body, wanted)
        except NetlinkError as error:
            raise refusal(say, error) from None

    def wait_for(self, look: Callable[[], T], limit: float, *groups: int) -> T:
        """What `look` finds, once that is something: it looks anew with each of the kernel's events of these groups.

        What they tell does not matter. After `limit` seconds: the nothing that it found. groups: rtnl.RTNLGRP_LINK, ...
        """
        found = look()
        if found:
            return found
        with self, Doing(f"opening a netlink socket in {self.place}"):
            events = Netlink(rtnl.FAMILY)
        try:
            events.subscribe(*groups)
            deadline = time.monotonic() + limit
            while not (found := look()) and (left := deadline - time.monotonic()) > 0:
                events.events(left)
            return found
        finally:
            events.close()

    def batch(self) -> Batch:
        """Changes asked for in the block are sent to the kernel as one packet, at its end."""
        return Batch(self)

    def close(self) -> None:
        """Close descriptor and socket: an open one keeps the namespace, and with it the container's links, alive."""
        posix.close(self.fd)
        if self._netlink is not None:
            self._netlink.close()


class Batch:
    """Collects the changes of a block, and sends them when it ends without an error."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace

    def __enter__(self) -> None:
        self.namespace._queue = []

    def __exit__(self, kind: object, *_: object) -> None:
        namespace = self.namespace
        queue, namespace._queue = namespace._queue or [], None
        if kind is not None:
            return
        journal = namespace.machine.journal
        if journal.stepwise:
            for say, message, undo, shared, journal.why in queue:
                namespace.change(say, message, undo, shared=shared)
        elif queue:
            self._send(queue)

    def _send(self, queue: list[Change]) -> None:
        """All in one packet. The kernel goes on after one that it refuses: what succeeded is noted, to be undone."""
        refused: HostError | None = None
        journal = self.namespace.machine.journal
        answers = self.namespace.netlink.request(*[change[1] for change in queue])
        for (say, _, undo, shared, journal.why), answer in zip(queue, answers, strict=True):
            if isinstance(answer, NetlinkError):
                refused = refused or refusal(say, answer)
            if not isinstance(answer, NetlinkError) or answer.is_unknown:
                journal.note(say, undo, shared=shared)
        if refused is not None:
            raise refused


def require_host() -> None:
    """Enter the namespace of the host unless the process is in it; HostError when the kernel refuses."""
    if Machine.own is not None:
        Machine.own.host._move(Machine.own.host)


def refusal(say: str, error: NetlinkError) -> HostError:
    """What the kernel refused, as an error that tells the operation and the kernel's own words."""
    refused = HostError(error.errno or errno.EIO, say, error.strerror or "")
    refused.is_unknown = error.is_unknown
    return refused


def attempt(do: Callable[[], object], *tolerated: int) -> bool:
    """Whether it succeeded; an errno among `tolerated` is no error (the thing is gone, or there already)."""
    try:
        do()
    except OSError as error:
        if error.errno not in tolerated:
            raise
        return False
    return True


def _open(path: str) -> int:
    doing = f"opening network namespace {path}"
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError as error:
        raise HostError(error.errno or errno.EIO, doing) from None
    except ValueError:
        raise HostError(errno.EINVAL, doing, "the path contains a NUL character") from None
    try:
        if fcntl.ioctl(fd, NS_GET_NSTYPE) == CLONE_NEWNET:
            return fd
    except OSError as error:
        if error.errno not in (errno.ENOTTY, errno.EINVAL, errno.EOPNOTSUPP):  # no namespace answers so
            posix.close(fd)
            raise HostError(error.errno or errno.EIO, doing) from None
    posix.close(fd)
    hint = "a file left behind where a namespace was once mounted can be removed"
    raise HostError(errno.EINVAL, doing, "this is not a network namespace", hint)
