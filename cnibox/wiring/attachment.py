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

NOT_A_NAMESPACE = (errno.ENOENT, errno.EINVAL, errno.ENOTDIR)
"""Of a path that led to one: a plain file is left where a namespace was mounted before a reboot."""


class AttachmentPlugin(Plugin):
    """A plugin that changes a container's network: its namespace, and DEL and GC of what `remember` wrote down."""

    address_fact = ""
    """The fact of its records that lists the container's addresses, if one does."""
    sandbox: Namespace
    state_folders = (record.STATE,)

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

    def recorded(self) -> Record | None:
        """The record of this attachment, unless another plugin's ADD has attached the container since."""
        record_of_add = record.of(self.request, self.name)
        return None if record_of_add is None or self._is_outdated(record_of_add) else record_of_add

    def _is_outdated(self, record_of_add: Record) -> bool:
        """Whether prevResult is of a later attachment: a Go plugin's DEL does not remove the record, nor its ADD."""
        result, facts = self.request.previous, record_of_add.facts
        if result is None:
            return False
        names = [interface.name for interface in result.interfaces if not interface.sandbox]
        host_interface = facts.get("hostInterface")
        if names and isinstance(host_interface, str) and host_interface not in names:
            return True
        texts = facts.get(self.address_fact)
        before = {str(text).partition("/")[0] for text in texts} if isinstance(texts, list) else set()
        now = {str(ip.address.address) for ip in result.ips}
        return bool(before and now) and before.isdisjoint(now)

    # --- DEL and GC

    def delete(self) -> None:
        """Take the attachment away: with what the record tells, else with what a Go plugin's names tell.

        The container's lock is held until the record has gone: a repair must not put back what is being deleted.
        """
        container_id = self.request.container_id
        lock = record.lock_of(container_id)
        record_of_add = record.of(self.request, self.name)  # one that cannot be read is not one that is not there
        if record_of_add is not None and record_of_add.network != self.request.name:
            self.request = self.request.renamed(record_of_add.network)  # the network was renamed since
        attempt = Attempts()
        self.delete_attachment(attempt, record_of_add)
        if record_of_add is not None and not attempt.failures:
            attempt(record_of_add.remove, self.machine)
        attempt(record.remove_drafts, self.machine, container_id, self.request.ifname, self.name)
        record.remove_folder(container_id)
        if lock is not None:
            lock.release()
        attempt.finish()

    def delete_attachment(self, attempt: Attempts, found: Record | None) -> None:
        sandbox = attempt(self.find_sandbox)
        if found is not None:
            is_same = sandbox is not None and found.facts.get("namespace") in (None, attempt(_identity, sandbox))
            # With an empty CNI_NETNS the namespace may live on, and in it what ADD made.
            self.delete_recorded(attempt, found, sandbox if is_same else attempt(namespace_of, self.machine, found))
            if not self._is_outdated(found):
                return
        # A path may lead to another container's namespace by now, of which this DEL must not take anything.
        mine = self.request.container_id, self.request.ifname
        if sandbox is not None and attempt(_is_anothers, sandbox, *mine) is not False:
            sandbox = None
        self.delete_unrecorded(attempt, sandbox)

    def gc(self, valid: set[tuple[str, str]]) -> None:
        attempt = Attempts()
        self.machine.journal.why = "cni.dev/valid-attachments"
        for each in record.all_of(self.request.name, self.name):
            if (each.container_id, each.ifname) not in valid:
                attempt(self._collect_recorded, attempt, each)
        for container_id, ifname in record.drafts(self.request.name, self.name):
            if (container_id, ifname) not in valid:
                attempt(record.remove_drafts, self.machine, container_id, ifname, self.name)
                record.remove_folder(container_id)
        attempt(record.remove_empty_folders)
        self.collect(attempt, valid)
        attempt.finish()

    def _collect_recorded(self, attempt: Attempts, listed: Record) -> None:
        lock = record.lock_of(listed.container_id)
        if lock is None:
            return
        with lock:
            current = listed.again()  # a DEL may have been faster
            if current is None:
                return
            before = len(attempt.failures)
            sandbox = namespace_of(self.machine, current)
            self.delete_recorded(attempt, current, sandbox)
            if sandbox is not None:
                attempt(sandbox.close)
            if len(attempt.failures) == before:
                attempt(current.remove, self.machine)


def namespace_of(machine: Machine, found: Record) -> Namespace | None:
    """The namespace in which a recorded ADD worked; None when it is gone, or its path leads to another by now.

    HostError when that cannot be told: then nothing of the attachment may be taken for dead.
    """
    path = found.facts.get("netns")
    if not isinstance(path, str):
        return None
    try:
        sandbox = machine.open(path)
    except HostError as error:
        if error.errno in NOT_A_NAMESPACE:
            return None
        raise
    if sandbox.identity != found.facts.get("namespace"):
        sandbox.close()
        return None
    return sandbox


def _identity(sandbox: Namespace) -> int:
    return sandbox.identity


def _is_anothers(sandbox: Namespace, container_id: str, ifname: str) -> bool:
    return record.is_anothers(sandbox.identity, container_id, ifname)
