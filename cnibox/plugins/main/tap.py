"""tap: the container gets a tap, whose other end is a process that opens it, such as a virtual machine.

{"type": "tap", "owner": 107, "group": 107, "multiQueue": true, "mac": "02:00:00:00:00:01"}

Without `ipam` it gets no address: the process has the network to itself, or `bridge` joins it with another interface.
"""

from __future__ import annotations

from ...host import links, tuntap
from ...spec import errors
from ...spec.errors import CniError
from ...spec.options import Bool, Int, Mac, Option, Options, Text
from ...spec.request import interface_name_fault
from ...spec.result import Result
from ...wiring.interface import require
from ...wiring.link import LinkPlugin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...host.links import Attributes, Link

ID = Int(0, 0xFFFFFFFE)  # 2^32 - 1 is the kernel's "nobody at all"
FACTS = (
    ("multiQueue", "IFLA_TUN_MULTI_QUEUE"),
    ("owner", "IFLA_TUN_OWNER"),
    ("group", "IFLA_TUN_GROUP"),
)


class Tap(LinkPlugin):
    options = Options(
        Option("multiQueue", Bool, False, "several queues, as many as are opened"),
        Option("mtu", Int(0, 65535), 0, "MTU of the interface; 0: the kernel's default"),
        Option("mac", Mac, help="of the interface", cni_arg="MAC", capability="mac"),
        Option("owner", ID, help="ID of the only user who may open it without CAP_NET_ADMIN"),
        Option("group", ID, help="ID of the only group whose members may open it"),
        Option("selinuxContext", Text, "", "SELinux context of the tap; by default the runtime's"),
        Option("bridge", Text, "", "a bridge in the container to plug it into"),
    )
    kind = "tun"
    bridge: Link | None = None

    def validate(self) -> None:
        super().validate()
        name = self.option.bridge
        fault, details = interface_name_fault(name) if name else ("", "")
        if fault:
            raise CniError(errors.INVALID_CONFIG, f'option "bridge" of tap: {fault}', details or name)

    # --- ADD

    def planned(self) -> Result:
        self._require_selinux()
        if self.option.bridge:
            self.bridge = self._find_bridge()
        return super().planned()

    def _require_selinux(self) -> None:
        if self.option.selinuxContext and not tuntap.has_selinux():
            text = f"SELinux is not on, so that nothing can have the context {self.option.selinuxContext}"
            raise CniError(errors.INTERNAL, text, 'remove "selinuxContext", or mount /sys/fs/selinux')

    def _find_bridge(self) -> Link:
        name = self.option.bridge
        link = links.find(self.sandbox, name)
        if link is None:
            text = f"failed to get bridge {name}: it is not in {self.sandbox.path}"
            raise CniError(errors.INTERNAL, text, "it must be in the container, not on the host")
        if link.kind != "bridge":
            raise CniError(errors.INTERNAL, f"{name} is a {link.kind or 'hardware link'}, not a bridge")
        return link

    def create_link(self) -> None:
        option = self.option
        tuntap.create_tap(
            self.sandbox,
            self.request.ifname,
            multi_queue=option.multiQueue,
            owner=option.owner,
            group=option.group,
            label=option.selinuxContext,
        )
        attributes: Attributes = [("IFLA_MTU", option.mtu)] * bool(option.mtu)
        attributes += [("IFLA_ADDRESS", option.mac)] * bool(option.mac)
        say = f"mtu {option.mtu}" * bool(option.mtu) + f" address {option.mac}" * bool(option.mac)
        if self.bridge is not None:
            links.pin_mac(self.sandbox, self.bridge)  # else it takes the tap's, if that is the lowest of its ports
            attributes.append(("IFLA_MASTER", self.bridge.index))
            say += f" master {self.bridge.name}"
        if attributes:
            links.change(self.sandbox, links.get(self.sandbox, self.request.ifname), attributes, say.strip())

    # --- CHECK, STATUS

    def check_link(self, link: Link) -> None:
        option = self.option
        require(link.data.get("IFLA_TUN_TYPE") == tuntap.IFF_TAP, f"{link.name} is a tun, not a tap")
        for name, attribute in FACTS:
            wanted, current = getattr(option, name), link.data.get(attribute)
            require(wanted in (None, False, current), f"{name} of {link.name} is {current}, not {wanted}")
        if option.bridge:
            plugged = link.master == self._find_bridge().index
            require(plugged, f"{link.name} is not plugged into {option.bridge}")

    def require_kernel(self) -> None:
        tuntap.probe()
        self._require_selinux()
