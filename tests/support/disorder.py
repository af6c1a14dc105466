"""Many containers at once under random disturbance: a program that runs on a test's machine.

It is told {"farm", "seed", "seconds", "workers"} as JSON, and tells what it counted and what was wrong: each violation
with the last operations of the containers that it is about.
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import re
import selectors
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from tests.support.faulty import EXPECTED, pieces
from tests.support.packets import PYTHON

GO, NETNS, HOST = "/usr/lib/cni", "/run/netns", "192.0.2.1"
SETUP = f"""
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv6.conf.default.accept_dad=0
for each in outside lan; do
    ip netns add $each; ip link add $each type veth peer name eth0 netns $each; ip link set $each up
    ip -n $each link set eth0 up
done
ip address add {HOST}/24 dev outside; ip -n outside address add 192.0.2.2/24 dev eth0
ip -n outside route add default via {HOST}
for each in 4 7; do ip -n lan address add 10.9.$each.254/24 dev eth0; done
"""
NFT = {"backend": "nftables"}
MASQ, MASQ_NFT = {"ipMasq": True}, {"ipMasq": True, "ipMasqBackend": "nftables"}
PORTS, WALL, TUNING, SBR = {"type": "portmap"}, {"type": "firewall"}, {"type": "tuning", "mtu": 1400}, {"type": "sbr"}
BAND = {"type": "bandwidth", "ingressRate": 10**9, "ingressBurst": 10**8, "egressRate": 10**9, "egressBurst": 10**8}
BRIDGE, PTP, MACVLAN = {"type": "bridge", "isGateway": True}, {"type": "ptp"}, {"type": "macvlan", "master": "lan"}
NETWORKS: list[list[dict[str, Any]]] = [
    [BRIDGE | MASQ, PORTS, WALL],
    [BRIDGE | MASQ_NFT, PORTS | NFT, WALL | NFT | {"ingressPolicy": "isolated"}, TUNING],
    [PTP | MASQ, PORTS, BAND],
    [PTP | MASQ_NFT, PORTS | NFT, TUNING],
    [MACVLAN, TUNING],
    [BRIDGE, WALL | {"ingressPolicy": "same-bridge"}],
    [BRIDGE | MASQ | {"macspoofchk": True}, PORTS, BAND, SBR],
    [MACVLAN, SBR],
]
"""The chains of plugins."""
FULL = 5
"""The network that has five addresses."""
DUAL = (1, 3, 6, 7)
GO_KNOWS = (0, 2, 4, 5, 6)
"""The networks whose options Debian's Go plugins have."""
FLUSHES = (
    "nft flush ruleset",
    "iptables -t nat -F; iptables -F",
    "ip6tables -t nat -F",
    "nft delete table inet cni_plugins_masquerade",
)


