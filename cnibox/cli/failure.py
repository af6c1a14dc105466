"""Whatever a command failed with becomes one line, `cnibox COMMAND: what, why, what to do`, and an exit status."""

from __future__ import annotations

import errno
import os
import sys
import traceback

from ..plugin import as_cni_error
from ..spec.errors import CniError
from . import output

FAILED = 1
WRONG_USAGE = 2
INTERRUPTED = 130
"""128 and the number of SIGINT, as the shell has it."""


def report(command: str, error: BaseException) -> int:
    """Say on stderr what went wrong, with CNIBOX_DEBUG=1 also where; the return value is the exit status."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else FAILED if error.code else 0
    if os.environ.get("CNIBOX_DEBUG") == "1":
        output.complain("".join(traceback.format_exception(error)).rstrip("\n"))
    error = _of_stdout(error)
    if isinstance(error, output.OutputLost) and isinstance(error.error, BrokenPipeError):
        return FAILED  # the reader, such as head, has closed the pipe
    text, status = _explained(command, error)
    output.complain(f"{f'cnibox {command}'.rstrip()}: {' '.join(text.split())}")
    return status


def _of_stdout(error: BaseException) -> BaseException:
    """What has failed is stdout if it still does: click writes its help there by itself."""
    if isinstance(error, OSError):
        try:
            output.finish()
        except output.OutputLost as lost:
            return lost
    return error


def _explained(command: str, error: BaseException) -> tuple[str, int]:
    """What to say, and the exit status."""
    exceptions = sys.modules.get("click.exceptions")  # if that could be imported
    if isinstance(error, KeyboardInterrupt) or (exceptions and isinstance(error, exceptions.Abort)):
        return "interrupted", INTERRUPTED
    if exceptions and isinstance(error, exceptions.UsageError):
        topic = "" if command == "help" else command
        return f"{error.format_message().rstrip('.')}; see: cnibox help {topic}".rstrip(), WRONG_USAGE
    if exceptions and isinstance(error, exceptions.ClickException):
        return error.format_message(), FAILED
    if isinstance(error, ImportError) and not (error.name or "").startswith("cnibox"):
        return f"{error}; {_about_missing(error.name or '')}", FAILED
    return why(error), FAILED


def why(error: BaseException) -> str:
    """What went wrong with the machine or in cnibox, why, and what to do."""
    text = str(error) if isinstance(error, output.OutputLost) else str(as_cni_error(error))
    advice = _advice(error)
    return f"{text}; {advice}" if advice and advice not in text else text


def _about_missing(module: str) -> str:
    if module.partition(".")[0] == "click":
        return "run dist/cnibox, which packaging/build makes and which has it, or: pip install click"
    return "the commands need Python's whole standard library (Debian: apt install python3); the plugins do not"


def _advice(error: BaseException) -> str:
    """What to do about an error of the system, which may have become one of ours meanwhile."""
    cause: BaseException | None = error
    while isinstance(cause, CniError):
        cause = cause.__context__
    number = cause.errno if isinstance(cause, OSError) else None
    if number in (errno.EACCES, errno.EPERM):
        return "run it as root" if os.geteuid() else "root of a user namespace or a container may not do this"
    if number in (errno.ENOSPC, errno.EDQUOT):
        return "free some space there"
    return ""
