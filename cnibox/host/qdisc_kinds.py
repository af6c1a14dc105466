"""Which queueing disciplines, filters and actions the kernel has; it loads their modules, and nothing is changed."""

from __future__ import annotations

import errno
import posix
from _struct import pack

from . import files
from .journal import HostError
from .netlink import tc
from .netlink.socket import NLM_F_CREATE, NLM_F_EXCL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .namespace import Namespace

RTM_NEWACTION, TCA_ACT_TAB, TCA_RATE = 48, 1, 5  # linux/rtnetlink.h
LOOPBACK = 1  # in every namespace the index of lo


def knows(namespace: Namespace, kind: str) -> bool:
    """Whether the kernel has queueing disciplines of that kind, by a request that it refuses anyhow.

    It loads the module, and finds that the settings of a rate estimator are too short.
    """
    namespace.netlink.carry(tc.FAMILY)
    place = tc.TC_H_INGRESS if kind == "ingress" else tc.TC_H_ROOT
    body = {"index": LOOPBACK, "parent": place, "attrs": [("TCA_KIND", kind), (TCA_RATE, b"\0")]}
    return _is_known(namespace, kind, (tc.RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, body))


def knows_action(namespace: Namespace, kind: str) -> bool:
    """The same of the actions of filters: one without parameters is refused."""
    words = kind.encode() + b"\0"
    action = _attribute(1, _attribute(1, words))  # the first one; TCA_ACT_KIND
    body = pack("4x") + _attribute(TCA_ACT_TAB, action)
    return _is_known(namespace, kind, (RTM_NEWACTION, NLM_F_CREATE | NLM_F_EXCL, body))


def knows_filter(kind: str) -> bool:
    """The same of filters, which have to be attached to something: by the lists of the kernel's modules, if any."""
    folder, name = f"/lib/modules/{posix.uname().release}", f"/cls_{kind}.ko".encode()
    lists = [files.read(f"{folder}/modules.{which}") for which in ("builtin", "dep")]
    return None in lists or any(name in (each or b"") for each in lists)


def _is_known(namespace: Namespace, kind: str, message: Any) -> bool:
    try:
        namespace.send(f"asking for {kind}", message)
    except HostError as error:
        return error.errno != errno.ENOENT
    return True


def _attribute(number: int, payload: bytes) -> bytes:
    return pack("HH", len(payload) + 4, number) + payload + bytes(-len(payload) & 3)
