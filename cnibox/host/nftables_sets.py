"""nftables' sets: the addresses that a rule matches are looked up at once, however many there are."""

from __future__ import annotations

import errno

from .journal import HostError
from .netlink import nft
from .netlink.codec import attribute
from .netlink.socket import NLM_F_CREATE, NetlinkError
from .nftables import ABSENT, FAMILIES, open_socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .nftables import Request, Table

ADDRESS_TYPES = {4: (7, 4), 6: (8, 16)}
"""IP version -> nft(8)'s number of the type (ipv4_addr, ipv6_addr), and its length in bytes."""


class AddressSet:
    """A table's set of IPv4 or IPv6 addresses, each of them with a comment. Keys are packed addresses."""

    def __init__(self, table: Table, version: int) -> None:
        self.table = table
        self.version = version
        self.name = f"ipv{version}"

    def add(self) -> Request:
        """The set itself; no error if it is there."""
        kind, length = ADDRESS_TYPES[self.version]
        names = [("NFTA_SET_TABLE", self.table.name), ("NFTA_SET_NAME", self.name), ("NFTA_SET_FLAGS", 0)]
        described = [("NFTA_SET_KEY_TYPE", kind), ("NFTA_SET_KEY_LEN", length), ("NFTA_SET_ID", self.version)]
        return nft.NFT_MSG_NEWSET, NLM_F_CREATE, self._body([*names, *described])

    def put(self, key: bytes, comment: str) -> Request:
        """An element; the comment of one that is there stays as it is."""
        element = {"attrs": [*_key(key), ("NFTA_SET_ELEM_USERDATA", nft.pack_comment(comment))]}
        return nft.NFT_MSG_NEWSETELEM, NLM_F_CREATE, self._elements(element)

    def drop(self, key: bytes) -> Request:
        """An element goes; ENOENT if there is none."""
        return nft.NFT_MSG_DELSETELEM, 0, self._elements({"attrs": _key(key)})

    def comment_of(self, key: bytes) -> str | None:
        """The comment of an element, None without element, set or table."""
        try:
            with open_socket(self.table.namespace) as socket:
                answer = socket.ask((nft.NFT_MSG_GETSETELEM, 0, self._elements({"attrs": _key(key)})))
        except (NetlinkError, HostError) as error:
            if error.errno in ABSENT:
                return None
            raise HostError(error.errno or errno.EIO, f"nft get element {self._place()}") from None
        return dict(_elements_of([answer])).get(key)

    def elements(self) -> list[tuple[bytes, str]]:
        """(key, comment) of each element; none without set or table."""
        try:
            with open_socket(self.table.namespace) as socket:
                return _elements_of(socket.dump(nft.NFT_MSG_GETSETELEM, self._elements()))
        except (NetlinkError, HostError) as error:
            if error.errno in ABSENT:
                return []
            raise HostError(error.errno or errno.EIO, f"nft list set {self._place()}") from None

    def _place(self) -> str:
        return f"{FAMILIES[self.table.family]} {self.table.name} {self.name}"

    def _elements(self, *elements: dict[str, Any]) -> dict[str, Any]:
        names = [("NFTA_SET_ELEM_LIST_TABLE", self.table.name), ("NFTA_SET_ELEM_LIST_SET", self.name)]
        return self._body([*names, *([("NFTA_SET_ELEM_LIST_ELEMENTS", list(elements))] if elements else [])])

    def _body(self, attributes: list[tuple[str, Any]]) -> dict[str, Any]:
        return {"nfgen_family": self.table.family, "attrs": attributes}


def _key(key: bytes) -> list[tuple[str, Any]]:
    return [("NFTA_SET_ELEM_KEY", {"attrs": [("NFTA_DATA_VALUE", key)]})]


def _elements_of(answers: list[dict[str, Any]]) -> list[tuple[bytes, str]]:
    found = []
    for answer in answers:
        for element in attribute(answer, "NFTA_SET_ELEM_LIST_ELEMENTS") or ():
            comment = nft.unpack_comment(attribute(element, "NFTA_SET_ELEM_USERDATA") or b"")
            found.append((attribute(element, "NFTA_SET_ELEM_KEY", "NFTA_DATA_VALUE"), comment))
    return found
