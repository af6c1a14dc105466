"""Whatever comes on stdin or in the environment: exactly one answer, of the right kind; an error has changed nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnibox.registry import PLUGINS, load
from cnibox.spec.options import Options
from tests.support.faulty import Agent, Run, difference
from tests.support.machine import Machine
from tests.support.network import bridge, host_local, ptp
from tests.support.uplink import network

VERBS = ["ADD", "DEL", "CHECK", "STATUS", "GC"]
ATTACHMENT = {"CNI_CONTAINERID": "c1", "CNI_NETNS": "/run/netns/c1", "CNI_IFNAME": "eth0"}
GIVEN = {"cniVersion": "1.1.0", "ips": [{"address": "10.77.0.5/24", "gateway": "10.77.0.1"}]}
"""The result of an earlier plugin."""
GOOD: dict[str, dict[str, Any]] = {
    "bridge": bridge(ipMasq=True, ipMasqBackend="nftables"),
    "ptp": ptp(),
    **{plugin: network(plugin) for plugin in ("macvlan", "ipvlan", "vlan", "dummy")},
    "host-device": {"cniVersion": "1.1.0", "name": "mynet", "type": "host-device", "device": "lent0", "ipam": host_local()},
    "tap": {"cniVersion": "1.1.0", "name": "mynet", "type": "tap", "ipam": host_local()},
    "sbr": {"cniVersion": "1.1.0", "name": "mynet", "type": "sbr", "prevResult": GIVEN},
    "vrf": {"cniVersion": "1.1.0", "name": "mynet", "type": "vrf", "vrfname": "red", "prevResult": GIVEN},
    "tuning": {"cniVersion": "1.1.0", "name": "mynet", "type": "tuning", "prevResult": GIVEN, "mtu": 1400,
               "mac": "c2:11:22:33:44:55", "sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "1"}},
    "bandwidth": {"cniVersion": "1.1.0", "name": "mynet", "type": "bandwidth", "prevResult": GIVEN, "latency": 30,
                  "ingressRate": 80000, "ingressBurst": 80000, "egressRate": 80000, "egressBurst": 80000},
    "firewall": {"cniVersion": "1.1.0", "name": "mynet", "type": "firewall", "prevResult": GIVEN, "backend": "nftables"},
    "portmap": {"cniVersion": "1.1.0", "name": "mynet", "type": "portmap", "prevResult": GIVEN, "backend": "nftables",
                "runtimeConfig": {"portMappings": [{"hostPort": 80, "containerPort": 80, "protocol": "udp", "hostIP": "::"}]}},
    "loopback": {"cniVersion": "1.1.0", "name": "mynet", "type": "loopback"},
    "host-local": {"cniVersion": "1.1.0", "name": "mynet", "type": "host-local", "ipam": host_local()},
    "static": {"cniVersion": "1.1.0", "name": "mynet", "type": "static",
               "ipam": {"type": "static", "addresses": [{"address": "10.77.0.5/24"}]}},
}  # fmt: skip
ADJUSTING = ("tuning", "bandwidth")
"""Plugins that need the interface to be there: net0."""
WRONG = ["yes", "", "a/b", "ö\u2028", "\0", "x" * 300, "10.0.0.1", "10.0.0.0/99", "fd00::/64", "-1", 5, -1, 1.5, 1e300,
         10**30, True, False, [], [[]], [None], [5], [[5]], ["x"], {}, {"a": 1}, [{}], [[{}]], [[{"subnet": 5}]],
         [{"dst": "x"}]]  # fmt: skip
"""Values of every type; each is wrong for nearly every option."""


@pytest.fixture(scope="module")
def victim(source_farm: str) -> Iterator[Agent]:
    with Machine(source_farm) as machine:
        machine.container("c1")
        machine.run("ip", "link", "add", "up0", "up", "type", "veth", "peer", "name", "up1")  # a parent for links
        machine.run("ip", "link", "add", "lent0", "type", "veth", "peer", "name", "lent1")
        machine.run("ip", "link", "add", "near0", "type", "veth", "peer", "name", "net0", "netns", "c1")
        agent = Agent(machine, source_farm)
        agent.exec("bridge", {**ATTACHMENT, "CNI_COMMAND": "ADD", "CNI_PATH": source_farm}, encoded(GOOD["bridge"]))
        agent.exec("bridge", {**ATTACHMENT, "CNI_COMMAND": "DEL", "CNI_PATH": source_farm}, encoded(GOOD["bridge"]))
        sweep(agent)
        for state in ("up", "down"):  # an lo that has been up once keeps its addresses
            machine.run("ip", "-n", "c1", "link", "set", "lo", state)
        yield agent
        agent.close()


def encoded(config: object) -> bytes:
    return json.dumps(config).encode()


def conduct(agent: Agent, plugin: str, environ: dict[str, str], stdin: bytes) -> Run:
    """Run it, and judge how it behaves: its answer's form, and that an error has changed nothing."""
    environ = {"CNI_PATH": agent.farm, **environ}
    if plugin in ADJUSTING and environ.get("CNI_IFNAME") == "eth0":
        environ["CNI_IFNAME"] = "net0"
    ended = agent.exec(plugin, environ, stdin)
    assert ended.status in (0, 1), ended
    assert "Traceback" not in ended.stderr
    verb = environ.get("CNI_COMMAND", "")
    if ended.status == 1:
        assert_error(ended)
    elif verb == "ADD":
        result = ended.json
        assert isinstance(result, dict) and result["cniVersion"]
        taken_back = agent.exec(plugin, {**environ, "CNI_COMMAND": "DEL"}, stdin)
        assert (taken_back.status, taken_back.stdout) == (0, ""), taken_back
        sweep(agent)
    elif verb == "VERSION":
        assert ended.json["cniVersion"] == "1.1.0"
    else:
        assert ended.stdout == ""
    return ended


