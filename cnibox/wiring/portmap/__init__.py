"""Published ports: rules that lead a port of the host to a container, and tracked connections that know no such rule.

Two backends, iptables and nftables, with the reference's names of chains, tables and comments, so that either side's
DEL cleans up after the other's ADD. Both modules have the same functions; only the one in use is imported.
"""

from __future__ import annotations

from ...host import addresses, links, routes, sysctl
from ...plugin import Attempts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    from ...host.links import Link
    from ...host.namespace import Machine
    from ...spec.address import Cidr
    from ..owner import Owner
    from .mappings import Mapping, Published

BRIDGE_CALLS = {4: "net/bridge/bridge-nf-call-iptables", 6: "net/bridge/bridge-nf-call-ip6tables"}


def add(
    machine: Machine,
    published: Published,
    backend: str,
    before: Published | None,
    siblings: list[Published],
    lock: int,
    is_first: bool,
) -> Callable[[], None]:
    """Begin to put the rules in the place of those from `before`; the function returned waits until they are there.

    siblings: what other interfaces of the container publish in the same network
    lock: descriptor of the container's lock, which programs that we start hold on to should this process be killed
    is_first: whether nothing has been published since the machine was booted, as far as we know
    CniError 999 when rules of somebody without a record lead one of the ports away.
    """
    finish: Callable[[], None] = _backend(backend).add(machine, published, before, siblings, lock, is_first)
    return finish


def remove(machine: Machine, published: Published, backend: str, siblings: list[Published]) -> Callable[[], None]:
    """Begin to remove them; the function returned waits until they are gone. They may be gone already."""
    finish: Callable[[], None] = _backend(backend).remove(machine, published, siblings)
    return finish


def remove_by_name(machine: Machine, owner: Owner, addresses: list[Cidr], others: list[Published], look: bool) -> None:
    """Remove them from both backends when no record tells of them.

    addresses: the attachment's, as far as they are known
    others: what other attachments of the container publish
    look: whether to start a program if nothing else can find any
    """
    from . import iptables, nftables

    attempt = Attempts()
    mine = {address.address.packed for address in addresses}
    theirs = {address.address.packed for each in others for address in each.addresses.values()} - mine
    attempt(nftables.remove_by_name, machine, owner, mine, theirs)
    siblings = [each for each in others if each.owner.network == owner.network]
    attempt(iptables.remove_by_name, machine, owner, siblings, look)
    attempt.finish()


def missing(machine: Machine, published: Published, backend: str) -> list[str]:
    """The rules that are not there, in words."""
    found: list[str] = _backend(backend).missing(machine, published)
    return found


def repair(machine: Machine, published: Published, backend: str, siblings: list[Published]) -> None:
    """Make all of the attachment's rules anew."""
    _backend(backend).repair(machine, published, siblings)


def collect(machine: Machine, network: str, valid: set[tuple[str, str]]) -> None:
    """Remove what belongs to the network and to none of these (container ID, interface name).

    Of rules of nftables, whose comments name the container only, the network cannot be known: they stay.
    """
    from . import iptables

    iptables.collect(machine, network, valid)


def way_to(machine: Machine, address: Cidr) -> Link | None:
    """The host's link by which packets to the container leave."""
    index = routes.interface_to(machine.host, str(address.address))
    return links.at(machine.host, index) if index else None


def needs_whole_subnet(machine: Machine, address: Cidr, way: Link | None) -> bool:
    """Whether a neighbour's connection to a published port would break unless it gets the host's address.

    The container answers a neighbour on the bridge without the host's routing. Netfilter translates that answer only
    where it is called for bridged packets (br_netfilter); over ptp's veth all packets are routed.
    """
    if way is None or way.kind == "veth":
        return False
    return sysctl.read(machine.host, BRIDGE_CALLS[address.version]) != "1"


def forget_flows(machine: Machine, published: Published, of_others: bool) -> None:
    """Delete the tracked UDP flows to the published ports: a client that keeps sending keeps its old flow for ever.

    of_others: those to the host's addresses, which may lead elsewhere before ADD; else those to which the container
    replies, before DEL. Other flows to the same port numbers stay.
    """
    attempt = Attempts()
    for version in published.versions:
        mappings = [each for each in published.of(version) if each.protocol == "udp"]
        if mappings:
            attempt(_forget_flows, machine, published, version, mappings, of_others)
    attempt.finish()


def _forget_flows(
    machine: Machine, published: Published, version: int, mappings: list[Mapping], of_others: bool
) -> None:
    from ...host import conntrack

    own = str(published.addresses[version].address)
    locals_ = addresses.of_host(machine.host, version) if of_others else []
    flows = []
    for each in mappings:
        server = None if of_others else (own, each.container_port)
        targets = [str(each.destination)] if each.destination is not None else locals_ if of_others else [""]
        flows += [conntrack.UdpFlows(each.host_port, target, server) for target in targets]
    conntrack.forget(machine.host, version, flows)


def _backend(name: str) -> ModuleType:
    if name == "nftables":
        from . import nftables

        return nftables
    from . import iptables

    return iptables
