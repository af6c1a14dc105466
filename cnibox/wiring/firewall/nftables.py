"""firewall by nftables, over netlink: a table of our own with what iptables has in FORWARD.

    table inet cni_firewall {
        set ipv4 { type ipv4_addr; elements = { 10.1.2.3 comment "H1-H2, net: mynet, if: eth0, id: c1" } }
        set ipv6 { type ipv6_addr; }
        chain CNI-ADMIN { }                                         the administrator's
        chain overrides { jump CNI-ADMIN }
        chain isolation_1 {
            iifname "cni0" oifname "cni0" drop                      (isolated)
            iifname "cni0" oifname != "cni0" jump isolation_2
        }
        chain isolation_2 { oifname "cni0" drop }
        chain forward {
            type filter hook forward priority filter; policy accept;
            jump isolation_1
            jump overrides
            ip daddr @ipv4 ct state established,related accept
            ip saddr @ipv4 accept
            ip6 daddr @ipv6 ct state established,related accept
            ip6 saddr @ipv6 accept
        }
    }

The policy of `forward` is the administrator's to change, and stays as it is. To accept a packet here does not save it
from other tables: what the policy of iptables' FORWARD, or of another chain at that hook, drops stays dropped. Comments
in `overrides` and `isolation_1` tell what a rule is for; that of an element tells, by its beginning, whose it is.
"""

from __future__ import annotations

from ...host import nftables
from ...host.netlink.nft import NF_ACCEPT, NF_DROP, NF_INET_FORWARD, NFPROTO_INET, NFT_JUMP, PRIORITY_FILTER
from ...host.nftables import Table
from ...host.nftables_sets import AddressSet
from ...spec.address import Address
from ..owner import Owner, digest
from .part import ISOLATED, OPEN, SAME_BRIDGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ...host.namespace import Machine
    from ...host.nftables import Request
    from .part import Part

NAME = "cni_firewall"
FORWARD, OVERRIDES, STAGE_1, STAGE_2 = "forward", "overrides", "isolation_1", "isolation_2"
RULES_OF_FORWARD = 6


