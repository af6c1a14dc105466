"""Requests that are no good, and those that need no plugin: status, code and answer are the Go plugins'."""

from __future__ import annotations

import pytest

from tests.differential.accepted import judge
from tests.differential.cases import PROTOCOL
from tests.differential.sides import Case, Side, State, outcome_of


@pytest.mark.parametrize("case", PROTOCOL, ids=lambda case: case.id)
def test_same(case: Case, go_and_ours: tuple[Side, Side]) -> None:
    judge(case, *(_asked(side, case) for side in go_and_ours))


def _asked(side: Side, case: Case) -> State:
    verb = case.steps[0] if case.steps else None
    outcome = side.run(case.plugin, verb, case.config, **case.environ)
    shown = outcome_of(outcome) if verb is not None else {"status": str(outcome.status), "stdout": outcome.stdout}
    return {f"{verb or 'bare run'}: {path}": value for path, value in shown.items()}
