"""Connections that the kernel tracks, over netlink."""

from __future__ import annotations

import errno

from . import sysctl
from .journal import UNCHANGED, HostError
from .netlink import conntrack
from .netlink.codec import attribute
from .netlink.rtnl import AF_INET, AF_INET6
from .netlink.socket import Netlink, NetlinkError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .namespace import Namespace

UDP = 17
_WANTED = frozenset((*conntrack.TABLES["connection"][1], *conntrack.TABLES["tuple"][1])) - {"CTA_FILTER", "CTA_STATUS"}
_WANTED |= frozenset((*conntrack.TABLES["tuple_ip"][1], *conntrack.TABLES["tuple_proto"][1]))


class Connection:
    """A tracked connection: its first packet went to `dst` and `port`, the answers come from `answers_from`."""

    def __init__(self, message: dict[str, Any]) -> None:
        self.message = message
        version = 4 if message["nfgen_family"] == AF_INET else 6
        self.dst: str = attribute(message, "CTA_TUPLE_ORIG", "CTA_TUPLE_IP", f"CTA_IP_V{version}_DST") or ""
        self.protocol: int = attribute(message, "CTA_TUPLE_ORIG", "CTA_TUPLE_PROTO", "CTA_PROTO_NUM") or 0
        self.port: int = attribute(message, "CTA_TUPLE_ORIG", "CTA_TUPLE_PROTO", "CTA_PROTO_DST_PORT") or 0
        self.answers_from: str = attribute(message, "CTA_TUPLE_REPLY", "CTA_TUPLE_IP", f"CTA_IP_V{version}_SRC") or ""


def forget(
    namespace: Namespace, version: int, ports: set[int], is_meant: Callable[[Connection], bool], who: str
) -> int:
    """Delete the tracked UDP flows to these ports that are meant; how many that were. HostError when it is refused.

    The next packet of such a flow is looked at anew. `who`: what the journal calls them.
    """
    # To look for them takes 10 ms and more: the kernel walks the table that it has for all namespaces together.
    if sysctl.read(namespace, "net/netfilter/nf_conntrack_count") == "0":
        return 0
    # No command: `conntrack -D` would take away those of others to the same ports, too.
    say = f"# conntrack: delete the IPv{version} flows to UDP ports {', '.join(map(str, sorted(ports)))} of {who}"
    count = namespace.machine.journal.run(say, lambda: _forget(namespace, version, ports, is_meant, say) or UNCHANGED)
    return 0 if count is UNCHANGED else count


def _forget(
    namespace: Namespace, version: int, ports: set[int], is_meant: Callable[[Connection], bool], say: str
) -> int:
    with namespace:
        try:
            socket = Netlink(conntrack.FAMILY)
        except OSError as error:
            raise HostError(error.errno or errno.EIO, say) from None
    with socket:
        try:
            found = map(Connection, socket.dump(conntrack.IPCTNL_MSG_CT_GET, _question(version, ports), _WANTED))
            going = [each for each in found if each.protocol == UDP and each.port in ports and is_meant(each)]
            for answer in socket.request(*[_deletion(each.message) for each in going]):
                if isinstance(answer, NetlinkError) and answer.errno != errno.ENOENT:  # it has ended meanwhile
                    raise answer
        except NetlinkError as error:
            raise HostError(error.errno or errno.EIO, say, error.strerror or "") from None
    return len(going)


def _question(version: int, ports: set[int]) -> dict[str, Any]:
    """What to dump: the kernel picks UDP out since Linux 5.8, and a single port; older ones tell everything."""
    proto = [("CTA_PROTO_NUM", UDP)]
    flags = conntrack.CTA_FILTER_F_CTA_PROTO_NUM
    if len(ports) == 1:
        proto.append(("CTA_PROTO_DST_PORT", min(ports)))
        flags |= conntrack.CTA_FILTER_F_CTA_PROTO_DST_PORT
    pattern = {"attrs": [("CTA_TUPLE_PROTO", {"attrs": proto})]}
    compared = {"attrs": [("CTA_FILTER_ORIG_FLAGS", flags), ("CTA_FILTER_REPLY_FLAGS", 0)]}
    family = AF_INET if version == 4 else AF_INET6
    return {"nfgen_family": family, "attrs": [("CTA_TUPLE_ORIG", pattern), ("CTA_FILTER", compared)]}


def _deletion(message: dict[str, Any]) -> tuple[int, int, dict[str, Any]]:
    """Of just this connection: with its number, in case that another has the same addresses by now."""
    named = [pair for pair in message["attrs"] if pair[0] in ("CTA_TUPLE_ORIG", "CTA_ID", "CTA_ZONE")]
    return conntrack.IPCTNL_MSG_CT_DELETE, 0, {"nfgen_family": message["nfgen_family"], "attrs": named}
