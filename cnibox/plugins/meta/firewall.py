"""firewall: what the host forwards to and from a container is let through, and networks may be kept apart.

{"type": "firewall", "ingressPolicy": "same-bridge"}

It comes behind the plugin that makes the interface. What a container sends is accepted, and what belongs to connections
that it has begun, unless the administrator's chain (CNI-ADMIN), which comes before, says otherwise. The ingress policy
drops what comes from other bridges that have one, too (same-bridge), and also what comes from the same one (isolated).
"""

from __future__ import annotations

from ... import log, record
from ...host import files, firewalld, iptables, links
from ...host.journal import HostError
from ...plugin import Attempts
from ...spec import errors
from ...spec.errors import CniError
from ...spec.jsontext import member
from ...spec.options import Kind, OneOf, Option, Options, Text
from ...wiring import backends
from ...wiring.chained import ChainedPlugin
from ...wiring.firewall import backend_called, zones
from ...wiring.firewall.bridge import bridge_of, host_interfaces, is_plain, others_of, policies_of_others, ports_among
from ...wiring.firewall.part import ADMIN_CHAIN, ISOLATED, OPEN, SAME_BRIDGE, ZONE, addresses_in, part_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...host.files import Lock
    from ...host.namespace import Machine, Namespace
    from ...record import Record
    from ...spec.address import Address
    from ...spec.result import Result
    from ...wiring.firewall.part import Part

LOCK = f"{record.STATE}/firewall.lock"
CHAIN_LIMIT = 28
"""Bytes of a chain's name (XT_EXTENSION_MAXNAMELEN - 1)."""

NO_CHAINS = (
    *("ACCEPT", "DROP", "RETURN", "QUEUE", "INPUT", "FORWARD", "OUTPUT"),
    *("CNI-FORWARD", "CNI-ISOLATION-STAGE-1", "CNI-ISOLATION-STAGE-2"),
    *("forward", "overrides", "isolation_1", "isolation_2"),
)
"""What these names mean already, to iptables or in the chains of ours."""


def _chain(value: Any) -> str | None:
    name = value if isinstance(value, str) else "?"
    plain = name.replace("_", "").replace("-", "").replace(".", "")
    fits = plain.isascii() and plain.isalnum() and name[:1].isalnum() and len(name) <= CHAIN_LIMIT
    if name and (not fits or name in NO_CHAINS):
        raise ValueError
    return name or None


CHAIN_NAME = Kind(
    "the name of a chain of your own, up to 28 letters, digits, - _ and .",
    {"type": "string", "pattern": "^([A-Za-z0-9][A-Za-z0-9_.-]{0,27})?$"},
    _chain,
)


