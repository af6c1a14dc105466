"""host-local beside the Go plugin and beside itself, and what it leaves when it is killed."""

from __future__ import annotations

import os
import posix
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cnibox.host import journal
from cnibox.host.journal import HostError, Journal
from cnibox.spec.errors import CniError
from tests.support.leases import Rig

BOTH: dict[str, Any] = {"ranges": [[{"subnet": "10.1.2.0/28"}], [{"subnet": "fd00::/124"}]]}
CHANGES = ("open", "write", "pwrite", "link", "unlink", "rename", "mkdir", "ftruncate", "utime", "close")


def test_what_go_leases_we_release_and_the_other_way_round(tmp_path: Path) -> None:
    rig = Rig(tmp_path, **BOTH)
    for _ in range(3):  # round after round within a tick of the kernel's clock: no change of Go's may be overlooked
        given = rig.go("ADD", "c1")
        with pytest.raises(CniError, match="duplicate allocation"):
            rig.add("c1")
        rig.check("c1", given)
        rig.delete("c1")
        given = rig.add("c2")
        with pytest.raises(RuntimeError, match="duplicate allocation"):
            rig.go("ADD", "c2")
        rig.go("CHECK", "c2")
        rig.go("DEL", "c2")
        with pytest.raises(CniError, match="Failed to find address"):
            rig.check("c2", given)
        assert rig.files() == {}


@pytest.mark.parametrize(
    "ranges",
    [
        [[{"subnet": "10.1.2.0/29"}]],
        [[{"subnet": "fd00::/125", "rangeStart": "fd00::", "gateway": "fd00::3"}]],
        [
            [
                {"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.0", "rangeEnd": "10.1.0.2"},
                {"subnet": "10.2.0.0/29"},
            ]
        ],
        # The smaller one first: where the second is full, the reference has moved the first's round in vain.
        [
            [
                {
                    "subnet": "10.2.0.0/24",
                    "rangeStart": "10.2.0.7",
                    "rangeEnd": "10.2.0.9",
                    "gateway": "10.2.0.8",
                }
            ],
            [{"subnet": "10.1.0.0/24", "rangeEnd": "10.1.0.4", "gateway": "10.1.0.4"}],
        ],
    ],
)
def test_addresses_come_in_the_order_of_the_reference(tmp_path: Path, ranges: Any) -> None:
    ours, theirs = Rig(tmp_path / "ours", ranges=ranges), Rig(tmp_path / "theirs", ranges=ranges)

    def both(container: str) -> str:
        told = []
        for add in (ours.add, lambda name: theirs.go("ADD", name)):
            try:
                told.append(" ".join(add(container)))
            except (CniError, RuntimeError) as error:
                assert "no IP addresses available in range set" in str(error)
                told.append("full")
        assert told[0] == told[1] and ours.files() == theirs.files()
        return told[0]

    given = [both(f"a{number}") for number in range(10)]
    assert "full" in given
    for number in (0, 1, 1, 0, 1):
        ours.delete(f"a{number}")
        theirs.go("DEL", f"a{number}")
        both(f"a{number}")


def test_eight_processes_and_go_get_different_addresses(tmp_path: Path) -> None:
    rig = Rig(tmp_path / "networks", subnet="10.1.2.0/27")
    marks = tmp_path / "marks"
    marks.mkdir()

    def work(worker: int) -> None:
        for turn in range(25):
            container = f"c{worker}-{turn}"
            adds_go, deletes_go = worker % 4 == 0 and turn % 2 == 0, worker % 4 == 1 and turn % 2 == 0
            (address,) = rig.go("ADD", container) if adds_go else rig.add(container)
            mark = marks / address.partition("/")[0]
            mark.touch(exist_ok=False)  # FileExistsError: somebody else has that address
            mark.unlink()
            rig.go("DEL", container) if deletes_go else rig.delete(container)
        rig.add(f"last{worker}")

    assert in_processes(8, work) == [0] * 8
    assert sorted(rig.files().values()) == sorted(f"last{worker}/eth0" for worker in range(8))
    assert rig.indexed() in (rig.files(), None)


