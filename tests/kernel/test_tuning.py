"""tuning: sysctls and settings of the container's interface, changed and put back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.machine import Machine, Outcome
from tests.support.network import attach, layer2, state

MAC = "c2:11:22:33:44:55"
LINK = {"mac": MAC, "mtu": 1400, "promisc": True, "allmulti": True, "txQLen": 500}
SYSCTLS = {"net.core.somaxconn": "500", "net.ipv4.conf.IFNAME.arp_filter": "1"}
BACKUP = "/run/cni/tuning/c1_eth0.json"
ALLOWLIST = "/etc/cni/tuning/allowlist.conf"


def config(result: Any, **options: Any) -> dict[str, Any]:
    return {"cniVersion": "1.1.0", "name": "mynet", "type": "tuning", "prevResult": result, **options}


def run(machine: Machine, command: str, result: Any, environ: Any = None, **options: Any) -> Outcome:
    return machine.plugin("tuning", command, config(result, **options), **(environ or {}))


def tuned(machine: Machine, before: Any, environ: Any = None, **options: Any) -> Any:
    outcome = run(machine, "ADD", before, environ, **options)
    assert (outcome.status, outcome.stderr) == (0, ""), outcome
    return outcome.json


def link(machine: Machine, name: str = "eth0") -> dict[str, Any]:
    """The settings of the container's interface."""
    found = machine.ip("-n", "c1", "-d", "link", "show", name)[0]
    flags = {"promisc": "PROMISC" in found["flags"], "allmulti": "ALLMULTI" in found["flags"]}
    return {"mac": found["address"], "mtu": found["mtu"], "txQLen": found.get("txqlen", 0), **flags}


def sysctl(machine: Machine, key: str, value: str | None = None) -> str:
    words = ["sysctl", "-n", key] if value is None else ["sysctl", "-qw", f"{key}={value}"]
    return machine.run("ip", "netns", "exec", "c1", *words).strip()


def file(machine: Machine, path: str) -> Path:
    return Path(f"/proc/{machine.process.pid}/root{path}")


def allow(machine: Machine, *lines: str) -> None:
    """Write the list, into an /etc that is the machine's own."""
    machine.run("sh", "-ec", "mount -t tmpfs etc /etc && mkdir -p /etc/cni/tuning")
    file(machine, ALLOWLIST).write_text("\n".join(lines))


# --- ADD and DEL


def test_add_and_del(machine: Machine) -> None:
    before = attach(machine, layer2())
    untouched, former = state(machine), link(machine)
    result = tuned(machine, before, **LINK, sysctl=SYSCTLS)
    assert link(machine) == LINK
    assert (sysctl(machine, "net.core.somaxconn"), sysctl(machine, "net.ipv4.conf.eth0.arp_filter")) == ("500", "1")
    [interface] = [each for each in result["interfaces"] if each["name"] == "eth0"]
    assert (interface["mac"], interface["mtu"]) == (MAC, 1400)
    assert [each for each in result["interfaces"] if each is not interface] == before["interfaces"][:2]
    assert json.loads(file(machine, BACKUP).read_text()) == former
    assert run(machine, "CHECK", result, **LINK, sysctl=SYSCTLS).status == 0
    for _ in range(2):
        outcome = run(machine, "DEL", result, **LINK, sysctl=SYSCTLS)
        assert (outcome.status, outcome.stdout) == (0, ""), outcome
    assert link(machine) == former and state(machine) == untouched
    assert not file(machine, BACKUP).exists()


def test_form_of_the_backup(machine: Machine) -> None:
    """The reference's, with what is changed alone."""
    before = attach(machine, layer2())
    tuned(machine, before, mtu=1400, allmulti=True)
    path = file(machine, BACKUP)
    assert path.read_text() == '{\n "mtu": 1500,\n "allmulti": false\n}'
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


