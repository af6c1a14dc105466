"""host-device: the container gets a network device of the host for itself, until its DEL gives it back.

{"type": "host-device", "device": "enp1s0f1", "ipam": {"type": "host-local", "subnet": "192.168.1.0/24"}}
{"type": "host-device", "capabilities": {"deviceID": true}}

With several of its options the first in the table counts. A PCI device that is bound to a driver of user space (DPDK)
has no interface: it is left alone, and only IPAM is asked. Without `ipam` the interface gets no address.
"""

from __future__ import annotations

from ... import log, record
from ...host import devices, files, lending, links
from ...host.journal import HostError
from ...spec import errors
from ...spec.errors import CniError
from ...spec.jsontext import member
from ...spec.options import Kind, Mac, Option, Options, Text
from ...spec.request import interface_name_fault
from ...spec.result import Interface, Result
from ...wiring import lent_devices
from ...wiring.interface import require
from ...wiring.link import LinkPlugin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
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
    home_name = ""
    """Its own name on the host, which it may have lost; DEL gives it that one."""
    pci_id = ""

    # --- which device

    def validate(self) -> None:
        super().validate()
        option = self.option
        self.pci, self.auxiliary = option.pciBusID, ""
        if option.deviceID:
            self._resolve(option.deviceID)
        self.choice = lent_devices.Choice(
            self._records, option.device, option.hwaddr, option.kernelpath, self.pci, self.auxiliary
        )
        if not self.choice.words and not self._is_chosen_later():
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
        if "/" not in name and files.exists(f"{devices.PCI}/{name}"):
            self.pci = name
        elif "/" not in name and files.exists(f"{devices.AUXILIARY}/{name}"):
            self.pci, self.auxiliary = "", name
        else:
            advice = f"there is neither {devices.PCI}/{name} nor {devices.AUXILIARY}/{name}"
            raise CniError(errors.INTERNAL, f"runtime config DeviceID {name} not found or unsupported", advice)

    def find_device(self) -> tuple[Link, str]:
        """The device on the host, and its own name there; CniError says where it is instead, if that is known."""
        host = self.machine.host
        link = self.choice.find(host)
        holder = self._holder() if link is None else None
        if link is None and holder is None and self.request.command == "ADD":
            link = self.choice.wait_for(host)
        if link is not None:
            return link, self.choice.own_name(link, self.request.ifname)
        if holder is not None:
            text = f"{self.choice.words} is already in container {holder.container_id}, as {holder.ifname}"
            raise CniError(errors.INTERNAL, f"failed to find host device: {text}", "its DEL gives the device back")
        text = f"failed to find host device: no interface of the host is {self.choice.words}"
        raise CniError(errors.INTERNAL, text, "it is not there, or in another network namespace")

    def _holder(self) -> Record | None:
        return lent_devices.holder(self.machine, self._records(), self.choice.is_of)

    def _records(self) -> Iterable[Record]:
        return record.each(self.name)

    # --- ADD

    def require_absent(self, sandbox: Namespace) -> None:
        if not self.is_dpdk:
            super().require_absent(sandbox)

    def planned(self) -> Result:
        if self.is_dpdk:
            self.pci_id = self.pci
            return super().planned()
        self.device, self.home_name = self.find_device()
        self.place = devices.place(self.device.name)
        self.pci_id = devices.pci_address(self.place)
        return super().planned()

    def remember(self, **facts: Any) -> None:
        if self.device is not None:
            facts = {
                "device": self.home_name,
                "mac": self.device.mac,
                "index": self.device.index,
                "up": self.device.is_up,
                "hardware": devices.is_hardware(self.place),
                "chosen": self.choice.words,
                **facts,
            }
        super().remember(**facts)

    def create_link(self) -> None:
        if self.device is not None:
            lending.lend(self.machine.host, self.device, self.sandbox, self.request.ifname, self.home_name)

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
        is_known = self.choice.words and not self.is_dpdk
        if is_known and self.choice.find(self.machine.host) is None and self._holder() is None:
            self.find_device()

    # --- DEL and GC

    def delete_recorded(self, attempt: Attempts, found: Record, sandbox: Namespace | None) -> None:
        self.machine.journal.why = "DEL"
        if isinstance(found.facts.get("device"), str):
            attempt(self._give_back, found, sandbox)

    def _give_back(self, found: Record, sandbox: Namespace | None) -> None:
        name, up = str(found.facts["device"]), found.facts.get("up") is True
        link = lent_devices.in_container(sandbox, found) if sandbox is not None else None
        if sandbox is not None and link is not None:
            _return(sandbox, link, name, up)
            return
        host, device = self.machine.host, lent_devices.identity(found)
        link = lending.find(host, *device)
        is_awaited = link is None and sandbox is None and found.facts.get("hardware") is True
        if is_awaited and not lent_devices.is_elsewhere(self.machine, found, self._records()):
            link = lending.wait_for(host, *device)
        if link is not None and link.name != name and not lending.take_home(host, link, name, up=up):
            log.warning(f"{name} is on the host as {link.name}: another interface has its name")

    def delete_unrecorded(self, attempt: Attempts, sandbox: Namespace | None) -> None:
        self.machine.journal.why = "DEL"
        link = attempt(links.find, sandbox, self.request.ifname) if sandbox is not None else None
        if sandbox is None or link is None or not link.alias:  # nobody lent it, or it is not there any more
            attempt(self._take_home)
            return
        fault, _ = interface_name_fault(link.alias)
        if fault:
            text = f"the alias of {link.name}, {link.alias!r}, is not the name that it had on the host: {fault}"
            attempt.failures.append(CniError(errors.INTERNAL, text, f"ip link set {link.name} alias NAME"))
            return
        attempt(_return, sandbox, link, link.alias, False)

    def _take_home(self) -> None:
        """Give its own name to a device that a Go plugin lent and the kernel has brought back."""
        try:
            self.option = self.options.parse(self.request)
            self.validate()
            link, name = self.find_device()
        except CniError:
            return  # the options are wrong by now, or it is lent, or not there
        if name != link.name:
            lending.take_home(self.machine.host, link, name, up=False)


def _return(sandbox: Namespace, link: Link, name: str, up: bool) -> None:
    there = lending.give_back(sandbox, link, name, up=up)
    if there != name:
        advice = f"ip link set {there} name NAME alias ''"
        raise CniError(errors.INTERNAL, f"{name} is back on the host as {there}: its name is taken there", advice)
