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

Rules of others in these chains stay where they are: only what is missing is added, and only what is ours removed.
"""

from __future__ import annotations

from ...host import nftables
from ...host.netlink.nft import NFPROTO_INET
from ...host.nftables import Table
from ...host.nftables_sets import AddressSet
from ...spec.address import Address
from ..owner import Owner, digest
from .nftables_shared import NAME, Shared
from .part import ISOLATED, OPEN, SAME_BRIDGE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ...host.namespace import Machine
    from ...host.nftables import Request
    from .part import Part


def prefix_of(owner: Owner) -> str:
    return f"{digest(owner.network, 16)}-{digest(f'{owner.ifname}:{owner.container_id}', 16)}"


def _comment(owner: Owner) -> str:
    comment = f"{prefix_of(owner)}, net: {owner.network}, if: {owner.ifname}, id: {owner.container_id}"
    return comment.replace('"', "")[: nftables.COMMENT_LIMIT - 1]


def _comment_of(shared: Shared, address: Address) -> str | None:
    return shared.sets[address.version].comment_of(address.packed)


# --- ADD


def add(machine: Machine, part: Part, lock: int, is_first: bool) -> None:
    shared = Shared(machine, part)
    requests = shared.provide(part)
    before = {address: _comment_of(shared, address) for address in part.accepted}
    for address, there in before.items():
        requests += shared.put(address, _comment(part.owner), there)
    say = nftables.say(*shared.commands)

    def undo() -> None:
        _take_back(shared, before)

    if requests:
        machine.journal.run(say, lambda: _commit(shared, say, requests), undo)


def _commit(shared: Shared, say: str, requests: list[Request]) -> None:
    if requests:
        shared.table.commit(say, *requests)


def _take_back(shared: Shared, before: dict[Address, str | None]) -> None:
    requests: list[Request] = []
    for address, there in before.items():
        if there is None:
            requests += shared.drop(address)
        else:
            requests += shared.put(address, there, "")
    _commit(shared, f"nft # undo in table inet {NAME}", requests + shared.take_back())


# --- DEL and GC


def remove(machine: Machine, part: Part, others: set[str], lock: int) -> None:
    _remove(machine, part, others, {part.policy} - {OPEN})


def remove_unrecorded(machine: Machine, part: Part, others: set[str], held: list[Address]) -> None:
    _remove(machine, part, others, {SAME_BRIDGE, ISOLATED} if part.bridge else set())


def _remove(machine: Machine, part: Part, others: set[str], policies: set[str]) -> None:
    """The part's own addresses: one that another attachment has by now has that one's comment."""
    shared, prefix = Shared(machine, part), prefix_of(part.owner)
    mine = [address for address in part.accepted if (_comment_of(shared, address) or "").startswith(prefix)]
    requests = [request for address in mine for request in shared.drop(address)]
    requests += shared.isolate_no_more(part.bridge, policies - others)
    if requests:
        say = nftables.say(*shared.commands)
        machine.journal.run(say, lambda: shared.table.commit(say, *requests))


def collect(machine: Machine, network: str, valid: set[tuple[str, str]]) -> None:
    """Remove the network's addresses whose attachment is not valid."""
    table, network_prefix = Table(machine.host, NFPROTO_INET, NAME), f"{digest(network, 16)}-"
    keep = {prefix_of(Owner(network, container_id, ifname)) for container_id, ifname in valid}
    for version in (4, 6):
        addresses = AddressSet(table, version)
        for key, comment in addresses.elements():
            if comment.startswith(network_prefix) and comment[:33] not in keep:
                say = nftables.say(f"delete element inet {NAME} {addresses.name} {{ {Address(key)} }}")
                request = addresses.drop(key)
                machine.journal.run(say, _committing(table, say, request))


def _committing(table: Table, say: str, request: Request) -> Callable[[], None]:
    return lambda: table.commit(say, request)


# --- CHECK, and putting back


def missing(machine: Machine, part: Part) -> list[str]:
    shared, prefix = Shared(machine, part), prefix_of(part.owner)
    absent = [address for address in part.accepted if not (_comment_of(shared, address) or "").startswith(prefix)]
    return [each.words for each in shared.missing(part)] + [_element(address) for address in absent]


def complete(machine: Machine, part: Part) -> list[str]:
    shared = Shared(machine, part)
    requests, found = shared.provide(part), [each.words for each in shared.missing(part)]
    for address in part.accepted:
        if _comment_of(shared, address) is None:
            found.append(_element(address))
            requests += shared.put(address, _comment(part.owner), None)
    if requests:
        say = nftables.say(*shared.commands)
        machine.journal.run(say, lambda: shared.table.commit(say, *requests))
    return [f"nft add {each}" for each in found]


def _element(address: Address) -> str:
    return f"element inet {NAME} ipv{address.version} {{ {address} }}"
