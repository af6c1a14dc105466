"""Packets from 127.0.0.1 to a published port: the host's link to the container must let them leave."""

from __future__ import annotations

from ...host import sysctl
from ...host.journal import HostError
from ...spec import errors
from ...spec.errors import CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...host.namespace import Machine
    from ...record import Record


def let_out(machine: Machine, link: str) -> None:
    """Let them leave by that link; they are masqueraded there. DEL leaves that to others."""
    try:
        sysctl.write(machine.host, _route_localnet(link), "1", shared=True)
    except HostError as error:
        raise CniError(errors.INTERNAL, f"unable to enable route_localnet: {error}") from None


def missing(machine: Machine, found: Record | None) -> list[str]:
    """What an attachment's record tells of and somebody has switched off since, in words."""
    link = _link(found)
    if not link or sysctl.read(machine.host, _route_localnet(link)) in ("1", None):
        return []
    return [f"sysctl -w {_route_localnet(link)}=1"]


def repair(machine: Machine, found: Record) -> list[str]:
    """Switch it on again; what that was, in words."""
    done = missing(machine, found)
    if done:
        sysctl.write(machine.host, _route_localnet(_link(found)), "1", shared=True)
    return done


def _link(found: Record | None) -> str:
    link = found.facts.get("loopbackWay") if found is not None else None
    return link if isinstance(link, str) else ""


def _route_localnet(link: str) -> str:
    return f"net/ipv4/conf/{link}/route_localnet"
