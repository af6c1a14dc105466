"""ADD is all or nothing: broken at its Nth operation, for N = 1, 2, 3 ... until it succeeds."""

from __future__ import annotations

import itertools
import time

import pytest

from tests.faults.cases import CASES, Case
from tests.faults.steps import (
    add,
    add_length,
    assert_same,
    chain,
    container,
    delete,
    every_case,
    every_whole_case,
    named,
    numbers,
    over,
    restore_shared,
    settled,
    stand,
    stands,
    unchain,
)
from tests.support.faulty import Agent


def fail_at_each(agent: Agent, case: Case, pristine: bool, few: bool = False) -> None:
    before = settled(agent)
    for number in numbers(few, lambda: add_length(agent, case)):
        ended = add(agent, case, fail=number)
        if not ended.hit:
            break
        if ended.status == 0:  # without what is done as far as it can be, such as a sysctl on a read-only /proc/sys
            assert delete(agent, case).status == 0
            restore_shared(agent, case, pristine)
        else:
            assert (ended.status, ended.json["code"]) == (1, 999), ended
        assert_same(before, agent, ended)
    assert ended.status == 0 and (number > 1 or case.plugin == "static"), ended


@every_case
def test_failing_on_a_pristine_machine(agent: Agent, case: Case) -> None:
    if not case.replaces:
        chain(agent, case)
        fail_at_each(agent, case, pristine=True)


@every_whole_case
def test_failing_beside_another(agent: Agent, case: Case) -> None:
    stand(agent, case)
    chain(agent, case)
    fail_at_each(agent, case, pristine=False)
    assert case.replaces or stands(agent, case)


@over(CASES, "namespace", ("there", "empty", "gone"))
def test_killed_then_deleted(agent: Agent, case: Case, namespace: str) -> None:
    """CNI_NETNS of the DEL is the container's namespace, or empty, or that namespace has gone."""
    stand(agent, case)
    if namespace != "gone":
        chain(agent, case)
    kill_then_delete(agent, case, namespace)
    assert case.replaces or stands(agent, case)


def kill_then_delete(agent: Agent, case: Case, namespace: str, few: bool = False) -> None:
    before = settled(agent)
    for number in numbers(few, lambda: _length_for(agent, case, namespace)):
        if namespace == "gone":
            chain(agent, case)
        ended = add(agent, case, kill=number)
        if not ended.hit:
            break
        assert ended.status == -9
        if namespace == "gone":
            agent.machine.run("ip", "netns", "delete", "c1")
        deleted = delete(agent, case, "" if namespace == "empty" else None)
        assert deleted.status == 0, deleted
        if namespace == "gone":
            unchain(agent, case)
            container(agent.machine, "c1", case)
            agent.machine.run("sh", "-c", case.mend)
        if case.replaces:  # what forceAddress has replaced is not brought back by a DEL
            restore_shared(agent, case, pristine=False)
        assert_same(before, agent, ended, deleted)
    assert ended.status == 0, ended


def _length_for(agent: Agent, case: Case, namespace: str) -> int:
    if namespace != "gone":
        return add_length(agent, case)
    chain(agent, case)
    length = add_length(agent, case)
    unchain(agent, case)
    return length


@every_whole_case
def test_undo_killed_then_deleted(agent: Agent, case: Case) -> None:
    stand(agent, case)
    chain(agent, case)
    kill_undo_then_delete(agent, case)


def kill_undo_then_delete(agent: Agent, case: Case, few: bool = False) -> None:
    """The last operation fails, and the process dies at the Nth one that takes the others back."""
    before = settled(agent)
    last = _last_failing(agent, case)
    for number in numbers(few, lambda: len(add(agent, case, fail=last).operations), last + 1):
        ended = add(agent, case, fail=last, kill=number)
        if not ended.hit:
            break
        assert ended.status == -9
        deleted = delete(agent, case, "" if number % 2 else None)
        assert deleted.status == 0, deleted
        if case.replaces:
            restore_shared(agent, case, pristine=False)
        assert_same(before, agent, ended, deleted)
    assert ended.status == 1 or last == 0, ended


def _last_failing(agent: Agent, case: Case) -> int:
    """The number of the last operation without which there is no success."""
    count = len(add(agent, case).operations)
    for number in range(count, 0, -1):
        assert delete(agent, case).status == 0
        restore_shared(agent, case, pristine=False)
        if add(agent, case, fail=number).status == 1:
            return number
    return 0


@pytest.mark.parametrize(
    ("name", "action"),
    [("bridge-dual", "term"), ("ptp-nftables", "term"), ("host-local", "term"), ("host-local", "int")],
)
def test_signals_wait_for_the_change_or_its_undo(agent: Agent, name: str, action: str) -> None:
    case = named(name)
    ended_by = {"term": -15, "int": -2}[action]
    stand(agent, case)
    before = settled(agent)
    for number in itertools.count(1):
        ended = add(agent, case, **{action: number})
        if not ended.hit:
            break
        assert ended.status == ended_by and ended.json["ips"], ended  # as if it had come after the end
        assert not ended.stderr
        assert delete(agent, case).status == 0
        assert_same(before, agent, ended)
    last = len(ended.operations)
    assert delete(agent, case).status == 0
    for number in range(1, last):
        ended = add(agent, case, **{action: number, "fail": last})
        assert ended.status == ended_by and ended.json["code"] == 999, ended
        assert_same(before, agent, ended)


@pytest.mark.parametrize("name", ["bridge-iptables", "host-local"])
def test_no_lease_is_lost(agent: Agent, name: str) -> None:
    """However many ADDs and DELs died, every address of the range can still be had: 10.1.2.2 to .14, and no other."""
    case = named(name)
    for number in range(1, 12):
        add(agent, case, kill=number)
        delete(agent, case, kill=number)
        assert delete(agent, case).status == 0
    config = case.config["ipam"]
    config = case.config | {"type": "host-local", "ipam": config | {"ranges": config["ranges"][:1]}}
    given = []
    for number in range(14):
        ended = agent.plugin("host-local", "ADD", config, container=f"x{number}")
        given += [ip["address"] for ip in ended.json.get("ips", ())]
    assert sorted(given) == sorted(f"10.1.2.{number}/28" for number in range(2, 15))
    assert ended.status == 1


def test_rules_that_are_still_being_made(agent: Agent) -> None:
    """ADD is killed while iptables-restore, which it has started, is slow; the DEL that follows must not be faster."""
    case = named("bridge-iptables")
    stand(agent, case)
    before = settled(agent)
    count = len(add(agent, case).operations)
    assert delete(agent, case).status == 0
    script = """
    mkdir /run/sbin && cp -a /usr/sbin/. /run/sbin && cd /run/sbin && rm iptables-restore
    printf '#!/bin/sh\n[ -e /run/slow ] && rm /run/slow && sleep 0.3\nexec /usr/sbin/iptables-nft-restore "$@"\n' > iptables-restore
    chmod 755 iptables-restore && mount --bind /run/sbin /usr/sbin
    """
    agent.machine.run("sh", "-c", script)
    for number in range(1, count):
        agent.machine.run("touch", "/run/slow")
        ended = add(agent, case, kill=number)
        if "iptables" in "".join(ended.operations[:-1]):
            break
        assert delete(agent, case).status == 0
    assert delete(agent, case).status == 0
    time.sleep(0.5)
    assert_same(before, agent, ended)
