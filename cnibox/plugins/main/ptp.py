"""ptp: the container and the host, and nobody between: a veth pair, with a route for each of the container's addresses.

{"type": "ptp", "ipMasq": true,
 "ipam": {"type": "host-local", "subnet": "10.1.3.0/24", "routes": [{"dst": "0.0.0.0/0"}]}}

The host's end has the gateway's address. The container reaches its own subnet, too, only through it.
"""

from __future__ import annotations

from ...host import addresses, links, routes
from ...host.netlink.rtnl import RT_SCOPE_HOST, RT_SCOPE_LINK
from ...spec import errors
from ...spec.address import Cidr
from ...spec.errors import CniError
from ...spec.options import Options
from ...spec.result import Result
from ...wiring.interface import require
from ...wiring.veth import IP_MASQ, IP_MASQ_BACKEND, MTU, VethPlugin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...host.links import Link
    from ...spec.result import IpConfig


class Ptp(VethPlugin):
    options = Options(IP_MASQ, IP_MASQ_BACKEND, MTU)
    container_index = 1

    def validate(self) -> None:
        if not self.ipam_name():
            text = "ptp needs an IPAM plugin: without addresses there is nothing to route"
            raise CniError(errors.INVALID_CONFIG, text, 'add "ipam": {"type": "host-local", ...}')

    def plan(self, result: Result) -> None:
        """Every address needs a gateway, and a subnet in which both are."""
        for ip in result.ips:
            _gateway(ip)
            if ip.address == ip.address.host:
                text = f"IPAM gave {ip.address}, a prefix without room for the gateway {ip.gateway}"
                raise CniError(errors.INTERNAL, text, "use a shorter prefix")

    def wire(self, result: Result) -> None:
        self.enable_forwarding({ip.address.version for ip in result.ips})
        far = links.get(self.sandbox, self.request.ifname)
        with self.sandbox, self.sandbox.batch():
            self.assign(self.sandbox, far, result.ips)
            self.add_routes(self.sandbox, far, result)
        self._route_by_host(far, result)
        near = links.get(self.machine.host, self.host_name)
        self._route_to_container(near, result)
        near, far = links.operational(self.machine.host, near.name), links.operational(self.sandbox, far.name)
        self.wait_until_usable(self.sandbox, far, result)
        self.wait_until_reachable(near, (_gateway(ip) for ip in result.ips))
        self.describe(result, near, far)

    def _route_by_host(self, far: Link, result: Result) -> None:
        """In the container: the subnet's neighbours are not on this link, all of them are behind the gateway."""
        self.machine.journal.why = "type"
        with self.sandbox.batch():
            for ip in result.ips:
                network, source, gateway = str(ip.address.network), str(ip.address.address), _gateway(ip)
                routes.remove(self.sandbox, far, network)
                routes.add(self.sandbox, far, str(gateway), source=source, scope=RT_SCOPE_LINK)
                routes.add(self.sandbox, far, network, str(gateway.address), source=source)

    def _route_to_container(self, near: Link, result: Result) -> None:
        host = self.machine.host
        self.machine.journal.why = "type"
        with host.batch():
            for gateway in {_gateway(ip): None for ip in result.ips}:
                addresses.add(host, near, gateway)
            for ip in result.ips:
                routes.add(host, near, str(ip.address.host), scope=RT_SCOPE_HOST)

    def check(self) -> None:
        sandbox, link, result = self.check_interface("veth")
        near = self.check_near_end(result, link, None)
        require(link.is_up, f"{link.name} is down")
        self.check_mtu(link, result)
        self.check_addresses(sandbox, link, result)
        self.check_routes(sandbox, result)
        self._check_host(near, result)
        self.check_masquerading(result)

    def _check_host(self, near: Link, result: Result) -> None:
        """The gateways must be at the near end, and the way to the container."""
        host = self.machine.host
        there = {address.text for address in addresses.of(host, near)}
        ways = {route.dst for route in routes.through(host, near)}
        for ip in self.own(result):
            gateway, address = str(_gateway(ip)), str(ip.address.host)
            require(gateway in there, f"the gateway's address {gateway} is not on {near.name}")
            require(address in ways, f"the host has no route to {address} by {near.name}")


def _gateway(ip: IpConfig) -> Cidr:
    """The address's gateway alone, /32 or /128."""
    if ip.gateway is None:
        raise CniError(errors.INTERNAL, f"IPAM gave {ip.address} without a gateway", "ptp routes through it")
    return Cidr(ip.gateway, ip.gateway.bits)
