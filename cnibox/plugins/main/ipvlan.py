"""ipvlan: the container shares its parent's MAC address, and has IP addresses of its own.

{"type": "ipvlan", "master": "eth0", "ipam": {"type": "host-local", "subnet": "192.168.1.0/24"}}

Behind a plugin that has made an interface of the host and found addresses for it, the container gets these
addresses, and its interface is on top of that one: {"type": "ipvlan"} is enough.
"""

from __future__ import annotations

from ...spec import errors
from ...spec.errors import CniError
from ...spec.options import OneOf, Option, Options, Text
from ...spec.result import Result
from ...wiring.interface import require
from ...wiring.link import LINK_IN_CONTAINER, MTU, StackedPlugin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...host.links import Link


class Ipvlan(StackedPlugin):
    options = Options(
        Option("master", Text, "", "the parent interface; by default that of prevResult, else the default route's"),
        Option(
            "mode",
            OneOf("l2", "l3", "l3s"),
            "l2",
            "l2: with ARP and broadcasts; l3: routed, without; l3s: and by way of the host's packet filter",
        ),
        MTU,
        LINK_IN_CONTAINER,
    )
    kind = "ipvlan"

    def planned(self) -> Result:
        """Without an IPAM plugin the addresses, routes and DNS settings are those of prevResult."""
        result = Result()
        if not self.ipam_name():
            previous = self.request.previous
            if previous is None or not previous.ips:
                text = "ipvlan needs addresses: the configuration has no IPAM plugin, and no prevResult with addresses"
                raise CniError(errors.INVALID_CONFIG, text, 'add "ipam": {"type": "host-local", ...}')
            for ip in previous.ips:
                ip.interface = self.container_index
            result = Result(None, previous.ips, previous.routes, previous.dns)
        super().planned()
        self.require_ipv6_mtu(result)
        return result

    def master_name(self) -> str:
        previous = self.request.previous
        if self.option.master or previous is None:
            return super().master_name()
        names = [interface.name for interface in previous.interfaces]
        if len(names) != 1 or not names[0]:
            text = f"prevResult has {len(names)} interfaces: which of them is the master is not known"
            raise CniError(errors.INVALID_CONFIG, text, 'name it in "master"')
        return names[0]

    def create_link(self) -> None:
        self.stack([("IFLA_IPVLAN_MODE", self.option.mode)], f"mode {self.option.mode}")

    def check_link(self, link: Link) -> None:
        super().check_link(link)
        mode = link.data.get("IFLA_IPVLAN_MODE")
        require(mode == self.option.mode, f"mode of {link.name} is {mode}, not {self.option.mode}")

    @property
    def comes_with_add(self) -> bool:
        is_chained = not (self.option.master or self.ipam_name())
        return super().comes_with_add or is_chained
