"""A Python older than cnibox needs: each way to start answers which one is needed, and which this is."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cnibox import old_python

ROOT = Path(__file__).parent.parent.parent
BARE = {"PATH": "/usr/bin:/bin"}
NEEDED = "cnibox needs Python 3.11 or newer; "

PRETENCE = """
import runpy, sys
sys.version_info = (3, {minor}, 14, "final", 0)
sys.modules["_frozen_importlib_external"].MAGIC_NUMBER = b"old!"
"""
"""This interpreter in the role of an older one, which knows no stamp and no bytecode of a newer one."""
WAYS = {
    "plain": "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')",
    "stamped": "f = open(sys.argv[1], 'rb'); f.readline(); exec(f.readline())",
    "module": "sys.argv = sys.argv[1:]; sys.path.insert(0, {root!r}); runpy.run_module('cnibox', run_name='__main__')",
}
OLD = [
    python
    for minor in range(6, 11)
    for python in (
        shutil.which(f"python3.{minor}"),
        *map(str, Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python")),
    )
    if python and subprocess.run([python, "-c", ""], capture_output=True).returncode == 0
]
"""Those of this machine; PRETENCE stands for the others."""


def run(*argv: object, **environ: str) -> subprocess.CompletedProcess[str]:
    words = [str(word) for word in argv]
    return subprocess.run(
        words, env={**BARE, **environ}, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=ROOT
    )


@pytest.fixture
def files(cnibox: Path, farm: str) -> dict[str, Path]:
    return {"plain": cnibox, "stamped": Path(farm) / "cnibox", "module": cnibox}


def check_answers(command: list[object], version: str) -> None:
    """A runtime gets an error object on stdout and nothing else; a person gets the line first, on stderr."""
    for verb, code in (("ADD", 999), ("DEL", 999), ("VERSION", 999), ("STATUS", 50)):
        answer = run(*command, "bridge", CNI_COMMAND=verb)
        assert (answer.returncode, answer.stderr) == (1, ""), answer
        error = json.loads(answer.stdout)
        assert error["code"] == code and "--python PATH" in error["details"]
        assert error["msg"].startswith(NEEDED) and error["msg"].endswith(f" is Python {version}"), error
    for arguments in (["list"], ["install", "/tmp"], ["bridge", "--help"], ["bridge"], []):
        answer = run(*command, *arguments)
        assert (answer.returncode, answer.stdout) == (1, ""), answer
        first, second = answer.stderr.splitlines()
        assert first.startswith(NEEDED) and first.endswith(f" is Python {version}") and "--python PATH" in second


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("minor", [8, 10])
def test_each_way_to_start(files: dict[str, Path], way: str, minor: int) -> None:
    script = PRETENCE.format(minor=minor) + WAYS[way].format(root=str(ROOT))
    check_answers([sys.executable, "-IS", "-c", script, files[way]], f"3.{minor}.14")


@pytest.mark.parametrize("python", OLD)
def test_each_old_python_of_this_machine(files: dict[str, Path], farm: str, tmp_path: Path, python: str) -> None:
    version = run(python, "-c", "import sys; print('%d.%d.%d' % sys.version_info[:3])").stdout.strip()
    check_answers([python, files["plain"]], version)
    check_answers([python, "-m", "cnibox"], version)
    # A stamped file whose interpreter's path is an older Python by now.
    content = (Path(farm) / "cnibox").read_bytes()
    file = tmp_path / "cnibox"
    file.write_bytes(re.sub(rb"^#!\S+", b"#!" + python.encode(), content))
    file.chmod(0o755)
    check_answers([file], version)
    refused = run(files["plain"], "install", tmp_path, "--python", python)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == f"cnibox install: {NEEDED}{python} is Python {version}\n"


def test_install_refuses_an_old_interpreter(cnibox: Path, tmp_path: Path) -> None:
    python = tmp_path / "python3.7"
    python.write_text("#!/bin/sh\nprintf 3.7.2\n")
    python.chmod(0o755)
    refused = run(cnibox, "install", tmp_path, "--python", python)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr == f"cnibox install: {NEEDED}{python} is Python 3.7.2\n"
    assert os.listdir(tmp_path) == ["python3.7"]


@pytest.mark.parametrize(
    "file", ["cnibox/__init__.py", "cnibox/__main__.py", "cnibox/old_python.py", "packaging/zip_main.py"]
)
def test_what_an_old_python_reads_first_has_its_syntax(file: str) -> None:
    text = (ROOT / file).read_text()
    ast.parse(text, feature_version=(3, 6))
    assert "from __future__ import annotations" not in text  # Python 3.6 does not know it
    if "if sys.version_info" in text:
        condition = f"if sys.version_info < {old_python.NEEDED}:"
        before = text[: text.index(condition)]
        assert not re.findall(r"^ *(?:import|from) (?!posix|sys)", before, re.MULTILINE), "cnibox is imported too early"