@pytest.mark.parametrize(
    "case", ["no netns", "no prevResult", "netns gone", "link gone", "wrong options", "garbled backup"]
)
def test_del(machine: Machine, case: str) -> None:
    before = attach(machine, layer2())
    former = link(machine)
    result = tuned(machine, before, **LINK, sysctl=SYSCTLS)
    options = {"mtu": "x", "sysctl": 5, "dataDir": 7} if case == "wrong options" else {**LINK, "sysctl": SYSCTLS}
    if case == "netns gone":
        machine.run("ip", "netns", "delete", "c1")
    if case == "link gone":
        machine.run("ip", "-n", "c1", "link", "delete", "eth0")
    if case == "garbled backup":
        file(machine, BACKUP).write_text('{"mac": 5, "mtu": ')
    environ = {"netns": ""} if case == "no netns" else {}
    outcome = run(machine, "DEL", None if case == "no prevResult" else result, environ, **options)
    assert outcome.status == 0, outcome
    assert not file(machine, BACKUP).exists()
    assert machine.run("find", "/run/cnibox/attachments", "-name", "*tuning") == ""
    if case not in ("netns gone", "link gone", "garbled backup"):
        assert link(machine) == former
    if case != "netns gone":
        assert sysctl(machine, "net.core.somaxconn") != "500"


def test_nothing_asked_for(machine: Machine) -> None:
    before = attach(machine, layer2())
    untouched = state(machine)
    for options in ({}, {"mtu": 0, "promisc": False, "mac": "", "sysctl": {}}, {"mtu": None, "allmulti": None}):
        assert tuned(machine, before, **options) == before
        assert run(machine, "CHECK", before, **options).status == 0
        assert run(machine, "DEL", before, **options).status == 0
    assert state(machine) == untouched


def test_repeated_add_keeps_the_first_backup(machine: Machine) -> None:
    before = attach(machine, layer2())
    former = link(machine)
    somaxconn = sysctl(machine, "net.core.somaxconn")
    tuned(machine, before, mtu=1400, sysctl={"net.core.somaxconn": "500"})
    tuned(machine, before, mtu=1300, mac=MAC, sysctl={"net/core/somaxconn": "600"})
    assert json.loads(file(machine, BACKUP).read_text()) == {"mac": former["mac"], "mtu": 1500}
    tuned(machine, before, sysctl={"net.ipv4.conf.eth0.arp_filter": "1"})
    assert run(machine, "DEL", before).status == 0
    assert link(machine) == former and sysctl(machine, "net.core.somaxconn") == somaxconn
    assert sysctl(machine, "net.ipv4.conf.eth0.arp_filter") == "0"
    assert not file(machine, BACKUP).exists()


def test_backup_of_an_interface_that_has_gone(machine: Machine) -> None:
    """A container of that name was there before, and its DEL never came."""
    tuned(machine, attach(machine, layer2()), mtu=1400, mac=MAC)
    machine.run("ip", "netns", "delete", "c1")
    before = attach(machine, layer2())
    former = link(machine)
    tuned(machine, before, mtu=1300)
    assert json.loads(file(machine, BACKUP).read_text()) == {"mtu": 1500}
    assert run(machine, "DEL", before).status == 0
    assert link(machine) == former


def test_failed_add_leaves_nothing(machine: Machine) -> None:
    """The kernel refuses the last of them; one after another is taken back."""
    before = attach(machine, layer2())
    untouched = state(machine)
    for options in (
        {**LINK, "sysctl": SYSCTLS, "mtu": 70000},
        {**LINK, "mac": "ff:ff:ff:ff:ff:ff", "sysctl": SYSCTLS},
        {**LINK, "sysctl": {**SYSCTLS, "net.ipv4.tcp_fin_timeout": "nonsense"}},
    ):
        outcome = run(machine, "ADD", before, **options)
        assert outcome.code == 999, outcome
        assert state(machine) == untouched
    tuned(machine, before, mtu=1450)
    standing = state(machine)
    assert run(machine, "ADD", before, **{**LINK, "mtu": 70000}).status == 1
    assert state(machine) == standing


