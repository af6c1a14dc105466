"""bridge, ptp and loopback: the same requests to the Go plugins and to ours leave machines in the same state."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.differential.accepted import judge
from tests.differential.cases import INTERFACES
from tests.differential.sides import Case, State

CASES = [pytest.param(case, id=case.id, marks=pytest.mark.kernel(*case.kernel)) for case in INTERFACES]


@pytest.mark.parametrize("interface_case", CASES)
def test_same(interface_case: Case, sides: Callable[[Case], tuple[State, State]]) -> None:
    judge(interface_case, *sides(interface_case))
