"""Tracked connections, over netlink (net/netfilter/nf_conntrack_netlink.c)."""

from __future__ import annotations

import errno

from .. import log
from . import sysctl
from .journal import UNCHANGED, HostError
from .netlink import conntrack
from .netlink.codec import attribute
from .netlink.rtnl import AF_INET, AF_INET6
from .netlink.socket import Netlink, NetlinkError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .namespace import Namespace

UDP = 17
FEW = 16
"""So many deletions by a filter, 0.35 ms each, take less time than a dump: 10 ms with 262,144 buckets."""
NO_CTNETLINK = (errno.EINVAL, errno.EOPNOTSUPP, errno.EPROTONOSUPPORT)
_WANTED = frozenset((*conntrack.TABLES["connection"][1], *conntrack.TABLES["tuple"][1])) - {"CTA_FILTER", "CTA_STATUS"}
_WANTED |= frozenset((*conntrack.TABLES["tuple_ip"][1], *conntrack.TABLES["tuple_proto"][1]))


class UdpFlows:
    """UDP flows whose first packet went to `port` of `address`, and whose replies come from `server`.

    address: an address in text; empty: any
    server: address and port that the replies come from; None: any
    """

    def __init__(self, port: int, address: str = "", server: tuple[str, int] | None = None) -> None:
        self.port = port
        self.address = address
        self.server = server

    def include(self, version: int, connection: dict[str, Any]) -> bool:
        """Whether a tracked connection, as the kernel dumps it, is one of these."""

        def value(direction: str, part: str, key: str) -> Any:
            return attribute(connection, f"CTA_TUPLE_{direction}", f"CTA_TUPLE_{part}", key)

        replies_from = value("REPLY", "IP", f"CTA_IP_V{version}_SRC"), value("REPLY", "PROTO", "CTA_PROTO_SRC_PORT")
        return (
            value("ORIG", "PROTO", "CTA_PROTO_NUM") == UDP
            and value("ORIG", "PROTO", "CTA_PROTO_DST_PORT") == self.port
            and self.address in ("", value("ORIG", "IP", f"CTA_IP_V{version}_DST"))
            and self.server in (None, replies_from)
        )

    def deletion(self) -> tuple[int, int, dict[str, Any]]:
        """The request that deletes all IPv4 flows of these, by the filter that the kernel has since Linux 5.8.

        The kernel's filter of IPv6 addresses selects all but the one given (Linux 5.8 to 6.18 at least:
        ctnetlink_filter_match_tuple takes ipv6_addr_cmp for a test of equality). It must not be used.
        """
        number = ("CTA_PROTO_NUM", UDP)
        proto: list[tuple[str, Any]] = [number, ("CTA_PROTO_DST_PORT", self.port)]
        tuples = [("CTA_TUPLE_ORIG", _tuple("CTA_IP_V4_DST", self.address, proto))]
        flags = conntrack.CTA_FILTER_F_CTA_PROTO_NUM | conntrack.CTA_FILTER_F_CTA_PROTO_DST_PORT
        flags |= conntrack.CTA_FILTER_F_CTA_IP_DST if self.address else 0
        reply_flags = 0
        if self.server is not None:
            address, port = self.server
            proto = [number, ("CTA_PROTO_SRC_PORT", port)]
            tuples.append(("CTA_TUPLE_REPLY", _tuple("CTA_IP_V4_SRC", address, proto)))
            reply_flags = conntrack.CTA_FILTER_F_CTA_PROTO_NUM | conntrack.CTA_FILTER_F_CTA_PROTO_SRC_PORT
            reply_flags |= conntrack.CTA_FILTER_F_CTA_IP_SRC
        compared = {"attrs": [("CTA_FILTER_ORIG_FLAGS", flags), ("CTA_FILTER_REPLY_FLAGS", reply_flags)]}
        body = {"nfgen_family": AF_INET, "attrs": [*tuples, ("CTA_FILTER", compared)]}
        return conntrack.IPCTNL_MSG_CT_DELETE, 0, body

    def __str__(self) -> str:
        """As the options of conntrack(8) say it."""
        words = f"--orig-port-dst {self.port}"
        words += f" --orig-dst {self.address}" if self.address else ""
        return words + (f" --reply-src {self.server[0]} --reply-port-src {self.server[1]}" if self.server else "")


