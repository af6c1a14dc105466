"""The chains of iptables' table filter, as they were read and as they are to be."""

from __future__ import annotations

from ...host import iptables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


VERDICTS = ("ACCEPT", "DROP", "RETURN")


class Ruleset:
    """Chains and their rules, as `iptables-save` prints them behind the chain's name; and the lines that change them.

    The comments of releases before 1.7.0 count as those of today: after an upgrade nothing is there twice.
    """

    def __init__(self, version: int, chains: dict[str, list[str]]) -> None:
        self.version = version
        self.lines: list[str] = []
        self._chains = chains

    @classmethod
    def read(cls, version: int) -> Ruleset:
        """HostError when iptables-save fails; empty where there is no such program."""
        chains: dict[str, list[str]] = {}
        for line in iptables.rules(version, "filter"):
            if line.startswith(":"):
                chains.setdefault(line[1:].split()[0], [])
            elif line.startswith("-A "):
                _, chain, rule = line.split(" ", 2)
                chains.setdefault(chain, []).append(rule)
        chains.setdefault("FORWARD", [])
        return cls(version, chains)

    def of(self, chain: str) -> list[str]:
        """The chain's rules, none of one that is not there."""
        return self._chains.get(chain, [])

    def index(self, chain: str, rule: str) -> int:
        """The place of a rule in its chain, -1 without it."""
        wanted = _alike(rule)
        return next((at for at, other in enumerate(self.of(chain)) if _alike(other) == wanted), -1)

    def need(self, chain: str) -> None:
        """The chain, made if it is missing."""
        if chain not in self._chains:
            self._chains[chain] = []
            self.lines.append(f"-N {chain}")

    def insert(self, chain: str, at: int, rule: str) -> None:
        """A rule at a place counted from 0."""
        self.need(chain)
        rules = self._chains[chain]
        self.lines.append(f"-A {chain} {rule}" if at >= len(rules) else f"-I {chain} {at + 1} {rule}")
        rules.insert(at, rule)

    def ensure(self, chain: str, rule: str, at: int) -> None:
        """The rule, and the chain that it leads to; put at that place if it is missing."""
        target = rule.split()[-1]
        if target not in VERDICTS:
            self.need(target)
        if self.index(chain, rule) < 0:
            self.insert(chain, at, rule)

    def too_early(self, wanted: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
        """Those of the rules that are in front of one that comes before them in `wanted`; all of them are there."""
        last: dict[str, int] = {}
        for chain, rule in wanted:
            at = self.index(chain, rule)
            if at < last.get(chain, -1):
                yield chain, rule
            last[chain] = max(at, last.get(chain, -1))

    def deletions(self, rules: list[tuple[str, str]], held: Iterable[tuple[str, str]] = ()) -> list[str]:
        """The lines that delete each of the rules once, unless there are no more of it than others hold."""
        left = [(chain, rule) for chain, others in self._chains.items() for rule in others]
        for chain, rule in held:
            self._take(left, chain, rule)
        taken = [self._take(left, chain, rule) for chain, rule in rules]
        return [f"-D {chain} {rule}" for chain, rule in taken if rule]

    @staticmethod
    def _take(left: list[tuple[str, str]], chain: str, rule: str) -> tuple[str, str]:
        wanted = _alike(rule)
        for place in left:
            if place[0] == chain and _alike(place[1]) == wanted:
                left.remove(place)
                return place
        return chain, ""


def _alike(rule: str) -> str:
    return rule.replace("(ingressPolicy: same-bridge|isolated)", "(ingressPolicy: same-bridge)")
