"""Whose the ports of the host are: an attachment gets none that another living one holds.

An empty file for each port, /run/cnibox/ports/<protocol>:<port>:<container ID>:<ifname>, tells where to look; what is
held stands in the attachment's record. An attachment lives as long as its namespace does, with its interface in it.
"""

from __future__ import annotations

import posix

from ... import record
from ...host import files, links
from ...host.journal import word
from ...record import STATE
from ...spec import errors
from ...spec.errors import CniError
from ..attachment import namespace_of
from .mappings import PORTS_OF_A_MATCH, Published

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ...host.namespace import Machine
    from ...record import Record
    from ..owner import Owner

FOLDER = f"{STATE}/ports"


def take(machine: Machine, wanted: Published, plugin: str, remember: Callable[[], None]) -> list[Record]:
    """Take the ports, or raise CniError 999 that names the holder; `remember` writes the record, under the same lock.

    Returns the dead who held one of them: what is left of their rules is in the way.
    """
    owner = wanted.owner
    record.make_state(machine, FOLDER)
    with files.Lock(FOLDER):
        listing = record.names_in(FOLDER)
        dead = _dead_holders(machine, wanted, plugin, listing)
        remember()
        suffix = _suffix(owner.container_id, owner.ifname)
        before = {name for name in listing if name.endswith(suffix)}
        after = {f"{each.protocol}:{each.host_port}{suffix}" for each in wanted.mappings}
        if before != after:
            commands = [_command("rm -f", before - after)] * bool(before - after)
            commands += [_command("touch", after - before)] * bool(after - before)
            machine.journal.run(" && ".join(commands), lambda: _put(before, after), lambda: _put(after, before))
    return dead


def give_back(machine: Machine, container_id: str, ifname: str) -> None:
    """Give back what an attachment holds; it may hold nothing."""
    suffix = _suffix(container_id, ifname)
    held = {name for name in record.names_in(FOLDER) if name.endswith(suffix)}
    if held:
        machine.journal.run(_command("rm -f", held), lambda: _put(held, set()))


def entries_of_others(owner: Owner) -> int:
    """How many entries of iptables all that is held by others makes at most: one for each 15 ports of a protocol."""
    counts: dict[tuple[str, str], int] = {}
    own = _suffix(owner.container_id, owner.ifname)
    for name in record.names_in(FOLDER):
        protocol, _, rest = name.partition(":")
        holder = rest.partition(":")[2]
        if f":{holder}" != own:
            counts[protocol, holder] = counts.get((protocol, holder), 0) + 1
    return sum(-(-count // PORTS_OF_A_MATCH) for count in counts.values())


def is_first() -> bool:
    """Whether nobody has taken a port since the machine was booted."""
    return not files.exists(FOLDER)


def _dead_holders(machine: Machine, wanted: Published, plugin: str, listing: list[str]) -> list[Record]:
    owner, dead = wanted.owner, []
    ports = {(each.protocol, str(each.host_port)) for each in wanted.mappings}
    others = set()
    for name in listing:
        protocol, port, container_id, ifname = (name.split(":") + [""] * 3)[:4]
        if (protocol, port) in ports and (container_id, ifname) != (owner.container_id, owner.ifname):
            others.add((container_id, ifname))
    for container_id, ifname in sorted(others):
        for found in record.parts(container_id, plugin):
            if found.ifname != ifname:
                continue
            held = Published.recorded(found)
            if not _conflict(wanted, held):
                continue
            if not _is_alive(machine, found):
                dead.append(found)
            elif conflict := _conflict(wanted, held, same_container=container_id == owner.container_id):
                text = f"host port {conflict} is taken by container {found.container_id}"
                text += f" (network {found.network}, interface {found.ifname})"
                raise CniError(
                    errors.INTERNAL, text, "choose another hostPort or hostIP, or delete that container first"
                )
    return dead


def _conflict(wanted: Published, held: Published, *, same_container: bool = False) -> str:
    """The first of the mappings that are wanted which one of those held overlaps; empty if none does.

    podman publishes the same ports with each network of a container: any of them leads to the same server.
    """
    for version in (4, 6):
        held_by_port = held.by_port(version)
        for mine in wanted.of(version):
            for theirs in held_by_port.get((mine.protocol, mine.host_port), ()):
                same = same_container and mine.container_port == theirs.container_port
                if mine.overlaps(theirs, version) and not same:
                    return str(mine)
    return ""


def _is_alive(machine: Machine, found: Record) -> bool:
    """A Go plugin's DEL, which knows of no record, takes the interface away; a flush of the rules does not."""
    namespace = namespace_of(machine, found)
    if namespace is None:
        return False
    try:
        return not found.facts.get("hasLink") or links.find(namespace, found.ifname) is not None
    finally:
        namespace.close()


def _command(verb: str, names: set[str]) -> str:
    return f"{verb} {' '.join(word(f'{FOLDER}/{name}') for name in sorted(names))}"


def longest_name(owner: Owner) -> str:
    """The longest name that a port of this owner can have in the folder."""
    return f"sctp:65535{_suffix(owner.container_id, owner.ifname)}"


def _suffix(container_id: str, ifname: str) -> str:
    return f":{container_id}:{ifname}"


def _put(before: set[str], after: set[str]) -> None:
    with files.Doing(f"writing in {FOLDER}"):
        for name in after - before:
            posix.close(posix.open(f"{FOLDER}/{name}", posix.O_WRONLY | posix.O_CREAT | files.SAFE, 0o600))
        for name in before - after:
            try:
                posix.unlink(f"{FOLDER}/{name}")
            except FileNotFoundError:
                pass