@pytest.mark.parametrize("verb", ["ADD", "DEL", "GC"])
def test_killed_at_any_system_call_it_leaves_what_a_delete_cleans(tmp_path: Path, verb: str) -> None:
    for number in range(1, 200):
        rig = Rig(tmp_path / str(number) / "networks", **BOTH)
        if verb != "ADD":
            rig.add("other")
            rig.add("c1")

        (status,) = in_processes(1, partial(killed, rig, verb, number))
        for content in rig.files().values():
            assert content in ("c1/eth0", "other/eth0"), f"half a lease, killed at {number}"
        if status == 0:
            break
        assert status == -signal.SIGKILL
        truth = rig.files()
        assert rig.indexed() in (truth, None), f"a false index, killed at {number}"
        rig.delete("c1")
        assert set(rig.files().values()) == (set() if verb == "ADD" else {"other/eth0"})
        assert len(rig.add("c1")) == 2 and rig.indexed() == rig.files()
        rig.delete("c1")
        assert rig.indexed() == rig.files()
    assert 10 < number < 150


def test_every_operation_may_fail_and_the_leases_go_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    def fail(at: int) -> Callable[[Journal, str], None]:
        def before(_: Journal, say: str) -> None:
            said.append(say)
            if len(said) == at:
                raise HostError(5, say)

        return before

    for number in range(1, 20):
        rig = Rig(tmp_path / str(number) / "networks", **BOTH)
        said.clear()
        monkeypatch.setattr(journal, "before", fail(number))
        try:
            rig.add("c1")
        except HostError:
            assert rig.files() == {} and rig.indexed() in ({}, None)  # None: it is read again
            assert not rig.data_dir.exists() or number > 3
            continue
        break
    assert [say.replace(str(tmp_path), "") for say in said] == [
        f"mkdir -m 755 /{number}",
        f"mkdir -m 755 /{number}/networks",
        f"mkdir -m 755 /{number}/networks/net1",
        f"printf '%s\\r\\n%s' c1 eth0 > /{number}/networks/net1/10.1.2.2",
        f"printf '%s\\r\\n%s' c1 eth0 > /{number}/networks/net1/fd00::2",
    ]


@pytest.mark.parametrize("error", [28, 5])
def test_every_system_call_may_fail_and_nothing_is_kept(tmp_path: Path, error: int) -> None:
    """A full disk or a broken one: either the ADD succeeds, or it leaves no lease and no false index."""

    for number in range(1, 100):
        rig = Rig(tmp_path / str(number) / "networks", **BOTH)
        rig.add("other")
        (status,) = in_processes(1, partial(failing, rig, error, number))
        assert status in (0, 1)
        kept = 4 if status == 0 else 2
        assert len(rig.files()) == kept, f"failed at {number}"
        assert rig.indexed() in (rig.files(), None)
    assert status == 0


def failing(rig: Rig, error: int, at: int, _: int) -> None:
    fail_at(at, error)
    rig.add("c1")


def killed(rig: Rig, verb: str, at: int, _: int) -> None:
    kill_at(at)
    if verb == "ADD":
        rig.add("c1")
    elif verb == "DEL":
        rig.delete("c1")
    else:
        rig.plugin("GC").gc({("other", "eth0")})


def in_processes(count: int, work: Callable[[int], None]) -> list[int]:
    """Exit statuses of processes that do this, each with its number; negative: the signal that killed it."""
    children = []
    for number in range(count):
        child = os.fork()
        if child == 0:
            status = 1
            try:
                work(number)
                status = 0
            except (CniError, HostError) as error:
                print(error)
            finally:
                os._exit(status)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]


def at_call(number: int, do: Callable[[], None]) -> None:
    """Have something done instead of the Nth system call that changes something, in this process."""
    count = 0

    def wrapped(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*arguments: Any, **named: Any) -> Any:
            nonlocal count
            count += 1
            if count == number:
                do()
            return call(*arguments, **named)

        return wrapper

    for name in CHANGES:
        setattr(posix, name, wrapped(getattr(posix, name)))


def kill_at(number: int) -> None:
    at_call(number, lambda: os.kill(os.getpid(), signal.SIGKILL))


def fail_at(number: int, error: int) -> None:
    def fail() -> None:
        raise OSError(error, os.strerror(error))

    unfailing = {name: getattr(posix, name) for name in ("close", "unlink")}
    at_call(number, fail)
    for name, call in unfailing.items():
        setattr(posix, name, call)
