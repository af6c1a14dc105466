"""Packets from 127.0.0.1 to a published port: the host's link to the container must let them leave.

`route_localnet` of that link does so, and lets in what comes from there for 127.0.0.0/8. So it is set only on a link
that leads to containers alone, and such packets are dropped as they arrive. A reply to 127.0.0.1 arrives with the
address of the host by which it was masqueraded.

    table ip cni_hostport {
        chain loopback_guard {
            type filter hook prerouting priority mangle;
            iifname != "lo" ip daddr 127.0.0.0/8 drop
        }
    }

A kernel without nftables has the rule in iptables' table mangle. It stays, as route_localnet does, for the next one.
"""

from __future__ import annotations

import errno

from ...host import iptables, links, nftables, routes, sysctl
from ...host.journal import HostError
from ...host.netlink.nft import NF_DROP, NF_INET_PRE_ROUTING, PRIORITY_MANGLE
from ...host.nftables_listing import listed, outline
from .nftables_shared import TABLE_COMMENT, table_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...host.links import Link
    from ...host.namespace import Machine
    from ...host.nftables import Expression
    from ...record import Record
    from ...spec.result import Result

GUARD = "loopback_guard"
LOCAL_KINDS = ("tun", "dummy")
"""Ports of a bridge that lead to nobody outside the host, besides the host's ends of veth pairs."""
_BY_IPTABLES = "PREROUTING -d 127.0.0.0/8 ! -i lo -j DROP"
_NO_NFTABLES = (errno.EPROTONOSUPPORT, errno.EOPNOTSUPP, errno.EAFNOSUPPORT)


def leads_to_containers_alone(machine: Machine, link: Link, result: Result) -> bool:
    """Whether nobody but containers is behind the host's link to one of them.

    An uplink, behind which a macvlan is, is no interface of the previous result; a bridge may have one as its port.
    """
    if _is_on(machine, link.name):
        return True
    names = [interface.name for interface in result.interfaces if not interface.sandbox]
    if result.interfaces and link.name not in names:
        return False
    if any(route.gateways for route in routes.of(machine.host, 4, link.index) if route.leads_through(link)):
        return False
    bridge = links.at(machine.host, link.peer_index) if link.kind == "vlan" else link
    if bridge is None or bridge.kind != "bridge":
        return _is_containers_end(link)
    return all(_is_containers_end(port) or port.kind in LOCAL_KINDS for port in links.ports(machine.host, bridge))


def let_out(machine: Machine, link: str) -> None:
    """Let packets from 127.0.0.1 leave by that link, and none for 127.0.0.0/8 in. DEL leaves both to others."""
    _ensure_guard(machine)
    if not _is_on(machine, link):
        sysctl.write(machine.host, _route_localnet(link), "1", shared=True)


def missing(machine: Machine, record: Record | None) -> list[str]:
    """What of it an attachment's record tells, and somebody has taken away since, in words."""
    link = _link(record)
    if not link:
        return []
    words = [] if _is_on(machine, link) else [f"sysctl -w {_route_localnet(link)}=1"]
    return words if _has_guard(machine) else [*words, f"the rule that drops packets for 127.0.0.0/8 ({GUARD})"]


def repair(machine: Machine, record: Record) -> list[str]:
    """Put it back; what that was, in words."""
    words = missing(machine, record)
    if words:
        let_out(machine, _link(record))
    return words


def _is_containers_end(link: Link) -> bool:
    """The host's end of a pair, by the name that ours and the reference's have: an uplink may be a veth, too (eth0)."""
    return link.kind == "veth" and link.peer_namespace is not None and link.name.startswith("veth")


def _is_on(machine: Machine, link: str) -> bool:
    """The kernel takes `all` or the link's own; there may be no such key (None), as on a link that has gone."""
    keys = _route_localnet("all"), _route_localnet(link)
    return sysctl.read(machine.host, keys[0]) == "1" or sysctl.read(machine.host, keys[1]) in ("1", None)


def _link(record: Record | None) -> str:
    link = record.facts.get("loopbackWay") if record is not None else None
    return link if isinstance(link, str) else ""


def _route_localnet(link: str) -> str:
    return f"net/ipv4/conf/{link}/route_localnet"


# --- the rule


def _rule() -> list[Expression]:
    from_elsewhere = nftables.input_interface("lo", negate=True)
    return from_elsewhere + nftables.destination(bytes((127, 0, 0, 0)), 8) + nftables.verdict(NF_DROP)


def _has_guard(machine: Machine) -> bool:
    wanted = outline(_rule())
    if any(rule.outline == wanted for rule in listed(table_of(machine, 4), GUARD)):
        return True
    if nftables.usable(machine.host):
        return False
    return f"-A {_BY_IPTABLES}" in iptables.rules(4, "mangle")


def _ensure_guard(machine: Machine) -> None:
    if _has_guard(machine):
        return
    table = table_of(machine, 4)
    say = nftables.say(
        f'add table ip {table.name} {{ comment "{TABLE_COMMENT}"; }}',
        f"add chain ip {table.name} {GUARD} {{ type filter hook prerouting priority mangle; }}",
        f"flush chain ip {table.name} {GUARD}",
        f'add rule ip {table.name} {GUARD} iifname != "lo" ip daddr 127.0.0.0/8 drop',
    )
    requests = (
        table.add(TABLE_COMMENT),
        table.add_chain(GUARD, ("filter", NF_INET_PRE_ROUTING, PRIORITY_MANGLE)),
        table.flush_chain(GUARD),
        table.add_rule(GUARD, _rule()),
    )

    def undo() -> None:
        there = table.chains()
        if there == {GUARD}:
            table.commit(f"nft delete table ip {table.name}", table.delete())
        elif GUARD in there:
            table.commit(f"nft delete chain ip {table.name} {GUARD}", table.delete_chain(GUARD))

    try:
        machine.journal.run(say, lambda: table.commit(say, *requests), undo, shared=True)
    except HostError as error:
        if error.errno not in _NO_NFTABLES:
            raise
        _restore(machine, f"-I {_BY_IPTABLES}", f"-D {_BY_IPTABLES}")


def _restore(machine: Machine, line: str, undoing: str) -> None:
    def run(line: str) -> None:
        iptables.Restore(4, "mangle", [line]).finish()

    machine.journal.run(iptables.say(4, "mangle", [line]), lambda: run(line), lambda: run(undoing), shared=True)
