"""A plugin's options, declared once: parsing, error messages, JSON Schema and help all come from one table.

    options = Options(
        Option("bridge", Text, "cni0", "name of the bridge"),
        Option("mtu", Int(0, 65535), 0, "0: the kernel's default"),
        Option("mac", Mac, config=False, cni_arg="MAC", args_cni="mac", capability="mac"),
    )
    option = options.parse(request)
    option.bridge, option.mtu, option.mac

A kind (Text, Int(0, 65535), ...) says what values an option takes. Kinds without parameters are instances: a
table always holds instances. Another kind is another instance of Kind, or of a subclass of it.
"""

from __future__ import annotations

from .address import Address, Cidr
from .errors import INVALID_CONFIG, INVALID_ENVIRONMENT, CniError
from .jsontext import member, quoted
from .request import is_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .request import Request

    # Where options are given: its name in messages, what was given, and which attribute of Option is the key.
    Source = tuple[str, dict[str, Any], str]

ENVIRONMENT = "CNI_ARGS "
_HEX = "0123456789abcdefABCDEF"
_TRUTHS = {"1": True, "true": True, "0": False, "false": False}
# What the reference plugins read from CNI_ARGS. Delegates inherit the environment: host-local must not
# stumble over bridge's MAC, nor bridge over host-local's IP, as they do in the reference.
_NEVER_UNKNOWN = ("IP", "GATEWAY", "MAC", "IgnoreUnknown")
_NOTHING = object()  # stands for the value where there is none, not even null
LEAST, MOST = -(1 << 63), (1 << 63) - 1  # what Go's int holds


class Unacceptable(ValueError):
    """`value`, at `path` in what a kind was given ("[0].subnet"), is wrong. The text is "must be ..."."""

    def __init__(self, text: str, path: str, value: object, details: str = "") -> None:
        super().__init__(text)
        self.path = path
        self.value = value
        self.details = details

    @classmethod
    def at(cls, path: str, value: object, error: ValueError) -> Unacceptable:
        """The `error` of a kind that was given `value`, seen from further out, where that is at `path`."""
        if isinstance(error, Unacceptable):
            return cls(str(error), path + error.path, error.value, error.details)
        return cls(str(error), path, value)


class Kind:
    """What values an option takes.

    allowed   what they are, as it reads behind "must be"
    schema    the same as JSON Schema
    convert   JSON value other than null -> the option's value; None: as if unset; ValueError if it is wrong
    convert_text   the same from the text of a CNI_ARGS value; by default `convert` does that, too
    """

    def __init__(
        self,
        allowed: str,
        schema: dict[str, Any],
        convert: Callable[[Any], Any],
        convert_text: Callable[[str], Any] | None = None,
    ) -> None:
        self._allowed = allowed
        self._schema = schema
        self._convert = convert
        self._convert_text = convert_text or convert

    def parse(self, value: Any) -> Any:
        """The option's value. ValueError "must be ..." (Unacceptable, if there is more to say)."""
        return self._checked(self._convert, value)

    def parse_text(self, text: str) -> Any:
        return self._checked(self._convert_text, text)

    def describe(self) -> str:
        return self._allowed

    def schema(self) -> dict[str, Any]:
        return dict(self._schema)

    def inside(self) -> tuple[str, Options | None]:
        """For kinds that hold records: how to write the way to one ("[][]"), and the records' options."""
        return "", None

    def _checked(self, convert: Callable[[Any], Any], value: Any) -> Any:
        try:
            return convert(value)
        except Unacceptable:
            raise
        except ValueError as error:
            raise Unacceptable(f"must be {self._allowed}", "", value, str(error)) from None


# The conversions of simple kinds. The text of their errors, if any, becomes the details of the error told.


def _text(value: Any) -> str:
    if not isinstance(value, str) or "\0" in value:  # no name, path or rule can hold a NUL
        raise ValueError
    return value


def _bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _bool_of_text(text: str) -> bool:
    if text.lower() not in _TRUTHS:
        raise ValueError
    return _TRUTHS[text.lower()]


def _mac(value: Any) -> str | None:
    text = _text(value)
    if not text:
        return None
    if len(text) == 17 and text[2::3] in (":::::", "-----"):
        digits = text.replace(text[2], "").lower()
    else:
        digits = text.replace(".", "").lower() if len(text) == 14 and text[4::5] == ".." else ""
    if len(digits) != 12 or digits.strip(_HEX):
        raise ValueError
    return ":".join(digits[at : at + 2] for at in range(0, 12, 2))


def _ip(value: Any) -> Address | None:
    return Address.parse(value) if _text(value) else None


def _prefix(value: Any) -> Cidr:
    return Cidr.parse(_text(value))


def _ip_or_prefix(value: Any) -> Cidr | None:
    if "/" in _text(value):
        return Cidr.parse(value)
    address = _ip(value)
    return None if address is None else Cidr(address, address.bits)