def assert_error(ended: Run) -> None:
    error = ended.json  # which would not be decoded if there were more than one object
    assert isinstance(error, dict) and set(error) <= {"code", "msg", "details"}
    assert type(error["code"]) is int and error["code"] >= 0
    assert isinstance(error["msg"], str) and error["msg"]
    assert isinstance(error.get("details", ""), str)
    assert "internal error" not in error["msg"], ended
    assert set(ended.stdout.partition("\n")[0]) == {"{"}


def sweep(agent: Agent) -> None:
    """Take away what the last attachment's DEL leaves for the next: bridges and their rules."""
    bridges = 'ip -br link show type bridge | while read -r name _; do ip link delete dev "$name"; done'
    script = f"nft flush ruleset; {bridges}"
    agent.machine.run("sh", "-c", script)


@pytest.fixture
def unchanged(victim: Agent) -> Iterator[Agent]:
    """The agent; afterwards the machine must be as it was, and so after each failure in between."""
    before = victim.snapshot()
    yield victim
    assert not difference(before, victim.snapshot())


def assert_undone(agent: Agent, before: list[str], ended: Run) -> None:
    """Every change goes through the journal: a run without operations has made none."""
    if ended.status and ended.operations:
        assert not difference(before, agent.snapshot()), ended


# --- the option tables, one by one


