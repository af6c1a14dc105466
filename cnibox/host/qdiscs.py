"""Queueing disciplines: what limits the rate of a link, and what diverts the packets that arrive on it to another link.

Ours are the reference's: a token bucket at the root (tbf, handle 1:), and at the ingress a u32 filter that matches all.
"""

from __future__ import annotations

import errno
import posix
from _struct import pack

from . import files
from .journal import HostError
from .namespace import attempt
from .netlink import tc
from .netlink.socket import NLM_F_CREATE, NLM_F_ECHO, NLM_F_EXCL, NLM_F_REPLACE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .links import Link
    from .namespace import Message, Namespace

RTM_NEWACTION, TCA_ACT_TAB, TCA_RATE = 48, 1, 5  # linux/rtnetlink.h
LOOPBACK = 1  # in every namespace the index of lo
BUCKET_HANDLE = 0x10000  # 1:
MAX_U32 = 0xFFFFFFFF
GONE = (errno.ENOENT, errno.EINVAL, errno.ENODEV)  # EINVAL: the handle at that place is another
NO_QDISC = (errno.ENOENT, errno.EINVAL, errno.ENODEV)

# linux/pkt_sched.h: ticks are of 64 ns on every kernel since 2.6.31.
_PSCHED = "000003e8 00000040 000f4240 3b9aca00"


class Bucket:
    """A token bucket: rate in bytes per second, limit of what waits in bytes, size in ticks of the packet scheduler.

    The latter two are 32 bits wide; `wrapped` is what is left of them when they are cut to that. The Go plugin does so.
    """

    __slots__ = ("buffer", "limit", "rate", "wrapped")

    def __init__(self, rate: int, limit: int, buffer: int) -> None:
        self.rate = rate
        self.limit = min(limit, MAX_U32)
        self.buffer = min(buffer, MAX_U32)
        self.wrapped = (limit & MAX_U32, buffer & MAX_U32)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Bucket) and str(self) == str(other)

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return f"rate {self.rate} bytes/s, limit {self.limit} bytes, buffer {self.buffer} ticks"


def ticks(microseconds: int) -> int:
    """A time as the packet scheduler counts it (/proc/net/psched)."""
    text = (files.read("/proc/net/psched") or _PSCHED.encode()).decode()
    multiplier, divisor, resolution = [int(field, 16) for field in text.split()[:3]]
    return microseconds * multiplier * resolution // (divisor * 1_000_000)


# --- reading


def root(namespace: Namespace, link: Link) -> tuple[str, int, Bucket | None]:
    """Kind and handle of a link's root queueing discipline, "" and 0 without one; its parameters if it is a tbf."""
    found = _get(namespace, f"tc qdisc show dev {link.name} root", link, tc.TC_H_ROOT)
    if found is None:
        return "", 0, None
    attributes = dict(found["attrs"])
    kind = attributes.get("TCA_KIND", "")
    if kind != "tbf":
        return kind, found["handle"], None
    options = dict(attributes["TCA_OPTIONS"]["attrs"])
    parameters = options["TCA_TBF_PARMS"]
    rate = options.get("TCA_TBF_RATE64") or parameters["rate"]
    return kind, found["handle"], Bucket(rate, parameters["limit"], parameters["buffer"])


def ingress(namespace: Namespace, link: Link) -> tuple[str, list[int | None]]:
    """The kind of a link's ingress queueing discipline, "" without one, and where to each of its filters redirects.

    That is the index of a link, 0 if that link has gone, and None for a filter that does something else.
    """
    found = _get(namespace, f"tc qdisc show dev {link.name} ingress", link, tc.TC_H_INGRESS)
    if found is None:
        return "", []
    say = f"tc filter show dev {link.name} ingress"
    body = {"index": link.index, "parent": tc.INGRESS_HANDLE}
    filters = [dict(each["attrs"]) for each in namespace.dump(say, tc.RTM_GETTFILTER, body)]
    targets = [_target(each) for each in filters if "TCA_OPTIONS" in each and not _is_table(each)]
    return dict(found["attrs"]).get("TCA_KIND", ""), targets


