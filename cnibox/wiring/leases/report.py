"""What people are told about leases when no address is left, or one is not as it should be. Rarely loaded."""

from __future__ import annotations

from ...spec import errors
from ...spec.errors import CniError
from . import DATA_DIR, ago, is_garbled
from .stale import boot_time

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
    """Why no address is left in `ranges`, and what to do: ADD takes garbled and stale leases by itself."""
    held = [(address, owner) for address, owner in leases.all() if ranges.has(address)]
    owners = len({owner[0] for _, owner in held})
    where = leases.network if leases.data_dir == DATA_DIR else f"{leases.network} --data-dir {leases.data_dir}"
    text = f"no IP addresses available in range set: {ranges}"
    counts = f"{len(held)} addresses are held by {owners} containers"
    advice = f"`cnibox leases {where}` shows whose they are; a larger range has more"
    return CniError(errors.INTERNAL, text, f"{counts}; {advice}")
