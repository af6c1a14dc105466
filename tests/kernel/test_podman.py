"""podman's CNI backend with these plugins: a published port serves, and nothing is left of a removed container."""

from __future__ import annotations

from tests.support.machine import GO, Machine, links
from tests.support.podman import Podman, page, podman_on, served
from tests.support.traces import traces
from tests.support.uplink import uplink

SHARED = {
    "filter": """\
:CNI-ADMIN - [0:0]
:CNI-FORWARD - [0:0]
-A CNI-FORWARD -m comment --comment "CNI firewall plugin admin overrides" -j CNI-ADMIN
-A FORWARD -m comment --comment "CNI firewall plugin rules" -j CNI-FORWARD""".splitlines(),
    "nat": """\
:CNI-HOSTPORT-DNAT - [0:0]
:CNI-HOSTPORT-MASQ - [0:0]
:CNI-HOSTPORT-SETMARK - [0:0]
-A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE
-A CNI-HOSTPORT-SETMARK -m comment --comment "CNI portfwd masquerade mark" -j MARK --set-xmark 0x2000/0x2000
-A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A POSTROUTING -m comment --comment "CNI portfwd requiring masquerade" -j CNI-HOSTPORT-MASQ
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT""".splitlines(),
}
"""Table -> the chains and rules of no container in particular, of each family: made with the first, left with the last."""

HOST = {4: "10.77.0.2", 6: "fd77::2"}
"""The host's addresses on the link to another host, the namespace "wire"."""
WAYS = [("127.0.0.1", ""), (HOST[4], ""), (HOST[6], ""), (HOST[4], "wire"), (HOST[6], "wire")]
"""Address -> from where it is asked; "" is the host."""


def rules(machine: Machine) -> dict[str, list[str]]:
    """The tables of both families, sorted, without the chains of the kernel."""
    found = {}
    for family in ("", "6"):
        for table in SHARED:
            lines = machine.run(f"ip{family}tables-save", "-t", table).splitlines()
            found[family + table] = sorted(line for line in lines if line.startswith(("-A", ":CNI")))
    return found


def files_naming(machine: Machine, text: str) -> list[str]:
    """The files and folders of all plugins whose name or content has this text in it."""
    folders = "/run/cnibox /run/cni /run/netns /var/lib/cni"
    script = f"find {folders} -name '*{text}*'; grep -rl {text} {folders}"
    return machine.run("sh", "-c", f"({script}) 2>/dev/null", check=False).split()


def life(podman: Podman) -> dict[str, list[str]]:
    """Publish a page, have it read, remove the container; the rules that are left."""
    machine = podman.machine
    assert podman.network("front") == ["bridge", "portmap", "firewall", "tuning"]
    started = podman.serve("web", "front")
    assert started.returncode == 0, started.stderr
    for address, inside in WAYS:
        assert served(machine, address, inside), f"from {inside or 'the host'} to {address}"
    container = started.stdout.strip()
    assert traces(machine, container) and files_naming(machine, container)

    podman("rm", "--force", "--time=0", "web")
    assert machine.wait_until(lambda: links(machine) == ["cni-podman1", "lo", "up0"])
    assert traces(machine, container) == files_naming(machine, container) == []
    assert machine.run("ls", "/run/netns").split() == ["wire"]
    assert page(machine) == ""
    return rules(machine)


def with_another_host(machine: Machine) -> Machine:
    uplink(machine)
    machine.run("sh", "-ec", f"ip address add {HOST[4]}/24 dev up0; ip address add {HOST[6]}/64 dev up0 nodad")
    return machine


def test_a_published_port_serves_a_page_and_rm_leaves_nothing(machine: Machine) -> None:
    """But for the chains of all containers, which the reference leaves as well."""
    with podman_on(with_another_host(machine)) as podman:
        left = life(podman)
        podman("network", "rm", "front")
        assert links(machine) == ["lo", "up0"]
    assert left == {family + table: sorted(lines) for family in ("", "6") for table, lines in SHARED.items()}
    with Machine(GO) as other, podman_on(with_another_host(other)) as podman:
        assert life(podman) == left


def test_a_port_that_is_taken_is_refused_by_the_name_of_its_holder(machine: Machine) -> None:
    """podman shows our message as it is; the first container serves on, and its port is free after it."""
    with podman_on(machine) as podman:
        podman.network("front")
        holder = podman.serve("first", "front").stdout.strip()
        refused = podman.serve("second", "front")
        wanted = f"host port 8080/tcp is taken by container {holder} (network front, interface eth0)"
        assert holder and refused.returncode and wanted in refused.stderr, refused.stderr
        second = podman("inspect", "--format={{.Id}}", "second")
        assert traces(machine, second) == files_naming(machine, second) == []
        assert served(machine)

        podman("rm", "--force", "--time=0", "first")
        podman("start", "second")
        assert served(machine)


def test_a_port_is_published_with_each_network_of_the_container(machine: Machine) -> None:
    """podman gives every network the same mappings; the first to come serves, and the next one when it goes."""
    with podman_on(machine) as podman:
        for network in ("front", "back"):
            podman.network(network)
        assert podman.serve("web", "front", "back").returncode == 0
        assert served(machine)
        for network in ("front", "back"):
            podman("network", "disconnect", network, "web")
            podman("network", "connect", network, "web")
            assert served(machine)
        container = podman("inspect", "--format={{.Id}}", "web")
        podman("rm", "--force", "--time=0", "web")
        assert traces(machine, container) == files_naming(machine, container) == []
