"""firewall by iptables: the reference's chains in table filter, in front of what else is in FORWARD.

    -A FORWARD -m comment --comment "CNI firewall plugin rules (...)" -j CNI-ISOLATION-STAGE-1
    -A FORWARD -m comment --comment "CNI firewall plugin rules" -j CNI-FORWARD
    -A CNI-FORWARD -m comment --comment "CNI firewall plugin admin overrides" -j CNI-ADMIN
    -A CNI-FORWARD -d 10.1.2.3/32 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
    -A CNI-FORWARD -s 10.1.2.3/32 -j ACCEPT
    -A CNI-ISOLATION-STAGE-1 -i cni0 -o cni0 -m comment ... -j DROP                        (isolated)
    -A CNI-ISOLATION-STAGE-1 -i cni0 ! -o cni0 -m comment ... -j CNI-ISOLATION-STAGE-2
    -A CNI-ISOLATION-STAGE-1 -m comment ... -j RETURN
    -A CNI-ISOLATION-STAGE-2 -o cni0 -m comment ... -j DROP
    -A CNI-ISOLATION-STAGE-2 -m comment ... -j RETURN

iptables-restore does all of its lines or none. So one process asserts (-C) that what is shared is there, and appends
what is the attachment's own; only when it refuses are the rules read, and what is missing is added.

Two attachments with one address, of which one has not been deleted yet, have its rules twice: each takes its own away.
"""

from __future__ import annotations

from ... import log
from ...host import iptables
from ...host.iptables import Restore
from ...host.journal import HostError
from ...plugin import Attempts
from .. import backends
from .part import ISOLATED, OPEN, SAME_BRIDGE, prefixed
from .ruleset import Ruleset

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ...host.namespace import Machine
    from ...spec.address import Address
    from .part import Part

    Rule = tuple[str, str]  # chain, and what iptables-save prints behind its name

FORWARD, PRIVATE = "FORWARD", "CNI-FORWARD"
STAGE_1, STAGE_2 = "CNI-ISOLATION-STAGE-1", "CNI-ISOLATION-STAGE-2"


def _comment(text: str) -> str:
    return f'-m comment --comment "CNI firewall plugin {text}"'


EVERY_POLICY = _comment("rules (ingressPolicy: same-bridge|isolated)")
TO_PRIVATE = (FORWARD, f"{_comment('rules')} -j {PRIVATE}")
TO_STAGE_1 = (FORWARD, f"{EVERY_POLICY} -j {STAGE_1}")
RETURNS = ((STAGE_1, f"{EVERY_POLICY} -j RETURN"), (STAGE_2, f"{EVERY_POLICY} -j RETURN"))


def own(addresses: list[Address]) -> list[Rule]:
    """The rules of addresses themselves."""
    rules = []
    for address in map(prefixed, addresses):
        rules.append((PRIVATE, f"-d {address} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"))
        rules.append((PRIVATE, f"-s {address} -j ACCEPT"))
    return rules


def isolation(bridge: str, policy: str) -> list[Rule]:
    """The rules of a bridge."""
    if policy == OPEN:
        return []
    comment = _comment(f"rules (ingressPolicy: {policy})")
    inside = [(STAGE_1, f"-i {bridge} -o {bridge} {comment} -j DROP")] if policy == ISOLATED else []
    between = (STAGE_1, f"-i {bridge} ! -o {bridge} {comment} -j {STAGE_2}")
    return [*inside, between, (STAGE_2, f"-o {bridge} {EVERY_POLICY} -j DROP")]


def shared(part: Part) -> list[Rule]:
    """What other attachments rely on as well; within a chain in this order."""
    rules: list[Rule] = []
    if part.policy != OPEN:
        rules += [TO_STAGE_1, *isolation(part.bridge, part.policy), *RETURNS]
    if part.accepts:
        rules += [TO_PRIVATE, _to_admin(part)]
    return rules


def _to_admin(part: Part) -> Rule:
    return PRIVATE, f"{_comment('admin overrides')} -j {part.admin}"


def _own(part: Part, version: int) -> list[Rule]:
    return own([address for address in part.accepted if address.version == version])


# --- ADD