# --- options


@pytest.mark.parametrize(
    ("options", "environ", "expected"),
    [
        ({"mac": "c2-11-22-33-44-AA"}, {}, "c2:11:22:33:44:aa"),
        ({"mac": "02:00:00:00:00:01"}, {"CNI_ARGS": f"MAC={MAC}"}, MAC),
        ({"runtimeConfig": {"mac": MAC}}, {"CNI_ARGS": "MAC=02:00:00:00:00:01"}, MAC),
        ({"args": {"cni": {"mac": MAC}}, "runtimeConfig": {"mac": "02:00:00:00:00:01"}}, {}, MAC),
    ],
)
def test_mac(machine: Machine, options: Any, environ: Any, expected: str) -> None:
    result = tuned(machine, attach(machine, layer2()), environ, **options)
    assert link(machine)["mac"] == result["interfaces"][-1]["mac"] == expected
    assert run(machine, "CHECK", result, environ, **options).status == 0


def test_args_override(machine: Machine) -> None:
    """Sysctls key by key, whatever their spelling; also without any in the configuration, which the reference dies of."""
    before = attach(machine, layer2())
    first = {"net.core.somaxconn": "500", "net.ipv4.tcp_fin_timeout": "50"}
    args = {
        "cni": {
            "mtu": 1300,
            "promisc": False,
            "allmulti": False,
            "txQLen": 400,
            "sysctl": {"net/core/somaxconn": "600"},
        }
    }
    tuned(machine, before, **LINK, sysctl=first, args=args)
    assert link(machine) == {**LINK, "mtu": 1300, "promisc": False, "allmulti": False, "txQLen": 400}
    assert (sysctl(machine, "net.core.somaxconn"), sysctl(machine, "net.ipv4.tcp_fin_timeout")) == ("600", "50")
    tuned(machine, before, args={"cni": {"sysctl": {"net.core.somaxconn": "700"}}})
    assert sysctl(machine, "net.core.somaxconn") == "700"


def test_interface_with_dots(machine: Machine) -> None:
    """The first IFNAME is replaced, and what is in the interface's name stays."""
    machine.container("c1")
    eth = {"ifname": "eth.5.IFNAME"}
    before = machine.plugin("bridge", "ADD", layer2(), **eth).json
    tuned(machine, before, eth, sysctl={"net.ipv4/conf.IFNAME.arp_filter": "1"}, mtu=1400)
    path = "/proc/sys/net/ipv4/conf/eth.5.IFNAME/arp_filter"
    assert machine.run("ip", "netns", "exec", "c1", "cat", path) == "1\n"
    assert run(machine, "DEL", before, eth).status == 0
    assert machine.run("ip", "netns", "exec", "c1", "cat", path) == "0\n"


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("kernel.hostname", "x", 'invalid net sysctl key: "kernel.hostname"'),
        ("net", "1", "invalid net sysctl key"),
        ("net/../kernel/hostname", "x", "no sysctl net.kernel.hostname"),
        ("../../etc/passwd", "x", "invalid net sysctl key"),
        ("/net/core/nonsense", "1", "there is no sysctl net.core.nonsense"),
        ("net.ipv4.conf.IFNAME", "1", "there is no sysctl net.ipv4.conf.eth0"),
        ("net.core.somaxconn\0", "1", "invalid net sysctl key"),
        ("net.core.somaxconn", "1\0", "invalid net sysctl key"),
        ("", "1", "invalid net sysctl key"),
    ],
)
def test_wrong_keys(machine: Machine, key: str, value: str, text: str) -> None:
    before = attach(machine, layer2())
    untouched = state(machine)
    outcome = run(machine, "ADD", before, sysctl={**SYSCTLS, key: value}, mtu=1400)
    assert outcome.code == 7 and text in outcome.json["msg"], outcome
    assert state(machine) == untouched


