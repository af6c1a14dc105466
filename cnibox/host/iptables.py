"""iptables: one `iptables-restore --noflush -w` for each IP version and operation, instead of one process a rule."""

from __future__ import annotations

import errno
import posix

from .journal import HostError
from .process import Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .journal import Journal

# Fixed: nothing of the environment chooses code that runs as root.
FOLDERS = ("/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/local/bin")
ENVIRON = {b"PATH": ":".join(FOLDERS).encode()}
NAMES = {4: "iptables", 6: "ip6tables"}
_PLAIN = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!%+,-./:=@_"


def program(version: int, suffix: str = "") -> str | None:
    """The path of iptables (ip6tables for version 6), of its `suffix` "-restore" or "-save"; None without it."""
    for folder in FOLDERS:
        path = f"{folder}/{NAMES[version]}{suffix}"
        if posix.access(path, posix.F_OK):
            return path
    return None


def is_on_nftables(version: int) -> bool:
    """Whether it keeps its tables in nftables (xtables-nft-multi), where they can be read without starting it."""
    path = program(version, "-restore") or ""
    for _ in range(8):
        try:
            target = posix.readlink(path)
        except (OSError, ValueError):
            break
        path = target if target.startswith("/") else f"{path.rpartition('/')[0]}/{target}"
    return path.rpartition("/")[2].startswith("xtables-nft")


def quoted(token: str) -> str:
    """A word for a line of `Restore`, which has one command a line; ValueError for what no line can hold."""
    if not token or any(each < " " or each == "\x7f" for each in token):
        raise ValueError("is empty, or has a control character in it")
    if token.isascii() and not token.strip(_PLAIN):
        return token
    escaped = token.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def usable(version: int) -> bool:
    """Whether iptables works here, judged as the reference does: `-t filter -S INPUT 1` ends with 0 or 1."""
    path = program(version)
    if path is None:
        return False
    status, _, _ = Process([path, "-w", "-t", "filter", "-S", "INPUT", "1"], b"", ENVIRON).finish()
    return status in (0, 1)


def has_chain(version: int, table: str, chain: str) -> bool:
    """Whether the chain is there."""
    path = program(version)
    if path is None:
        return False
    status, _, _ = Process([path, "-w", "-t", table, "-S", chain], b"", ENVIRON).finish()
    return status == 0


class Restore:
    """Lines for one table, being carried out all together or not at all; `finish()` waits for the end.

    inherited: as in Process
    lines: as `iptables-save` prints them, ":CHAIN - [0:0]" and "-A ..." / "-D ..." / "-F ..." / "-X ...".
    """

    def __init__(self, version: int, table: str, lines: list[str], inherited: int = -1) -> None:
        self.say = say(version, table, lines)
        path = program(version, "-restore")
        if path is None:
            hint = "install iptables, or use the nftables backend"
            raise HostError(errno.ENOENT, self.say, f"there is no {NAMES[version]}-restore", hint)
        script = "\n".join((f"*{table}", *lines, "COMMIT", ""))
        try:
            self.process = Process([path, "--noflush", "-w"], script.encode(), ENVIRON, inherited=inherited)
        except OSError as error:
            raise HostError(error.errno or errno.EIO, f"running {path}", error.strerror or "") from None

    def finish(self) -> None:
        """HostError with the program's own words when it refused."""
        status, _, complaint = self.process.finish()
        if status != 0:
            words = " ".join(complaint.decode(errors="replace").split()) or f"exit status {status}"
            raise HostError(errno.EIO, self.say, words)


def rules(version: int, table: str) -> list[str]:
    """The table's lines as `iptables-save` prints them; none where there is no such program."""
    path = program(version, "-save")
    if path is None:
        return []
    status, output, complaint = Process([path, "-t", table], b"", ENVIRON).finish()
    if status != 0:
        raise HostError(errno.EIO, f"{path} -t {table}", " ".join(complaint.decode(errors="replace").split()))
    return output.decode(errors="replace").splitlines()


def change(journal: Journal, version: int, table: str, lines: list[str], inherited: int = -1, **known: bool) -> None:
    """Carry out the lines, if there are any, as one operation that cannot be undone."""
    if lines:
        say_it = say(version, table, lines, **known)
        journal.run(say_it, lambda: Restore(version, table, lines, inherited).finish())


def say(version: int, table: str, lines: list[str], *, is_there: bool = False) -> str:
    """The commands that would do the same. `is_there`: chains that the lines name exist; to name them empties them."""
    verb = "-F" if is_there else "-N"
    words = [f"{verb} {line[1:].split()[0]}" if line.startswith(":") else line for line in lines]
    return " && ".join(f"{NAMES[version]} -t {table} {word}" for word in words)
