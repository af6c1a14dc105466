"""Sysctls: files under /proc/sys, those under net/ as the namespace has them that the process is in.

The kernel hands some values on. Tried with Linux 6.18, by writing each sysctl and reading all others:

- ipv6/conf/all: disable_ipv6, forwarding, force_forwarding, addr_gen_mode and ignore_routes_with_linkdown go to every
  interface and to `default`, even if `all` already has that value
- ipv4/conf/all/forwarding, also called ipv4/ip_forward: the same, but only if it changes; all/accept_redirects
  becomes its opposite
- ipv4/conf/default, and neigh/default: to each interface on which nobody has set that sysctl
- stable_secret sets addr_gen_mode: an interface's its own, that of `default` every interface's
- a coarser unit rounds the finer one: base_reachable_time and base_reachable_time_ms

So writing the former value back is no inverse: `affected` names what has to be recorded, and `restore` writes it back.
"""

from __future__ import annotations

import errno
import posix

from .. import log
from .files import Doing, is_absence
from .journal import HostError, word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .namespace import Namespace

UNREADABLE = (errno.EINVAL, errno.EPERM, errno.EACCES)
"""What the kernel answers for a sysctl that can only be written, or that only the first user namespace's root reads."""
READABLE = 0o004
NOT_WRITABLE = (errno.EROFS, errno.EACCES, errno.EPERM)
READ_ONLY = "/proc/sys is mounted read-only here: mount it read-write, or set this sysctl in another way"
FINER = {"base_reachable_time": "_ms", "retrans_time": "_ms", "gc_min_interval": "_ms", "unres_qlen": "_bytes"}
IP_FORWARD = "net/ipv4/ip_forward"
WRITTEN_LAST = ("accept_redirects", "addr_gen_mode")
"""Of one interface: writing another of its sysctls changes these."""


