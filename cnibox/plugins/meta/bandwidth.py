"""bandwidth: limits the rate at which a container receives (ingress) and sends (egress).

{"type": "bandwidth", "ingressRate": 8000000, "ingressBurst": 1600000, "egressRate": 8000000, "egressBurst": 1600000}

Put it after bridge or ptp: the limits are at the host's end of the container's veth pair. What the container receives
waits there, in a token bucket; what it sends is diverted to an ifb, a link of the container's own, and waits there.
Without limits nothing is touched. Another ADD replaces the limits, or takes them away.
"""

from __future__ import annotations

from ... import record
from ...host import ifb as ifbs
from ...host import links, qdisc_kinds, qdiscs
from ...host.netlink import rtnl
from ...host.qdiscs import MAX_U32, Bucket
from ...spec import errors
from ...spec.errors import CniError, require
from ...spec.options import Int, Option, Options
from ...spec.options import Record as Object
from ...spec.result import Interface
from ...wiring.chained import ChainedPlugin
from ...wiring.owner import digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...host.links import Link
    from ...host.namespace import Namespace
    from ...plugin import Attempts
    from ...record import Record
    from ...spec.options import Values
    from ...spec.result import Result

Amount = Int(0, (1 << 64) - 1)
LIMITS = (
    Option("ingressRate", Amount, help="bit/s that the container may receive"),
    Option("ingressBurst", Amount, help="bits that it may receive at once"),
    Option("egressRate", Amount, help="bit/s that the container may send"),
    Option("egressBurst", Amount, help="bits that it may send at once"),
)
KERNEL = "load the module (modprobe {}), or run a kernel that has it"


