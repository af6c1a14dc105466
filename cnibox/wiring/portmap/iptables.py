"""portmap by iptables: a chain for each container and network in table nat, and entries that lead to it by their ports.

    -A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \"mynet\" id: \"c1\"" -m multiport --dports 8080,8443
        -j CNI-DN-9f9f5e1e1cbd6a3f1ff0e
    -A CNI-DN-9f9f5e1e1cbd6a3f1ff0e -s 10.1.2.3/32 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK
    -A CNI-DN-9f9f5e1e1cbd6a3f1ff0e -s 127.0.0.1/32 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK
    -A CNI-DN-9f9f5e1e1cbd6a3f1ff0e -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.1.2.3:80

The chain's name knows no interface: several attachments of one container to one network, `siblings`, share it.
"""

from __future__ import annotations

from ... import log
from ...host import iptables
from ...host.iptables import Restore
from ...host.journal import HostError
from ...plugin import Attempts
from .. import backends
from ..owner import Owner, chains_named
from . import iptables_shared as shared
from . import iptables_taken as taken
from .iptables_rules import chain_of, entries, rules
from .iptables_shared import DNAT
from .mappings import Published

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ...host.journal import Journal
    from ...host.namespace import Machine

REBUILD_ATTEMPTS = 3
OLD_ENTRIES = "CNI-HOSTPORT-SNAT"  # of the reference before 0.8


# --- ADD and DEL


def add(
    machine: Machine,
    published: Published,
    before: Published | None,
    siblings: list[Published],
    lock: int,
    is_first: bool,
) -> Callable[[], None]:
    """Begin to put the rules in the place of those from `before`; the function returned waits until they are there."""
    iptables.require(published.versions, "nat")
    for version in taken.worth_reading(machine, published):
        taken.require_free(machine, published, version)
    starting = []
    for version in sorted({*published.versions, *(before.versions if before else ())}):
        first, made = _shared(machine, version, published, is_first) if published.of(version) else ([], [])
        lines = _exchange(version, before, published, siblings)
        starting.append(_Change(machine, version, lines, published, before, siblings, lock, first, made))
    running = [change.start() for change in starting]

    def finish() -> None:
        """Wait for all of them; then the first error."""
        refusals: list[HostError] = []
        for change in running:
            try:
                change.finish()
            except HostError as error:
                refusals.append(error)
        if refusals:
            raise refusals[0]

    return finish


def remove(machine: Machine, published: Published, siblings: list[Published]) -> Callable[[], None]:
    """Begin to remove the rules; the function returned waits until they are gone. Some, or all, may be gone already."""
    attempt = Attempts()
    running = []
    for version in published.versions:
        if iptables.program(version, "-restore") is not None:
            lines = _exchange(version, published, None, siblings)
            nothing = Published(published.owner, [], [])
            change = _Change(machine, version, lines, nothing, None, siblings)
            running.append(attempt(change.start))

    def finish() -> None:
        for change in running:
            if change is not None:
                attempt(change.finish)
        attempt.finish()

    return finish


def remove_by_name(machine: Machine, owner: Owner, siblings: list[Published], look: bool) -> None:
    """Remove the container's rules when only names are known. `look`: start a program if only that can find any."""
    attempt, nothing = Attempts(), Published(owner, [], [])
    for version in (4, 6):
        if not backends.look(_has_rules, machine, version, owner, look):
            continue
        attempt(rebuild, version, nothing, siblings, -1, machine.journal)
    attempt.finish()


def collect(machine: Machine, network: str, valid: set[tuple[str, str]]) -> None:
    """Remove the rules of the network's containers that have no valid attachment."""
    attempt = Attempts()
    keep = {chain_of(Owner(network, container_id, "")) for container_id, _ in valid}
    for version in (4, 6):
        there = backends.look(iptables.rules, version, "nat") or []
        for chain in sorted(chains_named(there, "dnat ", network) - keep):
            script = _clearing(there, chain, is_staying=False)
            attempt(iptables.change, machine.journal, version, "nat", script)
    attempt.finish()


