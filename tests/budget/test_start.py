"""How the one file starts: by which names, from which half of it, and what it leaves alone."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cnibox.cli import stamp
from cnibox.registry import PLUGINS

ROOT = Path(__file__).parent.parent.parent
SYSTEM_PYTHON = "/usr/bin/python3"
BARE = {"PATH": "/usr/bin:/bin"}
VERSION = {**BARE, "CNI_COMMAND": "VERSION"}


def run(*argv: object, env: dict[str, str] = BARE, **more: object) -> subprocess.CompletedProcess[str]:
    command = [str(word) for word in argv]
    return subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, **more)  # type: ignore[call-overload,no-any-return]


def named(done: subprocess.CompletedProcess[str]) -> str:
    """Which plugin it was: the bare run, without CNI_COMMAND, says so on stderr."""
    assert (done.returncode, done.stdout) == (0, ""), done
    found = re.match(r"CNI (\S+) plugin v", done.stderr)
    assert found, done
    return found[1]


@pytest.fixture(params=["plain", "stamped"])
def folder(request: pytest.FixtureRequest, cnibox: Path, farm: str, tmp_path: Path) -> Path:
    """A folder with the file `cnibox` and a link for each plugin."""
    bin = tmp_path / "bin"
    bin.mkdir()
    shutil.copy(cnibox if request.param == "plain" else f"{farm}/cnibox", bin / "cnibox")
    for name in PLUGINS:
        (bin / name).symlink_to("cnibox")
    return bin


# Dispatch


@pytest.mark.parametrize("name", PLUGINS)
def test_each_plugin_by_its_link_and_by_its_name(folder: Path, name: str) -> None:
    assert named(run(folder / name)) == name
    assert named(run(folder / "cnibox", name)) == name


@pytest.mark.parametrize(
    "command",
    [
        "bin/bridge",
        "./bin/bridge",
        "bin/../bin/bridge",
        "cd bin; ./bridge",
        "cd bin; PATH=$PWD:$PATH; bridge",
        "cd bin; PATH=.:$PATH; bridge",
        "ln -s bin other; other/bridge",
        "ln -s bin/bridge br1; ./br1",
        "ln -s $PWD/bin/bridge br1; ln -s br1 br2; mkdir d; ln -s ../br2 d/br3; d/br3",
        "mkdir d; ln -s ../bin/cnibox d/bridge; d/bridge",
        "cp bin/cnibox bridge; ./bridge",
        "mkdir 'a b'; cp bin/cnibox 'a b/bridge'; 'a b/bridge'",
        "bin/cnibox bridge",
        "ln -s bin/cnibox cnibox; ./cnibox bridge",
        "cp bin/cnibox tool; ./tool bridge",
        "python3 bin/bridge",
        "python3 -IS bin/bridge",
        "python3 bin/cnibox bridge",
        "cd bin; python3 cnibox bridge",
    ],
)
def test_every_way_to_start(folder: Path, command: str) -> None:
    assert named(run("sh", "-c", command, cwd=folder.parent)) == "bridge"


PYTHONS = [
    python
    for python in ("python3.11", "python3.12", "python3.13", "python3.14")
    if shutil.which(python) and subprocess.run([python, "-c", ""], capture_output=True).returncode == 0
]


@pytest.mark.parametrize("python", PYTHONS)
def test_every_python_of_this_machine(folder: Path, python: str) -> None:
    assert named(run(python, "-IS", folder / "bridge", env={**os.environ, "CNI_COMMAND": ""})) == "bridge"


def test_as_a_module() -> None:
    assert named(run(sys.executable, "-m", "cnibox", "bridge", cwd=ROOT)) == "bridge"
    assert "bridge" in run(sys.executable, "-m", "cnibox", "list", cwd=ROOT).stdout


def test_installed_by_pip(tmp_path: Path) -> None:
    copy_of_tree(tmp_path / "tree")
    run(SYSTEM_PYTHON, "-m", "venv", tmp_path / "venv", check=True)
    run(tmp_path / "venv/bin/pip", "install", tmp_path / "tree", env=dict(os.environ), check=True)
    script = tmp_path / "venv/bin/cnibox"
    assert named(run(script, "ptp")) == "ptp"
    assert run(script, "--version").stdout.startswith("cnibox, version 0.")
    (tmp_path / "host-local").symlink_to(script)
    assert named(run(tmp_path / "host-local")) == "host-local"
    refused = run(script, "install", tmp_path)
    assert refused.returncode == 1 and "packaging/build" in refused.stderr


def test_misspelt_link(folder: Path) -> None:
    (folder / "brigde").symlink_to("cnibox")
    by_runtime = run(folder / "brigde", env={**BARE, "CNI_COMMAND": "ADD"})
    error = json.loads(by_runtime.stdout)
    assert (by_runtime.returncode, error["code"]) == (1, 7)
    assert 'no plugin "brigde"' in error["msg"] and "bridge" in error["msg"]
    by_hand = run(folder / "brigde", "list")
    assert (by_hand.returncode, by_hand.stdout) == (1, "")
    assert 'no plugin "brigde"' in by_hand.stderr


def test_a_loop_of_links_ends(folder: Path) -> None:
    # The kernel follows no loop, but the name that python is given need not be what it has opened.
    (folder / "a").symlink_to("b")
    (folder / "b").symlink_to("a")
    done = run(
        sys.executable,
        "-c",
        "from cnibox.main import plugin_called as p; print(repr(p('a')))",
        cwd=folder,
        env={**BARE, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout == "''\n"


# The operator's commands


def test_operator_commands(folder: Path) -> None:
    for command in (["list"], ["help", "bridge"], ["bridge", "--help"], [], ["--help"]):
        done = run(folder / "cnibox", *command)
        assert done.returncode == 0 and "bridge" in done.stdout, done
    by_link = run(folder / "bridge", "--help")
    assert by_link.stdout == run(folder / "cnibox", "help", "bridge").stdout
    for plugin, has_ipam in (("bridge", True), ("dummy", True), ("tuning", False), ("loopback", False)):
        assert ('"ipam", the configuration' in run(folder / "cnibox", "help", plugin).stdout) == has_ipam
    assert "isGateway" in by_link.stdout
    assert "CNIBOX_LOG_FILE  " in run(folder / "cnibox", "--help").stdout
    assert run(folder / "cnibox", "nonsense").returncode == 2


def test_shivs_variables_choose_no_code(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "evil").mkdir()
    (tmp_path / "evil/click.py").write_text("raise SystemExit(99)")
    variables = {
        "SHIV_ROOT": str(tmp_path / "root"),
        "SHIV_ENTRY_POINT": "os:abort",
        "SHIV_MODULE": "os:abort",
        "SHIV_CONSOLE_SCRIPT": "abort",
        "SHIV_INTERPRETER": "1",
        "SHIV_PREPEND_PYTHONPATH": str(tmp_path / "evil"),
        "SHIV_FORCE_EXTRACT": "1",
        "PYTHONPATH": str(tmp_path / "evil"),
    }
    done = run(folder / "cnibox", "list", env={**BARE, **variables})
    assert done.returncode == 0 and done.stdout.startswith("bridge "), done
    assert not (tmp_path / "root").exists()


# The stamp


def parts(file: Path) -> tuple[bytes, bytes, bytes]:
    """First line, second line, the rest."""
    first, second, rest = file.read_bytes().split(b"\n", 2)
    return first, second, rest


def test_stamp(farm: str) -> None:
    first, second, _ = parts(Path(farm) / "cnibox")
    assert len(first) <= stamp.MAX_SHEBANG
    assert first.startswith(b"#!/") and b" -IScimport sys;" in first
    assert b"MAGIC_NUMBER" in second


@pytest.mark.parametrize("mismatch", ["other bytecode", "other implementation"])
def test_falls_through_to_the_zip(farm: str, tmp_path: Path, mismatch: str) -> None:
    first, second, rest = parts(Path(farm) / "cnibox")
    size = int(re.search(rb"f\.read\((\d+)\)", second)[1])  # type: ignore[index]
    broken = b"\n".join((first, second, bytes(size) + rest[size:]))
    file = tmp_path / "cnibox"
    file.write_bytes(broken)
    file.chmod(0o755)
    assert run(file, "bridge").returncode == 1  # the stamped half is what runs

    if mismatch == "other bytecode":
        magic = re.search(rb"MAGIC_NUMBER==b'(\\x..)", second)[1]  # type: ignore[index]
        second = second.replace(magic, rb"\x01")
    else:
        second = second.replace(b"=='cpython'", b"=='pypython'")
    file.write_bytes(b"\n".join((first, second, bytes(size) + rest[size:])))
    for name in PLUGINS:
        (tmp_path / name).symlink_to("cnibox")
        assert named(run(tmp_path / name)) == name
    assert named(run(file, "bridge")) == "bridge"
    answer = run(tmp_path / "bridge", env=VERSION)
    assert (answer.returncode, json.loads(answer.stdout)["cniVersion"], answer.stderr) == (0, "1.1.0", "")
    assert "bridge" in run(file, "list").stdout


def test_internal_error_is_told_with_its_line(farm: str) -> None:
    """Line numbers of compiled code are those of the source."""
    done = run(Path(farm) / "bridge", env={**BARE, "CNI_COMMAND": "ADD", "CNIBOX_DEBUG": "1"})
    assert json.loads(done.stdout)["code"] == 4
    file, line = re.findall(r'File "(cnibox/spec/request.py)", line (\d+)', done.stderr)[-1]
    assert "raise" in (ROOT / file).read_text().splitlines()[int(line) - 1]


def test_help_has_its_text_in_a_stamped_file(farm: str) -> None:
    assert '{"type":' in run(Path(farm) / "cnibox", "help", "loopback").stdout  # from a docstring: stamps drop those


# Install


def test_install_is_idempotent_and_upgrades_in_place(cnibox: Path, tmp_path: Path) -> None:
    first = run(cnibox, "install", tmp_path)
    assert (first.returncode, first.stderr) == (0, "")
    assert sorted(os.listdir(tmp_path)) == sorted(["cnibox", *PLUGINS])
    assert all(len(re.findall(rf"/{name} +installed ", first.stdout)) == 1 for name in ("cnibox", *PLUGINS))
    inode = (tmp_path / "cnibox").stat().st_ino
    second = run(tmp_path / "cnibox", "install", tmp_path)  # from the stamped copy
    assert second.stdout.count(" unchanged ") == 1 + len(PLUGINS)
    assert (tmp_path / "cnibox").stat().st_ino == inode

    shutil.copy(cnibox, tmp_path / "cnibox")
    (tmp_path / "ptp").unlink()
    (tmp_path / "static").unlink()
    (tmp_path / "static").symlink_to("/nowhere/cnibox")
    third = run(cnibox, "install", tmp_path)
    assert re.search(r"/cnibox +replaced .*\n.*/bridge +unchanged .*\n.*/ptp +installed ", third.stdout), third
    assert named(run(tmp_path / "static")) == "static"
    assert sorted(os.listdir(tmp_path)) == sorted(["cnibox", *PLUGINS])
    assert oct((tmp_path / "cnibox").stat().st_mode) == "0o100755"


def test_install_never_over_what_is_not_ours(cnibox: Path, tmp_path: Path) -> None:
    (tmp_path / "bridge").write_bytes(b"\x7fELF a Go plugin")
    (tmp_path / "ptp").symlink_to("/bin/sh")
    refused = run(cnibox, "install", tmp_path)
    assert refused.returncode == 1
    assert all(word in refused.stderr for word in (f"{tmp_path}/bridge", f"{tmp_path}/ptp", "--force"))
    assert sorted(os.listdir(tmp_path)) == ["bridge", "ptp"]

    forced = run(cnibox, "install", tmp_path, "--force")
    assert forced.returncode == 0 and re.search(r"/bridge +replaced ", forced.stdout)
    assert named(run(tmp_path / "bridge")) == "bridge" and os.path.exists("/bin/sh")

    (tmp_path / "static").unlink()
    (tmp_path / "static").mkdir()
    in_the_way = run(cnibox, "install", tmp_path, "--force")
    assert in_the_way.returncode == 1 and "a directory is in the way" in in_the_way.stderr


def test_upgrade_while_plugins_run(cnibox: Path, tmp_path: Path) -> None:
    """A plugin that waits for its stdin has the old file; the rest of its code comes from there."""
    run(cnibox, "install", tmp_path, check=True)
    environment = {
        **BARE,
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "a",
        "CNI_NETNS": "/proc/1/none",
        "CNI_IFNAME": "lo",
        "CNI_PATH": "/",
    }
    waiting = subprocess.Popen([tmp_path / "loopback"], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert b"supportedVersions" in run(tmp_path / "loopback", env=VERSION).stdout.encode()
    (tmp_path / "cnibox").rename(tmp_path / "old")
    (tmp_path / "cnibox").write_bytes(b"#!/bin/false\n")
    output, _ = waiting.communicate(b'{"cniVersion": "1.0.0", "name": "n", "type": "loopback"}', timeout=10)
    error = json.loads(output)
    assert "internal error" not in error["msg"] and "/proc/1/none" in json.dumps(error)


@pytest.mark.parametrize(
    ("python", "said"),
    [("/bin/true", "/true is no Python; cnibox needs Python 3.11 or newer"), ("/nowhere", "no such interpreter")],
)
def test_install_for_what_is_no_python(cnibox: Path, tmp_path: Path, python: str, said: str) -> None:
    done = run(cnibox, "install", tmp_path / "bin", "--python", python)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert said in done.stderr and not os.listdir(tmp_path)


def test_install_makes_folders_that_all_can_read(cnibox: Path, tmp_path: Path) -> None:
    script = f"umask 077; cd {tmp_path}; {cnibox} install a/b/bin --link c/bin --units d/e"
    run("sh", "-ec", script, check=True)
    for folder in ("a", "a/b", "a/b/bin", "c", "c/bin", "d", "d/e"):
        assert oct((tmp_path / folder).stat().st_mode) == "0o40755", folder
    assert os.readlink(tmp_path / "c/bin/cnibox") == f"{tmp_path}/a/b/bin/cnibox"
    assert run(tmp_path / "c/bin/cnibox", "list").stdout == run(cnibox, "list").stdout
    assert named(run(tmp_path / "c/bin/cnibox", "bridge")) == "bridge"


def test_install_links_the_command(cnibox: Path, tmp_path: Path) -> None:
    """In place of its own link to wherever, of nothing else."""
    words = [cnibox, "install", tmp_path / "plugins", "--link", tmp_path / "bin"]
    link = tmp_path / "bin/cnibox"
    link.parent.mkdir()
    link.write_text("#!/bin/sh\n")
    refused = run(*words)
    assert refused.returncode == 1 and f"{link}: not cnibox's; nothing was changed, --force replaces" in refused.stderr
    assert link.read_text() == "#!/bin/sh\n" and not (tmp_path / "plugins").exists()
    assert re.search(r"/bin/cnibox +replaced +-> ", run(*words, "--force").stdout)
    assert re.search(r"/bin/cnibox +unchanged ", run(*words).stdout)
    link.unlink()
    link.symlink_to("/nowhere/cnibox")
    assert re.search(r"/bin/cnibox +replaced ", run(*words).stdout)
    assert os.readlink(link) == f"{tmp_path}/plugins/cnibox"
    assert os.listdir(link.parent) == ["cnibox"]


def test_install_does_not_link_the_file_to_itself(cnibox: Path, tmp_path: Path) -> None:
    (tmp_path / "other").symlink_to("plugins")
    done = run(cnibox, "install", tmp_path / "plugins", "--link", tmp_path / "other")
    assert done.returncode == 0 and not (tmp_path / "plugins/cnibox").is_symlink()
    assert named(run(tmp_path / "plugins/bridge")) == "bridge"


def test_install_writes_units(cnibox: Path, tmp_path: Path) -> None:
    """With the path of the file; what a real systemd makes of them is in tests/kernel/test_systemd_units.py."""
    words = [cnibox, "install", tmp_path / "plugins", "--units", tmp_path / "units"]
    done = run(*words)
    names = sorted(path.name for path in (ROOT / "packaging/systemd").iterdir())
    assert sorted(os.listdir(tmp_path / "units")) == names
    assert "systemctl enable --now cnibox-repair@nftables" in done.stdout
    for name in names:
        expected = (ROOT / "packaging/systemd" / name).read_text()
        assert "/usr/local/bin/cnibox repair" in expected
        expected = expected.replace("/usr/local/bin/cnibox", f"{tmp_path}/plugins/cnibox")
        assert (tmp_path / "units" / name).read_text() == expected
        assert oct((tmp_path / "units" / name).stat().st_mode) == "0o100644"
    assert run(*words).stdout.count(" unchanged ") == 1 + len(PLUGINS) + len(names)
    (tmp_path / "units" / names[0]).write_text("[Service]\nExecStart=/bin/true\n")
    refused = run(*words)
    assert refused.returncode == 1 and f"{names[0]}: not cnibox's" in refused.stderr
    blank = run(cnibox, "install", tmp_path / "a b", "--units", tmp_path / "units")
    assert blank.returncode == 1 and "takes no blanks" in blank.stderr and not (tmp_path / "a b").exists()


def test_interpreter_with_a_long_path(cnibox: Path, tmp_path: Path) -> None:
    """Kernels before 5.1 cut a first line at 127 bytes: then the file is installed without a stamp, and told."""
    python = tmp_path / ("x" * (stamp.MAX_SHEBANG - len(f"#!{tmp_path}//python -IS"))) / "python"
    python.parent.mkdir()
    python.symlink_to(SYSTEM_PYTHON)
    target = tmp_path / "bin"
    target.mkdir()
    done = run(cnibox, "install", target, "--python", python)
    assert done.returncode == 0 and "not stamped" in done.stdout, done
    assert parts(target / "cnibox")[0] == f"#!{python} -IS".encode()
    assert named(run(target / "bridge")) == "bridge"


# The file


def copy_of_tree(target: Path) -> None:
    target.mkdir(parents=True)
    for name in ("pyproject.toml", "LICENSE", "README.md"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, target)
    for name in ("cnibox", "packaging"):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))


def test_two_builds_are_the_same_bytes(cnibox: Path, tmp_path: Path) -> None:
    other = tmp_path / "bridge name" / "posix"
    copy_of_tree(other)
    (other / ".venv").symlink_to(ROOT / ".venv")
    environment = {**os.environ, "TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONHASHSEED": "7"}
    run("sh", "-c", "umask 077; packaging/build", cwd=other, env=environment, check=True)
    digests = {hashlib.sha256(file.read_bytes()).hexdigest() for file in (cnibox, other / "dist/cnibox")}
    assert len(digests) == 1
    assert cnibox.stat().st_size <= 1_500_000


def test_plain_file_begins_as_it_should(cnibox: Path) -> None:
    assert parts(cnibox)[0] == b"#!/usr/bin/python3 -IS"


# What a plugin writes


def written(command: str, env: dict[str, str], stdin: str, tmp_path: Path) -> set[str]:
    """The paths that an exec opens for writing, makes, renames or removes."""
    log = tmp_path / "strace"
    calls = "trace=/^(open|creat|mkdir|rename|link|symlink|unlink|mknod|truncate)"
    done = subprocess.run(
        ["strace", "-f", "-qq", "-e", calls, "-e", "signal=none", "-o", log, command],
        env=env,
        input=stdin,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done
    paths = set()
    for line in log.read_text().splitlines():
        reads = re.search(r"open(at)?\(.*O_RDONLY", line) and "O_CREAT" not in line
        if not reads:
            paths.update(re.findall(r'"([^"]+)"', line))
    return paths


def test_a_plugin_writes_nothing_but_its_state(folder: Path, tmp_path: Path) -> None:
    assert written(f"{folder}/bridge", VERSION, "", tmp_path) == set()
    leases = tmp_path / "leases"
    config = {"cniVersion": "1.0.0", "name": "n", "type": "host-local"}
    config["ipam"] = {"type": "host-local", "subnet": "10.1.0.0/24", "dataDir": str(leases)}  # type: ignore[assignment]
    environment = {
        **VERSION,
        "CNI_CONTAINERID": "a",
        "CNI_NETNS": "/n",
        "CNI_IFNAME": "eth0",
        "CNI_PATH": str(folder),
    }
    for verb in ("ADD", "DEL"):
        paths = written(f"{folder}/host-local", {**environment, "CNI_COMMAND": verb}, json.dumps(config), tmp_path)
        assert paths and all(path.startswith((str(leases), "/run/cnibox")) or "/" not in path for path in paths), paths
    assert not list(folder.glob("**/__pycache__"))