class Firewall(ChainedPlugin):
    options = Options(
        Option(
            "backend",
            OneOf("iptables", "firewalld", "nftables"),
            "",
            "by default firewalld if it runs, else iptables, or nftables where iptables is unusable",
        ),
        Option("iptablesAdminChainName", CHAIN_NAME, ADMIN_CHAIN, "the administrator's chain, also of nftables"),
        Option("firewalldZone", Text, ZONE, "of firewalld: the zone whose sources the container's addresses become"),
        Option(
            "ingressPolicy",
            OneOf(OPEN, SAME_BRIDGE, ISOLATED),
            OPEN,
            "same-bridge: drop what comes from other bridges; isolated: also from the same one",
        ),
    )

    address_fact = "addresses"

    # --- ADD

    def add(self) -> Result:
        result = self.require_previous()
        facts = self._facts(result)
        self.sandbox = self.open_sandbox()
        if not facts["addresses"]:
            return result
        is_first = not files.exists(LOCK)
        self.held = self.record().lock(self.machine)  # until this process ends
        turn = _Turn(self.machine).take()  # until this process ends: an undo needs it, too
        older = record.of(self.request, self.name)
        if older is not None:  # of an ADD without DEL, perhaps with other addresses
            self._forget(older, turn)
        facts |= self._backends()
        if facts["policy"] == ISOLATED:
            ports = ports_among(self.machine, facts["bridge"], facts["ports"])
            facts["isolated"] = [port.name for port in ports if not port.port.get("IFLA_BRPORT_ISOLATED")]
        facts["hasLink"] = links.find(self.sandbox, self.request.ifname) is not None
        self.remember(**facts)
        self._accept(facts)
        self._filter(facts, is_first, turn)
        for port in ports_among(self.machine, facts["bridge"], facts.get("isolated", [])):
            # What goes from port to port meets no rule of a packet filter, unless there is br_netfilter.
            links.set_isolated(self.machine.host, port, True)
        return result

    def _facts(self, result: Result) -> dict[str, Any]:
        """What the record tells, but for the backends; CniError 7 where the policy lacks its bridge."""
        option, isolating = self.option, self.option.ingressPolicy != OPEN
        addresses = dict.fromkeys(str(ip.address.address) for ip in result.ips)
        return {
            "addresses": list(addresses),
            "admin": option.iptablesAdminChainName,
            "zone": option.firewalldZone or ZONE,
            "policy": option.ingressPolicy,
            "bridge": bridge_of(result, option.ingressPolicy) if isolating else "",
            "ports": host_interfaces(result) if isolating else [],
        }

    def _backends(self) -> dict[str, str]:
        """`backend`, as the reference chooses it, and `filter`: the packet filter of the ingress policy."""
        wanted = self.option.backend
        by_firewalld = wanted == "firewalld" or (not wanted and firewalld.is_running())
        chosen = backends.choose(self.machine, "" if by_firewalld else wanted)
        return {"backend": "firewalld" if by_firewalld else chosen, "filter": chosen}

    def _accept(self, facts: dict[str, Any]) -> None:
        if facts["backend"] == "firewalld":
            self.machine.journal.why = "firewalldZone"
            zones.add(self.machine, addresses_in(facts), facts["zone"])

    def _filter(self, facts: dict[str, Any], is_first: bool, lock: int) -> None:
        """Add the rules; by nftables, too, where iptables turns out not to work and nobody asked for it."""
        part = self._part(facts)
        if not part.versions:
            return
        self.machine.journal.why = "type" if part.policy == OPEN else "ingressPolicy"
        try:
            backend_called(facts["filter"]).add(self.machine, part, lock, is_first)
        except HostError as error:
            asked_for = self.option.backend == "iptables" or facts["filter"] == "nftables"
            if asked_for or not backends.falls_back(self.machine, error, part.versions, "filter"):
                raise
            if not isinstance(error, iptables.Unavailable):  # which comes before any change
                backends.clear(lambda: self._remove_rules(self.record(**facts), "iptables", lock))
            facts |= {"filter": "nftables", "backend": facts["backend"].replace("iptables", "nftables")}
            self.remember(**facts)
            self.machine.journal.why = "backend"
            backend_called("nftables").add(self.machine, part, lock, is_first)

    def _part(self, facts: dict[str, Any]) -> Part:
        return part_of(self.record(**facts))

    def _forget(self, older: Record, lock: int) -> None:
        attempt = Attempts()
        self._delete_recorded(attempt, older, lock)
        attempt.finish()

    # --- CHECK

    def check(self) -> None:
        facts = self._facts(self.require_previous())
        found = self.recorded()
        facts |= self._backends()
        if found is not None:
            facts |= {key: found.facts[key] for key in ("backend", "filter") if found.facts.get(key)}
        part = self._part(facts)
        missing: list[str] = backend_called(facts["filter"]).missing(self.machine, part)
        if facts["backend"] == "firewalld":
            zone = facts["zone"]
            absent = zones.missing(self.machine, addresses_in(facts), zone)
            missing += [f"firewalld: source {address} of zone {zone}" for address in absent]
        if part.policy == ISOLATED:
            ports = ports_among(self.machine, part.bridge, facts["ports"])
            missing += [f"isolation of port {port.name}" for port in ports if not port.port.get("IFLA_BRPORT_ISOLATED")]
        if missing:
            raise CniError(errors.INTERNAL, f"firewall: missing: {'; '.join(missing)}")

    # --- DEL and GC

    def delete_recorded(self, attempt: Attempts, found: Record, sandbox: Namespace | None) -> None:
        with _Turn(self.machine) as lock:
            self._delete_recorded(attempt, found, lock)

    def _delete_recorded(self, attempt: Attempts, found: Record, lock: int) -> None:
        part, facts = part_of(found), found.facts
        backend = str(facts.get("filter") or "iptables")
        if facts.get("backend") == "firewalld":
            attempt(self._remove_sources, part.addresses, str(facts.get("zone") or ZONE), found)
        if part.versions:
            self.machine.journal.why = "DEL"
            attempt(self._remove_rules, found, backend, lock)
        for port in attempt(ports_among, self.machine, part.bridge, list(facts.get("isolated") or ())) or ():
            if port.port.get("IFLA_BRPORT_ISOLATED"):
                attempt(links.set_isolated, self.machine.host, port, False)

    def _remove_rules(self, found: Record, backend: str, lock: int) -> None:
        """iptables' rules of a bridge are those of one IP version; nftables' are for both."""
        attempt, part = Attempts(), part_of(found)
        for each in part.by_version() if backend == "iptables" and part.policy != OPEN else [part]:
            attempt(self._remove_part, each, found, backend, lock)
        attempt.finish()

    def _remove_part(self, part: Part, found: Record, backend: str, lock: int) -> None:
        policies: set[str] = set()
        if part.policy != OPEN:
            ports = list(found.facts.get("ports") or ())
            policies = policies_of_others(self.machine, part, found, ports, backend)
        backend_called(backend).remove(self.machine, part, policies, lock)

    def delete_unrecorded(self, attempt: Attempts, sandbox: Namespace | None) -> None:
        """What a Go plugin made, by whatever backend: prevResult's addresses, but those that another attachment has."""
        result = self.request.previous
        if result is not None and result.ips:
            with _Turn(self.machine):
                self._delete_unrecorded(attempt, result)

    def _delete_unrecorded(self, attempt: Attempts, result: Result) -> None:
        mine, part = self.record(), self._part({"addresses": [str(ip.address.address) for ip in result.ips]})
        first = result.interfaces[0].name if result.interfaces else ""
        part.bridge = first if is_plain(first) else ""
        held = [address for other in others_of(mine) for address in part_of(other).accepted]
        for backend in ("iptables", "nftables"):
            if backend == "nftables" and not backends.usable(self.machine, backend):
                continue
            policies = None
            if part.bridge:
                ports = host_interfaces(result)
                policies = attempt(backends.look, policies_of_others, self.machine, part, mine, ports, backend)
            if policies is None:  # others may need all of the bridge's rules
                policies = {SAME_BRIDGE, ISOLATED}
            attempt(backend_called(backend).remove_unrecorded, self.machine, part, policies, held)
        zone = member(self.request.config, "firewalldZone")
        attempt(self._remove_sources, part.addresses, zone if isinstance(zone, str) and zone else ZONE, mine)

    def _remove_sources(self, addresses: list[Address], zone: str, mine: Record) -> None:
        """Those that no other attachment has."""
        if not firewalld.is_running():  # what runs no more has no runtime configuration
            return
        held = {
            address
            for found in others_of(mine)
            if found.facts.get("backend") == "firewalld" and (found.facts.get("zone") or ZONE) == zone
            for address in addresses_in(found.facts)
        }
        self.machine.journal.why = "firewalldZone"
        zones.remove(self.machine, [address for address in addresses if address not in held], zone)

    def collect(self, attempt: Attempts, valid: set[tuple[str, str]]) -> None:
        """By nftables only: a rule of iptables does not tell whose it is."""
        with _Turn(self.machine):
            if backends.usable(self.machine, "nftables"):
                attempt(backend_called("nftables").collect, self.machine, self.request.name, valid)

    @staticmethod
    def repair(machine: Machine, found: Record) -> list[str]:
        facts, done = found.facts, []
        with _Turn(machine):
            if part_of(found).versions:
                done += backend_called(str(facts.get("filter"))).complete(machine, part_of(found))
            if facts.get("backend") == "firewalld" and firewalld.is_running():
                done += zones.complete(machine, addresses_in(facts), str(facts.get("zone") or ZONE))
        return done

    # --- STATUS

    def status(self) -> None:
        wanted = self.option.backend
        running = wanted in ("", "firewalld") and firewalld.is_running()
        if wanted == "firewalld" and not running:
            text = "firewalld is not running: nobody has its name on the system bus"
            raise CniError(errors.PLUGIN_UNAVAILABLE, text, 'start it, or set "backend" to another')
        if not running or self.option.ingressPolicy != OPEN:
            backends.require_usable(self.machine, "" if running else wanted, "firewall", "backend", "filter")


class _Turn:
    """`with _Turn(machine) as lock:` what all share is looked at and changed by one attachment at a time.

    It is taken after the container's lock. `lock` is its descriptor, for programs that are started; -1 where there can
    be no lock: no ADD has taken one there, nothing is on record, and nobody is to be kept out.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.lock: Lock | None = None

    def take(self) -> int:
        try:
            record.make_state(self.machine)
            self.lock = files.Lock(LOCK).acquire()
        except HostError as error:
            if error.errno not in record.UNUSABLE:
                raise
            log.info(f"without a lock: {error}")
            return -1
        return self.lock.fd

    def __enter__(self) -> int:
        return self.take()

    def __exit__(self, *unused: object) -> None:
        if self.lock is not None:
            self.lock.release()
