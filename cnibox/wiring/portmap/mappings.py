"""What an attachment publishes: portmap's mappings, and everything that its rules are made of, as data.

    {"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "192.0.2.1"}

It is kept in the attachment's record, and read from there by DEL, GC and repair, which need no configuration.
"""

from __future__ import annotations

from ...spec import errors
from ...spec.address import Address, Cidr
from ...spec.errors import CniError
from ..owner import Owner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...record import Record
    from ...spec.options import Values

PROTOCOLS = ("tcp", "udp", "sctp")
HIGHEST_PORT = 65535
DEFAULT_MARK_BIT = 13
PORTS_OF_A_MATCH = 15  # of iptables' multiport (linux/netfilter/xt_multiport.h)
SET_MARK = "CNI-HOSTPORT-SETMARK"


class Mapping:
    """A port of the host that leads to one of the container's. `host_ip` None: on every address of the host."""

    def __init__(self, protocol: str, host_port: int, container_port: int, host_ip: Address | None = None) -> None:
        self.protocol = protocol
        self.host_port = host_port
        self.container_port = container_port
        self.host_ip = host_ip

    def applies_to(self, version: int) -> bool:
        return self.host_ip is None or self.host_ip.version == version

    @property
    def destination(self) -> Address | None:
        """The one address of the host; None: any. 0.0.0.0 and :: are any of their version."""
        return self.host_ip if self.host_ip is not None and int(self.host_ip) else None

    @property
    def is_unreachable(self) -> bool:
        """Whether it is on ::1 or in fe80::/10 alone: Linux forwards no packets between these and a container."""
        ip = self.host_ip
        return ip is not None and ip.version == 6 and (int(ip) == 1 or int(ip) >> 118 == 0xFE80 >> 6)

    def overlaps(self, other: Mapping, version: int) -> bool:
        """Whether a packet of that IP version could be meant for both."""
        if (self.protocol, self.host_port) != (other.protocol, other.host_port):
            return False
        if not (self.applies_to(version) and other.applies_to(version)):
            return False
        mine, theirs = self.destination, other.destination
        return mine is None or theirs is None or mine == theirs

    @property
    def fact(self) -> list[Any]:
        return [self.protocol, self.host_port, self.container_port, str(self.host_ip or "")]

    def __str__(self) -> str:
        """192.0.2.1:8080/tcp, as people write it."""
        if self.host_ip is None:
            return f"{self.host_port}/{self.protocol}"
        return f"{in_url(self.host_ip)}:{self.host_port}/{self.protocol}"