def _is_table(described: dict[str, Any]) -> bool:
    """Whether it is no filter but the hash table that u32 keeps its filters in."""
    options = described["TCA_OPTIONS"]
    return described["TCA_KIND"] == "u32" and "TCA_U32_DIVISOR" in dict(options["attrs"])


def _target(described: dict[str, Any]) -> int | None:
    """Where to a filter redirects, if it is as `divert` makes it."""
    try:
        options = dict(described["TCA_OPTIONS"]["attrs"])
        if any(key["key_mask"] for key in options["TCA_U32_SEL"]["keys"]):
            return None
        action = dict(dict(options["TCA_U32_ACT"]["attrs"])["TCA_ACT_PRIO_1"]["attrs"])
        redirection = dict(action["TCA_ACT_OPTIONS"]["attrs"])["TCA_MIRRED_PARMS"]
    except (KeyError, TypeError):  # another kind of filter, or of action
        return None
    is_ours = (redirection["eaction"], redirection["action"]) == (tc.TCA_EGRESS_REDIR, tc.TC_ACT_STOLEN)
    return redirection["ifindex"] if is_ours else None


def _get(namespace: Namespace, say: str, link: Link, parent: int) -> dict[str, Any] | None:
    """The queueing discipline at a place of a link; None without one, or with one that the kernel does not tell of."""
    namespace.netlink.carry(tc.FAMILY)
    body = {"index": link.index, "parent": parent}
    try:  # without NLM_F_ECHO the kernel tells everybody who listens, but not who asks
        answers = namespace.send(say, (tc.RTM_GETQDISC, NLM_F_ECHO, body))
    except HostError as error:
        if error.errno in NO_QDISC:
            return None
        raise
    return answers[0] if answers else None


# --- changing


def limit(namespace: Namespace, link: Link, bucket: Bucket) -> None:
    """Limit what leaves a link, in place of another such limit; undone to that, or to none.

    HostError EEXIST when somebody else's queueing discipline is there.
    """
    kind, handle, before = root(namespace, link)
    if handle and (kind, handle) != ("tbf", BUCKET_HANDLE):
        text = f"limiting the rate of {link.name}"
        hint = f"remove it: tc qdisc delete dev {link.name} root"
        raise HostError(errno.EEXIST, text, f"it has the queueing discipline {kind} {handle >> 16:x}: already", hint)
    if before == bucket:
        return
    say = f"tc qdisc replace dev {link.name} root handle 1: tbf"
    deletion = f"tc qdisc delete dev {link.name} root", _bucket_deletion(link)

    def undo() -> object:
        if before is not None:
            return namespace.send(f"{say} {before}", _bucket_message(link, before))
        return attempt(lambda: namespace.send(*deletion), *GONE)

    namespace.change(f"{say} ({bucket})", _bucket_message(link, bucket), undo)


def unlimit(namespace: Namespace, link: Link) -> None:
    """Take the limit of `limit` away; gone already is fine. Undone to what it was."""
    say = f"tc qdisc delete dev {link.name} root"
    _, handle, before = root(namespace, link)
    if before is not None and handle == BUCKET_HANDLE:
        again = _bucket_message(link, before)
        attempt(
            lambda: namespace.change(say, _bucket_deletion(link), lambda: namespace.send(f"undo {say}", again)), *GONE
        )


