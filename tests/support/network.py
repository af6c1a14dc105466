"""Network configurations that many tests begin with."""

from __future__ import annotations

import re
from typing import Any

from tests.support.faulty import EXPECTED
from tests.support.machine import Machine, Outcome

V4, V6 = "10.77.0.0/24", "fd77::/64"


def host_local(*subnets: str, **more: Any) -> dict[str, Any]:
    """An `ipam` object: one address from each subnet."""
    return {"type": "host-local", "ranges": [[{"subnet": subnet}] for subnet in subnets or (V4, V6)], **more}


def bridge(**options: Any) -> dict[str, Any]:
    """A dual-stack bridge network whose bridge is the gateway; `options` replace or add."""
    return {
        "cniVersion": "1.1.0",
        "name": "mynet",
        "type": "bridge",
        "bridge": "cni0",
        "isGateway": True,
        "ipam": host_local(),
        **options,
    }


def layer2(**options: Any) -> dict[str, Any]:
    """A bridge network without addresses."""
    return {"cniVersion": "1.1.0", "name": "mynet", "type": "bridge", "bridge": "cni0", **options}


def ptp(**options: Any) -> dict[str, Any]:
    """A dual-stack point-to-point network; `options` replace or add."""
    return {"cniVersion": "1.1.0", "name": "mynet", "type": "ptp", "ipam": host_local(), **options}


def attach(machine: Machine, config: dict[str, Any], container: str = "c1", **options: Any) -> Any:
    """ADD for a new container; the result. Its container ID and its namespace are both called `container`."""
    netns = machine.container(container)
    outcome = machine.plugin(config["type"], "ADD", config, container_id=container, netns=netns, **options)
    assert outcome.status == 0, outcome
    assert outcome.stderr == "", outcome
    return outcome.json


def again(
    machine: Machine, command: str, config: dict[str, Any], result: Any, container: str = "c1", **options: Any
) -> Outcome:
    """CHECK or DEL of an attachment, with the result of its ADD."""
    netns = f"/run/netns/{container}"
    config = {**config, "prevResult": result}
    return machine.plugin(config["type"], command, config, container_id=container, netns=netns, **options)


def state(machine: Machine) -> dict[str, str]:
    """The machine's snapshot, without the kernel's timers and queues, and what a failed ADD is EXPECTED to leave."""
    own = r" qdisc \w+| \w+_timer +[\d.]+"
    found = {name: re.sub(own, "", text) for name, text in machine.snapshot().items()}
    for pattern, _reason in EXPECTED:
        found = {name: re.sub(f"(?m){pattern}", "", text) for name, text in found.items()}
    found["host"] = re.sub(r"\*nat\n(:\w+ ACCEPT \n)+COMMIT\n", "", found["host"])
    found["files"] = re.sub(r"(?m)^[\s#]*$\n", "", found["files"])
    return found
