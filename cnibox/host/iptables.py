"""iptables: one `iptables-restore --noflush -w` for each IP version and operation, instead of one process a rule.

On most machines iptables keeps its tables in nftables, where other software may write, too. What iptables-restore does
there works, but iptables-save shows nothing of a table with a rule that it does not know. Such a table is read over
netlink, and ADD does not choose it.
"""

from __future__ import annotations

import errno
import posix
from _socket import AF_INET, AF_INET6
from _struct import pack

from . import files
from .journal import HostError
from .namespace import require_host
from .netlink.codec import Family, attribute
from .netlink.socket import Netlink
from .process import Process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from .journal import Journal

# Fixed: nothing of the environment chooses code that runs as root.
FOLDERS = ("/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/local/sbin", "/usr/local/bin")
ENVIRON = {b"PATH": ":".join(FOLDERS).encode()}
COMMENT_LIMIT = 255
"""Bytes of a comment (linux/netfilter/xt_comment.h); iptables drops what is beyond, without a word."""
NAMES = {4: "iptables", 6: "ip6tables"}
_EXPRESSIONS = (
    *("masq", "nat", "redir", "ct", "fib", "lookup", "reject", "queue", "dup"),
    *("fwd", "notrack", "quota", "numgen", "hash", "socket", "tproxy"),
    *("rt", "exthdr", "connlimit", "objref", "dynset", "synproxy", "osf", "tunnel", "byteorder"),
)
"""Those of nftables that iptables does not write. The list need not be complete: iptables-save has the last word."""
_FOREIGN = tuple(pack("H", 1) + name.encode() + b"\0" for name in _EXPRESSIONS)  # with the type, NFTA_EXPR_NAME
_OF_IPTABLES = (b"CNI-", b"KUBE-")
"""In names of chains that only iptables makes. There may be thousands: their rules are not looked at."""
_LOOKED_AT = 100
"""A chain with more rules is not looked at, either: each takes some microseconds. iptables-save tells at CHECK."""

# linux/netfilter/nf_tables.h; the whole of it takes longer to import than all the rest here.
_GETCHAIN, _GETRULE = 10 << 8 | 4, 10 << 8 | 7
_HEADER = (">BBH", ("nfgen_family", "version", "res_id"))
_CHAIN = {"NFTA_CHAIN_TABLE": (1, "asciiz"), "NFTA_CHAIN_NAME": (3, "asciiz"), "NFTA_CHAIN_USE": (6, "be32")}
_RULE = {"NFTA_RULE_TABLE": (1, "asciiz"), "NFTA_RULE_CHAIN": (2, "asciiz")}
_NFTABLES = Family(
    12,  # NETLINK_NETFILTER
    {_GETCHAIN: "chain", _GETCHAIN - 1: "chain", _GETRULE: "rule"},
    {"chain": (_HEADER, _CHAIN), "rule": (_HEADER, _RULE)},
    {},
)
_PLAIN = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!%+,-./:=@_"


class Unavailable(HostError):
    """iptables cannot do what is needed here, and nothing has been changed."""


def program(version: int, suffix: str = "") -> str | None:
    """The path of iptables (ip6tables for version 6), of its `suffix` "-restore" or "-save"; None without it.

    HostError when it cannot be told: what a program has made stays, if it is taken for missing.
    """
    for folder in FOLDERS:
        path = f"{folder}/{NAMES[version]}{suffix}"
        if files.exists(path):
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


def usable(version: int, table: str = "filter") -> bool:
    """Whether iptables has the table here, judged as the reference does: `-t filter -S INPUT 1` ends with 0 or 1."""
    path = program(version)
    if path is None:
        return False
    chain = "INPUT" if table == "filter" else "OUTPUT"
    status, _, _ = Process([path, "-w", "-t", table, "-S", chain, "1"], b"", ENVIRON).finish()
    return status in (0, 1)


def require(versions: Iterable[int], table: str) -> None:
    """Unavailable without a program for one of the IP versions, or when iptables cannot show the table."""
    for version in versions:
        if program(version, "-restore") is None:
            raise missing_program(version)
        if hides_rules(version, table):
            say, reason = f"using {NAMES[version]} -t {table}", f"table {table} has rules that iptables cannot show"
            hint = "other software, such as Tailscale, wrote them; use the nftables backend"
            raise Unavailable(errno.ENOTSUP, say, reason, hint)


def missing_program(version: int) -> Unavailable:
    reason = f"there is no {NAMES[version]}-restore in {', '.join(FOLDERS)}"
    hint = "install iptables, or use the nftables backend"
    return Unavailable(errno.ENOENT, f"looking for {NAMES[version]}-restore", reason, hint)


def hides_rules(version: int, table: str) -> bool:
    """Whether other software has written rules to the table that iptables cannot show.

    iptables-save is started only if a look at the rules over netlink gives a reason to.
    """
    if not is_on_nftables(version) or not _has_foreign_rules(version, table):
        return False
    path = program(version, "-save")
    return path is not None and _is_hidden(Process([path, "-t", table], b"", ENVIRON).finish()[1], table)


def _has_foreign_rules(version: int, table: str) -> bool:
    """Whether a rule of the table has an expression that iptables does not write. No rule is decoded."""
    family = AF_INET if version == 4 else AF_INET6
    found: list[bool] = []

    def look(data: bytes, start: int, stop: int) -> bool:
        behind = start + 8 + len(table)  # the table's name, which may look like that of an expression, comes first
        if not found and any(data.find(name, behind, stop) >= 0 for name in _FOREIGN):
            found.append(True)
        return False

    require_host()
    try:
        with Netlink(_NFTABLES) as socket:
            for chain in socket.dump(_GETCHAIN, {"nfgen_family": family}, holding=_is_not_of_iptables):
                uses = attribute(chain, "NFTA_CHAIN_USE") or 0
                if attribute(chain, "NFTA_CHAIN_TABLE") == table and 0 < uses <= _LOOKED_AT:
                    place = [("NFTA_RULE_TABLE", table), ("NFTA_RULE_CHAIN", attribute(chain, "NFTA_CHAIN_NAME"))]
                    socket.dump(_GETRULE, {"nfgen_family": family, "attrs": place}, holding=look)
    except OSError:  # iptables itself will say what is wrong
        return False
    return bool(found)


def _is_not_of_iptables(data: bytes, start: int, stop: int) -> bool:
    return all(data.find(name, start, stop) < 0 for name in _OF_IPTABLES)


def _is_hidden(output: bytes, table: str) -> bool:
    return f"# Table `{table}' is incompatible".encode() in output


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
            raise missing_program(version)
        script = "\n".join((f"*{table}", *lines, "COMMIT", ""))
        self.process = Process([path, "--noflush", "-w"], script.encode(), ENVIRON, inherited=inherited)

    def finish(self) -> None:
        """HostError with the program's own words when it refused."""
        status, _, complaint = self.process.finish()
        if status != 0:
            words = " ".join(complaint.decode(errors="replace").split()) or f"exit status {status}"
            raise HostError(errno.EIO, self.say, words)


def rules(version: int, table: str) -> list[str]:
    """The table's lines as `iptables-save` prints them, or would print them; none where there is no such program."""
    path = program(version, "-save")
    if path is None:
        return []
    status, output, complaint = Process([path, "-t", table], b"", ENVIRON).finish()
    if status != 0:
        raise HostError(errno.EIO, f"{path} -t {table}", " ".join(complaint.decode(errors="replace").split()))
    if _is_hidden(output, table):
        from . import iptables_by_netlink

        return iptables_by_netlink.lines(version, table)
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
