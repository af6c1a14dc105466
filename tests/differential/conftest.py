"""Runs the cases of test_network ahead of it, several at a time: most of their time is spent waiting for carriers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from tests.differential.sides import Case, Side, State, on_fresh_machine
from tests.support.kernel import IN_UML
from tests.support.machine import Machine

MACHINES = 2 if IN_UML else 10  # user-mode Linux has one CPU, and more would only wait for it until their time is up
Pair = tuple[Future[State], Future[State]]


@pytest.fixture(scope="session", autouse=True)
def sides(request: pytest.FixtureRequest, farm: str) -> Iterator[Callable[[Case], tuple[State, State]]]:
    """Case -> what it shows on the Go plugins' machine and on ours."""
    items = [item for item in request.session.items if "interface_case" in getattr(item, "fixturenames", ())]
    cases: list[Case] = [item.callspec.params["interface_case"] for item in items]  # type: ignore[attr-defined]
    with ThreadPoolExecutor(MACHINES) as pool:
        pairs: dict[str, Pair] = {
            case.id: (pool.submit(on_fresh_machine, farm, case, True), pool.submit(on_fresh_machine, farm, case, False))
            for case in cases
        }
        yield lambda case: (pairs[case.id][0].result(), pairs[case.id][1].result())
        pool.shutdown(cancel_futures=True)


@pytest.fixture(scope="module")
def go_and_ours(farm: str) -> Iterator[tuple[Side, Side]]:
    """Two machines for all tests of a module, each with a container c1."""
    with Machine(farm) as one, Machine(farm) as other:
        for machine in (one, other):
            machine.container("c1")
        yield Side(one, go=True), Side(other, go=False)