@pytest.mark.parametrize(
    "sysctls",
    [
        '{"net.core.somaxconn": "5", "net.core.somaxconn": "6"}',
        '{"net.core.somaxconn": "5", "net/core/somaxconn": "5"}',
        '{"net.ipv4.conf.IFNAME.arp_filter": "1", "net.ipv4.conf.eth0.arp_filter": "0"}',
    ],
)
@pytest.mark.parametrize("verb", ["ADD", "CHECK"])
def test_duplicate_keys(machine: Machine, verb: str, sysctls: str) -> None:
    before = attach(machine, layer2())
    text = json.dumps(config(before, sysctl="HERE")).replace('"HERE"', sysctls)
    outcome = machine.plugin("tuning", verb, text.encode())
    assert (outcome.code, outcome.json["msg"]) == (7, "duplicated sysctl keys are not allowed")


def test_sysctls_of_all_sorts(machine: Machine) -> None:
    """One that can only be written, one that cannot be read until it is set, one with spaces, one that is emptied."""
    before = attach(machine, layer2())
    sysctl(machine, "net.ipv4.ip_local_reserved_ports", "5000-5001")
    tcp_rmem = sysctl(machine, "net.ipv4.tcp_rmem")
    sysctls = {
        "net.ipv4.route.flush": "1",
        "net.ipv6.conf.IFNAME.stable_secret": "fd00::1",
        "net.ipv4.tcp_rmem": " 4096 131072  6291456",
        "net.ipv4.ip_local_reserved_ports": "",
    }
    result = tuned(machine, before, sysctl=sysctls)
    assert sysctl(machine, "net.ipv4.tcp_rmem").split() == ["4096", "131072", "6291456"]
    assert sysctl(machine, "net.ipv4.ip_local_reserved_ports") == ""
    checked = {key: value for key, value in sysctls.items() if "secret" not in key}
    assert run(machine, "CHECK", result, sysctl=checked).status == 0
    assert run(machine, "DEL", result, sysctl=sysctls).status == 0
    assert sysctl(machine, "net.ipv4.ip_local_reserved_ports") == "5000-5001"
    assert sysctl(machine, "net.ipv4.tcp_rmem") == tcp_rmem


@pytest.mark.parametrize("given", ["relative/path", "", None, "/run/other/place"])
def test_data_dir(machine: Machine, given: str | None) -> None:
    before = attach(machine, layer2())
    outcome = run(machine, "ADD", before, mtu=1400, dataDir=given)
    if given == "relative/path":
        assert outcome.code == 7 and '"dataDir"' in outcome.json["msg"]
        return
    assert outcome.status == 0, outcome
    path = file(machine, f"{given or '/run/cni/tuning'}/c1_eth0.json")
    assert path.exists()
    assert run(machine, "DEL", before, mtu=1400).status == 0  # what has become of the option does not matter
    assert not path.exists()


def test_symlink_in_the_backups_place(machine: Machine) -> None:
    before = attach(machine, layer2())
    script = f"mkdir -p /run/cni/tuning; echo precious > /run/target; ln -s /run/target {BACKUP}; ln -s /run/target {BACKUP}.new"
    machine.run("sh", "-ec", script)
    tuned(machine, before, mtu=1400)
    assert run(machine, "DEL", before, mtu=1400).status == 0
    assert machine.run("cat", "/run/target") == "precious\n"
    assert link(machine)["mtu"] == 1500


def test_without_what_it_needs(machine: Machine) -> None:
    before = attach(machine, layer2())
    for result, environ, code, text in (
        (None, {}, 7, "chained plugin"),
        (before, {"ifname": "eth7"}, 999, "interface eth7 in /run/netns/c1: there is no such interface"),
        (before, {"netns": "/run/netns/none"}, 8, "/run/netns/none"),
    ):
        outcome = run(machine, "ADD", result, environ, mtu=1400)
        assert outcome.code == code and text in outcome.json["msg"], outcome


# --- the administrator's list


