"""GC, broken at its Nth operation: the next one, or a DEL, takes away what is left; so it does after a killed ADD."""

from __future__ import annotations

from tests.faults.cases import CASES, Case
from tests.faults.steps import (
    add,
    add_length,
    assert_same,
    chain,
    collect,
    delete,
    numbers,
    over,
    restore_shared,
    settled,
    stand,
    stands,
)
from tests.support.faulty import Agent

COLLECTED = [
    case for case in CASES if not case.replaces and not case.path and case.plugin not in ("loopback", "static")
]


def _length(agent: Agent, case: Case) -> int:
    """How many operations a GC has."""
    assert add(agent, case).status == 0
    return len(collect(agent, case, "c2").operations)


@over(COLLECTED, "action", ("kill", "fail"))
def test_broken_then_again(agent: Agent, case: Case, action: str) -> None:
    stand(agent, case)
    chain(agent, case)
    break_then_again(agent, case, action)
    assert stands(agent, case)


def break_then_again(agent: Agent, case: Case, action: str, few: bool = False) -> None:
    before = settled(agent)
    for number in numbers(few, lambda: _length(agent, case)):
        assert add(agent, case).status == 0
        ended = collect(agent, case, "c2", **{action: number})
        if ended.hit:
            assert ended.status == {"fail": 1, "kill": -9}[action], ended
            again = collect(agent, case, "c2") if number % 2 else delete(agent, case)
            assert again.status == 0, again
        assert_same(before, agent, ended)
        if not ended.hit:
            break
    assert ended.status == 0 and number > 1, ended


@over([case for case in COLLECTED if not case.brief])
def test_collects_what_a_killed_add_left(agent: Agent, case: Case) -> None:
    stand(agent, case)
    chain(agent, case)
    kill_then_collect(agent, case)
    assert stands(agent, case)


def kill_then_collect(agent: Agent, case: Case, few: bool = False) -> None:
    before = settled(agent)
    for number in numbers(few, lambda: add_length(agent, case)):
        ended = add(agent, case, kill=number)
        again = collect(agent, case, "c2")
        assert again.status == 0, again
        assert_same(before, agent, ended, again)
        if not ended.hit:
            break


@over(COLLECTED)
def test_null_says_that_no_attachment_is_valid(agent: Agent, case: Case) -> None:
    chain(agent, case)
    before = settled(agent)
    assert add(agent, case).status == 0
    ended = collect(agent, case)
    assert (ended.status, ended.stdout) == (0, ""), ended
    restore_shared(agent, case, pristine=True)
    assert_same(before, agent, ended)
