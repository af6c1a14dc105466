"""One plugin and verb under many faults; what each run breaks of the PROMISES."""

from __future__ import annotations

import json
import math
import os
import re
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults.cases import Case
from tests.faults.steps import add, chain, container, delete, previous, stand
from tests.support.faulty import Agent, Run
from tests.support.firewall import ask_firewalld, running_firewalld
from tests.support.inject import Fault, Limit, calls, faults_at
from tests.support.machine import Machine

PROMISES = {
    "V1": "a right result, or one error object that says what was being done",
    "V2": "after a failed verb and a clean DEL nothing is left",
    "V3": "a DEL or GC that exits 0 has left nothing",
    "V4": "another container is unharmed",
    "V5": "CHECK and STATUS change nothing",
}
VERBS = ("ADD", "DEL", "DEL without namespace", "CHECK", "GC", "STATUS")
LIMIT = 10
"""Seconds for a run; it takes a few hundredths."""
STDOUT_GONE = re.compile(r"(?m)^write\(1, .*INJECTED")
"""Exception to V1: what cannot be written to stdout is told by the exit status alone, or on stderr."""
_UNCLEAR = re.compile(r"(?:^|; |things failed: )(\[Errno \d+\][^;]*|/[^ ;]*: [A-Z][^;]*)|(.*(?:internal error|Traceback).*)")
"""What a message must not say: a bare error, a bare path, a fault of cnibox."""


@dataclass(frozen=True)
class Violation:
    case: str
    verb: str
    fault: str
    promise: str
    words: str
    at: str
    """The system call that was made to fail."""

    def __str__(self) -> str:
        return f"{self.promise} {self.case} {self.verb} {self.fault}  {self.at}\n       {self.words[:160]}"

    @property
    def kind(self) -> str:
        """What is probably the same fault of cnibox: without numbers, names and errors."""
        words = re.sub(r"veth\w+|[\da-f:]*:[\da-f:.]+|\b\d+\b|CNI-\w+|(?<=\] ).*", "_", self.words)
        path = re.search(r'"(\D{,22})', self.at)
        return f"{self.promise} {self.at.partition('(')[0]} {path[1] if path else ''}: {words[:50]}"


@dataclass
class Tally:
    runs: int = 0
    hits: int = 0
    violations: list[Violation] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        self.runs += other.runs
        self.hits += other.hits
        self.violations += other.violations

    def report(self, seed: int, longest: int = 40) -> str:
        """Numbers, kinds of violations with one example each, most frequent first."""
        broken = Counter(each.promise for each in self.violations)
        lines = [f"seed {seed}: {self.runs} runs, {self.hits} of them hit"]
        lines += [f"{promise} {broken[promise]:5} violations of: {words}" for promise, words in PROMISES.items()]
        kinds = Counter(each.kind for each in self.violations)
        examples = {each.kind: each for each in reversed(self.violations)}
        lines += [f"{count:4} x {examples[kind]}" for kind, count in kinds.most_common(longest)]
        return "\n".join([*lines, f"... and {len(kinds) - longest} kinds more"] if len(kinds) > longest else lines)


