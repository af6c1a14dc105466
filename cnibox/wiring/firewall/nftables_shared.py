"""What attachments share of firewall's nftables rules: table, sets, chains, and all rules; what is foreign there stays.

A rule of ours is known by what it does and by its comment, so that one which does something else does not count.
"""

from __future__ import annotations

from ...host import nftables
from ...host.netlink.nft import (
    NF_ACCEPT,
    NF_DROP,
    NF_INET_FORWARD,
    NFPROTO_INET,
    NFT_JUMP,
    PRIORITY_FILTER,
    pack_comment,
)
from ...host.nftables import Table
from ...host.nftables_listing import insert_rule, listed, outline
from ...host.nftables_sets import AddressSet
from .part import ISOLATED, OPEN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...host.namespace import Machine
    from ...host.nftables import Expression, Request
    from ...host.nftables_listing import ListedRule
    from ...spec.address import Address
    from .part import Part

NAME = "cni_firewall"
FORWARD, OVERRIDES, STAGE_1, STAGE_2 = "forward", "overrides", "isolation_1", "isolation_2"


class Meant:
    """A rule that is to be there: in nft's words, and its place among ours in the chain, by which they are sorted."""

    def __init__(
        self, chain: str, words: str, expressions: list[Expression], place: tuple[Any, ...], comment: str = ""
    ) -> None:
        self.chain = chain
        self.rule = words + (f' comment "{comment}"' if comment else "")
        self.words = f"rule inet {NAME} {chain} {self.rule}"
        self.expressions = expressions
        self.place = place
        self.comment = comment
        self.outline = outline(expressions)

    def is_at(self, rule: ListedRule) -> bool:
        return (rule.chain, rule.comment) == (self.chain, self.comment) and rule.outline == self.outline


def _forward() -> list[Meant]:
    accept = nftables.verdict(NF_ACCEPT)
    found = [(f"jump {name}", nftables.verdict(NFT_JUMP, name)) for name in (STAGE_1, OVERRIDES)]
    for version, ip in ((4, "ip"), (6, "ip6")):
        name, which = f"ipv{version}", nftables.ip_version(version)
        replies = which + nftables.destination_in(name, version) + nftables.of_connection()
        found.append((f"{ip} daddr @{name} ct state established,related accept", replies + accept))
        found.append((f"{ip} saddr @{name} accept", which + nftables.source_in(name, version) + accept))
    return [Meant(FORWARD, words, expressions, (number,)) for number, (words, expressions) in enumerate(found)]


IN_FORWARD = _forward()


def _override(admin: str) -> Meant:
    return Meant(OVERRIDES, f"jump {admin}", nftables.verdict(NFT_JUMP, admin), (admin,), admin)


def _isolation(bridge: str, policy: str) -> list[Meant]:
    comment, place = f"{policy} {bridge}", (bridge, policy)
    inside, outside = nftables.input_interface(bridge), nftables.output_interface(bridge)
    drop = nftables.verdict(NF_DROP)
    among = Meant(STAGE_1, f'iifname "{bridge}" oifname "{bridge}" drop', inside + outside + drop, place, comment)
    away = inside + nftables.output_interface(bridge, negate=True) + nftables.verdict(NFT_JUMP, STAGE_2)
    words = f'iifname "{bridge}" oifname != "{bridge}" jump {STAGE_2}'
    between = Meant(STAGE_1, words, away, (*place, "behind what is dropped"), comment)
    into = Meant(STAGE_2, f'oifname "{bridge}" drop', outside + drop, (bridge,), bridge)
    return [*([among] if policy == ISOLATED else []), between, into]


def _meant(part: Part) -> list[Meant]:
    """All rules that the part needs; within a chain in order."""
    overrides = [_override(part.admin)] if part.accepts else []
    return [*IN_FORWARD, *overrides, *(_isolation(part.bridge, part.policy) if part.policy != OPEN else [])]


