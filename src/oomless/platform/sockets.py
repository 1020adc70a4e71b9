"""Who is at the other end of a process's standard input, and whether the process listens. Standard library only.

A stdio server lives as long as its client holds the other end: when nobody does, nobody can ever talk to it again.
Pipes are asked by ``poll`` on a reading end of our own, which also knows of writers whose descriptors are not ours to
read; Unix socket pairs by sock_diag(7), which an ordinary user may ask too. All else is unknown. Nothing is read from
either, and nothing raises: what is gone or not ours to look at is unknown.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import sys
from collections.abc import Collection, Iterator
from typing import Literal

assert sys.platform == "linux"

from oomless.platform import proc

End = Literal["held", "gone", "unknown"]
HELD: End = "held"
GONE: End = "gone"
UNKNOWN: End = "unknown"
#: linux/netlink.h, linux/sock_diag.h, linux/unix_diag.h.
_SOCK_DIAG, _BY_FAMILY, _REQUEST_DUMP, _DONE, _ERROR = 4, 20, 0x301, 3, 2
_SHOW_PEER, _ATTRIBUTE_PEER, _ATTRIBUTE_SHUTDOWN = 4, 2, 6
_HEADER, _MESSAGE, _ATTRIBUTE = struct.Struct("=IHHII"), struct.Struct("=BBBBIII"), struct.Struct("=HH")
_REQUEST = struct.Struct("=BBHIIIII")
_STREAMS = (socket.SOCK_STREAM, socket.SOCK_SEQPACKET)
_BOTH_WAYS = 3
#: A listener's state in /proc/net/tcp (include/net/tcp_states.h: TCP_LISTEN).
_LISTEN = b"0A"
_TIMEOUT = 1.0


def other_ends(pids: Collection[int]) -> dict[int, End]:
    """By pid, whether somebody holds the other end of its stdin: ``held``, ``gone`` or ``unknown``."""
    found: dict[int, End] = {}
    sockets: dict[int, int] = {}
    for pid in pids:
        kind, inode = _stdin(pid)
        found[pid] = _pipe(pid, inode) if kind == "pipe" else UNKNOWN
        if kind == "socket":
            sockets[pid] = inode
    if sockets:
        peers = dict(_unix_peers(frozenset(sockets.values())))
        found |= {pid: peers.get(inode, UNKNOWN) for pid, inode in sockets.items()}
    return found


def _stdin(pid: int) -> tuple[str, int]:
    return _inode(f"/proc/{pid}/fd/0")


def _inode(path: str) -> tuple[str, int]:
    """``pipe:[123]`` as kind and number; no such thing is ("", 0)."""
    try:
        kind, _, number = os.readlink(path).partition(":[")
        return (kind, int(number.removesuffix("]"))) if kind in ("pipe", "socket") else ("", 0)
    except (OSError, ValueError):
        return "", 0


def _pipe(pid: int, inode: int) -> End:
    """A reading end of an anonymous pipe reports POLLHUP exactly when there is no writer (fs/pipe.c: pipe_poll)."""
    try:
        fd = os.open(f"/proc/{pid}/fd/0", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return UNKNOWN
    try:
        if os.fstat(fd).st_ino != inode:
            return UNKNOWN
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return GONE if any(event & select.POLLHUP for _, event in poll.poll(0)) else HELD
    except OSError:
        return UNKNOWN
    finally:
        os.close(fd)


def _unix_peers(wanted: frozenset[int]) -> Iterator[tuple[int, End]]:
    """Of all Unix sockets of our network namespace, those that are wanted."""
    body = _REQUEST.pack(socket.AF_UNIX, 0, 0, 0xFFFFFFFF, 0, _SHOW_PEER, 0xFFFFFFFF, 0xFFFFFFFF)
    header = _HEADER.pack(_HEADER.size + len(body), _BY_FAMILY, _REQUEST_DUMP, 1, 0)
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _SOCK_DIAG) as link:
            link.settimeout(_TIMEOUT)
            link.send(header + body)
            while True:
                for kind, message in _messages(link.recv(1 << 18)):
                    if kind in (_DONE, _ERROR):
                        return
                    inode, state = _peer(message)
                    if inode in wanted:
                        yield inode, state
    except OSError:
        return


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, _, _, _ = _HEADER.unpack_from(data, at)
        if length < _HEADER.size:
            return
        yield kind, data[at + _HEADER.size : at + length]
        at += (length + 3) & ~3


def _peer(message: bytes) -> tuple[int, End]:
    """When the other end of a pair is closed, the kernel shuts this one down both ways (net/unix/af_unix.c,
    unix_release_sock) and its peer has no inode any more. A peer that has only shut down still has one."""
    if len(message) < _MESSAGE.size:
        return 0, UNKNOWN
    _, kind, _, _, inode, _, _ = _MESSAGE.unpack_from(message)
    attributes = dict(_attributes(message))
    peer = int.from_bytes(attributes.get(_ATTRIBUTE_PEER, b""), sys.byteorder)
    shutdown = int.from_bytes(attributes.get(_ATTRIBUTE_SHUTDOWN, b""), sys.byteorder)
    if peer:
        return inode, HELD
    return inode, GONE if kind in _STREAMS and shutdown == _BOTH_WAYS else UNKNOWN


def _attributes(message: bytes) -> Iterator[tuple[int, bytes]]:
    at = _MESSAGE.size
    while at + _ATTRIBUTE.size <= len(message):
        length, kind = _ATTRIBUTE.unpack_from(message, at)
        if length < _ATTRIBUTE.size:
            return
        yield kind, message[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3


def listeners(pids: Collection[int]) -> frozenset[int]:
    """Those that hold a listening TCP socket, in whatever network namespace they are. Unreadable counts as yes."""
    tables: dict[str, frozenset[int]] = {}
    return frozenset(pid for pid in pids if _listens(pid, tables))


def _listens(pid: int, tables: dict[str, frozenset[int]]) -> bool:
    try:
        names = os.listdir(f"/proc/{pid}/fd")
        space = os.readlink(f"/proc/{pid}/ns/net")
    except PermissionError:
        return True
    except OSError:
        return False  # gone
    held = {inode for kind, inode in (_inode(f"/proc/{pid}/fd/{name}") for name in names) if kind == "socket"}
    if held and space not in tables:
        tables[space] = frozenset(_listening(pid))
    return bool(held) and not held.isdisjoint(tables[space])


def _listening(pid: int) -> Iterator[int]:
    for family in ("tcp", "tcp6"):
        for line in (proc.read_file(f"/proc/{pid}/net/{family}") or b"").splitlines()[1:]:
            fields = line.split()
            if len(fields) > 9 and fields[3] == _LISTEN:
                yield int(fields[9])
