"""Forks, execs and exits as the kernel tells them: the process connector of netlink (``linux/cn_proc.h``).

Since Linux 6.6 an ordinary user may listen; before, CAP_NET_ADMIN was needed. Outside the first user or pid namespace
the kernel does not answer at all (``cn_proc_mcast_ctl``), hence in most containers. Then ``ProcEvents.open`` is None,
and sampling the table has to do. Threads are passed over.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from typing import Literal, NamedTuple

assert sys.platform == "linux"

_CONNECTOR, _GROUP = 11, 1
_DONE = 3
_LISTEN, _IGNORE = 1, 2
_NONE, _FORK, _EXEC, _EXIT = 0, 1, 2, 0x80000000
#: nlmsghdr, cn_msg, and the head of proc_event: what, cpu, time stamp.
_HEADER, _MESSAGE, _EVENT = struct.Struct("=IHHII"), struct.Struct("=IIIIHH"), struct.Struct("=IIQ")
_BODY = _HEADER.size + _MESSAGE.size
_DATA = _BODY + _EVENT.size
_FOUR, _TWO, _ONE = struct.Struct("=IIII"), struct.Struct("=II"), struct.Struct("=I")
_BUFFER = 1 << 20


class Event(NamedTuple):
    """``parent`` is 0 unless it is a fork."""

    kind: Literal["fork", "exec", "exit"]
    pid: int
    parent: int = 0


class ProcEvents:
    """An open subscription; close it."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link

    @classmethod
    def open(cls) -> ProcEvents | None:
        """None where this user gets no events."""
        try:
            link = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, _CONNECTOR)
        except OSError:
            return None
        try:
            link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            link.bind((0, _GROUP))
            link.send(request(_LISTEN))
            if acknowledged(link):
                return cls(link)
        except OSError:
            pass  # not for this user
        link.close()
        return None

    def fileno(self) -> int:
        return self._link.fileno()

    def read(self) -> tuple[list[Event], bool]:
        """All that have come, and whether some were lost before: then only a look at the table tells."""
        found: list[Event] = []
        lost = False
        while True:
            try:
                raw, sender = self._link.recvfrom(4096)
            except BlockingIOError:
                return found, lost
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    return found, True
                lost = True
                continue
            if sender[0] == 0 and (event := parse(raw)) is not None:
                found.append(event)

    def close(self) -> None:
        try:
            self._link.send(request(_IGNORE))
        except OSError:
            pass  # closing has the same effect from Linux 6.6 on; before, events go on unread
        self._link.close()


def request(operation: int) -> bytes:
    body = _MESSAGE.pack(1, 1, 0, 0, _ONE.size, 0) + _ONE.pack(operation)
    return _HEADER.pack(_HEADER.size + len(body), _DONE, 0, 0, os.getpid()) + body


def acknowledged(link: socket.socket) -> bool:
    """The kernel answers within the send, if at all; events of others may come before it."""
    while True:
        try:
            raw, sender = link.recvfrom(4096)
        except BlockingIOError:
            return False
        if sender[0] == 0 and len(raw) >= _DATA + _ONE.size and _EVENT.unpack_from(raw, _BODY)[0] == _NONE:
            return bool(_ONE.unpack_from(raw, _DATA)[0] == 0)


def parse(raw: bytes) -> Event | None:
    """None for what is of no interest: threads, other kinds, and what is too short."""
    try:
        what = _EVENT.unpack_from(raw, _BODY)[0]
        if what == _FORK:
            _, parent, pid, group = _FOUR.unpack_from(raw, _DATA)
            return Event("fork", pid, parent) if pid == group else None
        if what in (_EXEC, _EXIT):
            pid, group = _TWO.unpack_from(raw, _DATA)
            return Event("exec" if what == _EXEC else "exit", group) if what == _EXEC or pid == group else None
    except struct.error:
        pass
    return None
