"""IP addresses and prefixes, as CNI configurations and results write them."""

from __future__ import annotations

from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton

_MAPPED = b"\0" * 10 + b"\xff\xff"


class Address:
    """An IPv4 or IPv6 address. `packed` is 4 or 16 bytes in network order, `version` 4 or 6."""

    __slots__ = ("packed",)

    def __init__(self, packed: bytes) -> None:
        if len(packed) not in (4, 16):
            raise ValueError(f"an IP address has 4 or 16 bytes, not {len(packed)}")
        self.packed = packed

    @classmethod
    def of(cls, packed: bytes) -> Address:
        return cls(packed)

    @classmethod
    def parse(cls, text: str) -> Address:
        """ValueError says what is wrong. An IPv4-mapped IPv6 address is that IPv4 address, as in Go."""
        packed = _pack(text)
        return cls(packed[12:] if packed.startswith(_MAPPED) else packed)

    @property
    def version(self) -> int:
        return 4 if len(self.packed) == 4 else 6

    @property
    def bits(self) -> int:
        """Length of the address: 32 or 128."""
        return 8 * len(self.packed)

    def plus(self, count: int) -> Address:
        """The address `count` places further, back if negative. ValueError beyond the last or first one."""
        number = int(self) + count
        if not 0 <= number < 1 << self.bits:
            raise ValueError(f"there is no IPv{self.version} address {count} after {self}")
        return Address(number.to_bytes(len(self.packed), "big"))

    def __int__(self) -> int:
        return int.from_bytes(self.packed, "big")

    def __str__(self) -> str:
        """RFC 5952."""
        if len(self.packed) == 4:
            return inet_ntop(AF_INET, self.packed)
        text = inet_ntop(AF_INET6, self.packed)
        if "." in text and not self.packed.startswith(_MAPPED):
            # libc writes the long deprecated IPv4-compatible addresses as ::1.2.3.4; Go and RFC 5952 do not.
            text = f"::{self.packed[12:14].hex().lstrip('0')}:{self.packed[14:].hex().lstrip('0') or '0'}"
        return text

    def __repr__(self) -> str:
        return f"Address({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Address) and self.packed == other.packed

    def __hash__(self) -> int:
        return hash(self.packed)


class Cidr:
    """An address with the length of its prefix, "10.1.2.3/24". The host bits are kept."""

    __slots__ = ("address", "prefix")

    def __init__(self, address: Address, prefix: int) -> None:
        if not 0 <= prefix <= address.bits:
            raise ValueError(f"an IPv{address.version} prefix length is 0 to {address.bits}, not {prefix}")
        self.address = address
        self.prefix = prefix

    @classmethod
    def parse(cls, text: str) -> Cidr:
        """ValueError says what is wrong."""
        before, slash, length = text.partition("/")
        if not slash:
            raise ValueError(f'"{_short(text)}" lacks the prefix length behind a slash, such as /24')
        packed = _pack(before)
        bits = 8 * len(packed)
        if not (length.isascii() and length.isdigit() and len(length) <= 3 and int(length) <= bits):
            raise ValueError(f'the prefix length of "{_short(text)}" must be 0 to {bits}')
        if not packed.startswith(_MAPPED):
            return cls(Address(packed), int(length))
        if int(length) < 96:
            raise ValueError(f'"{_short(text)}" is an IPv4-mapped prefix, whose length must be 96 to 128')
        return cls(Address(packed[12:]), int(length) - 96)

    @property
    def version(self) -> int:
        return self.address.version

    @property
    def network(self) -> Cidr:
        """The same prefix with the host bits cleared."""
        return Cidr(self.first, self.prefix)

    @property
    def host(self) -> Cidr:
        """The address alone: /32 or /128."""
        return Cidr(self.address, self.address.bits)

    @property
    def is_network(self) -> bool:
        """Whether no host bit is set."""
        return self.first == self.address

    @property
    def first(self) -> Address:
        """The lowest address of the prefix: the network's own."""
        return self._with_host_bits(0)

    @property
    def last(self) -> Address:
        """The highest address of the prefix: in IPv4 the broadcast address."""
        return self._with_host_bits(-1)

    def contains(self, address: Address) -> bool:
        same = address.version == self.version
        return same and (int(address) ^ int(self.address)) >> (address.bits - self.prefix) == 0

    def _with_host_bits(self, value: int) -> Address:
        hosts = (1 << (self.address.bits - self.prefix)) - 1
        number = int(self.address) & ~hosts | value & hosts
        return Address(number.to_bytes(len(self.address.packed), "big"))

    def __str__(self) -> str:
        return f"{self.address}/{self.prefix}"

    def __repr__(self) -> str:
        return f"Cidr({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cidr) and self.address == other.address and self.prefix == other.prefix

    def __hash__(self) -> int:
        return hash((self.address, self.prefix))


def _pack(text: str) -> bytes:
    """4 bytes if `text` is written as IPv4, 16 if as IPv6."""
    try:
        return inet_pton(AF_INET6 if ":" in text else AF_INET, text)
    except (OSError, ValueError):  # ValueError: a NUL or a character that UTF-8 lacks
        raise ValueError(f'"{_short(text)}" is not an IP address{_why_not(text)}') from None


def _why_not(text: str) -> str:
    """The mistakes that are easily overlooked."""
    if "/" in text:
        return " (it must not have a prefix length)"
    if "%" in text:
        return " (it must not have a zone)"
    if any(len(part) > 1 and part[0] == "0" for part in text.rpartition(":")[2].split(".")) and "." in text:
        return " (its parts must not have leading zeros)"
    return ""


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
