"""A netlink socket: many requests in one system call, dumps, nftables transactions, events.

A request is a tuple (message type, flags, body); the body is a message for the tables of a family, or bytes.
"""

from __future__ import annotations

import errno
import posix
import select
import sys
from _socket import MSG_DONTWAIT, MSG_PEEK, MSG_TRUNC, SOCK_CLOEXEC, SOCK_RAW, SOL_SOCKET, socket
from _struct import pack, unpack_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from .codec import Family, Message

    Request = tuple[int, int, Message | bytes]
    _Encoded = tuple[int, int, bytes]
    # message type, flags, sequence number, datagram, begin and end of the message's body in it
    _Received = tuple[int, int, int, bytes, int, int]

NLM_F_REQUEST, NLM_F_MULTI, NLM_F_ACK, NLM_F_ECHO, NLM_F_DUMP_INTR = 0x1, 0x2, 0x4, 0x8, 0x10
NLM_F_DUMP = 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE, NLM_F_APPEND = 0x100, 0x200, 0x400, 0x800
_NLM_F_CAPPED, _NLM_F_ACK_TLVS = 0x100, 0x200

_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLMSGERR_ATTR_MSG, _NLMSGERR_ATTR_OFFS = 1, 2

_AF_NETLINK = 16
_SOL_NETLINK = 270
_NETLINK_ADD_MEMBERSHIP, _NETLINK_CAP_ACK, _NETLINK_EXT_ACK, _NETLINK_GET_STRICT_CHK = 1, 10, 11, 12
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE, _SO_NETNS_COOKIE = 32, 33, 71

_NFNL_MSG_BATCH_BEGIN, _NFNL_MSG_BATCH_END = 0x10, 0x11

_HEADER = 16
_KERNEL = 0  # its port
# As much as the kernel puts into one datagram of a dump, if it sees that we take it.
_DUMP_BUFFER = 32768
# An answer takes about 1 KiB of the receive buffer (208 KiB by default) and is lost when that is full.
_BATCH = 100
_BATCH_BYTES = 65536
_DUMP_ATTEMPTS = 10
_OVERFLOWS = 100
_LOST = "the kernel's answer was lost"


class NetlinkError(OSError):
    """What the kernel answered to one message.

    errno and strerror, the latter with the kernel's own words; index: of the request in its call, -1 for a
    whole batch; attribute: the name of the attribute that the kernel found fault with, or "".
    is_unknown: the request was sent, and its answer did not come: the kernel may have carried it out.
    """

    is_unknown = False

    def __init__(self, number: int, text: str = "", index: int = 0, attribute: str = "") -> None:
        words = posix.strerror(number)
        if text:
            words += f": {text}"
        if attribute:
            words += f" ({attribute})"
        super().__init__(number, words)
        self.index = index
        self.attribute = attribute


