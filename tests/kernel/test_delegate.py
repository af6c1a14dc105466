"""Delegation: a plugin that calls another, in its own process or by exec, and all that this can do to its caller."""

from __future__ import annotations

import json
import subprocess
import time
from typing import Any

import pytest

from tests.support.machine import GO, Machine, Outcome, links
from tests.support.network import again, attach, bridge, host_local, state

FOLDER = "/run/fake"
CALLS = f"{FOLDER}/calls"
RESULT = {"cniVersion": "1.1.0", "ips": [{"address": "10.77.0.5/24", "gateway": "10.77.0.1"}]}
IP4 = {"ip": "10.77.0.5/24", "gateway": "10.77.0.1", "routes": [{"dst": "10.9.0.0/16"}]}
CONFIG = bridge(ipam={"type": "fake", "anything": [1, {"ä": None}]})


def fake(machine: Machine, script: str, name: str = "fake") -> None:
    """A plugin that is a shell script. It writes down what it was called for."""
    text = f'#!/bin/sh\necho "$CNI_COMMAND" >>{CALLS}\n{script}\n'
    machine.run("sh", "-c", f"mkdir -p {FOLDER}; cat >{FOLDER}/{name}; chmod +x {FOLDER}/{name}", stdin=text.encode())


def answering(result: object = RESULT) -> str:
    return f"cat <<'END'\n{result if isinstance(result, str) else json.dumps(result)}\nEND"


def call(machine: Machine, command: str = "ADD", config: Any = CONFIG, **options: Any) -> Outcome:
    return machine.plugin("bridge", command, config, **{"CNI_PATH": FOLDER, **options})


def calls(machine: Machine) -> list[str]:
    return machine.run("cat", CALLS, check=False).split()


@pytest.fixture
def container(machine: Machine) -> Machine:
    machine.container("c1")
    return machine


# --- what a delegate may answer


def test_result_is_taken(container: Machine) -> None:
    fake(container, answering())
    outcome = call(container)
    assert outcome.status == 0, outcome
    assert outcome.json["ips"] == [{"address": "10.77.0.5/24", "gateway": "10.77.0.1", "interface": 2}]
    assert container.ping("10.77.0.5")


@pytest.mark.parametrize(
    "result",
    [
        {"cniVersion": "0.1.0", "ip4": IP4},
        {"cniVersion": "0.2.0", "ip4": IP4},
        {"cniVersion": "0.3.1", "ips": [{"version": "4", "address": "10.77.0.5/24", "gateway": "10.77.0.1"}],
         "routes": [{"dst": "10.9.0.0/16"}], "dns": {}},
        {"cniVersion": "1.0.0", "ips": RESULT["ips"], "routes": [{"dst": "10.9.0.0/16"}]},
        {"ips": RESULT["ips"], "routes": [{"dst": "10.9.0.0/16"}], "ours": {"unknown": 1}},
    ],
    ids=lambda result: str(result.get("cniVersion")),
)  # fmt: skip
@pytest.mark.parametrize("version", ["0.2.0", "0.4.0", "1.1.0"])
def test_result_of_another_version(container: Machine, version: str, result: dict[str, Any]) -> None:
    if "cniVersion" not in result and version == "0.2.0":
        result = {"ip4": IP4}
    fake(container, answering(result))
    outcome = call(container, config={**CONFIG, "cniVersion": version})
    assert outcome.status == 0, outcome
    assert outcome.json["cniVersion"] == version
    assert container.ip("-n", "c1", "route", "show", "10.9.0.0/16")[0]["gateway"] == "10.77.0.1"
    assert container.ping("10.77.0.5")


def test_big_answer_and_big_question(container: Machine) -> None:
    """More than any pipe holds, both ways, and on stderr as well."""
    result = {**RESULT, "filling": "x" * 400_000}
    container.run("sh", "-c", f"mkdir -p {FOLDER}; cat >{FOLDER}/result", stdin=json.dumps(result).encode())
    fake(container, f"head -c 300000 /dev/zero | tr '\\0' e >&2; cat >{FOLDER}/stdin; cat {FOLDER}/result")
    config = {**CONFIG, "filling": "y" * 400_000}
    outcome = call(container, config=config)
    assert outcome.status == 0
    assert outcome.stderr == "e" * 300_000
    assert container.run("cat", f"{FOLDER}/stdin") == json.dumps(config)