class Bandwidth(ChainedPlugin):
    options = Options(
        *LIMITS,
        Option(
            "bandwidth",
            Object(Options(*LIMITS)),
            config=False,
            capability="bandwidth",
            help="the same from the runtime, if the configuration has none of the four",
        ),
        Option("latency", Int(1, 60_000), 25, "milliseconds that a packet may wait before it is dropped"),
    )

    def limits(self) -> tuple[Bucket | None, Bucket | None]:
        """What the container may receive, and what it may send; None without a limit."""
        given: Values = self.option
        if all(getattr(given, limit.name) is None for limit in LIMITS):
            given = self.option.bandwidth or given
        latency = self.option.latency
        return (
            bucket("ingress", given.ingressRate or 0, given.ingressBurst or 0, latency),
            bucket("egress", given.egressRate or 0, given.egressBurst or 0, latency),
        )

    # --- ADD

    def add(self) -> Result:
        receiving, sending = self.limits()
        result = self.require_previous()
        earlier = record.of(self.request, self.name)
        if receiving is None and sending is None:
            if earlier is not None:
                self._lift_recorded(earlier)
            return result
        self.sandbox = self.open_sandbox()
        near = self.require_near_end()
        ifb = self.ifb_name()
        self.remember(veth=near.name, index=near.index, ifb=ifb)
        if receiving is not None:
            self.machine.journal.why = "ingressRate"
            qdiscs.limit(self.machine.host, near, receiving)
        if sending is not None:
            self.machine.journal.why = "egressRate"
            link = self._limit_sending(near, ifb, sending)
            result.interfaces.append(Interface(link.name, link.mac, mtu=link.mtu))
        if earlier is not None:
            self._lift(near, ifb, receiving=receiving is None, sending=sending is None)
        return result

    def _lift_recorded(self, earlier: Record) -> None:
        """An earlier ADD's limits go, with its record."""
        name, index, ifb = (earlier.facts.get(key) for key in ("veth", "index", "ifb"))
        near = links.find(self.machine.host, name) if isinstance(name, str) else None
        same = near if near is not None and near.index == index else None
        self._lift(same, ifb if isinstance(ifb, str) else "", receiving=True, sending=True)
        earlier.remove(self.machine)

    def _lift(self, near: Link | None, ifb: str, *, receiving: bool, sending: bool) -> None:
        """An earlier ADD's limits that this one does not ask for go; all of it is undone when this ADD fails."""
        host = self.machine.host
        if receiving and near is not None:
            self.machine.journal.why = "ingressRate"
            qdiscs.unlimit(host, near)
        if sending:
            self.machine.journal.why = "egressRate"
            link = links.find(host, ifb) if ifb else None
            link = link if link is not None and link.kind == "ifb" else None
            if near is not None:
                qdiscs.stop_diverting(host, near, link)
            if link is not None:
                qdiscs.unlimit(host, link)
                ifbs.remove(host, link)

    def require_near_end(self) -> Link:
        """The host's end of the container's veth pair."""
        link = self.require_link()
        near = near_end(self.machine.host, self.sandbox, link)
        if near is None:
            text = f"interface {link.name} in {self.sandbox.path} is no veth with its other end on the host"
            raise CniError(errors.INTERNAL, text, "bandwidth limits what bridge or ptp has made")
        return near

    def ifb_name(self) -> str:
        """As the reference calls it; the container's other interface to the same network may have that one already."""
        request = self.request
        mine = request.name, request.container_id
        name = f"bwp{digest(''.join(mine), 12)}"
        others = record.siblings(request.container_id, request.ifname, request.name, self.name)
        if any(other.facts.get("ifb") == name for other in others):
            return f"bwp{digest(''.join((*mine, request.ifname)), 12)}"
        return name

    def _limit_sending(self, near: Link, name: str, bucket: Bucket) -> Link:
        host = self.machine.host
        if links.find(host, name) is None:
            ifbs.create(host, name, near.mtu)
        link = links.get(host, name)
        if link.kind != "ifb":
            raise CniError(errors.INTERNAL, f"{name} is a {link.kind or 'hardware link'}, not an ifb")
        with host.batch():
            if not link.is_up:
                links.set_up(host, link)
            qdiscs.limit(host, link, bucket)
            qdiscs.divert(host, near, link)
        return link

    # --- CHECK

    def check(self) -> None:
        receiving, sending = self.limits()
        self.require_previous()
        if receiving is None and sending is None:
            return
        self.sandbox = self.open_sandbox()
        host, near = self.machine.host, self.require_near_end()
        if receiving is not None:
            check_bucket(host, near, receiving)
        if sending is None:
            return
        found = record.of(self.request, self.name)
        name = str(found.facts.get("ifb")) if found is not None else self.ifb_name()
        link = links.find(host, name)
        if link is None or link.kind != "ifb":
            raise CniError(errors.INTERNAL, f"ifb {name}, through which the container sends, is not there")
        require(link.is_up, f"ifb {name} is down")
        check_bucket(host, link, sending)
        kind, targets = qdiscs.ingress(host, near)
        require(kind == "ingress", f"{near.name} has {kind or 'no'} queueing discipline at its ingress, not ingress")
        where = f"what arrives on {near.name} is not diverted to {name}"
        require(targets == [link.index], f"{where}: its filters lead to {targets or 'nowhere'}, not to {link.index}")

    # --- DEL and GC

    def delete_recorded(self, attempt: Attempts, found: Record, sandbox: Namespace | None) -> None:
        name, index, ifb = (found.facts.get(key) for key in ("veth", "index", "ifb"))
        near = attempt(links.find, self.machine.host, name) if isinstance(name, str) else None
        if near is not None and near.index == index:
            self._unlimit(attempt, near)
        if isinstance(ifb, str):
            attempt(links.delete, self.machine.host, ifb)

    def delete_unrecorded(self, attempt: Attempts, sandbox: Namespace | None) -> None:
        host = self.machine.host
        near = attempt(self._find_near_end, sandbox)
        if near is not None:
            self._unlimit(attempt, near)
        attempt(links.delete, host, self.ifb_name())

    def _unlimit(self, attempt: Attempts, near: Link) -> None:
        self.machine.journal.why = "DEL"
        attempt(qdiscs.undivert, self.machine.host, near)
        attempt(qdiscs.unlimit, self.machine.host, near)

    def _find_near_end(self, sandbox: Namespace | None) -> Link | None:
        """The host's end: the peer of the container's, else the one that the previous result tells of."""
        host = self.machine.host
        if sandbox is not None:
            link = links.find(sandbox, self.request.ifname)
            return near_end(host, sandbox, link) if link is not None else None
        result = self.request.previous
        for interface in result.interfaces if result is not None else ():
            if not interface.sandbox and interface.name:
                link = links.find(host, interface.name)
                if link is not None and link.kind == "veth" and interface.mac in ("", link.mac):
                    return link
        return None

    # --- STATUS

    def status(self) -> None:
        self.limits()
        host = self.machine.host
        missing = [
            *(["ifb"] if not links.knows(host, "ifb") else ()),
            *(f"sch_{kind}" for kind in ("tbf", "ingress") if not qdisc_kinds.knows(host, kind)),
            *(["act_mirred"] if not qdisc_kinds.knows_action(host, "mirred") else ()),
            *(["cls_u32"] if not qdisc_kinds.knows_filter("u32") else ()),
        ]
        if missing:
            text = f"this kernel lacks {', '.join(missing)}, by which rates are limited"
            raise CniError(errors.PLUGIN_UNAVAILABLE, text, KERNEL.format(" ".join(missing)))


