"""portmap by nftables, over netlink: a rule for each mapping, in the reference's tables.

    table ip cni_hostport {                                            # and ip6
        chain hostports {
            ip daddr 192.0.2.1 tcp dport 8080 dnat to 10.1.2.3:80 comment "c1"
        }
        chain hostip_hostports {                                       # of older releases
        }
        chain hostports_all { jump hostip_hostports; jump hostports }
        chain prerouting { type nat hook prerouting priority dstnat; fib daddr type local jump hostports_all }
        chain output { type nat hook output priority dstnat; fib daddr type local jump hostports_all }
        chain masquerading {
            type nat hook postrouting priority srcnat;
            ip saddr 10.1.2.3 ip daddr 10.1.2.3 masquerade comment "c1"
            ip saddr 127.0.0.1 ip daddr 10.1.2.3 masquerade comment "c1"
        }
    }

A rule's comment is the container ID, by which the reference's DEL finds it. Of the container's attachments it is that
one's whose address stands in it. A map in place of the rules would be faster, but that DEL could not clear it.
"""

from __future__ import annotations

from ...host import nftables
from ...host.nftables_nat import (
    PROTOCOLS,
    Rule,
    destination_port,
    of_translated_connection,
    rules_with,
    translate_destination,
)
from ...plugin import Attempts
from ...spec.address import Address
from .mappings import Mapping, Published, in_url
from .nftables_shared import (
    HOSTPORTS,
    MASQUERADING,
    NAME,
    OLD_HOSTPORTS,
    delete_unused,
    jumps_missing,
    masquerading,
    set_up,
    set_up_commands,
    table_of,
)
from .taken import Lead, refuse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from ...host.namespace import Machine
    from ...host.nftables import Expression, Request
    from ..owner import Owner

    Meant = tuple[str, str, list[Expression]]  # chain, what nft would be told, expressions

LOOPBACK = bytes((127, 0, 0, 1))


def add(
    machine: Machine,
    published: Published,
    before: Published | None,
    siblings: list[Published],
    lock: int,
    is_first: bool = False,
) -> Callable[[], None]:
    """Put the rules in the place of those from `before`; the function returned has nothing to wait for."""
    for version in sorted({*published.versions, *(before.versions if before else ())}):
        _Family(machine, version, published).add(before)
    return _nothing


def remove(machine: Machine, published: Published, siblings: list[Published]) -> Callable[[], None]:
    """Remove the attachment's rules; there may be none."""
    attempt = Attempts()
    for version in published.versions:
        family = _Family(machine, version, published)
        attempt(family.remove, family.addresses, set())
    attempt.finish()
    return _nothing


def remove_by_name(machine: Machine, owner: Owner, mine: set[bytes], others: set[bytes]) -> None:
    """Remove the container's rules when no record tells of them.

    mine: the attachment's addresses, if they are known: rules for other ones stay
    others: those of the container's recorded attachments, whose rules stay
    """
    attempt = Attempts()
    for version in (4, 6):
        attempt(_Family(machine, version, Published(owner, [], [])).remove, mine, others)
    attempt.finish()


def missing(machine: Machine, published: Published) -> list[str]:
    """The rules that are not there, in words."""
    return [words for version in published.versions for words in _Family(machine, version, published).missing()]


def repair(machine: Machine, published: Published, siblings: list[Published]) -> None:
    """Make all of them anew."""
    add(machine, published, published, siblings, -1)


