"""What the tests share: the one file, the farm installed from it, a machine for each test."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machine import Machine, farm_in

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def cnibox() -> Path:
    """The one file, built from this tree."""
    built = REPOSITORY / "dist" / "cnibox"
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
