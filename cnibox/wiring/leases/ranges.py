"""Ranges of addresses, and sets of them, from each of which an attachment gets one address."""

from __future__ import annotations

from ...spec.address import Address, Cidr
from ...spec.errors import INVALID_CONFIG, CniError
from ...spec.options import Ip, ListOf, Option, Options, Prefix, Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...spec.options import Values

RANGE = Options(
    Option("subnet", Prefix, help="the network, without host bits"),
    Option("rangeStart", Ip, help="first address; by default the one after the network's own"),
    Option("rangeEnd", Ip, help="last address; by default the last but, in IPv4, the broadcast address"),
    Option("gateway", Ip, help="never given away; by default the address after the network's own"),
)
RANGE_SETS = ListOf(ListOf(Record(RANGE)))


class Range:
    """`first` and `last` are numbers, both included. `gateway` lies in the range or elsewhere."""

    __slots__ = ("first", "gateway", "last", "subnet")

    def __init__(self, given: Values) -> None:
        """`given`: the options of RANGE. ValueError says what is wrong."""
        self.subnet = _subnet(given.subnet)
        network, highest = self.subnet.address, self.subnet.last
        self.gateway = given.gateway or network.plus(1)
        if self.gateway.version != self.subnet.version:
            raise ValueError(f"gateway {self.gateway} is of another family than network {self.subnet}")
        for address in (given.rangeStart, given.rangeEnd):
            if address is not None and not self.subnet.contains(address):
                raise ValueError(f"{address} not in network {self.subnet}")
        self.first = int(given.rangeStart or network.plus(1))
        self.last = int(given.rangeEnd or (highest.plus(-1) if highest.version == 4 else highest))
        if self.last < self.first:
            last, first = self._address(self.last), self._address(self.first)
            raise ValueError(f"{last} is in network {self.subnet} but before start {first}")

    @property
    def size(self) -> int:
        """How many addresses it has to give."""
        return self.last - self.first + (0 if self.contains(self.gateway) else 1)

    def contains(self, address: Address) -> bool:
        return address.version == self.subnet.version and self.first <= int(address) <= self.last

    def overlaps(self, other: Range) -> bool:
        same = self.subnet.version == other.subnet.version
        return same and self.first <= other.last and other.first <= self.last

    def addresses(self, first: int, last: int) -> Iterator[tuple[str, Range]]:
        """From number `first` to `last`, without the gateway."""
        width, gateway = len(self.subnet.address.packed), int(self.gateway)
        for number in range(first, last + 1):
            if number != gateway:
                yield str(Address(number.to_bytes(width, "big"))), self

    def _address(self, number: int) -> Address:
        return Address(number.to_bytes(len(self.subnet.address.packed), "big"))

    def __str__(self) -> str:
        return f"{self._address(self.first)}-{self._address(self.last)}"


class RangeSet:
    """Ranges of one family. `number` is its place among the network's sets, as the lease files know it."""

    def __init__(self, given: list[Values], number: int) -> None:
        """ValueError says what is wrong."""
        self.number = number
        self.ranges = [Range(each) for each in given]
        if not self.ranges:
            raise ValueError("empty range set")
        if len({each.subnet.version for each in self.ranges}) > 1:
            raise ValueError(f"mixed address families: {self}")
        for index, one in enumerate(self.ranges):
            for other in self.ranges[index + 1 :]:
                if one.overlaps(other):
                    raise ValueError(f"subnets {one} and {other} overlap")

    @property
    def version(self) -> int:
        return self.ranges[0].subnet.version

    @property
    def size(self) -> int:
        return sum(each.size for each in self.ranges)

    def find(self, address: Address) -> Range | None:
        """The range that the address is in."""
        return next((each for each in self.ranges if each.contains(address)), None)

    def has(self, text: str) -> bool:
        """Whether it can give the address: gateways are never given."""
        try:
            address = Address.parse(text)
        except ValueError:  # half a line, of an index that is changed while it is read without the lock
            return False
        found = self.find(address)
        return found is not None and found.gateway != address

    def after(self, text: str) -> Iterator[tuple[str, Range]]:
        """Every address that it can give, with its range: once round, from behind `text`, if in it."""
        at, number = self._position(text)
        here, others = self.ranges[at], self.ranges[at + 1 :] + self.ranges[:at]
        yield from here.addresses(number, here.last)
        for each in others:
            yield from each.addresses(each.first, each.last)
        yield from here.addresses(here.first, number - 1)

    def _position(self, text: str) -> tuple[int, int]:
        """Index of the range and number of the address with which the round begins."""
        try:
            last = Address.parse(text)
        except ValueError:  # none yet, or the file is garbled
            return 0, self.ranges[0].first
        for index, each in enumerate(self.ranges):
            if each.contains(last):
                return index, int(last) + 1
        return 0, self.ranges[0].first

    def __str__(self) -> str:
        return ",".join(str(each) for each in self.ranges)


def range_sets(given: list[list[Values]]) -> list[RangeSet]:
    """The sets of a network. CniError 7 says what is wrong."""
    sets = []
    for number, each in enumerate(given):
        try:
            sets.append(RangeSet(each, number))
        except ValueError as error:
            raise CniError(INVALID_CONFIG, f"invalid range set {number}: {error}") from None
    for one in sets:
        for other in sets[one.number + 1 :]:
            if any(each.overlaps(another) for each in one.ranges for another in other.ranges):
                text = f"range set {one.number} overlaps with {other.number}"
                raise CniError(INVALID_CONFIG, text, f"{one} and {other}")
    return sets


def _subnet(subnet: Cidr | None) -> Cidr:
    if subnet is None:
        raise ValueError("a range needs a subnet")
    if subnet.prefix > subnet.address.bits - 2:
        raise ValueError(f"Network {subnet} too small to allocate from")
    if not subnet.is_network:
        raise ValueError(f"Network {subnet} has host bits set: it must be {subnet.network}")
    return subnet
