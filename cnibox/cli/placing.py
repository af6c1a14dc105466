"""Files and links that `install` puts in place.

Each file appears by a rename: a plugin that is started meanwhile is the old one or the new one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import click

from ..host.files import Doing
from . import output


class Part:
    """One file or link: its path, and what is said of it."""

    def __init__(self, path: Path, detail: str) -> None:
        self.path = path
        self.detail = detail

    def is_there(self) -> bool:
        raise NotImplementedError

    def make(self, draft: Path) -> None:
        """Make it under another name, beside its own."""
        raise NotImplementedError

    def put(self) -> str:
        """Put it in its place; what that came to, in a word."""
        if self.is_there():
            return "unchanged"
        existed = os.path.lexists(self.path)
        draft = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        draft.unlink(missing_ok=True)
        try:
            self.make(draft)
            draft.rename(self.path)
        finally:
            draft.unlink(missing_ok=True)
        return "replaced" if existed else "installed"


class Link(Part):
    """A symlink."""

    def __init__(self, path: Path, target: str) -> None:
        super().__init__(path, f"-> {target}")
        self.target = target

    def is_there(self) -> bool:
        return self.path.is_symlink() and str(self.path.readlink()) == self.target

    def make(self, draft: Path) -> None:
        draft.symlink_to(self.target)


class File(Part):
    """A file; `try_out` raises if its draft is not as it should be."""

    def __init__(
        self,
        path: Path,
        content: bytes,
        detail: str,
        mode: int = 0o755,
        try_out: Callable[[Path], None] = lambda draft: None,
    ) -> None:
        super().__init__(path, detail)
        self.content = content
        self.mode = mode
        self.try_out = try_out

    def is_there(self) -> bool:
        if self.path.is_symlink() or not self.path.is_file() or self.path.read_bytes() != self.content:
            return False
        self.path.chmod(self.mode)
        return True

    def make(self, draft: Path) -> None:
        with open(draft, "xb") as file:
            file.write(self.content)
            os.fchmod(file.fileno(), self.mode)
            file.flush()
            os.fsync(file.fileno())
        self.try_out(draft)


def put_in_place(parts: list[Part]) -> None:
    """Put all in place, and say so. The folders that are missing are made; none of them stays if it remains empty."""
    folders = list(dict.fromkeys(part.path.parent for part in parts))
    for folder in folders:
        check_folder(folder)
    made: list[Path] = []
    try:
        for folder in folders:
            made += _make_folder(folder)
        for part in parts:
            with Doing(f"installing {part.path}"):
                output.say(f"{part.path!s:<40} {part.put():<9} {part.detail}")
        for folder in folders:
            _sync(folder)
    finally:
        for folder in reversed(made):
            with suppress(OSError):  # something is in it
                folder.rmdir()


def check_folder(folder: Path, runs: bool = False) -> None:
    """Refuse a folder that cannot be written to, or run from. Of one that is missing, the one that it will be in."""
    existing = folder
    while not os.path.lexists(existing):
        existing = existing.parent
    if not existing.is_dir():
        raise click.ClickException(f"{existing} is not a directory")
    flags = os.statvfs(existing).f_flag
    if runs and flags & os.ST_NOEXEC:
        raise click.ClickException(f"{folder} is on a file system mounted noexec: nothing could run from there")
    if flags & os.ST_RDONLY:
        raise click.ClickException(f"{folder} is on a file system mounted read-only")
    if not os.access(existing, os.W_OK | os.X_OK, effective_ids=True):
        root = "" if os.geteuid() == 0 else "; run it as root"
        raise click.ClickException(f"{existing}: permission denied{root}")


def _make_folder(folder: Path) -> list[Path]:
    """Make the folder and the missing ones above it with mode 0755, also under another umask; returns those it made."""
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        with Doing(f"making folder {each}"):
            each.mkdir()
            each.chmod(0o755)
    return missing[::-1]


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
