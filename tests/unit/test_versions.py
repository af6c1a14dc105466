"""Versions of the specification: which we speak, how they compare, what shape their results have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnibox.spec import versions
from cnibox.spec.errors import CniError


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("", (0, 1, 0)), ("1", (1, 0, 0)), ("0.4", (0, 4, 0)), ("1.1.0", (1, 1, 0)), ("10.20.30", (10, 20, 30))],
)
def test_missing_parts_are_zero_and_no_version_is_0_1_0(text: str, numbers: tuple[int, int, int]) -> None:
    assert versions.parse(text) == numbers


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1.0.0.0", 'invalid version "1.0.0.0": too many parts'),
        ("x", 'failed to convert major version part "x"'),
        ("1.x", 'failed to convert minor version part "x"'),
        ("1.0.", 'failed to convert micro version part ""'),
        ("1.0.0-rc1", 'failed to convert micro version part "0-rc1"'),
        (" 1", 'failed to convert major version part " 1"'),
        ("\u0661", 'failed to convert major version part "\u0661"'),
        ("9" * 5000, "failed to convert major version part"),
    ],
)
def test_what_is_no_version_is_a_decoding_failure_in_the_references_words(text: str, words: str) -> None:
    with pytest.raises(CniError) as caught:
        versions.parse(text)
    assert caught.value.code == 6
    assert caught.value.msg.startswith(words)


@given(st.text(max_size=12))
def test_no_text_raises_anything_but_cni_error(text: str) -> None:
    try:
        assert len(versions.parse(text)) == 3
    except CniError as error:
        assert error.code == 6


def test_the_supported_versions_ascend_and_end_with_the_current_one() -> None:
    assert sorted(versions.SUPPORTED, key=versions.parse) == list(versions.SUPPORTED)
    assert (len(versions.SUPPORTED), versions.SUPPORTED[-1]) == (7, versions.CURRENT)


@pytest.mark.parametrize(
    ("version", "minimum", "is_at_least"),
    [
        ("0.4.0", "0.4.0", True),
        ("0.3.1", "0.4.0", False),
        ("1.0.0", "0.4.0", True),
        ("", "0.4.0", False),
        ("0.10.0", "0.4.0", True),
    ],
)
def test_versions_compare_as_numbers(version: str, minimum: str, is_at_least: bool) -> None:
    assert versions.at_least(version, minimum) is is_at_least


@pytest.mark.parametrize("version", ["1.0", "", "0.5.0", "1.1.1", "2.0.0", "01.0.0"])
def test_an_unknown_version_is_incompatible_and_told_with_those_we_speak(version: str) -> None:
    for refuse in (versions.require_supported, versions.family):
        with pytest.raises(CniError) as caught:
            refuse(version)
        assert (caught.value.code, caught.value.msg) == (1, "incompatible CNI versions")
        ours = '["0.1.0" "0.2.0" "0.3.0" "0.3.1" "0.4.0" "1.0.0" "1.1.0"]'
        assert caught.value.details == f'config is "{version}", plugin supports {ours}'


def test_each_supported_version_has_the_family_of_its_results() -> None:
    assert [versions.family(version) for version in versions.SUPPORTED] == [1, 1, 2, 2, 2, 3, 3]
    assert versions.same_family("0.3.1") == ["0.3.0", "0.3.1", "0.4.0"]
    for version in versions.SUPPORTED:
        versions.require_supported(version)
