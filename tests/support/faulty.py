"""Plugins run from source on a test's machine, and broken at chosen operations.

An agent lives on the machine. It forks a process for each run, which becomes the plugin, so that a run costs a few
milliseconds; and it takes snapshots, cheap ones, of all that a plugin can change.
"""

from __future__ import annotations

import errno
import json
import os
import posix
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

REPOSITORY = Path(__file__).parent.parent.parent

if TYPE_CHECKING:
    from tests.support.machine import Machine

Faults = dict[int, str]
"""Number of an operation, from 1, -> "fail": it raises EIO instead; "EPERM" and others: that error; "kill": the process dies
before it; "term", "int": a signal arrives before it."""

EXPECTED = (
    (
        r"^/run/cnibox/(firewall\.)?lock f .*",
        "the locks of what attachments share; a file removed under flock(2) would lock nobody out",
    ),
    (r"^/run/cnibox/bridge\.\d+\.[0-9a-f:]+ f .*", "that a bridge's MAC address is pinned, which it stays, as the bridge does"),
    (r"^/run/cnibox(/attachments)? d .*", "the folders of locks and records"),
    (r"^/run/cnibox/ports d .*", "the folder of reserved ports"),
    (r"^/run/cni(/tuning)? d .*", "the folder of tuning's backups"),
    (r"^/var/lib/cni/networks(/[^/]+)? d .*", "the leases' folders stay, as the reference's do"),
    (r"^/var/lib/cni/networks/[^/]+/(lock|last_reserved_ip\.\d+) .*", "part of the reference's format; never removed"),
    (r"^/var/lib/cni/networks/\.[^/]+\.index .*", "a cache of the leases, made anew when it is wrong"),
    (
        r"^table ip6? (nat|filter) \{\n(\tchain \w+ \{\n\t\ttype \w+ hook [^\n]*\n\t\}\n\n?)*\}\n",
        "iptables' own chains, empty",
    ),
)
"""What may be there afterwards although it was not there before, and why."""


class Run:
    """How a run ended: exit status (negative: the signal), stdout, stderr, and what each of its operations said."""

    def __init__(self, answer: dict[str, Any], faults: Faults) -> None:
        self.status: int = answer["status"]
        self.stdout: str = answer["stdout"]
        self.stderr: str = answer["stderr"]
        self.operations: list[str] = answer["operations"]
        self.hit = all(number <= len(self.operations) for number in faults)
        """Whether it came as far as the last fault."""
        self.at = self.operations[max(faults) - 1] if faults and self.hit else ""

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)

    def __repr__(self) -> str:
        steps = "\n".join(f"{number:3} {say}" for number, say in enumerate(self.operations, 1))
        return f"exit {self.status} at {self.at!r}\n{self.stdout}\n{self.stderr}\n{steps}"


class Agent:
    """The caller's side; `farm` is a folder whose symlinks only serve to be found on CNI_PATH."""

    def __init__(self, machine: Machine, farm: str) -> None:
        self.machine = machine
        self.farm = farm
        self.previous: dict[str, Any] = {}
        """Container -> the result of the plugins before the one that is tested; for the tests of faults."""
        words = machine.enter(sys.executable, "-X", f"pycache_prefix={farm}/.pycache", str(Path(__file__).resolve()))
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def close(self) -> None:
        self.process.communicate()

    def plugin(
        self,
        name: str,
        command: str,
        config: object,
        faults: Faults | None = None,
        *,
        container: str = "c1",
        netns: str | None = None,
        ifname: str = "eth0",
        path: str = "",
    ) -> Run:
        """One run. `netns` is by default the container's; "" is an empty CNI_NETNS. `path`: before the farm on CNI_PATH."""
        environ = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": f"/run/netns/{container}" if netns is None else netns,
            "CNI_IFNAME": ifname,
            "CNIBOX_DEBUG": "1",
            "CNI_PATH": f"{path}:{self.farm}" if path else self.farm,
            "PATH": os.environ["PATH"],
        }
        asked = {
            "program": f"{self.farm}/{name}",
            "environ": environ,
            "config": json.dumps(config),
            "faults": faults or {},
        }
        return Run(self._ask("run", asked), faults or {})

    def exec(self, name: str, environ: dict[str, str], stdin: bytes, limit: int = 10) -> Run:
        """One run with exactly this environment and stdin; after `limit` seconds it is killed (SIGALRM)."""
        config = stdin.decode(errors="surrogateescape")
        asked = {"program": f"{self.farm}/{name}", "environ": environ, "config": config, "faults": {}, "limit": limit}
        return Run(self._ask("run", asked), {})

    def spawn(
        self, words: list[str], environ: dict[str, str], config: object, *, stale: bool = False, limit: int = 10
    ) -> Run:
        """Exec a program with exactly this environment; after `limit` seconds it and its children are killed.

        `stale`: before that, touch the folders of leases, as a change by a Go plugin does.
        """
        asked = {"words": words, "environ": environ, "config": json.dumps(config), "stale": stale, "limit": limit}
        return Run(self._ask("spawn", asked), {})

    def snapshot(self, inside: bool = False) -> list[str]:
        """All state that a plugin can change, without what is EXPECTED to stay; in comparable pieces.

        `inside`: also what a plugin should never make, rules in the containers and wrong indexes of leases.
        """
        pieces: list[str] = self._ask("snapshot", {"inside": inside})
        for pattern, _reason in EXPECTED:
            pieces = [re.sub(pattern, "", piece) for piece in pieces]
        return [piece for piece in pieces if piece]

    def _ask(self, what: str, arguments: dict[str, Any]) -> Any:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps([what, arguments]) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


