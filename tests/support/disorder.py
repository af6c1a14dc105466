"""Many containers at once under random disturbance: a program that runs on a test's machine.

It is told {"farm", "seed", "seconds", "workers"} as JSON, and tells what it counted and what was wrong: each violation
with the sequence of operations of the containers that it is about.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import re
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

from tests.support.faulty import EXPECTED, _pieces

GO = "/usr/lib/cni"
HOST, NETNS = "192.0.2.1", "/run/netns"
SETUP = f"""
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv6.conf.default.accept_dad=0
for each in outside lan; do
    ip netns add $each; ip link add $each type veth peer name eth0 netns $each; ip link set $each up
    ip -n $each link set eth0 up
done
ip address add {HOST}/24 dev outside; ip -n outside address add 192.0.2.2/24 dev eth0
ip -n outside route add default via {HOST}; ip -n lan address add 10.9.4.254/24 dev eth0
ip -n lan address add 10.9.7.254/24 dev eth0; sleep 1
"""
FLUSHES = ("nft flush ruleset", "iptables -t nat -F; iptables -F", "ip6tables -t nat -F", "nft delete table inet cni_plugins_masquerade")


def chains() -> list[list[dict[str, Any]]]:
    """The networks: bridge, ptp and macvlan, one and two IP versions, one whose range is full, and what comes after them."""
    nft = {"ipMasqBackend": "nftables"}
    port, wall, tuning = {"type": "portmap"}, {"type": "firewall"}, {"type": "tuning", "mtu": 1400}
    band = {"type": "bandwidth", "ingressRate": 10**9, "ingressBurst": 10**8, "egressRate": 10**9, "egressBurst": 10**8}
    found = []
    for number, (both, first, *rest) in enumerate([
        (False, {"type": "bridge", "ipMasq": True}, port, wall),
        (True, {"type": "bridge", "ipMasq": True, **nft}, port | {"backend": "nftables"}, wall | {"backend": "nftables", "ingressPolicy": "isolated"}, tuning),
        (False, {"type": "ptp", "ipMasq": True}, port, band),
        (True, {"type": "ptp", "ipMasq": True, **nft}, port | {"backend": "nftables"}, tuning),
        (False, {"type": "macvlan", "master": "lan"}, tuning),
        (False, {"type": "bridge"}, wall | {"ingressPolicy": "same-bridge"}),
        (True, {"type": "bridge", "ipMasq": True, "macspoofchk": True}, port, band, {"type": "sbr"}),
        (True, {"type": "macvlan", "master": "lan"}, {"type": "sbr"}),
    ]):  # fmt: skip
        if first["type"] == "bridge":
            first |= {"bridge": f"br{number}", "isGateway": True}
        ranges = [[{"subnet": f"10.9.{number}.0/{29 if number == 5 else 24}"}]]
        ranges += [[{"subnet": f"fd00:9:{number}::/64"}]] * both
        routes = [{"dst": "0.0.0.0/0"}] + [{"dst": "::/0"}] * both
        first["ipam"] = {"type": "host-local", "ranges": ranges, "routes": routes}
        found.append([{"cniVersion": "1.1.0", "name": f"net{number}", **each} for each in (first, *rest)])
    return found


GO_KNOWS = (0, 2, 4, 5, 6)
"""The networks whose options Debian's Go plugins have."""


class Container:
    def __init__(self, name: str, network: int, go: bool, port: int) -> None:
        self.name, self.network, self.go, self.port = name, network, go, port
        self.chain = [dict(each) for each in chains()[network]]
        for each in self.chain:
            if go or network in GO_KNOWS:
                each["cniVersion"] = "1.0.0"
            if each["type"] == "portmap":
                mappings = [{"hostPort": port, "containerPort": 80, "protocol": "tcp"}]
                each["runtimeConfig"] = {"portMappings": mappings}
        self.has_port = any("runtimeConfig" in each for each in self.chain)
        self.result: Any = None
        self.whole = False
        self.flushes = 0
        """How many there had been before its ADD."""
        self.server: socket.socket | None = None

    @property
    def addresses(self) -> list[str]:
        return [each["address"].partition("/")[0] for each in (self.result or {}).get("ips", ())]


