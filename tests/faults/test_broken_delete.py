"""DEL carries on past an error and reports it; whatever a broken one has left, the next one takes away."""

from __future__ import annotations

from tests.faults.cases import CASES, Case
from tests.faults.steps import (
    add,
    assert_same,
    chain,
    delete,
    every_whole_case,
    numbers,
    over,
    restore_shared,
    settled,
    stand,
    stands,
)
from tests.support.faulty import Agent


def _length(agent: Agent, case: Case) -> int:
    """How many operations a DEL has."""
    assert add(agent, case).status == 0
    ended = delete(agent, case)
    restore_shared(agent, case, pristine=False)
    return len(ended.operations)


@over(CASES, "action", ("kill", "fail"))
def test_broken_then_again(agent: Agent, case: Case, action: str) -> None:
    stand(agent, case)
    chain(agent, case)
    break_then_again(agent, case, action)
    assert case.replaces or stands(agent, case)


def break_then_again(agent: Agent, case: Case, action: str, few: bool = False) -> None:
    before = settled(agent)
    for number in numbers(few, lambda: _length(agent, case)):
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


@every_whole_case
def test_carries_on_past_an_error(agent: Agent, case: Case) -> None:
    stand(agent, case)
    chain(agent, case)
    carry_on(agent, case)


def carry_on(agent: Agent, case: Case, few: bool = False) -> None:
    """After a DEL of which one operation failed no more is left than what that operation would have taken away."""
    add(agent, case)
    unbroken = delete(agent, case)
    length = len(unbroken.operations)
    for number in numbers(few, lambda: length):
        if number > length:
            break
        add(agent, case)
        ended = delete(agent, case, fail=number)
        missing = length - len(ended.operations)
        assert missing <= 1, f"{ended}\nwithout a fault:\n{unbroken}"  # the record is kept: the attachment is not gone
        assert delete(agent, case).status == 0


@over([case for case in CASES if case.plugin != "loopback" and not case.replaces])
def test_path_leads_to_the_namespace_of_the_host(agent: Agent, case: Case) -> None:
    """A recycled process ID: the host's links are not touched, and all else goes as with an empty CNI_NETNS."""
    chain(agent, case)
    before = settled(agent)
    assert add(agent, case).status == 0
    ended = delete(agent, case, "/proc/self/ns/net")
    assert (ended.status, ended.stdout) == (0, ""), ended
    restore_shared(agent, case, pristine=True)
    assert_same(before, agent, ended)