def test_environment_is_passed_on(container: Machine) -> None:
    fake(container, f"env >{FOLDER}/env; {answering()}")
    outcome = call(container, CNI_ARGS="IgnoreUnknown=1;K8S_POD_NAME=pod", TRACEPARENT="00-1-2-01")
    assert outcome.status == 0, outcome
    env = dict(line.split("=", 1) for line in container.run("cat", f"{FOLDER}/env").splitlines())
    assert env["CNI_ARGS"] == "IgnoreUnknown=1;K8S_POD_NAME=pod"
    assert (env["CNI_COMMAND"], env["CNI_IFNAME"], env["CNI_NETNS"]) == ("ADD", "eth0", "/run/netns/c1")
    assert env["TRACEPARENT"] == "00-1-2-01" and env["CNI_CONTAINERID"] == "c1" and env["CNI_PATH"] == FOLDER


def test_complaints_are_passed_on_though_it_succeeds(container: Machine) -> None:
    fake(container, f"echo 'lease is short' >&2; {answering()}")
    outcome = call(container)
    assert outcome.status == 0 and outcome.stderr == "lease is short\n"


def test_daemon_that_keeps_stdout_open_holds_nobody_up(container: Machine) -> None:
    fake(container, f"sleep 20 & {answering()}")
    started = time.monotonic()
    outcome = call(container)
    assert outcome.status == 0, outcome
    assert time.monotonic() - started < 5


def test_no_address_is_an_error(container: Machine) -> None:
    fake(container, answering({"cniVersion": "1.1.0"}))
    outcome = call(container)
    assert outcome.status == 1 and "missing IP config" in outcome.json["msg"]
    assert calls(container) == ["ADD", "DEL"]


# --- how a delegate may fail

