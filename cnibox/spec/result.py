"""What ADD answers: interfaces, addresses, routes, DNS; in each version of the specification.

A Result has no version of its own. It is read leniently (fields of 1.1.0 in an older result are kept, as the
reference library writes them there) and written strictly: what the wanted version lacks is left out.
"""

from __future__ import annotations

from . import jsontext, versions
from .address import Address, Cidr
from .errors import DECODING_FAILURE, INTERNAL, CniError
from .jsontext import member


class _Fields:
    """Compared and shown by its fields."""

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__dict__.items())
        return f"{type(self).__name__}({shown})"


class Interface(_Fields):
    """`sandbox` is the path of the namespace, empty on the host. mtu, socket_path and pci_id are of 1.1.0."""

    def __init__(
        self,
        name: str,
        mac: str = "",
        sandbox: str = "",
        mtu: int = 0,
        socket_path: str = "",
        pci_id: str = "",
    ) -> None:
        self.name = name
        self.mac = mac
        self.sandbox = sandbox
        self.mtu = mtu
        self.socket_path = socket_path
        self.pci_id = pci_id


class IpConfig(_Fields):
    """`interface` is an index into the result's interfaces, None if unsaid, as in IPAM plugins' results."""

    def __init__(self, address: Cidr, gateway: Address | None = None, interface: int | None = None) -> None:
        self.address = address
        self.gateway = gateway
        self.interface = interface


class Route(_Fields):
    """Without `gw`, plugins take the gateway of an address.

    What follows `gw` is of 1.1.0. `scope` is 0 global, 253 link, 254 host; `table` and `scope` may be unsaid.
    """

    def __init__(
        self,
        dst: Cidr,
        gw: Address | None = None,
        mtu: int = 0,
        advmss: int = 0,
        priority: int = 0,
        table: int | None = None,
        scope: int | None = None,
    ) -> None:
        self.dst = dst
        self.gw = gw
        self.mtu = mtu
        self.advmss = advmss
        self.priority = priority
        self.table = table
        self.scope = scope

    @classmethod
    def from_object(cls, given: object, path: str = "route") -> Route:
        """A route as results and the configurations of IPAM plugins write it. CniError 6 names the path."""
        route = _object(given, path)
        return cls(
            _cidr(route, "dst", path),
            _address(route, "gw", path),
            _number(route, "mtu", path) or 0,
            _number(route, "advmss", path) or 0,
            _number(route, "priority", path) or 0,
            _number(route, "table", path),
            _number(route, "scope", path),
        )


class Dns(_Fields):
    """False if nothing is set."""

    def __init__(
        self,
        nameservers: list[str] | None = None,
        domain: str = "",
        search: list[str] | None = None,
        options: list[str] | None = None,
    ) -> None:
        self.nameservers = nameservers or []
        self.domain = domain
        self.search = search or []
        self.options = options or []

    def __bool__(self) -> bool:
        return bool(self.nameservers or self.domain or self.search or self.options)

    @classmethod
    def from_object(cls, given: object, path: str = "dns") -> Dns:
        """DNS settings as results and network configurations write them. CniError 6 names the path."""
        dns = _object(given, path)
        return cls(
            _texts(dns, "nameservers", path),
            _text(dns, "domain", path),
            _texts(dns, "search", path),
            _texts(dns, "options", path),
        )


