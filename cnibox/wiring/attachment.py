"""A plugin's part in an attachment: written down by ADD, so that DEL and GC need no more than the attachment's name."""

from __future__ import annotations

import errno

from .. import record
from ..host.journal import HostError
from ..plugin import Attempts, Plugin
from ..record import Record
from ..spec import errors
from ..spec.errors import CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..host.namespace import Machine, Namespace
    from ..spec.request import Request

NOT_A_NAMESPACE = (errno.ENOENT, errno.EINVAL, errno.ENOTDIR, errno.EACCES)
"""Of a path that led to one: a plain file is left where a namespace was mounted before a reboot."""


class AttachmentPlugin(Plugin):
    """A plugin that changes a container's network: its namespace, and DEL and GC of what `remember` wrote down."""

    sandbox: Namespace

    def __init__(self, name: str, request: Request, machine: Machine) -> None:
        super().__init__(name, request, machine)
        if request.command in ("ADD", "STATUS"):
            for what, derived in self.derived_names():
                request.require_fits(what, derived)

    # --- what a plugin says about itself

    def derived_names(self) -> list[tuple[str, str]]:
        """Names of files and chains that ADD makes, each with what makes it long: NETWORK_NAME or CONTAINER_ID."""
        return self.record().file_names()

    def delete_recorded(self, attempt: Attempts, found: Record, sandbox: Namespace | None) -> None:
        """Take away what the record tells of; `sandbox` is None when the container's namespace is not there."""

    def delete_unrecorded(self, attempt: Attempts, sandbox: Namespace | None) -> None:
        """Take away what a Go plugin made; `sandbox` is None when the container's namespace is not there."""

    def collect(self, attempt: Attempts, valid: set[tuple[str, str]]) -> None:
        """Take away what is recorded nowhere, and belongs to this network and to no valid attachment."""

    @staticmethod
    def repair(machine: Machine, found: Record) -> list[str]:
        """Put back what a living attachment's record tells of and somebody flushed; what that was, in words."""
        return []

    # --- the container's namespace

    def open_sandbox(self) -> Namespace:
        """The container's namespace; CniError 8 when it is not there."""
        try:
            return self.machine.open(self.request.netns)
        except HostError as error:
            advice = "CNI_NETNS must be the path of a network namespace"
            raise CniError(errors.INVALID_NETNS, str(error), advice) from None

    def find_sandbox(self) -> Namespace | None:
        """The container's namespace, or None when it is gone, as for a DEL it may be."""
        if not self.request.netns:
            return None
        try:
            return self.machine.open(self.request.netns)
        except HostError as error:
            if error.errno in NOT_A_NAMESPACE:
                return None
            raise

    # --- the record

    def remember(self, **facts: Any) -> None:
        """Write down, before it is made, what DEL will have to take away, beside where it is made."""
        self.machine.journal.why = "type"
        self.record(netns=self.request.netns, namespace=self.sandbox.identity, **facts).write(self.machine)

    def record(self, **facts: Any) -> Record:
        return Record(self.request.container_id, self.request.ifname, self.request.name, self.name, facts)

    # --- DEL and GC

    def delete(self) -> None:
        """Take the attachment away: with what the record tells, else with what a Go plugin's names tell."""
        attempt = Attempts()
        found = attempt(record.of, self.request, self.name)
        if found is not None and found.network != self.request.name:
            self.request = self.request.renamed(found.network)  # the network was renamed since
        self.delete_attachment(attempt, found)
        if found is not None and not attempt.failures:
            attempt(found.remove, self.machine)
        record.remove_folder(self.request.container_id)
        attempt.finish()

    def delete_attachment(self, attempt: Attempts, found: Record | None) -> None:
        sandbox = attempt(self.find_sandbox)
        if found is not None:
            is_same = sandbox is not None and found.facts.get("namespace") in (None, sandbox.identity)
            # With an empty CNI_NETNS the namespace may live on, and in it what ADD made.
            self.delete_recorded(attempt, found, sandbox if is_same else attempt(namespace_of, self.machine, found))
            return
        # A path may lead to another container's namespace by now, of which this DEL must not take anything.
        mine = self.request.container_id, self.request.ifname
        if sandbox is not None and attempt(record.is_anothers, sandbox.identity, *mine):
            sandbox = None
        self.delete_unrecorded(attempt, sandbox)

    def gc(self, valid: set[tuple[str, str]]) -> None:
        attempt = Attempts()
        self.machine.journal.why = "cni.dev/valid-attachments"
        for found in attempt(record.all_of, self.request.name, self.name) or ():
            if (found.container_id, found.ifname) not in valid:
                before = len(attempt.failures)
                self.delete_recorded(attempt, found, namespace_of(self.machine, found))
                if len(attempt.failures) == before:
                    attempt(found.remove, self.machine)
        self.collect(attempt, valid)
        attempt.finish()


def namespace_of(machine: Machine, found: Record) -> Namespace | None:
    """The namespace in which a recorded ADD worked, unless it is gone or its path leads to another by now."""
    path = found.facts.get("netns")
    try:
        sandbox = machine.open(path) if isinstance(path, str) else None
    except HostError:
        return None
    if sandbox is not None and sandbox.identity != found.facts.get("namespace"):
        sandbox.close()
        return None
    return sandbox
