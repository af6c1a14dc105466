"""nft(8) itself, for what only it can read: a rule with words of the configuration's own."""

from __future__ import annotations

import errno

from .files import exists
from .iptables import ENVIRON, FOLDERS
from .journal import HostError
from .nftables import say
from .process import Process


def run(lines: list[str]) -> None:
    """Carry out the commands, all together or none; HostError with nft's own words when it refuses."""
    path = next((f"{folder}/nft" for folder in FOLDERS if exists(f"{folder}/nft")), "")
    doing = say(*lines)
    if not path:
        raise HostError(errno.ENOENT, doing, "there is no nft", "install nftables: conditions in its syntax need it")
    status, _, complaint = Process([path, "-f", "-"], "\n".join([*lines, ""]).encode(), ENVIRON).finish()
    if status != 0:
        words = " ".join(complaint.decode(errors="replace").split())
        raise HostError(errno.EIO, doing, words or f"exit status {status}")