class Published:
    """The mappings of one attachment, to its first address of each IP version.

    whole_subnet: the IP versions in which not only the container itself is masqueraded on its way back to it
    conditions: IP version -> tokens of the backend's own, which a packet must meet besides
    """

    def __init__(
        self,
        owner: Owner,
        addresses: list[Cidr],
        mappings: list[Mapping],
        *,
        snat: bool = True,
        masquerade_all: bool = False,
        mark_bit: int = DEFAULT_MARK_BIT,
        external_chain: str = "",
        conditions: dict[int, list[str]] | None = None,
        whole_subnet: list[int] | None = None,
    ) -> None:
        self.owner = owner
        self.addresses: dict[int, Cidr] = {}
        for address in addresses:
            self.addresses.setdefault(address.version, address)
        self.mappings = mappings
        self.snat = snat
        self.masquerade_all = masquerade_all
        self.mark_bit = mark_bit
        self.external_chain = external_chain
        self.conditions = conditions or {}
        self.whole_subnet = whole_subnet or []

    def of(self, version: int) -> list[Mapping]:
        """The mappings for packets of that version."""
        return [each for each in self.mappings if version in self.addresses and each.applies_to(version)]

    def distinct(self, version: int) -> list[Mapping]:
        """The same, without those whose rules would be equal: hostIP "::" and none are one in IPv6."""
        keys: dict[tuple[Any, ...], Mapping] = {}
        for each in self.of(version):
            keys.setdefault((each.protocol, each.host_port, each.container_port, each.destination), each)
        return list(keys.values())

    def by_port(self, version: int) -> dict[tuple[str, int], list[Mapping]]:
        """(protocol, host port) -> its mappings for packets of that version."""
        mappings: dict[tuple[str, int], list[Mapping]] = {}
        for each in self.of(version):
            mappings.setdefault((each.protocol, each.host_port), []).append(each)
        return mappings

    def on_loopback(self) -> list[Mapping]:
        """Those on an address of 127.0.0.0/8."""
        return [each for each in self.of(4) if each.destination is not None and each.destination.packed[0] == 127]

    @property
    def versions(self) -> list[int]:
        """Those for which there is anything to do."""
        return [version for version in (4, 6) if self.of(version)]

    def hairpin(self, version: int) -> Cidr:
        """From where packets must get the host's address, lest the answers do not come back by the host."""
        address = self.addresses[version]
        return address.network if version in self.whole_subnet else address.host

    def facts(self) -> dict[str, Any]:
        """For the record."""
        return {
            "addresses": [str(address) for address in self.addresses.values()],
            "mappings": [each.fact for each in self.mappings],
            "snat": self.snat,
            "masqAll": self.masquerade_all,
            "markMasqBit": self.mark_bit,
            "externalSetMarkChain": self.external_chain,
            "conditionsV4": self.conditions.get(4, []),
            "conditionsV6": self.conditions.get(6, []),
            "wholeSubnet": self.whole_subnet,
        }

    @classmethod
    def recorded(cls, found: Record) -> Published:
        """What an ADD has written down; nothing where that cannot be read."""
        owner, facts = Owner(found.network, found.container_id, found.ifname), found.facts
        try:
            return cls(
                owner,
                [Cidr.parse(text) for text in facts["addresses"]],
                [
                    Mapping(fact[0], fact[1], fact[2], Address.parse(fact[3]) if fact[3] else None)
                    for fact in facts["mappings"]
                ],
                snat=bool(facts["snat"]),
                masquerade_all=bool(facts["masqAll"]),
                mark_bit=int(facts["markMasqBit"]),
                external_chain=str(facts["externalSetMarkChain"]),
                conditions={4: list(facts["conditionsV4"]), 6: list(facts["conditionsV6"])},
                whole_subnet=list(facts["wholeSubnet"]),
            )
        except (KeyError, TypeError, ValueError, IndexError):
            return cls(owner, [], [])


def in_url(address: Address) -> str:
    """As it is written before a colon and a port."""
    return f"[{address}]" if address.version == 6 else str(address)


def read(given: list[Values]) -> list[Mapping]:
    """The mappings of the capability argument. CniError 7 for a port or protocol that there is not, or a port twice."""
    found: dict[tuple[Any, ...], Mapping] = {}
    for index, each in enumerate(given):
        place = f"runtimeConfig.portMappings[{index}]"
        for words, key in (("container port", "containerPort"), ("host port", "hostPort")):
            number = getattr(each, key)
            if not 1 <= number <= HIGHEST_PORT:
                text = f"Invalid {words} number: {number}"
                raise CniError(errors.INVALID_CONFIG, text, f"{place}.{key} must be 1 to {HIGHEST_PORT}")
        protocol = each.protocol.lower()
        if protocol not in PROTOCOLS:
            text = f'Invalid protocol: "{each.protocol}"'
            raise CniError(errors.INVALID_CONFIG, text, f"{place}.protocol must be tcp, udp or sctp")
        mapping = Mapping(protocol, each.hostPort, each.containerPort, each.hostIP)
        found.setdefault(tuple(mapping.fact), mapping)  # the very same twice does no harm
    _require_one_target(list(found.values()))
    return list(found.values())


def _require_one_target(mappings: list[Mapping]) -> None:
    """CniError 7 if packets to one port of the host are meant for two of the container."""
    same_port: dict[tuple[str, int], list[Mapping]] = {}
    for mapping in mappings:
        earlier = same_port.setdefault((mapping.protocol, mapping.host_port), [])
        for other in earlier:
            overlaps = mapping.overlaps(other, 4) or mapping.overlaps(other, 6)
            if overlaps and mapping.container_port != other.container_port:
                text = f"host port {mapping} is mapped to container port {mapping.container_port}"
                text += f", and {other} to {other.container_port}"
                raise CniError(errors.INVALID_CONFIG, text, "a port of the host can lead to one port only")
        earlier.append(mapping)
