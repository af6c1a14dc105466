"""The ways of breaking that brief cases miss elsewhere: one after the other on one machine, each at few operations.

One case of each plugin: the others would take user-mode Linux minutes.
"""

from __future__ import annotations

from tests.faults import test_broken_add as broken_add
from tests.faults import test_broken_delete as broken_delete
from tests.faults import test_broken_gc as broken_gc
from tests.faults.cases import Case
from tests.faults.steps import chain, delete, named, over, stand, stands, unchain
from tests.support.faulty import Agent


@over([named(name) for name in ("bridge-vlan", "vlan", "dummy", "vrf")])
def test_the_other_ways(agent: Agent, case: Case) -> None:
    stand(agent, case)
    chain(agent, case)
    for way in (
        lambda: broken_add.fail_at_each(agent, case, pristine=False, few=True),
        lambda: broken_add.kill_then_delete(agent, case, "empty", few=True),
        lambda: broken_add.kill_undo_then_delete(agent, case, few=True),
        lambda: broken_delete.break_then_again(agent, case, "fail", few=True),
        lambda: broken_delete.carry_on(agent, case, few=True),
        lambda: broken_gc.break_then_again(agent, case, "fail", few=True),
        lambda: broken_gc.kill_then_collect(agent, case, few=True),
    ):
        way()
        assert delete(agent, case).status == 0
    unchain(agent, case)
    broken_add.kill_then_delete(agent, case, "gone", few=True)
    assert stands(agent, case)
