"""A plugin that calls another: in this process if the name found first on CNI_PATH is us, by exec if not.

Protocol: CNI specification, section 4 (execution of delegated plugins).
"""

from __future__ import annotations

import errno
import posix
import time

from . import log, registry
from .host.journal import word
from .host.process import Process
from .spec import errors
from .spec.errors import CniError
from .spec.jsontext import decode
from .spec.result import Result

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .host.namespace import Machine
    from .plugin import Plugin
    from .spec.request import Request

BUSY_LIMIT = 5.0
"""Seconds for which a plugin file that is just being written (ETXTBSY) is tried again, as in the reference."""
NOT_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EACCES)
"""Who may not look into a folder of CNI_PATH takes the next one, as in the reference."""


class Delegate:
    """The plugin `name`, asked with the caller's own request: the same configuration, container and environment."""

    def __init__(self, name: str, request: Request, machine: Machine) -> None:
        self.name = name
        self.request = request
        self.machine = machine
        self.path = find(name, request.path)
        self.plugin = self._ourselves()

    @property
    def in_process(self) -> bool:
        return self.plugin is not None

    def _ourselves(self) -> Plugin | None:
        if self.name not in registry.PLUGINS or not _same_file(self.path, self.machine.program):
            return None
        plugin: Plugin = registry.load(self.name)(self.name, self.request, self.machine)
        return plugin

    def add(self) -> Result:
        """ADD; undone, by its own journal or by its DEL, when the caller fails later."""
        if self.plugin is not None:
            return self.plugin.add()
        return self.machine.journal.run(f"CNI_COMMAND=ADD {word(self.path)}", self._exec_add, lambda: self._exec("DEL"))

    def _exec_add(self) -> Result:
        # A delegate's ADD that fails may have left something: the specification asks its caller for a DEL.
        try:
            output = self._exec("ADD")
            return _result(self.name, output, self.request.version)
        except CniError:
            try:
                self._exec("DEL")
            except CniError as failure:
                log.warning(f"cleaning up after {self.name}: {failure}")
            raise

    def check(self) -> None:
        self.plugin.check() if self.plugin is not None else self._exec("CHECK")

    def delete(self) -> None:
        if self.plugin is not None:
            self.plugin.delete()
        else:
            self.machine.journal.run(f"CNI_COMMAND=DEL {word(self.path)}", lambda: self._exec("DEL"))

    def status(self) -> None:
        self.plugin.status() if self.plugin is not None else self._exec("STATUS")

    def gc(self, valid: set[tuple[str, str]]) -> None:
        if self.plugin is not None:
            self.plugin.gc(valid)
        else:
            self.machine.journal.run(f"CNI_COMMAND=GC {word(self.path)}", lambda: self._exec("GC"))

    def _exec(self, command: str) -> bytes:
        """Run the plugin's file; its stdout, or the error that it or its end tells."""
        status, output, complaint = self._start(command).finish()
        if complaint:
            log.raw(complaint)
        if status != 0:
            raise _failure(self.name, status, output, complaint)
        return output

    def _start(self, command: str) -> Process:
        netns = self.request.netns.encode("utf-8", "surrogateescape")  # empty where the skeleton took it for gone
        environ = {**posix.environ, b"CNI_COMMAND": command.encode(), b"CNI_NETNS": netns}
        started = time.monotonic()
        while True:
            try:
                return Process([self.path], self.request.stdin, environ, interruptible=True)
            except OSError as error:
                if error.errno != errno.ETXTBSY or time.monotonic() - started > BUSY_LIMIT:
                    raise CniError(errors.INTERNAL, f"cannot run plugin {self.path}: {error.strerror}") from None
                time.sleep(0.05)


def find(name: str, path: list[str]) -> str:
    """The first regular file of that name in the folders of CNI_PATH; CniError when there is none."""
    if not name:
        raise CniError(errors.INVALID_CONFIG, "no plugin name provided", "ipam.type is missing")
    if "/" in name or "\0" in name or name in (".", ".."):
        raise CniError(errors.INVALID_CONFIG, f"invalid plugin name: {name}", "it must be a bare file name")
    if not path:
        raise CniError(errors.INVALID_ENVIRONMENT, "no paths provided", "CNI_PATH is empty")
    for folder in path:
        candidate = f"{folder}/{name}"
        try:
            if posix.stat(candidate).st_mode & 0o170000 == 0o100000:
                return candidate
        except ValueError:
            continue
        except OSError as error:
            # The next folder may have another plugin of this name.
            if error.errno not in NOT_THERE:
                text = f'looking for plugin "{name}" in {folder}: {error.strerror}'
                raise CniError(errors.INTERNAL, text, "CNI_PATH names that folder") from None
    text = f'failed to find plugin "{name}" in path [{" ".join(path)}]'
    advice = "CNI_PATH must name the folder that holds it; "
    advice += "`cnibox install DIR` puts it there" if name in registry.PLUGINS else registry.no_such(name)
    raise CniError(errors.INTERNAL, text, advice)


def _same_file(path: str, program: str) -> bool:
    try:
        theirs, ours = posix.stat(path), posix.stat(program)
    except OSError:
        return False
    return (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino)


def _result(name: str, output: bytes, version: str) -> Result:
    try:
        found = decode(output.decode())
    except ValueError as error:
        raise CniError(errors.DECODING_FAILURE, f"the result of plugin {name} is not JSON: {error}") from None
    own = found.get("cniVersion") if isinstance(found, dict) else None
    try:
        return Result.from_object(found, own if isinstance(own, str) and own else version)
    except CniError as error:
        raise error.within(f"the result of plugin {name}") from None


def _failure(name: str, status: int, output: bytes, complaint: bytes) -> CniError:
    """The delegate's own error object as it is; or what is known of an end without one (spec section 4)."""
    ended = f"killed by signal {-status}" if status < 0 else f"exit status {status}"
    if not output.strip():
        if not complaint.strip():
            return CniError(0, f"netplugin failed with no error message: {ended}", f"plugin {name}")
        text = complaint.decode(errors="replace").strip()
        return CniError(0, f'netplugin failed: "{text}": {ended}', f"plugin {name}")
    shown = output[:500].decode(errors="replace")
    try:
        found = decode(output.decode())
    except ValueError as error:
        text = f'netplugin failed but error parsing its diagnostic message "{shown}": {error}'
        return CniError(0, text, f"plugin {name}: {ended}")
    members = found if isinstance(found, dict) else {}
    code, words, details = members.get("code"), members.get("msg"), members.get("details")
    if not isinstance(code, int) or isinstance(code, bool):
        code = 0
    if not isinstance(words, str) or not words:  # no error object: it was killed after its result, say
        return CniError(code, f'netplugin failed: "{shown}"', f"plugin {name}: {ended}")
    return CniError(code, words, details if isinstance(details, str) else "")
