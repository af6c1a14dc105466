"""What an attachment's ADD did, kept so that DEL and GC need neither namespace, prevResult nor network name.

One file a plugin of the attachment: /run/cnibox/attachments/<container ID>/<ifname>:<network>:<plugin>, a JSON object.
/run dies with the kernel state that it describes. None of the names can contain a colon or a slash.
"""

from __future__ import annotations

import errno
import posix

from . import log
from .host import files
from .host.journal import UNCHANGED, HostError, word
from .spec.errors import IO_FAILURE, CniError
from .spec.jsontext import decode, encode
from .spec.request import CONTAINER_ID, NETWORK_NAME

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from .host.namespace import Machine
    from .spec.request import Request

STATE = "/run/cnibox"
ATTACHMENTS = f"{STATE}/attachments"

_believed: list[bool] = []

DRAFT = ".new"
"""How files.replace names the file that it writes; no plugin has such a name."""
ABSENT = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
"""Of the path of a record: nothing is there, or can be."""
UNUSABLE = (errno.EACCES, errno.EPERM, errno.EROFS)
"""Of the folder of the state: it is another user's, or cannot be made."""


class Record:
    """The record of one plugin's part in one attachment; `facts` is what that plugin wants to find again."""

    def __init__(self, container_id: str, ifname: str, network: str, plugin: str, facts: dict[str, Any]) -> None:
        self.container_id = container_id
        self.ifname = ifname
        self.network = network
        self.plugin = plugin
        self.facts = facts

    @property
    def folder(self) -> str:
        return f"{ATTACHMENTS}/{self.container_id}"

    @property
    def path(self) -> str:
        return f"{self.folder}/{self.ifname}:{self.network}:{self.plugin}"

    def file_names(self) -> list[tuple[str, str]]:
        """The longest names of its files, each with what makes it long."""
        draft = f"{self.path}.new".rpartition("/")[2]
        return [(CONTAINER_ID, self.container_id), (NETWORK_NAME, draft)]

    def write(self, machine: Machine) -> None:
        """Write it, over an older one, which comes back when the ADD fails."""
        make_state(machine, ATTACHMENTS)
        older, data = files.read(self.path), encode(self.facts).encode()
        say = f"mkdir -p -m 700 {word(self.folder)} && cat > {word(self.path)}  # {len(data)} bytes"
        undo = self._unlink if older is None else lambda: self._put(older)
        machine.journal.run(say, lambda: self._put(data), undo, is_evidence=True)

    def again(self) -> Record | None:
        """The record as it is now; None when it has been removed."""
        is_there = self.path.rpartition("/")[2] in names_in(self.folder)
        facts = _facts(self.path) if is_there else {}
        return Record(self.container_id, self.ifname, self.network, self.plugin, facts) if is_there else None

    def lock(self, machine: Machine) -> ContainerLock:
        """Take the container's lock; its folder is made, and removed again if the ADD fails."""
        while True:
            make_state(machine, self.folder)
            lock = lock_of(self.container_id)
            if lock is not None:  # else a DEL has just removed the folder
                return lock

    def remove(self, machine: Machine) -> None:
        """Remove it, and the container's folder with its last one; gone already is fine. Undone in a failed ADD."""
        say = f"rm -f {word(self.path)} && rmdir --ignore-fail-on-non-empty {word(self.folder)}"
        machine.journal.run(say, self._unlink, lambda: self._put(encode(self.facts).encode()))

    def _put(self, data: bytes) -> None:
        self._make_folder()
        files.replace(self.path, data)

    def _make_folder(self) -> None:
        with files.Doing(f"making folder {self.folder}"):
            try:
                posix.mkdir(self.folder, 0o700)
            except FileExistsError:
                pass

    def _unlink(self) -> object:
        outcome: object = UNCHANGED
        for path in (self.path, f"{self.path}{DRAFT}"):
            with files.Doing(f"removing {path}"):
                try:
                    posix.unlink(path)
                    outcome = None
                except FileNotFoundError:
                    pass
        remove_folder(self.container_id)
        return outcome