class Shared:
    """The table, and what of it attachments share: as it was read, and as it is to be."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.table = Table(machine.host, NFPROTO_INET, NAME)
        self.sets = {version: AddressSet(self.table, version) for version in (4, 6)}
        rules = self.table.rules()
        self.is_new = False
        self.is_set_up = sum(chain == FORWARD for chain, _ in rules) == RULES_OF_FORWARD
        self.admins = {comment for chain, comment in rules if chain == OVERRIDES}
        bridges = {comment for chain, comment in rules if chain == STAGE_2}
        found = [_isolated(comment) for chain, comment in rules if chain == STAGE_1]
        self.isolated = {(bridge, policy) for bridge, policy in found if bridge in bridges}

    def needs(self, part: Part) -> list[str]:
        """What of it the part needs, and is not there."""
        if not part.versions:
            return []
        found = [] if self.is_set_up else [f"chain inet {NAME} {FORWARD}"]
        if part.accepts and part.admin not in self.admins:
            found.append(f"jump {part.admin} in chain inet {NAME} {OVERRIDES}")
        if part.policy != OPEN and (part.bridge, part.policy) not in self.isolated:
            found.append(f"{part.policy} of {part.bridge} in chain inet {NAME} {STAGE_1}")
        return found

    def provide(self, part: Part) -> list[Request]:
        """What is missing of it."""
        requests: list[Request] = []
        if not self.is_set_up:
            requests += self._set_up()
        if part.accepts and part.admin not in self.admins:
            requests += self.lead_to(self.admins | {part.admin})
        if part.policy != OPEN and (part.bridge, part.policy) not in self.isolated:
            requests += self.isolate(self.isolated | {(part.bridge, part.policy)})
        return requests

    def _set_up(self) -> list[Request]:
        """Table, sets and chains; what is there of them stays, with the policy of the chain."""
        table, accept, there = self.table, nftables.verdict(NF_ACCEPT), self.table.chains()
        self.is_set_up, self.is_new = True, not there
        requests = [table.add("CNI firewall plugin"), self.sets[4].add(), self.sets[6].add()]
        requests += [table.add_chain(name) for name in (OVERRIDES, STAGE_1, STAGE_2)]
        if FORWARD not in there:
            requests.append(table.add_chain(FORWARD, ("filter", NF_INET_FORWARD, PRIORITY_FILTER)))
        requests.append(table.flush_chain(FORWARD))
        requests += [table.add_rule(FORWARD, nftables.verdict(NFT_JUMP, name)) for name in (STAGE_1, OVERRIDES)]
        for version, addresses in self.sets.items():
            which, name = nftables.ip_version(version), addresses.name
            replies = which + nftables.destination_in(name, version) + nftables.of_connection()
            requests.append(table.add_rule(FORWARD, replies + accept))
            requests.append(table.add_rule(FORWARD, which + nftables.source_in(name, version) + accept))
        return requests

    def lead_to(self, admins: set[str]) -> list[Request]:
        """Jumps to the administrator's chains, which are made if need be."""
        self.admins = admins
        chains = [self.table.add_chain(name) for name in sorted(admins)]
        jumps = [self.table.add_rule(OVERRIDES, nftables.verdict(NFT_JUMP, name), name) for name in sorted(admins)]
        return [*chains, self.table.flush_chain(OVERRIDES), *jumps]

    def isolate(self, isolated: set[tuple[str, str]]) -> list[Request]:
        """Isolate these (bridge, policy), and no others."""
        self.isolated = isolated
        table, drop = self.table, nftables.verdict(NF_DROP)
        requests = [table.flush_chain(STAGE_1), table.flush_chain(STAGE_2)]
        for bridge, policy in sorted(isolated):
            inside, comment = nftables.input_interface(bridge), f"{policy} {bridge}"
            if policy == ISOLATED:
                requests.append(table.add_rule(STAGE_1, inside + nftables.output_interface(bridge) + drop, comment))
            away = nftables.output_interface(bridge, negate=True) + nftables.verdict(NFT_JUMP, STAGE_2)
            requests.append(table.add_rule(STAGE_1, inside + away, comment))
        for bridge in sorted({bridge for bridge, _ in isolated}):
            requests.append(table.add_rule(STAGE_2, nftables.output_interface(bridge) + drop, bridge))
        return requests

    def put(self, address: Address, comment: str, there: str | None) -> list[Request]:
        """An address with its owner's comment, in the place of the one that is there."""
        addresses = self.sets[address.version]
        away = [addresses.drop(address.packed)] if there is not None else []
        return [*away, addresses.put(address.packed, comment)]

    def comment_of(self, address: Address) -> str | None:
        return self.sets[address.version].comment_of(address.packed)


def _isolated(comment: str) -> tuple[str, str]:
    policy, _, bridge = comment.partition(" ")
    return bridge, policy


def prefix_of(owner: Owner) -> str:
    return f"{digest(owner.network, 16)}-{digest(f'{owner.ifname}:{owner.container_id}', 16)}"


def _comment(owner: Owner) -> str:
    comment = f"{prefix_of(owner)}, net: {owner.network}, if: {owner.ifname}, id: {owner.container_id}"
    return comment.replace('"', "")[: nftables.COMMENT_LIMIT - 1]


def _say(verb: str, addresses: list[Address], part: Part) -> str:
    """As nft would say it, but for rules and what they are in."""
    words = [f"nft {verb} element inet {NAME} ipv{address.version} {{ {address} }}" for address in addresses]
    policy = f"nft {verb} rules of {part.bridge} ({part.policy}) in table inet {NAME}"
    return " && ".join(words + [policy] * (part.policy != OPEN)) or f"nft {verb} rules in table inet {NAME}"


# --- ADD


