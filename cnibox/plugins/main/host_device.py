"""host-device: the container gets a network device of the host for itself, until its DEL gives it back.

{"type": "host-device", "device": "enp1s0f1", "ipam": {"type": "host-local", "subnet": "192.168.1.0/24"}}
{"type": "host-device", "capabilities": {"deviceID": true}}

With several of its options the first in the table counts. A PCI device that is bound to a driver of user space (DPDK)
has no interface: it is left alone, and only IPAM is asked. Without `ipam` the interface gets no address.
"""

from __future__ import annotations

from ... import log, record
from ...host import devices, lending, links
from ...host.journal import HostError
from ...spec import errors
from ...spec.errors import CniError
from ...spec.jsontext import member
from ...spec.options import Kind, Mac, Option, Options, Text
from ...spec.request import interface_name_fault
from ...spec.result import Interface, Result
from ...wiring.attachment import namespace_of
from ...wiring.interface import require
from ...wiring.link import LinkPlugin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ...host.links import Link
    from ...host.namespace import Namespace
    from ...plugin import Attempts
    from ...record import Record

DPDK = ("vfio-pci", "uio_pci_generic", "igb_uio")
LENGTHS = (6, 8, 20)  # of hardware addresses: Ethernet, EUI-64, InfiniBand


def _hardware_address(value: Any) -> str | None:
    text = Text.parse(value).lower().replace("-", ":")
    octets = text.split(":")
    if len(octets) in LENGTHS and all(len(octet) == 2 for octet in octets):
        return bytes.fromhex("".join(octets)).hex(":")
    mac: str | None = Mac.parse(value)
    return mac


HardwareAddress = Kind("a hardware address such as 02:00:00:00:00:01", {"type": "string"}, _hardware_address)