class Result(_Fields):
    def __init__(
        self,
        interfaces: list[Interface] | None = None,
        ips: list[IpConfig] | None = None,
        routes: list[Route] | None = None,
        dns: Dns | None = None,
    ) -> None:
        self.interfaces = interfaces if interfaces is not None else []
        self.ips = ips if ips is not None else []
        self.routes = routes if routes is not None else []
        self.dns = dns or Dns()

    @classmethod
    def from_object(cls, given: object, version: str) -> Result:
        """A decoded result of any version: its own cniVersion says which, `version` if it has none.

        Unknown fields are dropped; null is an empty result. CniError 6 names the path: "ips[0].address: ...".
        """
        if given is None:
            return cls()
        fields = _object(given, "result")
        said = _text(fields, "cniVersion", "") or version
        if said not in versions.SUPPORTED:
            known = f"known: {' '.join(versions.SUPPORTED)}"
            raise CniError(DECODING_FAILURE, f'unsupported CNI result version "{said}"', known)
        return _read_ip4_ip6(fields) if versions.family(said) == 1 else _read_lists(fields)

    def to_object(self, version: str) -> dict[str, object]:
        """As this version of the specification has it, keys in the order to print.

        0.x: the order of the reference's structures, "dns" always there. 1.x: sorted, "dns" only if set.
        CniError 999 without an address in 0.1 and 0.2, which cannot say that.
        """
        family = versions.family(version)
        if family == 1:
            return self._ip4_ip6(version)
        extras = version == "1.1.0"
        written: dict[str, object] = {"cniVersion": version}
        if self.interfaces:
            written["interfaces"] = [_write_interface(each, extras) for each in self.interfaces]
        if self.ips:
            written["ips"] = [_write_ip(each, with_version=family == 2) for each in self.ips]
        if self.routes:
            written["routes"] = [_write_route(each, extras) for each in self.routes]
        if self.dns or family == 2:
            written["dns"] = _write_dns(self.dns)
        return _sorted(written) if family == 3 else written

    def _ip4_ip6(self, version: str) -> dict[str, object]:
        """0.1 and 0.2: one address of each family with that family's routes; no interfaces."""
        written: dict[str, object] = {"cniVersion": version}
        for ip_version in (4, 6):
            first = next((each for each in self.ips if each.address.version == ip_version), None)
            if first is None:
                continue
            config: dict[str, object] = {"ip": str(first.address)}
            if first.gateway is not None:
                config["gateway"] = str(first.gateway)
            routes = [_write_route(each, False) for each in self.routes if each.dst.version == ip_version]
            if routes:
                config["routes"] = routes
            written[f"ip{ip_version}"] = config
        if len(written) == 1:
            raise CniError(
                INTERNAL,
                "cannot convert: no valid IP addresses",
                f"a result of cniVersion {version} must have an address; from 0.3.0 on it need not",
            )
        written["dns"] = _write_dns(self.dns)
        return written


# Reading. `path` is the place of the object whose field is read, "" for the result itself.


def _read_ip4_ip6(fields: dict[str, object]) -> Result:
    ips, routes = [], []
    for key in ("ip4", "ip6"):
        if member(fields, key) is None:
            continue
        config = _object(member(fields, key), key)
        ips.append(IpConfig(_cidr(config, "ip", key), _address(config, "gateway", key)))
        routes += [Route.from_object(each, path) for path, each in _items(config, "routes", key)]
    return Result([], ips, routes, _read_dns(fields))


def _read_lists(fields: dict[str, object]) -> Result:
    return Result(
        [_read_interface(each, path) for path, each in _items(fields, "interfaces", "")],
        [_read_ip(each, path) for path, each in _items(fields, "ips", "")],
        [Route.from_object(each, path) for path, each in _items(fields, "routes", "")],
        _read_dns(fields),
    )


def _read_interface(given: object, path: str) -> Interface:
    interface = _object(given, path)
    return Interface(
        _text(interface, "name", path),
        _text(interface, "mac", path),
        _text(interface, "sandbox", path),
        _number(interface, "mtu", path) or 0,
        _text(interface, "socketPath", path),
        _text(interface, "pciID", path),
    )


def _read_ip(given: object, path: str) -> IpConfig:
    ip = _object(given, path)
    _text(ip, "version", path)  # 0.3 and 0.4 only; the address itself is believed
    index = _number(ip, "interface", path)
    if index is not None and index < 0:
        index = None  # the first plugins of 0.3.0 wrote -1 for none
    return IpConfig(_cidr(ip, "address", path), _address(ip, "gateway", path), index)


def _read_dns(fields: dict[str, object]) -> Dns:
    given = member(fields, "dns")
    return Dns() if given is None else Dns.from_object(given)