def _mapping(value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise ValueError
    for key, item in value.items():
        if not isinstance(item, str):
            raise Unacceptable("must be a string", f".{key}", item)
    return value


Text = Kind("a string", {"type": "string"}, _text)

Bool = Kind("true or false", {"type": "boolean"}, _bool, _bool_of_text)

# -> "02:00:00:00:00:01", lower case. As in Go, also 02-00-00-00-00-01 and 0200.0000.0001; "" is unset.
Mac = Kind(
    "a MAC address such as 02:00:00:00:00:01",
    {"type": "string", "pattern": "^([0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}$"},
    _mac,
)

# -> Address; "" is unset
Ip = Kind("an IP address such as 10.1.2.3 or fd00::1", {"type": "string", "pattern": "^[0-9A-Fa-f:.]+$"}, _ip)

# -> Cidr, host bits kept
Prefix = Kind(
    "an address with prefix length such as 10.1.2.0/24 or fd00::/64",
    {"type": "string", "pattern": "^[0-9A-Fa-f:.]+/[0-9]+$"},
    _prefix,
)

# -> Cidr, a bare address as /32 or /128; "" is unset. The shape of the "ips" capability.
IpOrPrefix = Kind(
    "an IP address, with or without prefix length, such as 10.1.2.3 or 10.1.2.3/24",
    {"type": "string", "pattern": "^[0-9A-Fa-f:.]+(/[0-9]+)?$"},
    _ip_or_prefix,
)



def template_of(kind: Kind) -> Kind:
    """The same kind of address for a template: text with a character that no address has, such as "$IP", is unset."""

    def parse(value: Any) -> Any:
        is_placeholder = isinstance(value, str) and value.strip("0123456789abcdefABCDEF:./") != ""
        return None if is_placeholder or value == "" else kind.parse(value)

    return Kind(f"{kind.describe()}, or a placeholder", {"type": "string"}, parse)


# -> dict of str to str
Mapping = Kind(
    "an object whose values are strings",
    {"type": "object", "additionalProperties": {"type": "string"}},
    _mapping,
)


class Int(Kind):
    """Whole numbers from `low` to `high`, both included. As in Go, 1.0 and "1" are none."""

    def __init__(self, low: int = LEAST, high: int = MOST) -> None:
        self.low = low
        self.high = high
        schema = {"type": "integer", "minimum": low, "maximum": high}
        allowed = "a whole number" + f" from {low} to {high}" * ((low, high) != (LEAST, MOST))
        super().__init__(allowed, schema, self._int, self._int_of_text)

    def _int(self, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not self.low <= value <= self.high:
            raise ValueError
        return value

    def _int_of_text(self, text: str) -> int:
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
            raise ValueError
        return self._int(int(text))


class OneOf(Kind):
    """One of some words; "" is unset, as in the reference."""

    def __init__(self, *words: str) -> None:
        self.words = words
        super().__init__(" or ".join(f'"{word}"' for word in words), {"enum": list(words)}, self._word)

    def _word(self, value: Any) -> str | None:
        if value == "":
            return None
        if value not in self.words:
            raise ValueError
        return str(value)


class ListOf(Kind):
    """-> list; in CNI_ARGS separated by commas."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        super().__init__(f"a list, each item {kind.describe()}", {}, self._list, self._list_of_text)

    def _list(self, value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise ValueError
        return self._items(value, self.kind.parse)

    def _list_of_text(self, text: str) -> list[Any]:
        return self._items([item.strip() for item in text.split(",")] if text else [], self.kind.parse_text)

    def _items(self, items: list[Any], parse: Callable[[Any], Any]) -> list[Any]:
        parsed = []
        for index, item in enumerate(items):
            try:
                value = None if item is None else parse(item)
                if value is None:  # "as if unset" makes no sense inside a list
                    raise ValueError(f"must be {self.kind.describe()}")
            except ValueError as error:
                raise Unacceptable.at(f"[{index}]", item, error) from None
            parsed.append(value)
        return parsed

    def schema(self) -> dict[str, Any]:
        return {"type": "array", "items": self.kind.schema()}

    def inside(self) -> tuple[str, Options | None]:
        suffix, options = self.kind.inside()
        return f"[]{suffix}", options


class Record(Kind):
    """-> Values of a nested table. Its options come from the configuration alone."""

    def __init__(self, options: Options) -> None:
        self.options = options
        super().__init__("an object", {}, self._values)

    def _values(self, value: Any) -> Values:
        if not isinstance(value, dict):
            raise ValueError
        return self.options.parse_sources([(".", value, "key")])

    def schema(self) -> dict[str, Any]:
        return self.options.schema()

    def inside(self) -> tuple[str, Options | None]:
        return "", self.options


class Option:
    """One option.

    name        its key in the configuration, and the attribute of the parsed values
    default     what it is when it is not given; not parsed, and shared by all requests: never change it
    config      whether it stands in the configuration itself
    cni_arg, args_cni, capability   its keys in CNI_ARGS, in args.cni and in runtimeConfig
    required    it must be given in one of these places
    gather      it is a list, and what the places give is added up (nothing: []); else the last of them wins
    """

    def __init__(
        self,
        name: str,
        kind: Kind,
        default: Any = None,
        help: str = "",
        *,
        config: bool = True,
        cni_arg: str = "",
        args_cni: str = "",
        capability: str = "",
        required: bool = False,
        gather: bool = False,
    ) -> None:
        self.name = name
        self.kind = kind
        self.default = default
        self.help = help
        self.key = name if config else ""
        self.cni_arg = cni_arg
        self.args_cni = args_cni
        self.capability = capability
        self.required = required
        self.gather = gather

    def choose(self, given: list[Any]) -> Any:
        """The option's value, from those that the sources gave."""
        if self.gather:
            return [item for items in given for item in items]
        # A runtime's empty list says nothing, as in the reference.
        said = [value for value in given if value != []] or given
        return said[-1] if said else self.default


class Values:
    """Parsed options: each is an attribute by its JSON name."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.__dict__.update(values)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Values) and self.__dict__ == other.__dict__

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Values({self.__dict__!r})"


class Options:
    """A table of options; with section="ipam" it describes that object of the configuration."""

    def __init__(self, *options: Option, section: str = "") -> None:
        self.options = options
        self.section = section

    def parse(self, request: Request) -> Values:
        """The values of a request. Keys match whatever their case, as in Go; unknown keys are ignored.

        CniError 7 for a wrong type or value, with the key, what was given and what is allowed; 4 if it is in
        CNI_ARGS; 2 for what is not supported.
        """
        described = self._described(request.config)
        sources: list[Source] = [(f"{self.section}." if self.section else "", described, "key")]
        if any(option.cni_arg for option in self.options):
            sources.append((ENVIRONMENT, self._cni_args(request), "cni_arg"))
        if any(option.args_cni for option in self.options):
            sources.append(("args.cni.", request.args_cni, "args_cni"))
        if any(option.capability for option in self.options):
            sources.append(("runtimeConfig.", request.runtime, "capability"))
        try:
            return self.parse_sources(sources)
        except Unacceptable as error:
            raise _told(error, member(described, "type")) from None

    def parse_sources(self, sources: list[Source]) -> Values:
        """The values from these sources, of which later ones win. Unacceptable if one of them is wrong."""
        values = {}
        for option in self.options:
            given = []
            for place, members, attribute in sources:
                key = getattr(option, attribute)
                value = _parse(option.kind, place, key, members) if key else None
                if value is not None:
                    given.append(value)
            if option.required and not given:
                raise Unacceptable("is required", sources[0][0] + option.name, _NOTHING)
            values[option.name] = option.choose(given)
        return Values(values)

    def _described(self, config: dict[str, object]) -> dict[str, Any]:
        if not self.section:
            return config
        section = member(config, self.section)
        if section is None:
            return {}
        if not isinstance(section, dict):
            text = f'option "{self.section}": must be an object, not {quoted(section)}'
            raise CniError(INVALID_CONFIG, text)
        return section

    def _cni_args(self, request: Request) -> dict[str, str]:
        pairs = request.cni_args
        ignores = pairs.get("IgnoreUnknown", "false")
        if ignores.lower() not in _TRUTHS:
            text = f'ARGS: error parsing value of pair "IgnoreUnknown={ignores}"'
            raise CniError(INVALID_ENVIRONMENT, f"{text}: boolean unmarshal error: invalid input {ignores}")
        known = {*_NEVER_UNKNOWN, *(option.cni_arg for option in self.options)}
        unknown = [quoted(f"{key}={value}") for key, value in pairs.items() if key not in known]
        if unknown and not _TRUTHS[ignores.lower()]:
            raise CniError(
                INVALID_ENVIRONMENT,
                f"ARGS: unknown args [{' '.join(unknown)}]",
                "add IgnoreUnknown=1 to CNI_ARGS if they are meant for another plugin",
            )
        return pairs

    def schema(self) -> dict[str, Any]:
        """A JSON Schema of the configurations that these options take."""
        from .described import schema  # off the exec path

        return schema(self)

    def rows(self) -> list[tuple[str, str, str, str]]:
        """(name, type, default, help) of each option, followed by those nested in it: "ranges[][].subnet"."""
        from .described import rows  # off the exec path

        return rows(self, self.section)


def _parse(kind: Kind, place: str, key: str, members: dict[str, Any]) -> Any:
    from_environment = place == ENVIRONMENT
    value: Any = members.get(key) if from_environment else member(members, key)
    if value is None:
        return None
    try:
        return kind.parse_text(value) if from_environment else kind.parse(value)
    except ValueError as error:
        if from_environment:
            text = f"ARGS: error parsing value of pair {quoted(f'{key}={value}')}"
            raise CniError(INVALID_ENVIRONMENT, f"{text}: {error}") from None
        raise Unacceptable.at(place + key, value, error) from None


def _told(error: Unacceptable, plugin: object) -> CniError:
    of = f" of {plugin}" if isinstance(plugin, str) and is_name(plugin) and len(plugin) < 60 else ""
    text = f'option "{error.path}"{of}: {error}'
    if error.value is not _NOTHING:
        text += f", not {quoted(error.value)}"
    return CniError(INVALID_CONFIG, text, error.details)
