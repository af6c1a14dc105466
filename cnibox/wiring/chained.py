"""A plugin that adjusts what earlier plugins of the network's list made, and hands their result on."""

from __future__ import annotations

from ..host import files, links
from ..spec import errors
from ..spec.errors import CniError
from .attachment import AttachmentPlugin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..host.links import Link
    from ..host.namespace import Namespace
    from ..spec.result import Interface, IpConfig, Result


class ChainedPlugin(AttachmentPlugin):
    """What such plugins have in common: the previous result, and the interface that it tells of."""

    def require_previous(self) -> Result:
        """The earlier plugins' result; CniError 7 without one."""
        result = self.request.previous
        if result is None:
            text = f"{self.name} must be called as a chained plugin: the configuration has no prevResult"
            raise CniError(errors.INVALID_CONFIG, text, "put it after an interface plugin in the network's list")
        return result

    def lock(self, sandbox: Namespace) -> None:
        """Keep others out of that namespace until this process ends, a failed ADD's undo included.

        The Go plugin sbr takes the same lock: flock(2) on the namespace's file.
        """
        files.lock_open(sandbox.fd, sandbox.path)

    def require_link(self) -> Link:
        """CNI_IFNAME in the container; CniError 999 when no earlier plugin has made it."""
        link = links.find(self.sandbox, self.request.ifname)
        if link is None:
            text = f"interface {self.request.ifname} is not in {self.sandbox.path}"
            raise CniError(errors.INTERNAL, text, "an earlier plugin of the list makes it")
        return link

    def addresses_of(self, result: Result) -> list[IpConfig]:
        """The result's addresses of CNI_IFNAME: those that name no interface, or this one in the container."""
        return [ip for ip in result.ips if self._is_own(interface_of(result, ip))]

    def _is_own(self, interface: Interface | None) -> bool:
        return interface is None or (interface.name == self.request.ifname and bool(interface.sandbox))


def interface_of(result: Result, ip: IpConfig) -> Interface | None:
    """The interface that an address names by its index, if it names one that is there."""
    index = ip.interface
    return result.interfaces[index] if index is not None and 0 <= index < len(result.interfaces) else None
