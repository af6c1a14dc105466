"""Stale leases: those from before this boot, which ended every container. Rarely loaded."""

from __future__ import annotations

import posix
import time

from ... import record
from ...host.files import Doing
from . import is_garbled
from .on_disk import UNREADABLE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import Leases, Owner

MADE_AT_BOOT = ("/sys", "/dev/null")
"""The kernel makes both, and nothing changes their mtimes. Either may have been mounted again since."""


def boot_time() -> float:
    """When this machine was started, in seconds since 1970, and rather too early than too late.

    A clock that was wrong at boot and was set right later, or a virtual machine that was paused, would make the leases
    of running containers look older than the boot. The files that the kernel made at boot have the clock of that time.
    """
    witnesses = [time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)]
    for path in MADE_AT_BOOT:
        with Doing(f"looking at {path}"):
            try:
                witnesses.append(posix.stat(path).st_mtime)
            except FileNotFoundError:
                pass  # the others still tell
    return min(witnesses)


def is_stale(leases: Leases, address: str, owner: Owner, boot: float) -> bool:
    """Whether that owner's lease is from before `boot`, and no ADD of this boot has recorded its container.

    In doubt it is not: the address of a living container must not be given to another one.
    """
    return is_older(leases, address, owner, boot) and not record.has_any(owner[0])


def is_older(leases: Leases, address: str, owner: Owner, boot: float) -> bool:
    """Whether that owner's lease is from before `boot`. The owner itself may have it again."""
    if is_garbled(owner) or owner == tuple(word.decode() for word in UNREADABLE):
        return False
    made = leases.made(address)
    return made is not None and made < boot