ERROR = {"cniVersion": "1.1.0", "code": 123, "msg": "no addresses <left>", "details": "ask again"}
FAILURES = {
    "its own error": (f"{answering(ERROR)}\nexit 1", 123, "no addresses <left>"),
    "its own error, other status": (f"{answering(ERROR)}\nexit 77", 123, "no addresses <left>"),
    "try again later": (f"{answering({'code': 11, 'msg': 'later'})}\nexit 1", 11, "later"),
    "nothing said": ("exit 3", 0, "exit status 3"),
    "only complaints": ("echo 'out of luck' >&2; exit 3", 0, "out of luck"),
    "killed": ("kill -9 $$", 0, "killed by signal 9"),
    "killed after the result": (f"{answering()}\nkill -15 $$", 0, "killed by signal 15"),
    "garbage, failing": ("echo 'oh no'; exit 1", 0, "oh no"),
    "binary garbage, failing": ("head -c 100 /dev/urandom; exit 1", 0, "netplugin failed"),
    "a list, failing": ("echo '[1]'; exit 1", 0, "[1]"),
    "code of another type": (f"{answering({'code': 'x', 'msg': 'strange'})}\nexit 1", 0, "strange"),
    "garbage, succeeding": ("echo 'oh no'", 6, "not JSON"),
    "nothing, succeeding": ("true", 6, "not JSON"),
    "a list, succeeding": ("echo '[1]'", 6, "fake"),
    "wrong shape": (answering({"cniVersion": "1.1.0", "ips": [{"address": 5}]}), 6, "ips[0].address"),
    "unknown version": (answering({"cniVersion": "7.0.0", "ips": []}), 6, "7.0.0"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_failure_is_told_and_undone(container: Machine, name: str) -> None:
    """One error object, with the delegate's own code if it has one; and its DEL, as the specification asks."""
    script, code, words = FAILURES[name]
    fake(container, f'[ "$CNI_COMMAND" = ADD ] || exit 0\n{script}')
    before = state(container)
    outcome = call(container)
    assert (outcome.status, outcome.code) == (1, code), outcome
    assert words in outcome.json["msg"] + outcome.json.get("details", ""), outcome
    assert "fake" in outcome.stdout or outcome.json["msg"] in (ERROR["msg"], "later", "strange")
    assert ("out of luck" in outcome.stderr) == (name == "only complaints")
    assert calls(container) == ["ADD", "DEL"]
    assert state(container) == before


def test_later_failure_takes_the_lease_back(container: Machine) -> None:
    fake(container, answering({**RESULT, "routes": [{"dst": "10.9.0.0/16", "gw": "203.0.113.1"}]}))
    before = state(container)
    outcome = call(container)
    assert outcome.status == 1 and "203.0.113.1" in outcome.json["msg"]
    assert calls(container) == ["ADD", "DEL"]
    assert state(container) == before


def test_file_that_is_being_written(container: Machine) -> None:
    """ETXTBSY, while a package manager replaces the plugin: tried again until it is closed."""
    container.run("sh", "-c", f"mkdir -p {FOLDER}; cp /bin/true {FOLDER}/fake")  # a script would not be busy
    writer = subprocess.Popen(
        container.enter("sh", "-c", f"exec 3>>{FOLDER}/fake; echo; sleep 0.4"), stdout=subprocess.PIPE
    )
    assert writer.stdout is not None and writer.stdout.readline() == b"\n"
    started = time.monotonic()
    outcome = call(container, "DEL")
    assert outcome.status == 0, outcome
    assert 0.2 < time.monotonic() - started < 3
    writer.communicate()


@pytest.mark.parametrize(
    "prepare, ipam, code, words",
    [
        ("true", "fake", 999, 'failed to find plugin "fake" in path [/run/fake]'),
        ("mkdir /run/fake/fake", "fake", 999, 'failed to find plugin "fake"'),
        ("echo > /run/fake/fake", "fake", 999, "cannot run plugin /run/fake/fake"),
        ("echo text > /run/fake/fake; chmod +x /run/fake/fake", "fake", 999, "cannot run plugin /run/fake/fake"),
        ("printf '#!/no/such/program\\n' > /run/fake/fake; chmod +x /run/fake/fake", "fake", 999, "cannot run plugin"),
        ("true", "../fake", 7, "invalid plugin name: ../fake"),
        ("true", "/bin/true", 7, "invalid plugin name"),
        ("true", "..", 7, "invalid plugin name"),
    ],
)
def test_what_cannot_be_run(container: Machine, prepare: str, ipam: str, code: int, words: str) -> None:
    container.run("sh", "-c", f"mkdir -p {FOLDER}; {prepare}")
    before = state(container)
    outcome = call(container, config=bridge(ipam={"type": ipam}))
    assert (outcome.status, outcome.code) == (1, code) and words in outcome.json["msg"], outcome
    assert state(container) == before


# --- the other verbs


def test_every_verb_is_forwarded(container: Machine) -> None:
    fake(container, f'[ "$CNI_COMMAND" != ADD ] || {{ {answering()}\n}}')
    result = call(container).json
    config = {**CONFIG, "prevResult": result, "cni.dev/valid-attachments": []}
    for command in ("CHECK", "STATUS", "GC", "DEL"):
        outcome = call(container, command, config)
        assert (outcome.status, outcome.stdout) == (0, ""), outcome
    assert calls(container) == ["ADD", "CHECK", "STATUS", "GC", "DEL"]


@pytest.mark.parametrize("command", ["CHECK", "DEL", "STATUS", "GC"])
def test_error_of_every_verb_is_passed_on(container: Machine, command: str) -> None:
    fake(container, f'[ "$CNI_COMMAND" != ADD ] || {{ {answering()}\nexit\n}}\n{answering(ERROR)}\nexit 1')
    config = {**CONFIG, "prevResult": call(container).json, "cni.dev/valid-attachments": []}
    outcome = call(container, command, config)
    assert (outcome.status, outcome.code) == (1, 123), outcome
    if command == "DEL":
        assert links(container, "c1") == ["lo"], "what is ours is gone nevertheless"


@pytest.mark.parametrize("answer", [{**ERROR, "code": 999}, {**ERROR, "code": 5}, None])
def test_status_of_one_that_could_not_add(container: Machine, answer: Any) -> None:
    """Go's plugins have no other code for nearly everything; who dies without a word has none."""
    fake(container, f"{answering(answer) if answer else 'true'}\nexit 1")
    outcome = call(container, "STATUS")
    assert (outcome.status, outcome.code) == (1, 50), outcome
    assert (answer["msg"] if answer else "no error message") in outcome.json["msg"]


@pytest.mark.parametrize("netns", ["", None, "/run/netns/gone"])
def test_delete_reaches_it_without_a_namespace(machine: Machine, netns: str | None) -> None:
    fake(machine, "true")
    assert call(machine, "DEL", netns=netns).status == 0
    assert calls(machine) == ["DEL"]


# --- in process, or by exec


def explained(machine: Machine, path: str) -> str:
    """What an ADD says of itself; an exec'd delegate is one of its operations."""
    program = [f"{machine.farm}/bridge", "--explain"]
    outcome = machine.plugin("bridge", "ADD", bridge(), program=program, CNI_PATH=path)
    assert outcome.status == 0, outcome
    return outcome.stderr


def test_our_own_file_is_not_started_again(container: Machine) -> None:
    assert "CNI_COMMAND=ADD" not in explained(container, f"/nowhere:{container.farm}:{GO}")


def test_our_own_file_by_another_way(container: Machine) -> None:
    container.run("sh", "-c", f"mkdir {FOLDER}; ln -s {container.farm}/bridge {FOLDER}/host-local")
    assert "CNI_COMMAND=ADD" not in explained(container, f"{FOLDER}:{GO}")


@pytest.mark.parametrize("first", [GO, FOLDER])
def test_what_comes_first_on_the_path_is_meant(container: Machine, first: str) -> None:
    """A Go plugin, or a copy of our file, which may be another release."""
    container.run("sh", "-c", f"mkdir {FOLDER}; cp {container.farm}/cnibox {FOLDER}/host-local")
    ipam = host_local()
    outcome = container.plugin(
        "bridge", "ADD", bridge(cniVersion="1.0.0", ipam=ipam), program=[f"{container.farm}/bridge", "--explain"],
        CNI_PATH=f"{first}:{container.farm}",
    )  # fmt: skip
    assert outcome.status == 0, outcome
    assert f"CNI_COMMAND=ADD {first}/host-local" in outcome.stderr
    assert container.ping("10.77.0.2") and container.ping("fd77::2")


def leases(machine: Machine) -> list[str]:
    return machine.run("sh", "-c", "ls /var/lib/cni/networks/mynet | grep -v -e lock -e last", check=False).split()


def test_go_host_local_with_our_bridge(machine: Machine) -> None:
    config = bridge(cniVersion="1.0.0")
    result = attach(machine, config, CNI_PATH=GO)
    assert machine.ping("10.77.0.1", inside="c1") and machine.ping("fd77::2")
    assert again(machine, "CHECK", config, result, CNI_PATH=GO).status == 0
    assert leases(machine) == ["10.77.0.2", "fd77::2"]
    assert again(machine, "DEL", config, result, CNI_PATH=GO).status == 0
    assert leases(machine) == []


def test_our_host_local_with_go_bridge(container: Machine) -> None:
    config = bridge(cniVersion="1.0.0", ipMasq=True, ipam=host_local("10.77.0.0/24", routes=[{"dst": "0.0.0.0/0"}]))
    outcome = container.go("bridge", "ADD", config, CNI_PATH=container.farm)
    assert outcome.status == 0, outcome
    assert container.ping("10.77.0.1", inside="c1")
    config["prevResult"] = outcome.json
    assert container.go("bridge", "CHECK", config, CNI_PATH=container.farm).status == 0
    assert leases(container) == ["10.77.0.2"]
    assert container.go("bridge", "DEL", config, CNI_PATH=container.farm).status == 0
    assert leases(container) == []


@pytest.mark.parametrize("ipam", ["dhcp", "whereabouts"])
def test_a_missing_plugin_that_cnibox_does_not_have(container: Machine, ipam: str) -> None:
    outcome = call(container, config=bridge(ipam={"type": ipam}))
    assert outcome.code == 999 and f'failed to find plugin "{ipam}" in path [/run/fake]' in outcome.json["msg"]
    assert f'cnibox has no plugin "{ipam}"; it has bridge, ptp, ' in outcome.json["details"]
    assert "cnibox install" not in outcome.json["details"]
    outcome = call(container, config=bridge(ipam={"type": "static"}))
    assert "`cnibox install DIR` puts it there" in outcome.json["details"]
