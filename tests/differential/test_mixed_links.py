"""macvlan, ipvlan and vlan: what the Go plugins have made, ours check and remove, and the other way round."""

from __future__ import annotations

from tests.support.machine import Machine, links
from tests.support.network import again, host_local, state
from tests.support.uplink import STACKED, every, network, uplink


@every(*STACKED)
def test_go_and_ours_take_turns(machine: Machine, plugin: str) -> None:
    uplink(machine)
    machine.container()
    config = network(plugin, cniVersion="1.0.0", mtu=1400, ipam=host_local("10.77.0.0/24"))
    before = state(machine)

    made = machine.go(plugin, "ADD", config)
    assert made.status == 0, made
    assert again(machine, "CHECK", config, made.json).status == 0
    for _ in range(2):
        assert again(machine, "DEL", config, made.json).status == 0
    assert state(machine) == before

    made = machine.plugin(plugin, "ADD", config)
    assert made.status == 0, made
    with_result = {**config, "prevResult": made.json}
    for command in ("CHECK", "DEL"):
        outcome = machine.go(plugin, command, with_result)
        assert outcome.status == 0, outcome
    assert links(machine, "c1") == ["lo"]
    assert machine.plugin(plugin, "DEL", with_result).status == 0  # called afterwards it forgets the attachment, too
    assert state(machine) == before