def read(namespace: Namespace, key: str) -> str | None:
    """The value of "net/ipv4/ip_forward" without its newline; None where this kernel has no such key, or does not tell.

    Some can only be written (net/ipv4/route/flush), some cannot be read until they are set (stable_secret).
    """
    with namespace, Doing(f"reading /proc/sys/{key}"):
        try:
            fd = posix.open(f"/proc/sys/{key}", posix.O_RDONLY | posix.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except PermissionError:
            if posix.stat(f"/proc/sys/{key}").st_mode & READABLE:  # who refuses it is not the sysctl
                raise
            return None
        try:
            return posix.read(fd, 4096).decode().rstrip("\n")
        except OSError as error:
            if error.errno == errno.EIO and key.endswith("/stable_secret"):  # nobody has set it
                return None
            if error.errno in UNREADABLE:
                return None
            raise
        finally:
            posix.close(fd)


def exists(namespace: Namespace, key: str) -> bool:
    """Whether this kernel has such a key, with a value."""
    with namespace, Doing(f"looking for /proc/sys/{key}"):
        try:
            return posix.stat(f"/proc/sys/{key}").st_mode & 0o170000 == 0o100000
        except NotADirectoryError:
            return False
        except OSError as error:
            if is_absence(error):
                return False
            raise


def write(namespace: Namespace, key: str, value: str, *, shared: bool = False, best_effort: bool = False) -> None:
    """Set a sysctl unless it has that value already; undone to what it was, with all that the kernel handed it on to.

    HostError when the kernel refuses; with `best_effort` that is no error (no such key, /proc/sys read-only).
    """
    before = read(namespace, key)
    if before == value or (before is None and best_effort):
        return
    try:
        others = affected(namespace, key)[1:]
        put(namespace, key, value, {key: before, **values(namespace, others)}, shared=shared)
    except HostError as error:
        if not best_effort:
            raise
        log.info(str(error))


def put(namespace: Namespace, key: str, value: str, before: dict[str, str | None], *, shared: bool = False) -> None:
    """Set a sysctl, also to the value that it has already; undone to `before`: the values of all that it affects.

    HostError when the kernel refuses, unless the sysctl has that value already and just cannot be written.
    """
    say = f"{namespace.inside}sysctl -w {word(f'{key}={value}')}"

    def undo() -> None:
        for path, former in restoring(namespace, before):
            _put(namespace, path, former, say)

    with namespace:  # until it is in the journal: the way out may fail
        try:
            namespace.machine.journal.run(say, lambda: _put(namespace, key, value, say), undo, shared=shared)
        except HostError as error:
            if error.errno not in NOT_WRITABLE or not same(before.get(key) or "", value):
                raise
            log.info(f"{error}; it has this value already")


def _put(namespace: Namespace, key: str, value: str, say: str) -> None:
    with namespace:
        try:
            fd = posix.open(f"/proc/sys/{key}", posix.O_WRONLY | posix.O_CLOEXEC)
            try:
                posix.write(fd, value.encode() or b"\n")  # writing nothing would change nothing
            finally:
                posix.close(fd)
        except OSError as error:
            hint = READ_ONLY if error.errno == errno.EROFS else ""
            raise HostError(error.errno or 0, say, hint=hint) from None


# --- names


def path_of(key: str, ifname: str) -> str:
    """The path below /proc/sys of a key as sysctl(8) takes it; ValueError if it is none below net.

    Dots and slashes both separate: net.core.somaxconn, net/core/somaxconn. Between "conf" or "neigh" and the last
    part they belong to the interface's name, which can have dots but no slash: net.ipv4.conf.eth0/5.arp_filter,
    net/ipv4/conf/eth0.5/arp_filter. The first IFNAME stands for `ifname`.
    """
    parts = key.lstrip("./").rstrip("./").replace("/", ".").split(".")
    kinds = [part for part in parts[:-1] if part][:3]
    if len(kinds) == 3 and kinds[2] in ("conf", "neigh"):
        start = parts.index(kinds[2]) + 1
        parts = [*kinds, ".".join(parts[start:-1]), parts[-1]]
    path = "/".join(part for part in parts if part).replace("IFNAME", ifname, 1)
    if not path.startswith("net/") or "\0" in path or not {".", ".."}.isdisjoint(path.split("/")):
        raise ValueError(f"not a sysctl below net: {key}")
    return path


def name_of(path: str) -> str:
    """The key of a path, as sysctl(8) prints it."""
    return path.translate({ord("/"): ".", ord("."): "/"})


def same(answer: str, value: str) -> bool:
    """Whether two texts are the same value, as far as numbers and blanks can tell: "0x10\t8" and "16 8"."""
    return [_number(word) for word in answer.split()] == [_number(word) for word in value.split()]


def _number(word: str) -> int | str:
    """The kernel reads numbers as C does: 0x1f is hexadecimal, 017 octal."""
    digits = word.removeprefix("-")
    octal = len(digits) > 1 and digits[0] == "0" and digits.isdecimal()
    try:
        return int(word, 8 if octal else 0)
    except ValueError:
        return word


# --- what the kernel hands on


def is_for_all(key: str) -> bool:
    """Whether it stands for all interfaces, or for those to come."""
    return key == IP_FORWARD or _interface(key) in ("all", "default")


def affected(namespace: Namespace, key: str) -> list[str]:
    """The sysctls that may change when this one is written; this one is among them."""
    folder, _, name = key.rpartition("/")
    names = [name]
    if key == IP_FORWARD:
        folder, names = "net/ipv4/conf/all", ["forwarding"]
    if name == "stable_secret":
        names.append("addr_gen_mode")
    elif name in FINER:
        names.append(name + FINER[name])
    folders = [folder]
    if is_for_all(key):
        above = folder.rpartition("/")[0]
        folders = [f"{above}/{each}" for each in _listing(namespace, above)]
    paths = [f"{each}/{one}" for each in folders for one in names]
    if folder == "net/ipv4/conf/all" and names == ["forwarding"]:
        paths.append(f"{folder}/accept_redirects")
    return [key, *(path for path in paths if path != key)]


def values(namespace: Namespace, keys: Iterable[str]) -> dict[str, str | None]:
    """What `read` answers to each of the keys."""
    with namespace:
        return {key: read(namespace, key) for key in keys}


def in_order(keys: Iterable[str]) -> list[str]:
    """Sort the keys: those of all interfaces first, so that they do not overwrite the value of one interface."""
    return sorted(keys, key=_rank)


def restoring(namespace: Namespace, before: dict[str, str | None]) -> Iterator[tuple[str, str]]:
    """What to write, one after another, so that `before` is true again and what it does not name stays as it is.

    The caller writes each pair before it asks for the next. A value None is not restored: it could not be read.
    """
    wanted = {}
    for key in filter(is_for_all, before):
        wanted.update(values(namespace, affected(namespace, key)))
    wanted.update(before)
    is_used = any(_is_disable_ipv6(key) and value == "0" for key, value in wanted.items() if not is_for_all(key))
    for key in in_order(wanted):
        value = wanted[key]
        # It would take the IPv6 addresses of every interface; to the kernel it says nothing beyond that.
        takes_addresses = _is_disable_ipv6(key) and _interface(key) == "all" and value != "0" and is_used
        if value is None or takes_addresses or read(namespace, key) == value:
            continue
        if exists(namespace, key):  # an interface may be gone
            yield key, value


def _is_disable_ipv6(key: str) -> bool:
    return key.startswith("net/ipv6/conf/") and key.endswith("/disable_ipv6")


def _interface(key: str) -> str:
    """The interface in a path, or "all" or "default"; empty when it is of none."""
    steps = key.split("/")
    return steps[3] if len(steps) == 5 and steps[2] in ("conf", "neigh") else ""


def _rank(key: str) -> tuple[int, bool, str]:
    places = ("all", "default")
    place = "all" if key == IP_FORWARD else _interface(key)
    last = key.endswith(WRITTEN_LAST)
    return places.index(place) if place in places else len(places), last, key


def _listing(namespace: Namespace, folder: str) -> list[str]:
    with namespace, Doing(f"reading /proc/sys/{folder}"):
        try:
            return posix.listdir(f"/proc/sys/{folder}")
        except (FileNotFoundError, NotADirectoryError):
            return []


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