class Sweep(AbstractContextManager["Sweep"]):
    """One case on machines of its own: c1 is what faults hit, c2 stands beside it.

    `refused`: whether an unbroken ADD fails, because c2 has what c1 asks for.
    """

    def __init__(self, case: Case, farm: str, log: Path, refused: bool = False) -> None:
        self.case, self.farm, self.log, self.refused = case, farm, str(log), refused
        self.tally = Tally()
        self.with_c1: Counter[str] | None = None
        self.stack = ExitStack()
        self.bare = False
        """Whether the DEL after a failure gets neither namespace nor prevResult."""
        self.state = ""
        """Of c1: "attached" or "detached"; "spoilt" or "": another machine is needed."""

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def verbs(self) -> Iterator[str]:
        for verb in VERBS:
            without = (
                (verb == "DEL without namespace" and self.case.plugin == "loopback")  # it has no record
                or (verb == "GC" and (self.case.path or self.case.plugin in ("loopback", "static")))
                or (self.refused and verb != "ADD")
            )
            if not without:
                yield verb

    # --- the machine

    def _start(self) -> None:
        self.stack.close()
        machine = self.stack.enter_context(Machine(self.farm))
        machine.run("sh", "-ec", self.case.setup)
        if self.case.firewalld:
            self.stack.enter_context(running_firewalld(machine))
            for method in ("addSource", "removeSource"):
                ask_firewalld(machine, method, "trusted", "192.0.2.1")
        for name in ("c1", "c2"):
            container(machine, name, self.case)
        self.agent = Agent(machine, self.farm)
        self.stack.callback(self.agent.close)
        stand(self.agent, self.case)
        chain(self.agent, self.case)
        clean = add(self.agent, self.case)
        assert (clean.status != 0) == self.refused, clean
        self.shape = _shape(clean.json)
        with_c1 = _lines(self.agent)
        clean = delete(self.agent, self.case)
        assert clean.status == 0, clean
        self.without = _at_rest(self.agent)
        self.others = self.without & with_c1
        self.state = "detached"

    def _be(self, state: str) -> None:
        """Bring c1 into the state "attached" or "detached"; a machine on which something is left is replaced."""
        if self.state in ("", "spoilt"):
            self._start()
        if state == "attached" and self.state == "detached":
            clean = add(self.agent, self.case)
            assert clean.status == 0, clean
            self.result = clean.json
            self.with_c1 = None
        if state == "detached" and self.state == "attached":
            delete(self.agent, self.case)
        self.state = state

    # --- runs

    def run(self, verb: str, faults: Iterable[Fault | Limit], stale: bool, deadline: float = math.inf) -> None:
        for fault in faults:
            if time.monotonic() > deadline:
                break
            self._be("detached" if verb == "ADD" else "attached")
            self.bare = self.case.plugin != "loopback" and zlib.crc32(str(fault).encode()) % 2 == 0
            Path(self.log).write_text("")
            ended = self._exec(verb, fault.words(self.log), stale)
            traced = Path(self.log).read_text()
            at = next((line for line in traced.splitlines() if "(INJECTED)" in line), str(fault))
            self.tally.runs += 1
            self.tally.hits += isinstance(fault, Limit) or "(INJECTED)" in traced
            for promise, words in self._broken(verb, ended):
                self.tally.violations.append(Violation(self.case.name, verb, str(fault), promise, words, at[:100]))
                self.state = self.state if promise == "V1" else "spoilt"

    def faults(self, verb: str, stale: bool) -> list[list[Fault]]:
        """What can be made to fail in a clean run: for each of its system calls the faults that fit."""
        self._be("detached" if verb == "ADD" else "attached")
        ended = self._exec(verb, ["strace", "-o", self.log], stale)
        wrong = list(self._broken(verb, ended))
        assert not wrong, f"{self.case.name} {verb} without a fault: {wrong}"
        return [faults_at(*each) for each in calls(Path(self.log).read_text())]

    def _exec(self, verb: str, words: list[str], stale: bool) -> Run:
        if verb in ("CHECK", "STATUS") and self.with_c1 is None:
            self.with_c1 = _at_rest(self.agent)
        config = {**self.case.config, **previous(self.agent, "c1")}
        if verb in ("DEL", "CHECK"):
            config["prevResult"] = self.result
        if verb == "GC":
            config = {**self.case.config, "cni.dev/valid-attachments": [{"containerID": "c2", "ifname": "eth0"}]}
        if verb == "DEL without namespace":
            config.pop("prevResult", None)
        environ = {
            "CNI_COMMAND": verb.partition(" ")[0],
            "CNI_CONTAINERID": "c1",
            "CNI_NETNS": "" if verb == "DEL without namespace" else "/run/netns/c1",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": f"{self.case.path}:{self.farm}" if self.case.path else self.farm,
            "PATH": os.environ["PATH"],
        }
        program = f"{self.farm}/{self.case.plugin}"
        return self.agent.spawn([*words, program], environ, config, stale=stale, limit=LIMIT)

    def _broken(self, verb: str, ended: Run) -> Iterator[tuple[str, str]]:
        """(promise, what is wrong); afterwards c1 is as `state` says."""
        wrong = self._wrong_output(verb, ended)
        if wrong:
            yield "V1", wrong
        if self.with_c1 is not None and verb in ("CHECK", "STATUS"):
            for promise, words in self._changed(self.with_c1):
                yield "V5" if promise == "V2" else promise, words
            return
        self.state = "detached"
        if verb == "ADD" and ended.status == 0 and not wrong:
            checked = self.agent.plugin(
                self.case.plugin, "CHECK", {**self.case.config, "prevResult": ended.json}, path=self.case.path
            )
            if checked.status:
                yield "V1", f"exit 0, but CHECK says {checked.stdout[:300]!r}"
        if verb == "ADD" or ended.status:
            netns = "" if ended.status and self.bare else None
            config = {**self.case.config, **({} if netns == "" else previous(self.agent, "c1"))}
            clean = self.agent.plugin(self.case.plugin, "DEL", config, netns=netns, path=self.case.path)
            if clean.status:
                yield "V2", f"the clean DEL fails: {clean.stdout[:300]}"
        for promise, words in self._changed(self.without):
            yield "V3" if promise == "V2" and not ended.status else promise, words

    def _wrong_output(self, verb: str, ended: Run) -> str:
        if ended.status > 0 and STDOUT_GONE.search(Path(self.log).read_text()):
            return ""
        if ended.status not in (0, 1):
            return f"exit {ended.status}, stdout {ended.stdout!r}, stderr {ended.stderr[-200:]!r}"
        try:
            said = json.loads(ended.stdout) if ended.stdout or verb == "ADD" or ended.status else {}
        except ValueError:
            return f"exit {ended.status}, no JSON on stdout: {ended.stdout!r}, stderr {ended.stderr[-300:]!r}"
        if ended.status == 0:
            if verb == "ADD" and self.refused:
                return "exit 0 for what another container has"
            right = self.shape if verb == "ADD" else _shape({})
            return "" if _shape(said) == right else f"a wrong result: {json.dumps(said)}"
        if not isinstance(said.get("code"), int) or not said.get("msg"):
            return f"no error object: {ended.stdout!r}"
        unclear = _UNCLEAR.search(said["msg"])
        return f"unclear: {unclear[0]}" if unclear else ended.stderr if "Traceback" in ended.stderr else ""

    def _changed(self, before: Counter[str]) -> Iterator[tuple[str, str]]:
        """What is lost that does not come and go with c1 is V4, all else V2; the kernel may need a moment."""
        for _ in range(6):
            now = _lines(self.agent)
            if now == before:
                return
            time.sleep(0.05)
        lost, new = before - now, now - before
        harmed = lost & self.others or any(re.match(r"index .* lacks: .* c2 ", line) for line in new)
        words = [*(f"- {line}" for line in lost & self.others), *(f"+ {line}" for line in new)]
        yield "V4" if harmed else "V2", "; ".join([*words, *(f"- {line}" for line in lost - self.others)])


def _lines(agent: Agent) -> Counter[str]:
    """A snapshot, with rules as single lines that begin with their table and chain."""
    found: list[str] = []
    for piece in agent.snapshot(inside=True):
        if not piece.startswith("table "):
            found.append(piece)
            continue
        chain = ""
        for line in piece.splitlines()[1:-1]:
            chain = line.strip(" \t{") if line.endswith("{") else chain
            found.append(f"{piece.partition(' {')[0]}, {chain}: {line.strip()}")
    return Counter(found)


def _at_rest(agent: Agent) -> Counter[str]:
    """The lines, once the kernel has done what it does on its own."""
    before = _lines(agent)
    for _ in range(100):
        time.sleep(0.02)
        now = _lines(agent)
        if now == before and not any("tentative" in line for line in now):
            return now
        before = now
    raise AssertionError("the machine does not come to rest")


def _shape(value: Any) -> Any:
    """What two results of the same configuration have in common."""
    if isinstance(value, dict):
        return {key: _shape(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_shape(each) for each in value]
    return type(value).__name__

