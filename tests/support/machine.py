"""A machine of one's own for each test: private network and mount namespaces, /run and /var/lib/cni empty.

Containers are network namespaces below it. Whatever a test does to it, closing it takes everything away.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

GO = "/usr/lib/cni"
"""Debian's containernetworking-plugins."""

_SETUP = """
mount -t tmpfs run /run && mkdir -p /run/netns /var/lib/cni && mount -t tmpfs state /var/lib/cni
ip link set lo up && echo ready && exec sleep infinity
"""


class Outcome:
    """How a plugin ended: exit status, stdout as text and decoded, stderr."""

    def __init__(self, process: subprocess.CompletedProcess[bytes]) -> None:
        self.status = process.returncode
        self.stdout = process.stdout.decode()
        self.stderr = process.stderr.decode(errors="replace")

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)

    @property
    def code(self) -> int:
        """The error's code; 0 after success."""
        return int(self.json["code"]) if self.status else 0

    def __repr__(self) -> str:
        return f"exit {self.status}\n{self.stdout}\n{self.stderr}"


class Machine:
    def __init__(self, farm: str) -> None:
        self.farm = farm
        command = ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-c", _SETUP]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self.process.stdout is not None and self.process.stdout.readline() == b"ready\n"

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()

    def enter(self, *command: str) -> list[str]:
        """The command line that runs a command on this machine."""
        return ["nsenter", "-t", str(self.process.pid), "-n", "-m", "--wd=/", *command]

    def run(self, *command: str, check: bool = True, stdin: bytes = b"", env: dict[str, str] | None = None) -> str:
        """A command's stdout; CalledProcessError when it fails, unless check=False."""
        done = subprocess.run(self.enter(*command), input=stdin, capture_output=True, env=env, timeout=120)
        if check and done.returncode:
            raise AssertionError(
                f"{' '.join(command)}: {done.returncode}\n{done.stdout.decode()}{done.stderr.decode()}"
            )
        return done.stdout.decode()

    def ip(self, *words: str) -> Any:
        """`ip -json ...`, decoded."""
        return json.loads(self.run("ip", "-json", *words) or "[]")

    def container(self, name: str = "c1") -> str:
        """A new network namespace; its path."""
        self.run("ip", "netns", "add", name)
        return f"/run/netns/{name}"

    def plugin(
        self,
        name: str,
        command: str | None,
        config: object,
        *,
        container_id: str | None = "c1",
        netns: str | None = "/run/netns/c1",
        ifname: str | None = "eth0",
        farm: str | None = None,
        program: list[str] | None = None,
        **environ: str,
    ) -> Outcome:
        """Exec a plugin as a runtime does. `config` is JSON-encoded unless it is bytes; None leaves a variable out."""
        variables = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container_id,
            "CNI_NETNS": netns,
            "CNI_IFNAME": ifname,
            "CNI_PATH": farm or self.farm,
            "PATH": os.environ["PATH"],
            **environ,
        }
        env = {key: value for key, value in variables.items() if value is not None}
        stdin = config if isinstance(config, bytes) else json.dumps(config).encode()
        words = program or [f"{farm or self.farm}/{name}"]
        return Outcome(subprocess.run(self.enter(*words), input=stdin, env=env, capture_output=True, timeout=120))

    def go(self, name: str, command: str, config: object, **options: Any) -> Outcome:
        """The same of the Go plugin."""
        return self.plugin(name, command, config, farm=GO, **options)

    def ping(self, address: str, *, inside: str | None = None, count: int = 1) -> bool:
        """Whether each of `count` packets is answered, before the kernel would ask for a neighbour a second time (1 s)."""
        words = ["ping", "-q", "-c", str(count), "-W", "0.8", address]
        if inside:
            words = ["ip", "netns", "exec", inside, *words]
        done = subprocess.run(self.enter(*words), capture_output=True)
        answered = f" {count} received" in done.stdout.decode()
        if not answered:  # else the next ping would wait until the kernel asks for the neighbour again
            self.run("ip", *(["-n", inside] if inside else []), "neigh", "flush", "all", "nud", "incomplete")
        return answered

    def snapshot(self) -> dict[str, str]:
        """All state that a plugin can change, in text: equal before and after means that nothing is left."""
        found = {"host": self._network()}
        for name in sorted(entry["name"] for entry in self.ip("netns", "list")):
            found[f"netns {name}"] = self._network(name)
        found["files"] = self.run(
            "sh", "-c", "find /var/lib/cni /run/cnibox -printf '%p %y %m ' \\( -type f -exec cat {} \\; -o -true \\) -printf '\\n' 2>/dev/null | sort",
            check=False,
        )  # fmt: skip
        return found

    def _network(self, name: str = "") -> str:
        ip = f"ip -n {name}" if name else "ip"
        inside = f"ip netns exec {name} " if name else ""
        script = f"""
        {ip} -d link; {ip} address; {ip} route show table all; {ip} -6 route show table all; {ip} rule; {ip} neigh show nud permanent
        {inside}iptables-save; {inside}ip6tables-save; {inside}nft list ruleset
        {inside}sh -c 'cd /proc/sys/net && grep -r . ipv4/conf ipv6/conf ipv4/ip_forward 2>/dev/null | sort'
        """
        text = self.run("sh", "-c", script, check=False)
        text = re.sub(r"(?m)^#.*\n", "", text)  # iptables-save's dates
        text = re.sub(r"\[\d+:\d+\]|counter packets \d+ bytes \d+", "", text)
        return re.sub(r"(?m)^.* (stable_secret|fe80:|ff00::/8|multicast).*\n", "", text)

    def wait_until(self, condition: Any, limit: float = 5.0) -> bool:
        """Whether the condition comes true within the limit."""
        deadline = time.monotonic() + limit
        while not condition():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True


def links(machine: Machine, namespace: str = "") -> list[str]:
    """The names of the links, of the machine or of one of its containers."""
    words = ["-n", namespace] if namespace else []
    return sorted(link["ifname"] for link in machine.ip(*words, "link"))


def farm_in(folder: Path, cnibox: Path, python: str = "/usr/bin/python3") -> str:
    """Install a farm of symlinks for that interpreter; its path."""
    subprocess.run([python, str(cnibox), "install", str(folder), "--python", python], check=True, capture_output=True)
    return str(folder)
