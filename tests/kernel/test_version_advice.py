"""An error that comes from the age of cniVersion says so when the configuration has none."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.machine import Machine
from tests.support.network import state

MISSING = 'the configuration has no "cniVersion", which means 0.1.0; add one, such as "cniVersion": "1.1.0"'
TWO = [{"address": "10.4.0.2/24"}, {"address": "10.5.0.2/24"}]
RANGES = [[{"subnet": "10.4.0.0/24"}], [{"subnet": "10.5.0.0/24"}]]
CASES: list[tuple[str, str, dict[str, Any], int]] = [
    ("CHECK", "bridge", {}, 1),
    ("GC", "ptp", {"cni.dev/valid-attachments": []}, 1),
    ("STATUS", "portmap", {}, 1),
    ("ADD", "static", {"ipam": {"type": "static", "addresses": TWO}}, 7),
    ("ADD", "host-local", {"ipam": {"type": "host-local", "ranges": RANGES}}, 7),
    ("ADD", "bridge", {"bridge": "br4"}, 999),  # no address: 0.1.0 cannot say that
    ("ADD", "firewall", {"prevResult": {"cniVersion": "1.0.0", "ips": TWO}}, 6),
]


@pytest.mark.parametrize(("command", "plugin", "more", "code"), CASES)
def test_the_missing_version_is_named(
    machine: Machine, command: str, plugin: str, more: dict[str, Any], code: int
) -> None:
    machine.container("c1")
    config = {"name": "net4", "type": plugin, **more}
    before = state(machine)
    for version in ({}, {"cniVersion": ""}, {"cniVersion": "0.2.0"}):
        outcome = machine.plugin(plugin, command, {**config, **version})
        assert outcome.code == code, outcome
        assert (MISSING in outcome.json["details"]) == (version != {"cniVersion": "0.2.0"}), outcome
    assert state(machine) == before


def test_other_errors_do_not_name_it(machine: Machine) -> None:
    machine.container("c1")
    outcome = machine.plugin("bridge", "ADD", {"name": "net4", "type": "bridge", "bridge": "too-long-for-a-bridge"})
    assert outcome.code == 7 and "cniVersion" not in outcome.json.get("details", "")
