"""Network devices in sysfs: by PCI address, by name on the auxiliary bus, by path.

A folder shows the interfaces that are in the namespace in which sysfs was mounted, and no others.
"""

from __future__ import annotations

import errno
import posix

from .files import Doing, exists
from .journal import HostError

PCI = "/sys/bus/pci/devices"
AUXILIARY = "/sys/bus/auxiliary/devices"
CLASS = "/sys/class/net"


def interfaces(folder: str) -> list[str]:
    """The names of a device's interfaces, in alphabetical order; a virtio device is one step below its PCI function."""
    if not exists(f"{folder}/net"):
        below = [name for name in _listing(folder) if name.startswith("virtio") and exists(f"{folder}/{name}/net")]
        folder = f"{folder}/{min(below)}" if below else folder
    return sorted(_listing(f"{folder}/net"))


def driver(folder: str) -> str:
    """The name of the driver that the device is bound to; HostError ENOENT when it is bound to none."""
    try:
        return posix.readlink(f"{folder}/driver").rpartition("/")[2]
    except OSError as error:
        hint = "it is bound to no driver" if error.errno == errno.ENOENT and exists(folder) else ""
        raise HostError(error.errno or errno.EIO, f"reading {folder}/driver", hint=hint) from None


def place(name: str) -> list[str]:
    """Where an interface is in the tree of devices: ["pci0000:00", "0000:00:03.0", "virtio2", "net", "eth0"]."""
    path = f"{CLASS}/{name}"
    with Doing(f"reading {path}"):
        try:
            return posix.readlink(path).partition("/devices/")[2].split("/")
        except FileNotFoundError:
            return []  # sysfs is another namespace's, or not mounted


def is_hardware(steps: list[str]) -> bool:
    """Whether a device at that place survives the end of its namespace."""
    return len(steps) > 1 and steps[0] != "virtual"


def pci_address(steps: list[str]) -> str:
    """The PCI address of a device at that place; empty when it is none itself."""
    above = steps[:-2]
    if above and above[-1].startswith("virtio"):
        above.pop()
    return above[-1] if above and _is_pci_address(above[-1]) else ""


def _is_pci_address(text: str) -> bool:
    return text.count(":") == 2 and text[-2:-1] == "."


def _listing(folder: str) -> list[str]:
    try:
        return posix.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise HostError(error.errno or errno.EIO, f"reading {folder}") from None
