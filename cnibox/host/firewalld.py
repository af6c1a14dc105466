"""firewalld, by its D-Bus interface. Whether it runs is asked in D-Bus's own bytes: if so, jeepney is imported.

https://dbus.freedesktop.org/doc/dbus-specification.html, firewalld.dbus(5)
"""

from __future__ import annotations

import errno
import posix
import sys
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_STREAM, socket
from _struct import calcsize, pack, unpack_from

from .journal import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NAME = "org.fedoraproject.FirewallD1"
PATH = "/org/fedoraproject/FirewallD1"
ZONE_INTERFACE = "org.fedoraproject.FirewallD1.zone"
SYSTEM_BUS = "unix:path=/var/run/dbus/system_bus_socket"
LIMIT = 10.0
"""Seconds to wait for an answer: firewalld takes tenths of one, and more while it reloads."""

ALREADY_SET = "ZONE_ALREADY_SET"
NOT_A_SOURCE = ("UNKNOWN_SOURCE", "ZONE_CONFLICT", "INVALID_ZONE")
"""What firewalld says of a source that is not in the zone."""

_BUS = "org.freedesktop.DBus"
_CALL, _RETURN, _ERROR = 1, 2, 3
_HEADER = "=cBBBIII"  # byte order, type, flags, version, length of the body, serial, length of the fields
_ORDER = b"l" if sys.byteorder == "little" else b"B"


class FirewalldError(HostError):
    """firewalld refused: "ZONE_CONFLICT: ..."."""

    def __init__(self, doing: str, reason: str) -> None:
        super().__init__(errno.EIO, doing, reason)

    def is_a(self, *codes: str) -> bool:
        return str(self.strerror).startswith(codes)


class Firewalld:
    """A connection to it, made when first needed. `program` is the file that we are, which has jeepney in it."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._connection: Any = None

    def call(self, method: str, *arguments: str) -> Any:
        """What a method of the interface for zones returns. FirewalldError if it fails, HostError without an answer."""
        doing = f"firewalld {method}({', '.join(arguments)})"
        jeepney = _jeepney(self._program)
        try:
            if self._connection is None:
                self._connection = jeepney.io.blocking.open_dbus_connection(bus="SYSTEM", auth_timeout=LIMIT)
            address = jeepney.DBusAddress(PATH, NAME, ZONE_INTERFACE)
            message = jeepney.new_method_call(address, method, "s" * len(arguments), arguments)
            answer = self._connection.send_and_get_reply(message, timeout=LIMIT)
        except (
            OSError,
            ValueError,
            RuntimeError,
        ) as error:  # no bus, no answer in time, no right to be there, no address
            raise HostError(
                getattr(error, "errno", 0) or errno.EIO, doing, f"no answer on the system bus: {error}"
            ) from None
        if answer.header.message_type is jeepney.MessageType.error:
            raise FirewalldError(doing, str(answer.body[0]) if answer.body else "it gives no reason")
        return answer.body[0] if answer.body else None


def _jeepney(program: str) -> Any:
    try:
        import jeepney.io.blocking
    except ImportError:
        sys.path.append(f"{program}/site-packages")  # of the zip
        try:
            import jeepney.io.blocking
        except ImportError as error:
            hint = "it needs Python's whole standard library (Debian: apt install python3)"
            raise HostError(errno.ENOENT, "importing jeepney to talk to firewalld", str(error), hint) from None
    return jeepney


# --- whether it runs

NO_BUS = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE, None)
"""Nobody listens there, or it does not answer; None is a timeout's."""


def is_running() -> bool:
    """Whether somebody owns firewalld's name on the system bus; nothing is asked where there is no bus."""
    for address in _addresses():
        try:
            with _Closing(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)) as connection:
                connection.settimeout(LIMIT)
                connection.connect(address)
                return _has_owner(connection)
        except OSError as error:
            if error.errno not in NO_BUS:
                raise HostError(error.errno or 0, "asking the system bus whether firewalld runs") from None
    return False


class _Closing:
    def __init__(self, connection: socket) -> None:
        self.connection = connection

    def __enter__(self) -> socket:
        return self.connection

    def __exit__(self, *_: object) -> None:
        self.connection.close()


def _addresses() -> list[str]:
    """Those of the bus's sockets, of "unix:path=/a,guid=1;unix:abstract=b"; without their file, nothing."""
    found = []
    given = posix.environ.get(b"DBUS_SYSTEM_BUS_ADDRESS", b"").decode(errors="surrogateescape") or SYSTEM_BUS
    for transport, _, keys in [address.partition(":") for address in given.split(";")]:
        values = dict(key.partition("=")[::2] for key in keys.split(","))
        if transport == "unix" and "path" in values:
            found.append(values["path"])
        elif transport == "unix" and "abstract" in values:
            found.append(f"\0{values['abstract']}")
    return found


def _has_owner(connection: socket) -> bool:
    """Ask the bus: authenticate by our user ID, say Hello, NameHasOwner."""
    user = str(posix.geteuid()).encode().hex().encode()
    connection.sendall(b"\0AUTH EXTERNAL " + user + b"\r\n")
    if not connection.recv(512).startswith(b"OK "):
        return False
    connection.sendall(b"BEGIN\r\n" + _call(1, "Hello") + _call(2, "NameHasOwner", NAME))
    data, answers = b"", 0
    while True:
        while (length := _length(data)) == 0 or len(data) < length:
            part = connection.recv(4096)
            if not part:
                return False
            data += part
        kind = data[1]
        message, data = data[:length], data[length:]
        if kind in (_RETURN, _ERROR):  # not a signal
            answers += 1
            if answers == 2:  # to the second call; its body is a boolean
                return kind == _RETURN and any(message[-4:])


def _call(serial: int, member: str, argument: str = "") -> bytes:
    """A call of a method of the bus itself, with one string or none."""
    path = f"/{_BUS.replace('.', '/')}"
    # PATH, INTERFACE, MEMBER, DESTINATION, and SIGNATURE of the body
    fields = [_field(1, "o", path), _field(2, "s", _BUS), _field(3, "s", member), _field(6, "s", _BUS)]
    body = _string(argument) if argument else b""
    if body:
        fields.append(b"\x08\x01g\0\x01s\0")
    listed = b"".join([_padded(field) for field in fields[:-1]]) + fields[-1]
    return _padded(pack(_HEADER, _ORDER, _CALL, 0, 1, len(body), serial, len(listed)) + listed) + body


def _field(code: int, kind: str, text: str) -> bytes:
    return bytes((code, 1)) + kind.encode() + b"\0" + _string(text)


def _string(text: str) -> bytes:
    return pack("=I", len(text)) + text.encode() + b"\0"


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)


def _length(data: bytes) -> int:
    """Of the message at the beginning, 0 while its header is incomplete."""
    if len(data) < calcsize(_HEADER):
        return 0
    order = "<" if data[:1] == b"l" else ">"
    body, _, fields = unpack_from(f"{order}III", data, 4)
    return int(calcsize(_HEADER) + fields + -fields % 8 + body)