def add(machine: Machine, part: Part, lock: int, is_first: bool) -> None:
    shared = Shared(machine)
    was = shared.admins, shared.isolated
    requests = shared.provide(part)
    before = {address: shared.comment_of(address) for address in part.accepted}
    for address, there in before.items():
        requests += shared.put(address, _comment(part.owner), there)
    say = _say("add", part.accepted, part)

    def undo() -> None:
        _take_back(shared, was, before)

    machine.journal.run(say, lambda: shared.table.commit(say, *requests), undo)


def _take_back(
    shared: Shared,
    was: tuple[set[str], set[tuple[str, str]]],
    before: dict[Address, str | None],
) -> None:
    admins, isolated = was
    if shared.is_new:
        return shared.table.commit(f"nft delete table inet {NAME}", shared.table.delete())
    requests: list[Request] = []
    for address, there in before.items():
        if there is None:
            requests.append(shared.sets[address.version].drop(address.packed))
        else:
            requests += shared.put(address, there, "")
    if isolated != shared.isolated:
        requests += shared.isolate(isolated)
    if admins != shared.admins:
        new = shared.admins - admins
        requests += shared.lead_to(admins)
        requests += [shared.table.delete_chain(name) for name in sorted(new)]
    shared.table.commit(f"nft # undo in table inet {NAME}", *requests)
    return None


# --- DEL and GC


def remove(machine: Machine, part: Part, others: set[str], lock: int) -> None:
    _remove(machine, part, others, {part.policy} - {OPEN})


def remove_unrecorded(machine: Machine, part: Part, others: set[str], held: list[Address]) -> None:
    _remove(machine, part, others, {SAME_BRIDGE, ISOLATED} if part.bridge else set())


def _remove(machine: Machine, part: Part, others: set[str], policies: set[str]) -> None:
    """The part's own addresses: one that another attachment has by now has that one's comment."""
    shared, prefix = Shared(machine), prefix_of(part.owner)
    mine = [address for address in part.accepted if (shared.comment_of(address) or "").startswith(prefix)]
    requests = [shared.sets[address.version].drop(address.packed) for address in mine]
    isolated = shared.isolated - {(part.bridge, policy) for policy in policies - others}
    if isolated != shared.isolated:
        requests += shared.isolate(isolated)
    if requests:
        say = _say("delete", mine, part)
        machine.journal.run(say, lambda: shared.table.commit(say, *requests))


def collect(machine: Machine, network: str, valid: set[tuple[str, str]]) -> None:
    """Remove the network's addresses whose attachment is not valid."""
    table, network_prefix = Table(machine.host, NFPROTO_INET, NAME), f"{digest(network, 16)}-"
    keep = {prefix_of(Owner(network, container_id, ifname)) for container_id, ifname in valid}
    for version in (4, 6):
        addresses = AddressSet(table, version)
        for key, comment in addresses.elements():
            if comment.startswith(network_prefix) and comment[:33] not in keep:
                say = f"nft delete element inet {NAME} {addresses.name} {{ {Address(key)} }}"
                request = addresses.drop(key)
                machine.journal.run(say, _committing(table, say, request))


def _committing(table: Table, say: str, request: Request) -> Callable[[], None]:
    return lambda: table.commit(say, request)


# --- CHECK, and putting back


def missing(machine: Machine, part: Part) -> list[str]:
    shared, prefix = Shared(machine), prefix_of(part.owner)
    absent = [address for address in part.accepted if not (shared.comment_of(address) or "").startswith(prefix)]
    return shared.needs(part) + [f"element inet {NAME} ipv{each.version} {{ {each} }}" for each in absent]


def complete(machine: Machine, part: Part) -> list[str]:
    shared = Shared(machine)
    found = shared.needs(part)
    requests = shared.provide(part) if found else []
    for address in part.accepted:
        if shared.comment_of(address) is None:
            found.append(f"element inet {NAME} ipv{address.version} {{ {address} }}")
            requests += shared.put(address, _comment(part.owner), None)
    if requests:
        say = _say("add", part.accepted, part)
        machine.journal.run(say, lambda: shared.table.commit(say, *requests))
    return [f"nft {each}" for each in found]
