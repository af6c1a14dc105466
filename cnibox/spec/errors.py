"""The one exception of cnibox, and the error codes of the CNI specification."""

from __future__ import annotations

# https://www.cni.dev/docs/spec/#error; 8 and 999 are not there, but the reference library uses them.
INCOMPATIBLE_VERSION = 1
UNSUPPORTED_FIELD = 2
UNKNOWN_CONTAINER = 3
INVALID_ENVIRONMENT = 4
IO_FAILURE = 5
DECODING_FAILURE = 6
INVALID_CONFIG = 7
INVALID_NETNS = 8
TRY_AGAIN_LATER = 11
PLUGIN_UNAVAILABLE = 50
LIMITED_CONNECTIVITY = 51
INTERNAL = 999


class CniError(Exception):
    """What a plugin answers when it fails.

    `msg` begins with the reference library's words wherever it has any, so that greps for them hold;
    `details` is the offending value or what to do about it, and may be empty.
    """

    def __init__(self, code: int, msg: str, details: str = "") -> None:
        super().__init__(code, msg, details)
        self.code = code
        self.msg = msg
        self.details = details

    def __str__(self) -> str:
        return f"{self.msg}: {self.details}" if self.details else self.msg

    def within(self, doing: str) -> CniError:
        """The same error, told by a caller that was `doing` something: "adding 10.1.2.3/24 to eth0"."""
        return CniError(self.code, f"{doing}: {self.msg}", self.details)

    def advising(self, advice: str) -> CniError:
        """The same error with more to say about what to do; "" for nothing more."""
        return CniError(self.code, self.msg, "; ".join(each for each in (self.details, advice) if each))

    def as_object(self) -> dict[str, object]:
        """The error object of the specification, without cniVersion, as the reference library prints it."""
        shown: dict[str, object] = {"code": self.code, "msg": self.msg}
        if self.details:
            shown["details"] = self.details
        return shown


def require(condition: bool, text: str) -> None:
    """What CHECK asserts; the error says what is, and what was expected."""
    if not condition:
        raise CniError(INTERNAL, text)
