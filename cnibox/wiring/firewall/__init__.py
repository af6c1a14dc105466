"""What the host forwards to and from a container: let through, or dropped by an ingress policy.

The backends are the modules iptables and nftables, with the same functions:

    add(machine, part, lock, is_first)   undone by the journal
    remove(machine, part, others)        some, or all, may be gone already
    remove_unrecorded(machine, part, others, held)
    missing(machine, part) -> list       what CHECK does not find
    complete(machine, part) -> list      what was missing, and has been put back

`others`: the ingress policies that other attachments to the same bridge need. `is_first`: whether nothing that is
shared is expected to be there. `held`: addresses that recorded attachments have, as often as they have them.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType


def backend_called(name: str) -> ModuleType:
    """The module of a packet filter; only the one in use is imported."""
    if name == "nftables":
        from . import nftables

        return nftables
    from . import iptables

    return iptables
