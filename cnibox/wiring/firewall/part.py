"""What an attachment has in the packet filter, whichever it is: firewall's rules as data."""

from __future__ import annotations

from ...spec.address import Address
from ..owner import Owner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...record import Record

OPEN, SAME_BRIDGE, ISOLATED = "open", "same-bridge", "isolated"
ADMIN_CHAIN = "CNI-ADMIN"
ZONE = "trusted"


class Part:
    """One attachment's part.

    addresses: of the container
    accepts: whether what is forwarded to and from them is let through here; else firewalld does that
    admin: the administrator's chain, which comes before that
    policy, bridge: from where new connections are dropped: "open", from nowhere
    """

    def __init__(
        self,
        owner: Owner,
        addresses: list[Address],
        *,
        accepts: bool = True,
        admin: str = ADMIN_CHAIN,
        policy: str = OPEN,
        bridge: str = "",
    ) -> None:
        self.owner = owner
        self.addresses = addresses
        self.accepts = accepts
        self.admin = admin
        self.policy = policy
        self.bridge = bridge

    def by_version(self) -> list[Part]:
        """The same part for each IP version alone: another attachment to the bridge may have only one of them."""
        return [
            Part(
                self.owner,
                [address for address in self.addresses if address.version == version],
                accepts=self.accepts,
                admin=self.admin,
                policy=self.policy,
                bridge=self.bridge,
            )
            for version in self.versions
        ]

    @property
    def versions(self) -> list[int]:
        """The IP versions of its addresses, if there is anything to do for them."""
        wanted = self.accepts or self.policy != OPEN
        return sorted({address.version for address in self.addresses}) if wanted else []

    @property
    def accepted(self) -> list[Address]:
        return self.addresses if self.accepts else []


def part_of(found: Record) -> Part:
    """As its ADD has recorded it; what is not as we write it is taken as unset."""
    facts = found.facts
    return Part(
        Owner(found.network, found.container_id, found.ifname),
        addresses_in(facts),
        accepts=facts.get("backend") != "firewalld",
        admin=_text(facts, "admin", ADMIN_CHAIN),
        policy=_text(facts, "policy", OPEN),
        bridge=_text(facts, "bridge", ""),
    )


def addresses_in(facts: dict[str, Any]) -> list[Address]:
    texts = facts.get("addresses")
    return [Address.parse(text) for text in texts] if isinstance(texts, list) else []


def prefixed(address: Address) -> str:
    """As iptables and firewalld write it: 10.1.2.3/32."""
    return f"{address}/{address.bits}"


def _text(facts: dict[str, Any], key: str, default: str) -> str:
    found = facts.get(key)
    return found if isinstance(found, str) and found else default
