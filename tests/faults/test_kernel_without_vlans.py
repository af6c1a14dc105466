"""A kernel whose bridges do not filter VLANs: ADD leaves nothing, and says so; on all kernels, as the answer is given here."""

from __future__ import annotations

from tests.faults.cases import network
from tests.faults.steps import assert_same, settled
from tests.support.faulty import Agent
from tests.support.kernel import complaint

CONFIG = network("bridge", isGateway=True, vlan=5)


def test_the_kernel_refuses_to_filter(agent: Agent) -> None:
    for _ in range(2):  # the first makes folders, which stay
        said = agent.plugin("bridge", "ADD", CONFIG).operations
        assert agent.plugin("bridge", "DEL", CONFIG).status == 0
        script = "ip link delete cni0.5; ip link delete cni0; echo 0 >/proc/sys/net/ipv4/ip_forward"
        agent.machine.run("sh", "-c", script, check=False)
    refused = said.index("ip link set cni0 type bridge vlan_filtering 1") + 1
    before = settled(agent)

    ended = agent.plugin("bridge", "ADD", CONFIG, {refused: "EOPNOTSUPP"})
    assert (ended.status, ended.json["code"]) == (1, 999), ended
    assert "cni0" in ended.json["msg"] and "this kernel lacks bridge VLAN filtering" in ended.json["msg"]
    assert_same(before, agent, ended)


def test_status_tells_what_the_kernel_lacks(agent: Agent) -> None:
    before = settled(agent)
    ended = agent.plugin("bridge", "STATUS", CONFIG)
    assert ended.status == (1 if complaint("bridge-vlan") else 0), ended
    assert ended.status == 0 or (ended.json["code"] == 50 and "bridge VLAN filtering" in ended.json["msg"])
    assert agent.plugin("bridge", "STATUS", network("bridge")).status == 0
    assert_same(before, agent, ended)
