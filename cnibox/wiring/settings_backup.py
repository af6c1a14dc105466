"""The file in which tuning keeps the former settings of an interface, in the form that the Go plugin's DEL reads."""

from __future__ import annotations

import posix

from ..host import files, settings
from ..host.journal import word
from ..spec.jsontext import decode, encode, member
from ..spec.options import Mac

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..host.journal import Journal
    from ..spec.request import Request

DATA_DIR = "/run/cni/tuning"
KINDS = {"mac": str, "promisc": bool, "mtu": int, "allmulti": bool, "txQLen": int}


def path_of(request: Request) -> str:
    """Its path. A DEL must work whatever has become of the option dataDir."""
    folder = member(request.config, "dataDir") or DATA_DIR
    if not isinstance(folder, str) or not folder.startswith("/") or "\0" in folder:
        folder = DATA_DIR
    return f"{folder}/{request.container_id}_{request.ifname}.json"


def longest_name(request: Request) -> str:
    """The name of its draft."""
    return f"{path_of(request)}.new".rpartition("/")[2]


def read(path: str) -> dict[str, Any]:
    """The settings in it that can be ones; none when it is not there or not JSON."""
    try:
        content = decode((files.read(path) or b"{}").decode())
        kept = {key: value for key, value in content.items() if key in settings.ORDER}  # type: ignore[attr-defined]
        if "mac" in kept:
            kept["mac"] = Mac.parse(kept["mac"])
    except (ValueError, AttributeError):  # not JSON, no object, no MAC address
        return {}
    return {key: value for key, value in kept.items() if type(value) is KINDS[key]}


def write(journal: Journal, path: str, before: dict[str, Any]) -> None:
    """Write it, over an older one, which comes back when the ADD fails."""
    files.make_directory(journal, path.rpartition("/")[0])
    older = files.read(path)
    data = encode({key: before[key] for key in settings.ORDER if key in before}, indent=1).encode()
    undo = (lambda: _unlink(path)) if older is None else lambda: files.replace(path, older or b"")
    journal.run(f"cat > {word(path)}  # {len(data)} bytes", lambda: files.replace(path, data), undo)


def remove(journal: Journal, path: str) -> None:
    """Remove it, and the draft of a killed ADD."""
    if any(files.exists(name, follow_symlinks=False) for name in (path, f"{path}.new")):
        journal.run(f"rm -f {word(path)}", lambda: _unlink(path))


def _unlink(path: str) -> None:
    for name in (path, f"{path}.new"):
        with files.Doing(f"removing {name}"):
            try:
                posix.unlink(name)
            except NotADirectoryError:
                pass
            except OSError as error:
                if not files.is_absence(error):
                    raise
