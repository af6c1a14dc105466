"""Thousands of published ports: the time that each operation takes grows with their number, not with its square."""

from __future__ import annotations

import resource
from typing import Any

import pytest

from tests.support.machine import Machine
from tests.support.network import again, attach, bridge
from tests.support.ports import mapping, portmap

FEW, MANY = 500, 2000


def seconds_of_cpu(machine: Machine, verb: str, config: Any, result: Any, container: str) -> float:
    """What the operation uses of the processor: it hardly depends on other load on the machine."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    outcome = again(machine, verb, config, result, container)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert outcome.status == 0, outcome
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.mark.parametrize("backend", ["iptables", "nftables"])
def test_four_times_the_ports_take_about_four_times_as_long(machine: Machine, backend: str) -> None:
    times: dict[int, dict[str, float]] = {}
    for count in (FEW, MANY):
        container = f"c{count}"
        result = attach(machine, bridge(), container)
        first = 10000 + count * 10
        ports = [mapping(first + number, 80 + number % 7, ("tcp", "udp")[number % 2]) for number in range(count)]
        config = portmap(*ports, backend=backend)
        verbs = ("ADD", "CHECK", "DEL")
        times[count] = {verb: seconds_of_cpu(machine, verb, config, result, container) for verb in verbs}
    slower = {verb: times[MANY][verb] / times[FEW][verb] for verb in times[FEW]}
    assert all(factor < 8 for factor in slower.values()), (times, slower)  # the square would make it 16
