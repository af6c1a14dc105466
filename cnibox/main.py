"""Which of its names was the file started by? Becomes that plugin, or the operator's commands."""

from __future__ import annotations

import posix
import sys

from .registry import PLUGINS, no_such

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

MAX_LINKS = 40
"""As many symlinks as the kernel follows (path_resolution(7))."""


def main(program: str, arguments: list[str], operator: Callable[[], int]) -> int:
    """Run what we were started as; the return value is the exit status.

    `program` is the path by which we were started. `operator` runs the operator's commands with the arguments
    of `sys.argv`.
    """
    name, rest = plugin_meant(program, arguments)
    if name and ("--help" not in rest or _by_runtime()):
        from .skel import run

        return run(name, program, rest)
    if not name and _by_runtime() and not arguments:
        return _refuse_runtime(program)
    if not name and _is_stray(program):
        sys.stderr.write(f"{_no_plugin(program)}\nThe commands for people are under the name cnibox.\n")
        return 1
    _prepare_commands()
    return operator()


def _prepare_commands() -> None:
    """Ctrl-C ends a command while it is still being imported; and no file that is opened becomes its stdout."""
    import _signal  # type: ignore[import-not-found]

    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    for fd in range(3):
        try:
            posix.fstat(fd)
        except OSError:
            posix.open("/dev/null", posix.O_RDONLY)  # gets the lowest number, this one; writing to it fails


def _by_runtime() -> bool:
    return bool(posix.environ.get(b"CNI_COMMAND"))


def plugin_meant(program: str, arguments: list[str]) -> tuple[str, list[str]]:
    """The plugin that a command line means, and its own arguments; ("", arguments) for none."""
    name = plugin_called(program)
    if not name and arguments and arguments[0] in PLUGINS:
        return arguments[0], arguments[1:]
    return name, arguments


def plugin_called(program: str) -> str:
    """The plugin that a path means, by its name or by the first known name along its chain of symlinks; or ""."""
    for _ in range(MAX_LINKS):
        name = _basename(program)
        if name in PLUGINS:
            return name
        target = _readlink(program)
        if not target or name.startswith("cnibox"):
            break
        program = target if target.startswith("/") else program[: -len(name)] + target
    return ""


def _is_stray(program: str) -> bool:
    """A symlink to us under a name that is neither a plugin's nor ours, such as a misspelt `brigde`.

    A file is no stray: whoever renames their copy of cnibox means cnibox.
    """
    return not _basename(program).startswith("cnibox") and bool(_readlink(program))


def _refuse_runtime(program: str) -> int:
    # Code 7, not 4: the runtime took this name from the configuration's "type"; its environment is all right.
    from . import log
    from .skel import log_failure
    from .spec.errors import INVALID_CONFIG, CniError
    from .spec.jsontext import encode

    error = CniError(INVALID_CONFIG, _no_plugin(program), 'the "type" of the network configuration must name a plugin')
    log.configure(posix.environ, _basename(program))
    if log.requested():
        log_failure(error, b"", 0.0)
    sys.stdout.write(encode(error.as_object(), indent=4))
    sys.stdout.flush()
    return 1


def _no_plugin(program: str) -> str:
    return no_such(_basename(program))


def _basename(path: str) -> str:
    return path.rpartition("/")[2]


def _readlink(path: str) -> str:
    try:
        return posix.readlink(path)
    except (OSError, ValueError):
        return ""
