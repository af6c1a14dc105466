"""One case on two machines, one with the Go plugins and one with ours, and what differs between them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.differential.observe import Observer, State, flat_result
from tests.support.machine import GO, Machine, Outcome

ABSENT = "absent"
_QUICK_DAD = """
for each in all default lo; do
    cd /proc/sys/net/ipv6/conf/$each && echo 0 >dad_transmits && echo 0 >router_solicitation_delay
done
"""


@dataclass(frozen=True)
class Difference:
    """What is meant to be different: paths that `where` matches, with values (Go's, ours) that `values` accepts."""

    name: str
    reason: str
    where: str
    values: Callable[[str, str], bool] = lambda go, ours: True
    everywhere: bool = False
    """Whether it holds in all cases; else only in those that name it."""

    def covers(self, path: str, go: str, ours: str) -> bool:
        return bool(re.search(self.where, path)) and self.values(go, ours)


FAILED_ADD = [
    Difference(
        "lease folder", "made before a lease is sought, and never removed", r"^file networks(/net(/lock( content)?)?)?$"
    ),
    Difference(
        "round robin", "the next address is another one", r"^file networks/net/last_reserved_ip\.\d( content)?$"
    ),
    Difference("lease index", "of no leases", r"^file networks/\.net\.index( content)?$"),
]


@dataclass(frozen=True)
class Case:
    """A request, and the steps of its life: ADD, CHECK with ADD's result, DEL, DEL again.

    setup: a shell script run on the machine before; `differs`: the named differences that this case shows.
    chain: configurations of the plugins before this one in the network's list; their ADDs of the same side come first,
    and then the script `between`. Each gets the result of the one before as prevResult; DEL is this plugin's alone.
    kernel: the features that the kernel must have (tests/support/kernel.py).
    steps: of IPAM plugins also "ADD c2" and "ADD c1 eth1", for another container or interface.
    """

    id: str
    plugin: str
    config: Any
    environ: dict[str, Any] = field(default_factory=dict)
    setup: str = ""
    differs: tuple[str, ...] = ()
    real_dad: bool = False
    steps: tuple[str, ...] = ("ADD", "CHECK", "DEL", "DEL")
    chain: tuple[dict[str, Any], ...] = ()
    between: str = ""
    kernel: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return repr((self.config, self.environ, self.setup, self.chain, self.between))


class Side:
    """A machine, and the plugins on it: Go's or ours."""

    def __init__(self, machine: Machine, go: bool) -> None:
        self.machine = machine
        self.go = go

    def run(self, name: str, verb: str | None, config: Any, **environ: Any) -> Outcome:
        return self.machine.plugin(name, verb, config, **{"farm": GO if self.go else self.machine.farm, **environ})


def quicken_dad(machine: Machine, *containers: str) -> None:
    """Let duplicate address detection end at once, for both sides: otherwise each IPv6 case takes two seconds."""
    machine.run("sh", "-ec", _QUICK_DAD)
    for name in containers:
        machine.run("nsenter", f"--net=/run/netns/{name}", "sh", "-ec", _QUICK_DAD)


def chained(side: Side, case: Case) -> Any:
    """Run the plugins before the case's; its configuration, with their result."""
    config = case.config
    names = {key: value for key, value in case.environ.items() if not key.isupper()}
    for plugin in case.chain:
        same = {key: config[key] for key in ("cniVersion", "name", "prevResult") if key in config}
        outcome = side.run(plugin["type"], "ADD", {**same, **plugin}, **names)
        assert outcome.status == 0, outcome
        config = {**config, "prevResult": outcome.json}
    side.machine.run("sh", "-ec", case.between)
    return config


def live(side: Side, case: Case, observe: Callable[[], State], text: Callable[[str], str]) -> State:
    """What a case shows on one side: outcomes, and the state after ADD and after the last step.

    After an ADD that fails, we leave what there was before. The reference leaves this and that: it is not compared.
    """
    shown: State = {}
    config, failed = chained(side, case), False
    before = {} if side.go else observe()
    for number, verb in enumerate(case.steps):
        if verb == "CHECK" and failed:
            continue
        outcome = side.run(case.plugin, verb, config, **case.environ)
        state = observe() if verb == "ADD" or number == len(case.steps) - 1 else {}
        step = verb if case.steps.index(verb) == number else f"{verb} again"
        shown |= {f"{step}: {path}": value for path, value in outcome_of(outcome, text).items()}
        if verb == "ADD" and outcome.status:
            failed = True
            left = [] if side.go else compare(before, state, FAILED_ADD, set())
            assert not left, "a failed ADD left\n" + "\n".join(left)
        elif verb == "ADD" and isinstance(config, dict) and outcome.stdout:
            config = {**config, "prevResult": outcome.json}
        if not failed:
            shown |= {f"after {step}: {path}": value for path, value in state.items()}
    return shown


def outcome_of(outcome: Outcome, text: Callable[[str], str] = str) -> State:
    """Exit status, and the result or the error's code, flat."""
    shown = {"status": str(outcome.status)}
    if outcome.status:
        return shown | {"code": str(outcome.json["code"]) if outcome.stdout else "died"}
    decoded = json.loads(text(outcome.stdout) or "null")
    return shown | ({f"result {path}": value for path, value in flat_result(decoded).items()} if decoded else {})


def compare(go: State, ours: State, differences: list[Difference], used: set[str]) -> list[str]:
    """The differences that are in none of the named ones, as lines to read; `used` gets the names of those seen."""
    lines = []
    for path in sorted(go.keys() | ours.keys()):
        values = go.get(path, ABSENT), ours.get(path, ABSENT)
        if values[0] != values[1]:
            names = [each.name for each in differences if each.covers(path, *values)]
            used.update(names)
            if not names:
                lines.append(f"{path}\n    go:   {values[0]}\n    ours: {values[1]}")
    return lines


def on_fresh_machine(farm: str, case: Case, go: bool) -> State:
    """The case on a machine of its own, with one container; all of the network is compared."""
    with Machine(farm) as machine:
        machine.run("ip", "netns", "add", "c1")
        if not case.real_dad:
            quicken_dad(machine, "c1")
        machine.run("sh", "-ec", case.setup)
        observer = Observer(machine, case.text)
        return live(Side(machine, go), case, observer.network, observer.text)


def on_shared_machine(side: Side, case: Case) -> State:
    """An IPAM case, which has nothing but its network's lease folder: outcomes, and that folder after each step."""
    network = case.config["name"]
    side.machine.run("sh", "-ec", f"D=/var/lib/cni/networks/{network}; {case.setup}")
    observer = Observer(side.machine)
    shown: State = {}
    results: dict[str, Any] = {}
    for number, step in enumerate(case.steps):
        verb, *who = step.split()
        names = dict(zip(("container_id", "ifname"), who, strict=False))
        config = case.config
        if verb == "CHECK" and " ".join(who) in results:
            config = {**config, "prevResult": results[" ".join(who)]}
        outcome = side.run(case.plugin, verb, config, **{**case.environ, **names})
        if verb == "ADD" and not outcome.status:
            results[" ".join(who)] = outcome.json
        label = step + " again" * case.steps[:number].count(step)
        shown |= {f"{label}: {path}": value for path, value in outcome_of(outcome).items()}
        files = observer.files(rf"[/.]{network}([/.]|$)").items()
        shown |= {f"after {label}: {path}": value for path, value in files}
    return shown
