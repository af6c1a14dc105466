"""Taps, by ioctl(2) on /dev/net/tun (linux/if_tun.h): rtnetlink shows them, and cannot make them."""

from __future__ import annotations

import errno
import fcntl
import posix
from _struct import pack

from . import files, links
from .journal import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .namespace import Namespace

DEVICE = "/dev/net/tun"
TUNSETIFF, TUNSETPERSIST, TUNSETOWNER, TUNSETGROUP = 0x400454CA, 0x400454CB, 0x400454CC, 0x400454CE
IFF_TAP, IFF_MULTI_QUEUE, IFF_NO_PI, IFF_TUN_EXCL = 0x2, 0x100, 0x1000, 0x8000
SELINUX = "/sys/fs/selinux/enforce"
LABEL = "/proc/self/attr/current"
_TUN_REFUSED = 128  # added to an errno, which is smaller, in a child's exit status


def create_tap(
    namespace: Namespace,
    name: str,
    *,
    multi_queue: bool = False,
    owner: int | None = None,
    group: int | None = None,
    label: str = "",
) -> None:
    """Create a tap that stays, down; undone by deleting it. `label`: its SELinux context, by default the process's.

    HostError EBUSY: there is one of that name. Whoever opens it says anew whether packets have a header (IFF_NO_PI,
    IFF_VNET_HDR); who is not owner and in the group, as far as there are any, needs CAP_NET_ADMIN.
    """
    flags = IFF_TAP | IFF_NO_PI | (IFF_MULTI_QUEUE if multi_queue else 0)
    say = f"{namespace.ip} tuntap add mode tap name {name}" + " multi_queue" * multi_queue
    say += f" user {owner}" * (owner is not None) + f" group {group}" * (group is not None)
    say = f"runcon {label} {say}" if label else say

    def do() -> None:
        with namespace:
            fd = _open_device(say)
        try:
            _attach(fd, pack("16sH22x", name.encode(), flags | IFF_TUN_EXCL), label)
            for request, value in ((TUNSETOWNER, owner), (TUNSETGROUP, group), (TUNSETPERSIST, 1)):
                if value is not None:
                    fcntl.ioctl(fd, request, value if value < 1 << 31 else value - (1 << 32))  # a C int
        except HostError:
            raise
        except OSError as error:
            raise HostError(error.errno or errno.EIO, say) from None
        finally:
            posix.close(fd)  # without TUNSETPERSIST, this was all of it

    namespace.machine.journal.run(say, do, links.deletion(namespace, name))


def probe() -> None:
    """HostError when no taps can be made here."""
    posix.close(_open_device("making a tap"))


def _open_device(doing: str) -> int:
    """The taps that it makes are of the namespace that the process is in."""
    try:
        return posix.open(DEVICE, posix.O_RDWR | posix.O_CLOEXEC)
    except OSError as error:
        hint = ""
        if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
            hint = f"load the module (modprobe tun); where {DEVICE} is missing then: mknod {DEVICE} c 10 200"
        raise HostError(error.errno or errno.EIO, f"{doing}: opening {DEVICE}", hint=hint) from None


def has_selinux() -> bool:
    return files.exists(SELINUX)


def _attach(fd: int, request: bytes, label: str) -> None:
    """TUNSETIFF. A tap gets the context of the process that makes it, whatever that has set for its sockets or files.

    (selinux_tun_dev_alloc_security, security/selinux/hooks.c.) The way back to the own context is one that policies do
    not allow: a child goes there.
    """
    if not label:
        fcntl.ioctl(fd, TUNSETIFF, request)
        return
    child = posix.fork()
    if child == 0:
        posix._exit(_attach_labelled(fd, request, label))
    status = posix.waitstatus_to_exitcode(posix.waitpid(child, 0)[1])
    if 0 < status < _TUN_REFUSED:
        hint = "the context must be a valid one, and the policy must allow this process to change to it"
        raise HostError(status, f"taking the SELinux context {label}", hint=hint)
    if status:  # negative: a signal
        code = status - _TUN_REFUSED if status > 0 else errno.EINTR
        raise HostError(code, f"making a tap in SELinux context {label}")


def _attach_labelled(fd: int, request: bytes, label: str) -> int:
    """The child's exit status."""
    base = 0
    try:
        own = posix.open(LABEL, posix.O_WRONLY | posix.O_CLOEXEC)
        posix.write(own, label.encode())
        base = _TUN_REFUSED
        fcntl.ioctl(fd, TUNSETIFF, request)
        return 0
    except OSError as error:
        return base + (error.errno or errno.EIO)
