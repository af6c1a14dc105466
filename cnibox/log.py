"""Logging: lines on stderr, or in a file; never on stdout, which belongs to the result.

CNIBOX_LOG=debug|info|warning|error chooses the level (warning when unset), CNIBOX_LOG_FILE=/path a file to append to.
Either of them is enough. A log that cannot be written never fails an operation.
"""

from __future__ import annotations

import errno
import posix
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

LEVELS = {b"debug": 10, b"info": 20, b"warning": 30, b"error": 40}


class _Log:
    level = 30
    fd = 2
    name = "cnibox"
    requested = False
    """Whether either variable is set."""


def configure(environ: Mapping[bytes, bytes], name: str) -> None:
    """Take level and file from the environment. Where the file cannot be opened, stderr says so and gets the lines."""
    _Log.name = name
    level = environ.get(b"CNIBOX_LOG")
    path = environ.get(b"CNIBOX_LOG_FILE")
    _Log.requested = bool(level or path)
    if level:
        _Log.level = LEVELS.get(level.lower(), 30)
        if level.lower() not in LEVELS:
            warning(f"CNIBOX_LOG={level.decode(errors='replace')}: the levels are debug, info, warning, error")
    if path:
        # Not through a symlink: this is root, and the folder may be /tmp. Not blocking: a FIFO may have no reader.
        flags = posix.O_WRONLY | posix.O_APPEND | posix.O_CREAT | posix.O_CLOEXEC | posix.O_NOFOLLOW | posix.O_NONBLOCK
        try:
            _Log.fd = posix.open(path, flags, 0o600)
        except OSError as error:
            reason = "it is a symlink" if error.errno == errno.ELOOP else error.strerror
            warning(f"CNIBOX_LOG_FILE={path.decode(errors='replace')} cannot be opened for writing: {reason}")


def requested() -> bool:
    """Whether somebody has set up logging. Else a failed operation is not logged: its error is on stdout already."""
    return _Log.requested


def enabled(level: bytes) -> bool:
    """Whether lines of that level are written: lets a caller spare itself the making of an expensive one."""
    return LEVELS[level] >= _Log.level


def debug(text: str) -> None:
    _write(10, "debug", text)


def info(text: str) -> None:
    _write(20, "info", text)


def warning(text: str) -> None:
    _write(30, "warning", text)


def error(text: str) -> None:
    _write(40, "error", text)


def _write(level: int, word: str, text: str) -> None:
    if level < _Log.level:
        return
    if not text.isprintable():  # one line for each message, whatever is in the configuration
        text = "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
    when = f"{time.strftime('%Y-%m-%dT%H:%M:%S')} " if _Log.fd != 2 else ""
    line = f"{when}{_Log.name}[{posix.getpid()}] {word}: {text}\n"
    try:
        posix.write(_Log.fd, line.encode(errors="surrogateescape"))
    except OSError:
        pass  # a full disk, or nobody reads it: no reason to fail an attachment


def raw(text: bytes) -> None:
    """Pass on what a delegate wrote to its stderr, as it is."""
    try:
        posix.write(2, text)
    except OSError:
        pass
