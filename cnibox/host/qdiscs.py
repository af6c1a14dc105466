"""Queueing disciplines: what limits the rate of a link, and what diverts the packets that arrive on it to another link.

Ours are the reference's: a token bucket at the root (tbf, handle 1:), and at the ingress a u32 filter that matches all.
"""

from __future__ import annotations

import errno

from . import files
from .journal import HostError
from .namespace import attempt
from .netlink import tc
from .netlink.socket import NLM_F_CREATE, NLM_F_ECHO, NLM_F_EXCL, NLM_F_REPLACE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .journal import Undo
    from .links import Link
    from .namespace import Message, Namespace

BUCKET_HANDLE = 0x10000  # 1:
MAX_U32 = 0xFFFFFFFF
GONE = (errno.ENOENT, errno.EINVAL, errno.ENODEV)  # EINVAL: the handle at that place is another
NO_QDISC = (errno.ENOENT, errno.EINVAL, errno.ENODEV)

TICK = 64  # ns on every kernel since 2.6.31 (linux/pkt_sched.h)
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

    @property
    def words(self) -> str:
        """The same for tc(8): a rate in bytes per second is "bps" there, and the size is in bytes."""
        # Half a tick more: the kernel makes a time of the size again, and rounds down.
        burst = -(-self.rate * self.buffer * TICK // 1_000_000_000) + self.rate * TICK // 2_000_000_000
        return f"rate {self.rate}bps limit {self.limit} burst {burst}"


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
            return namespace.send(f"{say} {before.words}", _bucket_message(link, before))
        return attempt(lambda: namespace.send(*deletion), *GONE)

    namespace.change(f"{say} {bucket.words}", _bucket_message(link, bucket), undo)


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
    kind, is_there = _own_ingress(namespace, link, target)
    if is_there:
        return
    if kind:  # a killed ADD's, or one to a link that has gone
        _delete_ingress(namespace, link)
    deletion = f"tc qdisc delete dev {link.name} ingress", _ingress_deletion(link)
    adding, filtering = _diversion(link, target)
    namespace.change(*adding, lambda: attempt(lambda: namespace.send(*deletion), *GONE))
    namespace.change(*filtering)


def undivert(namespace: Namespace, link: Link) -> None:
    """Take the ingress queueing discipline of a link away, with its filters; gone already is fine."""
    namespace.netlink.carry(tc.FAMILY)
    _delete_ingress(namespace, link)


def stop_diverting(namespace: Namespace, link: Link, target: Link | None) -> None:
    """Take away what `divert` has made, if it is there; undone. HostError EEXIST as there.

    target: None when it has gone; what was diverted to it would be lost
    """
    if target is None:
        if ingress(namespace, link) == ("ingress", [0]):
            _delete_ingress(namespace, link)
        return
    kind, is_there = _own_ingress(namespace, link, target)
    again = _diversion(link, target) if is_there else ()

    def undo() -> None:
        for say, message in again:
            namespace.send(f"undo {say}", message)

    if kind:
        _delete_ingress(namespace, link, undo)


def _delete_ingress(namespace: Namespace, link: Link, undo: Undo | None = None) -> None:
    say = f"tc qdisc delete dev {link.name} ingress"
    attempt(lambda: namespace.change(say, _ingress_deletion(link), undo), *GONE)


def _own_ingress(namespace: Namespace, link: Link, target: Link) -> tuple[str, bool]:
    """The kind of a link's ingress queueing discipline, and whether it diverts all to the target."""
    kind, targets = ingress(namespace, link)
    if kind and (kind != "ingress" or not set(targets) <= {0, target.index}):
        text = f"diverting what arrives on {link.name} to {target.name}"
        hint = f"remove it: tc qdisc delete dev {link.name} {kind}"
        raise HostError(errno.EEXIST, text, f"it has a queueing discipline {kind} with other filters already", hint)
    return kind, targets == [target.index]


def _diversion(link: Link, target: Link) -> tuple[tuple[str, Message], tuple[str, Message]]:
    body = {**_at(link, tc.INGRESS_HANDLE, tc.TC_H_INGRESS), "attrs": [("TCA_KIND", "ingress")]}
    say = f"tc filter add dev {link.name} ingress prio 1 protocol all u32 match u32 0 0 flowid 1:1"
    say += f" action mirred egress redirect dev {target.name}"
    return (
        (f"tc qdisc add dev {link.name} ingress", (tc.RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, body)),
        (say, (tc.RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, _filter(link, target))),
    )


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
