"""The journal: every change to the machine, written down as it happens.

A change is an *operation*: it knows how to do itself, how to undo itself, and how to say itself. It says a command of
`ip`, `nft`, `sysctl` and so on that can be pasted into a shell, or where there is no such command a comment that begins
with "#". Four features are four readings of the journal: undo, explain, trace and fault injection.
"""

from __future__ import annotations

import posix
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    T = TypeVar("T")
    Undo = Callable[[], object]

before: Callable[[Journal, str], None] | None = None
"""Called before each operation with the journal and what it says. The tests fail, or kill the process, here."""


UNCHANGED: Any = object()
"""What an operation returns that found nothing to change: it is not written down."""

_PLAIN = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789%+,-./:=@_"


def word(text: str) -> str:
    """The text as one word for a shell."""
    if text and text.isascii() and not text.strip(_PLAIN):
        return text
    escaped = text.replace("'", "'\\''")
    return f"'{escaped}'"


class HostError(OSError):
    """The machine refused: an errno, what was being done, and where we know it what to do about it.

    `is_unknown`: it may have done it all the same; no answer came.
    """

    is_unknown = False

    def __init__(self, code: int, doing: str, reason: str = "", hint: str = "") -> None:
        super().__init__(code, reason or posix.strerror(code))
        self.doing = doing
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.doing}: {self.strerror}"
        return f"{text}; {self.hint}" if self.hint else text


class Operation:
    """One change: what it was, which option asked for it, how long it took, and how to take it back."""

    __slots__ = ("is_evidence", "say", "seconds", "shared", "undo", "why")

    def __init__(self, say: str, why: str, undo: Undo | None, shared: bool) -> None:
        self.say = say
        self.why = why
        self.undo = undo
        self.shared = shared
        self.is_evidence = False
        self.seconds = 0.0


class Journal:
    """The operations of one exec, in the order in which they happened.

    `why` names the option that asks for what follows. `listener` hears of each operation when it is done.
    `alone` tells whether nobody else can have come to rely on what is shared (a bridge, its address, forwarding):
    only then are such operations undone.
    """

    def __init__(self) -> None:
        self.why = ""
        self.done: list[Operation] = []
        self.listener: Callable[[Operation], None] | None = None
        self.alone: Callable[[], bool] = _always

    @property
    def stepwise(self) -> bool:
        """Whether each operation is to be carried out by itself: when somebody times, explains or breaks them."""
        return before is not None or self.listener is not None

    def run(
        self,
        say: str,
        do: Callable[[], T],
        undo: Undo | None = None,
        *,
        shared: bool = False,
        is_evidence: bool = False,
    ) -> T:
        """Carry out one operation, and remember how to take it back.

        `is_evidence`: what it makes tells a later DEL what to delete; it stays if the undo of another one fails.
        """
        started = time.perf_counter()
        if before is not None:
            before(self, say)
        try:
            result = do()
        except HostError as error:
            if error.is_unknown:
                self.note(say, undo, shared=shared, started=started)
            raise
        if result is not UNCHANGED:
            self.note(say, undo, shared=shared, started=started)
            self.done[-1].is_evidence = is_evidence
        return result

    def begin(self, say: str, do: Callable[[], T], undo: Undo | None = None) -> tuple[T, Callable[[], None]]:
        """Start an operation that ends later: what `do` returns, and a function to call if it has succeeded.

        `undo` must do its work whether or not it has.
        """
        started = time.perf_counter()
        if before is not None:
            before(self, say)
        result, operation = do(), Operation(say, self.why, undo, False)
        self.done.append(operation)
        return result, lambda: self._tell(operation, started)

    def note(self, say: str, undo: Undo | None, *, shared: bool = False, started: float = 0.0) -> None:
        """Write down an operation that has been carried out (a batch is sent first and noted afterwards)."""
        operation = Operation(say, self.why, undo, shared)
        self.done.append(operation)
        self._tell(operation, started)

    def _tell(self, operation: Operation, started: float) -> None:
        if self.listener is not None:
            operation.seconds = time.perf_counter() - started if started else 0.0
            self.listener(operation)

    def undo(self) -> list[Exception]:
        """Take back everything, the last first. What cannot be taken back is returned, and does not stop the rest."""
        failures: list[Exception] = []
        done, self.done = self.done, []
        while done:
            operation = done.pop()
            if operation.undo is None or (operation.shared and not self.alone()):
                continue
            if operation.is_evidence and failures:
                continue
            self.why = operation.why
            try:
                self.run(f"# undo: {operation.say}", operation.undo)
            except Exception as error:
                failures.append(error)
        return failures


def _always() -> bool:
    return True
