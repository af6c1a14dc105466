"""What the tests of faults do again and again: c1 is broken, c2 stands beside it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from tests.faults.cases import CASES, Case
from tests.support.faulty import Agent, Run, difference
from tests.support.machine import Machine


def over(cases: list[Case], name: str = "", ways: tuple[str, ...] = ()) -> pytest.MarkDecorator:
    """Run a test with each of them, where the kernel has what it needs; in each of the ways, a brief case in the first."""
    if not name:
        marked = [pytest.param(case, id=case.name, marks=pytest.mark.kernel(*case.kernel)) for case in cases]
        return pytest.mark.parametrize("case", marked)
    both = [(case, way) for case in cases for way in (ways[:1] if case.brief else ways)]
    marked = [
        pytest.param(case, way, id=f"{way}-{case.name}", marks=pytest.mark.kernel(*case.kernel)) for case, way in both
    ]
    return pytest.mark.parametrize(f"case, {name}", marked)


every_case = over(CASES)
every_whole_case = over([case for case in CASES if not case.brief])


def named(name: str) -> Case:
    return next(case for case in CASES if case.name == name)


def container(machine: Machine, name: str, case: Case | None = None) -> None:
    """A namespace without what the kernel does later, or only once: DAD of link-local addresses, those of a first lo up.

    And the rules of a first VRF.
    """
    machine.container(name)
    script = """
    sysctl -q net.ipv6.conf.default.accept_dad=0; ip link set lo up; ip link set lo down
    ip link add name first type vrf table 99 && ip link delete first || true
    """
    machine.run("ip", "netns", "exec", name, "sh", "-c", script)
    if case is not None:
        machine.run("ip", "netns", "exec", name, "sh", "-ec", case.inside)


def chain(agent: Agent, case: Case, container: str = "c1") -> None:
    """ADD of the plugins that come before the case's own."""
    result: dict[str, Any] = {}
    for config in case.first:
        ended = agent.plugin(config["type"], "ADD", {**config, **result}, container=container, ifname="net0")
        assert ended.status == 0, ended
        result = {"prevResult": ended.json}
    agent.previous.pop(container, None)
    for config in case.after:
        ended = agent.plugin(config["type"], "ADD", {**config, **previous(agent, container)}, container=container)
        assert ended.status == 0, ended
        agent.previous[container] = ended.json


def unchain(agent: Agent, case: Case) -> None:
    """DEL of the same, the last first."""
    for config in reversed(case.after):
        ended = agent.plugin(config["type"], "DEL", {**config, **previous(agent, "c1")})
        assert ended.status == 0, ended
    for config in reversed(case.first):
        ended = agent.plugin(config["type"], "DEL", config, ifname="net0")
        assert ended.status == 0, ended


def previous(agent: Agent, container: str) -> dict[str, Any]:
    """The prevResult of the case's plugin."""
    return {"prevResult": agent.previous[container]} if container in agent.previous else {}


def stand(agent: Agent, case: Case) -> None:
    chain(agent, case, "c2")
    config = {**case.beside, **previous(agent, "c2")}
    ended = agent.plugin(case.beside["type"], "ADD", config, container="c2")
    assert ended.status == 0, ended
    assert stands(agent, case)


def stands(agent: Agent, case: Case) -> bool:
    return not case.address or agent.machine.ping(case.address)


def add(agent: Agent, case: Case, **faults: int) -> Run:
    """add(agent, case, fail=3): the third operation fails."""
    return _run(agent, case, "ADD", faults)


def delete(agent: Agent, case: Case, netns: str | None = None, **faults: int) -> Run:
    return _run(agent, case, "DEL", faults, netns=netns)


def collect(agent: Agent, case: Case, *containers: str, **faults: int) -> Run:
    """GC, for which these containers' attachments are valid; for none libcni sends null."""
    valid = [{"containerID": name, "ifname": "eth0"} for name in containers] or None
    return _run(agent, case, "GC", faults, {"cni.dev/valid-attachments": valid})


def _run(agent: Agent, case: Case, command: str, faults: dict[str, int], extra: Any = None, **options: Any) -> Run:
    at = {number: action for action, number in faults.items()}
    config = {**case.config, **({} if command == "GC" else previous(agent, "c1")), **(extra or {})}
    return agent.plugin(case.plugin, command, config, at, path=case.path, **options)


def numbers(few: bool, total: Callable[[], int], first: int = 1) -> Iterable[int]:
    """At which operations to break: each, or, of `total()`, the middle and the last; then one where nothing breaks."""
    if not few:
        return itertools.count(first)
    last = total()
    return sorted({(first + last) // 2, last, last + 1})


def add_length(agent: Agent, case: Case) -> int:
    """How many operations an ADD has."""
    ended = add(agent, case)
    assert delete(agent, case).status == 0
    restore_shared(agent, case, pristine=False)
    return len(ended.operations)


def settled(agent: Agent) -> list[str]:
    """The snapshot, once the kernel has done what it does on its own (link-local addresses, carriers)."""
    before = agent.snapshot()
    for _ in range(100):
        now = agent.snapshot()
        if now == before and not any("NO-CARRIER" in piece or "tentative" in piece for piece in now):
            return now
        before = now
        time.sleep(0.01)
    raise AssertionError("the machine does not come to rest")


def assert_same(before: list[str], agent: Agent, *context: object) -> None:
    found = difference(before, agent.snapshot())
    assert not found, "\n".join((found, *map(str, context)))


def restore_shared(agent: Agent, case: Case, pristine: bool) -> None:
    """Take away what the first attachment makes for all, and a DEL leaves for the next."""
    script = (
        "ip address delete 10.1.2.1/28 dev cni0; ip address add 10.9.9.1/24 brd + dev cni0" if case.replaces else ""
    )
    if pristine and not case.after:
        script = """
        ip link delete cni0.5; ip link delete cni0; nft flush ruleset; nft delete table inet cni_plugins_masquerade
        echo 0 > /proc/sys/net/ipv4/ip_forward; echo 0 > /proc/sys/net/ipv6/conf/all/forwarding
        """
    if pristine and case.plugin == "portmap":
        script = """
        for family in ip ip6; do nft delete table $family nat; nft delete table $family cni_hostport; done
        echo 0 > /proc/sys/net/ipv4/conf/cni0/route_localnet
        """
    if pristine and case.plugin == "firewall" and not case.firewalld:
        script = "nft flush ruleset"
    agent.machine.run("sh", "-c", script, check=False)