def forget(namespace: Namespace, version: int, flows: list[UdpFlows]) -> None:
    """Delete the tracked connections of these flows: the next packet of each is looked at by today's rules.

    A kernel that cannot list or delete tracked connections keeps them, which is logged. HostError when it refuses.
    """
    if not flows or sysctl.read(namespace, "net/netfilter/nf_conntrack_count") in (None, "0"):
        return  # this kernel tracks no connections, or there are none
    say = "; ".join(f"conntrack -D -f ipv{version} -p udp {each}" for each in flows)
    namespace.machine.journal.run(say, lambda: _forget(namespace, version, flows, say))


def _forget(namespace: Namespace, version: int, flows: list[UdpFlows], say: str) -> object:
    # Only a dump tells whether there was any: what found nothing is not to be explained.
    by_dump = version == 6 or len(flows) > FEW or namespace.machine.journal.stepwise
    with namespace:
        try:
            socket = Netlink(conntrack.FAMILY)
        except OSError as error:  # no netlink for netfilter at all: EPROTONOSUPPORT
            return _unchanged(error, say)
    with socket:
        try:
            if by_dump or not _forget_by_filter(socket, flows):
                return None if _forget_by_dump(socket, version, flows) else UNCHANGED
        except NetlinkError as error:
            return _unchanged(error, say)
    return None


def _unchanged(error: OSError, say: str) -> object:
    """Log that this kernel cannot delete tracked connections. HostError when the error means something else."""
    if error.errno not in NO_CTNETLINK:
        raise HostError(error.errno or errno.EIO, say, error.strerror or "") from None
    log.warning(f"{say}: {error.strerror}; this kernel may lack nf_conntrack_netlink")
    return UNCHANGED


def _forget_by_filter(socket: Netlink, flows: list[UdpFlows]) -> bool:
    """Whether the kernel has filters; without them it refuses incomplete tuples, and deletes nothing."""
    for answer in socket.request(*[each.deletion() for each in flows]):
        if isinstance(answer, NetlinkError):
            if answer.errno in NO_CTNETLINK:
                return False
            if answer.errno != errno.ENOENT:
                raise answer
    return True


def _forget_by_dump(socket: Netlink, version: int, flows: list[UdpFlows]) -> int:
    """How many there were."""
    ports = {each.port for each in flows}
    by_port = {port: [each for each in flows if each.port == port] for port in ports}
    going = []
    for connection in socket.dump(conntrack.IPCTNL_MSG_CT_GET, _question(version, ports), _WANTED):
        port = attribute(connection, "CTA_TUPLE_ORIG", "CTA_TUPLE_PROTO", "CTA_PROTO_DST_PORT")
        if any(each.include(version, connection) for each in by_port.get(port, ())):
            going.append(_deletion(connection))
    for answer in socket.request(*going):
        if isinstance(answer, NetlinkError) and answer.errno != errno.ENOENT:  # it has ended meanwhile
            raise answer
    return len(going)


def _question(version: int, ports: set[int]) -> dict[str, Any]:
    """What to dump: the kernel picks UDP out since Linux 5.8, and a single port; older ones tell everything."""
    proto = [("CTA_PROTO_NUM", UDP)]
    flags = conntrack.CTA_FILTER_F_CTA_PROTO_NUM
    if len(ports) == 1:
        proto.append(("CTA_PROTO_DST_PORT", min(ports)))
        flags |= conntrack.CTA_FILTER_F_CTA_PROTO_DST_PORT
    compared = {"attrs": [("CTA_FILTER_ORIG_FLAGS", flags), ("CTA_FILTER_REPLY_FLAGS", 0)]}
    attributes = [("CTA_TUPLE_ORIG", _tuple("", "", proto)), ("CTA_FILTER", compared)]
    return {"nfgen_family": _family(version), "attrs": attributes}


def _deletion(connection: dict[str, Any]) -> tuple[int, int, dict[str, Any]]:
    """Delete just this connection, by its number: another one may have the same addresses by now."""
    named = [pair for pair in connection["attrs"] if pair[0] in ("CTA_TUPLE_ORIG", "CTA_ID", "CTA_ZONE")]
    return conntrack.IPCTNL_MSG_CT_DELETE, 0, {"nfgen_family": connection["nfgen_family"], "attrs": named}


def _tuple(key: str, address: str, proto: list[tuple[str, Any]]) -> dict[str, Any]:
    """A tuple with the address under `key`, if there is one, and these attributes of the protocol."""
    ip = [("CTA_TUPLE_IP", {"attrs": [(key, address)]})] if address else []
    return {"attrs": [*ip, ("CTA_TUPLE_PROTO", {"attrs": proto})]}


def _family(version: int) -> int:
    return AF_INET if version == 4 else AF_INET6
