"""An attachment's own rules by iptables, as iptables-save prints them without "-A": see iptables.py."""

from __future__ import annotations

from ...host.iptables import COMMENT_LIMIT, quoted
from ..owner import digest
from .iptables_shared import DNAT
from .mappings import PORTS_OF_A_MATCH, PROTOCOLS, SET_MARK, in_url

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..owner import Owner
    from .mappings import Published


def chain_of(owner: Owner, kind: str = "DN") -> str:
    return f"CNI-{kind}-{digest(owner.network + owner.container_id, 21)}"


def entries(published: Published, version: int) -> list[str]:
    """The rules that lead to the attachment's chain."""
    owner, found = published.owner, []
    text = f'dnat name: "{owner.network}" id: "{owner.container_id}"'
    if len(text) > COMMENT_LIMIT:
        text = f"{text[: COMMENT_LIMIT - 3]}..."
    comment = text.replace('"', '\\"')
    conditions = "".join(f" {quoted(token)}" for token in published.conditions.get(version, ()))
    for protocol in sorted(PROTOCOLS):
        mappings = [each for each in published.of(version) if each.protocol == protocol]
        ports = list(dict.fromkeys(str(each.host_port) for each in mappings))
        for start in range(0, len(ports), PORTS_OF_A_MATCH):
            some = ",".join(ports[start : start + PORTS_OF_A_MATCH])
            match = f'-p {protocol} -m comment --comment "{comment}" -m multiport --dports {some}{conditions}'
            found.append(f"{DNAT} {match} -j {chain_of(owner)}")
    return found


def rules(published: Published, version: int) -> list[str]:
    """The rules of the attachment's chain."""
    chain, found = chain_of(published.owner), []
    mark = quoted(published.external_chain or SET_MARK)
    sources = [] if published.masquerade_all else [f" -s {published.hairpin(version)}"]
    sources = sources + [" -s 127.0.0.1/32"] * (version == 4) if sources else [""]
    for each in published.distinct(version):
        destination = f" -d {each.destination}/{each.destination.bits}" if each.destination else ""
        match = f"{destination} -p {each.protocol} -m {each.protocol} --dport {each.host_port}"
        if published.snat:
            found += [f"{chain}{source}{match} -j {mark}" for source in sources]
        target = f"{in_url(published.addresses[version].address)}:{each.container_port}"
        found.append(f"{chain}{match} -j DNAT --to-destination {target}")
    return found
