"""portmap: ports of the host lead to the container.

{"type": "portmap", "capabilities": {"portMappings": true}}

with, from the runtime, "runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}

Put it after the plugin that makes the interface. Only what is sent to an address of the host itself is led on, never
what the host forwards. A port that another living attachment holds is refused, and one that rules of another container
lead away, of which there is no record, for a Go plugin has made them.
"""

from __future__ import annotations

from ... import log, record
from ...host import iptables, links
from ...host.iptables import quoted
from ...host.journal import HostError
from ...plugin import Attempts
from ...spec import errors
from ...spec.errors import CniError
from ...spec.jsontext import member
from ...spec.options import Bool, Int, Ip, ListOf, OneOf, Option, Options, Record, Text
from ...spec.request import CONTAINER_ID
from ...wiring import backends, portmap
from ...wiring.chained import ChainedPlugin
from ...wiring.interface import require
from ...wiring.owner import Owner
from ...wiring.portmap import loopback, mappings, ports
from ...wiring.portmap.mappings import DEFAULT_MARK_BIT, Mapping, Published
from ...wiring.sharing import Hold

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...host.namespace import Machine, Namespace
    from ...record import Record as Recorded
    from ...spec.address import Cidr
    from ...spec.result import Result

MAPPING = Options(
    Option("hostPort", Int(), 0, "port of the host, 1 to 65535"),
    Option("containerPort", Int(), 0, "port of the container, 1 to 65535"),
    Option("protocol", Text, "", "tcp, udp or sctp"),
    Option("hostIP", Ip, None, "only on this address of the host; 0.0.0.0 and :: are all of their IP version"),
)
UNSAFE = {"iptables": "", "nftables": ";#\\"}
"""What would end a condition, besides control characters."""