# --- CHECK and repair


def missing(machine: Machine, published: Published) -> list[str]:
    """The rules that are not there, in words."""
    found = []
    for version in published.versions:
        lines = iptables.rules(version, "nat")
        there = shared.in_lines(lines)
        own = [rule for rule in rules(published, version) if rule not in there]
        leading = [rule for rule in entries(published, version) if not _is_in(rule, there, published, version)]
        needed = [each for each in shared.wanted(published) if each not in there]
        found += [f"{iptables.NAMES[version]} -t nat {line}" for line in shared.creation(needed)]
        found += [f"{iptables.NAMES[version]} -t nat {line} (too late)" for line in shared.late(published, lines)]
        found += [f"{iptables.NAMES[version]} -t nat -A {rule}" for rule in (*own, *leading)]
    return found


def repair(machine: Machine, published: Published, siblings: list[Published]) -> None:
    """Make all of them anew."""
    for version in published.versions:
        rebuild(version, published, siblings, journal=machine.journal)


def rebuild(
    version: int, published: Published, siblings: list[Published], lock: int = -1, journal: Journal | None = None
) -> list[str]:
    """Whatever there is of the container's rules: afterwards there are those of `published` and of its siblings.

    Returns what was made of that which all share. `journal`: None in an undo, which is an operation as a whole.
    """
    for left in reversed(range(REBUILD_ATTEMPTS)):
        try:
            return _rebuild(version, published, siblings, lock, journal)
        except HostError:
            if not left:
                raise  # else somebody has changed what is shared since we looked
    return []


def _rebuild(
    version: int, published: Published, siblings: list[Published], lock: int, journal: Journal | None
) -> list[str]:
    lines = iptables.rules(version, "nat")
    needed: dict[str, None] = {}
    staying = [each for each in (*siblings, published) if each.of(version)]
    there, script = shared.in_lines(lines), _clearing(lines, chain_of(published.owner), is_staying=bool(staying))
    if staying:
        needed = dict.fromkeys(each for one in staying for each in shared.wanted(one) if each not in there)
        late = [line for one in staying[:1] for line in shared.late(one, lines)]
        script = shared.creation(list(needed)) + late + script + _chain(version, staying)
        script += [f"-A {rule}" for each in staying for rule in entries(each, version)]
    if journal is not None:
        is_there = f":{chain_of(published.owner)}" in there
        iptables.change(journal, version, "nat", script, lock, is_there=is_there)
    elif script:
        Restore(version, "nat", script, lock).finish()
    return list(needed)


def _clearing(lines: list[str], chain: str, *, is_staying: bool) -> list[str]:
    """What removes the entries that lead to a container's chain, and the chain itself unless it is staying."""
    script, there = [], shared.in_lines(lines)
    for each, before in ((chain, DNAT), (chain.replace("-DN-", "-SN-"), OLD_ENTRIES)):
        script += [f"-D {rule}" for rule in _rules_of(lines, before) if rule.endswith(f" -j {each}")]
        if f":{each}" in there and (before != DNAT or not is_staying):
            script += [f"-F {each}", f"-X {each}"]
    return script


