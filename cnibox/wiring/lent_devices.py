"""Devices of the host that are lent to containers: where each is, by its alias and the records of the attachments.

When a namespace ends without a DEL, the kernel brings its hardware back to the host: down, with its alias, and with the
name that it had in the container, or "dev" and a number if that name is taken.
"""

from __future__ import annotations

from ..host import devices, lending, links
from ..spec.request import interface_name_fault
from .attachment import namespace_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..host.links import Link
    from ..host.namespace import Machine, Namespace
    from ..record import Record


def identity(record: Record) -> tuple[str, str, int]:
    """What `lending.find` needs: the device's name on the host, its MAC address, its index."""
    facts = record.facts
    index = facts.get("index")
    return str(facts.get("device")), str(facts.get("mac")), index if isinstance(index, int) else 0


def in_container(sandbox: Namespace, record: Record) -> Link | None:
    """The device in the container, also if it was renamed there."""
    link = links.find(sandbox, record.ifname)
    if link is not None and link.alias == record.facts.get("device"):
        return link
    return lending.find(sandbox, *identity(record))


def holder(machine: Machine, records: Iterable[Record], is_it: Callable[[Record], bool]) -> Record | None:
    """The attachment that has the device now."""
    for record in filter(is_it, records):
        sandbox = namespace_of(machine, record)
        if sandbox is None:
            continue
        try:
            if in_container(sandbox, record) is not None:
                return record
        finally:
            sandbox.close()
    return None


def is_elsewhere(machine: Machine, record: Record, records: Iterable[Record]) -> bool:
    """Whether the device is on the host under its own name, or has been lent again."""
    name, mac, index = identity(record)
    link = links.find(machine.host, name)
    if link is not None and (link.mac == mac or link.index == index):
        return True

    def is_it(other: Record) -> bool:
        others_name, others_mac, others_index = identity(other)
        return others_name == name and (others_mac == mac or others_index == index)

    return holder(machine, records, is_it) is not None


def recorded_name(link: Link, records: Iterable[Record]) -> str:
    """The own name of a device that the kernel has brought back, as a record tells it; empty if none does."""
    if link.alias in ("", link.name):
        return ""
    for record in records:
        name, mac, index = identity(record)
        if name == link.alias and (mac == link.mac or index == link.index):
            return name
    return ""


def likely_name(link: Link, ifname: str) -> str:
    """The same for a device that a Go plugin lent, without a record; empty if it does not look like one.

    An alias may also be an administrator's description: then nothing else looks as if the kernel had brought it back.
    """
    number = link.name.removeprefix("dev")
    is_like_it = link.name == ifname or (number != link.name and number.isdecimal())
    return link.alias if is_like_it and _is_idle(link) and not interface_name_fault(link.alias)[0] else ""


class Choice:
    """The device as the configuration names it. The first of these that is not empty counts.

    `records` gives the records of all devices that have been lent, each time that it is called.
    """

    def __init__(
        self,
        records: Callable[[], Iterable[Record]],
        device: str,
        hwaddr: str,
        kernelpath: str,
        pci: str,
        auxiliary: str,
    ) -> None:
        self.records = records
        self.device = device
        self.hwaddr = "" if device else hwaddr
        candidates = (
            ("device", device, ""),
            ("hwaddr", hwaddr, ""),
            ("kernelpath", kernelpath, kernelpath),
            ("pciBusID", pci, f"{devices.PCI}/{pci}"),
            ("auxiliary device", auxiliary, f"{devices.AUXILIARY}/{auxiliary}"),
        )
        chosen = [(f"{kind} {value}", folder) for kind, value, folder in candidates if value]
        self.words, self.folder = chosen[0] if chosen else ("", "")

    def is_of(self, record: Record) -> bool:
        """Whether that is the device of a recorded attachment."""
        facts = record.facts
        is_named = bool(self.device) and self.device == facts.get("device")
        has_address = bool(self.hwaddr) and self.hwaddr == facts.get("mac")
        return is_named or has_address or facts.get("chosen") == self.words

    def find(self, host: Namespace) -> Link | None:
        """The device on the host, whatever its name is now."""
        if self.device:
            link = links.find(host, self.device)
            # Another device may have come back under this name.
            if link is not None and self._can_be(link):
                return link
            return self._with_alias(host)
        if self.hwaddr:
            link = next((link for link in links.every(host) if link.mac == self.hwaddr), None)
        else:
            names = devices.interfaces(self.folder)
            link = links.find(host, names[0]) if names else None
        if link is not None:
            return link
        # The container may have changed its MAC address, and /sys may be another namespace's.
        brought_back = (lending.find(host, *identity(each)) for each in self.records() if self.is_of(each))
        return next(filter(None, brought_back), None)

    def wait_for(self, host: Namespace) -> Link | None:
        """Hardware whose namespace has ended just now: the kernel brings it back some milliseconds later."""
        records = (each for each in self.records() if self.is_of(each) and each.facts.get("hardware") is True)
        record = next(records, None)
        return lending.wait_for(host, *identity(record)) if record is not None else None

    def own_name(self, link: Link, ifname: str) -> str:
        """The name that the device is to have on the host: its present one, unless the kernel has brought it back."""
        name = recorded_name(link, self.records())
        if not name and self.device != link.name:
            name = self.device if self.device == link.alias else likely_name(link, ifname)
        return name or link.name

    def _can_be(self, link: Link) -> bool:
        return link.name != self.device or recorded_name(link, self.records()) in ("", self.device)

    def _with_alias(self, host: Namespace) -> Link | None:
        """The device of that own name, as a record tells, or the only link with that alias, if idle (a Go plugin's)."""
        candidates = [link for link in links.every(host) if link.alias == self.device]
        for link in candidates:
            if recorded_name(link, self.records()):
                return link
        return candidates[0] if len(candidates) == 1 and _is_idle(candidates[0]) else None


def _is_idle(link: Link) -> bool:
    return not link.is_up and not link.master