def add(machine: Machine, part: Part, lock: int, is_first: bool) -> None:
    iptables.require(part.versions, "filter")
    running = []
    for version in part.versions:
        if is_first:
            ruleset = Ruleset(version, {FORWARD: ["what others have there"]})
            _complete(ruleset, part)
            lines = ruleset.lines
        else:
            lines = [f"-C {chain} {rule}" for chain, rule in shared(part)]
            lines += [f"-A {chain} {rule}" for chain, rule in _own(part, version)]
        running.append(_change(machine, version, lines, lock))
    refusals = [change.refused() for change in running]
    for version, change, refusal in zip(part.versions, running, refusals, strict=True):
        if refusal is None:
            change.succeeded()
            continue
        ruleset = Ruleset.read(version)  # something of it is missing, or is there already
        _complete(ruleset, part)
        if ruleset.lines:
            change = _change(machine, version, ruleset.lines, lock)
            refusal = change.refused()
            if refusal is not None:
                raise refusal
            change.succeeded()


def _complete(ruleset: Ruleset, part: Part) -> None:
    """What is shared, where it is missing, and the attachment's own rules, whosesoever are there."""
    _complete_shared(ruleset, part)
    for chain, rule in _own(part, ruleset.version):
        ruleset.insert(chain, len(ruleset.of(chain)), rule)


def _complete_shared(ruleset: Ruleset, part: Part) -> None:
    if part.policy != OPEN:
        ruleset.ensure(*TO_STAGE_1, at=0)
        for chain, rule in isolation(part.bridge, part.policy):
            ruleset.ensure(chain, rule, at=_place(ruleset.of(chain), rule))
        for chain, rule in RETURNS:
            ruleset.ensure(chain, rule, at=len(ruleset.of(chain)))
    if part.accepts:
        ruleset.ensure(*TO_PRIVATE, at=ruleset.index(*TO_STAGE_1) + 1)  # -1 without it
        overrides = [rule.split()[-1] for rule in ruleset.of(PRIVATE) if _comment("admin overrides") in rule]
        ruleset.ensure(*_to_admin(part), at=sum(admin < part.admin for admin in overrides))


def _place(rules: list[str], rule: str) -> int:
    """By the bridges' names: whatever came and went in between, the same bridges are in the same order."""
    before = [at for at, other in enumerate(rules) if ("",) < _rank(other) < _rank(rule)]
    return before[-1] + 1 if before else 0


def _rank(rule: str) -> tuple[str, ...]:
    """Of a bridge's rule in an isolation chain; what is no such rule has none."""
    words = rule.split()
    return (words[1], "between" if "!" in words else "", rule) if words[0] in ("-i", "-o") else ()


class Change:
    """Lines being carried out, as one operation of the journal, and taken back by their inverses."""

    succeeded: Callable[[], None]

    def __init__(self, version: int, lines: list[str], lock: int) -> None:
        self.version = version
        self.lines = lines
        self.restore = Restore(version, "filter", lines, lock)

    def refused(self) -> HostError | None:
        """Wait for the end; why nothing of it was done, if so."""
        try:
            self.restore.finish()
        except HostError as error:
            return error
        return None

    def undo(self) -> None:
        if self.refused() is not None:
            return
        inverse = [line for line in map(_inverse, reversed(self.lines)) if line]
        try:
            Restore(self.version, "filter", inverse).finish()
        except HostError as error:  # somebody else relies on a chain of ours by now, such as a Go plugin
            log.debug(f"undo of what is shared: {error}")
            _remove(self.version, [_split(line) for line in inverse if line.startswith(f"-D {PRIVATE} ")])


def _change(machine: Machine, version: int, lines: list[str], lock: int) -> Change:
    started: list[Change] = []

    def start() -> Change:
        started.append(Change(version, lines, lock))
        return started[0]

    changing = [line for line in lines if not line.startswith("-C ")]
    say = iptables.say(version, "filter", changing)
    change, succeeded = machine.journal.begin(say, start, lambda: started[0].undo())
    change.succeeded = succeeded
    return change


def _inverse(line: str) -> str:
    command, chain, *rest = line.split(" ", 2)
    if command == "-N":
        return f"-X {chain}"
    if command == "-I":
        return f"-D {chain} {rest[0].partition(' ')[2]}"
    return f"-D {chain} {rest[0]}" if command == "-A" else ""