def difference(before: list[str], after: list[str]) -> str:
    """What is there no longer, and what is there in addition; empty if the two are equal."""
    gone = [f"- {piece}" for piece in before if piece not in after]
    new = [f"+ {piece}" for piece in after if piece not in before]
    return "\n".join(gone + new)


# --- the agent's side


def serve() -> None:
    sys.path.insert(0, str(REPOSITORY))
    from cnibox.registry import PLUGINS, load

    for name in PLUGINS:
        load(name)
    for line in sys.stdin:
        what, arguments = json.loads(line)
        answer = {"run": _run, "spawn": _spawn, "snapshot": lambda inside: list(pieces(inside))}[what](**arguments)
        print(json.dumps(answer), flush=True)


def _run(program: str, environ: dict[str, str], config: str, faults: dict[str, str], limit: int = 0) -> dict[str, Any]:
    files = [os.memfd_create(name) for name in ("stdin", "stdout", "stderr", "operations")]
    os.write(files[0], config.encode(errors="surrogateescape"))
    os.lseek(files[0], 0, os.SEEK_SET)
    pid = os.fork()
    if pid == 0:
        signal.alarm(limit)
        try:
            os._exit(_be(program, environ, {int(number): action for number, action in faults.items()}, files))
        except BaseException as error:
            os.write(2, repr(error).encode())
            os._exit(99)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    stdout, stderr, said = (os.pread(fd, 1 << 20, 0).decode(errors="replace") for fd in files[1:])
    for fd in files:
        os.close(fd)
    return {"status": status, "stdout": stdout, "stderr": stderr, "operations": said.split("\0")[:-1]}


