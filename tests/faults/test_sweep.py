"""Every plugin and verb under errors of the kernel's and real limits: a sample, drawn anew each time; all with --long.

--seed repeats a sample, --fault one run of it, as the report tells it: --fault 'bridge-iptables ADD openat:error=EIO:when=31'.
"""

from __future__ import annotations

import math
import random
import re
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.cases import CASES, Case
from tests.faults.steps import named
from tests.support.inject import LIMITS, Fault, Limit, parsed
from tests.support.kernel import complaint
from tests.support.sweep import Sweep, Tally

SAME_PORT = [
    replace(case, name=f"{case.name}-same-port", beside=case.config)
    for case in (named("portmap-iptables"), named("portmap-nftables"))
]
"""c1 asks for the host port that c2 has."""
SWEPT = SAME_PORT + [case for case in CASES if not case.replaces]
"""Not where forceAddress takes away what the other container has: that is what it is for."""
SAMPLE = {"faults": 6, "limits": 2}
"""Runs for each case and verb; a slow machine gets fewer."""
SECONDS = {"faults": 80, "limits": 30}


def swept(
    request: pytest.FixtureRequest,
    kind: str,
    choose: Callable[[Sweep, str, bool, random.Random, int], Iterable[Fault | Limit]],
) -> None:
    """Try what is chosen for each verb of each case, two cases at a time."""
    farm, scratch, tell = (request.getfixturevalue(name) for name in ("farm", "tmp_path", "tell"))
    if asked := request.config.getoption("fault"):
        return repeated(farm, scratch, kind, asked)
    seed: int = request.config.getoption("seed")
    whole: bool = request.config.getoption("long")
    deadline = math.inf if whole else time.monotonic() + SECONDS[kind]
    cases = [case for case in SWEPT if not any(complaint(feature) for feature in case.kernel)]
    random.Random(seed).shuffle(cases)
    total = Tally()

    def one(case: Case) -> Tally:
        with Sweep(case, farm, scratch / case.name, refused=case in SAME_PORT) as sweep:
            for verb in sweep.verbs() if time.monotonic() < deadline else ():
                rng = random.Random(f"{seed} {case.name} {verb}")
                stale = rng.random() < 0.5
                sweep.run(verb, choose(sweep, verb, stale, rng, 0 if whole else SAMPLE[kind]), stale, deadline)
            return sweep.tally

    pool = ThreadPoolExecutor(2)
    try:
        for number, tally in enumerate(pool.map(one, cases), 1):
            total.add(tally)
            if whole:
                tell(f"{number} of {len(cases)} cases: {total.runs} runs, {len(total.violations)} violations")
    finally:
        pool.shutdown(cancel_futures=True)
        tell(total.report(seed, 200 if whole else 30))
    if total.violations:
        pytest.fail(f"{len(total.violations)} violations; --seed {seed} draws the same", pytrace=False)


def repeated(farm: str, scratch: Path, kind: str, asked: str) -> None:
    """One run, as the report tells it, with an index of leases that holds and with one that does not."""
    name, verb, fault = re.fullmatch(r"(\S+) (.+?) (\S+:.*|nofile.*|/.*)", asked).groups()  # type: ignore[union-attr]
    (case,) = (case for case in SWEPT if case.name == name)
    for stale in (False, True) if isinstance(parsed(fault), Fault) == (kind == "faults") else ():
        with Sweep(case, farm, scratch / "log", refused=case in SAME_PORT) as sweep:
            sweep.run(verb, [parsed(fault)], stale)
            if sweep.tally.violations:
                pytest.fail(sweep.tally.report(0), pytrace=False)


def test_injected_faults(request: pytest.FixtureRequest) -> None:
    """Each system call fails in one of the ways that fit; every third stays broken from then on. Or a sample of these."""

    def choose(sweep: Sweep, verb: str, stale: bool, rng: random.Random, count: int) -> list[Fault]:
        found = []
        for faults in sweep.faults(verb, stale):
            lasting = [each for each in faults if each.lasting]
            once = [each for each in faults if not each.lasting]
            found.append(rng.choice(lasting if lasting and rng.random() < 0.33 else once))
        return rng.sample(found, min(count, len(found))) if count else found

    swept(request, "faults", choose)


def test_real_limits(request: pytest.FixtureRequest) -> None:
    """4 to 24 open files; /run and /var/lib/cni full, out of inodes, and read-only."""

    def choose(sweep: Sweep, verb: str, stale: bool, rng: random.Random, count: int) -> list[Limit]:
        # Go's host-local says 0 although it could not remove a lease: what our plugins say of it is right.
        limits = [each for each in LIMITS if not (sweep.case.path and each.name.startswith("/var"))]
        return rng.sample(limits, count or len(limits))

    swept(request, "limits", choose)
