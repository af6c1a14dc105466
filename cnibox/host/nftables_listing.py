"""nftables' rules as they are listed, to be compared with what they shall do; new ones at their place among them."""

from __future__ import annotations

from .netlink import nft
from .netlink.codec import attribute
from .netlink.socket import NLM_F_APPEND, NLM_F_CREATE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import Any

    from .nftables import Expression, Request, Table

    Outline = list[dict[str, Any]]

EVERYTHING = frozenset(name for table in nft.TABLES.values() for name in table[1])


class ListedRule:
    """A rule as `nft -a list` shows it: where it is, its handle, its comment, and the outline of what it does."""

    def __init__(self, message: dict[str, Any]) -> None:
        self.chain: str = attribute(message, "NFTA_RULE_CHAIN")
        self.handle: int = attribute(message, "NFTA_RULE_HANDLE")
        self.comment = nft.unpack_comment(attribute(message, "NFTA_RULE_USERDATA") or b"")
        self._expressions: list[Expression] = attribute(message, "NFTA_RULE_EXPRESSIONS") or []
        self._outline: Outline | None = None

    @property
    def outline(self) -> Outline:
        """Made when it is first asked for: of most rules chain and comment tell enough."""
        if self._outline is None:
            self._outline = outline(self._expressions)
        return self._outline


def listed(table: Table, chain: str = "", holding: Collection[bytes] = (b"",)) -> list[ListedRule]:
    """The rules of a table, or of one of its chains, in order; none without it.

    holding: only those in whose message one of these is; of thousands the others need not be decoded
    """

    def is_of_use(data: bytes, start: int, stop: int) -> bool:
        return any(data.find(each, start, stop) >= 0 for each in holding)

    place = table._place(chain) if chain else [("NFTA_RULE_TABLE", table.name)]
    found = table._dump(nft.NFT_MSG_GETRULE, place, EVERYTHING, f"rules {chain}", is_of_use)
    return [ListedRule(each) for each in found if attribute(each, "NFTA_RULE_TABLE") == table.name]


def outline(expressions: list[Expression]) -> Outline:
    """What a rule does: two that do the same have equal outlines, whoever made them.

    Kernels also tell attributes that nobody has set, with the value 0.
    """
    kept = (each for each in expressions if attribute(each, "NFTA_EXPR_NAME") != "counter")
    return [dict(_leaves(each, "")) for each in kept]


def _leaves(message: dict[str, Any], path: str) -> Iterator[tuple[str, Any]]:
    for name, value in message["attrs"]:
        if value.__class__ is dict:
            yield from _leaves(value, f"{path}{name} ")
        elif value:
            yield path + name, value


def insert_rule(table: Table, chain: str, expressions: list[Expression], comment: str, after: int) -> Request:
    """A rule behind that with the handle `after`, or (0) in front of the chain's others."""
    behind = [("NFTA_RULE_POSITION", after)] if after else []
    return table._request(
        nft.NFT_MSG_NEWRULE,
        NLM_F_CREATE | (NLM_F_APPEND if after else 0),
        *table._place(chain),
        *behind,
        ("NFTA_RULE_EXPRESSIONS", expressions),
        *([("NFTA_RULE_USERDATA", nft.pack_comment(comment))] if comment else []),
    )