class Shared:
    """The table as it was read, as far as it matters to a part; and requests for what it lacks."""

    def __init__(self, machine: Machine, part: Part) -> None:
        self.table = Table(machine.host, NFPROTO_INET, NAME)
        self.sets = {version: AddressSet(self.table, version) for version in (4, 6)}
        names = [FORWARD, part.bridge] if part.bridge else [FORWARD]
        self.rules = listed(self.table, holding=[pack_comment(part.admin), *(f"{name}\0".encode() for name in names)])
        self.is_new = False
        self.added: list[Meant] = []
        self.added_chains: list[str] = []
        self.commands: list[str] = []
        """The requests that have been made, in nft(8)'s words."""

    def missing(self, part: Part) -> list[Meant]:
        """What the part needs, and is not there, or comes too early to be of any use."""
        if not part.versions:
            return []
        early = self._too_early()
        there = [rule for rule in self.rules if rule not in early]
        return [meant for meant in _meant(part) if not any(meant.is_at(rule) for rule in there)]

    def _too_early(self) -> list[ListedRule]:
        """Rules of ours in front of one that must come before them: what is accepted is isolated no more."""
        places = [(meant.place, rule) for rule in self.rules for meant in IN_FORWARD if meant.is_at(rule)]
        return [rule for at, (place, rule) in enumerate(places) if any(later < place for later, _ in places[at + 1 :])]

    def provide(self, part: Part) -> list[Request]:
        """What is missing, at its place: each behind the last of ours that comes before it."""
        absent = self.missing(part)
        if not absent:
            return []
        self.rules = listed(self.table)
        early = [rule for rule in self._too_early() if any(meant.is_at(rule) for meant in absent)]
        self.added = [meant for meant in absent if not any(meant.is_at(rule) for rule in early)]
        requests = self._set_up([part.admin] if part.accepts else [])
        requests += self._deletions(early)
        places = [(_place(rule), rule) for rule in self.rules if rule not in early]
        for meant in reversed(absent):  # several behind the same one are in order then
            before = [rule.handle for place, rule in places if rule.chain == meant.chain and () < place < meant.place]
            after = before[-1] if before else 0
            verb, place = ("add", f"{meant.chain} handle {after}") if after else ("insert", meant.chain)
            self.commands.append(f"{verb} rule inet {NAME} {place} {meant.rule}")
            requests.append(insert_rule(self.table, meant.chain, meant.expressions, meant.comment, after))
        return requests

    def _set_up(self, admins: list[str]) -> list[Request]:
        """Table, sets and chains; what is there of them stays, with the policy of the chain."""
        table, there = self.table, self.table.chains()
        self.is_new = not there
        self.added_chains = [name for name in admins if name not in there]
        self.commands += [
            f'add table inet {NAME} {{ comment "CNI firewall plugin"; }}',
            f"add set inet {NAME} {self.sets[4].name} {{ type ipv4_addr; }}",
            f"add set inet {NAME} {self.sets[6].name} {{ type ipv6_addr; }}",
            *(f"add chain inet {NAME} {name}" for name in (OVERRIDES, STAGE_1, STAGE_2, *admins)),
        ]
        requests = [table.add("CNI firewall plugin"), self.sets[4].add(), self.sets[6].add()]
        requests += [table.add_chain(name) for name in (OVERRIDES, STAGE_1, STAGE_2, *admins)]
        if FORWARD not in there:
            requests.append(table.add_chain(FORWARD, ("filter", NF_INET_FORWARD, PRIORITY_FILTER)))
            place = "type filter hook forward priority filter; policy accept;"
            self.commands.append(f"add chain inet {NAME} {FORWARD} {{ {place} }}")
        return requests

    def take_back(self) -> list[Request]:
        """What `provide` has added, after it was carried out."""
        if self.is_new:
            return [self.table.delete()]
        rules = listed(self.table) if self.added else []
        gone = [rule for rule in rules if any(meant.is_at(rule) for meant in self.added)]
        requests = [self.table.delete_rule(rule.chain, rule.handle) for rule in gone]
        return requests + [self.table.delete_chain(name) for name in self.added_chains]

    def isolate_no_more(self, bridge: str, policies: set[str]) -> list[Request]:
        """Remove these policies of a bridge."""
        comments = {f"{policy} {bridge}" for policy in policies}
        of_bridge = [rule for rule in self.rules if rule.chain == STAGE_1 and rule.comment.endswith(f" {bridge}")]
        gone = [rule for rule in of_bridge if rule.comment in comments]
        if policies and len(gone) == len(of_bridge):
            gone += [rule for rule in self.rules if rule.chain == STAGE_2 and rule.comment == bridge]
        return self._deletions(gone)

    def _deletions(self, rules: list[ListedRule]) -> list[Request]:
        self.commands += [f"delete rule inet {NAME} {rule.chain} handle {rule.handle}" for rule in rules]
        return [self.table.delete_rule(rule.chain, rule.handle) for rule in rules]

    def put(self, address: Address, comment: str, before: str | None) -> list[Request]:
        """An address with its owner's comment, in the place of the one that is there with the comment `before`."""
        addresses = self.sets[address.version]
        away = self.drop(address) if before is not None else []
        self.commands.append(f'add element inet {NAME} {addresses.name} {{ {address} comment "{comment}" }}')
        return [*away, addresses.put(address.packed, comment)]

    def drop(self, address: Address) -> list[Request]:
        addresses = self.sets[address.version]
        self.commands.append(f"delete element inet {NAME} {addresses.name} {{ {address} }}")
        return [addresses.drop(address.packed)]


def _place(rule: ListedRule) -> tuple[Any, ...]:
    """As a Meant's: in `forward` by what the rule does, elsewhere by its comment; () of a foreign one."""
    if rule.chain == FORWARD:
        return next((meant.place for meant in IN_FORWARD if meant.is_at(rule)), ())
    return tuple(reversed(rule.comment.split(" "))) if rule.comment else ()
