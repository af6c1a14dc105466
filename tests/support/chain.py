"""A network's list of plugins, run as a runtime runs it."""

from __future__ import annotations

from typing import Any

from tests.support.machine import Machine, Outcome
from tests.support.network import host_local


class Chain:
    """Configurations in the order of their ADD; the last plugin is the one that is tested."""

    def __init__(self, machine: Machine, *configs: dict[str, Any], ifname: str = "eth0", container: str = "c1") -> None:
        self.machine = machine
        self.configs = [{"cniVersion": "1.1.0", "name": "mynet", **config} for config in configs]
        self.names = {"ifname": ifname, "container_id": container, "netns": f"/run/netns/{container}"}
        self.result: Any = None

    @property
    def last(self) -> dict[str, Any]:
        return self.configs[-1]

    def add(self, *, go_last: bool = False) -> Any:
        """ADD of all; the result. `go_last`: the last of them is the Go plugin."""
        for config in self.configs[:-1]:
            self.result = self.one("ADD", config).json
        outcome = self.one("ADD", self.last, go=go_last)
        assert outcome.stderr == "" or go_last
        self.result = outcome.json
        return self.result

    def delete(self, *, go_last: bool = False) -> None:
        self.one("DEL", self.last, go=go_last)
        for config in reversed(self.configs[:-1]):
            self.one("DEL", config)

    def one(self, command: str, config: dict[str, Any], **options: Any) -> Outcome:
        """One plugin's verb, which must succeed."""
        outcome = self.attempt(command, config, **options)
        assert outcome.status == 0, f"{command} of {config['type']}: {outcome}"
        return outcome

    def attempt(self, command: str, config: dict[str, Any], *, go: bool = False, **options: Any) -> Outcome:
        previous = {"prevResult": self.result} if self.result is not None else {}
        run = self.machine.go if go else self.machine.plugin
        # Debian's plugins know no newer version.
        version = {"cniVersion": "1.0.0"} if go else {}
        if go and previous:
            previous["prevResult"] = {**self.result, "cniVersion": "1.0.0"}
        return run(config["type"], command, {**config, **previous, **version}, **{**self.names, **options})

    def check(self, **changed: Any) -> Outcome:
        """CHECK of the last plugin."""
        return self.attempt("CHECK", {**self.last, **changed})


def bridged(number: int, **options: Any) -> dict[str, Any]:
    """The bridge network of that number: 10.77.NUMBER.0/24 and fd77:NUMBER::/64 behind the bridge cniNUMBER."""
    ipam = host_local(f"10.77.{number}.0/24", f"fd77:{number}::/64", routes=[{"dst": "0.0.0.0/0"}, {"dst": "::/0"}])
    config = {"type": "bridge", "bridge": f"cni{number}", "isGateway": True, "ipam": ipam}
    return {"name": f"net{number}", **config, **options}