class _Family:
    """The attachment's rules for one IP version."""

    def __init__(self, machine: Machine, version: int, published: Published) -> None:
        self.machine = machine
        self.version = version
        self.published = published
        self.table = table_of(machine, version)
        self.commands: list[str] = []
        """What the requests that remove something are in nft(8)'s words."""
        self.word = "ip" if version == 4 else "ip6"
        self.comment = published.owner.container_id[: nftables.COMMENT_LIMIT - 1]
        self.addresses = {address.address.packed for address in published.addresses.values()}
        self._rules: list[Meant] | None = None

    # --- what there shall be

    def rules(self) -> list[Meant]:
        """Made once: they may be 10,000."""
        if self._rules is None:
            translations = self._translations()
            masquerading = self._masquerading() if translations and self.published.snat else []
            self._rules = translations + masquerading
        return self._rules

    def _translations(self) -> list[Meant]:
        found = []
        for each in self.published.distinct(self.version):
            address, destination = self.published.addresses[self.version].address, each.destination
            words = f"{self.word} daddr {destination} " if destination else ""
            words += f"{each.protocol} dport {each.host_port} dnat to {in_url(address)}:{each.container_port}"
            expressions = nftables.destination(destination.packed) if destination else []
            expressions = expressions + destination_port(each.protocol, each.host_port)
            found.append((HOSTPORTS, words, expressions + translate_destination(address.packed, each.container_port)))
        return found

    def _masquerading(self) -> list[Meant]:
        """Of connections whose answers would otherwise not come back by the host."""
        ip, address, source = (
            self.word,
            self.published.addresses[self.version].address,
            self.published.hairpin(self.version),
        )
        to_it, masquerade = nftables.destination(address.packed), nftables.masquerade()
        translated = of_translated_connection() + masquerade  # and not what neighbours send to it without us
        if self.published.masquerade_all:
            return [(MASQUERADING, f"{ip} daddr {address} ct status dnat masquerade", to_it + translated)]
        if self.version in self.published.whole_subnet:
            words = f"{ip} saddr {source} {ip} daddr {address} ct status dnat masquerade"
            found = [(MASQUERADING, words, nftables.source(source.address.packed, source.prefix) + to_it + translated)]
        else:
            words = f"{ip} saddr {address} {ip} daddr {address} masquerade"
            found = [(MASQUERADING, words, nftables.source(address.packed) + to_it + masquerade)]
        if self.version == 4:
            words = f"ip saddr 127.0.0.1 ip daddr {address} masquerade"
            found.append((MASQUERADING, words, nftables.source(LOOPBACK) + to_it + masquerade))
        return found

    def _by_netlink(self) -> list[Meant]:
        """All but those with conditions in nft's syntax, which only nft can read."""
        conditional = self.published.conditions.get(self.version)
        return [rule for rule in self.rules() if not (conditional and rule[0] == HOSTPORTS)]

    def _by_program(self) -> list[str]:
        conditions = " ".join(self.published.conditions.get(self.version, ()))
        if not conditions:
            return []
        return [self._command(HOSTPORTS, f"{conditions} {words}") for _, words, _ in self._translations()]

    # --- ADD and DEL

    def add(self, before: Published | None) -> None:
        """All in one transaction; conditions in nft's syntax take a second one, by nft."""
        rules, requests = (
            self._by_netlink(),
            self._exchange(before, {each.host_port for each in self.published.of(self.version)}),
        )
        say = nftables.say(*self.commands, *(self._command(chain, words) for chain, words, _ in rules))

        def undo() -> None:
            earlier = _Family(self.machine, self.version, before or Published(self.published.owner, [], []))
            earlier._commit(earlier._exchange(self.published, set()))
            _run(earlier._by_program())

        if requests:
            self.machine.journal.run(say, lambda: self._commit(requests), undo)
        lines = self._by_program()
        if lines:
            self.machine.journal.run(nftables.say(*lines), lambda: _run(lines), undo)

    def remove(self, mine: set[bytes], others: set[bytes]) -> None:
        requests = self._deletions(self._own(mine, others))
        if requests:
            self.machine.journal.run(nftables.say(*self.commands), lambda: self._commit(requests))

    def _deletions(self, rules: list[tuple[str, int, Rule]]) -> list[Request]:
        self.commands += [f"delete rule {self.word} {NAME} {chain} handle {handle}" for chain, handle, _ in rules]
        return [self.table.delete_rule(chain, handle) for chain, handle, _ in rules]

    def _command(self, chain: str, words: str) -> str:
        return f'add rule {self.word} {NAME} {chain} {words} comment "{self.comment}"'

    def _exchange(self, before: Published | None, ports: set[int]) -> list[Request]:
        """Requests that put our rules in the place of those from `before`, and of what else there is of ours.

        CniError 999 when somebody without a record has one of the ports.
        """
        mine = self.addresses | {each.address.packed for each in (before.addresses.values() if before else ())}
        stale = self._deletions(self._own(mine, set(), ports))
        fresh = [self.table.add_rule(chain, what, self.comment) for chain, _, what in self._by_netlink()]
        return stale if not self.rules() else self._shared() + stale + fresh

    def _shared(self) -> list[Request]:
        if not jumps_missing(self.table):
            return [masquerading(self.table)] if self.published.snat else []
        say = nftables.say(*set_up_commands(self.word, self.published.snat))
        self.machine.journal.note(say, lambda: delete_unused(self.table), shared=True)
        return set_up(self.table, self.published.snat)

    def _own(self, mine: set[bytes], others: set[bytes], ports: Collection[int] = ()) -> list[tuple[str, int, Rule]]:
        """(chain, handle, rule) of the attachment's; CniError 999 when one of others' leads one of the ports away."""
        own, leads = [], []
        for chain in (HOSTPORTS, OLD_HOSTPORTS, MASQUERADING):
            for handle, comment, rule in rules_with(self.table, chain, self.comment, ports):
                if comment != self.comment:
                    if ports and chain != MASQUERADING and len(rule.values) >= 4:
                        leads.append(self._lead(chain, handle, comment, rule))
                elif others.isdisjoint(rule.values) and (not mine or not mine.isdisjoint(rule.values)):
                    own.append((chain, handle, rule))
        if leads:
            refuse(self.published, self.version, leads)
        return own

    def _lead(self, chain: str, handle: int, comment: str, rule: Rule) -> Lead:
        """Where a foreign rule leads. Its last values tell that: protocol, port, dnat to address:port."""
        *before, protocol, port, _, _ = rule.values
        name = next((name for name, number in PROTOCOLS.items() if protocol == bytes((number,))), "")
        packed = next((value for value in before if len(value) in (4, 16)), b"")
        mapping = Mapping(name, int.from_bytes(port, "big"), 0, Address(packed) if packed else None)
        removal = f"nft delete rule {self.word} {NAME} {chain} handle {handle}"
        return Lead(comment, "", mapping, removal)

    def _commit(self, requests: list[Request]) -> None:
        if requests:
            self.table.commit(f"nft change rules of {self.word} {NAME} for {self.comment}", *requests)

    # --- CHECK

    def missing(self) -> list[str]:
        """The missing rules, in words. Their last values are compared: a rule of ours may begin with conditions."""
        wanted = [(chain, words, Rule(expressions)) for chain, words, expressions in self.rules()]
        lengths = {len(rule.values) for _, _, rule in wanted}
        own = {(chain, rule.ending(n)) for chain, _, rule in self._own(self.addresses, set()) for n in lengths}
        return [f"{self.word} {NAME} {words}" for words in jumps_missing(self.table)] + [
            f"{self.word} {NAME} {chain}: {words}"
            for chain, words, rule in wanted
            if (chain, rule.ending(len(rule.values))) not in own
        ]


def _run(lines: list[str]) -> None:
    if lines:
        from ...host import nftables_program

        nftables_program.run(lines)


def _nothing() -> None:
    pass