class Disorder:
    def __init__(self, farm: str, seed: int, seconds: float, workers: int) -> None:
        self.farm, self.seed, self.workers = farm, seed, workers
        self.end = time.monotonic() + seconds
        self.lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.violations: list[dict[str, Any]] = []
        self.log: dict[str, list[str]] = defaultdict(list)
        """Container -> its operations and how they ended."""
        self.had: dict[str, set[str]] = defaultdict(set)
        """Address -> the containers that ever had it."""
        self.has: dict[str, str] = {}
        self.wanted: dict[int, set[str]] = defaultdict(set)
        """Host port -> the containers that may have it, from before their ADD until after their DEL."""
        self.gaps = [0, 0]
        """How many flushes there were, and how many are repaired."""
        self.begun = time.monotonic()
        self.selector = selectors.DefaultSelector()
        self.libc = ctypes.CDLL(None, use_errno=True)

    # --- what is wrong

    def violation(self, words: str, *names: str) -> None:
        with self.lock:
            sequence = sorted({line for name in names[:3] for line in self.log[name][-14:]})
            sequence += [f"{line} (beside)" for line in self.log["host"][-3:]]
            self.violations.append({"words": words[:400], "sequence": sequence})

    def note(self, name: str, words: str) -> None:
        self.log[name].append(f"{time.monotonic() - self.begun:8.3f} {name} {words}")

    # --- operations

    def plugin(self, box: Container, config: dict[str, Any], verb: str, *, go: bool = False, kill: float = 0,
               netns: bool = True) -> tuple[int, Any]:  # fmt: skip
        """Exit status and what was said; `kill`: after so many seconds."""
        environ = {"CNI_COMMAND": verb, "CNI_CONTAINERID": box.name, "CNI_IFNAME": "eth0", "PATH": os.environ["PATH"],
                   "CNI_NETNS": f"{NETNS}/{box.name}" if netns else "", "CNI_PATH": GO if go else self.farm}  # fmt: skip
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen([f"{environ['CNI_PATH']}/{config['type']}"], env=environ, text=True, **pipes)  # type: ignore[call-overload]
        who = f"{'Go ' * go}{verb} {config['type']}{'' if netns else ' without namespace'}"
        if kill:
            threading.Timer(kill, process.kill).start()
        try:
            stdout, stderr = process.communicate(json.dumps(config), 30)
        except subprocess.TimeoutExpired:
            process.kill()
            stdout, stderr = process.communicate()
            self.violation(f"{who} hangs", box.name)
        status = process.returncode
        self.note(box.name, f"{who}: {status} {' '.join(stdout.split())[:160] if status else ''}{' (killed)' * (status == -9)}")
        with self.lock:
            self.counts[f"{verb}{' by Go' * go}"] += 1
            self.counts["killed"] += status == -9
        try:
            said = json.loads(stdout) if stdout else {}
        except ValueError:
            said = {"no JSON": stdout}
        proper = (not stderr and ("msg" in said if status else bool(said) == (verb == "ADD"))) or status == -9
        if not go and not proper:
            self.violation(f"{who}: exit {status}, stdout {stdout!r}, stderr {stderr[-200:]!r}", box.name)
        return status, said

    def add(self, box: Container, rng: random.Random) -> None:
        subprocess.run(["ip", "netns", "add", box.name], check=True)
        self.inside(box.name, lambda: open("/proc/sys/net/ipv6/conf/default/accept_dad", "w").write("0"))
        with self.lock:
            if box.has_port:
                self.wanted[box.port].add(box.name)
        gaps = self.gaps[0]
        killed = rng.randrange(len(box.chain)) if rng.random() < 0.12 and not box.go else -1
        for number, config in enumerate(box.chain):
            if box.result is not None:
                config["prevResult"] = box.result
            with self.lock:
                rivals = self.wanted[box.port] - {box.name}
            kill = rng.uniform(0.005, 0.06) if number == killed else 0
            status, said = self.plugin(box, config, "ADD", go=box.go, kill=kill)
            if status:
                full = "no IP addresses available" in said.get("msg", "") and box.network == 5
                with self.lock:
                    rivals |= self.wanted[box.port] - {box.name}
                taken = "taken" in said.get("msg", "") and rivals
                if not (box.go or full or taken or status == -9):
                    self.violation(f"ADD fails: {said}", box.name, *rivals)
                return
            box.result = said
            with self.lock:
                for address in box.addresses if number == 0 else ():
                    if address in self.has:
                        self.violations.append({"words": f"{address} given twice", "sequence": self.log[box.name] + self.log[self.has[address]]})
                    self.has[address] = box.name
                    self.had[address].add(box.name)
        box.whole, box.flushes = True, gaps
        box.server = self.inside(box.name, _listening)
        self.selector.register(box.server, selectors.EVENT_READ, box.name)

    def check(self, box: Container) -> None:
        gaps = list(self.gaps)
        for config in box.chain:
            status, said = self.plugin(box, {**config, "prevResult": box.result}, "CHECK")
            # Debian's Go plugins make other rules than ours in places: their CHECK is not ours.
            if status and not box.go and gaps[0] == gaps[1] == self.gaps[0]:
                self.violation(f"CHECK of {config['type']} fails: {said}", box.name)

    def probe(self, box: Container) -> None:
        """Real packets to the container's address, and to its published port from outside."""
        macvlan = box.chain[0]["type"] == "macvlan"
        if box.go:  # it announces no address: neighbours go on with the former owner's MAC
            self.inside("lan" if macvlan else "", lambda: subprocess.run(["ip", "neigh", "flush", "all"]))
        for where, address, port in (
            *(("lan" if macvlan else "", each, 80) for each in box.addresses[: 1 if macvlan else 2]),
            *((("outside", HOST, box.port),) if box.has_port else ()),
        ):
            gaps = list(self.gaps)
            answer = self.inside(where, lambda address=address, port=port: _ask(address, port))
            with self.lock:
                self.counts["probes"] += 1
                others = self.wanted[box.port] - {box.name} if where == "outside" else set()
            unrepaired = box.go and box.flushes != self.gaps[0]  # of what Go made there is no record
            if answer != box.name and gaps[0] == gaps[1] == self.gaps[0] and not unrepaired:
                self.note(box.name, f"probe of {address}:{port}: {answer!r}")
                self.violation(f"{address}:{port} of {box.name} answers {answer!r}", box.name, answer, *others)

    def delete(self, box: Container, rng: random.Random) -> None:
        if box.server is not None:
            self.selector.unregister(box.server)
            box.server.close()
        with self.lock:
            for address in box.addresses:
                self.has.pop(address, None)
        kinds = ["plain", "gone", "twice", "no result", "no namespace", "killed", *(["Go", "Go"] if box.network in GO_KNOWS else [])]
        how = rng.choice(kinds) if box.whole else rng.choice(["plain", "gone", "no namespace"])
        self.note(box.name, f"DEL, {how}")
        if how == "gone":
            subprocess.run(["ip", "netns", "delete", box.name], check=True)
        if how in ("twice", "Go", "killed"):
            for config in reversed(box.chain):
                kill = rng.uniform(0.005, 0.04) if how == "killed" else 0
                self.plugin(box, {**config, "prevResult": box.result}, "DEL", go=how == "Go", kill=kill)
        for config in reversed(box.chain):
            config.pop("prevResult", None)
            # What a Go plugin made is on no record: for its DEL the result is needed, and the namespace.
            if box.result is not None and (box.go or how not in ("no result", "no namespace")):
                config["prevResult"] = box.result
            status, said = self.plugin(box, config, "DEL", netns=how != "no namespace" or box.go)
            if status:
                self.violation(f"DEL fails: {said}", box.name)
        if how != "gone":
            subprocess.run(["ip", "netns", "delete", box.name], check=True)
        with self.lock:
            self.wanted[box.port].discard(box.name)
            self.counts["containers"] += 1

    # --- who does them

    def work(self, worker: int) -> None:
        rng = random.Random(f"{self.seed} {worker}")
        mine: list[Container] = []
        number = 0
        while time.monotonic() < self.end:
            if len(mine) < 2 or (len(mine) < 5 and rng.random() < 0.3):
                number += 1
                mine.append(self._new(f"w{worker}n{number}", rng))
            box = rng.choice(mine)
            if box.whole and rng.random() < 0.6:
                rng.choice([self.check, self.probe, self.probe])(box)
                continue
            mine.remove(box)
            self.delete(box, rng)
            if rng.random() < 0.4:  # a restart: the same ID again
                mine.append(self._new(box.name, rng))
        for box in mine:
            self.delete(box, rng)

    def _new(self, name: str, rng: random.Random) -> Container:
        network = rng.randrange(len(chains()))
        go = network in GO_KNOWS and rng.random() < 0.25
        port = rng.randrange(20000, 60000) if go else rng.randrange(8000, 8012)
        box = Container(name, network, go, port)
        self.note(name, f"network {network}, port {port}")
        self.add(box, rng)
        return box

    def disturb(self) -> None:
        rng = random.Random(f"{self.seed} disturbance")
        while time.monotonic() < self.end:
            time.sleep(rng.uniform(0.0, 0.5))
            what = rng.choices(["repair", "flush", "install"], [8, 2, 1])[0]
            if what == "flush":
                self.gaps[0] += 1
                words = rng.choice(FLUSHES)
                subprocess.run(["sh", "-c", words], stderr=subprocess.DEVNULL)
                self.note("host", words)
            words = ["install", self.farm, "--force", "--python", "/usr/bin/python3"] if what == "install" else ["repair"]
            ended = subprocess.run([f"{self.farm}/cnibox", *words], capture_output=True, text=True)
            if what == "flush":
                self.gaps[1] += 1
            with self.lock:
                self.counts[what] += 1
            self.note("host", f"{what}: {ended.returncode} {' '.join(ended.stdout.split())[:300]}")
            if ended.returncode:
                names = re.findall(r"w\d+n\d+", ended.stderr)
                self.violation(f"{what}: exit {ended.returncode}: {ended.stderr}", *names)

    def answer(self) -> None:
        """The servers of all containers: they say the container's name."""
        while True:
            for key, _ in self.selector.select(0.02):
                try:
                    connection = key.fileobj.accept()[0]  # type: ignore[union-attr]
                    connection.sendall(key.data.encode())
                    connection.close()
                except OSError:
                    pass

    def inside(self, name: str, do: Callable[[], Any]) -> Any:
        """Do it in a namespace; a socket stays where it was made."""
        own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        fd = os.open(f"{NETNS}/{name}", os.O_RDONLY) if name else os.dup(own)
        try:
            assert self.libc.setns(fd, 0) == 0
            return do()
        finally:
            self.libc.setns(own, 0)
            os.close(fd)
            os.close(own)

    # --- all

    def every_network(self) -> None:
        """ADD and DEL in each, which make what stays for all."""
        rng = random.Random(0)
        for number in range(len(chains())):
            box = Container(f"first{number}", number, False, 7000)
            while not box.whole:
                self.add(box, random.Random(7))  # not killed
            self.delete(box, rng)

    def left(self, before: list[str]) -> None:
        for line in _state():
            if line not in before:
                names = set(re.findall(r"w\d+n\d+", line))
                names |= {name for address in re.findall(r"10\.9\.\d+\.\d+|fd00:9:[\da-f:]+", line) for name in self.had[address]}
                self.violation(f"left: {line}", *sorted(names))

    def run(self) -> dict[str, Any]:
        subprocess.run(["sh", "-ec", SETUP], check=True)
        threading.Thread(target=self.answer, daemon=True).start()
        self.every_network()
        before = _state()
        threads = [threading.Thread(target=self.work, args=(number,)) for number in range(self.workers)]
        threads.append(threading.Thread(target=self.disturb))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.every_network()
        time.sleep(0.5)
        self.left(before)
        return {"counts": dict(self.counts), "violations": self.violations}


def _listening() -> socket.socket:
    server = socket.create_server(("", 80), family=socket.AF_INET6, dualstack_ipv6=True)
    server.setblocking(False)
    return server


def _ask(address: str, port: int) -> str:
    try:
        with socket.create_connection((address, port), 3) as connection:
            return connection.recv(100).decode()
    except OSError as error:
        return str(error)


def _state() -> list[str]:
    """The machine's, in lines, without what stays by intention."""
    pieces = [re.sub(pattern, "", piece) for piece in _pieces(inside=False) for pattern, _ in (EXPECTED[-1],)]
    own = r"<\S*,\S*>|\bstate \w+| linkdown|(?<=@)if\d+| link-netns.*"
    found = [re.sub(own, "", line) for piece in pieces for line in piece.splitlines()]
    return [line for line in found if line.strip() and not any(re.match(pattern, line) for pattern, _ in EXPECTED)]


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    signal.alarm(int(asked["seconds"]) + 300)
    assert shutil.which("nft")
    print(json.dumps(Disorder(**asked).run()))