class HostDevice(LinkPlugin):
    options = Options(
        Option("device", Text, "", "its name on the host"),
        Option("hwaddr", HardwareAddress, "", "its hardware address; of several links with it the first"),
        Option("kernelpath", Text, "", "its folder below /sys/devices"),
        Option("pciBusID", Text, "", "its PCI address, such as 0000:00:1f.6"),
        Option(
            "deviceID",
            Text,
            "",
            "PCI address, which replaces pciBusID, or name on the auxiliary bus",
            config=False,
            capability="deviceID",
        ),
    )
    device: Link | None = None
    """The device on the host; None in DPDK mode."""
    pci_id = ""

    # --- which device

    def validate(self) -> None:
        super().validate()
        option = self.option
        self.pci, self.auxiliary = option.pciBusID, ""
        if option.deviceID:
            self._resolve(option.deviceID)
        self.chosen = self._chosen()
        if not self.chosen and not self._is_chosen_later():
            text = 'specify either "device", "hwaddr", "kernelpath" or "pciBusID"'
            raise CniError(errors.INVALID_CONFIG, text, 'or "capabilities": {"deviceID": true}, if the runtime chooses')
        if option.kernelpath and not option.kernelpath.startswith("/sys/devices/"):
            text = f'kernel device path "{option.kernelpath}" must be absolute and begin with /sys/devices/'
            raise CniError(errors.INVALID_CONFIG, text)
        if "/" in self.pci:
            raise CniError(errors.INVALID_CONFIG, f'option "pciBusID": must be a PCI address, not "{self.pci}"')
        self.is_dpdk = bool(self.pci) and self._driver() in DPDK

    def _is_chosen_later(self) -> bool:
        """STATUS has no runtimeConfig."""
        capabilities = member(self.request.config, "capabilities")
        wanted = member(capabilities, "deviceID") if isinstance(capabilities, dict) else None
        return self.request.command == "STATUS" and wanted is True

    def _driver(self) -> str:
        try:
            return devices.driver(f"{devices.PCI}/{self.pci}")
        except HostError as error:
            raise CniError(errors.INTERNAL, f"error with host device: {error}") from None

    def _resolve(self, name: str) -> None:
        """deviceID is either of two."""
        if "/" not in name and devices.exists(f"{devices.PCI}/{name}"):
            self.pci = name
        elif "/" not in name and devices.exists(f"{devices.AUXILIARY}/{name}"):
            self.pci, self.auxiliary = "", name
        else:
            advice = f"there is neither {devices.PCI}/{name} nor {devices.AUXILIARY}/{name}"
            raise CniError(errors.INTERNAL, f"runtime config DeviceID {name} not found or unsupported", advice)

    def _chosen(self) -> str:
        """The device as the configuration names it, for people and for the record; empty if it does not."""
        option = self.option
        candidates = (
            ("device", option.device),
            ("hwaddr", option.hwaddr),
            ("kernelpath", option.kernelpath),
            ("pciBusID", self.pci),
            ("auxiliary device", self.auxiliary),
        )
        return next((f"{kind} {value}" for kind, value in candidates if value), "")

    def find_device(self) -> Link:
        """The device on the host; CniError says where it is instead, if that is known."""
        found = self._search()
        if found is not None:
            return found
        holder = self._holder()
        if holder is not None:
            text = f"{self.chosen} is already in container {holder.container_id}, as {holder.ifname}"
            raise CniError(errors.INTERNAL, f"failed to find host device: {text}", "its DEL gives the device back")
        text = f"failed to find host device: no interface of the host is {self.chosen}"
        raise CniError(errors.INTERNAL, text, "it is not there, or in another network namespace")

    def _search(self) -> Link | None:
        host, option = self.machine.host, self.option
        if option.device:
            return links.find(host, option.device)
        if option.hwaddr:
            return next((link for link in links.every(host) if link.mac == option.hwaddr), None)
        folder = option.kernelpath or (f"{devices.PCI}/{self.pci}" if self.pci else "")
        names = devices.interfaces(folder or f"{devices.AUXILIARY}/{self.auxiliary}")
        return links.find(host, names[0]) if names else None

    def _holder(self) -> Record | None:
        """The attachment that has the device."""
        for found in record.each(self.name):
            facts = found.facts
            is_it = facts.get("chosen") == self.chosen or self.option.device == facts.get("device")
            if not (is_it or (not self.option.device and self.option.hwaddr == facts.get("mac"))):
                continue
            sandbox = namespace_of(self.machine, found)
            if sandbox is not None and _lent(sandbox, found) is not None:
                return found
        return None

    # --- ADD

    def require_absent(self, sandbox: Namespace) -> None:
        if not self.is_dpdk:
            super().require_absent(sandbox)

    def planned(self) -> Result:
        if self.is_dpdk:
            self.pci_id = self.pci
            return super().planned()
        self.device = self.find_device()
        self.place = devices.place(self.device.name)
        self.pci_id = devices.pci_address(self.place)
        return super().planned()

    def remember(self, **facts: Any) -> None:
        if self.device is not None:
            facts = {
                "device": self.device.name,
                "mac": self.device.mac,
                "index": self.device.index,
                "up": self.device.is_up,
                "hardware": devices.is_hardware(self.place),
                "chosen": self.chosen,
                **facts,
            }
        super().remember(**facts)

    def create_link(self) -> None:
        if self.device is not None:
            lending.lend(self.machine.host, self.device, self.sandbox, self.request.ifname)

    def configure(self, result: Result) -> None:
        if self.device is None:
            result.interfaces = [Interface(self.request.ifname, sandbox=self.request.netns)]
        else:
            super().configure(result)
        result.interfaces[0].pci_id = self.pci_id

    # --- CHECK, STATUS

    def check(self) -> None:
        self.validate()
        if not self.is_dpdk:
            super().check()
            return
        require(self.request.previous is not None, "Required prevResult missing")
        ipam = self.ipam()
        if ipam is not None:
            ipam.check()

    def check_link(self, link: Link) -> None:
        found = record.of(self.request, self.name)
        name = found.facts.get("device") if found is not None else None
        require(bool(link.alias), f"{link.name} has no alias: its name on the host would be lost")
        require(name in (None, link.alias), f"the alias of {link.name} is {link.alias}, not {name}")

    def require_kernel(self) -> None:
        """A device that a container of ours has is as it should be: the node is not unfit for that."""
        is_known = self.chosen and not self.is_dpdk
        if is_known and self._search() is None and self._holder() is None:
            self.find_device()

    # --- DEL and GC

    def delete_recorded(self, attempt: Attempts, found: Record, sandbox: Namespace | None) -> None:
        self.machine.journal.why = "DEL"
        if isinstance(found.facts.get("device"), str):
            attempt(self._give_back, found, sandbox)

    def _give_back(self, found: Record, sandbox: Namespace | None) -> None:
        name, up = str(found.facts["device"]), found.facts.get("up") is True
        link = _lent(sandbox, found) if sandbox is not None else None
        if sandbox is not None and link is not None:
            _return(sandbox, link, name, up)
            return
        host = self.machine.host
        link = lending.find(host, *_identity(found))
        if link is None and sandbox is None and found.facts.get("hardware") is True:
            link = lending.wait_for(host, *_identity(found))
        if link is not None and link.name != name and not lending.take_home(host, link, name, up=up):
            log.warning(f"{name} is on the host as {link.name}: another interface has its name")

    def delete_unrecorded(self, attempt: Attempts, sandbox: Namespace | None) -> None:
        self.machine.journal.why = "DEL"
        link = attempt(links.find, sandbox, self.request.ifname) if sandbox is not None else None
        if sandbox is None or link is None or not link.alias:
            return  # gone already, or no device that somebody lent
        fault, _ = interface_name_fault(link.alias)
        if fault:
            text = f"the alias of {link.name}, {link.alias!r}, is not the name that it had on the host: {fault}"
            attempt.failures.append(CniError(errors.INTERNAL, text, f"ip link set {link.name} alias NAME"))
            return
        attempt(_return, sandbox, link, link.alias, False)


def _return(sandbox: Namespace, link: Link, name: str, up: bool) -> None:
    there = lending.give_back(sandbox, link, name, up=up)
    if there != name:
        advice = f"ip link set {there} name NAME alias ''"
        raise CniError(errors.INTERNAL, f"{name} is back on the host as {there}: its name is taken there", advice)


def _lent(sandbox: Namespace, found: Record) -> Link | None:
    """The device in the container, also if it was renamed there."""
    link = links.find(sandbox, found.ifname)
    if link is not None and link.alias == found.facts.get("device"):
        return link
    return lending.find(sandbox, *_identity(found))


def _identity(found: Record) -> tuple[str, str, int]:
    facts = found.facts
    index = facts.get("index")
    return str(facts.get("device")), str(facts.get("mac")), index if isinstance(index, int) else 0