class ContainerLock:
    """The container's lock, held until `release` or the end of this process.

    Its ADD, DEL, GC and repair hold it, one after the other, and so does a program that ADD has started, which lives on
    when ADD is killed. `fd` is its descriptor.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def release(self) -> None:
        posix.close(self.fd)

    def __enter__(self) -> ContainerLock:
        return self

    def __exit__(self, *unused: object) -> None:
        self.release()


def lock_of(container_id: str) -> ContainerLock | None:
    """Take the container's lock; None when nothing of the container is on record. HostError EAGAIN after 30 s.

    The lock is on the container's folder, which the last DEL removes: who has waited for a removed one tries again.
    """
    folder = f"{ATTACHMENTS}/{container_id}"
    while _is_believed():
        with files.Doing(f"locking {folder}"):
            try:
                fd = posix.open(folder, posix.O_RDONLY | posix.O_DIRECTORY | files.SAFE)
            except OSError as error:
                if error.errno in ABSENT:
                    return None
                raise
            try:
                files.lock_open(fd, folder)
                if _is_in_place(fd, folder):
                    return ContainerLock(fd)
            except BaseException:
                posix.close(fd)
                raise
            posix.close(fd)
    return None


def _is_in_place(fd: int, folder: str) -> bool:
    try:
        there, ours = posix.stat(folder), posix.fstat(fd)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def make_state(machine: Machine, folder: str = STATE) -> None:
    """Make the folder of our state, or one in it. HostError, with what to do, where that cannot be ours."""
    owner = _foreign_owner()
    if owner is not None:
        reason = f"it belongs to user {owner}, and we are user {posix.geteuid()}"
        hint = f"remove it; or, in a user namespace, first `mount -t tmpfs tmpfs {STATE}` in its mount namespace"
        raise HostError(errno.EACCES, f"using {STATE}", reason, hint)
    try:
        files.make_directory(machine.journal, folder)
    except HostError as error:
        if error.errno in UNUSABLE:
            error.hint = "cnibox keeps its state there: it must run as root; in a user namespace, or where /run is "
            error.hint += "read-only, first `mount -t tmpfs tmpfs /run` in its mount namespace"
        raise


def _foreign_owner() -> int | None:
    """The user whose folder is in the place of ours. What stands in it is not believed: it says what to delete."""
    try:
        owner = posix.stat(STATE).st_uid
    except OSError:
        return None  # nobody's; or what comes next fails, and says why
    return owner if owner != posix.geteuid() else None


def _is_believed() -> bool:
    """Whether the state is ours, looked at once. Only root, also of a user namespace, can read it."""
    if not _believed:
        owner = _foreign_owner() if posix.geteuid() == 0 else None
        if owner is not None:
            log.warning(f"{STATE} is ignored: it belongs to user {owner}")
        _believed.append(owner is None)
    return _believed[0]


def remove_folder(container_id: str) -> None:
    """Remove a container's folder unless something is in it; a killed ADD may have left no more than that."""
    if not _is_believed():
        return
    try:
        posix.rmdir(f"{ATTACHMENTS}/{container_id}")
    except OSError:
        pass  # the container has other attachments, or never had one


def remove_empty_folders() -> None:
    """Remove the folders that ADDs have left which were killed before they wrote a record."""
    for container_id in names_in(ATTACHMENTS):
        lock = None if names_in(f"{ATTACHMENTS}/{container_id}") else lock_of(container_id)
        if lock is not None:  # no ADD is about to write into it
            with lock:
                remove_folder(container_id)


def of(request: Request, plugin: str) -> Record | None:
    """The plugin's record of this attachment: under the network's name, or under the one that it had at ADD."""
    found = [record for record in parts(request.container_id, plugin) if record.ifname == request.ifname]
    for record in found:
        if record.network == request.name:
            return record
    return found[0] if found else None


