"""Netlink messages to and from bytes, by tables.

A message has pyroute2's form: the fields of its fixed header and a list of attributes, which may be messages:

    {"index": 3, "attrs": [("IFLA_MTU", 1500), ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "dummy")]})]}

A family's tables say how it is laid out. A table is one of

    ((format, fields), {name: (number, kind[, NLA_F_NESTED])})   a header (format of `struct`), attributes
    (scalar, {number: word})                                     a number with names; others stay numbers

and a kind is one of

    "uint32", "be16", ...             a number (SCALARS)
    "asciiz", "ipaddr", ...           a converter (CONVERTERS, and those of the family)
    "ifinfmsg", ...                   a table
    "*expression"                     a list of attributes numbered 1, each in that table
    "+nexthop"                        a list of records in that table, each after its own 16-bit length
    ("IFLA_INFO_KIND", {"veth": ...}) chosen by an attribute beside and before it, or (".family") by a field

Encoding: header fields left out are 0; bytes are taken as the finished payload, whatever the kind; an
attribute may be named by its number. Decoding: an attribute that the table does not know is named by its
number and has its payload as value, as has one that does not fit its kind. What was decoded can be encoded.
"""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from _struct import Struct, calcsize, pack, unpack_from
from _struct import error as StructError  # type: ignore[attr-defined]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any

    Message = dict[str, Any]
    Converter = tuple[Callable[[Any], bytes], Callable[[bytes], Any]]

NLA_F_NESTED = 0x8000
_NUMBER = 0x3FFF  # of an attribute, without NLA_F_NESTED and NLA_F_NET_BYTEORDER
_LIST_ELEMENT = 1  # NFTA_LIST_ELEM
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")

_attribute_header = Struct("HH").pack

SCALARS = {
    "uint8": Struct("B"),
    "uint16": Struct("H"),
    "uint32": Struct("I"),
    "uint64": Struct("Q"),
    "int32": Struct("i"),
    "be16": Struct(">H"),
    "be32": Struct(">I"),
    "be64": Struct(">Q"),
    "sbe32": Struct(">i"),
}


class EncodeError(ValueError):
    """A message that the tables do not allow: a mistake of the program, not of its input."""


class DecodeError(ValueError):
    """A message too short for its fixed header."""


def _pack_ip(text: str) -> bytes:
    return inet_pton(AF_INET6 if ":" in text else AF_INET, text)


def _unpack_ip(data: bytes) -> str:
    return inet_ntop(AF_INET if len(data) == 4 else AF_INET6, data)


def _pack_binary(value: object) -> bytes:
    raise TypeError(f"must be bytes, not {value!r}")


CONVERTERS: dict[str, Converter] = {
    "asciiz": (lambda text: text.encode() + b"\0", lambda data: data.rstrip(b"\0").decode()),
    "ipaddr": (_pack_ip, _unpack_ip),
    "l2addr": (lambda text: bytes.fromhex(text.replace(":", "")), lambda data: data.hex(":")),
    "binary": (_pack_binary, bytes),
}


