"""Debian's podman with its CNI backend: all that it writes is in the machine's own /run, /var/lib/cni and /dev/shm.

What is set because of cgroups and limits of build machines is in _SETUP and _CONF, with the reasons.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.machine import Machine
from tests.support.packets import PYTHON

PAGE = "a page of the container"
PORT = 8080
"""The published port of the host."""

_FOLDER = "/run/podman"
"""Of the machine: not the test's, as podman wants a runroot of at most 50 characters."""

_SETUP = f"""
# crun refuses hybrid cgroups (v1 controllers next to v2), which some build machines have; Debian has v2 alone.
mount -t cgroup2 cgroup /sys/fs/cgroup
# podman's locks: they would stay in the real /dev/shm, and be shared with a podman that is in use.
mount -t tmpfs shm /dev/shm
# No image: it would come from a registry.
mkdir -p {_FOLDER}/rootfs/bin {_FOLDER}/rootfs/www
cp /bin/busybox {_FOLDER}/rootfs/bin
printf %s '{PAGE}' >{_FOLDER}/rootfs/www/index.html
cat >{_FOLDER}/containers.conf
"""
_CONF = """
[containers]
# With cgroups crun raises RLIMIT_MEMLOCK for its filter of devices; and the ulimits of podman, 1048576, may be above
# the hard limits of the machine. A build machine may lack CAP_SYS_RESOURCE, which both need.
cgroups = "disabled"
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]

[engine]
runtime = "crun"  # runc knows no disabled cgroups
cgroup_manager = "cgroupfs"  # not the systemd,
events_logger = "file"  # nor the journal of a machine that has them

[network]
network_backend = "cni"
cni_plugin_dirs = ["{farm}"]
network_config_dir = "{folder}/net.d"
"""
_FETCH = """
import http.client, sys
connection = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=2)
connection.request("GET", "/")
print(connection.getresponse().read().decode(), end="")
"""


class Podman:
    """podman on this machine, with the machine's plugins; its containers serve PAGE on port 80."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        machine.run("sh", "-ec", _SETUP, stdin=_CONF.format(farm=machine.farm, folder=_FOLDER).encode())

    def attempt(self, *words: str) -> subprocess.CompletedProcess[str]:
        """How a podman command ended, and what it wrote."""
        storage = [f"--{each}={_FOLDER}/{each}" for each in ("root", "runroot", "tmpdir")]
        conf = f"CONTAINERS_CONF={_FOLDER}/containers.conf"
        command = self.machine.enter("env", conf, "podman", *storage, "--storage-driver=vfs", *words)
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    def __call__(self, *words: str) -> str:
        """The stdout of a podman command, which must succeed."""
        done = self.attempt(*words)
        assert done.returncode == 0, f"podman {' '.join(words)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout.strip()

    def serve(self, name: str, *networks: str) -> subprocess.CompletedProcess[str]:
        """`podman run` of a container whose web server is published; stdout is its ID."""
        words = ("run", "--detach", f"--name={name}", f"--network={','.join(networks)}", f"--publish={PORT}:80")
        return self.attempt(*words, "--rootfs", f"{_FOLDER}/rootfs", "/bin/busybox", "httpd", "-f", "-h", "/www")

    def network(self, name: str) -> list[str]:
        """Create a dual-stack network; the plugins of the configuration that podman wrote for it."""
        self("network", "create", "--ipv6", name)
        config = json.loads(self.machine.run("cat", f"{_FOLDER}/net.d/{name}.conflist"))
        return [plugin["type"] for plugin in config["plugins"]]


@contextmanager
def podman_on(machine: Machine) -> Iterator[Podman]:
    """podman, whose containers end with the block whatever happens: the machine does not own their processes."""
    podman = Podman(machine)
    try:
        yield podman
    finally:
        podman("rm", "--all", "--force", "--time=0")


def page(machine: Machine, address: str = "127.0.0.1", inside: str = "") -> str:
    """What the published port gives to the host, or to a client `inside` a namespace; "" where nothing answers."""
    prefix = ("ip", "netns", "exec", inside) if inside else ()
    return machine.run(*prefix, PYTHON, "-c", _FETCH, address, str(PORT), check=False)


def served(machine: Machine, address: str = "127.0.0.1", inside: str = "") -> bool:
    """Whether it gives PAGE; `podman run` returns before the server listens."""
    return machine.wait_until(lambda: page(machine, address, inside) == PAGE)
