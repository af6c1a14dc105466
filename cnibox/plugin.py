"""What a plugin is; how it carries on past errors; and any error as the protocol knows it."""

from __future__ import annotations

from .host.journal import HostError
from .spec import errors
from .spec.errors import CniError
from .spec.options import Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .host.namespace import Machine
    from .spec.options import Values
    from .spec.request import Request
    from .spec.result import Result


class Plugin:
    """What a plugin is: its options, and what it does for each verb. It raises CniError, and prints nothing."""

    options = Options()
    needed_to_delete = Options()
    """Those that DEL and GC read: what has become of the others must not keep anything alive."""

    state_folders: tuple[str, ...] = ()
    """Where an ADD writes files of its own."""

    def __init__(self, name: str, request: Request, machine: Machine) -> None:
        self.name = name
        self.request = request
        self.machine = machine
        options = self.needed_to_delete if request.command in ("DEL", "GC") else self.options
        self.option: Values = options.parse(request)

    def add(self) -> Result:
        """Wire the container, or adjust what earlier plugins wired, and say what there is now."""
        raise NotImplementedError

    def check(self) -> None:
        """Raise if what ADD made is not as it was made."""

    def delete(self) -> None:
        """Take away what ADD made, however much of it is still there. Carries on past errors, and reports them."""

    def status(self) -> None:
        """Raise if an ADD could not succeed now; 999, 5 and 0 become 50."""

    def gc(self, valid: set[tuple[str, str]]) -> None:
        """Take away what belongs to this network and to none of these (container ID, interface name)."""


class Attempts:
    """Carries on past errors, and reports all of them at the end: what DEL and GC are made of."""

    def __init__(self) -> None:
        self.failures: list[CniError] = []

    def __call__(self, do: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return do(*arguments)
        except (CniError, OSError) as error:
            self.failures.append(as_cni_error(error))
            return None

    def finish(self) -> None:
        """Raise what went wrong, if anything did; several errors become one, with the code of the first."""
        if len(self.failures) == 1:
            raise self.failures[0]
        if self.failures:
            text = "; ".join(str(failure) for failure in self.failures)
            raise CniError(self.failures[0].code, f"{len(self.failures)} things failed: {text}")


def as_cni_error(error: BaseException) -> CniError:
    """Any error as the protocol knows it."""
    if isinstance(error, CniError):
        return error
    if isinstance(error, HostError):
        return CniError(errors.INTERNAL, str(error))
    if isinstance(error, OSError):
        return CniError(errors.INTERNAL, f"{error.filename}: {error.strerror}" if error.filename else str(error))
    if isinstance(error, ImportError):  # of a module of our own, while the file cannot be read
        return CniError(errors.IO_FAILURE, str(error))
    kind = type(error).__name__
    advice = "this is a fault of cnibox; CNIBOX_DEBUG=1 prints where"
    return CniError(errors.INTERNAL, f"internal error: {kind}: {error}", advice)