class Container:
    def __init__(self, name: str, network: int, port: int, go: bool = False) -> None:
        self.name, self.network, self.port, self.go = name, network, port, go
        ranges = [[{"subnet": f"10.9.{network}.0/{29 if network == FULL else 24}"}]]
        ranges += [[{"subnet": f"fd00:9:{network}::/64"}]] * (network in DUAL)
        routes = [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}][: len(ranges)]
        version = "1.0.0" if network in GO_KNOWS else "1.1.0"
        self.chain = [{"cniVersion": version, "name": f"net{network}", **each} for each in NETWORKS[network]]
        self.chain[0] |= {"ipam": {"type": "host-local", "ranges": ranges, "routes": routes}}
        if self.chain[0]["type"] == "bridge":
            self.chain[0]["bridge"] = f"br{network}"
        self.has_port = self.chain[1]["type"] == "portmap"
        if self.has_port:
            mappings = [{"hostPort": port, "containerPort": 80, "protocol": "tcp"}]
            self.chain[1]["runtimeConfig"] = {"portMappings": mappings}
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
        self.begun = time.monotonic()
        self.end = self.begun + seconds
        self.lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.violations: list[dict[str, Any]] = []
        self.log: dict[str, list[str]] = defaultdict(list)
        """Container, or "host" -> its operations and how they ended."""
        self.has: dict[str, str] = {}
        """Address -> the container that has it."""
        self.had: dict[str, set[str]] = defaultdict(set)
        self.wanted: dict[int, set[str]] = defaultdict(set)
        """Host port -> the containers that may have it, from before their ADD until after their DEL."""
        self.flushed = self.mended = 0
        self.calm = threading.Lock()
        """Held while rules are missing, and by Go's firewall, which would put its jump in front of what repair puts back."""
        self.selector = selectors.DefaultSelector()
        self.libc = ctypes.CDLL(None)

    def violation(self, words: str, *names: str) -> None:
        sequence = sorted({line for name in names[:3] for line in self.log[name][-14:]})
        sequence += [f"{line} (beside)" for line in self.log["host"][-3:]]
        self.violations.append({"words": words[:400], "sequence": sequence})

    def note(self, name: str, words: str) -> None:
        self.log[name].append(f"{time.monotonic() - self.begun:8.3f} {name} {words}")

    def undisturbed(self, flushed: int) -> bool:
        """Whether no flush was without its repair since `flushed` was asked for."""
        return flushed == self.mended == self.flushed

    # --- operations

    def plugin(
        self, box: Container, config: Any, verb: str, *, go: bool = False, kill: float = 0, netns: bool = True
    ) -> tuple[int, Any]:
        """Exit status and what was said; `kill`: after so many seconds."""
        environ = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": box.name,
            "CNI_NETNS": f"{NETNS}/{box.name}" if netns else "",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": GO if go else self.farm,
            "PATH": os.environ["PATH"],
        }
        who = f"{'Go ' * go}{verb} {config['type']}{'' if netns else ' without namespace'}"
        words = ["timeout", "--foreground", "--signal=KILL", str(kill or 30), f"{environ['CNI_PATH']}/{config['type']}"]
        with self.calm if go and config["type"] == "firewall" else nullcontext():
            ended = subprocess.run(words, input=json.dumps(config), env=environ, capture_output=True, text=True)
        status, stdout, killed = ended.returncode, ended.stdout, ended.returncode in (-9, 137)
        outcome = "killed" if killed else f"{status} {' '.join(stdout.split())[:160] if status else ''}"
        self.note(box.name, f"{who}: {outcome}")
        with self.lock:
            self.counts.update([f"{'Go ' * go}{verb}", *["killed"] * killed])
        try:
            said = json.loads(stdout) if stdout else {}
            proper = not ended.stderr and ("msg" in said if status else bool(said) == (verb == "ADD"))
        except ValueError:
            said, proper = {}, False
        if not (go or proper or (killed and kill)):
            self.violation(f"{who}: exit {status}, stdout {stdout!r}, stderr {ended.stderr[-200:]!r}", box.name)
        return status, said

    def add(self, box: Container, rng: random.Random | None) -> None:
        """`rng` decides whether a plugin is killed."""
        subprocess.run(["ip", "netns", "add", box.name], check=True)
        self.inside(box.name, lambda: open("/proc/sys/net/ipv6/conf/default/accept_dad", "w").write("0"))
        if box.has_port:
            self.wanted[box.port].add(box.name)
        box.flushes = self.flushed
        killed = rng.randrange(len(box.chain)) if rng and rng.random() < 0.12 and not box.go else -1
        for number, config in enumerate(box.chain):
            if box.result is not None:
                config["prevResult"] = box.result
            rivals = self.wanted[box.port] - {box.name}
            kill = rng.uniform(0.005, 0.06) if rng and number == killed else 0
            status, said = self.plugin(box, config, "ADD", go=box.go, kill=kill)
            if status:
                full = box.network == FULL and "no IP addresses available" in said.get("msg", "")
                taken = "taken" in said.get("msg", "") and rivals | self.wanted[box.port] - {box.name}
                if not (box.go or kill or full or taken):
                    self.violation(f"ADD fails: {said}", box.name)
                return
            box.result = said
            for address in box.addresses if number == 0 else ():
                with self.lock:
                    holder = self.has.get(address)
                    self.has[address] = box.name
                    self.had[address].add(box.name)
                if holder:
                    self.violation(f"{address} is given twice", box.name, holder)
        box.whole = True
        server = socket.create_server
        box.server = self.inside(box.name, lambda: server(("", 80), family=socket.AF_INET6, dualstack_ipv6=True))
        self.selector.register(box.server, selectors.EVENT_READ, box.name)

    def check(self, box: Container) -> None:
        flushed = self.flushed
        for config in box.chain:
            status, said = self.plugin(box, {**config, "prevResult": box.result}, "CHECK")
            # Debian's Go plugins make other rules than ours in places.
            if status and not box.go and self.undisturbed(flushed):
                self.violation(f"CHECK of {config['type']} fails: {said}", box.name)

    def probe(self, box: Container) -> None:
        """Real packets to the container's addresses, and from outside to its published port."""
        near = "lan" if box.chain[0]["type"] == "macvlan" else ""
        if box.go:  # it announces no address: neighbours go on with the former owner's MAC
            self.inside(near, lambda: subprocess.run(["ip", "neigh", "flush", "all"]))
        for where, address, port in (
            *((near, each, 80) for each in box.addresses[: 1 if near else 2]),
            *((("outside", HOST, box.port),) if box.has_port else ()),
        ):
            flushed = self.flushed
            answer = self.inside(where, lambda address=address, port=port: _ask(address, port))
            self.counts["probes"] += 1
            unrepaired = box.go and box.flushes != self.flushed  # of what Go made there is no record
            if answer != box.name and self.undisturbed(flushed) and not unrepaired:
                self.note(box.name, f"probe of {address}:{port}: {answer!r}")
                rivals = self.wanted[box.port] - {box.name} if where == "outside" else ()
                self.violation(f"{address}:{port} of {box.name} answers {answer!r}", box.name, answer, *rivals)

    def delete(self, box: Container, rng: random.Random) -> None:
        if box.server is not None:
            self.selector.unregister(box.server)
            box.server.close()
        for address in box.addresses:
            self.has.pop(address, None)
        kinds = ["plain", "gone", "no namespace"]
        if box.whole:
            kinds += ["twice", "no result", "killed", *["Go", "Go"] * (box.network in GO_KNOWS)]
        how = rng.choice(kinds)
        self.note(box.name, f"DEL, {how}")
        if how == "gone":
            subprocess.run(["ip", "netns", "delete", box.name], check=True)
        for config in reversed(box.chain) if how in ("twice", "Go", "killed") else ():
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
                mine.append(self.start(f"w{worker}n{number}", rng))
            box = rng.choice(mine)
            if box.whole and rng.random() < 0.6:
                rng.choice([self.check, self.probe, self.probe])(box)
                continue
            mine.remove(box)
            self.delete(box, rng)
            if rng.random() < 0.4:  # a restart: the same ID again
                mine.append(self.start(box.name, rng))
        for box in mine:
            self.delete(box, rng)

    def start(self, name: str, rng: random.Random) -> Container:
        network = rng.randrange(len(NETWORKS))
        go = network in GO_KNOWS and rng.random() < 0.25
        box = Container(name, network, rng.randrange(20000, 60000) if go else rng.randrange(8000, 8012), go)
        self.note(name, f"network {network}, port {box.port}")
        self.add(box, rng)
        return box

    def disturb(self) -> None:
        rng = random.Random(f"{self.seed} disturbance")
        while time.monotonic() < self.end:
            time.sleep(rng.uniform(0.0, 0.5))
            what = rng.choices(["repair", "flush", "install"], [8, 2, 1])[0]
            self.counts[what] += 1
            if what != "flush":
                self.cnibox(*(["install", self.farm, "--force", "--python", PYTHON] if what == "install" else ["repair"]))
                continue
            with self.calm:
                self.flushed += 1
                flush = rng.choice(FLUSHES)
                subprocess.run(["sh", "-c", flush], stderr=subprocess.DEVNULL)
                self.note("host", flush)
                self.cnibox("repair")
                self.mended += 1

    def cnibox(self, verb: str, *arguments: str) -> None:
        words = [f"{self.farm}/cnibox", verb, *arguments]
        ended = subprocess.run(words, capture_output=True, text=True)
        self.note("host", f"{verb}: {ended.returncode} {' '.join(ended.stdout.split())[:300]}")
        if ended.returncode:
            self.violation(f"{verb} fails: {ended.stderr}", *re.findall(r"w\d+n\d+", ended.stderr))

    def answer(self) -> None:
        """The servers of all containers: they say the container's name."""
        while True:
            for key, _ in self.selector.select(0.02):
                try:
                    with key.fileobj.accept()[0] as connection:  # type: ignore[union-attr]
                        connection.sendall(key.data.encode())
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
        for number in range(len(NETWORKS)):
            box = Container(f"first{number}", number, 7000)
            self.add(box, None)
            self.delete(box, random.Random(0))

    def run(self) -> dict[str, Any]:
        subprocess.run(["sh", "-ec", SETUP], check=True)
        threading.excepthook = lambda broken: self.violation(f"the test itself: {broken.exc_value!r}")
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
        for line in _state():
            if line not in before:
                names = set(re.findall(r"w\d+n\d+", line))
                for address in re.findall(r"10\.9\.\d+\.\d+|fd00:9:[\da-f:]+", line):
                    names |= self.had[address]
                self.violation(f"left: {line}", *sorted(names))
        return {"counts": dict(self.counts), "violations": self.violations}


def _ask(address: str, port: int) -> str:
    try:
        with socket.create_connection((address, port), 3) as connection:
            return connection.recv(100).decode()
    except OSError as error:
        return str(error)


def _state() -> list[str]:
    """The machine's, in lines, without what is EXPECTED to stay."""
    own = r"(?m)^(index \d+|\d+): |<\S*,\S*>|\bstate \w+| linkdown|(?<=@)if\d+| link-netns.*"
    found: list[str] = []
    for piece in pieces(inside=False):
        for pattern, _reason in EXPECTED:
            piece = re.sub(pattern, "", piece)
        found += re.sub(own, "", piece).splitlines()
    return [line for line in found if line.strip()]


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    signal.alarm(int(asked["seconds"]) + 300)
    print(json.dumps(Disorder(**asked).run()))