def _split(line: str) -> Rule:
    _, chain, rule = line.split(" ", 2)
    return chain, rule


# --- DEL


def remove(machine: Machine, part: Part, others: set[str], lock: int) -> None:
    attempt = Attempts()
    running = []
    for version in part.versions:
        rules = [*_own(part, version), *_unneeded(part, others)]
        if not rules or iptables.program(version, "-restore") is None:
            continue
        lines = [f"-D {chain} {rule}" for chain, rule in rules]
        say = iptables.say(version, "filter", lines)
        begun = attempt(
            machine.journal.begin, say, lambda version=version, lines=lines: Restore(version, "filter", lines, lock)
        )
        if begun is not None:
            running.append((version, rules, *begun))
    for version, rules, restore, succeeded in running:
        try:
            restore.finish()
            succeeded()
        except HostError:  # as a whole, when one of the rules is missing
            left = attempt(Ruleset.read, version)
            if left is not None:
                attempt(iptables.change, machine.journal, version, "filter", left.deletions(rules))
    attempt.finish()


def remove_unrecorded(machine: Machine, part: Part, others: set[str], held: list[Address]) -> None:
    """`part.policy` is not known: any of its bridge's rules go."""
    attempt = Attempts()
    for version in sorted({address.version for address in part.addresses}):
        ruleset = backends.look(Ruleset.read, version)
        if ruleset is None:
            continue
        rules = [*own([address for address in part.addresses if address.version == version]), *_unneeded(part, others)]
        lines = ruleset.deletions(rules, own(held))
        attempt(iptables.change, machine.journal, version, "filter", lines)
    attempt.finish()


def _unneeded(part: Part, others: set[str]) -> list[Rule]:
    """The rules of the part's bridge that no other attachment needs."""
    kept = [rule for policy in sorted(others) for rule in isolation(part.bridge, policy)]
    mine = [part.policy] if part.policy != OPEN else [SAME_BRIDGE, ISOLATED] if part.bridge else []
    rules = [rule for policy in mine for rule in isolation(part.bridge, policy) if rule not in kept]
    return list(dict.fromkeys(rules))


def _remove(version: int, rules: list[Rule]) -> None:
    """Remove what is there of the rules."""
    lines = Ruleset.read(version).deletions(rules)
    if lines:
        Restore(version, "filter", lines).finish()


def accepts_others(versions: list[int], held: list[Address]) -> bool:
    """Whether there are rules of other addresses than these: of attachments that a Go plugin made."""
    mine = {rule for _, rule in own(held)}
    rules = [rule for version in versions for rule in Ruleset.read(version).of(PRIVATE)]
    return any(rule.startswith("-s ") and rule not in mine for rule in rules)


# --- CHECK, and putting back


def missing(machine: Machine, part: Part) -> list[str]:
    found = []
    for version in part.versions:
        ruleset = Ruleset.read(version)
        wanted = [*shared(part), *_own(part, version)]
        absent = [f"-A {chain} {rule}" for chain, rule in wanted if ruleset.index(chain, rule) < 0]
        early = [] if absent else _too_early(ruleset, part)
        found += [f"{iptables.NAMES[version]} {line}" for line in absent + early]
    return found


def _too_early(ruleset: Ruleset, part: Part) -> list[str]:
    """Rules in front of one that must come before them."""
    orders = [shared(part), *([_to_admin(part), rule] for rule in _own(part, ruleset.version))]
    found = [(chain, rule) for order in orders for chain, rule in ruleset.too_early(order)]
    return [f"-A {chain} {rule} (too early)" for chain, rule in found]


def complete(machine: Machine, part: Part) -> list[str]:
    found = []
    for version in part.versions:
        ruleset = Ruleset.read(version)
        _complete_shared(ruleset, part)
        for chain, rule in _own(part, version):
            ruleset.ensure(chain, rule, at=len(ruleset.of(chain)))
        if ruleset.lines:
            iptables.change(machine.journal, version, "filter", ruleset.lines)
            found += [f"{iptables.NAMES[version]} -t filter {line}" for line in ruleset.lines]
    return found
