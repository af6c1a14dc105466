"""JSON without the standard library: python3-minimal lacks _json, and importing json costs 7 ms.

Decoding is strict RFC 8259. The limits are ours: values nest at most 200 deep (Go: 10,000), integers have at
most 4,300 digits, and floats are in the range of a double. As in Go, the last of duplicate keys wins, and an
escaped surrogate that is not one of a pair becomes U+FFFD.

Encoding follows Go's encoding/json (HTML characters escaped, for instance), so that results can be compared
with those of the reference plugins as text.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_DEPTH = 200
MAX_DIGITS = 4300  # where int() itself refuses; converting is quadratic in the number of digits

_SPACE = " \t\n\r"
_NUMBER = "0123456789+-.eE"
_ESCAPES = {'"': '"', "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_HEX = "0123456789abcdefABCDEF"

_COMMENTS = ("//", "/*", "#")

# Stands behind the text while it is decoded: no rule allows it, so no function needs to test for the end.
_END = "\0"


def decode(text: str) -> object:
    """The value of a JSON text: dict, list, str, int, float, bool or None.

    ValueError "line 3, column 7: expected ..." if it is malformed, too deep, or goes on behind the value.
    """
    text += _END
    value, at = _value(text, _skip_space(text, 0), 0)
    at = _skip_space(text, at)
    if at != len(text) - 1:
        raise _malformed(text, at, "expected nothing more behind the value")
    return value


def member(members: dict[str, object], name: str) -> object:
    """The value of a key, found as Go does: whatever its case; None if absent. An exact match comes first."""
    if name in members:
        return members[name]
    wanted = name.lower()
    found = None
    for key in members:
        if key.lower() == wanted:
            found = members[key]
    return found


def has_member(members: dict[str, object], name: str) -> bool:
    """Whether there is such a key, whatever its case; its value may be null."""
    wanted = name.lower()
    return any(key.lower() == wanted for key in members)


def keys_of(text: str, name: str) -> list[str]:
    """The keys of the text's member of that name, an object, as they stand there: also duplicates, unlike decode().

    `text` must be one that decode() takes.
    """
    keys: list[str] = []
    text += _END
    for key, place in _members(text, _skip_space(text, 0)):
        if key.lower() == name.lower() and text[place] == "{":
            keys = [inner for inner, _ in _members(text, place)]
    return keys


def _members(text: str, at: int) -> Iterator[tuple[str, int]]:
    """(key, place of its value) of the object that begins there."""
    at = _skip_space(text, at + 1)
    while text[at] == '"':
        key, at = _string(text, at + 1)
        at = _skip_space(text, _skip_space(text, at) + 1)
        yield key, at
        at = _skip_space(text, _value(text, at, 0)[1])
        if text[at] == ",":
            at = _skip_space(text, at + 1)


def encode(value: object, indent: int = 0) -> str:
    """`value` as Go's json.Marshal writes it; with an indent as json.MarshalIndent(value, "", indent spaces).

    Keys keep their order. Lone surrogates (undecodable bytes of the environment) become U+FFFD. Floats that
    are not integers keep Python's notation, whose exponents can differ from Go's. TypeError or ValueError for
    what JSON cannot say.
    """
    pieces: list[str] = []
    _write(value, "\n" if indent else "", " " * indent, pieces)
    return "".join(pieces)


def quoted(value: object, limit: int = 60) -> str:
    """`value` as JSON for a message, cut to about `limit` characters."""
    text = encode(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


# Decoding. Each function gets the text and the place where its value begins, and returns the value and the
# place behind it. The loops that skip white space stand inline in the containers: a call would cost more.


def _malformed(text: str, at: int, expected: str, end: int = 0, *, in_string: bool = False) -> ValueError:
    """What was expected at a place, and what is there: one character, or what reaches to `end`."""
    line = text.count("\n", 0, at) + 1
    column = at - text.rfind("\n", 0, at)
    if not in_string and text.startswith(_COMMENTS, at):
        return ValueError(f"line {line}, column {column}: JSON has no comments: remove what begins here")
    found = "the text ends here" if at >= len(text) - 1 else f"not {text[at : min(end or at + 1, at + 40)]!r}"
    return ValueError(f"line {line}, column {column}: {expected}, {found}")


def _skip_space(text: str, at: int) -> int:
    while text[at] in _SPACE:
        at += 1
    return at


def _value(text: str, at: int, depth: int) -> tuple[object, int]:
    first = text[at]
    if first == '"':
        return _string(text, at + 1)
    if first == "{":
        return _object(text, at + 1, depth + 1)
    if first == "[":
        return _array(text, at + 1, depth + 1)
    if first == "t" and text.startswith("true", at):
        return True, at + 4
    if first == "f" and text.startswith("false", at):
        return False, at + 5
    if first == "n" and text.startswith("null", at):
        return None, at + 4
    if first in "-0123456789":
        return _number(text, at)
    raise _malformed(text, at, "expected a value")


def _object(text: str, at: int, depth: int) -> tuple[object, int]:
    if depth > MAX_DEPTH:
        raise _malformed(text, at - 1, f"expected at most {MAX_DEPTH} levels of nesting")
    members: dict[str, object] = {}
    while text[at] in _SPACE:
        at += 1
    if text[at] == "}":
        return members, at + 1
    while True:
        if text[at] != '"':
            raise _malformed(text, at, "expected a key in double quotes")
        key, at = _string(text, at + 1)
        while text[at] in _SPACE:
            at += 1
        if text[at] != ":":
            raise _malformed(text, at, "expected ':' behind the key")
        at += 1
        while text[at] in _SPACE:
            at += 1
        members[key], at = _value(text, at, depth)
        while text[at] in _SPACE:
            at += 1
        if text[at] == "}":
            return members, at + 1
        if text[at] != ",":
            raise _malformed(text, at, "expected ',' or '}'")
        at += 1
        while text[at] in _SPACE:
            at += 1


def _array(text: str, at: int, depth: int) -> tuple[object, int]:
    if depth > MAX_DEPTH:
        raise _malformed(text, at - 1, f"expected at most {MAX_DEPTH} levels of nesting")
    items: list[object] = []
    while text[at] in _SPACE:
        at += 1
    if text[at] == "]":
        return items, at + 1
    while True:
        item, at = _value(text, at, depth)
        items.append(item)
        while text[at] in _SPACE:
            at += 1
        if text[at] == "]":
            return items, at + 1
        if text[at] != ",":
            raise _malformed(text, at, "expected ',' or ']'")
        at += 1
        while text[at] in _SPACE:
            at += 1


def _string(text: str, at: int) -> tuple[str, int]:
    quote = text.find('"', at)
    body = text[at:quote]
    if quote < 0 or "\\" in body:
        return _escaped_string(text, at)
    if not body.isprintable():
        _refuse_control(text, at, quote)
    return body, quote + 1


def _escaped_string(text: str, at: int) -> tuple[str, int]:
    pieces: list[str] = []
    opening, quote = at - 1, text.find('"', at)
    while True:
        if quote < 0:
            raise _malformed(text, opening, "expected the string that begins here to end")
        backslash = text.find("\\", at, quote)
        end = quote if backslash < 0 else backslash
        _refuse_control(text, at, end)
        pieces.append(text[at:end])
        if backslash < 0:
            return "".join(pieces), quote + 1
        piece, at = _escape(text, backslash + 1)
        pieces.append(piece)
        if quote < at:
            quote = text.find('"', at)


def _refuse_control(text: str, at: int, end: int) -> None:
    body = text[at:end]
    if not body.isprintable() and min(body) < " ":
        place = next(place for place in range(at, end) if text[place] < " ")
        raise _malformed(text, place, "expected control characters in a string to be escaped")


def _escape(text: str, at: int) -> tuple[str, int]:
    """The character that an escape stands for; `at` is behind the backslash."""
    if text[at] in _ESCAPES:
        return _ESCAPES[text[at]], at + 1
    if text[at] != "u":
        raise _malformed(text, at, 'expected one of "\\/bfnrtu behind the backslash', in_string=True)
    code = _four_hex(text, at + 1)
    at += 5
    if not 0xD800 <= code <= 0xDFFF:
        return chr(code), at
    if code < 0xDC00 and text.startswith("\\u", at):
        low = _four_hex(text, at + 2)
        if 0xDC00 <= low <= 0xDFFF:
            return chr(0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)), at + 6
    return "\ufffd", at


def _four_hex(text: str, at: int) -> int:
    digits = text[at : at + 4]
    if len(digits) < 4 or digits.strip(_HEX):
        raise _malformed(text, at, "expected four hexadecimal digits behind \\u", in_string=True)
    return int(digits, 16)


def _number(text: str, at: int) -> tuple[object, int]:
    end = at + 1
    while text[end] in _NUMBER:
        end += 1
    token = text[at:end]
    digits = token[1:] if token[0] == "-" else token
    if digits.isdigit():
        if digits[0] == "0" and len(digits) > 1:
            raise _malformed(text, at, "expected a number without leading zeros", end)
        if len(digits) > MAX_DIGITS:
            raise _malformed(text, at, f"expected a number of at most {MAX_DIGITS} digits", end)
        return int(token), end
    if not _is_float(digits):
        raise _malformed(text, at, "expected a number", end)
    number = float(token)
    if number - number != 0:  # infinite
        raise _malformed(text, at, "expected a number in the range of a double", end)
    return number, end


def _is_float(digits: str) -> bool:
    """RFC 8259, section 6. float() would take "1.", ".5" and "01e1", too."""
    mantissa, e, exponent = digits.replace("E", "e").partition("e")
    if e and not (exponent[1:] if exponent[:1] in ("+", "-") else exponent).isdigit():
        return False
    whole, point, fraction = mantissa.partition(".")
    if point and not fraction.isdigit():
        return False
    return whole.isdigit() and (whole == "0" or whole[0] != "0")


# Encoding.

_ESCAPED = {code: f"\\u{code:04x}" for code in (*range(32), ord("<"), ord(">"), ord("&"), 0x2028, 0x2029)}
_ESCAPED.update({ord('"'): '\\"', ord("\\"): "\\\\", 8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r"})


def _write(value: object, newline: str, step: str, pieces: list[str]) -> None:
    """`newline` begins a line at the level of the value itself; empty for compact output."""
    if isinstance(value, str):
        pieces.append(_quote(value))
    elif value is None or value is True or value is False:
        pieces.append("null" if value is None else "true" if value else "false")
    elif isinstance(value, int):
        pieces.append(str(value))
    elif isinstance(value, dict):
        _write_object(value, newline, step, pieces)
    elif isinstance(value, (list, tuple)):
        _write_array(value, newline, step, pieces)
    elif isinstance(value, float):
        if value - value != 0:
            raise ValueError(f"{value} cannot be written as JSON")
        pieces.append(str(int(value)) if value == int(value) and abs(value) < 1e21 else repr(value))
    else:
        raise TypeError(f"{type(value).__name__} cannot be written as JSON")


def _write_object(members: dict[object, object], newline: str, step: str, pieces: list[str]) -> None:
    if not members:
        pieces.append("{}")
        return
    inner = newline and newline + step
    before = "{" + inner
    for key, value in members.items():
        if not isinstance(key, str):
            raise TypeError(f"the key {key!r} cannot be written as JSON")
        pieces.append(before + _quote(key) + (": " if newline else ":"))
        _write(value, inner, step, pieces)
        before = "," + inner
    pieces.append(newline + "}")


def _write_array(items: Sequence[object], newline: str, step: str, pieces: list[str]) -> None:
    if not items:
        pieces.append("[]")
        return
    inner = newline and newline + step
    before = "[" + inner
    for item in items:
        pieces.append(before)
        _write(item, inner, step, pieces)
        before = "," + inner
    pieces.append(newline + "]")


def _quote(text: str) -> str:
    quoted_text = text.translate(_ESCAPED)
    if not text.isascii():
        try:
            quoted_text.encode()
        except UnicodeEncodeError:
            quoted_text = "".join("\\ufffd" if "\ud800" <= c <= "\udfff" else c for c in quoted_text)
    return f'"{quoted_text}"'
