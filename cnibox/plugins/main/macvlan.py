"""macvlan: the container gets a MAC address of its own on its parent's network segment.

{"type": "macvlan", "master": "eth0", "ipam": {"type": "host-local", "subnet": "192.168.1.0/24"}}

Without `ipam` the container gets an interface and no address.
"""

from __future__ import annotations

from ...host import links
from ...spec.options import Int, Mac, OneOf, Option, Options
from ...wiring.interface import require
from ...wiring.link import LINK_IN_CONTAINER, MASTER, MTU, StackedPlugin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...host.links import Attributes, Link


class Macvlan(StackedPlugin):
    options = Options(
        MASTER,
        Option(
            "mode", OneOf("bridge", "private", "vepa", "passthru"), "bridge", "what macvlans of one parent exchange"
        ),
        MTU,
        Option("mac", Mac, help="of the container's interface", cni_arg="MAC", capability="mac"),
        LINK_IN_CONTAINER,
        Option(
            "bcqueuelen", Int(0, 0xFFFFFFFF), 0, "broadcast packets that the parent queues; 0: the kernel's default"
        ),
    )
    kind = "macvlan"

    def create_link(self) -> None:
        option = self.option
        data: Attributes = [("IFLA_MACVLAN_MODE", option.mode)]
        data += [("IFLA_MACVLAN_BC_QUEUE_LEN", option.bcqueuelen)] * bool(option.bcqueuelen)
        say = f"mode {option.mode}" + f" bcqueuelen {option.bcqueuelen}" * bool(option.bcqueuelen)
        self.stack(data, say, option.mac or "")
        if option.mac and option.mode == "passthru":
            # Born with its parent's address whatever it was given; the parent gets its own back when the link goes.
            links.set_mac(self.sandbox, links.get(self.sandbox, self.request.ifname), option.mac)

    def check_link(self, link: Link) -> None:
        super().check_link(link)
        mode, length = link.data.get("IFLA_MACVLAN_MODE"), link.data.get("IFLA_MACVLAN_BC_QUEUE_LEN")
        require(mode == self.option.mode, f"mode of {link.name} is {mode}, not {self.option.mode}")
        wanted = self.option.bcqueuelen
        same = not wanted or length in (wanted, None)  # kernels before 5.11 have no such thing
        require(same, f"bcqueuelen of {link.name} is {length}, not {wanted}")
