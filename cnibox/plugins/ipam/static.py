"""static: the addresses that the configuration names, or the runtime.

{"type": "static", "addresses": [{"address": "10.1.2.3/24", "gateway": "10.1.2.1"}]}

Nothing is kept: whether two containers have the same address is not checked. An address may be a placeholder, such as
"" or "$IP", if the runtime gives the real ones (CNI_ARGS, args.cni.ips, runtimeConfig.ips).
"""

from __future__ import annotations

from ...plugin import Plugin
from ...spec import errors
from ...spec.errors import CniError
from ...spec.jsontext import encode, member
from ...spec.options import Ip, ListOf, Option, Options, Prefix, Record, template_of
from ...spec.result import IpConfig, Result
from ...wiring import ipam

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ADDRESS = Options(
    Option("address", template_of(Prefix), help="address with prefix length, or a placeholder"),
    Option("gateway", template_of(Ip), help="gateway of the routes that name none"),
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
        self._addresses()  # without those of a template: the runtime gives them to ADD only

    def _require_no_placeholder(self, index: int) -> None:
        """An address that is used may have no gateway, but nothing else in its place."""
        entry: Any = self.request.config
        for key in ("ipam", "addresses"):
            entry = member(entry, key)
        gateway = member(entry[index], "gateway")
        if gateway:
            option = f'option "ipam.addresses[{index}].gateway" of {self.name}'
            text = f"{option}: must be an IP address, not {encode(gateway)}"
            advice = "the address beside it is none of a template; write its gateway, or leave it out"
            raise CniError(errors.INVALID_CONFIG, text, advice)

    def _addresses(self) -> list[IpConfig]:
        """What the interface gets. As in the reference, args.cni.ips replaces all, runtimeConfig.ips that."""
        if member(self.request.config, "ipam") is None:
            advice = 'add "ipam": {"type": "static", "addresses": [...]}'
            raise CniError(errors.INVALID_CONFIG, "IPAM config missing 'ipam' key", advice)
        option = self.option
        is_template = bool(option.IP or option.ips) or self.request.command == "STATUS"
        for index, each in enumerate(option.addresses):
            if each.address is None and not is_template:
                text = f'option "ipam.addresses[{index}].address" of {self.name}: there is no address'
                advice = "write one such as 10.1.2.3/24, or let the runtime give it (IP in CNI_ARGS, runtimeConfig.ips)"
                raise CniError(errors.INVALID_CONFIG, text, advice)
            if each.address is not None and each.gateway is None and not option.ips:
                self._require_no_placeholder(index)
        addresses = [IpConfig(each.address, each.gateway) for each in option.addresses if each.address is not None]
        for address in option.IP:
            inside = [gateway for gateway in option.GATEWAY if address.contains(gateway)]
            addresses.append(IpConfig(address, inside[-1] if inside else None))
        if option.ips:
            addresses = [IpConfig(address) for address in option.ips]
        ipam.require_representable([each.address.version for each in addresses], self.request)
        return addresses
