"""Versions of the CNI specification."""

from __future__ import annotations

from .errors import DECODING_FAILURE, INCOMPATIBLE_VERSION, CniError

SUPPORTED = ("0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
CURRENT = "1.1.0"
UNSAID = "0.1.0"  # what a configuration without cniVersion is written in

_FAMILIES = {"0.1.0": 1, "0.2.0": 1, "0.3.0": 2, "0.3.1": 2, "0.4.0": 2, "1.0.0": 3, "1.1.0": 3}


def parse(text: str) -> tuple[int, int, int]:
    """(major, minor, micro); missing parts are 0, no text at all is 0.1.0. CniError 6 if it is no version."""
    if not text:
        return (0, 1, 0)
    parts = text.split(".")
    if len(parts) > 3:
        raise CniError(DECODING_FAILURE, f'invalid version "{text}": too many parts')
    numbers = [0, 0, 0]
    for index, part in enumerate(parts):
        if not (part.isascii() and part.isdigit() and len(part) < 10):
            which = ("major", "minor", "micro")[index]
            raise CniError(
                DECODING_FAILURE,
                f'failed to convert {which} version part "{part}"',
                f'cniVersion "{text}" must be a version such as "{CURRENT}"',
            )
        numbers[index] = int(part)
    return (numbers[0], numbers[1], numbers[2])


def at_least(version: str, minimum: str) -> bool:
    """Whether `version` is `minimum` or later. CniError 6 if one of them is no version."""
    return parse(version) >= parse(minimum)


def require_supported(version: str) -> None:
    """CniError 1 unless we speak this version. Versions are compared as strings: "1.0" is none of ours."""
    if version not in SUPPORTED:
        ours = " ".join(f'"{each}"' for each in SUPPORTED)
        details = f'config is "{version}", plugin supports [{ours}]'
        raise CniError(INCOMPATIBLE_VERSION, "incompatible CNI versions", details)


def family(version: str) -> int:
    """Which shape results have: 1 in 0.1 and 0.2, 2 in 0.3 and 0.4, 3 in 1.x. CniError 1 for others."""
    if version not in _FAMILIES:
        require_supported(version)
    return _FAMILIES[version]


def same_family(version: str) -> list[str]:
    """The versions whose results have the shape of this one's."""
    return [each for each in SUPPORTED if _FAMILIES[each] == _FAMILIES[version]]
