from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cnibox.registry import PLUGINS
from tests.faults.cases import Case
from tests.faults.steps import container
from tests.support.faulty import REPOSITORY, Agent
from tests.support.firewall import ask_firewalld, running_firewalld
from tests.support.machine import Machine


@pytest.fixture(scope="session")
def source_farm(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A farm of symlinks to the source: found on CNI_PATH, never exec'd."""
    folder: Path = tmp_path_factory.mktemp("farm")
    for name in PLUGINS:
        (folder / name).symlink_to(REPOSITORY / "cnibox" / "__main__.py")
    return str(folder)


@pytest.fixture
def agent(source_farm: str, request: pytest.FixtureRequest) -> Iterator[Agent]:
    case: Case | None = getattr(request.node, "callspec", None) and request.node.callspec.params.get("case")
    with ExitStack() as stack:
        machine = stack.enter_context(Machine(source_farm))
        if case is not None:
            machine.run("sh", "-ec", case.setup)
            if case.firewalld:
                stack.enter_context(running_firewalld(machine))
                for method in ("addSource", "removeSource"):  # a zone's chains are made when it is first used, and stay
                    ask_firewalld(machine, method, "trusted", "192.0.2.1")
        for name in ("c1", "c2"):
            container(machine, name, case)
        agent = Agent(machine, source_farm)
        yield agent
        agent.close()


SWEEPS = ("test_sweep.py", "test_disorder.py")
"""They find violations that are not mended yet: packaging/test runs them only when it is asked to."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    is_asked_for = any(config.getoption(option) for option in ("sample", "long", "fault"))
    return True if collection_path.name in SWEEPS and not is_asked_for else None


@pytest.fixture
def tell(capfd: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Print it at once, whether the test fails or not."""

    def tell(text: str) -> None:
        with capfd.disabled():
            print(f"\n{text}", flush=True)

    return tell
