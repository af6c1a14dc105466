"""The two backends of whatever has rules, and the reference's choice between them; only the one in use is imported."""

from __future__ import annotations

from .. import log
from ..host import iptables
from ..host.journal import HostError
from ..spec import errors
from ..spec.errors import CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host.namespace import Machine


def choose(machine: Machine, wanted: str | None) -> str:
    """The backend, as the reference chooses: iptables unless it is unusable and nftables is usable."""
    if wanted:
        return wanted
    if iptables.program(4, "-restore") is None and usable(machine, "nftables"):
        return "nftables"
    return "iptables"


def falls_back(machine: Machine, error: HostError) -> bool:
    """Whether iptables is there but cannot work on this kernel, and nftables can; asked after it has failed."""
    if usable(machine, "iptables") or not usable(machine, "nftables"):
        return False
    log.warning(f"iptables is unusable, nftables takes its place: {error}")
    return True


def usable(machine: Machine, backend: str) -> bool:
    """Whether it works here; of iptables only a process can tell."""
    if backend == "iptables":
        return iptables.usable(4)
    from ..host import nftables

    return nftables.usable(machine.host)


def require_usable(machine: Machine, wanted: str | None, what: str, option: str) -> None:
    """CniError 50 when no packet filter could do it: `what` needs it, `option` chooses the backend."""
    backend = choose(machine, wanted)
    if backend == "iptables" and iptables.program(4, "-restore") is None:
        text = f"{what} needs iptables-restore, which is not installed"
        raise CniError(errors.PLUGIN_UNAVAILABLE, text, f'install iptables, or set "{option}": "nftables"')
    if backend == "iptables" and not usable(machine, backend) and (wanted or not usable(machine, "nftables")):
        text = f"{what} needs iptables, which does not work here (iptables -t filter -S INPUT 1 fails)"
        raise CniError(errors.PLUGIN_UNAVAILABLE, text, f'see what it says, or set "{option}": "nftables"')
    if backend == "nftables" and not usable(machine, backend):
        text = f"{what} needs nftables, which this kernel does not have"
        raise CniError(errors.PLUGIN_UNAVAILABLE, text, "load the module nf_tables")
