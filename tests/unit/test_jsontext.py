"""JSON is read strictly, within limits, and written as Go writes it."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnibox.spec.jsontext import MAX_DEPTH, MAX_DIGITS, decode, encode, keys_of, member, quoted

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)
# What JSON is made of, and what is nearly JSON: texts from these are malformed in interesting ways.
PIECES = st.sampled_from(
    [
        *'{}[]:,"\\/-+.0123456789eEu \t\n\r\x00\x1f\x7f\xa0\u2028\ufeff',
        *("true", "false", "null", "NaN", "Infinity", "-Infinity", "nul", "True", "0x1", "//", "'"),
        *(
            '"a"',
            '"\\n"',
            '"\\u00e9"',
            '"\\ud83d\\ude00"',
            '"\\uZZZZ"',
            '"\\x41"',
            "1e5",
            "-0",
            "01",
            "1.",
            ".5",
        ),
    ]
)


def reference(text: str) -> object:
    """What the standard library reads; where it is laxer than RFC 8259, a ValueError."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    def in_range(number: str) -> float:
        if math.isinf(float(number)):
            raise ValueError(number)
        return float(number)

    return json.loads(text, parse_constant=refuse, parse_float=in_range)


def same(left: object, right: object) -> bool:
    """Equal in value and in type, down to 1 against 1.0 and the order of keys."""
    return repr(left) == repr(right)


def agree(text: str) -> None:
    try:
        expected = reference(text)
    except ValueError:
        with pytest.raises(ValueError, match=r"^line \d+, column \d+: (expected|JSON has no comments)"):
            decode(text)
    else:
        assert same(decode(text), expected)


@given(VALUES, st.sampled_from([None, 2, "\t"]), st.booleans())
@settings(deadline=None)
def test_any_json_text_is_read_as_the_standard_library_reads_it(
    value: object, indent: int | str | None, ascii_only: bool
) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert same(decode(text), json.loads(text))


@given(VALUES, st.integers(0, 200), st.integers(0, 3), PIECES)
@settings(deadline=None, max_examples=300)
def test_a_damaged_text_is_refused_or_means_what_the_standard_library_says(
    value: object, place: int, removed: int, inserted: str
) -> None:
    text = json.dumps(value, ensure_ascii=False)
    place %= len(text) + 1
    damaged = text[:place] + inserted + text[place + removed :]
    if "\\u" not in damaged:  # half a surrogate pair is read as in Go; tested below
        agree(damaged)


@given(st.lists(PIECES, max_size=12).map("".join))
@settings(deadline=None, max_examples=500)
def test_a_jumble_of_pieces_is_refused_or_means_what_the_standard_library_says(text: str) -> None:
    agree(text)


@given(st.binary(max_size=60))
@settings(deadline=None)
def test_arbitrary_bytes_raise_nothing_but_value_error(data: bytes) -> None:
    agree(data.decode("latin-1"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1, column 1: expected a value, the text ends here"),
        ("{\n  'a': 1}", """line 2, column 3: expected a key in double quotes, not "'\""""),
        ('{"a" 1}', "line 1, column 6: expected ':' behind the key, not '1'"),
        ('{"a": 1,}', "line 1, column 9: expected a key in double quotes, not '}'"),
        ('{"a": 1', "line 1, column 8: expected ',' or '}', the text ends here"),
        ("[1,\n2,]", "line 2, column 3: expected a value, not ']'"),
        ("[1 2]", "line 1, column 4: expected ',' or ']', not '2'"),
        ("{} {}", "line 1, column 4: expected nothing more behind the value, not '{'"),
        ('["a]', "line 1, column 2: expected the string that begins here to end, not '\"'"),
        ('"a\nb"', "line 1, column 3: expected control characters in a string to be escaped, not '\\n'"),
        ('"\\x"', """line 1, column 3: expected one of "\\/bfnrtu behind the backslash, not 'x'"""),
        ('"\\u12"', "line 1, column 4: expected four hexadecimal digits behind \\u, not '1'"),
        ("[NaN]", "line 1, column 2: expected a value, not 'N'"),
        ("[01]", "line 1, column 2: expected a number without leading zeros, not '01'"),
        ("[1.]", "line 1, column 2: expected a number, not '1.'"),
        ("1e999", "line 1, column 1: expected a number in the range of a double, not '1e999'"),
        ("\ufeff{}", "line 1, column 1: expected a value, not '\\ufeff'"),
        ("{}\0", "line 1, column 3: expected nothing more behind the value, not '\\x00'"),
    ],
)
def test_the_error_tells_where_and_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        decode(text)
    assert str(caught.value) == message


def test_the_last_of_duplicate_keys_wins() -> None:
    assert decode('{"a": 1, "b": 2, "a": 3}') == {"a": 3, "b": 2}


@pytest.mark.parametrize(
    ("escaped", "meant"),
    [
        ("\\ud83d\\ude00", "\U0001f600"),
        ("\\ud83d", "\ufffd"),
        ("\\ude00", "\ufffd"),
        ("\\ud83dx", "\ufffdx"),
        ("\\ud83d\\n", "\ufffd\n"),
        ("\\ud83d\\u0041", "\ufffdA"),
        ("\\ud83d\\ud83d\\ude00", "\ufffd\U0001f600"),
        ("\\u0000", "\0"),
        ('\\"\\\\\\/\\b\\f\\n\\r\\t', '"\\/\b\f\n\r\t'),
    ],
)
def test_escapes_mean_what_they_mean_to_go(escaped: str, meant: str) -> None:
    assert decode(f'"{escaped}"') == meant


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
def test_nesting_is_limited(opening: str, closing: str) -> None:
    deepest = opening * (MAX_DEPTH - 1) + "[]" + closing * (MAX_DEPTH - 1)
    assert encode(decode(deepest)) == deepest
    with pytest.raises(ValueError, match="expected at most 200 levels of nesting"):
        decode(opening + deepest + closing)
    with pytest.raises(ValueError, match="expected at most 200 levels of nesting"):
        decode(opening * 1_000_000)


