"""vlan: the container gets the frames of one VLAN of its parent, without their tags (IEEE 802.1Q).

{"type": "vlan", "master": "eth0", "vlanId": 5, "ipam": {"type": "host-local", "subnet": "192.168.5.0/24"}}

A parent has each VLAN once: one container of a host can be in it. Without `ipam` it gets an interface and no address.
"""

from __future__ import annotations

import errno

from ...host.journal import HostError
from ...spec import errors
from ...spec.errors import CniError
from ...spec.options import Int, Option, Options, Text
from ...wiring.interface import require
from ...wiring.link import LINK_IN_CONTAINER, MTU, StackedPlugin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...host.links import Link


class Vlan(StackedPlugin):
    options = Options(
        Option("master", Text, "", "the parent interface; required"),
        Option("vlanId", Int(0, 4094), 0, "of the frames; 0: priority-tagged frames, which belong to no VLAN"),
        MTU,
        LINK_IN_CONTAINER,
    )
    kind = "vlan"
    needs_master = True

    def master(self) -> Link:
        found = super().master()
        if not found.is_up:  # a VLAN cannot be brought up then
            text = f"master interface {found.name} in {self.side.place} is down"
            raise CniError(errors.INTERNAL, text, f"bring it up (ip link set {found.name} up)")
        return found

    def create_link(self) -> None:
        number = self.option.vlanId
        try:
            self.stack([("IFLA_VLAN_ID", number)], f"id {number}")
        except HostError as error:
            if error.errno == errno.EEXIST:
                error.hint = f"{self.parent.name} has VLAN {number} already, on the host or in another container"
            raise

    def check_link(self, link: Link) -> None:
        super().check_link(link)
        number = link.data.get("IFLA_VLAN_ID")
        require(number == self.option.vlanId, f"{link.name} is VLAN {number}, not {self.option.vlanId}")
