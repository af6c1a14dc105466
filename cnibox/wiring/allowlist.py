"""The administrator's list of the sysctls that tuning may set: regular expressions, one a line.

A module of its own, because few machines have such a list and `re` takes 5 ms to import.
"""

from __future__ import annotations

import re

from ..spec import errors
from ..spec.errors import CniError
from ..spec.jsontext import encode


def require_allowed(path: str, text: str, keys: list[str]) -> None:
    """Raise unless an expression of the list, which is the file's text, is found in each key as it is written."""
    allowed = []
    for number, line in enumerate(text.splitlines(), 1):
        expression = line.strip()
        try:
            # RE2's classes are those of ASCII; Python would take [[:alpha:]] for something else.
            if "[:" in expression:
                raise re.error("classes such as [:alpha:] are not supported")
            if expression:
                allowed.append(re.compile(expression, re.ASCII))
        except re.error as error:
            fault = f"{path}, line {number}: invalid regular expression {encode(expression)}: {error}"
            raise CniError(errors.INTERNAL, fault, "nothing is allowed until it is corrected") from None
    for key in keys:
        if not any(each.search(key) for each in allowed):
            listed = " ".join(each.pattern for each in allowed)
            text = f"Sysctl {key} is not allowed. Only the following sysctls are allowed: [{listed}]"
            raise CniError(errors.INVALID_CONFIG, text, f"see {path}")
