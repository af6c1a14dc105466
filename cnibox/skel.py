"""One exec of one plugin: request in, result or error out.

The only reader of stdin and the only writer of stdout. What every plugin has in common stands here: the verbs, the
namespace guard, undo after a failed ADD, signals, errors.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import errno
import posix
import time

from . import __version__, log, registry
from .host import files
from .host.namespace import OWN, Machine
from .plugin import as_cni_error
from .spec import errors
from .spec.errors import CniError
from .spec.jsontext import decode, encode, member
from .spec.request import Request
from .spec.versions import CURRENT, SUPPORTED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .host.journal import Operation
    from .plugin import Plugin
    from .spec.result import Result

REFERENCE = "1.9.1"
"""The release of the Go reference whose options and behaviour we have. nerdctl reads it from the bare run: 1.7.1 and
newer have the firewall's isolation. Our own version follows it as semver's build metadata, which orders nothing."""

NO_PATH = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES)
"""Nothing can be opened by such a path either."""
HELD_SIGNALS = (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP)


def run(name: str, program: str, arguments: list[str]) -> int:
    """Be the plugin `name` for one exec; the return value is the exit status.

    `program` is the path by which we were started: a delegate at the same file runs in this process.
    """
    environ = posix.environ
    started = time.perf_counter()
    stdin = b""

    def read_stdin() -> bytes:
        nonlocal stdin
        stdin = _read_stdin()
        return stdin

    _signal.signal(_signal.SIGINT, _signal.SIG_DFL)  # Python would raise an exception in the midst of something
    log.configure(environ, name)
    try:
        explain = _explains(arguments)
        request = Request.from_environment(environ, read_stdin)
        if request is None:
            _write(2, _about(name))
            return 0
        if request.command == "VERSION":
            _write(1, encode({"cniVersion": CURRENT, "supportedVersions": list(SUPPORTED)}) + "\n")
            return 0
        _signal.pthread_sigmask(_signal.SIG_BLOCK, HELD_SIGNALS)
        _perform(name, request, Machine(program), explain)
        return 0
    except BaseException as error:
        if log.requested():
            log_failure(error, stdin, time.perf_counter() - started)
        return _report(error)
    finally:
        _signal.pthread_sigmask(_signal.SIG_UNBLOCK, HELD_SIGNALS)


def _perform(name: str, request: Request, machine: Machine, explain: bool) -> None:
    _guard_namespace(request)
    if explain or log.enabled(b"debug"):
        machine.journal.listener = _explain if explain else _trace
    plugin = registry.load(name)(name, request, machine)
    if request.command == "ADD":
        _add(plugin)
    elif request.command == "CHECK":
        plugin.check()
    elif request.command == "DEL":
        plugin.delete()
    elif request.command == "STATUS":
        report_status(plugin)
    elif request.valid_attachments is not None:
        plugin.gc(set(request.valid_attachments))


def _add(plugin: Plugin) -> None:
    """ADD, all or nothing: a result that cannot be printed undoes the attachment as well."""
    try:
        result = plugin.add()
        _write(1, encode(_in_version(result, plugin.request), indent=4))
    except BaseException:
        for failure in plugin.machine.journal.undo():
            log.error(f"while undoing a failed ADD: {failure}")
        raise


def _in_version(result: Result, request: Request) -> dict[str, object]:
    try:
        return result.to_object(request.version)
    except CniError as error:
        raise error.advising(request.version_advice) from None


def report_status(plugin: Plugin) -> None:
    """What would make an ADD fail is 50, unless its code tells more: wrong input, or what a delegate says itself."""
    try:
        plugin.status()
        for folder in plugin.state_folders:
            files.require_writable(folder)
    except (CniError, OSError) as error:
        found = as_cni_error(error)
        if found.code not in (0, errors.INTERNAL, errors.IO_FAILURE):
            raise
        raise CniError(errors.PLUGIN_UNAVAILABLE, found.msg, found.details) from None


def _guard_namespace(request: Request) -> None:
    """Refuse the plugin's own namespace before any work; the reference notices when the host is already rewired.

    For a DEL the container's namespace has gone then: /proc/<pid>/ns/net leads to the host's when another process has
    the container's process ID. Nothing of the host's namespace may be deleted.
    """
    if request.netns_override or request.command not in ("ADD", "DEL", "CHECK") or not request.netns:
        return
    try:
        theirs, ours = posix.stat(request.netns), posix.stat(OWN)
    except ValueError:
        return  # whoever needs it will say what is wrong with it
    except OSError as error:
        if error.errno in NO_PATH:
            return  # the same
        # The next look may succeed, and show the host's.
        text = f"looking at network namespace {request.netns}: {error.strerror}"
        raise CniError(errors.INVALID_NETNS, text) from None
    if (theirs.st_dev, theirs.st_ino) != (ours.st_dev, ours.st_ino):
        return
    if request.command == "DEL":
        log.warning(f"CNI_NETNS={request.netns} is the namespace of the host by now: the container's has gone")
        request.netns = ""
    else:
        raise CniError(
            errors.INVALID_NETNS,
            "plugin's netns and netns from CNI_NETNS should not be the same",
            f"{request.netns} is the namespace of the host; give the container's, or set CNI_NETNS_OVERRIDE=1",
        )


def _report(error: BaseException) -> int:
    if posix.environ.get(b"CNIBOX_DEBUG") == b"1":
        import traceback

        _write(2, "".join(traceback.format_exception(error)))
    try:
        _write(1, encode(as_cni_error(error).as_object(), indent=4))
    except OSError:
        _write(2, f"{as_cni_error(error)}\n")  # stdout is gone
    return 1


def log_failure(error: BaseException, stdin: bytes, seconds: float) -> None:
    """One line with the error, and what is known of the request: it may be the very thing that is wrong."""
    facts = []
    for word, variable in (("container", b"CNI_CONTAINERID"), ("interface", b"CNI_IFNAME"), ("netns", b"CNI_NETNS")):
        value = posix.environ.get(variable, b"").decode(errors="replace")
        if value:
            facts.append(f"{word}={value}")
    try:
        config = decode(stdin.decode())
    except ValueError:
        config = None
    network = member(config, "name") if isinstance(config, dict) else None
    if isinstance(network, str):
        facts.insert(0, f"network={network}")
    verb = posix.environ.get(b"CNI_COMMAND", b"-").decode(errors="replace")
    failure = as_cni_error(error)
    log.error(f"{verb} failed after {seconds * 1e3:.1f} ms: {' '.join(facts)} code={failure.code}: {failure}")


def _explains(arguments: list[str]) -> bool:
    for argument in arguments:
        if argument != "--explain":
            text = f"unknown argument {argument!r}; the verb comes in CNI_COMMAND, the configuration on stdin"
            raise CniError(errors.INVALID_ENVIRONMENT, text)
    return bool(arguments)


def _explain(operation: Operation) -> None:
    _write(2, f"{operation.say:<90}  # {operation.why or '-'}\n")


def _trace(operation: Operation) -> None:
    log.debug(f"{operation.seconds * 1e3:.3f} ms  {operation.say}")


def _about(name: str) -> str:
    versions = ", ".join(SUPPORTED)
    return f"CNI {name} plugin v{REFERENCE}+cnibox.{__version__}\nCNI protocol versions supported: {versions}\n"


def _read_stdin() -> bytes:
    parts = []
    while part := posix.read(0, 65536):
        parts.append(part)
    return b"".join(parts)


def _write(fd: int, text: str) -> None:
    with files.Doing(f"writing to {'stdout' if fd == 1 else 'stderr'}"):
        files.write_all(fd, text.encode(errors="surrogateescape"))
