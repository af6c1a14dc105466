"""host-local and static: the same requests to the Go plugins and to ours give the same addresses and leases."""

from __future__ import annotations

import pytest

from tests.differential.accepted import judge
from tests.differential.cases import LEASES
from tests.differential.sides import Case, Side, on_shared_machine


@pytest.mark.parametrize("case", LEASES, ids=lambda case: case.id)
def test_same(case: Case, go_and_ours: tuple[Side, Side]) -> None:
    go, ours = go_and_ours
    judge(case, on_shared_machine(go, case), on_shared_machine(ours, case))
