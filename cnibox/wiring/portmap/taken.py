"""Ports that rules of attachments without a record lead away already: a Go plugin has made those.

Ours would stand behind them, and never see a packet. Whether their container still lives cannot be told.
"""

from __future__ import annotations

from ...spec import errors
from ...spec.errors import CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .mappings import Mapping, Published


class Lead:
    """What a rule leads away.

    network: "" where the rule's comment does not tell it
    removal: commands that take the rule away, should its container be gone
    """

    def __init__(self, container_id: str, network: str, mapping: Mapping, removal: str) -> None:
        self.container_id = container_id
        self.network = network
        self.mapping = mapping
        self.removal = removal


def refuse(published: Published, version: int, leads: Iterable[Lead]) -> None:
    """CniError 999 that names the holder, if one of them overlaps with what another container is to publish."""
    wanted = published.by_port(version)
    for lead in leads:
        if lead.container_id == published.owner.container_id:
            continue  # an ADD without DEL, or another network of its own: it leads to the same server
        for mine in wanted.get((lead.mapping.protocol, lead.mapping.host_port), ()):
            if mine.overlaps(lead.mapping, version):
                text = f"host port {mine} is taken by container {lead.container_id}"
                text += f" (network {lead.network})" if lead.network else ""
                text += ", of which there are rules, but no record"
                advice = "choose another hostPort or hostIP, or delete that container first"
                raise CniError(errors.INTERNAL, text, f"{advice}; if it is gone: {lead.removal}")