def bucket(direction: str, rate: int, burst: int, latency: int) -> Bucket | None:
    """The token bucket for a rate in bit/s, a burst in bits, and milliseconds to wait; None without a rate.

    Its parameters are the reference's, but that a size of more than the 274 s which the kernel takes is that, and does
    not begin anew at 0. CniError 7 for what makes no sense.
    """
    if not rate and not burst:
        return None
    if not burst:
        raise _unacceptable("if rate is set, burst must also be set", f"{direction}Burst")
    if not rate:
        raise _unacceptable("if burst is set, rate must also be set", f"{direction}Rate")
    if burst // 8 >= MAX_U32:
        raise _unacceptable("burst cannot be more than 4GB", f"{direction}Burst")
    rate, burst = rate // 8, burst // 8
    if not rate:
        raise _unacceptable("a rate must be at least 8 bit/s, one byte per second", f"{direction}Rate")
    waiting = rate * latency // 1000 + burst
    return Bucket(rate, waiting, qdiscs.ticks(burst * 1_000_000 // rate))


def _unacceptable(text: str, option: str) -> CniError:
    return CniError(errors.INVALID_CONFIG, text, f'look at "{option}"')


def check_bucket(host: Namespace, link: Link, wanted: Bucket) -> None:
    """Raise unless that, and nothing else, limits what leaves the link."""
    kind, _, found = qdiscs.root(host, link)
    require(kind == "tbf", f"the queueing discipline of {link.name} is {kind or 'none'}, not tbf")
    as_go_has_it = Bucket(wanted.rate, *wanted.wrapped)
    require(found in (wanted, as_go_has_it), f"{link.name} is limited to {found}, not {wanted}")


def near_end(host: Namespace, sandbox: Namespace, link: Link) -> Link | None:
    """The other end of a container's veth pair, if that is on the host."""
    if link.kind != "veth" or link.peer_namespace is None:
        return None
    near = links.at(host, link.peer_index)
    return near if near is not None and link.peer_namespace == number_of(host, sandbox) else None


def number_of(host: Namespace, sandbox: Namespace) -> int | None:
    """The number that the sandbox knows the host's namespace by, as its links tell it (IFLA_LINK_NETNSID)."""
    say = f"{sandbox.ip} netns list-id target {host.path}"
    answer = sandbox.ask(say, (rtnl.RTM_GETNSID, 0, {"attrs": [("NETNSA_FD", host.fd)]}))
    number: int = dict(answer["attrs"])["NETNSA_NSID"]
    return None if number == rtnl.NETNSA_NSID_NOT_ASSIGNED else number