class Netlink:
    """A socket in the network namespace it was opened in, wherever the process goes later.

    families: rtnl.FAMILY, tc.FAMILY, nft.FAMILY: those whose messages it shall carry, all of one protocol.
    """

    def __init__(self, *families: Family) -> None:
        self._family = {number: family for family in families for number in family.messages}
        self._sequence = 0
        self._peek = bytearray(1)
        self._socket = socket(_AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, families[0].protocol)
        for option in (_NETLINK_EXT_ACK, _NETLINK_CAP_ACK, _NETLINK_GET_STRICT_CHK):
            try:
                self._socket.setsockopt(_SOL_NETLINK, option, 1)
            except OSError:  # before 4.12, 4.3, 4.20: less is told, dumps are not filtered
                pass

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *reason: object) -> None:
        self.close()

    def carry(self, family: Family) -> None:
        """Carry another family's messages, too; it must be of the same protocol."""
        self._family.update(dict.fromkeys(family.messages, family))

    def cookie(self) -> int:
        """The number of the socket's namespace, never given again in this boot; OSError before Linux 5.14."""
        return int.from_bytes(self._socket.getsockopt(SOL_SOCKET, _SO_NETNS_COOKIE, 8), sys.byteorder)

    def close(self) -> None:
        self._socket.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def request(self, *requests: Request, wanted: Collection[str] | None = None) -> list[list[Message] | NetlinkError]:
        """Send requests in one go; the kernel carries out all of them, in order, also after one that failed.

        For each request its replies ([] without any) or the error. `wanted` as in Family.decode; no dumps.
        """
        results: list[list[Message] | NetlinkError] = []
        encoded = [self._encode(kind, flags | NLM_F_ACK, body) for kind, flags, body in requests]
        for batch in _batches(encoded):
            try:
                results += self._collect(batch, self._send(batch), len(results), wanted)
            except NetlinkError as error:  # of the socket, not of a request
                results += [error] * len(batch)
        return results

    def run(self, *requests: Request, wanted: Collection[str] | None = None) -> list[list[Message]]:
        """As request(), but raises the first error (after all of them were carried out)."""
        results = []
        for result in self.request(*requests, wanted=wanted):
            if isinstance(result, NetlinkError):
                raise result
            results.append(result)
        return results

    def ask(self, request: Request, wanted: Collection[str] | None = None) -> Message:
        """The one object that answers a request; NetlinkError ENOBUFS when only the ACK came."""
        answers = self.run(request, wanted=wanted)[0]
        if not answers:
            raise _unknown(errno.ENOBUFS, _LOST)
        return answers[0]

    def dump(
        self,
        message_type: int,
        body: Message | bytes,
        wanted: Collection[str] | None = None,
        flags: int = 0,
        holding: bytes | Callable[[bytes, int, int], bool] = b"",
    ) -> list[Message]:
        """All objects that match; `wanted` as in Family.decode. Begins again when they changed meanwhile.

        `holding`: only those in whose message these bytes are, or which a function of (datagram, start, stop) accepts;
        of thousands the others need not be decoded.
        Raises NetlinkError, with EINTR when they changed in each of the attempts.
        """
        encoded = self._encode(message_type, flags | NLM_F_DUMP, body)
        accepts = _has(holding) if isinstance(holding, bytes) else holding
        for _ in range(_DUMP_ATTEMPTS):
            try:
                return self._dump_once(encoded, wanted, accepts)
            except NetlinkError as error:
                if error.errno not in (errno.EINTR, errno.ENOBUFS):
                    raise
                last = error
                self._drain()
        raise last

    def transaction(self, *requests: Request) -> list[NetlinkError]:
        """Carry out nftables requests all together or, if one fails, none: then the errors.

        Their index is that of the request, or -1 where the kernel refused the whole (EPERM, a failed commit).
        With ENOBUFS answers were lost: whether it was carried out has to be read.
        """
        encoded = [self._encode(kind, flags | NLM_F_ACK, body) for kind, flags, body in requests]
        # struct nfgenmsg with the number of the subsystem, which is the upper half of its message types.
        mark = pack(">BBH", 0, 0, requests[0][0] >> 8)
        begin = (_NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, mark)
        end = (_NFNL_MSG_BATCH_END, NLM_F_REQUEST, mark)
        self._make_room(encoded)
        try:
            first = self._send([begin, *encoded, end])
            results = self._collect(encoded, first + 1, 0, None, whole=first)
        except NetlinkError as error:
            return [error]
        return [result for result in results if isinstance(result, NetlinkError)]

    def commit(self, *requests: Request) -> None:
        """As transaction(), but raises the first error."""
        for error in self.transaction(*requests):
            raise error

    def subscribe(self, *groups: int) -> None:
        """Receive the events of groups such as rtnl.RTNLGRP_LINK. Use a socket for nothing else then."""
        # A bound socket has an address of its own; unbound it has the kernel's, and gets no events.
        self._socket.bind((0, 0))
        for group in groups:
            self._socket.setsockopt(_SOL_NETLINK, _NETLINK_ADD_MEMBERSHIP, group)

    def events(self, timeout: float, wanted: Collection[str] | None = None) -> list[tuple[int, Message]] | None:
        """Wait at most `timeout` seconds for events: (message type, message) each, [] when none came.

        None: events were lost, the caller has to read the state anew.
        """
        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLIN)
        if not poll.poll(max(0, timeout) * 1000):
            return []
        try:
            return [
                (kind, self._decode(kind, data, start, stop, wanted))
                for kind, _, _, data, start, stop in self._receive()
                if kind in self._family
            ]
        except NetlinkError as error:
            if error.errno == errno.ENOBUFS:
                return None
            raise

    def _encode(self, message_type: int, flags: int, body: Message | bytes) -> _Encoded:
        if isinstance(body, bytes):
            return message_type, flags | NLM_F_REQUEST, body
        family = self._family[message_type]
        return message_type, flags | NLM_F_REQUEST, family.encode(family.messages[message_type], body)

    def _send(self, messages: list[_Encoded]) -> int:
        """Send messages in one datagram; the sequence number of the first, those of the others follow."""
        first = self._sequence + 1
        parts = []
        for message_type, flags, body in messages:
            self._sequence += 1
            parts.append(pack("IHHII", _HEADER + len(body), message_type, flags, self._sequence, 0))
            parts.append(body)
            if len(body) & 3:
                parts.append(bytes(-len(body) & 3))
        try:
            self._socket.send(b"".join(parts))
        except OSError as error:
            raise NetlinkError(error.errno or errno.EIO, "sending to the kernel", -1) from None
        return first

    def _receive(self, buffer: int = 0) -> Iterator[_Received]:
        """The messages of one datagram. Raises BlockingIOError when there is none.

        Nothing has to be waited for: the kernel has queued its answers, or the next part of a dump, before
        send() or the last recv() returned.
        """
        try:
            # MSG_TRUNC: the length of the datagram, whatever fits.
            size, sender = self._socket.recvfrom_into(self._peek, 1, MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT)
            data = self._socket.recv(max(size, buffer), MSG_DONTWAIT)
        except BlockingIOError:
            raise
        except OSError as error:
            raise _unknown(error.errno or errno.EIO, "receiving from the kernel") from None
        # Whoever has CAP_NET_ADMIN in a container may write to our socket in its namespace.
        if sender[0] != _KERNEL:
            return
        start = 0
        while start + _HEADER <= len(data):
            length, message_type, flags, sequence = unpack_from("IHHI", data, start)
            if length < _HEADER or start + length > len(data):
                raise _unknown(errno.EBADMSG, "receiving from the kernel")
            yield message_type, flags, sequence, data, start + _HEADER, start + length
            start += (length + 3) & ~3

    def _collect(
        self,
        batch: list[_Encoded],
        first: int,
        offset: int,
        wanted: Collection[str] | None,
        whole: int = 0,
    ) -> list[list[Message] | NetlinkError]:
        """The results of a batch with sequence numbers from `first`. Raises an error that answers `whole`."""
        replies: list[list[Message]] = [[] for _ in batch]
        results: list[list[Message] | NetlinkError | None] = [None] * len(batch)
        unanswered, overflows = len(batch), 0
        while unanswered:
            try:
                for message_type, flags, sequence, data, start, stop in self._receive():
                    position = sequence - first
                    if sequence == whole and message_type == _NLMSG_ERROR:
                        raise self._error(flags, data, start, stop, -1, None)
                    if not 0 <= position < len(batch):
                        continue
                    if message_type != _NLMSG_ERROR:
                        replies[position].append(self._decode(message_type, data, start, stop, wanted))
                        continue
                    unanswered -= 1
                    if unpack_from("i", data, start)[0] == 0:
                        results[position] = replies[position]
                    else:
                        results[position] = self._error(flags, data, start, stop, offset + position, batch[position])
            except BlockingIOError:
                break
            except NetlinkError as error:
                overflows += 1  # the kernel reports each overflow once; without memory the answer stays in the queue
                if error.errno not in (errno.ENOBUFS, errno.ENOMEM) or overflows > _OVERFLOWS or not error.is_unknown:
                    raise
        return [
            _unknown(errno.ENOBUFS, _LOST, offset + position) if result is None else result
            for position, result in enumerate(results)
        ]

    def _dump_once(
        self, encoded: _Encoded, wanted: Collection[str] | None, accepts: Callable[[bytes, int, int], bool]
    ) -> list[Message]:
        sequence = self._send([encoded])
        objects: list[Message] = []
        changed = 0
        while True:
            try:
                for message_type, flags, number, data, start, stop in self._receive(_DUMP_BUFFER):
                    if number != sequence:
                        continue
                    changed |= flags & NLM_F_DUMP_INTR
                    if message_type in (_NLMSG_ERROR, _NLMSG_DONE):
                        if stop - start >= 4 and unpack_from("i", data, start)[0] < 0:
                            raise self._error(flags, data, start, stop, 0, encoded, message_type)
                        if changed:
                            raise NetlinkError(errno.EINTR, "the objects kept changing while they were read")
                        return objects
                    if accepts(data, start, stop):
                        objects.append(self._decode(message_type, data, start, stop, wanted))
            except BlockingIOError:
                raise NetlinkError(errno.ENOBUFS, _LOST) from None

    def _drain(self) -> None:
        """Receive what is left of a dump; as long as it lasts the kernel begins no other."""
        overflows = 0
        while overflows < _OVERFLOWS:
            try:
                self._socket.recv_into(self._peek, 1, MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                overflows += 1

    def _decode(self, message_type: int, data: bytes, start: int, stop: int, wanted: Collection[str] | None) -> Message:
        family = self._family[message_type]
        return family.decode(family.messages[message_type], data, start, stop, wanted)

    def _error(
        self,
        flags: int,
        data: bytes,
        start: int,
        stop: int,
        index: int,
        request: _Encoded | None,
        message_type: int = _NLMSG_ERROR,
    ) -> NetlinkError:
        """From struct nlmsgerr: number, header of the request (and, unless capped, its body), attributes."""
        number = -unpack_from("i", data, start)[0]
        text = attribute = ""
        start += 4
        if message_type == _NLMSG_ERROR:
            start += _HEADER if flags & _NLM_F_CAPPED else (unpack_from("I", data, start)[0] + 3) & ~3
        while flags & _NLM_F_ACK_TLVS and start + 4 <= stop:
            length, kind = unpack_from("HH", data, start)
            if length < 4:
                break
            if kind == _NLMSGERR_ATTR_MSG:
                text = data[start + 4 : start + length].rstrip(b"\0").decode("utf-8", "replace")
            elif kind == _NLMSGERR_ATTR_OFFS and request and request[0] in self._family:
                offset = unpack_from("I", data, start + 4)[0] - _HEADER
                family = self._family[request[0]]
                attribute = family.name_at(family.messages[request[0]], request[2], offset)
            start += (length + 3) & ~3
        return NetlinkError(number, text, index, attribute)

    def _make_room(self, messages: list[_Encoded]) -> None:
        """For a transaction, which cannot be split."""
        size = sum([len(body) + _HEADER for _, _, body in messages])
        try:
            if size > _BATCH_BYTES:
                self._socket.setsockopt(SOL_SOCKET, _SO_SNDBUFFORCE, 2 * size)
            if len(messages) > _BATCH:
                self._socket.setsockopt(SOL_SOCKET, _SO_RCVBUFFORCE, 2048 * len(messages))
        except OSError:  # not permitted: then the transaction itself says so
            pass


def _unknown(number: int, text: str, index: int = 0) -> NetlinkError:
    error = NetlinkError(number, text, index)
    error.is_unknown = True
    return error


def _batches(messages: list[_Encoded]) -> Iterator[list[_Encoded]]:
    """The messages in parts whose sending and whose answers fit the socket's buffers."""
    batch: list[_Encoded] = []
    size = 0
    for message in messages:
        if batch and (len(batch) == _BATCH or size + len(message[2]) > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += len(message[2]) + _HEADER
    if batch:
        yield batch


def _has(pattern: bytes) -> Callable[[bytes, int, int], bool]:
    return lambda data, start, stop: data.find(pattern, start, stop) >= 0