def test_allowlist(machine: Machine) -> None:
    """The expressions are found anywhere in the key as it is written."""
    before = attach(machine, layer2())
    allow(machine, "", r"  ^net\.core\.somax\w+$  ", "conf.IFNAME.arp_", r"net\.ipv4\.tcp_\d")
    result = tuned(machine, before, sysctl=SYSCTLS)
    for key in ("net/core/somaxconn", "net.ipv4.conf.eth0.arp_filter", "net.ipv4.tcp_rmem"):
        outcome = run(machine, "ADD", before, args={"cni": {"sysctl": {key: "1"}}})
        assert outcome.code == 7 and f"Sysctl {key} is not allowed." in outcome.json["msg"], outcome
    assert r"[^net\.core\.somax\w+$ conf.IFNAME.arp_ net\.ipv4\.tcp_\d]" in outcome.json["msg"]
    assert run(machine, "STATUS", None, sysctl={"net.ipv4.tcp_rmem": "1"}).code == 7
    allow(machine, "nothing")
    assert tuned(machine, before, mtu=1400)
    assert run(machine, "DEL", result, sysctl=SYSCTLS).status == 0


@pytest.mark.parametrize("expression", ["net(", "*", "[[:alpha:]]+", r"\Qnet\E", "(?U)net"])
def test_invalid_allowlist(machine: Machine, expression: str) -> None:
    before = attach(machine, layer2())
    allow(machine, "net", expression)
    outcome = run(machine, "ADD", before, sysctl=SYSCTLS)
    assert outcome.status == 1 and f"{ALLOWLIST}, line 2: invalid regular expression" in outcome.json["msg"], outcome
    assert sysctl(machine, "net.core.somaxconn") != "500"


def test_empty_allowlist_allows_nothing(machine: Machine) -> None:
    before = attach(machine, layer2())
    allow(machine, " ")
    assert run(machine, "ADD", before, sysctl=SYSCTLS).code == 7


# --- CHECK


def test_check_compares_values(machine: Machine) -> None:
    before = attach(machine, layer2())
    options = {
        "mac": MAC.upper(),
        "sysctl": {"net.ipv4.tcp_rmem": "4096 131072 6291456", "net.core.somaxconn": "500\n"},
    }
    result = tuned(machine, before, **options)
    machine.run("ip", "-n", "c1", "link", "set", "eth0", "promisc", "on")
    assert run(machine, "CHECK", result, **options, promisc=False).status == 0


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        ("ip link set eth0 address 02:00:00:00:00:09", f'mac of eth0 is "02:00:00:00:00:09", not "{MAC}"'),
        ("ip link set eth0 mtu 1200", "mtu of eth0 is 1200, not 1400"),
        ("ip link set eth0 promisc off", "promisc of eth0 is false, not true"),
        ("ip link set eth0 allmulticast off", "allmulti of eth0 is false, not true"),
        ("ip link set eth0 txqueuelen 7", "txQLen of eth0 is 7, not 500"),
        ("sysctl -qw net.core.somaxconn=7", 'sysctl net.core.somaxconn is "7", not "500"'),
        ("ip link delete eth0", "eth0"),
    ],
)
def test_check_finds(machine: Machine, damage: str, text: str) -> None:
    result = tuned(machine, attach(machine, layer2()), **LINK, sysctl=SYSCTLS)
    machine.run("ip", "netns", "exec", "c1", *damage.split())
    outcome = run(machine, "CHECK", result, **LINK, sysctl=SYSCTLS)
    assert outcome.code == 999 and text in outcome.json["msg"], outcome


# --- STATUS


@pytest.mark.parametrize(
    "key",
    ["net.core.somaxconn", "net/ipv4/tcp_rmem", "net.ipv4.conf.all.arp_filter", "net.ipv4.conf.IFNAME.arp_filter",
     "net.ipv4.conf.eth7.arp_filter", "net/ipv6/neigh/eth.7/ucast_solicit", "net.netfilter.nf_conntrack_tcp_loose"],
)  # fmt: skip
def test_status_of_what_there_is_or_may_come_with_the_interface(machine: Machine, key: str) -> None:
    """An interface's own, also named; and a module's that an earlier plugin's rules load."""
    outcome = status(machine, {key: "1"})
    assert (outcome.status, outcome.stdout) == (0, "")


