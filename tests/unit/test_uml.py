"""Tests that need another kernel: left out here, listed, run in user-mode Linux, and failed where that does not work."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent.parent
CONFTEST = """
from tests.support.kernel import PROBES
PROBES |= {"uml": "grep -q 'User Mode Linux' /proc/cpuinfo", "nowhere": "echo broken >&2; false"}
"""
TESTS = """
import pytest

@pytest.mark.kernel("uml")
def test_one(): pass

@pytest.mark.kernel("uml", "nowhere")
def test_two(): pass

@pytest.mark.parametrize("number", [pytest.param(1, marks=pytest.mark.kernel("uml")), 2])
def test_case(number): pass

@pytest.mark.kernel("uml")
def test_hang():
    __import__("time").sleep(1000)
"""


class Suite:
    """A folder of tests that are chosen and run as this one's are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.left = folder / "left"
        (folder / "pytest.ini").write_text("[pytest]\nmarkers = kernel\naddopts = -rf\n")
        (folder / "conftest.py").write_text(CONFTEST)
        (folder / "test_sample.py").write_text(TESTS)

    def run(self, *words: str, seconds: int = 100) -> tuple[int, str]:
        """Exit status, and what was said."""
        environ = {
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "TMPDIR": str(self.folder),
            "CNIBOX_UML_SECONDS": str(seconds),
        }
        command = [*words, "-p", "tests.conftest", "-c", f"{self.folder}/pytest.ini", str(self.folder)]
        done = subprocess.run(
            command, cwd=REPOSITORY, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        return done.returncode, done.stdout


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return Suite(tmp_path)


def test_what_this_kernel_lacks_is_left_and_listed(suite: Suite) -> None:
    status, said = suite.run("pytest", f"--leave-to-uml={suite.left}", "-k", "not hang")
    assert status == 0, said
    assert "1 passed, 4 deselected" in said
    assert "3 left to packaging/test-uml: this kernel lacks nowhere, uml" in said
    listed = [line.rpartition("::")[2] for line in suite.left.read_text().splitlines()]
    assert listed == ["test_one", "test_two", "test_case[1]"]


def test_that_all_is_left_is_success_only_to_who_runs_the_rest(suite: Suite) -> None:
    assert suite.run("pytest", "-k", "one")[0] == pytest.ExitCode.NO_TESTS_COLLECTED
    assert suite.run("pytest", f"--leave-to-uml={suite.left}", "-k", "one")[0] == 0
    assert suite.run("pytest", f"--leave-to-uml={suite.left}", "-k", "none")[0] == pytest.ExitCode.NO_TESTS_COLLECTED


def test_an_unknown_feature_is_an_error(suite: Suite) -> None:
    (suite.folder / "test_sample.py").write_text(TESTS.replace('"nowhere"', '"typo"'))
    status, said = suite.run("pytest", "-k", "two")
    assert status == pytest.ExitCode.USAGE_ERROR
    assert "unknown kernel features ['typo']" in said


def test_in_uml_those_run_and_a_feature_that_is_missing_again_fails(suite: Suite) -> None:
    status, said = suite.run("packaging/test-uml", "-k", "not hang")
    assert status == pytest.ExitCode.TESTS_FAILED, said
    assert "2 passed, 2 deselected, 1 error" in said
    assert "the kernel lacks nowhere: broken" in said


def test_a_test_that_is_lost_on_the_way_is_an_error(suite: Suite) -> None:
    suite.left.write_text("test_sample.py::test_one\ntest_sample.py::test_three\n")
    status, said = suite.run("packaging/test-uml", "--left", str(suite.left))
    assert status == pytest.ExitCode.USAGE_ERROR, said
    assert "not here: test_sample.py::test_three" in said


def test_uml_without_a_result_is_a_failure_and_leaves_no_process(suite: Suite) -> None:
    status, said = suite.run("packaging/test-uml", "-k", "hang", seconds=6)
    assert status == 1, said
    assert "FAILED: user-mode Linux has not run the tests to their end" in said
    assert subprocess.run(["pgrep", "-f", f"linux.uml.*{suite.folder}"], capture_output=True).stdout == b""
    assert not list(suite.folder.glob("tmp.*"))