class _Change:
    """One iptables-restore that starts from what is known; when that was wrong, another starts from what is there."""

    def __init__(
        self,
        machine: Machine,
        version: int,
        lines: list[str],
        published: Published,
        before: Published | None,
        siblings: list[Published],
        lock: int = -1,
        first: list[str] | None = None,
        made: list[str] | None = None,
    ) -> None:
        self.machine = machine
        self.version = version
        self.lines = lines
        self.published = published
        self.before = before
        self.siblings = siblings
        self.lock = lock
        self.first = first or []
        self.made = [] if made is None else made
        self.is_removal = not published.mappings and before is None

    def start(self) -> _Change:
        is_there = any(each.of(self.version) for each in (*self.siblings, self.before) if each is not None)
        say, journal = iptables.say(self.version, "nat", self.lines, is_there=is_there), self.machine.journal
        _, self.succeeded = journal.begin(say, self._start, None if self.is_removal else self._undo)
        return self

    def _start(self) -> None:
        self.restore = Restore(self.version, "nat", self.first + self.lines, self.lock)

    def finish(self) -> None:
        try:
            self.restore.finish()
            self.succeeded()
        except HostError as error:  # a rule is missing, or another ADD has been faster with what is shared
            log.debug(f"once more from what is there: {error}")
            self.made[:] = rebuild(self.version, self.published, self.siblings, self.lock, self.machine.journal)

    def _undo(self) -> None:
        try:
            self.restore.finish()
        except HostError as error:
            log.debug(f"undo of rules that were refused: {error}")
        rebuild(self.version, self.before or Published(self.published.owner, [], []), self.siblings)


def _exchange(version: int, before: Published | None, after: Published | None, siblings: list[Published]) -> list[str]:
    """The lines that put the rules of `after` in the place of those from `before`."""
    staying = [each for each in (*siblings, after) if each is not None and each.of(version)]
    lines = [f"-D {rule}" for rule in entries(before, version)] if before is not None else []
    if staying:
        lines += _chain(version, staying)
    elif before is not None:
        lines += [f"-F {chain_of(before.owner)}", f"-X {chain_of(before.owner)}"]
    return lines + ([f"-A {rule}" for rule in entries(after, version)] if after is not None else [])


def _chain(version: int, staying: list[Published]) -> list[str]:
    """The container's chain, emptied if it is there, with the rules of all its attachments to the network."""
    return [
        f":{chain_of(staying[0].owner)} - [0:0]",
        *(f"-A {rule}" for each in staying for rule in rules(each, version)),
    ]


def _shared(machine: Machine, version: int, published: Published, is_first: bool) -> tuple[list[str], list[str]]:
    """(lines that make what all share, or assert that it is there; what they make, to be told if it was another).

    It is taken back while nobody else has come to rely on it.
    """
    made = shared.not_there(machine, version, published, is_first)
    first = shared.creation(made) if made is not None else shared.assertion(published)
    made = made or []

    def undo() -> None:
        try:
            if made:
                Restore(version, "nat", shared.removal(made)).finish()
        except HostError as error:
            log.debug(f"it is in use by now, or was never made: {error}")

    if first:
        say = iptables.say(version, "nat", first)
        machine.journal.note(say if made else f"# {say}", undo, shared=True)  # else it has only been looked for
    return first, made


def _has_rules(machine: Machine, version: int, owner: Owner, look: bool) -> bool:
    """Whether the container's chain is there; not `look`: no, where only a program could tell."""
    chains = [chain_of(owner, kind) for kind in ("DN", "SN")]
    if not iptables.is_on_nftables(version):
        there = shared.in_lines(iptables.rules(version, "nat")) if look else set()
        return any(f":{chain}" in there for chain in chains)
    from ...host.nftables_nat import uses_of

    table = shared.table_of(machine, version)
    return any(uses_of(table, chain) >= 0 for chain in chains)


def _rules_of(lines: list[str], chain: str) -> list[str]:
    return [line[3:] for line in lines if line.startswith(f"-A {chain} ")]


def _is_in(entry: str, there: set[str], published: Published, version: int) -> bool:
    """Whether an entry is there; of one with conditions, which iptables writes in its own way, all but these."""
    if not published.conditions.get(version):
        return entry in there
    ports = f" --dports {entry.partition(' --dports ')[2].partition(' ')[0]} "
    target = entry.rpartition(" ")[2]
    return any(rule.startswith(f"{DNAT} ") and ports in rule and rule.endswith(f" -j {target}") for rule in there)
