"""The two backends of whatever has rules, and the reference's choice between them; only the one in use is imported."""

from __future__ import annotations

from .. import log
from ..host import iptables
from ..host.journal import HostError
from ..spec import errors
from ..spec.errors import CniError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, TypeVar

    from ..host.namespace import Machine

    T = TypeVar("T")


def choose(machine: Machine, wanted: str | None) -> str:
    """The backend, as the reference chooses: iptables unless it is unusable and nftables is usable."""
    if wanted:
        return wanted
    if iptables.program(4, "-restore") is None and usable(machine, "nftables"):
        return "nftables"
    return "iptables"


def falls_back(machine: Machine, error: HostError, versions: Iterable[int], table: str) -> bool:
    """Whether nftables can take the place of iptables, which has failed: asked only where nobody chose a backend."""
    is_refused = isinstance(error, iptables.Unavailable)
    if not is_refused and all(iptables.usable(version, table) for version in versions):
        return False
    if not usable(machine, "nftables"):
        return False
    log.warning(f"iptables is unusable, nftables takes its place: {error}")
    return True


def clear(remove: Callable[[], object]) -> None:
    """Remove what iptables has got before nftables takes its place. What is not there cannot be removed: no error."""
    try:
        remove()
    except (CniError, HostError) as error:
        log.debug(f"removing what iptables may have got: {error}")


def look(read: Callable[..., T], *arguments: Any) -> T | None:
    """What a packet filter has, where no record says that it has anything; None when it cannot be read.

    A filter that was never used may be unreadable for good (`ip6tables-save` without IPv6): that must not keep a DEL
    or a GC from success.
    """
    try:
        return read(*arguments)
    except HostError as error:
        log.warning(f"looking for rules without a record: {error}")
        return None


def usable(machine: Machine, backend: str) -> bool:
    """Whether it works here; of iptables only a process can tell."""
    if backend == "iptables":
        return iptables.usable(4)
    from ..host import nftables

    return nftables.usable(machine.host)


def usable_choice(machine: Machine, wanted: str | None, table: str) -> str:
    """The backend that an ADD would come to use, as far as that is known before it has addresses."""
    backend = choose(machine, wanted)
    if backend == "nftables" or wanted or (usable(machine, backend) and not iptables.hides_rules(4, table)):
        return backend
    return "nftables" if usable(machine, "nftables") else backend


def require_usable(machine: Machine, wanted: str | None, what: str, option: str, table: str) -> None:
    """CniError 50 when no packet filter could do it: `what` needs it, `option` chooses the backend."""
    backend = usable_choice(machine, wanted, table)
    if backend == "nftables":
        if not usable(machine, backend):
            text = f"{what} needs nftables, which this kernel does not have"
            raise CniError(errors.PLUGIN_UNAVAILABLE, text, "load the module nf_tables")
        return
    try:
        iptables.require((4,), table)
    except iptables.Unavailable as error:
        text = f"{what} needs iptables: {error.strerror}"
        raise CniError(errors.PLUGIN_UNAVAILABLE, text, f'{error.hint}, "{option}": "nftables"') from None
    if not usable(machine, backend):
        text = f"{what} needs iptables, which does not work here (iptables -t filter -S INPUT 1 fails)"
        raise CniError(errors.PLUGIN_UNAVAILABLE, text, f'see what it says, or set "{option}": "nftables"')