def has_any(container_id: str) -> bool:
    """Whether an ADD of this boot has recorded anything of that container; in doubt it has."""
    try:
        posix.stat(f"{ATTACHMENTS}/{container_id}")
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        return error.errno != errno.ENAMETOOLONG
    return True


def siblings(container_id: str, ifname: str, network: str, plugin: str) -> list[Record]:
    """The same plugin's attachments of the container's other interfaces to the same network."""
    return [each for each in parts(container_id, plugin) if each.network == network and each.ifname != ifname]


def parts(container_id: str, plugin: str) -> list[Record]:
    """One plugin's parts in all attachments of a container, to whatever networks."""
    return list(_of_container(container_id, plugin))


def is_anothers(namespace: int, container_id: str, ifname: str) -> bool:
    """Whether that namespace (Namespace.identity) has an interface of that name which another container's ADD made."""
    return any(
        found.ifname == ifname and found.facts.get("namespace") == namespace
        for other in names_in(ATTACHMENTS)
        if other != container_id
        for found in _of_container(other)
    )


def all_of(network: str, plugin: str) -> list[Record]:
    """Every attachment to a network that this plugin had a part in."""
    return [record for record in each(plugin) if record.network == network]


def each(plugin: str) -> Iterator[Record]:
    """Every attachment that this plugin had a part in, read one by one: who has found enough stops."""
    for container_id in names_in(ATTACHMENTS):
        yield from _of_container(container_id, plugin)


def everything() -> list[Record]:
    """Every record on this machine, in the order in which the attachments were made."""
    found = [record for container_id in names_in(ATTACHMENTS) for record in _of_container(container_id)]
    return sorted(found, key=lambda record: _written(record.path))


def _written(path: str) -> int:
    try:
        return posix.stat(path).st_mtime_ns
    except OSError:
        return 0  # it has gone since


def remove_drafts(machine: Machine, container_id: str, ifname: str, plugin: str) -> None:
    """Remove the drafts of records that a killed ADD has left."""
    folder = f"{ATTACHMENTS}/{container_id}"
    for name in names_in(folder):
        if name.startswith(f"{ifname}:") and name.endswith(f":{plugin}{DRAFT}"):
            path = f"{folder}/{name}"
            machine.journal.run(f"rm -f {word(path)}", lambda path=path: _unlink_draft(path))  # type: ignore[misc]


def drafts(network: str, plugin: str) -> list[tuple[str, str]]:
    """(container ID, interface) of the drafts that killed ADDs of this plugin to a network have left."""
    return [
        (container_id, name.partition(":")[0])
        for container_id in names_in(ATTACHMENTS)
        for name in names_in(f"{ATTACHMENTS}/{container_id}")
        if name.endswith(f":{network}:{plugin}{DRAFT}")
    ]


def _unlink_draft(path: str) -> None:
    with files.Doing(f"removing {path}"):
        try:
            posix.unlink(path)
        except FileNotFoundError:
            pass


def _of_container(container_id: str, wanted: str = "") -> Iterator[Record]:
    """The container's records, or those of one plugin; drafts are none."""
    for name in names_in(f"{ATTACHMENTS}/{container_id}"):
        ifname, network, plugin = (name.split(":") + ["", ""])[:3]
        if plugin and wanted in ("", plugin) and not plugin.endswith(DRAFT):
            yield Record(container_id, ifname, network, plugin, _facts(f"{ATTACHMENTS}/{container_id}/{name}"))


def names_in(folder: str) -> list[str]:
    """The names in a folder of our state; none when there is no such folder, or the state is another user's."""
    if not _is_believed():
        return []
    try:
        return posix.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # there can be no such folder
            return []
        raise CniError(IO_FAILURE, f"cannot read {folder}: {error.strerror}") from None


def _facts(path: str) -> dict[str, Any]:
    """One that cannot be read tells nothing: what it described is found by other ways."""
    try:
        facts = decode((files.read(path) or b"{}").decode())
    except ValueError:
        return {}
    return facts if isinstance(facts, dict) else {}
