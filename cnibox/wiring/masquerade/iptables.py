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
from .. import backends
from ..owner import Owner, chains_named, digest

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
    running: list[tuple[Restore, Callable[[], None]]] = []
    iptables.require(sorted({address.version for address in addresses}), "nat")
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

        running.append(machine.journal.begin(iptables.say(version, "nat", lines), start, undo))
    return lambda: _finish(running)


def remove(machine: Machine, owner: Owner, addresses: list[Cidr]) -> Callable[[], None]:
    """Begin to remove the rules; the function returned waits until they are gone. Some, or all, may be gone already."""
    attempt = Attempts()
    running: list[tuple[Restore, Callable[[], None], list[Cidr]]] = []
    for version in (4, 6):
        mine = [address for address in addresses if address.version == version]
        if not mine or iptables.program(version, "-restore") is None:
            continue
        lines = _removal(owner, mine)

        def start(version: int = version, lines: list[str] = lines) -> Restore:
            return Restore(version, "nat", lines)

        begun = attempt(machine.journal.begin, iptables.say(version, "nat", lines), start)
        if begun is not None:
            running.append((*begun, mine))

    def finish() -> None:
        for restore, succeeded, mine in running:
            try:
                restore.finish()
                succeeded()
            except HostError:  # as a whole, when one of the rules is missing, or the chain another attachment's, too
                attempt(_remove_left, machine, mine[0].version, owner, mine)
        attempt.finish()

    return finish


def _remove_left(machine: Machine, version: int, owner: Owner, addresses: list[Cidr]) -> None:
    lines = _leftover(chain_of(owner), iptables.rules(version, "nat"), addresses)
    iptables.change(machine.journal, version, "nat", lines)


def remove_by_name(machine: Machine, owner: Owner, keep: list[Cidr]) -> None:
    """Remove the container's rules when only names are known of them, but not those for the addresses in `keep`."""
    attempt = Attempts()
    for version in (4, 6):
        there = backends.look(iptables.rules, version, "nat") or []
        attempt(_remove_seen, machine, version, chain_of(owner), there, keep)
    attempt.finish()


def collect(machine: Machine, network: str, valid: set[tuple[str, str]]) -> None:
    """Remove the rules of the network's containers that have no valid attachment."""
    attempt = Attempts()
    keep = {chain_of(Owner(network, container_id, "")) for container_id, _ in valid}
    for version in (4, 6):
        there = backends.look(iptables.rules, version, "nat") or []
        for chain in sorted(chains_named(there, "", network) - keep):
            attempt(_remove_seen, machine, version, chain, there, [])
    attempt.finish()


def _remove_seen(machine: Machine, version: int, chain: str, there: list[str], keep: list[Cidr]) -> None:
    iptables.change(machine.journal, version, "nat", _leftover(chain, there, None, keep))


def missing(machine: Machine, owner: Owner, addresses: list[Cidr]) -> list[str]:
    """The rules that are not there as they were made, in words."""
    found = []
    for version in (4, 6):
        mine = [address for address in addresses if address.version == version]
        there = {_bare(owner, line) for line in iptables.rules(version, "nat")} if mine else set()
        wanted = _chain(owner, mine) + _jumps(owner, mine) if mine else []
        found += [iptables.say(version, "nat", [each]) for each in wanted if _bare(owner, each) not in there]
    return found


def repair(machine: Machine, owner: Owner, addresses: list[Cidr], others: list[Cidr]) -> None:
    """Make the rules anew; `others`: addresses of the container's other attachments, whose rules the chain has, too."""
    for version in (4, 6):
        mine = [address for address in addresses if address.version == version]
        if mine:
            there = iptables.rules(version, "nat")
            sharing = [address for address in others if address.version == version]
            lines = [f"-D {line[3:]}" for line in _leading(there, chain_of(owner)) if _source(line) in _sources(mine)]
            lines += _chain(owner, mine + sharing) + _jumps(owner, mine)
            is_there = any(line.startswith(f":{chain_of(owner)} ") for line in there)
            iptables.change(machine.journal, version, "nat", lines, is_there=is_there)


