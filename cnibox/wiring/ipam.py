"""What IPAM plugins have in common: routes and DNS settings, which go into the result as they are."""

from __future__ import annotations

from ..host import files
from ..spec import errors
from ..spec.errors import CniError
from ..spec.options import Int, Ip, ListOf, Option, Options, Prefix, Record, Text
from ..spec.result import Dns, Route
from ..spec.versions import at_least

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..spec.options import Values
    from ..spec.request import Request

UNSIGNED = Int(0, (1 << 32) - 1)
ROUTES = ListOf(
    Record(
        Options(
            Option("dst", Prefix, required=True, help="destination"),
            Option("gw", Ip, help="by default the gateway of the address"),
            Option("mtu", UNSIGNED, 0),
            Option("advmss", UNSIGNED, 0, "the MSS to advertise"),
            Option("priority", UNSIGNED, 0, "metric"),
            Option("table", UNSIGNED, help="routing table; by default main"),
            Option("scope", Int(0, 255), help="0 global, 253 link, 254 host"),
        )
    )
)
DNS = Record(
    Options(
        Option("nameservers", ListOf(Text), []),
        Option("domain", Text, ""),
        Option("search", ListOf(Text), []),
        Option("options", ListOf(Text), []),
    )
)


def routes(given: list[Values]) -> list[Route]:
    return [Route(each.dst, each.gw, each.mtu, each.advmss, each.priority, each.table, each.scope) for each in given]


def dns(given: Values | None) -> Dns:
    return Dns(given.nameservers, given.domain, given.search, given.options) if given is not None else Dns()


def require_representable(families: list[int], request: Request) -> None:
    """CniError 7 where results of the request's version cannot have the addresses of these IP versions."""
    if max(families.count(4), families.count(6)) > 1 and not at_least(request.version, "0.3.0"):
        text = f"CNI version {request.version} does not support more than 1 address per family"
        advice = f"the configuration asks for {len(families)} addresses; use cniVersion 0.3.0 or later"
        raise CniError(errors.INVALID_CONFIG, text, advice).advising(request.version_advice)


def resolv_conf(path: str) -> Dns:
    """The settings of a file like /etc/resolv.conf; "": none. CniError or HostError if it cannot be read."""
    found = Dns()
    if not path:
        return found
    content = files.read(path)
    if content is None:
        raise CniError(errors.INTERNAL, f"open {path}: no such file or directory", 'option "resolvConf" names it')
    for line in content.decode(errors="replace").split("\n"):
        words = line.split()
        if len(words) < 2 or words[0][0] in "#;":
            continue
        if words[0] == "nameserver":
            found.nameservers.append(words[1])
        elif words[0] == "domain":
            found.domain = words[1]
        elif words[0] == "search":
            found.search += words[1:]
        elif words[0] == "options":
            found.options += words[1:]
    return found
