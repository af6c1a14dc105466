"""Masquerading by nftables, over netlink: one rule for each address.

    table inet cni_plugins_masquerade {
        chain masq_checks {
            ip saddr 10.1.2.3 ip daddr != 10.1.2.0/24 masquerade comment "H1-H2, net: mynet, if: eth0, id: c1"
        }
        chain postrouting {
            type nat hook postrouting priority srcnat;
            ip daddr 224.0.0.0/4 return
            ip6 daddr ff00::/8 return
            goto masq_checks
        }
    }

H1 and H2 are hashes of the network and of the attachment: a rule's owner is known by the beginning of its comment.
"""

from __future__ import annotations

import errno

from ...host import nftables
from ...host.journal import HostError
from ...host.netlink.nft import NF_INET_POST_ROUTING, NFPROTO_INET, NFT_GOTO, NFT_RETURN, PRIORITY_SRCNAT
from ...host.nftables import Table
from ...plugin import Attempts
from .. import backends
from ..owner import Owner, digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ...host.namespace import Machine
    from ...host.nftables import Expression, Request
    from ...spec.address import Cidr

NAME = "cni_plugins_masquerade"
CHECKS = "masq_checks"
POSTROUTING = "postrouting"


def prefix_of(owner: Owner) -> str:
    return f"{digest(owner.network, 16)}-{digest(f'{owner.ifname}:{owner.container_id}', 16)}"


def add(machine: Machine, owner: Owner, addresses: list[Cidr], shared_chain: bool, lock: int) -> Callable[[], None]:
    """Add the rules, and table and chains where they are missing; the function returned has nothing to wait for."""
    table = _table(machine)
    rules = [_rule(table, owner, address) for address in addresses]
    say = nftables.say(*(_command(owner, address) for address in addresses))

    def undo() -> None:
        _remove(table, prefix_of(owner))

    try:
        machine.journal.run(say, lambda: table.commit(say, *rules), undo)
    except HostError as error:
        if error.errno != errno.ENOENT:  # the first rule on this machine, or the ruleset was flushed
            raise
        _set_up(machine, table)
        machine.journal.run(say, lambda: table.commit(say, *rules), undo)
    return _nothing


def remove(machine: Machine, owner: Owner, addresses: list[Cidr]) -> Callable[[], None]:
    """Remove the owner's rules, whatever their addresses; there may be none."""
    _remove_seen(machine, prefix_of(owner), _table(machine).comments(CHECKS))
    return _nothing


def remove_by_name(machine: Machine, owner: Owner, keep: list[Cidr]) -> None:
    """The same: a rule's comment names its attachment, so that those of others are safe."""
    _remove_seen(machine, prefix_of(owner), backends.look(_table(machine).comments, CHECKS) or [])


def _remove_seen(machine: Machine, prefix: str, comments: list[tuple[int, str]]) -> None:
    _delete(machine, [handle for handle, comment in comments if comment.startswith(prefix)])


def missing(machine: Machine, owner: Owner, addresses: list[Cidr]) -> list[str]:
    """The rules that are not there as they were made, in words: the owner's, and those that lead to them."""
    from ...host.nftables_listing import listed, outline

    table, prefix = _table(machine), prefix_of(owner)
    found, leading = [], [rule.outline for rule in listed(table, POSTROUTING)]
    for words, expressions in _leading():
        wanted = outline(expressions)
        if wanted in leading:  # the next one is looked for behind it: in another order they do something else
            leading = leading[leading.index(wanted) + 1 :]
        else:
            found.append(f"nft add rule inet {NAME} {POSTROUTING} {words}")
    rules = listed(table, CHECKS, holding=[prefix.encode()])
    own = [rule.outline for rule in rules if rule.comment.startswith(prefix)]
    return found + [f"nft {_words(address)}" for address in addresses if outline(_expressions(address)) not in own]


def repair(machine: Machine, owner: Owner, addresses: list[Cidr], others: list[Cidr]) -> None:
    """Make anew, by one transaction, what leads to the owner's rules, and these; `others` have their own."""
    table, prefix = _table(machine), prefix_of(owner)
    stale = [handle for handle, comment in table.comments(CHECKS) if comment.startswith(prefix)]
    requests = [table.delete_rule(CHECKS, handle) for handle in stale]
    requests += [_rule(table, owner, address) for address in addresses]
    deletions = [f"delete rule inet {NAME} {CHECKS} handle {handle}" for handle in stale]
    say = nftables.say(*_shared_commands(), *deletions, *(_command(owner, address) for address in addresses))
    machine.journal.run(say, lambda: table.commit(say, *_shared(table), *requests))


