"""Whose a rule is: the names, of network, container and interface, by which the reference's plugins find theirs."""

from __future__ import annotations

try:
    from _sha512 import sha512  # type: ignore[import-not-found]
except ImportError:  # Python 3.12 and newer
    from _sha2 import sha512  # type: ignore[import-not-found]


class Owner:
    """One attachment, as the owner of rules."""

    def __init__(self, network: str, container_id: str, ifname: str) -> None:
        self.network = network
        self.container_id = container_id
        self.ifname = ifname


def strangers(rules: list[str], kind: str, network: str, valid: set[tuple[str, str]]) -> list[Owner]:
    """Who is named by the comments of these rules of iptables: the network's containers without a valid attachment.

    kind: what comes before `name: "<network>" id: "<container ID>"`; valid: (container ID, interface name)
    """
    before, after = f'"{kind}name: \\"{network}\\" id: \\"', '\\""'
    found = {rule.partition(before)[2].partition(after)[0] for rule in rules if before in rule}
    return [Owner(network, each, "") for each in sorted(found - {container_id for container_id, _ in valid})]


def digest(text: str, length: int) -> str:
    """The first `length` hexadecimal digits of the SHA-512."""
    hexadecimal: str = sha512(text.encode()).hexdigest()
    return hexadecimal[:length]
