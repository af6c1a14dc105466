"""What the tests share: the one file, the farm installed from it, a machine for each test; and where a test runs.

A test whose kernel features (pytest.mark.kernel) the running kernel lacks is deselected, and left to packaging/test-uml,
which runs it inside user-mode Linux. There it fails if a feature is missing again: none is skipped for want of a kernel.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.kernel import IN_UML, complaint, missing
from tests.support.machine import Machine, farm_in

REPOSITORY = Path(__file__).parent.parent
LEFT = pytest.StashKey[dict[str, list[str]]]()
"""Node ID of a test that is left to user-mode Linux -> the features that are missing."""


@pytest.fixture(scope="session")
def cnibox() -> Path:
    """The one file, built from this tree; for user-mode Linux packaging/test-uml has built it."""
    built = REPOSITORY / "dist" / "cnibox"
    if not IN_UML:
        subprocess.run([str(REPOSITORY / "packaging" / "build")], check=True, capture_output=True)
    return built


@pytest.fixture(scope="session")
def farm(cnibox: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder for CNI_PATH, stamped for the machine's Python."""
    return farm_in(tmp_path_factory.mktemp("farm"), cnibox)


@pytest.fixture
def machine(farm: str) -> Iterator[Machine]:
    with Machine(farm) as machine:
        yield machine


# --- where a test runs


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("kernel")
    group.addoption("--leave-to-uml", metavar="FILE", help="write the tests to FILE that this kernel cannot run")
    group.addoption("--left-to-uml", metavar="FILE", help="run the tests that are in FILE, all of them and no others")
    group = parser.getgroup("faults")
    group.addoption("--sample", action="store_true", help="sweep a sample of faults and limits, and a minute at random")
    group.addoption("--long", action="store_true", help="sweep all faults and limits, and 20 minutes at random")
    group.addoption("--seed", type=int, default=time.time_ns() % 1_000_000, help="repeat what was drawn with it")
    group.addoption("--fault", metavar="'CASE VERB FAULT'", help="run this one of the sweep alone")


@pytest.hookimpl(trylast=True)  # after -k
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left = {} if IN_UML else {item.nodeid: features for item in items if (features := missing(item))}
    config.stash[LEFT] = left
    chosen = {item.nodeid for item in items} - left.keys()
    if file := config.getoption("leave_to_uml"):
        Path(file).write_text("".join(f"{nodeid}\n" for nodeid in left))
    if file := config.getoption("left_to_uml"):
        listed = set(Path(file).read_text().splitlines())
        if lost := listed - chosen:
            raise pytest.UsageError(f"not here: {', '.join(sorted(lost))}")
        chosen = listed
    config.hook.pytest_deselected(items=[item for item in items if item.nodeid not in chosen])
    items[:] = [item for item in items if item.nodeid in chosen]


def pytest_runtest_setup(item: pytest.Item) -> None:
    for feature in missing(item):
        pytest.fail(f"the kernel lacks {feature}: {complaint(feature)}", pytrace=False)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """That nothing ran is no failure if all was left, to somebody who knows of it."""
    if exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED and session.config.getoption("leave_to_uml"):
        if session.config.stash.get(LEFT, {}):
            session.exitstatus = pytest.ExitCode.OK


def pytest_terminal_summary(config: pytest.Config, terminalreporter: pytest.TerminalReporter) -> None:
    if left := config.stash.get(LEFT, {}):
        features = sorted({feature for features in left.values() for feature in features})
        say = f"{len(left)} left to packaging/test-uml: this kernel lacks {', '.join(features)}"
        terminalreporter.write_sep("=", say, yellow=True)
