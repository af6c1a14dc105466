"""The commands' output. A command carries on when nobody reads it: `cnibox repair | head -1` repairs everything."""

from __future__ import annotations

import os
import shutil
import sys

_lost: list[OSError] = []
"""The first error of writing to stdout; after it nothing more is written."""


class OutputLost(Exception):
    """stdout took no more, for the reason `error`: the command has done its work, but not all of it was said."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot write to stdout: {error.strerror}")
        self.error = error


def prepare() -> None:
    """Have streams where stdout and stderr are closed, too: writing to them fails like writing to a full disk."""
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)


def say(text: str) -> None:
    """A line on stdout."""
    if not _lost:
        try:
            sys.stdout.write(f"{printable(text)}\n")
            sys.stdout.flush()
        except OSError as error:
            _lost.append(error)


def complain(text: str) -> None:
    """A line on stderr, if there is one."""
    try:
        sys.stderr.write(f"{printable(text)}\n")
        sys.stderr.flush()
    except OSError:
        _drop(2)


def finish() -> None:
    """Write what is left; OutputLost unless all of stdout was written."""
    try:
        sys.stdout.flush()
    except OSError as error:
        _lost.append(error)
    if _lost:
        _drop(1)
        raise OutputLost(_lost[0])


def _drop(fd: int) -> None:
    """Let go of what is still in a stream's buffer: the interpreter's end would try to write it, and fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), fd)


def width() -> int:
    """The columns of the terminal; 80 if stdout is none, unless COLUMNS says more or less."""
    return max(shutil.get_terminal_size().columns, 40)


def printable(text: str) -> str:
    """Text for a terminal: names come from files, and could hold its control sequences."""
    return "".join(each if each.isprintable() or each == "\n" else "?" for each in text)


def shortened(container_ids: set[str]) -> dict[str, str]:
    """Each container ID cut to what is unique among these, but to no less than 12 characters, as runtimes do."""
    ordered = sorted(container_ids)
    neighbours = zip(["", *ordered], ordered, [*ordered[1:], ""], strict=False)
    return {it: it[: max(12, 1 + _same(it, before), 1 + _same(it, after))] for before, it, after in neighbours}


def _same(one: str, other: str) -> int:
    """How many characters two texts have in common at their beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (mine, yours) in pairs if mine != yours), min(len(one), len(other)))