def collect(machine: Machine, network: str, valid: set[tuple[str, str]]) -> None:
    """Remove the network's rules whose attachment is not valid."""
    network_prefix = f"{digest(network, 16)}-"
    keep = {prefix_of(Owner(network, container_id, ifname)) for container_id, ifname in valid}
    stale: dict[str, list[int]] = {}
    for handle, comment in backends.look(_table(machine).comments, CHECKS) or []:
        if comment.startswith(network_prefix) and comment[:33] not in keep:
            stale.setdefault(comment[:33], []).append(handle)
    attempt = Attempts()
    for _, handles in sorted(stale.items()):
        attempt(_delete, machine, handles)
    attempt.finish()


def _delete(machine: Machine, handles: list[int]) -> None:
    if handles:
        table = _table(machine)
        say = nftables.say(*(f"delete rule inet {NAME} {CHECKS} handle {handle}" for handle in handles))
        requests = [table.delete_rule(CHECKS, handle) for handle in handles]
        machine.journal.run(say, lambda: table.commit(say, *requests))


def _nothing() -> None:
    pass


def _table(machine: Machine) -> Table:
    return Table(machine.host, NFPROTO_INET, NAME)


def _remove(table: Table, prefix: str) -> None:
    """The undo of an ADD."""
    handles = [handle for handle, comment in table.comments(CHECKS) if comment.startswith(prefix)]
    if handles:
        say = f"nft delete rules inet {NAME} {CHECKS}"
        table.commit(say, *[table.delete_rule(CHECKS, handle) for handle in handles])


def _leading() -> list[tuple[str, list[Expression]]]:
    """What comes before every check, in words and as expressions."""
    multicast = {4: b"\xe0\0\0\0", 6: b"\xff" + bytes(15)}
    back = nftables.verdict(NFT_RETURN)
    return [
        (
            "ip daddr 224.0.0.0/4 return",
            nftables.ip_version(4) + nftables.destination(multicast[4], 4) + back,
        ),
        (
            "ip6 daddr ff00::/8 return",
            nftables.ip_version(6) + nftables.destination(multicast[6], 8) + back,
        ),
        (f"goto {CHECKS}", nftables.verdict(NFT_GOTO, CHECKS)),
    ]


def _shared(table: Table) -> list[Request]:
    """Table, chains, and what comes before every check; filled anew, so that several first ADDs at once do no harm."""
    return [
        table.add("CNI plugins masquerading"),
        table.add_chain(CHECKS),
        table.add_chain(POSTROUTING, ("nat", NF_INET_POST_ROUTING, PRIORITY_SRCNAT)),
        table.flush_chain(POSTROUTING),
        *(table.add_rule(POSTROUTING, expressions) for _, expressions in _leading()),
    ]


def _shared_commands() -> list[str]:
    """The same for nft(8)."""
    return [
        f'add table inet {NAME} {{ comment "CNI plugins masquerading"; }}',
        f"add chain inet {NAME} {CHECKS}",
        f"add chain inet {NAME} {POSTROUTING} {{ type nat hook postrouting priority srcnat; policy accept; }}",
        f"flush chain inet {NAME} {POSTROUTING}",
        *(f"add rule inet {NAME} {POSTROUTING} {words}" for words, _ in _leading()),
    ]


def _set_up(machine: Machine, table: Table) -> None:
    say = nftables.say(*_shared_commands())

    def undo() -> None:
        if not table.comments(CHECKS):
            table.commit(f"nft delete table inet {NAME}", table.delete())

    machine.journal.run(say, lambda: table.commit(say, *_shared(table)), undo, shared=True)


def _expressions(address: Cidr) -> list[Expression]:
    packed = address.address.packed
    return (
        nftables.ip_version(address.version)
        + nftables.source(packed)
        + nftables.destination(packed, address.prefix, negate=True)
        + nftables.masquerade()
    )


def _rule(table: Table, owner: Owner, address: Cidr) -> Request:
    return table.add_rule(CHECKS, _expressions(address), _comment(owner))


def _comment(owner: Owner) -> str:
    comment = f"{prefix_of(owner)}, net: {owner.network}, if: {owner.ifname}, id: {owner.container_id}"
    return comment.replace('"', "")[: nftables.COMMENT_LIMIT - 1]


def _command(owner: Owner, address: Cidr) -> str:
    """The rule for nft(8), as it is added."""
    return f'{_words(address)} comment "{_comment(owner)}"'


def _words(address: Cidr) -> str:
    ip = "ip" if address.version == 4 else "ip6"
    return f"add rule inet {NAME} {CHECKS} {ip} saddr {address.address} {ip} daddr != {address.network} masquerade"