def _spawn(words: list[str], environ: dict[str, str], config: str, stale: bool, limit: int) -> dict[str, Any]:
    for folder in Path("/var/lib/cni/networks").glob("[!.]*") if stale else ():
        os.utime(folder)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(words, env=environ, start_new_session=True, **pipes)
    try:
        stdout, stderr = process.communicate(config.encode(), limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        stdout, stderr = process.communicate()[0], f"killed after {limit} s".encode()
    said = {"stdout": stdout.decode(errors="replace"), "stderr": stderr.decode(errors="replace")}
    return {"status": process.returncode, **said, "operations": []}


def _be(program: str, environ: dict[str, str], faults: Faults, files: list[int]) -> int:
    import cnibox.host.journal as journal
    from cnibox.main import main

    for number, fd in enumerate(files[:3]):
        os.dup2(fd, number)
    posix.environ.clear()
    posix.environ.update({os.fsencode(key): os.fsencode(value) for key, value in environ.items()})
    journal.before = _breaker(faults, files[3])
    return main(program, [], lambda: 2)


def _breaker(faults: Faults, said: int) -> Callable[[Any, str], None]:
    from cnibox.host.journal import HostError

    count = 0

    def before(_: object, say: str) -> None:
        nonlocal count
        count += 1
        os.write(said, say.encode() + b"\0")
        action = faults.get(count, "")
        if action == "fail":
            raise HostError(5, say, "a fault of the test's")
        if action.startswith("E"):
            raise HostError(getattr(errno, action), say)
        if action:
            os.kill(os.getpid(), {"kill": signal.SIGKILL, "term": signal.SIGTERM, "int": signal.SIGINT}[action])

    return before


_CHANGING = re.compile(r" \w+_timer +[\d.]+| valid_lft .*| counter packets \d+ bytes \d+|numtxqueues.*")


def pieces(inside: bool) -> Iterator[str]:
    containers = sorted(os.listdir("/run/netns"))
    show = b"addr show\nroute show table all\nrule show\n"
    running = [
        (name, subprocess.Popen(["ip", "-d", *words, "-batch", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        for name, words in [("", []), *((name, ["-n", name]) for name in containers)]
    ]
    rules = subprocess.Popen(["nft", "list", "ruleset"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    queues = subprocess.Popen(["sh", "-c", _QUEUES], stdout=subprocess.PIPE, text=True)
    if inside:
        script = 'for each in "$@"; do nsenter --net=/run/netns/$each nft list ruleset 2>&1 | sed "s/^/$each> /"; done'
        rules_inside = subprocess.Popen(["sh", "-c", script, "sh", *containers], stdout=subprocess.PIPE, text=True)
    for name, process in running:
        for line in _CHANGING.sub("", process.communicate(show)[0].decode()).splitlines():
            yield f"{name}> {line}"
        yield from (f"{name}> {line}" for line in _sysctls(name))
    yield from queues.communicate()[0].splitlines()
    ruleset = _CHANGING.sub("", rules.communicate()[0].decode())
    yield from re.findall(r"(?ms)^table .*?^}\n", ruleset)
    if inside:
        yield from rules_inside.communicate()[0].splitlines()
        yield from _wrong_indexes()
    for top in ("/run/cnibox", "/run/cni", "/var/lib/cni"):
        for folder, folders, files in os.walk(top):
            yield from (f"{folder}/{name} d {os.stat(f'{folder}/{name}').st_mode:o}" for name in folders)
            yield from (f"{folder}/{name} f {Path(folder, name).read_text()!r}" for name in files)
    yield from ["/run/cnibox d "] if os.path.isdir("/run/cnibox") else []


def _wrong_indexes() -> Iterator[str]:
    """What indexes of leases say that are believed (cnibox/wiring/leases/index.py), and is not true."""
    for index in Path("/var/lib/cni/networks").glob(".*.index"):
        folder = index.with_name(index.name[1 : -len(".index")])
        header, _, lines = index.read_text().partition("\n")
        if not header.strip("\0 "):
            continue
        assert header.startswith("cnibox-leases 1 "), header
        if os.stat(folder).st_mtime_ns != int(header.split()[3]):
            continue
        said = {line.rstrip() for line in lines.splitlines() if line[0] != "#"}
        leases = [path for path in folder.iterdir() if path.name[0] in "0123456789abcdef" and path.name != "lock"]
        true = {f"{path.name} {' '.join(path.read_text().split())}" for path in leases}
        yield from (f"index {folder.name} says: {line}" for line in said - true)
        yield from (f"index {folder.name} lacks: {line}" for line in true - said)


_QUEUES = """
tc qdisc show | grep -v ' noqueue '
for dev in $(tc qdisc show | sed -n 's/^qdisc ingress .* dev \\([^ ]*\\) .*/\\1/p'); do
    tc filter show dev $dev ingress | sed "s/^/$dev: /"
done
"""
_settings: dict[str, list[str]] = {}


def _read(path: str) -> str:
    """Quicker than Path.read_text: there are a thousand of them in a snapshot."""
    fd = os.open(path, os.O_RDONLY)
    text = os.read(fd, 4096).decode().strip()
    os.close(fd)
    return text


def _sysctls(container: str) -> list[str]:
    """Every setting of every interface, and forwarding, of the machine or of a container."""
    from cnibox.host.setns import setns

    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    if container:
        fd = os.open(f"/run/netns/{container}", os.O_RDONLY)
        setns(fd, "entering")
        os.close(fd)
    found = [f"{key} = " + _read(f"/proc/sys/net/{key}") for key in ("ipv4/ip_forward", "core/somaxconn")]
    for version in ("ipv4", "ipv6"):
        top = f"/proc/sys/net/{version}/conf"
        if version not in _settings:
            _settings[version] = [key for key in os.listdir(f"{top}/all") if key != "stable_secret"]
        for name in os.listdir(top):
            values = [f"{key}={_read(f'{top}/{name}/{key}')}" for key in _settings[version]]
            found.append(f"{version} {name} {' '.join(values)}")
    setns(own, "going back")
    os.close(own)
    return found


if __name__ == "__main__":
    serve()
