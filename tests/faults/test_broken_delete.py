"""DEL carries on past an error and reports it; whatever a broken one has left, the next one takes away."""

from __future__ import annotations

import itertools

from tests.faults.cases import CASES, Case
from tests.faults.steps import (
    add,
    assert_same,
    chain,
    delete,
    every_whole_case,
    over,
    restore_shared,
    settled,
    stand,
    stands,
)
from tests.support.faulty import Agent


@over(CASES, "action", ("kill", "fail"))
def test_broken_then_again(agent: Agent, case: Case, action: str) -> None:
    stand(agent, case)
    chain(agent, case)
    before = settled(agent)
    for number in itertools.count(1):
        added = add(agent, case)
        assert added.status == 0, added
        ended = delete(agent, case, **{action: number})
        if ended.hit:
            assert ended.status == {"fail": 1, "kill": -9}[action], ended
            assert action == "kill" or "a fault of the test's" in ended.json["msg"]
            again = delete(agent, case, None if number % 2 or case.plugin == "loopback" else "")
            assert again.status == 0, again
        restore_shared(agent, case, pristine=False)
        assert_same(before, agent, ended)
        if not ended.hit:
            break
    assert ended.status == 0, ended
    assert case.replaces or stands(agent, case)


@every_whole_case
def test_carries_on_past_an_error(agent: Agent, case: Case) -> None:
    """After a DEL of which one operation failed no more is left than what that operation would have taken away."""
    stand(agent, case)
    chain(agent, case)
    add(agent, case)
    whole = delete(agent, case)
    for number in range(1, len(whole.operations) + 1):
        add(agent, case)
        ended = delete(agent, case, fail=number)
        missing = len(whole.operations) - len(ended.operations)
        assert missing <= 1, f"{ended}\nwithout a fault:\n{whole}"  # the record is kept: the attachment is not gone
        assert delete(agent, case).status == 0