def test_huge_integers_are_refused_and_large_ones_kept() -> None:
    assert decode("-" + "9" * MAX_DIGITS) == -(10**MAX_DIGITS - 1)
    for digits in (MAX_DIGITS + 1, 2_000_000):
        with pytest.raises(ValueError, match="expected a number of at most 4300 digits"):
            decode("9" * digits)


@pytest.mark.parametrize(
    "text",
    [
        '"' + "\\\\" * 300_000 + '"',
        '"' + "\\u00e9" * 100_000,
        "[" + "1," * 200_000 + "1]",
        '{"a":"' + "x" * 2_000_000 + '"}',
        " " * 500_000,
    ],
    ids=["escapes", "unterminated escapes", "long list", "long string", "white space"],
)
def test_long_texts_take_time_in_proportion(text: str) -> None:
    """Quadratic behaviour would take minutes here."""
    try:
        decode(text)
    except ValueError:
        json_refuses = False
        try:
            json.loads(text)
        except ValueError:
            json_refuses = True
        assert json_refuses


@pytest.mark.parametrize(
    ("name", "found"),
    [("mtu", 1), ("MTU", 2), ("Mtu", 2), ("ISGATEWAY", True), ("isgateway", True), ("x", None)],
)
def test_keys_are_found_whatever_their_case_the_exact_one_first(name: str, found: object) -> None:
    assert member({"mtu": 1, "MTU": 2, "isGateway": True}, name) == found


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("<a href='x'>&</a>", "\"\\u003ca href='x'\\u003e\\u0026\\u003c/a\\u003e\""),
        ("\u2028\u2029", '"\\u2028\\u2029"'),
        ("\x00\x01\x1f\x7f", '"\\u0000\\u0001\\u001f\x7f"'),
        ("\b\f\n\r\t", '"\\b\\f\\n\\r\\t"'),
        ('"\\', '"\\"\\\\"'),
        ("é\U0001f600", '"é\U0001f600"'),
        ("a\udcff<é", '"a\\ufffd\\u003cé"'),
        ([], "[]"),
        ({}, "{}"),
        ((1, None, True, False), "[1,null,true,false]"),
        ({"b": {"c": []}, "a": -1}, '{"b":{"c":[]},"a":-1}'),
        ([1.0, 2.5, 1e20, -0.5], "[1,2.5,100000000000000000000,-0.5]"),
    ],
)
def test_values_are_written_as_go_writes_them(value: object, text: str) -> None:
    assert encode(value) == text


def test_indented_output_has_the_layout_of_go() -> None:
    value = {"cniVersion": "1.0.0", "ips": [{"address": "10.1.2.3/24"}, {}], "routes": [], "dns": {}}
    assert encode(value, indent=4) == (
        "{\n"
        '    "cniVersion": "1.0.0",\n'
        '    "ips": [\n'
        "        {\n"
        '            "address": "10.1.2.3/24"\n'
        "        },\n"
        "        {}\n"
        "    ],\n"
        '    "routes": [],\n'
        '    "dns": {}\n'
        "}"
    )


@given(VALUES, st.sampled_from([0, 4]))
@settings(deadline=None)
def test_what_is_written_is_read_back(value: object, indent: int) -> None:
    text = encode(value, indent)
    assert text.isascii() or text.encode()
    assert json.loads(text) == decode(text) == value


@pytest.mark.parametrize("value", [math.nan, math.inf, b"x", {1: 2}, {"a": {1, 2}}, object()])
def test_what_json_cannot_say_is_not_written(value: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        encode(value)


def test_values_in_messages_are_cut() -> None:
    assert quoted("yes") == '"yes"'
    assert len(quoted(["x" * 50] * 9)) == 60


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ('{"sysctl": {"a": 1, "b": [{"x": 2}], "a": "}"}, "z": 1}', ["a", "b", "a"]),
        (' { "x" : {"a": 1, "a": 1} , "Sysctl" : { } } ', []),
        ('{"x": {"sysctl": {"a": 1}}}', []),
        ('{"sysctl": 5}', []),
        ('{"sysctl": {"\\u0061": 1, "a": 2}}', ["a", "a"]),
        ("{}", []),
    ],
)
def test_keys_as_they_stand_there(text: str, keys: list[str]) -> None:
    assert keys_of(text, "sysctl") == keys


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('// a bridge\n{"type": "bridge"}', "line 1, column 1"),
        ('{\n  "type": "bridge", // the plugin\n  "mtu": 1500}', "line 2, column 21"),
        ('{"mtu": /* jumbo */ 9000}', "line 1, column 9"),
        ('{"mtu": 9000}\n# the end', "line 2, column 1"),
        ('{"list": [1, // one\n 2]}', "line 1, column 14"),
    ],
)
def test_comments_are_called_so(text: str, place: str) -> None:
    with pytest.raises(ValueError, match="JSON has no comments") as caught:
        decode(text)
    assert str(caught.value).startswith(place)


def test_slashes_in_strings_are_no_comments() -> None:
    assert decode('{"a": "http://x/*y*/#z"}') == {"a": "http://x/*y*/#z"}
    for text in ('"\\#"', '"\\u//12"'):
        with pytest.raises(ValueError, match="expected"):
            decode(text)
