"""What people are told about leases when no address is left, or one is not as it should be. Rarely loaded."""

from __future__ import annotations

from ...spec import errors
from ...spec.errors import CniError
from . import DATA_DIR, ago, boot_time, is_garbled

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import Leases
    from .ranges import RangeSet


def fate(leases: Leases, address: str) -> str:
    """What has become of an address: file, age, holder."""
    path = f"{leases.path}/{address}"
    holder = leases.holder(address)
    if holder is None:
        return f"there is no file {path}"
    made = leases.made(address) or 0.0
    age = f"made {ago(made)} ago" + (", before this boot" if made < boot_time() else "")
    if is_garbled(holder):
        return f"{path}, {age}, names no container"
    interface = f" with {holder[1]}" if holder[1] else ""
    return f"{path}, {age}, names container {holder[0]}{interface}"


def exhausted(leases: Leases, ranges: RangeSet) -> CniError:
    """Why no address is left in `ranges`, and what to do."""
    held = [(address, owner) for address, owner in leases.all() if ranges.has(address)]
    boot = boot_time()
    old = sum(1 for address, _ in held if (leases.made(address) or boot) < boot)
    garbled = sum(1 for _, owner in held if is_garbled(owner))
    owners = len({owner[0] for _, owner in held if not is_garbled(owner)})
    counts = f"{len(held)} addresses are held by {owners} containers, {old} since before this boot"
    where = leases.network if leases.data_dir == DATA_DIR else f"{leases.network} --data-dir {leases.data_dir}"
    if old or garbled:
        advice = f"`cnibox reclaim {where}` releases those that no container can have any more"
    else:
        advice = f"`cnibox leases {where}` shows whose they are; or use a larger range"
    text = f"no IP addresses available in range set: {ranges}"
    return CniError(errors.INTERNAL, text, f"{counts}, {garbled} garbled; {advice}")