def _wrong(path: str, expected: str, given: object) -> CniError:
    return CniError(DECODING_FAILURE, f"{path}: must be {expected}, not {jsontext.quoted(given)}")


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _object(given: object, path: str) -> dict[str, object]:
    if not isinstance(given, dict):
        raise _wrong(path, "an object", given)
    return given


def _items(fields: dict[str, object], key: str, path: str) -> list[tuple[str, object]]:
    """The items of a list, each with its path."""
    given = member(fields, key)
    if given is None:
        return []
    if not isinstance(given, list):
        raise _wrong(_join(path, key), "a list", given)
    return [(f"{_join(path, key)}[{index}]", item) for index, item in enumerate(given)]


def _text(fields: dict[str, object], key: str, path: str) -> str:
    given = member(fields, key)
    if given is None:
        return ""
    if not isinstance(given, str):
        raise _wrong(_join(path, key), "a string", given)
    return given


def _texts(fields: dict[str, object], key: str, path: str) -> list[str]:
    texts = []
    for place, item in _items(fields, key, path):
        if not isinstance(item, str):
            raise _wrong(place, "a string", item)
        texts.append(item)
    return texts


def _number(fields: dict[str, object], key: str, path: str) -> int | None:
    given = member(fields, key)
    if given is None:
        return None
    if not isinstance(given, int) or isinstance(given, bool) or not -(1 << 63) <= given < 1 << 63:
        raise _wrong(_join(path, key), "a whole number of 64 bits", given)
    return given


def _address(fields: dict[str, object], key: str, path: str) -> Address | None:
    text = _text(fields, key, path)
    if not text:
        return None
    try:
        return Address.parse(text)
    except ValueError as error:
        raise CniError(DECODING_FAILURE, f"{_join(path, key)}: {error}") from None


def _cidr(fields: dict[str, object], key: str, path: str) -> Cidr:
    text = _text(fields, key, path)
    try:
        return Cidr.parse(text)
    except ValueError as error:
        raise CniError(DECODING_FAILURE, f"{_join(path, key)}: {error}") from None


# Writing, in the order of the reference's structures.


def _write_interface(interface: Interface, extras: bool) -> dict[str, object]:
    written: dict[str, object] = {"name": interface.name}
    if interface.mac:
        written["mac"] = interface.mac
    if interface.mtu and extras:
        written["mtu"] = interface.mtu
    if interface.sandbox:
        written["sandbox"] = interface.sandbox
    if interface.socket_path and extras:
        written["socketPath"] = interface.socket_path
    if interface.pci_id and extras:
        written["pciID"] = interface.pci_id
    return written


def _write_ip(ip: IpConfig, *, with_version: bool) -> dict[str, object]:
    written: dict[str, object] = {"version": str(ip.address.version)} if with_version else {}
    if ip.interface is not None:
        written["interface"] = ip.interface
    written["address"] = str(ip.address)
    if ip.gateway is not None:
        written["gateway"] = str(ip.gateway)
    return written


def _write_route(route: Route, extras: bool) -> dict[str, object]:
    written: dict[str, object] = {"dst": str(route.dst)}
    if route.gw is not None:
        written["gw"] = str(route.gw)
    if extras:
        for key in ("mtu", "advmss", "priority"):
            if getattr(route, key):
                written[key] = getattr(route, key)
        for key in ("table", "scope"):  # 0 is a value, unlike above
            if getattr(route, key) is not None:
                written[key] = getattr(route, key)
    return written


def _write_dns(dns: Dns) -> dict[str, object]:
    return {key: value for key, value in dns.__dict__.items() if value}


def _sorted(written: dict[str, object]) -> dict[str, object]:
    result: dict[str, object] = {}
    for key in sorted(written):
        value = written[key]
        if isinstance(value, dict):
            value = _sorted(value)
        elif isinstance(value, list):
            value = [_sorted(item) if isinstance(item, dict) else item for item in value]
        result[key] = value
    return result
