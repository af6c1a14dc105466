"""A machine on which the Go plugins and ours take turns: what one has made, the other checks and removes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.differential.cases import DUAL, SUBNET4, V4, V6, static
from tests.differential.observe import Observer, State
from tests.differential.sides import Side, compare, quicken_dad
from tests.support.machine import Machine, Outcome, links

TWO = static("10.1.0.20/24 10.1.0.1", "10.1.0.21/24 10.1.0.1", "fd01::20/64 fd01::1")
GATEWAY = {"isGateway": True}
MASQ = {"ipMasq": True}

CONFIGS: dict[str, dict[str, Any]] = {
    "bridge-l2": {"type": "bridge"},
    "bridge-v4": {"type": "bridge", "ipam": V4, **GATEWAY},
    "bridge-masq-v4": {"type": "bridge", "ipam": V4, **GATEWAY, **MASQ},
    "bridge-masq-v6": {"type": "bridge", "ipam": V6, **GATEWAY, **MASQ},
    "bridge-masq-dual": {"type": "bridge", "ipam": DUAL, **GATEWAY, **MASQ},
    "bridge-masq-two": {"type": "bridge", "ipam": TWO, **MASQ},
    "bridge-default-gateway": {
        "type": "bridge",
        "ipam": {**DUAL, "routes": []},
        "isDefaultGateway": True,
        "hairpinMode": True,
        "mtu": 1400,
    },
    "ptp-v4": {"type": "ptp", "ipam": V4},
    "ptp-masq-v4": {"type": "ptp", "ipam": V4, **MASQ},
    "ptp-masq-dual": {"type": "ptp", "ipam": DUAL, **MASQ},
    "loopback": {"type": "loopback"},
    "host-local-v4": {"type": "host-local", "ipam": V4},
    "host-local-dual": {"type": "host-local", "ipam": DUAL},
    "static": {"type": "static", "ipam": static("10.1.0.20/24 10.1.0.1")},
}
NAMES = list(CONFIGS)
# Debian's DEL leaves rules behind of an attachment with two addresses of a family, whoever made it.
GO_DELETES = [name for name in NAMES if name != "bridge-masq-two"]


class Place:
    """A machine with a standing attachment (c0) to the same network: what is shared is there before and after."""

    def __init__(self, machine: Machine, config: dict[str, Any]) -> None:
        self.machine = machine
        self.config = {"cniVersion": "1.0.0", "name": "net", **config}
        self.go, self.ours = Side(machine, go=True), Side(machine, go=False)
        for name in ("c0", "c1"):
            machine.container(name)
        quicken_dad(machine, "c0", "c1")
        machine.run("sh", "-ec", "ip -n c1 link set lo up; ip -n c1 link set lo down")  # which leaves it 127.0.0.1
        if config["type"] != "loopback":
            standing = self.config
            if self.config.get("ipam", {}).get("type") == "static":
                standing = {**self.config, "ipam": static("10.1.0.9/24 10.1.0.1", "fd01::9/64 fd01::1")}
            self.run(self.go, "ADD", standing, container_id="c0", netns="/run/netns/c0")
        self.links = links(machine)
        self.before = self.state()

    def run(self, side: Side, verb: str, config: dict[str, Any] | None = None, **environ: Any) -> Outcome:
        """A verb that must succeed."""
        ifname = "lo" if self.config["type"] == "loopback" else "eth0"
        config = config or self.config
        outcome = side.run(config["type"], verb, config, **{"ifname": ifname, **environ})
        assert outcome.status == 0, f"{'Go' if side.go else 'our'} {verb}: {outcome}"
        return outcome

    def add(self, side: Side) -> dict[str, Any]:
        """ADD; the configuration for CHECK and DEL, with its result."""
        return {**self.config, "prevResult": self.run(side, "ADD").json}

    def state(self) -> State:
        """What an attachment may not leave: everything but our index, and where the round robin is."""
        containers = tuple(sorted(entry["name"] for entry in self.machine.ip("netns", "list")))
        state = Observer(self.machine, containers=containers).network()
        return {path: value for path, value in state.items() if ".index" not in path and "last_reserved" not in path}

    def delete_container(self) -> None:
        """Delete the namespace of c1, and wait until its links are gone: the kernel does that later."""
        self.machine.run("ip", "netns", "delete", "c1")
        assert self.machine.wait_until(lambda: links(self.machine) == self.links, 10)

    def left(self, *, besides: str = "") -> list[str]:
        """What has come or gone since the beginning, but what concerns the namespace `besides`."""
        now = self.state()
        lines = compare(self.before, now, [], set())
        return [line for line in lines if not (besides and line.startswith(f"in {besides}: "))]


@pytest.fixture
def place(machine: Machine, request: pytest.FixtureRequest) -> Iterator[Place]:
    yield Place(machine, CONFIGS[request.param])


def over(names: list[str]) -> Any:
    return pytest.mark.parametrize("place", names, indirect=True)


@over(NAMES)
def test_ours_checks_and_deletes_what_go_made(place: Place) -> None:
    config = place.add(place.go)
    place.run(place.ours, "CHECK", config)
    place.run(place.ours, "DEL", config)
    assert place.left() == []


@over(GO_DELETES)
def test_go_checks_and_deletes_what_we_made(place: Place) -> None:
    config = place.add(place.ours)
    if "ipam" in config or config["type"] == "loopback":  # Debian's CHECK fails on a bridge without ipam, always
        place.run(place.go, "CHECK", config)
    place.run(place.go, "DEL", config)
    assert place.left() == []
    place.run(place.ours, "DEL", config)  # ours, called afterwards, forgets the attachment, too
    assert place.machine.run("find", "/run/cnibox/attachments", "-type", "f", check=False) == ""


@over([name for name in NAMES if "masq" in name])
def test_ours_deletes_what_go_made_without_its_namespace(place: Place) -> None:
    """Here the reference leaves its rules for ever."""
    config = place.add(place.go)
    place.delete_container()
    place.run(place.ours, "DEL", config)
    assert place.left(besides="c1") == []


@over([name for name in NAMES if "masq" in name])
def test_ours_deletes_what_go_made_without_knowing_its_namespace(place: Place) -> None:
    place.add(place.go)
    place.run(place.ours, "DEL", netns="")
    place.delete_container()
    assert place.left(besides="c1") == []


@over(["bridge-masq-dual"])
@pytest.mark.parametrize("go_first", [True, False])
def test_shared_chain(place: Place, go_first: bool) -> None:
    """Two interfaces of one container in one network share a chain, which goes with the last of them."""
    first, second = (place.go, place.ours) if go_first else (place.ours, place.go)
    place.run(first, "ADD")
    one = place.state()
    place.run(second, "ADD", ifname="eth1")
    place.run(place.ours, "DEL", ifname="eth1")
    left = compare(one, place.state(), [], set())
    assert [line for line in left if " nat POSTROUTING rule" in line or " nat chain " in line] == []
    place.run(place.ours, "DEL")
    assert place.left() == []


@pytest.mark.parametrize("ipam", [{"type": "host-local", **SUBNET4}, DUAL], ids=["v4", "dual"])
def test_turns_at_one_lease_folder(machine: Machine, farm: str, ipam: dict[str, Any]) -> None:
    """The addresses are those that Go alone would have given, in that order."""
    steps = ["ADD c1", "ADD c2", "ADD c3", "DEL c2", "ADD c4", "DEL c1", "DEL c3", "ADD c2", "ADD c1", "DEL c4"]
    config = {"cniVersion": "1.0.0", "name": "net", "type": "host-local", "ipam": ipam}

    def run(turns: list[Side]) -> tuple[list[Any], State]:
        given = []
        for number, step in enumerate(steps):
            verb, container = step.split()
            side = turns[number % len(turns)]
            outcome = side.run("host-local", verb, config, container_id=container)
            assert outcome.status == 0, outcome
            given.append(outcome.json["ips"] if verb == "ADD" else None)
        return given, Observer(turns[0].machine).files(r"net/")

    with Machine(farm) as other:
        alone, leases = run([Side(machine, go=True)])
        for turns in ([True, False], [False, True], [True, False, False]):
            other.run("rm", "-rf", "/var/lib/cni/networks/net")
            mixed, mixed_leases = run([Side(other, go=each) for each in turns])
            assert mixed == alone
            assert {path: value for path, value in mixed_leases.items() if "content" in path} == {
                path: value for path, value in leases.items() if "content" in path
            }
