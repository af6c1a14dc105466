"""The parameters of the token buckets: the reference's, in whole numbers."""

from __future__ import annotations

import pytest

from cnibox.plugins.meta.bandwidth import bucket
from cnibox.spec.errors import CniError

MAX = 2**32 - 1


@pytest.mark.parametrize(
    ("rate", "burst", "latency", "expected"),
    [
        (8_000_000, 1_600_000, 25, (1_000_000, 225_000, 3_125_000)),  # observed of the Go plugin
        (8_000_000, 1_600_000, 100, (1_000_000, 300_000, 3_125_000)),
        (8, 8, 25, (1, 1, 15_625_000)),
        (15, 15, 25, (1, 1, 15_625_000)),
        (1_000_000_007, 12_345, 25, (125_000_000, 3_126_543, 187)),  # 12 us are 187.5 ticks
        (9_000_000, 1_600_000, 25, (1_125_000, 228_125, 2_777_765)),
        (80_000_000_000, 8_000_000, 25, (10_000_000_000, 251_000_000, 1_562)),  # beyond 32 bits of byte/s
        (1_000_000, 2**31 - 1, 25, (125_000, 268_438_580, MAX)),  # the kubelet's burst: 2147 s
        (8_000_000_000, 8 * (MAX - 1), 25, (1_000_000_000, MAX, 67_108_859)),
    ],
)
def test_parameters(rate: int, burst: int, latency: int, expected: tuple[int, int, int]) -> None:
    found = bucket("ingress", rate, burst, latency)
    assert found is not None
    assert (found.rate, found.limit, found.buffer) == expected


def test_what_the_go_plugin_makes_of_a_large_burst() -> None:
    found = bucket("ingress", 1_000_000, 2**31 - 1, 25)
    assert found is not None
    assert found.wrapped == (268_438_580, (2_147_483_640 * 15_625 // 1000) % 2**32)


def test_no_limit() -> None:
    assert bucket("ingress", 0, 0, 25) is None


@pytest.mark.parametrize(
    ("rate", "burst", "text"),
    [
        (1000, 0, "if rate is set, burst must also be set"),
        (0, 1000, "if burst is set, rate must also be set"),
        (1000, 8 * MAX, "burst cannot be more than 4GB"),
        (7, 1000, "a rate must be at least 8 bit/s, one byte per second"),
    ],
)
def test_errors(rate: int, burst: int, text: str) -> None:
    with pytest.raises(CniError) as caught:
        bucket("egress", rate, burst, 25)
    assert (caught.value.code, caught.value.msg) == (7, text)
    assert "egress" in caught.value.details


def test_as_text_and_equal() -> None:
    assert bucket("ingress", 80, 80, 25) == bucket("ingress", 81, 87, 25)
    assert bucket("ingress", 80, 80, 25) != bucket("ingress", 88, 80, 25)
    assert "rate 10 bytes/s" in str(bucket("ingress", 80, 80, 25))
