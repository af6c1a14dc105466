"""The Go plugin and ours take turns: what one has added, the other checks and removes; shared chains stay as they are."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.firewall import made_up, rules, wall
from tests.support.machine import GO, Machine

POLICIES = pytest.mark.parametrize("policy", ["open", "same-bridge"])


class Turns:
    """A machine with a standing attachment (c0) of Go's on another bridge."""

    def __init__(self, machine: Machine, policy: str) -> None:
        self.machine = machine
        self.config = wall("iptables", cniVersion="1.0.0", ingressPolicy=policy)
        machine.container("c1")
        self.run(True, "ADD", made_up(99, bridge="br9"), "c0")
        self.before = self.rules()

    def run(self, go: bool, verb: str, result: dict[str, Any], container: str = "c1") -> None:
        config = {**self.config, "prevResult": {**result, "cniVersion": "1.0.0"}}
        options = {"container_id": container, "netns": "/run/netns/c1", "farm": GO if go else self.machine.farm}
        outcome = self.machine.plugin("firewall", verb, config, **options)
        assert outcome.status == 0, outcome

    def rules(self) -> list[str]:
        return rules(self.machine) + rules(self.machine, 6)


@pytest.fixture
def turns(machine: Machine, policy: str) -> Turns:
    return Turns(machine, policy)


@POLICIES
def test_ours_checks_and_deletes_what_go_made(turns: Turns) -> None:
    turns.run(True, "ADD", made_up(2))
    turns.run(False, "CHECK", made_up(2))
    turns.run(False, "DEL", made_up(2))
    assert turns.rules() == turns.before
    turns.run(False, "DEL", made_up(2))
    assert turns.rules() == turns.before


@POLICIES
def test_go_checks_and_deletes_what_we_made(turns: Turns) -> None:
    """It leaves the isolation of a bridge, as always; ours, called afterwards, takes it away."""
    turns.run(False, "ADD", made_up(2))
    turns.run(True, "CHECK", made_up(2))
    turns.run(True, "DEL", made_up(2))
    assert [line for line in turns.rules() if "br1" not in line] == turns.before
    turns.run(False, "DEL", made_up(2))
    assert turns.rules() == turns.before


@pytest.mark.parametrize("policy", ["same-bridge"])
def test_nothing_is_there_twice(turns: Turns) -> None:
    """The comments of 1.1.1 are recognised. (It does not recognise those of 1.7.0, which are ours.)"""
    turns.run(True, "ADD", made_up(2), "c1")
    turns.run(False, "ADD", made_up(3), "c2")
    for version in (4, 6):
        plain = [line.replace("same-bridge|isolated", "same-bridge") for line in rules(turns.machine, version)]
        assert len(plain) == len(set(plain))
    turns.run(False, "DEL", made_up(2), "c1")
    turns.run(False, "DEL", made_up(3), "c2")
    assert turns.rules() == turns.before
