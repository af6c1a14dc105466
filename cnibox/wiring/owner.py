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


def chains_named(rules: list[str], kind: str, network: str) -> set[str]:
    """The containers' chains of a network, as the comments of these rules of iptables name it.

    kind: what comes before `name: "<network>" id: "<container ID>"`. A long ID may be cut: the chain says whose it is.
    """
    before = f'"{kind}name: \\"{network}\\" id: \\"'
    found = set()
    for rule in rules:
        if before in rule:
            target = rule.rpartition(" -j ")[2].partition(" ")[0]
            found.add(target if target.startswith("CNI-") else rule.split()[1])
    return found


def digest(text: str, length: int) -> str:
    """The first `length` hexadecimal digits of the SHA-512."""
    hexadecimal: str = sha512(text.encode()).hexdigest()
    return hexadecimal[:length]
