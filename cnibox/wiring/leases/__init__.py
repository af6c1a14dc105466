"""The leases of one network: who holds which address, found without reading all files, changed under lock."""

from __future__ import annotations

import errno
import time

from ...host import files
from ...host.journal import UNCHANGED, HostError, word
from ...spec import errors
from ...spec.errors import CniError
from .index import Index
from .on_disk import LeaseFiles, Writing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeVar

    from ...host.journal import Journal

    T = TypeVar("T")
    Owner = tuple[str, str]  # container ID and interface; no interface: the container alone; neither: garbled

DATA_DIR = "/var/lib/cni/networks"
PATIENCE = 500
"""Taken addresses in a row, after which a set of all is made: that costs about as much as these did."""


class Leases:
    """`with Leases(journal, network) as leases:` holds the lock; there must be a folder (`exist`, `make`).

    HostError from everything here when the machine refuses; CniError 11 when the lock is not to be had.
    """

    def __init__(self, journal: Journal, network: str, data_dir: str = DATA_DIR) -> None:
        self.journal = journal
        self.network = network
        self.data_dir = data_dir
        self.files = LeaseFiles(network, data_dir)
        self.path = self.files.path
        self.changed = False

    def exist(self) -> bool:
        return self.files.exist()

    def make(self) -> None:
        """Make the folder. Undone while it is empty: after a lease it stays, as the reference's does."""
        with Writing(f"making folder {self.path}"):
            files.make_directory(self.journal, self.path, 0o755)

    def __enter__(self) -> Leases:
        self.files.open()
        try:
            self.lock = self.files.lock()
            self._take_lock()
            try:
                self._load(writable=True)
            except BaseException:
                self.lock.release()
                raise
        except BaseException:
            self.files.close()
            raise
        return self

    def __exit__(self, kind: object, *unused: object) -> None:
        try:
            self._save(seal=kind is None)
        finally:
            self.lock.release()
            self.files.close()

    def look(self) -> Look:
        """`with leases.look():` reads without the lock, and writes nothing: what it says is a guess."""
        return Look(self)

    def reread(self) -> None:
        """Read every file again, also those that somebody may have changed in place: no mtime shows that."""
        self.changed = True
        self.index.rebuild(self.files.owners(), self.writable)

    def of(self, container: str) -> list[tuple[str, str]]:
        """The (address, interface) of that container's leases; those in old files have no interface: ""."""
        found = self._indexed(container)
        if found is None:  # somebody has changed a lease file in place
            self.reread()
            found = self._indexed(container)
        return found or []

    def holder(self, address: str) -> Owner | None:
        """Whose that address is, by its file; None: nobody's."""
        found = self.files.owner(address)
        return None if found is None else (_text(found[0]), _text(found[1]))

    def all(self) -> list[tuple[str, Owner]]:
        """Every address with its owner."""
        return [(address, (container, ifname)) for address, container, ifname in self.index.all()]

    def at_most(self) -> int:
        """No more leases than this; quicker than to count them."""
        return self.index.at_most()

    def made(self, address: str) -> float | None:
        """When that lease was made, in seconds since 1970; None if it has gone."""
        return self.files.made(address)

    def last_reserved(self, number: int) -> str:
        """The address that range set `number` gave last; "" if there is none."""
        return self.files.last_reserved(number)

    def first_free(self, candidates: Iterable[tuple[str, T]]) -> tuple[str, T] | None:
        """The first of these (address, whatever) that nobody has."""
        held: set[str] | None = None
        for tried, (address, what) in enumerate(candidates):
            if tried == PATIENCE:
                held = self.index.addresses()
            if (held is None or address not in held) and not self.files.is_taken(address):
                return address, what
        return None

    def reserve(self, address: str, owner: Owner, number: int) -> None:
        """Make a lease for range set `number`; undone by removing exactly this one.

        HostError EEXIST if the address is taken, although it was free under our lock.
        """
        path = word(f"{self.path}/{address}")
        say = f"printf '%s\\r\\n%s' {word(owner[0])} {word(owner[1])} > {path}"

        def do() -> None:
            self.changed = True
            words = encoded(owner[0]), encoded(owner[1])
            self.files.reserve(address, words, number)
            self.index.add(address, *words)

        self.journal.run(say, do, lambda: self._give_back(address, owner))

    def release(self, address: str) -> None:
        """Remove a lease, whoever's it is. No undo: another container may have it the next moment."""
        self.journal.run(f"rm {word(f'{self.path}/{address}')}", lambda: self._release(address))

    def _release(self, address: str) -> object:
        self.changed = True
        was_there = self.files.release(address)
        self.index.remove(address)
        return None if was_there else UNCHANGED

    def _give_back(self, address: str, owner: Owner) -> None:
        if not self.exist():
            return
        with Leases(self.journal, self.network, self.data_dir) as leases:
            if leases.holder(address) == owner:
                leases._release(address)

    def _indexed(self, container: str) -> list[tuple[str, str]] | None:
        """None: the index is wrong."""
        found = [(address, _text(ifname)) for address, ifname in self.index.of(encoded(container))]
        true = all(self.holder(address) == (container, ifname) for address, ifname in found)
        return found if true else None

    def _take_lock(self) -> None:
        try:
            with Writing(f"locking {self.lock.path}"):
                self.lock.acquire()
        except HostError as error:
            if error.errno != errno.EAGAIN:
                raise
            raise CniError(errors.TRY_AGAIN_LATER, str(error)) from None

    def _load(self, writable: bool) -> None:
        self.changed = False
        self.writable = writable
        self.index = Index(self.files.beside, f".{self.network}.index")
        # Without the lock, this order counts: whoever changes lines has changed the folder before.
        if self.index.load(writable) != self.files.stamp():
            self.reread()

    def _save(self, seal: bool) -> None:
        """Only a block without an error seals the index: what an error left half done must be read again."""
        try:
            if self.changed and seal:
                self.index.seal(self.files.folder)
        except OSError:
            pass  # a full disk, say: the header does not hold, and whoever comes next builds the index anew
        self.index.close()


class Look:
    """Leases that are read, but not locked."""

    def __init__(self, leases: Leases) -> None:
        self.leases = leases

    def __enter__(self) -> Leases:
        self.leases.files.open()
        try:
            self.leases._load(writable=False)
        except BaseException:
            self.leases.files.close()
            raise
        return self.leases

    def __exit__(self, *unused: object) -> None:
        self.leases.index.close()
        self.leases.files.close()


def ago(when: float) -> str:
    """How long ago that was, as people say it: "3 hours"."""
    seconds = max(0.0, time.time() - when)
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}s"
    return f"{seconds:.0f} s"


def is_garbled(owner: Owner) -> bool:
    return not owner[0]


def is_unreadable(owner: Owner) -> bool:
    """Whether what is named like the address is no file: on_disk.UNREADABLE. Somebody else made it; it stays."""
    return owner[0] == "?"


def encoded(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")
