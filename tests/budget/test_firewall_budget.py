"""What one exec of firewall may cost: its backend's module alone, one process for each IP version, nothing for no bus."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.budget.test_budget import HASH, INTERPRETER, modules, ours, plugin_processes
from tests.support.firewall import done, made_up, wall
from tests.support.machine import Machine

COMMANDS = pytest.mark.parametrize("command", ["ADD", "DEL", "CHECK"])
BOTH, V4 = ["ip6tables-restore", "iptables-restore"], ["iptables-restore"]


def standing(machine: Machine, config: dict[str, Any], name: str, *addresses: str) -> None:
    """An attachment to the same bridge: what is shared is there."""
    done(machine, "ADD", config, made_up(9, *addresses), name, netns="/run/netns/c1")


def prepare(machine: Machine, command: str, config: dict[str, Any]) -> None:
    if command != "ADD":
        assert machine.plugin("firewall", "ADD", config).status == 0


@COMMANDS
@pytest.mark.parametrize("backend", ["iptables", "nftables"])
def test_modules_imported(machine: Machine, command: str, backend: str) -> None:
    machine.container("c1")
    config = {**wall(backend, ingressPolicy="isolated"), "prevResult": made_up(2)}
    prepare(machine, command, config)
    found = modules(machine, "firewall", command, config)
    assert {name for name in found if name.partition(".")[0] != "cnibox"} <= INTERPRETER | HASH
    chosen = {
        name for name in ours(found) if name.startswith(("plugins.meta.", "wiring.firewall.", "wiring.masquerade"))
    }
    rules = {"wiring.firewall.iptables", "wiring.firewall.ruleset"}
    own = rules if backend == "iptables" else {"wiring.firewall.nftables", "wiring.firewall.nftables_shared"}
    assert chosen == {"plugins.meta.firewall", "wiring.firewall.bridge", "wiring.firewall.part", *own}
    assert "host.nftables" not in ours(found) or backend == "nftables"


@pytest.mark.parametrize("policy", ["open", "same-bridge"])
@pytest.mark.parametrize(
    "backend, addresses, expected",
    [("iptables", (), BOTH), ("iptables", ("10.77.1.2/24", "10.77.1.3/24"), V4), ("nftables", (), []), ("", (), BOTH)],
)
@pytest.mark.parametrize("first", [True, False], ids=["first", "second"])
def test_processes_started(
    machine: Machine, tmp_path: Path, policy: str, backend: str, addresses: Any, expected: list[str], first: bool
) -> None:
    machine.container("c1")
    plain = wall(backend, ingressPolicy=policy)
    config = {**plain, "prevResult": made_up(2, *addresses)}
    if not first:
        standing(machine, plain, "c2", *(["10.77.1.9/24"] if addresses else []))
    for command in ("ADD", "DEL"):
        programs, count = plugin_processes(machine, tmp_path, command, config)
        assert sorted(programs) == expected and count == len(expected)
