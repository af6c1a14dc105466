"""Six workers with random ADDs, CHECKs and DELs, killed plugins, lost namespaces, Go's plugins; repair, flushes and installs beside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.faulty import REPOSITORY
from tests.support.machine import Machine, farm_in


@pytest.mark.kernel("ifb", "tbf", "macvlan")
def test_random_run(
    request: pytest.FixtureRequest, cnibox: Path, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    """At the end nothing is left; no address or port is given twice; containers are reachable."""
    seed = request.config.getoption("seed")
    seconds = 1200 if request.config.getoption("long") else 60
    farm = tmp_path / "farm"
    farm.mkdir()
    farm_in(farm, cnibox)  # its own: it is installed again and again
    with Machine(str(farm)) as machine:
        asked = json.dumps({"farm": str(farm), "seed": seed, "seconds": seconds, "workers": 6})
        words = machine.enter(sys.executable, "-m", "tests.support.disorder", asked)
        environ = {"PYTHONPATH": str(REPOSITORY), "PATH": os.environ["PATH"]}
        ended = subprocess.run(words, capture_output=True, text=True, env=environ)
    assert ended.returncode == 0, ended.stderr
    told = json.loads(ended.stdout)
    lines = [f"seed {seed}: {', '.join(f'{count} {what}' for what, count in told['counts'].items())}"]
    lines.append(f"{len(told['violations'])} violations")
    for each in told["violations"][:25]:
        lines += [each["words"], *(f"    {line}" for line in each["sequence"])]
    tell("\n".join(lines))
    if told["violations"]:
        pytest.fail(f"{len(told['violations'])} violations; --seed {seed} begins the same way", pytrace=False)