@pytest.mark.parametrize("key", ["net.core.nonsense", "net/ipv4/conf/all/nonsense", "net.ipv4.conf", "net.nonsense.x"])
@pytest.mark.parametrize("by_args", [False, True])
def test_status_of_what_this_kernel_lacks(machine: Machine, key: str, by_args: bool) -> None:
    given = {**SYSCTLS, key: "1"}
    outcome = status(machine, None if by_args else given, args={"cni": {"sysctl": given}} if by_args else None)
    assert outcome.code == 50 and f"this kernel has no sysctl {key.replace('/', '.')}" in outcome.json["msg"], outcome
    add = run(machine, "ADD", attach(machine, layer2()), sysctl=given)
    assert add.code == 7 and f"there is no sysctl {key.replace('/', '.')}" in add.json["msg"]


def status(machine: Machine, sysctls: Any, **options: Any) -> Outcome:
    """As a runtime asks for it: of no container, and no interface."""
    nobody = {"container_id": None, "netns": None, "ifname": None}
    return run(machine, "STATUS", None, nobody, sysctl=sysctls, **options)


# --- GC, and the Go plugin


def test_gc(machine: Machine) -> None:
    before = attach(machine, layer2())
    untouched = state(machine)
    tuned(machine, before, **LINK, sysctl=SYSCTLS)
    for valid, there in (([{"containerID": "c1", "ifname": "eth0"}], True), ([], False)):
        outcome = run(machine, "GC", None, **{"cni.dev/valid-attachments": valid})
        assert outcome.status == 0, outcome
        assert file(machine, BACKUP).exists() == there
    assert state(machine) == untouched


def test_gc_of_another_network(machine: Machine) -> None:
    tuned(machine, attach(machine, layer2()), **LINK)
    outcome = run(machine, "GC", None, name="other", **{"cni.dev/valid-attachments": []})
    assert outcome.status == 0 and file(machine, BACKUP).exists()


GO_LINK = {key: value for key, value in LINK.items() if key != "txQLen"}  # which 1.1.1 has not got


@pytest.mark.parametrize("case", ["as it was", "no prevResult", "netns gone"])
def test_del_of_what_go_made(machine: Machine, case: str) -> None:
    before = attach(machine, layer2(cniVersion="1.0.0"))
    former = link(machine)
    given = {"cniVersion": "1.0.0", **GO_LINK}
    result = machine.go("tuning", "ADD", config(before, **given)).json
    assert link(machine) == {**former, **GO_LINK}
    assert run(machine, "CHECK", result, **given).status == 0
    if case == "netns gone":
        machine.run("ip", "netns", "delete", "c1")
    assert run(machine, "DEL", None if case == "no prevResult" else result, **given).status == 0
    assert not file(machine, BACKUP).exists()
    assert case == "netns gone" or link(machine) == former


def test_go_deletes_what_we_made(machine: Machine) -> None:
    """It knows nothing of sysctls, which a DEL of ours puts back later."""
    before = attach(machine, layer2(cniVersion="1.0.0"))
    former, somaxconn = link(machine), sysctl(machine, "net.core.somaxconn")
    given = {"cniVersion": "1.0.0", **GO_LINK, "sysctl": {"net.core.somaxconn": "500"}}
    result = tuned(machine, before, **given)
    assert machine.go("tuning", "CHECK", config(result, **given)).status == 0
    assert machine.go("tuning", "DEL", config(result, **given)).status == 0
    assert link(machine) == former and not file(machine, BACKUP).exists()
    assert run(machine, "DEL", result, **given).status == 0
    assert sysctl(machine, "net.core.somaxconn") == somaxconn