class Portmap(ChainedPlugin):
    options = Options(
        Option("backend", OneOf("iptables", "nftables"), "", "by default iptables, or nftables where it is unusable"),
        Option("snat", Bool, True, "masquerade where answers would not come back by the host; needed for 127.0.0.1"),
        Option("masqAll", Bool, False, "masquerade every connection to a published port"),
        Option("markMasqBit", Int(), None, "bit 0 to 31 of the mark that iptables masquerades by; by default 13"),
        Option("externalSetMarkChain", Text, None, "iptables: a chain of table nat that sets a mark to masquerade by"),
        Option("conditionsV4", ListOf(Text), [], "what IPv4 packets must match besides, in the backend's own words"),
        Option("conditionsV6", ListOf(Text), [], "the same for IPv6 packets"),
        Option("portMappings", ListOf(Record(MAPPING)), [], "the ports", config=False, capability="portMappings"),
    )

    def derived_names(self) -> list[tuple[str, str]]:
        return [*super().derived_names(), (CONTAINER_ID, ports.longest_name(self.owner()))]

    address_fact = "addresses"

    # --- ADD

    def add(self) -> Result:
        published = self.published(self.validate())
        result = self.require_previous()
        self._warn_of_useless(published)
        if not published.versions:
            return result
        self.sandbox = self.open_sandbox()
        sharing = Hold(self.machine)
        self.held = self.record().lock(self.machine)  # until this process ends
        before = self._earlier()
        self.is_first = ports.is_first()
        self._choose_sources(published, result)
        self._take_ports(published)
        self._lead(published, before)
        if self.loopback_way:
            self._let_loopback_out(published)
        self.machine.journal.why = "runtimeConfig.portMappings"
        try:
            portmap.forget_flows(self.machine, published, of_others=True)
        except CniError as error:  # as in the reference: the rules are there, and hold for new flows
            log.warning(str(error))
        sharing.succeeded()
        return result

    def validate(self) -> Published:
        """What the configuration asks for, before the addresses are known; chooses the backend."""
        option = self.option
        if option.markMasqBit is not None and option.externalSetMarkChain is not None:
            text = "Cannot specify externalSetMarkChain and markMasqBit"
            raise CniError(errors.INVALID_CONFIG, text, "the external chain sets the mark, and knows its bit")
        bit = DEFAULT_MARK_BIT if option.markMasqBit is None else option.markMasqBit
        if not 0 <= bit <= 31:
            raise CniError(errors.INVALID_CONFIG, "MasqMarkBit must be between 0 and 31", f'"markMasqBit" is {bit}')
        asked = mappings.read(option.portMappings)
        self.backend: str = option.backend
        if asked:
            self._choose_backend()
        return Published(
            self.owner(),
            [],
            asked,
            snat=option.snat,
            masquerade_all=option.masqAll,
            mark_bit=bit,
            external_chain=option.externalSetMarkChain or "",
            conditions={4: option.conditionsV4, 6: option.conditionsV6},
        )

    def _specific_options(self) -> dict[str, str]:
        """The options that only one backend understands -> that backend."""
        option = self.option
        specific = {} if option.externalSetMarkChain is None else {"externalSetMarkChain": "iptables"}
        for key, words in (("conditionsV4", option.conditionsV4), ("conditionsV6", option.conditionsV6)):
            if words and words[0]:
                specific[key] = "iptables" if words[0].startswith(("-", "!")) else "nftables"
        return specific

    def _choose_backend(self) -> None:
        """The one asked for, else the one whose options the configuration has, else the reference's choice."""
        specific = set(self._specific_options().values())
        implied = specific.pop() if len(specific) == 1 else ""
        self.backend = backends.choose(self.machine, self.option.backend or implied)
        self._require_own_words()

    def _require_own_words(self) -> None:
        """Each option that only one backend understands must be of the one in use, and harmless in its input."""
        option = self.option
        other = "iptables" if self.backend == "nftables" else "nftables"
        foreign = [key for key, backend in self._specific_options().items() if backend == other]
        if foreign:
            text = f"{self.backend} backend was requested but configuration contains"
            if not option.backend:
                text = f"{self.backend} is in use, but the configuration contains"
            text += f" {other}-specific options [{' '.join(foreign)}]"
            raise CniError(errors.INVALID_CONFIG, text, f'set "backend" to "{other}", or leave these options out')
        conditions = {"conditionsV4": option.conditionsV4, "conditionsV6": option.conditionsV6}
        for key, words in (*conditions.items(), ("externalSetMarkChain", [option.externalSetMarkChain or "-"])):
            for word in words:
                try:
                    quoted(word)
                    if set(word) & set(UNSAFE[self.backend]):
                        raise ValueError(f"has one of {' '.join(UNSAFE[self.backend])} in it")
                except ValueError as error:
                    raise CniError(
                        errors.INVALID_CONFIG, f'option "{key}" of {self.name}: "{word!a}" {error}'
                    ) from None

    def published(self, asked: Published) -> Published:
        """The same with the container's first address of each IP version, from the previous result."""
        result = self.request.previous
        ips = self.addresses_of(result) if result is not None else []
        for ip in ips:
            asked.addresses.setdefault(ip.address.version, ip.address)
        return asked

    @staticmethod
    def _warn_of_useless(published: Published) -> None:
        """Log which mappings nobody can reach; as by the reference, they are no error."""
        if published.mappings and not published.addresses:
            log.warning("no port is published: the previous result has no IP address of the container's interface")
            return
        for each in published.mappings:
            if not any(each.applies_to(version) for version in published.addresses):
                log.warning(f"port {each} is not published: the container has no address of that IP version")
            elif each.is_unreachable:
                log.warning(f"port {each} cannot be reached: Linux forwards no packets for ::1 and fe80::/10")

    def _choose_sources(self, published: Published, result: Result) -> None:
        """Whom to masquerade on the way to the container, and the link where packets from 127.0.0.1 leave."""
        self.loopback_way = ""
        if not published.snat:
            return
        for version in published.versions:
            address = published.addresses[version]
            way = portmap.way_to(self.machine, address)
            if portmap.needs_whole_subnet(self.machine, address, way):
                published.whole_subnet.append(version)
            if version == 4 and way is not None:
                if loopback.leads_to_containers_alone(self.machine, way, result):
                    self.loopback_way = way.name
                for each in published.on_loopback() if not self.loopback_way else ():
                    log.warning(f"port {each} cannot be reached: {way.name} does not lead to containers alone")

    def _let_loopback_out(self, published: Published) -> None:
        """An error is one only if a mapping is on 127.0.0.1: the others work without it."""
        self.machine.journal.why = "snat"
        try:
            loopback.let_out(self.machine, self.loopback_way)
        except HostError as error:
            if published.on_loopback():
                raise CniError(errors.INTERNAL, f"unable to enable route_localnet: {error}") from None
            log.warning(f"published ports cannot be reached by 127.0.0.1: {error}")
            self.loopback_way = ""
            self._remember(published)

    def _take_ports(self, published: Published) -> None:
        self.machine.journal.why = "runtimeConfig.portMappings"
        self.has_link = links.find(self.sandbox, self.request.ifname) is not None
        dead = ports.take(self.machine, published, self.name, lambda: self._remember(published))
        for found in dead:
            self._clear_away(found)

    def _clear_away(self, found: Recorded) -> None:
        """What a container without DEL has left on a port that is taken again now: its rules would come first."""
        is_own = found.container_id == self.request.container_id
        lock = None if is_own else record.lock_of(found.container_id)  # that of our own is held already
        attempt = Attempts()
        self.delete_recorded(attempt, found, None)
        attempt.finish()
        found.remove(self.machine)
        if lock is not None:
            lock.release()

    def _remember(self, published: Published) -> None:
        self.remember(backend=self.backend, loopbackWay=self.loopback_way, hasLink=self.has_link, **published.facts())

    def _earlier(self) -> Published | None:
        """What an ADD for this attachment without a DEL since has published, by this backend."""
        found = record.of(self.request, self.name)
        if found is None:
            return None
        if found.network == self.request.name and found.facts.get("backend") == self.backend:
            return Published.recorded(found)
        self._clear_away(found)
        return None

    def _lead(self, published: Published, before: Published | None) -> None:
        siblings = self._siblings(published.owner)
        arguments = before, siblings, self.held.fd, self.is_first
        try:
            portmap.add(self.machine, published, self.backend, *arguments)()
        except HostError as error:
            is_chosen = self.option.backend or self._specific_options()
            if is_chosen or not backends.falls_back(self.machine, error, published.versions, "nat"):
                raise
            made = None if isinstance(error, iptables.Unavailable) else published  # which comes before any change
            for each in (before, made):
                if each is not None:
                    backends.clear(portmap.remove(self.machine, each, self.backend, siblings))
            self.backend = "nftables"
            self._remember(published)
            portmap.add(self.machine, published, self.backend, *arguments)()

    def owner(self) -> Owner:
        return Owner(self.request.name, self.request.container_id, self.request.ifname)

    def _siblings(self, owner: Owner) -> list[Published]:
        others = record.siblings(owner.container_id, owner.ifname, owner.network, self.name)
        return [Published.recorded(found) for found in others]

    # --- CHECK

    def check(self) -> None:
        asked = self.validate()
        if self.request.previous is None:
            advice = "CHECK compares with the result of ADD"
            raise CniError(errors.INVALID_CONFIG, "Required prevResult missing", advice)
        if not asked.mappings:
            return
        found = self.recorded()
        published, backend = self.published(asked), self.backend
        if found is not None:
            recorded, backend = Published.recorded(found), str(found.facts.get("backend"))
            published.whole_subnet = recorded.whole_subnet
        elif backend == "iptables":
            published.whole_subnet = [4, 6]  # a Go plugin made it
        missing = portmap.missing(self.machine, published, backend) + loopback.missing(self.machine, found)
        require(not missing, f"not published any more, missing: {'; '.join(missing)}")

    # --- DEL and GC

    def delete_recorded(self, attempt: Attempts, found: Recorded, sandbox: Namespace | None) -> None:
        published, backend = Published.recorded(found), found.facts.get("backend")
        self.machine.journal.why = "runtimeConfig.portMappings"
        siblings = attempt(self._siblings, published.owner) or []
        if published.versions and isinstance(backend, str):
            finish = attempt(portmap.remove, self.machine, published, backend, siblings)
            if finish is not None:
                attempt(finish)
            attempt(portmap.forget_flows, self.machine, published, False)
        else:
            attempt(portmap.remove_by_name, self.machine, published.owner, [], siblings, True)
        attempt(ports.give_back, self.machine, found.container_id, found.ifname)

    def delete_unrecorded(self, attempt: Attempts, sandbox: Namespace | None) -> None:
        """Those of a Go plugin; without any mapping no program is started to look for them."""
        self.machine.journal.why = "type"
        owner = self.owner()
        parts = attempt(record.parts, owner.container_id, self.name) or ()
        others = [Published.recorded(found) for found in parts if found.ifname != owner.ifname]
        runtime = member(self.request.config, "runtimeConfig")
        given = member(runtime, "portMappings") if isinstance(runtime, dict) else None
        addresses = self._told_addresses()
        attempt(portmap.remove_by_name, self.machine, owner, addresses, others, bool(given))
        told = Published(owner, addresses, _told_mappings(given))
        attempt(portmap.forget_flows, self.machine, told, False)
        attempt(ports.give_back, self.machine, owner.container_id, owner.ifname)

    def _told_addresses(self) -> list[Cidr]:
        """The container's, as far as the previous result tells them; a DEL may have none, or a garbled one."""
        try:
            previous = self.request.previous
        except CniError:
            return []
        return [ip.address for ip in self.addresses_of(previous)] if previous is not None else []

    def collect(self, attempt: Attempts, valid: set[tuple[str, str]]) -> None:
        attempt(portmap.collect, self.machine, self.request.name, valid)

    # --- STATUS

    def status(self) -> None:
        self.validate()
        self._choose_backend()
        chosen = self.option.backend or (self.backend if self._specific_options() else "")
        backends.require_usable(self.machine, chosen, "portmap", "backend", "nat")
        chain = self.option.externalSetMarkChain
        if chain is not None and not any(iptables.has_chain(version, "nat", chain) for version in (4, 6)):
            text = f'table nat of iptables has no chain "{chain}" to mark what is to be masqueraded'
            raise CniError(
                errors.PLUGIN_UNAVAILABLE, text, f"make it, or leave out externalSetMarkChain of {self.name}"
            )

    # --- repair

    @staticmethod
    def repair(machine: Machine, found: Recorded) -> list[str]:
        published, backend = Published.recorded(found), str(found.facts.get("backend"))
        missing = portmap.missing(machine, published, backend) if published.versions else []
        if missing:
            others = record.siblings(found.container_id, found.ifname, found.network, found.plugin)
            portmap.repair(machine, published, backend, [Published.recorded(other) for other in others])
            portmap.forget_flows(machine, published, of_others=True)  # those begun while the rules were away
        done = [f"port {each} ({backend})" for each in published.mappings] if missing else []
        return done + loopback.repair(machine, found)


def _told_mappings(given: object) -> list[Mapping]:
    """Those of a DEL's configuration; none when they cannot be read."""
    try:
        return mappings.read(ListOf(Record(MAPPING)).parse(given)) if given else []
    except (CniError, ValueError):
        return []