class Family:
    """The messages of one netlink family.

    protocol: number for socket(2); messages: {message type: name of its table}; converters: kinds of its own.
    """

    __slots__ = ("_by_number", "converters", "messages", "protocol", "tables")

    def __init__(
        self,
        protocol: int,
        messages: dict[int, str],
        tables: dict[str, Any],
        converters: dict[str, Converter],
    ) -> None:
        self.protocol = protocol
        self.messages = messages
        self.tables = tables
        self.converters = {**CONVERTERS, **converters}
        self._by_number: dict[object, dict[int, tuple[str, Any]]] = {}

    def encode(self, table: str, message: Message) -> bytes:
        """The bytes of a message (or nested attribute) without its netlink header. Raises EncodeError."""
        header, attributes = self.tables[table]
        fields = header[1] if header else ()
        for name in message:
            if name not in fields and name != "attrs":
                raise EncodeError(f"{table} has no field {name!r}")
        try:
            parts = [pack(header[0], *[message.get(name, 0) for name in fields])] if header else []
        except StructError as error:
            raise EncodeError(f"{table} header: {error}") from None
        for name, value in message.get("attrs", ()):
            if name.__class__ is int:
                number, kind = name, "binary"
            else:
                try:
                    number, kind = attributes[name][:2]
                except KeyError:
                    raise EncodeError(f"{table} has no attribute {name!r}") from None
                if len(attributes[name]) == 3:
                    number |= attributes[name][2]
            if value.__class__ is not bytes:
                try:
                    value = self._pack(kind, value, message)
                except EncodeError:
                    raise
                except (StructError, ValueError, TypeError, AttributeError, OSError) as error:
                    raise EncodeError(f"{name}: {value!r} is no {kind}: {error}") from None
            length = len(value) + 4
            parts.append(_attribute_header(length, number))
            parts.append(value)
            if length & 3:
                parts.append(_PADDING[length & 3])
        return b"".join(parts)

    def decode(
        self,
        table: str,
        data: bytes,
        start: int = 0,
        stop: int | None = None,
        wanted: Collection[str] | None = None,
    ) -> Message:
        """The message (or nested attribute) in data[start:stop]. Raises DecodeError.

        `wanted`: names of attributes at any depth; all others are skipped. An attribute inside another needs
        the names of both; one that selects the kind of another comes along.
        """
        if stop is None:
            stop = len(data)
        header, attributes = self.tables[table]
        message: Message = {}
        if header:
            if stop - start < calcsize(header[0]):
                raise DecodeError(f"{table}: {stop - start} bytes are less than its header")
            message = dict(zip(header[1], unpack_from(header[0], data, start), strict=True))
            start += calcsize(header[0])
        if not attributes:
            return message
        found = message["attrs"] = []
        by_number = self._numbers(table, wanted)
        # As the kernel's own nla_for_each_attr, end at what does not fit.
        while start + 4 <= stop:
            length, number = unpack_from("HH", data, start)
            end = start + length
            if length < 4 or end > stop:
                break
            entry = by_number.get(number & _NUMBER)
            if entry is not None:
                found.append((entry[0], self._unpack(entry[1], data, start + 4, end, message, wanted)))
            elif wanted is None:
                found.append((number & _NUMBER, data[start + 4 : end]))
            start = (end + 3) & ~3
        return message

    def name_at(self, table: str, data: bytes, offset: int, start: int = 0, stop: int | None = None) -> str:
        """Name of the attribute at an offset of an encoded message, or else of the one around it; or ""."""
        if stop is None:
            stop = len(data)
        header = self.tables[table][0]
        start += calcsize(header[0]) if header else 0
        while start + 4 <= stop:
            length, number = unpack_from("HH", data, start)
            end = start + max(length, 4)
            if start <= offset < end:
                name, kind = self._numbers(table, None).get(number & _NUMBER, ("", ""))
                if start == offset or kind.__class__ is not str or not self.tables.get(kind, ("", 0))[1]:
                    return name
                return self.name_at(kind, data, offset, start + 4, end) or name
            start = (end + 3) & ~3
        return ""

    def _numbers(self, table: str, wanted: Collection[str] | None) -> dict[int, tuple[str, Any]]:
        """{number: (name, kind)} of a table's attributes, built when first needed."""
        key: object = table if wanted is None else (table, frozenset(wanted))
        by_number = self._by_number.get(key)
        if by_number is None:
            attributes = self.tables[table][1]
            names = [name for name in wanted if name in attributes] if wanted is not None else attributes
            by_number = {}
            for name in names:
                number, kind = attributes[name][:2]
                by_number[number] = name, kind
                if wanted is not None and kind.__class__ is tuple and kind[0] in attributes:
                    number, selector = attributes[kind[0]][:2]
                    by_number[number] = kind[0], selector
            self._by_number[key] = by_number
        return by_number

    def _select(self, kind: tuple[str, dict[Any, str]], message: Message) -> str:
        selector, choices = kind
        if selector[0] == ".":
            return choices.get(message.get(selector[1:], 0), "binary")
        for name, value in message["attrs"]:
            if name == selector:
                return choices.get(value, "binary")
        return "binary"

    def _pack(self, kind: Any, value: Any, message: Message) -> bytes:
        if kind.__class__ is tuple:
            kind = self._select(kind, message)
        if kind in SCALARS:
            return SCALARS[kind].pack(value)
        if kind in self.converters:
            return self.converters[kind][0](value)
        if kind[0] == "*":
            elements = [self.encode(kind[1:], element) for element in value]
            return b"".join([_attribute_header(len(element) + 4, _LIST_ELEMENT) + element for element in elements])
        if kind[0] == "+":
            records = [self.encode(kind[1:], record) for record in value]
            return b"".join([pack("H", len(record) + 2) + record for record in records])
        scalar, words = self.tables[kind]
        if scalar.__class__ is not str:
            return self.encode(kind, value)
        for number, word in words.items():
            if word == value:
                return SCALARS[scalar].pack(number)
        return SCALARS[scalar].pack(value)

    def _unpack(
        self, kind: Any, data: bytes, start: int, stop: int, message: Message, wanted: Collection[str] | None
    ) -> Any:
        if kind.__class__ is tuple:
            kind = self._select(kind, message)
        scalar = SCALARS.get(kind)
        if scalar is not None:
            return scalar.unpack_from(data, start)[0] if stop - start >= scalar.size else data[start:stop]
        try:
            if kind in self.converters:
                return self.converters[kind][1](data[start:stop])
            if kind[0] in "*+":
                return self._unpack_list(kind[1:], 4 if kind[0] == "*" else 2, data, start, stop, wanted)
            base, words = self.tables[kind]
            if base.__class__ is str:
                value = SCALARS[base].unpack(data[start:stop])[0]
                return words.get(value, value)
            return self.decode(kind, data, start, stop, wanted)
        except (StructError, ValueError, OSError):
            return data[start:stop]

    def _unpack_list(
        self, table: str, head: int, data: bytes, start: int, stop: int, wanted: Collection[str] | None
    ) -> list[Message]:
        """Elements that begin with their length; their first `head` bytes are not the table's."""
        messages = []
        while start < stop:
            length = unpack_from("H", data, start)[0]
            if length < 4 or start + length > stop:
                raise DecodeError(f"list of {table}: wrong length {length}")
            messages.append(self.decode(table, data, start + head, start + length, wanted))
            start += (length + 3) & ~3
        return messages


def attribute(message: Message, *path: str) -> Any:
    """The value at a path of attribute names, as "IFLA_LINKINFO", "IFLA_INFO_KIND"; None if absent."""
    found: Any = message
    for step in path:
        if found.__class__ is not dict:
            return None
        for name, value in found.get("attrs", ()):
            if name == step:
                found = value
                break
        else:
            return None
    return found
