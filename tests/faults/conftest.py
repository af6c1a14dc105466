from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cnibox.registry import PLUGINS
from tests.faults.cases import Case
from tests.faults.steps import container
from tests.support.faulty import REPOSITORY, Agent
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
    with Machine(source_farm) as machine:
        if case is not None:
            machine.run("sh", "-ec", case.setup)
        for name in ("c1", "c2"):
            container(machine, name)
        agent = Agent(machine, source_farm)
        yield agent
        agent.close()