def places(options: Options, within: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The way to every option of a table, and of those in it: ("ipam", "ranges", 0, 0, "subnet")."""
    here = within or ((options.section,) if options.section else ())
    for option in options.options:
        if option.key:
            yield (*here, option.key)
            lists, inner = option.kind.inside()
            if inner is not None:
                yield from places(inner, (*here, option.key, *[0] * (lists.count("[]"))))
        if option.args_cni:
            yield ("args", "cni", option.args_cni)
        if option.capability:
            yield ("runtimeConfig", option.capability)


PLACES = [(plugin, place) for plugin in PLUGINS for place in dict.fromkeys(places(load(plugin).options))]
VALID = ("cni.dev/valid-attachments",)
COMMON = [("cniVersion",), ("name",), ("type",), ("ipam",), ("ipam", "type"), ("dns",), ("dns", "search"), ("args",),
          ("args", "cni"), ("runtimeConfig",), ("prevResult",), ("prevResult", "ips"), ("prevResult", "interfaces"),
          ("prevResult", "routes"), ("prevResult", "cniVersion"), VALID, ("capabilities",)]  # fmt: skip


def put(config: Any, place: tuple[str | int, ...], value: object) -> Any:
    """A copy of the configuration with that value there."""
    if not place:
        return value
    key, rest = place[0], place[1:]
    if isinstance(key, int):
        items = config if isinstance(config, list) and config else [None]
        return [put(items[0], rest, value), *items[1:]]
    members = dict(config) if isinstance(config, dict) else {}
    return {**members, key: put(members.get(key), rest, value)}


def name_of(value: Any) -> str:
    return value if isinstance(value, str) else ".".join(map(str, value))


@pytest.mark.parametrize("plugin, place", PLACES, ids=name_of)
def test_wrong_values_of_an_option(unchanged: Agent, plugin: str, place: tuple[str | int, ...]) -> None:
    before = unchanged.snapshot()
    refused = 0
    for value in WRONG:
        if place[-1] == "dataDir" and value in ("a/b", "yes"):  # relative: refused, as it must be
            continue
        config = encoded(put(GOOD[plugin], place, value))
        ended = conduct(unchanged, plugin, {**ATTACHMENT, "CNI_COMMAND": "ADD"}, config)
        assert_undone(unchanged, before, ended)
        refused += ended.status
    assert refused >= len(WRONG) // 2


@pytest.mark.parametrize("plugin", PLUGINS)
def test_wrong_values_of_what_every_configuration_has(unchanged: Agent, plugin: str) -> None:
    before = unchanged.snapshot()
    for number, verb in enumerate(VERBS):
        for place in COMMON:
            for value in WRONG[number :: 2 * len(VERBS)]:
                if place == VALID and verb != "GC":
                    continue
                config = encoded(put(GOOD[plugin], place, value))
                ended = conduct(unchanged, plugin, {**ATTACHMENT, "CNI_COMMAND": verb}, config)
                assert_undone(unchanged, before, ended)


# --- what a DEL is given of its ADD's result

ADDRESS = {"address": "10.77.0.5/24"}
FOREIGN_RESULTS: list[Any] = ["x", "", [], [[]], [{}], 5, 0, 1.5, True, False, {}, {"a": 1},
    {"cniVersion": "9.9.9"}, {"cniVersion": "1.1.0-rc1", "ips": [ADDRESS]}, {"cniVersion": 1.1}, {"cniVersion": []},
    {"cniVersion": "0.2.0", "ip4": {"ip": "10.77.0.5/24"}}, {"cniVersion": "1.1.0", "ip4": {"ip": "10.77.0.5/24"}},
    {"ips": "x"}, {"ips": {}}, {"ips": [5]}, {"ips": [{}]}, {"ips": [{"address": 5}]}, {"ips": [{"address": "10.0.0.1/99"}]},
    {"ips": [{**ADDRESS, "interface": 99}]}, {"ips": [{**ADDRESS, "interface": -1}]}, {"ips": [{**ADDRESS, "interface": "x"}]},
    {"ips": [{**ADDRESS, "gateway": "x"}]}, {"interfaces": "x"}, {"interfaces": [5]}, {"interfaces": [{"name": 5}]},
    {"interfaces": [{"name": "a/b"}], "ips": [{**ADDRESS, "interface": 0}]}, {"interfaces": [{"name": "x" * 300}]}, {"interfaces": [{"name": "x" * 99}]}, {"interfaces": [{"name": "ä" * 70}]},
    {"interfaces": [{"name": "..", "mac": "x", "sandbox": 5}]}, {"routes": "x"}, {"routes": [{"dst": "x"}]}, {"dns": 5},
    {"interfaces": [{"name": "%d"}, {"name": "\n"}], "ips": [ADDRESS], "code": 7, "msg": "an error, no result"}]  # fmt: skip


DELETING = [{"CNI_COMMAND": "DEL"}, {"CNI_COMMAND": "DEL", "CNI_NETNS": ""}, {"CNI_COMMAND": "DEL", "CNI_NETNS": "/nowhere"},
            {"CNI_COMMAND": "GC"}]  # fmt: skip


def with_previous(plugin: str, result: Any) -> bytes:
    return encoded({**GOOD[plugin], "prevResult": result, "cni.dev/valid-attachments": []})


@pytest.mark.parametrize("plugin", PLUGINS)
def test_del_and_gc_whatever_the_previous_result_is(unchanged: Agent, plugin: str) -> None:
    """Of an attachment that is not known, with and without its namespace."""
    for number, result in enumerate(FOREIGN_RESULTS):
        for environ in (DELETING[0], DELETING[1 + number % 3]):
            ended = conduct(unchanged, plugin, {**ATTACHMENT, **environ}, with_previous(plugin, result))
            assert ended.status == 0, (result, environ, ended)


@pytest.mark.parametrize("verb", ["DEL", "GC"])
@pytest.mark.parametrize("plugin", [plugin for plugin in PLUGINS if plugin != "loopback"])  # its GC leaves lo as it is
def test_attachment_is_deleted_whatever_the_previous_result_is(unchanged: Agent, plugin: str, verb: str) -> None:
    """An attachment that stands, as far as this kernel can make it."""
    environ = {"CNI_PATH": unchanged.farm, **ATTACHMENT, **({"CNI_IFNAME": "net0"} if plugin in ADJUSTING else {})}
    before = unchanged.snapshot()
    for result in ("x", [], {"cniVersion": "9.9.9"}, {"ips": [{"address": "x"}]}):
        unchanged.exec(plugin, {**environ, "CNI_COMMAND": "ADD"}, encoded(GOOD[plugin]))
        ended = unchanged.exec(plugin, {**environ, "CNI_COMMAND": verb}, with_previous(plugin, result))
        assert ended.status == 0, (result, ended)
    sweep(unchanged)
    assert not difference(before, unchanged.snapshot())


@pytest.mark.parametrize(
    "plugin, place", [each for each in PLACES if each[0] in ("sbr", "vrf", "host-device", *ADJUSTING)], ids=name_of
)
def test_del_whatever_has_become_of_an_option(unchanged: Agent, plugin: str, place: tuple[str | int, ...]) -> None:
    for number, value in enumerate(WRONG):
        config = encoded(put(GOOD[plugin], place, value))
        ended = conduct(unchanged, plugin, {**ATTACHMENT, **DELETING[number % 3]}, config)
        assert place[0] == "ipam" or ended.status == 0, (value, ended)


# --- anything at all

KEYS = sorted({str(part) for _, place in PLACES for part in place} | {str(part) for place in COMMON for part in place})
TEXTS = st.text(max_size=20).filter(lambda text: not text.startswith("/"))  # no file of this machine
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS | st.sampled_from(list(PLUGINS)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | TEXTS, inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
CHANGES = st.lists(st.tuples(st.lists(st.sampled_from(KEYS), min_size=1, max_size=3), VALUES), min_size=1, max_size=3)
ANY_PLUGIN = st.sampled_from(list(PLUGINS))
quickly = settings(
    max_examples=120, deadline=None, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


@quickly
@given(plugin=ANY_PLUGIN, verb=st.sampled_from(VERBS), changes=CHANGES)
def test_random_configurations(unchanged: Agent, plugin: str, verb: str, changes: list[tuple[list[str], Any]]) -> None:
    config: Any = GOOD[plugin]
    for place, value in changes:
        config = put(config, tuple(place), value)
    conduct(unchanged, plugin, {**ATTACHMENT, "CNI_COMMAND": verb}, encoded(config))


@quickly
@given(plugin=ANY_PLUGIN, verb=st.sampled_from(VERBS), value=VALUES)
def test_random_json(unchanged: Agent, plugin: str, verb: str, value: Any) -> None:
    ended = conduct(unchanged, plugin, {**ATTACHMENT, "CNI_COMMAND": verb}, encoded(value))
    assert ended.status == 1 or value["name"]  # which is all that a DEL needs


@quickly
@given(plugin=ANY_PLUGIN, verb=st.sampled_from(VERBS), data=st.binary(max_size=200))
def test_random_bytes(unchanged: Agent, plugin: str, verb: str, data: bytes) -> None:
    ended = conduct(unchanged, plugin, {**ATTACHMENT, "CNI_COMMAND": verb}, data)
    assert (ended.status, ended.json["code"]) == (1, 6) or json.loads(data) is not None
    assert ended.operations == []


@quickly
@given(plugin=ANY_PLUGIN, verb=st.sampled_from(VERBS), at=st.integers(0, 400), byte=st.none() | st.integers(0, 255))
def test_damaged_configurations(unchanged: Agent, plugin: str, verb: str, at: int, byte: int | None) -> None:
    """One byte is another, or everything from there on is missing."""
    good = encoded(GOOD[plugin])
    at %= len(good)
    damaged = good[:at] if byte is None else good[:at] + bytes((byte,)) + good[at + 1 :]
    conduct(unchanged, plugin, {**ATTACHMENT, "CNI_COMMAND": verb}, damaged)


NO_PATH = st.binary(max_size=30).map(lambda data: data.replace(b"\0", b"").lstrip(b"/"))
WORDS = NO_PATH.map(os.fsdecode)
SPACES = ["/run/netns/c1", "", "/nowhere", "/proc/self/ns/net", "/etc/passwd", "/proc/self/ns/pid"]
ARGS = ["IP=10.77.0.9", "MAC=x;IgnoreUnknown=1", "A=1", "A", ";", "IP=;", "IgnoreUnknown=x"]
ENVIRONMENTS = st.fixed_dictionaries(
    {},
    optional={
        "CNI_COMMAND": st.sampled_from([*VERBS, "VERSION", "add", "ADD ", "NONSENSE"]) | WORDS,
        "CNI_CONTAINERID": st.sampled_from(["c1", "c1\r\neth0", "c1\neth0", "../c1", "x" * 300]) | WORDS,
        "CNI_NETNS": st.sampled_from(SPACES) | WORDS,
        "CNI_IFNAME": st.sampled_from(["eth0", "lo", "x" * 16, "a b", "ä", "..", "a/b", "%d"]) | WORDS,
        "CNI_ARGS": st.sampled_from(ARGS) | WORDS,
        "CNI_PATH": st.sampled_from(["", ":", "/nowhere", ":/nowhere:"]),
        "CNI_NETNS_OVERRIDE": st.sampled_from(["1", "true", "no"]) | WORDS,
        "CNIBOX_LOG": st.sampled_from(["debug", "error", "loud"]) | WORDS,
    },
)


@quickly
@given(plugin=ANY_PLUGIN, environ=ENVIRONMENTS)
def test_random_environments(unchanged: Agent, plugin: str, environ: dict[str, str]) -> None:
    usual = {**ATTACHMENT, "CNI_COMMAND": "ADD"}
    conduct(unchanged, plugin, {**usual, **environ}, encoded(GOOD[plugin]))
    conduct(unchanged, plugin, environ, encoded(GOOD[plugin]))


# --- the real program, for what a forked one cannot show


NO_OBJECT = [b"", b"{", b"\xff\xfe", b"null", b"[" * 100_000, b'{"a":' * 5_000, b"{}" * 2]


@pytest.mark.parametrize("stdin", NO_OBJECT, ids=lambda data: repr(data[:12]))
def test_real_program(machine: Machine, stdin: bytes) -> None:
    machine.container("c1")
    outcome = machine.plugin("bridge", "ADD", stdin)
    assert outcome.status == 1 and outcome.stderr == ""
    assert outcome.code == 6, outcome
    assert json.loads(outcome.stdout)


def test_closed_files(machine: Machine) -> None:
    """A runtime that has closed stdin, or reads no answer."""
    command = f"CNI_COMMAND=ADD CNI_CONTAINERID=c CNI_NETNS=/x CNI_IFNAME=eth0 CNI_PATH=/ {machine.farm}/bridge"
    answer = machine.run("sh", "-c", f"{command} <&-; echo $?", check=False)
    assert answer.endswith("1") or answer.strip().endswith("1")
    assert json.loads(answer.rpartition("}")[0] + "}")["code"] in (5, 6)
    assert machine.run("sh", "-c", f"{command} >&- </dev/null; echo $?", check=False).strip() == "1"
    assert machine.run("sh", "-c", f"{command} >/dev/full </dev/null; echo $?", check=False).strip() == "1"