def divert(namespace: Namespace, link: Link, target: Link) -> None:
    """Send all that arrives on a link out of another one; undone with the ingress queueing discipline that it needs.

    HostError EEXIST when somebody else has filters there.
    """
    kind, targets = ingress(namespace, link)
    if kind == "ingress" and targets == [target.index]:
        return
    if kind and (kind != "ingress" or not set(targets) <= {0, target.index}):
        text = f"diverting what arrives on {link.name} to {target.name}"
        hint = f"remove it: tc qdisc delete dev {link.name} {kind}"
        raise HostError(errno.EEXIST, text, f"it has a queueing discipline {kind} with other filters already", hint)
    deletion = f"tc qdisc delete dev {link.name} ingress", _ingress_deletion(link)
    if kind:  # a killed ADD's, or one to a link that has gone
        namespace.change(*deletion)
    body = {**_at(link, tc.INGRESS_HANDLE, tc.TC_H_INGRESS), "attrs": [("TCA_KIND", "ingress")]}
    namespace.change(
        f"tc qdisc add dev {link.name} ingress",
        (tc.RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, body),
        lambda: attempt(lambda: namespace.send(*deletion), *GONE),
    )
    say = f"tc filter add dev {link.name} ingress prio 1 protocol all u32 match u32 0 0 flowid 1:1"
    say += f" action mirred egress redirect dev {target.name}"
    namespace.change(say, (tc.RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, _filter(link, target)))


def undivert(namespace: Namespace, link: Link) -> None:
    """Take the ingress queueing discipline of a link away, with its filters; gone already is fine."""
    namespace.netlink.carry(tc.FAMILY)
    say = f"tc qdisc delete dev {link.name} ingress"
    attempt(lambda: namespace.change(say, _ingress_deletion(link)), *GONE)


def _at(link: Link, handle: int, parent: int) -> dict[str, Any]:
    return {"index": link.index, "handle": handle, "parent": parent}


def _bucket_message(link: Link, bucket: Bucket) -> Message:
    parameters = {
        "rate___reserved": tc.TC_LINKLAYER_ETHERNET,  # so that no rate table is needed
        "rate": min(bucket.rate, MAX_U32),
        "limit": bucket.limit,
        "buffer": bucket.buffer,
    }
    options: list[tuple[str, Any]] = [("TCA_TBF_PARMS", parameters)]
    options += [("TCA_TBF_RATE64", bucket.rate)] * (bucket.rate > MAX_U32)
    attributes = [("TCA_KIND", "tbf"), ("TCA_OPTIONS", {"attrs": options})]
    body = {**_at(link, BUCKET_HANDLE, tc.TC_H_ROOT), "attrs": attributes}
    return tc.RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, body


def _bucket_deletion(link: Link) -> Message:
    return tc.RTM_DELQDISC, 0, {**_at(link, BUCKET_HANDLE, tc.TC_H_ROOT), "attrs": [("TCA_KIND", "tbf")]}


def _ingress_deletion(link: Link) -> Message:
    return tc.RTM_DELQDISC, 0, {**_at(link, tc.INGRESS_HANDLE, tc.TC_H_INGRESS), "attrs": [("TCA_KIND", "ingress")]}


def _filter(link: Link, target: Link) -> dict[str, Any]:
    redirection = {"action": tc.TC_ACT_STOLEN, "eaction": tc.TCA_EGRESS_REDIR, "ifindex": target.index}
    action = [("TCA_ACT_KIND", "mirred"), ("TCA_ACT_OPTIONS", {"attrs": [("TCA_MIRRED_PARMS", redirection)]})]
    everything = {"flags": tc.TC_U32_TERMINAL, "keys": [{"key_mask": 0, "key_val": 0, "key_off": 0}]}
    options = [
        ("TCA_U32_CLASSID", BUCKET_HANDLE | 1),
        ("TCA_U32_SEL", everything),
        ("TCA_U32_ACT", {"attrs": [("TCA_ACT_PRIO_1", {"attrs": action})]}),
    ]
    return {
        "index": link.index,
        "parent": tc.INGRESS_HANDLE,
        "info": tc.filter_info(1, tc.ETH_P_ALL),
        "attrs": [("TCA_KIND", "u32"), ("TCA_OPTIONS", {"attrs": options})],
    }


# --- what the kernel has


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