def _comment(owner: Owner) -> str:
    text = f'name: "{owner.network}" id: "{owner.container_id}"'[: iptables.COMMENT_LIMIT]
    return '-m comment --comment "{}"'.format(text.replace('"', '\\"'))


def _lines(owner: Owner, addresses: list[Cidr], shared_chain: bool) -> list[str]:
    filled = [f"-I {rule}" for rule in _accepting(owner, addresses)] if shared_chain else _chain(owner, addresses)
    return filled + _jumps(owner, addresses)


def _chain(owner: Owner, addresses: list[Cidr]) -> list[str]:
    """The chain and its rules. Naming it also empties it: what an attachment without DEL left there goes."""
    chain, multicast = chain_of(owner), MULTICAST[addresses[0].version]
    return [
        f":{chain} - [0:0]",
        *(f"-A {rule}" for rule in _accepting(owner, addresses)),
        f"-A {chain} ! -d {multicast} -j MASQUERADE {_comment(owner)}",
    ]


def _accepting(owner: Owner, addresses: list[Cidr]) -> list[str]:
    networks = dict.fromkeys(address.network for address in addresses)
    return [f"{chain_of(owner)} -d {network} -j ACCEPT {_comment(owner)}" for network in networks]


def _jumps(owner: Owner, addresses: list[Cidr]) -> list[str]:
    chain, comment = chain_of(owner), _comment(owner)
    return [f"-A POSTROUTING -s {address.host} -j {chain} {comment}" for address in addresses]


def _bare(owner: Owner, line: str) -> str:
    """A line as it is given to iptables or printed by it, for comparison: they put the comment at different places."""
    if line.startswith(":"):
        return line.split()[0]
    found = line.replace(f" {_comment(owner)}", "", 1)
    return found.replace(" -d 0.0.0.0/0 ", " ").replace(" -d ::/0 ", " ")


def _has_chain(version: int, owner: Owner) -> bool:
    """The other attachments that share it may have addresses of the other version only."""
    return any(line.startswith(f":{chain_of(owner)} ") for line in iptables.rules(version, "nat"))


def _removal(owner: Owner, addresses: list[Cidr]) -> list[str]:
    chain, comment = chain_of(owner), _comment(owner)
    lines = [f"-D POSTROUTING -s {address.host} -j {chain} {comment}" for address in addresses]
    return [*lines, f"-F {chain}", f"-X {chain}"]


def _remove(version: int, owner: Owner, addresses: list[Cidr]) -> None:
    """The undo of an ADD."""
    lines = _leftover(chain_of(owner), iptables.rules(version, "nat"), addresses)
    if lines:
        Restore(version, "nat", lines).finish()


def _leftover(chain: str, there: list[str], addresses: list[Cidr] | None, keep: Iterable[Cidr] = ()) -> list[str]:
    """The lines that remove what is there. `addresses` None: all that lead to the chain, but those to `keep`."""
    sources = None if addresses is None else _sources(addresses)
    leading = _leading(there, chain)
    kept = _sources(keep)
    going = [line for line in leading if _source(line) not in kept and (sources is None or _source(line) in sources)]
    lines = [f"-D {line[3:]}" for line in going]
    # What leads there still is another attachment's, of which there may be no record.
    if len(going) == len(leading) and any(line.startswith(f":{chain} ") for line in there):
        lines += [f"-F {chain}", f"-X {chain}"]
    return lines


def _leading(there: list[str], chain: str) -> list[str]:
    """The lines of the jumps to the chain."""
    return [line for line in there if line.startswith("-A POSTROUTING ") and f" -j {chain}" in line]


def _sources(addresses: Iterable[Cidr]) -> set[str]:
    return {str(address.host) for address in addresses}


def _source(line: str) -> str:
    return line.partition(" -s ")[2].partition(" ")[0]


def _finish(running: list[tuple[Restore, Callable[[], None]]], *, quietly: bool = False) -> None:
    """Wait for all of them; then the first error, unless `quietly`."""
    refusals: list[HostError] = []
    for restore, succeeded in running:
        try:
            restore.finish()
            if not quietly:
                succeeded()
        except HostError as error:
            refusals.append(error)
    for refusal in refusals:
        if not quietly:
            raise refusal
        log.debug(f"undo of rules that were refused: {refusal}")
