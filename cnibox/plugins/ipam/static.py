"""static: the addresses that the configuration names, or the runtime.

{"type": "static", "addresses": [{"address": "10.1.2.3/24", "gateway": "10.1.2.1"}]}

Nothing is kept, and nothing is looked up: that two containers have the same address is the configuration's
affair.
"""

from __future__ import annotations

from ...plugin import Plugin
from ...spec import errors
from ...spec.errors import CniError
from ...spec.jsontext import member
from ...spec.options import Ip, ListOf, Option, Options, Prefix, Record
from ...spec.result import IpConfig, Result
from ...spec.versions import at_least
from ...wiring import ipam

TYPE_CHECKING = False
if TYPE_CHECKING:
    pass

ADDRESS = Options(
    Option("address", Prefix, required=True, help="with the length of its prefix"),
    Option("gateway", Ip, help="of the routes that name none"),
)


class Static(Plugin):
    options = Options(
        Option("addresses", ListOf(Record(ADDRESS)), [], "addresses of the interface"),
        Option("routes", ipam.ROUTES, [], "passed on into the result"),
        Option("dns", ipam.DNS, help="passed on into the result"),
        Option("IP", ListOf(Prefix), [], "more addresses", config=False, cni_arg="IP"),
        Option(
            "GATEWAY",
            ListOf(Ip),
            [],
            "gateways of those in whose networks they are",
            config=False,
            cni_arg="GATEWAY",
        ),
        Option(
            "ips",
            ListOf(Prefix),
            help="instead of all other addresses; without gateways",
            config=False,
            args_cni="ips",
            capability="ips",
        ),
        section="ipam",
    )

    def add(self) -> Result:
        return Result([], self._addresses(), ipam.routes(self.option.routes), ipam.dns(self.option.dns))

    def check(self) -> None:
        previous = self.request.previous
        if previous is None:
            raise CniError(
                errors.INVALID_CONFIG, "static: Required prevResult missing", "CHECK needs what ADD answered"
            )
        given = {each.address: each.gateway for each in previous.ips}
        for each in self._addresses():
            if each.address not in given:
                raise CniError(
                    errors.INTERNAL,
                    f"static: address {each.address} is configured, but ADD's result does not have it",
                    "the configuration has been changed since ADD; the attachment needs a DEL and an ADD",
                )
            if each.gateway is not None and given[each.address] != each.gateway:
                text = f"static: Failed to match gateway of {each.address}"
                raise CniError(
                    errors.INTERNAL, text, f"{given[each.address]} in ADD's result, {each.gateway} configured"
                )

    def status(self) -> None:
        self._addresses()

    def _addresses(self) -> list[IpConfig]:
        """What the interface gets. As in the reference, args.cni.ips replaces all, runtimeConfig.ips that."""
        if member(self.request.config, "ipam") is None:
            advice = 'add "ipam": {"type": "static", "addresses": [...]}'
            raise CniError(errors.INVALID_CONFIG, "IPAM config missing 'ipam' key", advice)
        option = self.option
        addresses = [IpConfig(each.address, each.gateway) for each in option.addresses]
        for address in option.IP:
            inside = [gateway for gateway in option.GATEWAY if address.contains(gateway)]
            addresses.append(IpConfig(address, inside[-1] if inside else None))
        if option.ips:
            addresses = [IpConfig(address) for address in option.ips]
        families = [each.address.version for each in addresses]
        if max(families.count(4), families.count(6)) > 1 and not at_least(self.request.version, "0.3.0"):
            text = f"CNI version {self.request.version} does not support more than 1 address per family"
            raise CniError(errors.INVALID_CONFIG, text, "use cniVersion 0.3.0 or later")
        return addresses
