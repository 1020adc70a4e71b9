"""Who is at the other end of a process's standard input, and whether the process listens. Standard library only.

A stdio server lives as long as its client holds the other end: when no process does, none can ever talk to it again.
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
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from typing import Literal, NamedTuple

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
#: Of /proc/net/unix (include/linux/net.h: __SO_ACCEPTCON).
_ACCEPTS = 1 << 16
_TIMEOUT = 1.0
_NULL = os.makedev(1, 3)


def other_ends(pids: Collection[int]) -> dict[int, End]:
    """By pid, whether a process holds the other end of its stdin: ``held``, ``gone`` or ``unknown``."""
    pipes: dict[int, _Pipes] = {}
    sockets: dict[int, frozenset[int]] = {}
    for pid in pids:
        kind, inode = _stdin(pid)
        if kind == "" and _reads_nothing(pid):
            pipes[pid], sockets[pid] = _moved(pid)
        else:
            pipes[pid] = _Pipes(read={0: inode} if kind == "pipe" else {})
            sockets[pid] = frozenset({inode} if kind == "socket" else ())
    wanted = frozenset[int]().union(*sockets.values()) if sockets else frozenset()
    peers = dict(_unix_peers(wanted)) if wanted else {}
    ends = {}
    for pid, own in sockets.items():
        of_sockets = [peers.get(inode, (UNKNOWN, 0)) for inode in own]
        known = [end for end, peer in of_sockets if peer not in own]
        ends[pid] = _combine([*known, *_ends_of_pipes(pid, pipes[pid], alone=GONE in known)])
    return ends


class _Pipes(NamedTuple):
    """By descriptor. ``below``: those of ``read`` that a descendant writes to; ``write``: those that it writes to."""

    read: dict[int, int]
    below: frozenset[int] = frozenset()
    write: Mapping[int, int] = {}


def _ends_of_pipes(pid: int, pipes: _Pipes, *, alone: bool) -> Iterator[End]:
    """``alone``: it has lost a client at a socket. A pipe that a descendant writes to is its own affair: no
    descendant can have the other end of its stdin, which it never had. But a server with children may never have had
    such a stdin, so this counts only where its stdout was moved too, and has lost its reader."""
    if pipes.below and not alone:
        alone = any(_poll(pid, fd, inode, os.O_WRONLY, select.POLLERR) == GONE for fd, inode in pipes.write.items())
    return (_pipe(pid, fd, inode) for fd, inode in pipes.read.items() if not (alone and fd in pipes.below))


def _combine(ends: list[End]) -> End:
    """``gone`` only if all of them are."""
    if not ends or UNKNOWN in ends:
        return UNKNOWN
    return HELD if HELD in ends else GONE


def _reads_nothing(pid: int) -> bool:
    try:
        return os.stat(f"/proc/{pid}/fd/0").st_rdev == _NULL
    except OSError:
        return False


def _moved(pid: int) -> tuple[_Pipes, frozenset[int]]:
    """What may be its stdin if that is /dev/null, for the Python SDK of MCP (2.x, mcp/server/stdio.py) moves the real
    one out of the way of what the server starts: pipes that it only reads, and sockets. A pipe of which it has both
    ends is its own affair."""
    descriptors: dict[int, tuple[str, int]] = {}
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            descriptors[int(name)] = _inode(f"/proc/{pid}/fd/{name}")
    except OSError:
        return _Pipes({}), frozenset()
    inodes = Counter(inode for kind, inode in descriptors.values() if kind == "pipe")
    pipes = {fd: inode for fd, (kind, inode) in descriptors.items() if kind == "pipe" and inodes[inode] == 1}
    modes = {fd: _mode(pid, fd) for fd in pipes}
    reading = {fd: inode for fd, inode in pipes.items() if modes[fd] == os.O_RDONLY}
    below = set(_written_below(pid, frozenset(reading.values()))) if reading else set()
    read = _Pipes(
        read=reading,
        below=frozenset(fd for fd, inode in reading.items() if inode in below),
        write={fd: inode for fd, inode in pipes.items() if modes[fd] == os.O_WRONLY and fd > 2},
    )
    return read, frozenset(inode for kind, inode in descriptors.values() if kind == "socket")


def _written_below(pid: int, pipes: frozenset[int]) -> Iterator[int]:
    """Those of the pipes that a descendant can write to."""
    queue = proc.children_of(pid)
    while queue:
        child = queue.pop()
        queue += proc.children_of(child)
        with suppress(OSError):
            for name in os.listdir(f"/proc/{child}/fd"):
                kind, inode = _inode(f"/proc/{child}/fd/{name}")
                if kind == "pipe" and inode in pipes and _mode(child, int(name)) != os.O_RDONLY:
                    yield inode


def _mode(pid: int, fd: int) -> int:
    """How it was opened (proc(5): the flags of open(2), in octal); -1 if that cannot be read."""
    for line in (proc.read_file(f"/proc/{pid}/fdinfo/{fd}") or b"").splitlines():
        if line.startswith(b"flags:"):
            return int(line.split()[1], 8) & os.O_ACCMODE
    return -1


def _stdin(pid: int) -> tuple[str, int]:
    return _inode(f"/proc/{pid}/fd/0")


def _inode(path: str) -> tuple[str, int]:
    """``pipe:[123]`` as kind and number; no such thing is ("", 0)."""
    try:
        kind, _, number = os.readlink(path).partition(":[")
        return (kind, int(number.removesuffix("]"))) if kind in ("pipe", "socket") else ("", 0)
    except (OSError, ValueError):
        return "", 0


def _pipe(pid: int, at: int, inode: int) -> End:
    """A reading end of an anonymous pipe reports POLLHUP exactly when there is no writer (fs/pipe.c: pipe_poll)."""
    return _poll(pid, at, inode, os.O_RDONLY, select.POLLHUP)


def _poll(pid: int, at: int, inode: int, mode: int, alone: int) -> End:
    """``alone``: the event that says it. A writing end reports POLLERR exactly when there is no reader."""
    try:
        fd = os.open(f"/proc/{pid}/fd/{at}", mode | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return UNKNOWN
    try:
        if os.fstat(fd).st_ino != inode:
            return UNKNOWN
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        return GONE if any(event & alone for _, event in poll.poll(0)) else HELD
    except OSError:
        return UNKNOWN
    finally:
        os.close(fd)


def _unix_peers(wanted: frozenset[int]) -> Iterator[tuple[int, tuple[End, int]]]:
    """Of all Unix sockets of our network namespace, those that are wanted, each with its peer or 0."""
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
                    inode, state, peer = _peer(message)
                    if inode in wanted:
                        yield inode, (state, peer)
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


def _peer(message: bytes) -> tuple[int, End, int]:
    """When the other end of a pair is closed, the kernel shuts this one down both ways (net/unix/af_unix.c,
    unix_release_sock) and its peer has no inode any more. A peer that has only shut down still has one."""
    if len(message) < _MESSAGE.size:
        return 0, UNKNOWN, 0
    _, kind, _, _, inode, _, _ = _MESSAGE.unpack_from(message)
    attributes = dict(_attributes(message))
    peer = int.from_bytes(attributes.get(_ATTRIBUTE_PEER, b""), sys.byteorder)
    shutdown = int.from_bytes(attributes.get(_ATTRIBUTE_SHUTDOWN, b""), sys.byteorder)
    if peer:
        return inode, HELD, peer
    return inode, GONE if kind in _STREAMS and shutdown == _BOTH_WAYS else UNKNOWN, 0


def _attributes(message: bytes) -> Iterator[tuple[int, bytes]]:
    at = _MESSAGE.size
    while at + _ATTRIBUTE.size <= len(message):
        length, kind = _ATTRIBUTE.unpack_from(message, at)
        if length < _ATTRIBUTE.size:
            return
        yield kind, message[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3


def listeners(pids: Collection[int]) -> frozenset[int]:
    """Those that hold a listening TCP socket, in whatever network namespace they are. Unreadable counts as yes, but
    not if it is ending: without its memory it belongs to root in /proc (fs/proc/base.c, task_dump_owner)."""
    tables: dict[str, frozenset[int]] = {}
    return frozenset(pid for pid in pids if _listens(pid, tables, _listening))


def servers(pids: Collection[int]) -> frozenset[int]:
    """The same of Unix sockets."""
    tables: dict[str, frozenset[int]] = {}
    return frozenset(pid for pid in pids if _listens(pid, tables, _accepting))


def _listens(pid: int, tables: dict[str, frozenset[int]], listening: Callable[[int], Iterator[int]]) -> bool:
    try:
        names = os.listdir(f"/proc/{pid}/fd")
        space = os.readlink(f"/proc/{pid}/ns/net")
    except PermissionError:
        return not (proc.read_file(f"/proc/{pid}/statm") or b"0 ").startswith(b"0 ")
    except OSError:
        return False  # gone
    held = {inode for kind, inode in (_inode(f"/proc/{pid}/fd/{name}") for name in names) if kind == "socket"}
    if held and space not in tables:
        tables[space] = frozenset(listening(pid))
    return bool(held) and not held.isdisjoint(tables[space])


def _listening(pid: int) -> Iterator[int]:
    for family in ("tcp", "tcp6"):
        for line in (proc.read_file(f"/proc/{pid}/net/{family}") or b"").splitlines()[1:]:
            fields = line.split()
            if len(fields) > 9 and fields[3] == _LISTEN:
                yield int(fields[9])


def _accepting(pid: int) -> Iterator[int]:
    """proc_pid_net(5): flags, and the inode as seventh field; __SO_ACCEPTCON is set of those that listen."""
    for line in (proc.read_file(f"/proc/{pid}/net/unix") or b"").splitlines()[1:]:
        fields = line.split()
        if len(fields) > 6 and int(fields[3], 16) & _ACCEPTS:
            yield int(fields[6])


def peer_of(connection: socket.socket) -> tuple[int, int]:
    """pid and uid of the process that connected to a Unix socket (SO_PEERCRED, unix(7))."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    pid, uid = (int.from_bytes(raw[at : at + 4], sys.byteorder) for at in (0, 4))
    return pid, uid
