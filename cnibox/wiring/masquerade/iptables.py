"""Masquerading by iptables: a chain for each container and network in table nat, and a jump to it for each address.

    -A POSTROUTING -s 10.1.2.3 -j CNI-a631aa8e1549a3b129110fd2
    -A CNI-a631aa8e1549a3b129110fd2 -d 10.1.2.0/24 -j ACCEPT
    -A CNI-a631aa8e1549a3b129110fd2 ! -d 224.0.0.0/4 -j MASQUERADE

With several addresses, every ACCEPT is before the MASQUERADE: behind it, as in the reference, it has no effect.

All with the comment `name: "<network>" id: "<container ID>"`. The chain's name knows no interface: two attachments of
one container to one network share it, and it goes with the last of them.
"""

from __future__ import annotations

from ... import log
from ...host import iptables
from ...host.iptables import Restore
from ...host.journal import HostError
from ...plugin import Attempts
from ..owner import Owner, digest, strangers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ...host.namespace import Machine
    from ...spec.address import Cidr

MULTICAST = {4: "224.0.0.0/4", 6: "ff00::/8"}


def chain_of(owner: Owner) -> str:
    return f"CNI-{digest(owner.network + owner.container_id, 24)}"


def add(machine: Machine, owner: Owner, addresses: list[Cidr], shared_chain: bool, lock: int) -> Callable[[], None]:
    """Begin to add the rules; the function returned waits until they are there."""
    running: list[Restore] = []
    for version in (4, 6):
        mine = [address for address in addresses if address.version == version]
        if not mine:
            continue
        lines = _lines(owner, mine, shared_chain and _has_chain(version, owner))

        def start(version: int = version, lines: list[str] = lines) -> Restore:
            return Restore(version, "nat", lines, lock)

        def undo(version: int = version, mine: list[Cidr] = mine) -> None:
            _finish(running, quietly=True)
            _remove(version, owner, mine)

        running.append(machine.journal.run(iptables.say(version, "nat", lines), start, undo))
    return lambda: _finish(running)


def remove(machine: Machine, owner: Owner, addresses: list[Cidr]) -> Callable[[], None]:
    """Begin to remove the rules; the function returned waits until they are gone. Some, or all, may be gone already."""
    attempt = Attempts()
    running: list[tuple[Restore, list[Cidr]]] = []
    for version in (4, 6):
        mine = [address for address in addresses if address.version == version]
        if not mine or iptables.program(version, "-restore") is None:
            continue
        lines = _removal(owner, mine)

        def start(version: int = version, lines: list[str] = lines) -> Restore:
            return Restore(version, "nat", lines)

        restore = attempt(machine.journal.run, iptables.say(version, "nat", lines), start)
        if restore is not None:
            running.append((restore, mine))

    def finish() -> None:
        for restore, mine in running:
            try:
                restore.finish()
            except HostError:  # as a whole, when one of the rules is missing, or the chain another attachment's, too
                say = f"remove what is left of {chain_of(owner)}"
                attempt(machine.journal.run, say, lambda mine=mine: _remove(mine[0].version, owner, mine))
        attempt.finish()

    return finish


def remove_by_name(machine: Machine, owner: Owner, keep: list[Cidr]) -> None:
    """Remove the container's rules when only names are known of them, but not those for the addresses in `keep`."""
    attempt = Attempts()
    for version in (4, 6):
        say = f"remove chain {chain_of(owner)} of {iptables.NAMES[version]}"
        attempt(machine.journal.run, say, lambda version=version: _remove(version, owner, None, keep))
    attempt.finish()


def collect(machine: Machine, network: str, valid: set[tuple[str, str]]) -> None:
    """Remove the rules of the network's containers that have no valid attachment."""
    attempt = Attempts()
    for version in (4, 6):
        for owner in strangers(attempt(iptables.rules, version, "nat") or [], "", network, valid):
            say = f"remove chain {chain_of(owner)} of {iptables.NAMES[version]}"
            attempt(machine.journal.run, say, lambda version=version, owner=owner: _remove(version, owner, None))
    attempt.finish()


def missing(machine: Machine, owner: Owner, addresses: list[Cidr]) -> list[Cidr]:
    """Those of the addresses from which no packet meets a rule that masquerades."""
    chain, found = chain_of(owner), []
    for version in (4, 6):
        mine = [address for address in addresses if address.version == version]
        there = iptables.rules(version, "nat") if mine else []
        masquerades = any(line.startswith(f"-A {chain} ") and " -j MASQUERADE" in line for line in there)
        jumps = {_source(line) for line in there if line.startswith("-A POSTROUTING ") and f" -j {chain}" in line}
        found += [address for address in mine if not (masquerades and str(address.host) in jumps)]
    return found


def _comment(owner: Owner) -> str:
    return f'-m comment --comment "name: \\"{owner.network}\\" id: \\"{owner.container_id}\\""'


def _lines(owner: Owner, addresses: list[Cidr], shared_chain: bool) -> list[str]:
    chain, comment = chain_of(owner), _comment(owner)
    networks = dict.fromkeys(address.network for address in addresses)
    if shared_chain:
        lines = [f"-I {chain} -d {network} -j ACCEPT {comment}" for network in networks]
    else:
        # Naming the chain also empties it: what an attachment without DEL left there goes.
        lines = [f":{chain} - [0:0]", *(f"-A {chain} -d {network} -j ACCEPT {comment}" for network in networks)]
        lines.append(f"-A {chain} ! -d {MULTICAST[addresses[0].version]} -j MASQUERADE {comment}")
    return lines + [f"-A POSTROUTING -s {address.address} -j {chain} {comment}" for address in addresses]


def _has_chain(version: int, owner: Owner) -> bool:
    """The other attachments that share it may have addresses of the other version only."""
    return any(line.startswith(f":{chain_of(owner)} ") for line in iptables.rules(version, "nat"))


def _removal(owner: Owner, addresses: list[Cidr]) -> list[str]:
    chain, comment = chain_of(owner), _comment(owner)
    lines = [f"-D POSTROUTING -s {address.address} -j {chain} {comment}" for address in addresses]
    return [*lines, f"-F {chain}", f"-X {chain}"]


def _remove(version: int, owner: Owner, addresses: list[Cidr] | None, keep: Iterable[Cidr] = ()) -> None:
    """Remove what is there of the rules. `addresses` None: all that lead to the chain, but those to `keep`."""
    chain = chain_of(owner)
    there = iptables.rules(version, "nat")
    sources = None if addresses is None else {str(address.host) for address in addresses}
    leading = [line for line in there if line.startswith("-A POSTROUTING ") and f" -j {chain}" in line]
    kept = {str(address.host) for address in keep}
    going = [line for line in leading if _source(line) not in kept and (sources is None or _source(line) in sources)]
    lines = [f"-D {line[3:]}" for line in going]
    # What leads there still is another attachment's, of which there may be no record.
    if len(going) == len(leading) and any(line.startswith(f":{chain} ") for line in there):
        lines += [f"-F {chain}", f"-X {chain}"]
    if lines:
        Restore(version, "nat", lines).finish()


def _source(line: str) -> str:
    return line.partition(" -s ")[2].partition(" ")[0]


def _finish(running: list[Restore], *, quietly: bool = False) -> None:
    for restore in running:
        try:
            restore.finish()
        except HostError as error:
            if not quietly:
                raise
            log.debug(f"undo of rules that were refused: {error}")
