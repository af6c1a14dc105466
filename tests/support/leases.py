"""host-local on a folder of its own, in this process or by the Go plugin."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from cnibox.host.namespace import Machine
from cnibox.plugins.ipam.host_local import HostLocal
from cnibox.spec.errors import CniError
from cnibox.spec.request import Request
from cnibox.spec.result import Result

GO = Path("/usr/lib/cni/host-local")


class Rig:
    def __init__(self, folder: Path, network: str = "net1", **ipam: Any) -> None:
        self.data_dir = folder
        self.network = network
        self.leases = folder / network
        self.config: dict[str, Any] = {
            "cniVersion": "1.0.0",
            "name": network,
            "type": "bridge",
            "ipam": {"type": "host-local", "dataDir": str(folder), **ipam},
        }

    def plugin(
        self, command: str, container: str = "", ifname: str = "eth0", args: str = "", **config: Any
    ) -> HostLocal:
        whole = self.config | config
        request = Request(
            command,
            container_id=container,
            netns="/run/netns/none",
            ifname=ifname,
            args=args,
            path=["/usr/lib/cni"],
            config=whole,
            version=whole["cniVersion"],
            name=self.network,
        )
        machine = Machine("/none")
        machine.host.close()  # no IPAM plugin enters a namespace
        return HostLocal("host-local", request, machine)

    def add(self, container: str, ifname: str = "eth0", args: str = "", **config: Any) -> list[str]:
        """The addresses; what an ADD that fails has done is undone, as skel does."""
        plugin = self.plugin("ADD", container, ifname, args, **config)
        try:
            return addresses(plugin.add())
        except BaseException:
            assert plugin.machine.journal.undo() == []
            raise

    def delete(self, container: str, ifname: str = "eth0", **config: Any) -> None:
        self.plugin("DEL", container, ifname, **config).delete()

    def check(self, container: str, given: list[str] | None = None, ifname: str = "eth0") -> None:
        config: dict[str, Any] = {}
        if given is not None:
            config["prevResult"] = {"cniVersion": "1.0.0", "ips": [{"address": each} for each in given]}
        self.plugin("CHECK", container, ifname, **config).check()

    def go(self, command: str, container: str, ifname: str = "eth0", args: str = "", **config: Any) -> list[str]:
        """The same by the Go plugin."""
        environ = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": "/run/netns/none",
            "CNI_IFNAME": ifname,
            "CNI_PATH": "/usr/lib/cni",
            "CNI_ARGS": args,
        }
        text = json.dumps(self.config | config)
        done = subprocess.run([GO], input=text, env=environ, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stdout)
        return [each["address"] for each in json.loads(done.stdout)["ips"]] if command == "ADD" else []

    def files(self) -> dict[str, str]:
        """Every lease file with what it says, line end shown as a slash."""
        if not self.leases.exists():
            return {}
        paths = [each for each in self.leases.iterdir() if each.name != "lock" and not each.name.startswith("last_")]
        return {each.name: each.read_bytes().decode().replace("\r\n", "/") for each in sorted(paths)}

    def put(self, address: str, content: str, age: float = 0.0) -> None:
        """A lease file that others made, `age` seconds before this boot if positive."""
        self.leases.mkdir(parents=True, exist_ok=True)
        path = self.leases / address
        path.write_bytes(content.encode())
        if age:
            os.utime(path, (1000.0, 1000.0))

    def indexed(self) -> dict[str, str] | None:
        """What the index says, in the same form; None when it does not hold."""
        if not self.leases.exists():
            return {}
        with self.plugin("STATUS").leases.look() as leases:
            if leases.changed:
                return None
            return {address: "/".join(each for each in owner if each) for address, owner in leases.all()}


def addresses(result: Result) -> list[str]:
    return [str(each.address) for each in result.ips]


def error(code: int, do: Any, *arguments: Any, **named: Any) -> str:
    """What the CniError says, which must have that code."""
    with pytest.raises(CniError) as caught:
        do(*arguments, **named)
    assert caught.value.code == code, str(caught.value)
    return str(caught.value)
